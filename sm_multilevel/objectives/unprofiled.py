"""The linear mixed model's log-likelihood at any beta, sigma^2 and theta: value, score and Hessian."""

from __future__ import annotations

import numpy as np

__all__ = ["hessian", "loglike", "score"]


def loglike(objective, beta, sigma2, theta):
    """Log-likelihood at any beta, sigma^2 and theta; the restricted one does not depend on beta.

    Parameters
    ----------
    objective : LinearObjective
    beta : ndarray, shape (p,)
    sigma2 : float
    theta : ndarray, shape (k,)

    Returns
    -------
    float
    """
    state = objective.state(theta)
    df, rss = state.deviance.df, state.rss
    if not objective.reml and beta.size:
        used = np.linalg.solve(state.data.scaling.map, state.data.scaling.beta(state.beta) - beta)
        rss = rss + used @ state.xvx @ used
    profiled = df * (1.0 + np.log(2 * np.pi * state.sigma2))
    value = state.value - profiled + df * np.log(2 * np.pi * sigma2) + rss / sigma2
    return float(-0.5 * value)


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
        gammas.append(objective.to_standard[f].T @ fixed)
    return np.concatenate([d_beta, [d_sigma2], -0.5 * objective.effects.chain(gammas)])


def hessian(objective, beta, sigma2, theta):
    """Hessian of the log-likelihood in (beta, sigma^2, theta), by central differences of the exact `score`.

    Steps are in units of what each parameter does to the data: standard errors of beta, parts of sigma^2, and
    for theta_j the size that gives its columns a variance of sigma^2.

    Returns
    -------
    ndarray, shape (p + 1 + k, p + 1 + k)
    """
    state = objective.state(theta)
    p = len(beta)
    steps = np.empty(p + 1 + len(theta))
    steps[:p] = np.sqrt(np.diag(state.cov_beta()) * sigma2 / state.sigma2)  # the score is linear in beta
    steps[p] = 1e-4 * sigma2
    at = p + 1
    for term in objective.effects.terms:
        gram = term.exog.T @ term.exog / len(term.exog)
        for b in term.covariance.basis(term.q):
            steps[at] = 1e-4 / np.sqrt(max(np.sum((gram @ b) * b), 1e-300))
            at += 1
    params = np.concatenate([beta, [sigma2], theta])
    rows = []
    for step in np.diag(steps):
        up, down = params + step, params - step
        difference = score(objective, up[:p], up[p], up[p + 1 :]) - score(objective, down[:p], down[p], down[p + 1 :])
        rows.append(difference / (2 * step.sum()))
    out = np.array(rows)
    return 0.5 * (out + out.T)
