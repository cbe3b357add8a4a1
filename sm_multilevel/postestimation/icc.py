"""Intraclass correlations of the levels of a model."""

from __future__ import annotations

import numpy as np

__all__ = ["icc", "random_intercepts"]


def icc(random, terms, residual) -> dict[str, float]:
    """Correlation of two rows that share a level, covariates of random slopes at zero.

    Rows that share a level of a nested factor also share those above it, so variances
    add up along a nesting, as in Stata's ``estat icc``.

    Parameters
    ----------
    random : sequence of RandomTerm
    terms : sequence of TermSolution
    residual : float

    Returns
    -------
    dict
        Grouping factor -> intraclass correlation; factors without an intercept are left out.
    """
    shared, total = random_intercepts(random, terms)
    return {name: part / (total + float(residual)) for name, part in shared.items()}


def random_intercepts(random, terms) -> tuple[dict[str, float], float]:
    """Variances of the random intercepts.

    Returns
    -------
    shared : dict
        Grouping factor -> what rows of one level share, the factors included in which it is nested.
    total : float
    """
    variance: dict[str, float] = {}
    codes: dict[str, np.ndarray] = {}
    total = 0.0
    for term, solution in zip(random, terms, strict=True):
        name = term.name or term.group
        for j in range(term.q):
            column = term.exog[:, j]
            if column[0] != 0 and np.all(column == column[0]):
                part = float(solution.cov[j, j]) * float(column[0]) ** 2
                variance[name] = variance.get(name, 0.0) + part
                codes[name] = term.codes
                total += part
    shared = {name: sum(v for other, v in variance.items() if _nested(codes[name], codes[other])) for name in variance}
    return shared, total


def _nested(inner, outer) -> bool:
    """Whether every level of `inner` lies in one level of `outer`."""
    parent = np.zeros(inner.max() + 1, dtype=outer.dtype)
    parent[inner] = outer
    return bool(np.array_equal(parent[inner], outer))
