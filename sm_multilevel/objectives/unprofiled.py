"""The linear mixed model's log-likelihood at any beta, sigma^2 and theta: its score."""

from __future__ import annotations

import numpy as np

__all__ = ["score"]


def score(objective, beta, sigma2, theta):
    """Gradient of the log-likelihood in (beta, sigma^2, theta).

    Parameters
    ----------
    objective : LinearObjective
    beta : ndarray, shape (p,)
    sigma2 : float
    theta : ndarray, shape (k,)

    Returns
    -------
    ndarray, shape (p + 1 + k,)
    """
    state = objective.state(theta)
    data, df = state.data, state.deviance.df
    used = np.linalg.solve(data.scaling.map, beta - data.scaling.start) if beta.size else beta
    if objective.reml:
        used = state.beta
    delta = state.beta - used
    pull = state.xvx @ delta
    rss = state.rss + delta @ pull
    d_beta = np.linalg.solve(data.scaling.map.T, pull) / sigma2 if beta.size else beta
    if objective.reml:
        d_beta = np.zeros_like(beta)
    d_sigma2 = -0.5 * df / sigma2 + 0.5 * rss / sigma2**2
    p = data.p
    gammas = []
    rate = df / state.rss
    for f, gamma in enumerate(state.gammas):
        e_opt, u_opt = state.e[f], state.modes[f]
        # The profiled gradient has the residual part at the optimum; put it where asked.
        e = state.residual_products[f][:, :, p] - state.residual_products[f][:, :, :p] @ used
        u = state.u[f][:, :, p] - state.u[f][:, :, :p] @ used
        fixed = gamma + 2.0 * rate * (e_opt @ u_opt.T) - 2.0 / sigma2 * (e @ u.T)
        gammas.append(objective._to_standard[f].T @ fixed)
    return np.concatenate([d_beta, [d_sigma2], -0.5 * objective.effects.chain(gammas)])
