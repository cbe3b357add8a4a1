"""Complete and quasi-complete separation: predictors along which the likelihood rises without end.

A direction of (beta, thresholds) in which no row's log density ever falls, and some row's
rises, makes the estimates infinite whatever the random effects are (Albert and Anderson
1984, Biometrika 71, 1-10; found by linear programming as Konis 2007 does).
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

__all__ = ["is_constant_within", "separating_columns"]

_ROWS = 5_000  # rows given to the linear programme at once
_ROUNDS = 20  # and how often those that its solution violates are added
_ZERO = 1e-7  # what is none, of a direction whose elements are at most 1


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
    above, equal = recession
    size = np.maximum(np.abs(above).max(axis=0, initial=0.0), np.abs(equal).max(axis=0, initial=0.0))
    size[size == 0] = 1.0
    above, equal = above / size, equal / size
    k = len(size)
    if equal.shape[0] > k:  # only their span matters
        values, vectors = np.linalg.eigh(equal.T @ equal)
        equal = vectors.T[values > 1e-12 * max(values[-1], 1.0)]
    total = above.sum(axis=0)
    rows = np.unique(np.round(above[:: max(1, len(above) // _ROWS)], 12), axis=0)
    for _ in range(_ROUNDS):
        found = optimize.linprog(
            -total, A_ub=-rows, b_ub=np.zeros(len(rows)),
            A_eq=equal if len(equal) else None, b_eq=np.zeros(len(equal)) if len(equal) else None,
            bounds=[(-1.0, 1.0)] * k, method="highs",
        )  # fmt: skip
        if found.status != 0 or -found.fun < _ZERO:
            return []
        slack = above @ found.x
        if slack.min(initial=0.0) >= -_ZERO:
            return [name for name, d in zip(names, found.x, strict=True) if abs(d) > _ZERO]
        worst = np.argsort(slack)[:_ROWS]  # rows that were not among those of the programme
        rows = np.vstack([rows, above[worst[slack[worst] < -_ZERO]]])
    return []


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
