"""Complete and quasi-complete separation: predictors along which the likelihood rises without end.

A direction of (beta, thresholds) in which no row's log density ever falls, and some row's
rises, makes the estimates infinite whatever the random effects are (Albert and Anderson
1984, Biometrika 71, 1-10; found by linear programming as Konis 2007 does).
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

__all__ = ["is_constant_within", "separating_columns"]

_ROWS = 20_000  # distinct rows given to the linear programme


def separating_columns(recession: tuple[np.ndarray, np.ndarray], names) -> list[str]:
    """Names of the coefficients that have no finite estimate.

    Parameters
    ----------
    recession : (ndarray, ndarray)
        Rows a of (beta, psi) with a'd >= 0 in every direction d of recession, and rows with a'd = 0.
    names : sequence of str
        Of the columns.

    Returns
    -------
    list of str
        Empty where there is no separation.
    """
    above, equal = (np.unique(np.round(a, 12), axis=0) for a in recession)
    size = np.maximum(np.abs(above).max(axis=0, initial=0.0), np.abs(equal).max(axis=0, initial=0.0))
    size[size == 0] = 1.0
    above, equal = above / size, equal / size
    k = len(size)
    if equal.shape[0] > k:  # only their span matters
        _, values, right = np.linalg.svd(equal.T @ equal)
        equal = right[values > 1e-10 * max(values[0], 1.0)]
    if above.shape[0] > _ROWS:
        above = above[np.random.default_rng(0).choice(above.shape[0], _ROWS, replace=False)]
    found = optimize.linprog(
        -above.sum(axis=0), A_ub=-above, b_ub=np.zeros(above.shape[0]),
        A_eq=equal if equal.shape[0] else None, b_eq=np.zeros(equal.shape[0]) if equal.shape[0] else None,
        bounds=[(-1.0, 1.0)] * k, method="highs",
    )  # fmt: skip
    if found.status != 0 or -found.fun < 1e-7:
        return []
    return [name for name, d in zip(names, found.x, strict=True) if abs(d) > 1e-7]


def is_constant_within(ends: np.ndarray, codes: np.ndarray) -> bool:
    """Whether the rows of every level tend to one and the same end, so that its effects have no finite spread.

    Parameters
    ----------
    ends : ndarray, shape (n,)
        As `ResponseFamily.limits`.
    codes : ndarray of int, shape (n,)
    """
    if not (np.abs(ends) == 1).all():
        return False
    first = np.empty(codes.max() + 1)
    first[codes] = ends
    return bool(np.array_equal(first[codes], ends))
