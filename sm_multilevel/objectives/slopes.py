"""From derivatives in a factor's Lambda to those in its covariance G = Lambda Lambda', and on to theta.

A `basis` holds, of each theta_j, its factor and B_j = dLambda/dtheta_j, as `RandomEffects.basis`.
"""

from __future__ import annotations

import numpy as np

__all__ = ["covariance_moves", "covariance_slopes", "curved_part", "working_variates"]

_FLAT = 1e-13  # singular values relative to the largest that count as zero


def covariance_moves(basis, lams: list[np.ndarray]) -> list[tuple[int, np.ndarray]]:
    """Of each theta_j its factor and dG/dtheta_j = B_j Lambda' + Lambda B_j', shape (q, q)."""
    return [(f, b @ lams[f].T + lams[f] @ b.T) for f, b in basis]


def covariance_slopes(gammas: list[np.ndarray], lams: list[np.ndarray]) -> list[np.ndarray]:
    """The symmetric derivative Q in each G, from that in each Lambda, which is 2 Q Lambda; shape (q, q).

    What is outside of the range of Lambda is not seen here: where it counts, every Lambda must have full rank.
    """
    out = []
    for gamma, lam in zip(gammas, lams, strict=True):
        q = 0.5 * gamma @ _inverse(lam)
        out.append(0.5 * (q + q.T))
    return out


def _inverse(lam):
    """The inverse, or the generalised one of a Lambda without full rank."""
    try:
        inverse = np.linalg.inv(lam)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(lam, rcond=_FLAT)
    if np.abs(inverse).max() * np.abs(lam).max() * _FLAT > 1.0:
        return np.linalg.pinv(lam, rcond=_FLAT)
    return inverse


def curved_part(basis, slopes: list[np.ndarray]) -> np.ndarray:
    """Second derivatives in theta that come from the curvature of G: 2 tr(B_j' Q B_k) in the same factor; (k, k)."""
    out = np.zeros((len(basis), len(basis)))
    for f, slope in enumerate(slopes):
        here = [j for j, (g, _) in enumerate(basis) if g == f]
        b = np.stack([basis[j][1] for j in here])
        flat = b.reshape(len(here), -1)
        out[np.ix_(here, here)] = 2.0 * flat @ (slope @ b).reshape(len(here), -1).T
    return out


def working_variates(basis, lams: list[np.ndarray], e: list[np.ndarray]) -> list[np.ndarray]:
    """(dG/dtheta_j) e for e of shape (q, m) a factor; (q, m, k) a factor, zero for the theta of other factors."""
    out = [np.zeros((*part.shape, len(basis))) for part in e]
    for j, (f, move) in enumerate(covariance_moves(basis, lams)):
        out[f][:, :, j] = move @ e[f]
    return out
