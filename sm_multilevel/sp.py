"""StatsPAI's spelling of the models: ``from sm_multilevel import sp``."""

from __future__ import annotations

import keyword

from sm_multilevel.covariance import STRUCTURES
from sm_multilevel.formula.frame import as_frame, suggest
from sm_multilevel.models import MixedLM

__all__ = ["mixed"]

# Names that mean something else in a formula.
_RESERVED = {"TRUE", "FALSE", "NULL"}


def mixed(
    data,
    y,
    x=None,
    group=None,
    x_random=None,
    cov_type="unstructured",
    method="reml",
    maxiter=100,
    alpha=0.05,
    *,
    x_fixed=None,
    re_formula=None,
):
    """Fit a linear mixed model as StatsPAI's ``sp.mixed`` does: a thin alias of `MixedLM`.

    Parameters
    ----------
    data : DataFrame
    y : str
        Column of the response.
    x, x_fixed : list of str, optional
        Columns of the fixed part, numeric or categorical; an intercept is added.
    group : str or list of str
        Grouping column; a list is nested levels, outermost first.
    x_random : list of str, optional
        Columns whose effects vary by (the innermost) group, besides the intercept.
    cov_type : {"unstructured", "diagonal", "identity", "exchangeable"}
        Covariance of the random effects.
    method : {"reml", "ml"}
    maxiter : int
        Most iterations of one attempt.
    alpha : float
        One minus the default level of the result's intervals.
    re_formula : str, optional
        Random part as a formula, ``"1 + ses"``, instead of `x_random`.

    Returns
    -------
    MixedLMResults

    Raises
    ------
    ValueError
        If a column or an option is not known.

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import mathachieve
    >>> df = mathachieve.load_pandas().data
    >>> result = sp.mixed(df, y="mathach", x=["ses", "sex"], group="school", re_formula="1 + ses")
    >>> result.params.round(2).to_dict()
    {'Intercept': 13.28, 'sex[T.Female]': -1.18, 'ses': 2.36}
    """
    columns = as_frame(data).columns
    for name, value, known in (("cov_type", cov_type, STRUCTURES), ("method", method, ("reml", "ml"))):
        if not isinstance(value, str) or value.lower() not in known:
            raise ValueError(f"{name}={value!r} is not known. Choose one of {', '.join(map(repr, known))}.")
    fixed = _columns("x", _one_of("x", x, "x_fixed", x_fixed), columns)
    if group is None:
        raise ValueError("group= is needed: the name of the grouping column, or a list of them.")
    groups = _columns("group", group, columns)
    slopes = None if x_random is None else _columns("x_random", x_random, columns)
    random = _one_of("re_formula", re_formula, "x_random", slopes and " + ".join(["1", *map(_term, slopes)]))
    model = MixedLM.from_formula(
        f"{_term(_columns('y', y, columns)[0])} ~ {' + '.join(['1', *map(_term, fixed)])}",
        data,
        groups=groups[0] if len(groups) == 1 else groups,
        re_formula=random,
        covariance=cov_type.lower(),
        eval_env=1,
    )
    return model.fit(reml=method.lower() == "reml", maxiter=maxiter, alpha=alpha)


def _one_of(first, value, second, other):
    if value is not None and other is not None:
        raise ValueError(f"{first}= and {second}= are two spellings of one option. Give one of them.")
    return other if value is None else value


def _columns(option, names, columns) -> list[str]:
    """A list of column names, each of which exists."""
    if names is None:
        return []
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{option}= must hold names of columns (text), not {name!r}.")
        if name not in columns:
            raise ValueError(f"{option}= names {name!r}, which is no column of the data.{suggest(name, columns)}")
    return names


def _term(name: str) -> str:
    plain = name.isidentifier() and not keyword.iskeyword(name) and name not in _RESERVED
    return name if plain else f"Q({name!r})"
