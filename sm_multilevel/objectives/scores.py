"""Exact scores of clusters of rows: the gradient of the log-likelihood, a part for each cluster.

The likelihood is a product over clusters that share no level of any grouping factor. Every
derivative is a sum over rows and over levels, and a cluster's part is the sum over its own:
of the linear model, with V relative to sigma^2 and r = y - X beta,

    d/d beta    X_i'V_i^-1 r_i / sigma^2,           V^-1 r = W (r - Z Lambda u)
    d/d sigma^2 -n_i / (2 sigma^2) + r_i'V_i^-1 r_i / (2 sigma^4)
    d/d Lambda  -sum_l [Z'V^-1 Z Lambda]_ll + sum_l e_l u_l' / sigma^2,  e = Z'V^-1 r

and of the others what `MarginalState.gradient` sums over everything.
"""

from __future__ import annotations

import numpy as np

from sm_multilevel.linalg.cholesky import BlockMatrix
from sm_multilevel.objectives.gaussian import GaussianState
from sm_multilevel.objectives.marginal import MarginalState
from sm_multilevel.objectives.slopes import covariance_moves

__all__ = ["column_sums", "linear_information", "linear_scores", "marginal_scores"]


def column_sums(codes: np.ndarray, size: int, columns, weights: np.ndarray | None = None) -> np.ndarray:
    """Sums of columns of rows by code.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
    size : int
    columns : iterable of ndarray, shape (n,)
    weights : ndarray, shape (n,), optional
        Factor of every column.

    Returns
    -------
    ndarray, shape (size, number of columns)
    """
    sums = [np.bincount(codes, c if weights is None else c * weights, minlength=size) for c in columns]
    return np.stack(sums, axis=1) if sums else np.empty((size, 0))


def marginal_scores(state: MarginalState, basis, codes: np.ndarray, size: int) -> np.ndarray:
    """Scores of the clusters of a generalised or ordinal model.

    Parameters
    ----------
    state : MarginalState
        Where beta is a parameter, no mode.
    basis : sequence of (factor, ndarray of shape (q, q))
        dLambda/d theta_j.
    codes : ndarray of int, shape (n,)
        Cluster of each of the sorted rows; all rows of a level are in one.
    size : int
        Clusters.

    Returns
    -------
    ndarray, shape (size, k)
        Of log L in beta, psi and theta, standardised columns.
    """
    mode, parts = state.mode, state.integral.parts(apart=True)
    rows, local = mode.rows, mode.local
    back = state.adjoint(parts)
    beta = column_sums(codes, size, rows.xt, parts.eta + back.v)
    per_row = parts.psi
    if len(per_row):
        per_row = per_row + local.score_psi * back.r + local.info_psi * back.c
    psi = column_sums(codes, size, per_row)
    products = _products_by_level(parts.h, mode.lams, mode.zz)
    slopes = [
        direct + moved[:, None] * u[None] + s[:, None] * x[None] + 2.0 * product.transpose(1, 0, 2)
        for direct, moved, u, s, x, product in zip(
            parts.lams, rows.collect(back.v), mode.u, mode.score_sums, back.k, products, strict=True
        )
    ]
    return np.hstack([beta, psi, _theta_scores(slopes, basis, [p.codes for p in rows.levels], codes, size)])


def linear_scores(
    state: GaussianState,
    basis,
    level_codes: list[np.ndarray],
    codes: np.ndarray,
    size: int,
    *,
    exog: np.ndarray,
    resid: np.ndarray,
    conditional: np.ndarray,
    weights: np.ndarray | None,
    counts: np.ndarray | None,
    sigma2: float,
) -> np.ndarray:
    """Scores of the clusters of a linear model, at any sigma^2 and at the state's beta and theta.

    Parameters
    ----------
    state : GaussianState
    basis : sequence of (factor, ndarray of shape (q, q))
        dLambda/d theta_j.
    level_codes : list of ndarray of int, shape (n,)
        Level of each row, one array a factor.
    codes : ndarray of int, shape (n,)
        Cluster of each row; all rows of a level are in one.
    size : int
        Clusters.
    exog : ndarray, shape (n, p)
        X, or a basis of its columns.
    resid, conditional : ndarray, shape (n,)
        y - X beta, and the same minus the predicted random effects.
    weights, counts : ndarray, shape (n,), or None
        Product of all weights; frequency weights.
    sigma2 : float

    Returns
    -------
    ndarray, shape (size, p + k + 1)
        Of the full log-likelihood in beta of these columns, theta (standardised columns) and sigma^2.
    """
    white = conditional if weights is None else weights * conditional  # V^-1 r
    beta = column_sums(codes, size, exog.T, white) / sigma2
    squares = column_sums(codes, size, [resid], white)
    rows = np.bincount(codes, counts, minlength=size)[:, None]
    scale = -0.5 * rows / sigma2 + 0.5 * squares / sigma2**2
    products = _products_by_level(state.inverse, state.lams, state.data.zz)
    slopes = [
        -t.transpose(1, 0, 2) + e[:, None] * u[None] / sigma2
        for t, e, u in zip(products, state.e, state.modes, strict=True)
    ]
    return np.hstack([beta, _theta_scores(slopes, basis, level_codes, codes, size), scale])


