"""The covariance of beta and psi from the joint observed information, boundaries held fixed."""

from __future__ import annotations

import numpy as np

__all__ = ["covariance_beside", "joint_covariance"]

# Eigenvalues of the information, relative to its diagonal, that count as zero: at a singular
# covariance some directions of theta are the same covariance.
_FLAT = 1e-9
_NEGATIVE = -1e-6  # and an eigenvalue below which the point is no maximum
_SHARE = 1e-3  # of a parameter in such a direction, from which on it has no standard error


def joint_covariance(hessian: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Inverse of the observed information of beta, psi and theta.

    Parameters
    ----------
    hessian : ndarray, shape (k, k)
        Of the deviance, -2 log L.
    fixed : ndarray of bool, shape (k,)
        Elements at the boundary: held where they are, with NaN for their own variances.

    Returns
    -------
    ndarray, shape (k, k)
        NaN for the fixed elements, for those in a direction without information, and everywhere
        if the information is not positive semidefinite.
    """
    out = np.full(hessian.shape, np.nan)
    free = np.flatnonzero(~fixed)
    info = 0.5 * hessian[np.ix_(free, free)]
    if not np.isfinite(info).all():
        return out
    size = np.sqrt(np.abs(np.diag(info)))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(info / np.outer(size, size))
    if values.size and values[0] < _NEGATIVE:
        return out
    keep = values > _FLAT
    half = vectors[:, keep] / np.sqrt(values[keep]) / size[:, None]
    inverse = half @ half.T
    # What can move without a change of the likelihood has no standard error.
    lost = (np.abs(vectors[:, ~keep]) > _SHARE).any(axis=1)
    inverse[lost, :] = inverse[:, lost] = np.nan
    out[np.ix_(free, free)] = inverse
    return out


def covariance_beside(hessian: np.ndarray, jacobian: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Covariance of the user's beta and psi where some of them are infinite: these held where they are.

    In the user's parameters, because centring mixes a separated column into the intercept.

    Parameters
    ----------
    hessian : ndarray, shape (k, k)
        Of the deviance in beta, psi and theta, standardised columns.
    jacobian : ndarray, shape (h, h)
        Of the user's beta and psi by those.
    held : ndarray of bool, shape (k,)

    Returns
    -------
    ndarray, shape (h, h)
        NaN for what is held.
    """
    head = len(jacobian)
    back = np.eye(len(hessian))
    # Where alpha is zero its derivative is too; it is held.
    back[:head, :head] = np.linalg.inv(jacobian + np.diag(np.diag(jacobian) == 0.0))
    return joint_covariance(back.T @ hessian @ back, held)[:head, :head]
