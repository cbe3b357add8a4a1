"""Checks of a complete design before any number is computed: each names what is wrong."""

from __future__ import annotations

import numpy as np

from sm_multilevel.estimation.minimize import METHODS
from sm_multilevel.formula.frame import suggest

__all__ = [
    "check_method",
    "check_option",
    "check_random_terms",
    "check_response",
    "independent_columns",
]

# A column whose part outside the others is smaller than this, relative to its length, is
# taken as contained in them (lm's and lmer's tolerance).
COLLINEAR = 1e-7


def check_option(where: str, given, allowed) -> None:
    """Raise TypeError for an unknown keyword."""
    for name in given:
        if name not in allowed:
            raise TypeError(f"{where}() has no option {name!r}.{suggest(name, allowed)}")


def check_method(method) -> str:
    """The name of a minimiser, from a name or a list as statsmodels' MixedLM takes it."""
    if isinstance(method, (list, tuple)):
        method = method[0] if method else "newton"
    name = {"l-bfgs-b": "lbfgs", "ncg": "newton", "nelder-mead": "nm"}.get(str(method).lower(), str(method).lower())
    if name not in METHODS:
        raise ValueError(f"method={method!r} is not known. Choose one of {', '.join(METHODS)}.")
    return name


def check_response(y: np.ndarray, name: str) -> None:
    """Raise if the response has no variation or too few values."""
    if y.shape[0] == 0:
        raise ValueError("There are no rows to fit.")
    if np.all(y == y[0]):
        raise ValueError(
            f"The response {name!r} is constant ({y[0]:g} in all {y.shape[0]} rows): there is nothing to explain."
        )


def check_random_terms(design) -> None:
    """Raise where a random term cannot be told from the residual or the intercept."""
    rows = float(len(design.endog)) if design.freq_weights is None else float(design.freq_weights.sum())
    if not design.terms:
        raise ValueError("The model has no random term. Give groups=, or a formula with bars.")
    for term in design.terms:
        label = f"({' + '.join(term.columns)} | {term.name or term.group})"
        if term.n_levels == 1 and (term.q == 1 or term.covariance.n_params(term.q) > 1):
            raise ValueError(
                f"The grouping factor {term.group!r} has only one level, {term.levels[0]!r}, so the "
                f"variance of {label} cannot be estimated. Leave the term out, or check the column."
            )
        effects = term.n_levels * term.q
        if term.n_levels == len(design.endog) and rows == term.n_levels:
            raise ValueError(
                f"Every level of {term.group!r} has one row ({term.n_levels} levels, "
                f"{len(design.endog)} rows), so the variance of {label} cannot be told from the "
                "residual variance. Use a coarser grouping factor."
            )
        if effects >= rows and term.covariance.n_params(term.q) >= term.q:
            raise ValueError(
                f"{label} has {effects} random effects ({term.n_levels} levels x {term.q} columns) "
                f"for {rows:.0f} rows; its variances cannot be told from the residual variance. "
                "Use fewer columns, or a coarser grouping factor."
            )
        for j, column in enumerate(term.columns):
            if not np.any(term.exog[:, j]):
                raise ValueError(f"The column {column!r} of {label} is zero in every row.")


def independent_columns(x: np.ndarray, names) -> list[int]:
    """Columns that those before them do not contain, in order.

    Products decide where they can; where they are too coarse, the columns themselves.
    """
    n, p = x.shape
    if p == 0:
        return []
    gram = x.T @ x
    norms = np.sqrt(np.diag(gram))
    scaled_gram = gram / np.where(norms > 0, np.outer(norms, norms), 1.0)
    left = _remaining(scaled_gram)
    # Squares: below 1e-10 products have lost the digits, so look at the columns.
    if np.all(left > 1e-9) and np.all(norms > 0):
        return list(range(p))
    keep: list[int] = []
    basis = np.empty((n, 0))
    for j in range(p):
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
