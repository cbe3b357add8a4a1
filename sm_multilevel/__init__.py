"""Multilevel (mixed-effects) models for statsmodels.

>>> import sm_multilevel.formula.api as smf
>>> import sm_multilevel.api as smm
"""

from __future__ import annotations

__version__ = "0.1.0.dev0"
__all__ = ["register"]


def register(override: bool = False) -> list[str]:
    """Add the formula functions to ``statsmodels.formula.api``.

    Parameters
    ----------
    override : bool
        Replace functions that are there already under the same name, as ``mixedlm``;
        otherwise these stay as they are.

    Returns
    -------
    list of str
        Names that are this package's there now and were not before.

    Examples
    --------
    >>> import sm_multilevel
    >>> import statsmodels.formula.api as smf
    >>> _ = sm_multilevel.register()
    >>> from sm_multilevel.datasets import cbpp
    >>> df = cbpp.load_pandas().data
    >>> model = smf.melogit("incidence ~ period", df, groups="herd", n_trials="size")
    >>> round(model.fit().llf, 4)
    -92.0263
    """
    import statsmodels.formula.api as host

    from sm_multilevel.formula import api

    added = []
    for name in api.__all__:
        ours, theirs = getattr(api, name), getattr(host, name, None)
        if theirs == ours or (theirs is not None and not override):
            continue
        setattr(host, name, ours)
        added.append(name)
    return added
