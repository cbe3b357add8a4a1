"""Checks of a complete design before any number is computed: each names what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sm_multilevel.estimation.minimize import METHODS
from sm_multilevel.grouping import lies_within
from sm_multilevel.objectives.gaussian import PerfectFitError
from sm_multilevel.wording import suggest

__all__ = [
    "check_alpha",
    "check_count",
    "check_fit_options",
    "check_flag",
    "check_maxiter",
    "check_method",
    "check_not_exact",
    "check_option",
    "check_random_terms",
    "check_response",
    "independent_columns",
    "start_packed",
    "start_theta",
    "unknown_option",
    "users_level",
]

# A column whose part outside the others is smaller than this, relative to its length, is
# taken as contained in them (lm's and lmer's tolerance).
COLLINEAR = 1e-7
# A residual this small, relative to the response, is what rounding leaves.
EXACT = 1e-13
# Options of other packages whose models there are not, and what comes nearest.
_ZEROS = (
    "zero-inflated models are not available. For many zeros use menbreg(), or model zero or not by melogit() and the "
    "positive values by another model."
)
_DISPERSION = "the dispersion is one number, estimated with the others, and cannot depend on predictors."
_REFUSED = {
    **dict.fromkeys(("ziformula", "zi_formula", "exog_infl", "inflation"), _ZEROS),
    **dict.fromkeys(("dispformula", "disp_formula", "dispersion_formula", "exog_precision"), _DISPERSION),
    "nagq": "it is an option of fit(), as in fit(nAGQ=7).",
    "reml": "it is an option of fit(), as in mixedlm(...).fit(reml=False).",
    "control": "there is nothing to set: other starts and methods are tried by themselves.",
    "contrasts": "write them in the formula, as in C(x, Sum) or C(x, Treatment('level')).",
    "na_action": "rows with missing values are dropped; missing='raise' refuses them.",
    "family": "mixedlm is for normal responses. Use meglm(..., family=), or melogit, mepoisson and the like.",
    "random": "write the random part in the formula, as in '+ (1 | g)', or give groups= and re_formula=.",
    "correlation": "correlated residuals are not available. A random slope, or fit(cov_type='robust'), may do.",
}
_OF_THE_MODEL = "it is an option of the model, given with the formula or the arrays, and not of fit()."
# The same of methods, which are asked for them in other packages' words.
_ELSEWHERE = {
    "fit": {
        "reml": "linear models have it, written reml=; all others are fitted by maximum likelihood.",
        "nagq": "generalised models have it, written nAGQ=; in a linear model nothing has to be approximated.",
        "intpoints": "the number of quadrature points of generalised models is nAGQ=, as in fit(nAGQ=7).",
        "vce": "write cov_type='robust', or cov_type='cluster' with cov_kwds={'groups': ...}.",
        "dfmethod": "write df='kenward-roger' or df='satterthwaite'.",
        "level": "write alpha=, which is 0.05 for 95% intervals.",
        "iterate": "write maxiter=.",
        "groups": "groups of the model are given to the model; those of cov_type='cluster' in "
        "cov_kwds={'groups': ...}.",
        **dict.fromkeys(("eform", "irr", "odds_ratio"), "ratios are printed by summary(eform=True)."),
        **dict.fromkeys(
            ("freq_weights", "var_weights", "offset", "exposure", "n_trials", "missing", "subset", "covariance"),
            _OF_THE_MODEL,
        ),
        "weights": "write var_weights= or freq_weights=, which are options of the model.",
    },
    "update": {
        **dict.fromkeys(("reml", "nagq"), "it is an option of fit(), as in result.model.fit(reml=False)."),
        "subset": "give the rows that you want as data=.",
    },
}
_HERE = str(Path(__file__).parent)


def users_level() -> int:
    """The stacklevel of a warning that points at the user's line, however deep the call."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    return level


def unknown_option(where: str, name: str, more=()) -> str:
    """What to say of an option that a model does not have; `more` are those of its own."""
    if name.lower() in _REFUSED:
        return f"{where} has no option {name!r}: {_REFUSED[name.lower()]}"
    known = "groups re_formula vc_formula subset covariance offset var_weights freq_weights missing exog_re exog_vc"
    return f"{where} has no option {name!r}.{suggest(name, [*known.split(), *more])}"


def check_option(where: str, given, allowed) -> None:
    """Raise TypeError for an unknown keyword."""
    for name in given:
        if name not in allowed:
            if hint := _ELSEWHERE.get(where, {}).get(name.lower()):
                raise TypeError(f"{where}() has no option {name!r}: {hint}")
            raise TypeError(f"{where}() has no option {name!r}.{suggest(name, allowed)}")


def check_alpha(alpha, name: str = "alpha", example: float = 0.05) -> float:
    """One minus the level of an interval (or, with another name, the level), strictly between 0 and 1."""
    try:
        value = float(alpha)
    except (TypeError, ValueError):
        value = np.nan
    if not 0 < value < 1:
        raise ValueError(f"{name}={alpha!r} must lie between 0 and 1, as {example:g} for intervals of 95 %.")
    return value


