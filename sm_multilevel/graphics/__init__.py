"""Plots of a fit: ``ax=None`` in, Figure out, as in statsmodels.graphics.

A plot is a function with its entry in `KINDS`. Colours are the first two of the user's colour cycle,
sizes and fonts the user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from sm_multilevel.graphics.caterpillar import caterpillar
from sm_multilevel.graphics.quantiles import qq
from sm_multilevel.graphics.rows import fitted, residuals
from sm_multilevel.wording import suggest

__all__ = ["KINDS", "caterpillar", "fitted", "plot", "qq", "residuals"]

KINDS: dict[str, Callable[..., Figure]] = {
    "caterpillar": caterpillar,
    "qq": qq,
    "residuals": residuals,
    "fitted": fitted,
}


def plot(result: Any, kind: str = "caterpillar", **kwargs: Any) -> Figure:
    """Plot of a fit by its name.

    Parameters
    ----------
    result : MixedLMResults
    kind : {"caterpillar", "qq", "residuals", "fitted"}
        A key of `KINDS`.
    **kwargs
        Options of the function of that name in this module.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If `kind` is unknown.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.graphics import plot
    >>> len(plot(res, kind="caterpillar").axes)
    2
    """
    if kind not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise ValueError(f"kind={kind!r} is not a plot.{suggest(kind, KINDS)} There are {known}.")
    return KINDS[kind](result, **kwargs)
