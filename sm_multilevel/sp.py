"""StatsPAI's spelling of the models: ``from sm_multilevel import sp``. Thin aliases of `formula.api`."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeAlias

from patsy.eval import EvalEnvironment

from sm_multilevel.checks import check_flag
from sm_multilevel.covariance import STRUCTURES
from sm_multilevel.design.frame import as_frame
from sm_multilevel.host import Frame
from sm_multilevel.models.generalized import MENegBin, MEOLogit, MixedGLM
from sm_multilevel.models.linear import MixedLM
from sm_multilevel.postestimation.comparison import compare
from sm_multilevel.postestimation.comparison.chibar import ChiBarSquare
from sm_multilevel.statsmodels_results.generalized import MixedGLMResults
from sm_multilevel.statsmodels_results.linear import MixedLMResults
from sm_multilevel.wording import suggest

__all__ = ["ICCResult", "icc", "lrtest", "megamma", "meglm", "melogit", "menbreg", "meologit", "mepoisson", "mixed"]

# One column or several.
Names: TypeAlias = "str | Sequence[str] | None"
# Names that mean something else in a formula.
_RESERVED = {"TRUE", "FALSE", "NULL"}


def mixed(
    data: Frame,
    y: str,
    x: Names = None,
    group: Names = None,
    x_random: Names = None,
    cov_type: str = "unstructured",
    method: str = "reml",
    maxiter: int = 100,
    tol: float | None = None,
    alpha: float = 0.05,
    *,
    x_fixed: Names = None,
    re_formula: str | None = None,
) -> MixedLMResults:
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
    tol : float, optional
        Taken, and without effect: a fit ends where no search improves it.
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
    _unused(tol)
    _choice("method", method, ("reml", "ml"))
    model = _model(MixedLM, data, y, x, x_fixed, group, x_random, re_formula, cov_type)
    return model.fit(reml=method.lower() == "reml", maxiter=maxiter, alpha=alpha)


def meglm(
    data: Frame,
    y: str,
    x: Names = None,
    group: Names = None,
    family: Any = "gaussian",
    x_random: Names = None,
    cov_type: str = "unstructured",
    trials: str | None = None,
    offset: str | None = None,
    nAGQ: int | str = 1,
    maxiter: int = 100,
    tol: float | None = None,
    alpha: float = 0.05,
    *,
    link: Any = None,
    exposure: str | None = None,
    curvature: str = "observed",
    x_fixed: Names = None,
    re_formula: str | None = None,
) -> MixedGLMResults:
    """Fit a generalised linear mixed model: a thin alias of `MixedGLM`.

    Parameters
    ----------
    data, y, x, group, x_random, cov_type, maxiter, tol, alpha, x_fixed, re_formula
        As in `mixed`.
    family : str or statsmodels family
        ``"gaussian"``, ``"binomial"``, ``"poisson"``, ``"gamma"`` (with a log link, as in
        StatsPAI), ``"inverse_gaussian"``, ``"negbin"``.
    trials : str, optional
        Column of binomial numbers of trials; `y` then holds successes.
    offset, exposure : str, optional
        Columns added to the linear predictor; of the exposure the logarithm.
    nAGQ : int or "auto"
        1: Laplace's approximation. k > 1: adaptive Gauss-Hermite quadrature with k points a
        column, random slopes and nested groups included.
    link : str or statsmodels link, optional
    curvature : {"observed"}
        Information in Laplace's determinant and in the nodes. StatsPAI's ``"expected"`` is not the
        Laplace approximation of the likelihood, and refused.

    Returns
    -------
    MixedGLMResults

    Raises
    ------
    ValueError
        If a column or an option is not known.

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import contraception
    >>> df = contraception.load_pandas().data
    >>> r = sp.meglm(df, "use", ["urban", "age"], group="district", family="binomial", link="logit", nAGQ=7)
    >>> round(r.llf, 3)
    -1250.063
    """
    _unused(tol, curvature)
    if link is None and isinstance(family, str) and family.lower() == "gamma":
        link = "log"
    model = _model(
        MixedGLM, data, y, x, x_fixed, group, x_random, re_formula, cov_type,
        family=family, link=link, n_trials=trials, offset=offset, exposure=exposure,
    )  # fmt: skip
    return model.fit(nAGQ=nAGQ, maxiter=maxiter, alpha=alpha)


def melogit(
    data: Frame,
    y: str,
    x: Names = None,
    group: Names = None,
    x_random: Names = None,
    trials: str | None = None,
    nAGQ: int | str = 1,
    maxiter: int = 100,
    tol: float | None = None,
    alpha: float = 0.05,
    *,
    cov_type: str = "unstructured",
    offset: str | None = None,
    curvature: str = "observed",
    x_fixed: Names = None,
    re_formula: str | None = None,
) -> MixedGLMResults:
    """Fit a logistic mixed model; parameters as in `meglm`.

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import cbpp
    >>> df = cbpp.load_pandas().data
    >>> r = sp.melogit(df, "incidence", ["period"], group="herd", trials="size", nAGQ=7)
    >>> round(r.llf, 3)
    -91.983
    """
    _unused(tol, curvature)
    model = _model(
        MixedGLM, data, y, x, x_fixed, group, x_random, re_formula, cov_type,
        family="binomial", n_trials=trials, offset=offset,
    )  # fmt: skip
    return model.fit(nAGQ=nAGQ, maxiter=maxiter, alpha=alpha)


def mepoisson(
    data: Frame,
    y: str,
    x: Names = None,
    group: Names = None,
    x_random: Names = None,
    offset: str | None = None,
    nAGQ: int | str = 1,
    maxiter: int = 100,
    tol: float | None = None,
    alpha: float = 0.05,
    *,
    cov_type: str = "unstructured",
    exposure: str | None = None,
    curvature: str = "observed",
    x_fixed: Names = None,
    re_formula: str | None = None,
) -> MixedGLMResults:
    """Fit a Poisson mixed model; parameters as in `meglm`.

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import epil
    >>> df = epil.load_pandas().data
    >>> sp.mepoisson(df, "y", ["trt", "lbase"], group="subject", nAGQ=11).converged
    True
    """
    _unused(tol, curvature)
    model = _model(
        MixedGLM, data, y, x, x_fixed, group, x_random, re_formula, cov_type,
        family="poisson", offset=offset, exposure=exposure,
    )  # fmt: skip
    return model.fit(nAGQ=nAGQ, maxiter=maxiter, alpha=alpha)


def menbreg(
    data: Frame,
    y: str,
    x: Names = None,
    group: Names = None,
    x_random: Names = None,
    offset: str | None = None,
    nAGQ: int | str = 1,
    maxiter: int = 100,
    tol: float | None = None,
    alpha: float = 0.05,
    *,
    cov_type: str = "unstructured",
    exposure: str | None = None,
    curvature: str = "observed",
    x_fixed: Names = None,
    re_formula: str | None = None,
) -> MixedGLMResults:
    """Fit a negative binomial mixed model; parameters as in `meglm`.

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import epil
    >>> df = epil.load_pandas().data
    >>> r = sp.menbreg(df, "y", ["trt", "lbase"], group="subject", nAGQ=7)
    >>> round(float(r.params["alpha"]), 3)
    0.139
    """
    _unused(tol, curvature)
    model = _model(
        MENegBin, data, y, x, x_fixed, group, x_random, re_formula, cov_type,
        offset=offset, exposure=exposure,
    )  # fmt: skip
    return model.fit(nAGQ=nAGQ, maxiter=maxiter, alpha=alpha)


def megamma(
    data: Frame,
    y: str,
    x: Names = None,
    group: Names = None,
    x_random: Names = None,
    offset: str | None = None,
    nAGQ: int | str = 1,
    maxiter: int = 100,
    tol: float | None = None,
    alpha: float = 0.05,
    *,
    cov_type: str = "unstructured",
    link: Any = "log",
    exposure: str | None = None,
    curvature: str = "observed",
    x_fixed: Names = None,
    re_formula: str | None = None,
) -> MixedGLMResults:
    """Fit a gamma mixed model with a log link; parameters as in `meglm`.

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> sp.megamma(df, "Reaction", ["Days"], group="Subject", nAGQ=15).converged
    True
    """
    _unused(tol, curvature)
    model = _model(
        MixedGLM, data, y, x, x_fixed, group, x_random, re_formula, cov_type,
        family="gamma", link=link, offset=offset, exposure=exposure,
    )  # fmt: skip
    return model.fit(nAGQ=nAGQ, maxiter=maxiter, alpha=alpha)


def meologit(
    data: Frame,
    y: str,
    x: Names = None,
    group: Names = None,
    x_random: Names = None,
    cov_type: str = "unstructured",
    offset: str | None = None,
    nAGQ: int | str = 1,
    maxiter: int = 100,
    tol: float | None = None,
    alpha: float = 0.05,
    *,
    order: Sequence[Any] | None = None,
    distr: str = "logit",
    curvature: str = "observed",
    x_fixed: Names = None,
    re_formula: str | None = None,
) -> MixedGLMResults:
    """Fit a cumulative (ordinal) mixed model.

    Parameters
    ----------
    data, y, x, group, x_random, cov_type, offset, nAGQ, maxiter, tol, alpha, curvature, x_fixed, re_formula
        As in `meglm`.
    order : list, optional
        Labels from the lowest to the highest, which text needs; numbers and ordered
        Categoricals know theirs.
    distr : {"logit", "probit", "cloglog", "loglog", "cauchit"}

    Returns
    -------
    MixedGLMResults

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import wine
    >>> df = wine.load_pandas().data
    >>> r = sp.meologit(df, "rating", ["temp", "contact"], group="judge", nAGQ=7)
    >>> round(r.llf, 3)
    -81.532
    """
    _unused(tol, curvature)
    model = _model(
        MEOLogit, data, y, x, x_fixed, group, x_random, re_formula, cov_type,
        order=order, distr=distr, offset=offset,
    )  # fmt: skip
    return model.fit(nAGQ=nAGQ, maxiter=maxiter, alpha=alpha)


# -- what they share --------------------------------------------------------------------------


@dataclass(frozen=True)
class ICCResult:
    """An intraclass correlation, its standard error and interval; ``float()`` of it is the estimate.

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import sleepstudy
    >>> r = sp.mixed(sleepstudy.load_pandas().data, "Reaction", ["Days"], group="Subject")
    >>> round(sp.icc(r).estimate, 4)
    0.5893
    """

    estimate: float
    se: float
    ci_lower: float
    ci_upper: float
    alpha: float

    def __float__(self) -> float:
        return self.estimate


def icc(
    result: Any, component: str | None = None, alpha: float = 0.05, n_boot: int = 0, seed: int | None = None
) -> ICCResult:
    """Intraclass correlation of a fit, as StatsPAI's ``sp.icc`` and Stata's ``estat icc``.

    Parameters
    ----------
    result : MultilevelResults
    component : str, optional
        Grouping factor, where the model has several; of nested ones the column is enough (``"class"`` for
        ``"class:school"``). ``"_cons"``, the random intercept, is the only one's.
    alpha : float
        One minus the level of the interval: by the delta method, on the logit scale.
    n_boot : int
        Replicates of a parametric bootstrap, whose interval is then given.
    seed : int, optional

    Returns
    -------
    ICCResult

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = sp.mixed(df, y="Reaction", x_fixed=["Days"], group="Subject")
    >>> round(float(sp.icc(res)), 3)
    0.589
    """
    if not hasattr(result, "icc"):
        raise ValueError(f"result= is a {type(result).__name__}, not a fitted model. Give the result of sp.mixed().")
    if not isinstance(n_boot, int) or isinstance(n_boot, bool) or n_boot < 0:
        raise ValueError(f"n_boot={n_boot!r} must be a number of replicates, or 0 for none.")
    options = {"method": "boot", "n": n_boot, "seed": seed} if n_boot else {}
    table = result.icc(conf_int=True, alpha=alpha, **options)
    names = list(table.index)
    if component in (None, "_cons") and len(names) == 1:
        component = names[0]
    inner = [name for name in names if component is not None and name.startswith(f"{component}:")]
    if component not in names and len(inner) == 1:
        component = inner[0]
    if component not in names:
        raise ValueError(
            f"component={component!r} is no grouping factor with a random intercept."
            f"{suggest(str(component), names)} There are {', '.join(map(repr, names)) or 'none'}."
        )
    row = table.loc[component]
    estimate, se, lower, upper = (float(row[c]) for c in ("estimate", "se", "ci_lower", "ci_upper"))
    return ICCResult(estimate, se, lower, upper, float(alpha))


def lrtest(restricted: Any, full: Any, boundary: bool | None = None, **options: Any) -> compare.LRTestResult:
    """Likelihood ratio test of two nested models, as StatsPAI's ``sp.lrtest``.

    Parameters
    ----------
    restricted, full : MultilevelResults
        In either order.
    boundary : bool, optional
        By default, and if true, the null distribution knows that variances cannot be negative. False: the naive
        chi-squared with ``df`` degrees of freedom of Stata's ``lrtest`` and R's ``anova``, which is conservative there.
    **options
        ``method``, ``n``, ``seed`` and ``n_jobs`` of `sm_multilevel.api.lrtest`.

    Returns
    -------
    LRTestResult
        ``chi2, df, p_value, boundary_corrected``.

    Raises
    ------
    ValueError
        As `sm_multilevel.api.lrtest`; also if ``boundary=True`` and nothing that is tested lies at a boundary, or
        if ``boundary=False`` meets a `method` that simulates.

    Notes
    -----
    Self and Liang (1987), J. Am. Stat. Assoc. 82, 605-610; Stram and Lee (1994), Biometrics 50, 1171-1177.

    Examples
    --------
    >>> from sm_multilevel import sp
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> restricted = sp.mixed(df, "Reaction", ["Days"], "Subject")
    >>> full = sp.mixed(df, "Reaction", ["Days"], "Subject", x_random=["Days"])
    >>> print(f"{sp.lrtest(restricted, full).p_value:.3e} {sp.lrtest(restricted, full, boundary=False).p_value:.3e}")
    2.793e-10 4.990e-10
    """
    if boundary is not None:
        boundary = check_flag("boundary", boundary)
    method = options.get("method", "asymptotic")
    if boundary is False and method != "asymptotic":
        raise ValueError(f"boundary=False is the chi-squared distribution; method={method!r} simulates its own.")
    test = compare.lrtest(restricted, full, **options)
    if boundary and not test.boundary_corrected:
        raise ValueError("boundary=True, but nothing that is tested lies at a boundary. Leave boundary= out.")
    if boundary is False:
        naive = ChiBarSquare((test.df,), (1.0,))
        return replace(test, p_value=test.p_chi2, boundary_corrected=False, distribution=naive, mc_error=0.0, n=0)
    return test


# Options of the models that are columns, under the names they have here.
_COLUMNS = {"n_trials": "trials", "offset": "offset", "exposure": "exposure"}


def _model(cls, data, y, x, x_fixed, group, x_random, re_formula, cov_type, **options):
    """A model from columns; called by a function that the user calls."""
    columns = as_frame(data).columns
    _choice("cov_type", cov_type, STRUCTURES)
    response = _columns("y", y, columns)
    if len(response) != 1:
        raise ValueError(f"y={y!r} must be the name of one column, the response.")
    fixed = _columns("x", _one_of("x", x, "x_fixed", x_fixed), columns)
    if group is None:
        raise ValueError("group= is needed: the name of the grouping column, or a list of them.")
    groups = _columns("group", group, columns)
    slopes = _columns("x_random", x_random, columns)
    random = " + ".join(["1", *map(_term, slopes)]) if slopes else None
    random = _one_of("re_formula", re_formula, "x_random", random)
    for option, name in _COLUMNS.items():
        given = options.get(option)
        if given is None:
            options.pop(option, None)
        elif not isinstance(given, str):
            raise ValueError(f"{name}= must be the name of a column (text), not a {type(given).__name__}.")
        else:
            _columns(name, given, columns)
    return cls.from_formula(
        f"{_term(response[0])} ~ {' + '.join(['1', *map(_term, fixed)])}",
        data,
        groups=groups[0] if len(groups) == 1 else groups,
        re_formula=random,
        covariance=cov_type.lower(),
        eval_env=EvalEnvironment.capture(2),
        **options,
    )


def _unused(tol, curvature="observed") -> None:
    """Check the options that StatsPAI has and that change nothing here."""
    if tol is not None and not (isinstance(tol, Real) and 0 < float(tol) < math.inf):
        raise ValueError(f"tol={tol!r} must be a positive number. It is without effect here: leave it out.")
    if curvature != "observed":
        raise ValueError(
            f"curvature={curvature!r} is not available. 'observed' is the Laplace approximation of the likelihood."
        )


def _choice(name, value, known):
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError(f"{name}={value!r} is not known. Choose one of {', '.join(map(repr, known))}.")


def _one_of(first, value, second, other):
    if value is not None and other is not None:
        raise ValueError(f"{first}= and {second}= are two spellings of one option. Give one of them.")
    return other if value is None else value


def _columns(option, names, columns) -> list[str]:
    """A list of column names, each of which exists."""
    if names is None:
        return []
    names = list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{option}= must hold names of columns (text), not {name!r}.")
        if name not in columns:
            raise ValueError(f"{option}= names {name!r}, which is no column of the data.{suggest(name, columns)}")
    return names


def _term(name: str) -> str:
    plain = name.isidentifier() and not keyword.iskeyword(name) and name not in _RESERVED
    return name if plain else f"Q({name!r})"
