"""Many small matrices at once, stored with the batch last.

An array ``(q, q, m)`` holds m matrices so that every elementary operation runs over
m contiguous numbers: for the usual q of 1 to 4 this is far faster than m LAPACK calls.
"""

from __future__ import annotations

import numpy as np

__all__ = ["cholesky", "congruence", "gram", "inverse_lower", "level_gram"]

# Above this size one LAPACK call a matrix beats a Python loop over its columns.
_LAPACK_FROM = 12


def cholesky(s: np.ndarray) -> np.ndarray:
    """Lower Cholesky factors of m symmetric matrices.

    Parameters
    ----------
    s : ndarray, shape (q, q, m)
        Symmetric positive definite matrices; only the lower triangle is read.

    Returns
    -------
    ndarray, shape (q, q, m)
        Lower triangular factors, zeros above the diagonal.

    Raises
    ------
    numpy.linalg.LinAlgError
        If one of them is not positive definite.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.linalg.small import cholesky
    >>> cholesky(np.array([[[4.0, 9.0]]]))
    array([[[2., 3.]]])
    """
    q = s.shape[0]
    if q > _LAPACK_FROM:
        return np.ascontiguousarray(np.linalg.cholesky(np.moveaxis(s, 2, 0)).transpose(1, 2, 0))
    low = np.zeros_like(s)
    for j in range(q):
        column = s[j:, j]
        if j:
            column = column - np.einsum("ikm,km->im", low[j:, :j], low[j, :j])
        pivot = column[0]
        # A NaN fails this comparison too.
        if not (pivot > 0).all():
            raise np.linalg.LinAlgError("a diagonal block is not positive definite")
        np.sqrt(pivot, out=low[j, j])
        if j + 1 < q:
            np.divide(column[1:], low[j, j], out=low[j + 1 :, j])
    return low


def inverse_lower(low: np.ndarray) -> np.ndarray:
    """Inverses of m lower triangular matrices, shape (q, q, m)."""
    q = low.shape[0]
    if q == 1:
        return 1.0 / low
    if q > _LAPACK_FROM:
        return np.ascontiguousarray(np.linalg.inv(np.moveaxis(low, 2, 0)).transpose(1, 2, 0))
    inv = np.zeros_like(low)
    for j in range(q):
        np.divide(1.0, low[j, j], out=inv[j, j])
        if j:
            rest = np.einsum("km,klm->lm", low[j, :j], inv[:j, :j])
            inv[j, :j] = -rest * inv[j, j]
    return inv


def gram(a: np.ndarray) -> np.ndarray:
    """A'A for m matrices of shape (q, q, m)."""
    if a.shape[0] == 1:
        return a * a
    return np.einsum("kim,kjm->ijm", a, a)


def congruence(left: np.ndarray, a: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left' A right`` for m matrices A (q, r, m) and two fixed small matrices."""
    q, r, m = a.shape
    if q == 1 and r == 1:
        return (left[0, 0] * right[0, 0]) * a
    half = (left.T @ a.reshape(q, r * m)).reshape(-1, r, m)
    return np.matmul(right.T, half)


def level_gram(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum over levels of x'y: (q, m, c), (q, m, d) -> (c, d)."""
    return x.reshape(-1, x.shape[2]).T @ y.reshape(-1, y.shape[2])