def check_count(name: str, value, what: str) -> int:
    """A whole number, 1 or more."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1:
        return int(value)
    raise ValueError(f"{name}={value!r}: give {what}, at least one.")


# What to do about a fit that did not converge, in messages of what needs one that did.
REFIT = "Fit it again from other start_params= or by another method=, or simplify the model."


def check_flag(name: str, value) -> bool:
    """An option that is True or False: text such as ``reml="ML"`` would count as True."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"{name}={value!r} must be True or False.")


def check_disp(value) -> bool | None:
    """Whether progress is shown: True, False, or None for the default."""
    return None if value is None else check_flag("disp", value)


def check_maxiter(value) -> int:
    """A number of iterations, 0 or more."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 0:
        return int(value)
    raise ValueError(f"maxiter={value!r} must be a whole number, 0 or more.")


def check_method(method) -> str:
    """The name of a minimiser, from a name or a list as statsmodels' MixedLM takes it."""
    if isinstance(method, (list, tuple)):
        method = method[0] if method else "newton"
    name = {"l-bfgs-b": "lbfgs", "ncg": "newton", "nelder-mead": "nm"}.get(str(method).lower(), str(method).lower())
    if name not in METHODS:
        raise ValueError(f"method={method!r} is not known. Choose one of {', '.join(METHODS)}.")
    return name


def check_fit_options(method, maxiter, use_t, alpha, others) -> tuple[str, int, bool | None, float]:
    """What `fit` of all models takes: its method, maxiter, use_t and alpha, checked.

    Raises
    ------
    ValueError, TypeError
        For an unknown option or value.
    """
    # statsmodels' own methods pass these to any model.
    check_option("fit", others, allowed=("full_output", "retall", "skip_hessian", "gtol"))
    use_t = None if use_t is None else check_flag("use_t", use_t)
    return check_method(method), check_maxiter(maxiter), use_t, check_alpha(alpha)


def start_theta(start_params, p: int, k: int):
    """Starting theta from theta, a packed vector or a result; None from fixed effects, which need no start."""
    if start_params is None:
        return None
    values = _start_numbers(start_params, "theta", f"theta ({k} numbers, as result.theta)")
    if values.shape[0] == p + 1 + k:
        return values[p + 1 :]
    if values.shape[0] == k:
        return values
    if values.shape[0] == p:
        return None
    raise ValueError(
        f"start_params has {values.shape[0]} elements; give theta ({k}), or the packed vector beta, sigma^2, "
        f"theta ({p + 1 + k})."
    )


def _start_numbers(start_params, attribute: str, needed: str) -> np.ndarray:
    """Starting values, or those of a result, as finite floats."""
    try:
        values = np.asarray(getattr(start_params, attribute, start_params), dtype=float).ravel()
    except (TypeError, ValueError):
        raise ValueError(f"start_params={start_params!r} is not numeric; give {needed}.") from None
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"start_params has values that are not finite (first is element {bad}). Give numbers.")
    return values


def start_packed(start_params, p: int, r: int, k: int):
    """Starting beta, psi and theta from a packed vector or a result; None where none is given."""
    if start_params is None:
        return None
    values = _start_numbers(start_params, "params_packed", f"{p + r + k} numbers")
    if values.shape[0] == p + r and k:
        return None  # statsmodels' own methods start from coefficients alone
    if values.shape[0] != p + r + k:
        raise ValueError(
            f"start_params has {values.shape[0]} elements; give the packed vector beta, psi, theta ({p + r + k}), as "
            "result.params_packed."
        )
    return values


def check_response(y: np.ndarray, name: str, refused=None) -> None:
    """Raise if the response has no variation or too few values.

    Parameters
    ----------
    y : ndarray
    name : str
    refused : tuple of float, optional
        Values at which a constant response is refused, default any.
    """
    if y.shape[0] == 0:
        raise ValueError("There are no rows to fit: look at what subset= and missing values leave of the data.")
    if y.shape[0] == 1:
        raise ValueError("There is only one row to fit: look at what subset= and missing values leave of the data.")
    if (refused is None or y[0] in refused) and np.all(y == y[0]):
        raise ValueError(
            f"The response {name!r} is constant ({y[0]:g} in all {y.shape[0]} rows): there is nothing to explain. "
            "Check the column."
        )
    _check_size(y, f"The response {name!r}")


def _check_size(values: np.ndarray, what: str) -> None:
    """Raise if squares would overflow, or vanish."""
    size = float(np.abs(values).max())
    if size and not 1e-75 < size < 1e75:
        raise ValueError(f"{what} has values of about {size:.0e}, too extreme to compute with. Rescale it.")


def check_not_exact(residual: float, y: np.ndarray, *weights) -> None:
    """Raise if what a first regression on X leaves of the response is rounding."""
    squares = y * y
    for w in weights:
        if w is not None:
            squares = squares * w
    if residual <= EXACT**2 * squares.sum():
        raise PerfectFitError(
            "The fixed effects fit the response exactly, up to rounding: no variance is left to estimate. Look for a "
            "predictor that is computed from the response, or subtract a large constant from the response."
        )