def linear_information(state: GaussianState, basis, hessian: np.ndarray) -> np.ndarray:
    """Observed information of a linear model at its ML estimates, as one matrix.

    With V_j = dV/d theta_j, the second derivatives of -log L at the optimum are

        beta, beta     X'V^-1 X / sigma^2         beta, theta_j    X'V^-1 V_j V^-1 r / sigma^2
        sigma^2 twice  n / (2 sigma^4)            sigma^2, theta_j r'V^-1 V_j V^-1 r / (2 sigma^4)

    and those in theta follow from the Hessian with the others profiled out.

    Parameters
    ----------
    state : GaussianState
        Of the ML deviance, at its optimum.
    basis : sequence of (factor, ndarray of shape (q, q))
    hessian : ndarray, shape (k, k)
        Of the profiled deviance in theta.

    Returns
    -------
    ndarray, shape (p + k + 1, p + k + 1)
        In beta and theta of the standardised columns, and sigma^2.
    """
    p, k, s = state.data.p, len(basis), state.sigma2
    out = np.zeros((p + k + 1, p + k + 1))
    out[:p, :p] = state.xvx / s
    out[-1, -1] = state.deviance.df / (2.0 * s * s)
    for j, (f, move) in enumerate(covariance_moves(basis, state.lams)):
        e = state.e[f]
        pulled = move @ e
        cross = np.einsum("qmp,qm->p", state.residual_products[f][:, :, :p], pulled) / s
        out[:p, p + j] = out[p + j, :p] = cross
        out[-1, p + j] = out[p + j, -1] = np.sum(e * pulled) / (2.0 * s * s)
    others = np.r_[0:p, p + k]
    low = out[np.ix_(others, range(p, p + k))]
    out[p : p + k, p : p + k] = 0.5 * hessian + low.T @ np.linalg.solve(out[np.ix_(others, others)], low)
    return out


def _theta_scores(slopes, basis, level_codes, codes, size):
    """Per cluster: derivatives in each level's Lambda, shape (q, q, m) a factor, taken to theta and summed."""
    parents = []
    for levels, slope in zip(level_codes, slopes, strict=True):
        parent = np.empty(slope.shape[2], dtype=np.intp)
        parent[levels] = codes
        parents.append(parent)
    columns = [np.bincount(parents[f], np.tensordot(b, slopes[f], axes=2), minlength=size) for f, b in basis]
    return np.stack(columns, axis=1) if columns else np.empty((size, 0))


def _products_by_level(matrix: BlockMatrix, lams: list[np.ndarray], other: BlockMatrix) -> list[np.ndarray]:
    """Diagonal block of ``matrix Lambda' other`` for each level: the terms of `BlockMatrix.level_products`."""
    out = [
        np.einsum("ijm,jkm->ikm", np.einsum("aj,ijm->iam", lam, s), a)
        for s, lam, a in zip(matrix.diag, lams, other.diag, strict=True)
    ]
    for (f, g), a in other.off.items():
        s, pattern = matrix.off[f, g], other.layout.pairs[f, g]
        _add_at(out[f], pattern.first, np.einsum("ijm,kjm->ikm", np.einsum("gj,ijm->igm", lams[g], s), a))
        _add_at(out[g], pattern.second, np.einsum("jkm,jlm->klm", np.einsum("fj,jkm->fkm", lams[f], s), a))
    return out


def _add_at(total, places, blocks):
    """Add blocks (q, q, nnz) to those of the levels they belong to."""
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            total[i, j] += np.bincount(places, blocks[i, j], minlength=total.shape[2])