def check_random_terms(design, residual: str = "residual variance", single: bool = False) -> None:
    """Raise where a random term cannot be told from the residual, the intercept or another term.

    Parameters
    ----------
    design : Design
    residual : str
        The parameter that a random effect for every row would be mistaken for, as messages
        name it; empty where the model has none, so that such an effect is overdispersion.
    single : bool
        Whether each row is a single draw of a category, from which an effect for every row
        cannot be learnt.
    """
    rows = float(len(design.endog)) if design.freq_weights is None else float(design.freq_weights.sum())
    if not design.terms:
        raise ValueError("The model has no random term. Give groups=, or a formula with bars.")
    for i, term in enumerate(design.terms):
        label = f"({' + '.join(term.columns)} | {term.name or term.group})"
        if term.n_levels == 1 and (term.q == 1 or term.covariance.n_params(term.q) > 1):
            raise ValueError(
                f"The grouping factor {term.group!r} has only one level, {term.levels.tolist()[0]!r}, so the "
                f"variance of {label} cannot be estimated. Leave the term out, or check the column."
            )
        effects = term.n_levels * term.q
        if (residual or single) and term.n_levels == len(design.endog) and rows == term.n_levels:
            reason = f"be told from the {residual}" if residual else "be learnt from a single outcome each"
            raise ValueError(
                f"Every level of {term.group!r} has one row ({term.n_levels} levels, "
                f"{len(design.endog)} rows), so the variance of {label} cannot {reason}. Use a coarser grouping factor."
            )
        if residual and effects >= rows and term.covariance.n_params(term.q) >= term.q:
            raise ValueError(
                f"{label} has {effects} random effects ({term.n_levels} levels x {term.q} columns) "
                f"for {rows:.0f} rows; its variances cannot be told from the {residual}. "
                "Use fewer columns, or a coarser grouping factor."
            )
        for other in design.terms[:i]:
            _check_distinct(other, term)
        if term.q > 1 and term.covariance.n_params(term.q) >= term.q:
            kept = independent_columns(term.exog, term.columns)
            if len(kept) < term.q:
                extra = next(c for j, c in enumerate(term.columns) if j not in kept)
                raise ValueError(
                    f"The column {extra!r} of {label} is a combination of the columns before it, so their variances "
                    "cannot be told apart. Leave it out."
                )
        for j, column in enumerate(term.columns):
            if not np.any(term.exog[:, j]):
                raise ValueError(f"The column {column!r} of {label} is zero in every row. Leave it out.")


def _check_distinct(a, b) -> None:
    """Raise where two terms have variances of the same column for the same groups of rows."""
    if a.n_levels != b.n_levels or any(t.covariance.maps == "common" and t.q > 1 for t in (a, b)):
        return
    if not lies_within(a.codes, b.codes):
        return
    for j, column in enumerate(a.columns):
        for k in range(b.q):
            if np.array_equal(a.exog[:64, j], b.exog[:64, k]) and np.array_equal(a.exog[:, j], b.exog[:, k]):
                same = a.group == b.group
                where = repr(a.group) if same else f"{a.group!r} and {b.group!r} (the same groups of rows)"
                raise ValueError(
                    f"The random effect {column} of {where} is there twice: its two variances cannot be told apart. "
                    "Leave it out of one term, as in (0 + x | g)."
                )


def independent_columns(x: np.ndarray, names) -> list[int]:
    """Columns that those before them do not contain, in order.

    Products decide where they can; where they are too coarse, the columns themselves.
    """
    n, p = x.shape
    if p == 0:
        return []
    with np.errstate(over="ignore"):
        gram = x.T @ x
    norms = np.sqrt(np.diag(gram))
    for odd in np.flatnonzero((norms == 0) | (norms > 1e75)):
        _check_size(x[:, odd], f"The column {names[odd]!r}")
    sizes = np.outer(norms, norms)
    scaled_gram = gram / np.where(sizes > 0, sizes, 1.0)
    left = _remaining(scaled_gram)
    # Squares: below 1e-10 products have lost the digits, so look at the columns.
    if np.all(left > 1e-9) and np.all(norms > 0):
        return list(range(p))
    keep: list[int] = []
    basis = np.empty((n, 0))
    for j in range(p):  # few columns; each may lie in those before
        if norms[j] == 0:
            continue
        v = x[:, j] / norms[j]
        for _ in range(2):  # twice is enough
            v = v - basis @ (basis.T @ v)
        size = np.linalg.norm(v)
        if size > COLLINEAR:
            keep.append(j)
            basis = np.column_stack([basis, v / size])
    return keep


def _remaining(gram):
    """Squared length of each scaled column outside those before it."""
    p = gram.shape[0]
    a = gram.copy()
    left = np.empty(p)
    for j in range(p):
        left[j] = a[j, j]
        if a[j, j] > 1e-12:
            a[j + 1 :, j + 1 :] -= np.outer(a[j + 1 :, j], a[j, j + 1 :]) / a[j, j]
    return left
