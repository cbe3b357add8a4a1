"""Deviance (ML) of the linear mixed model in theta and log sigma, with beta profiled out.

    log|S| + n log(2 pi sigma^2) + r^2(theta) / sigma^2 - sum log w

Profiles of standard deviations need sigma as a parameter: they are sigma times what theta says. Like the profiled
deviance it sees the cross-products only.
"""

from __future__ import annotations

import numpy as np

from sm_multilevel.objectives.gaussian import PerfectFitError
from sm_multilevel.objectives.linear import LinearObjective
from sm_multilevel.objectives.point import NOWHERE, Point
from sm_multilevel.objectives.slopes import covariance_slopes, curved_part

__all__ = ["JointGaussian"]


class JointGaussian:
    """The deviance as a function of theta (standardised columns) and log sigma.

    Parameters
    ----------
    objective : LinearObjective
        Of the full likelihood; of the restricted one the value, and its gradient, hold as well.
    """

    def __init__(self, objective: LinearObjective):
        self.objective = objective

    def optimum(self, theta: np.ndarray) -> np.ndarray:
        """theta with the log sigma that maximises the likelihood there."""
        return np.append(theta, 0.5 * np.log(self.objective.standard_state(theta).sigma2))

    def point(self, z: np.ndarray) -> Point:
        """Value, gradient and model Hessian at (theta, log sigma)."""
        theta, log_sigma = z[:-1], z[-1]
        if not (np.isfinite(z).all() and abs(log_sigma) < 300.0):
            return NOWHERE
        try:
            state = self.objective.standard_state(theta)
        except (np.linalg.LinAlgError, PerfectFitError):
            return NOWHERE
        n, sigma2 = state.deviance.df, np.exp(2.0 * log_sigma)
        value = state.value + n * (2.0 * log_sigma - np.log(state.sigma2) - 1.0) + state.rss / sigma2
        if not np.isfinite(value):
            return NOWHERE
        return Point(
            float(value),
            lambda: np.append(self._theta_gradient(state, sigma2), 2.0 * (n - state.rss / sigma2)),
            lambda: self._curvature(state, sigma2),
        )

    def _pull(self, state):
        """-d r^2 / d theta."""
        return self.objective.effects.chain([2.0 * e @ u.T for e, u in zip(state.e, state.modes, strict=True)])

    def _theta_gradient(self, state, sigma2):
        change = 1.0 / state.sigma2 - 1.0 / sigma2
        return self.objective.effects.chain(state.gammas) + change * self._pull(state)

    def _curvature(self, state, sigma2):
        """Average information with sigma not profiled out.

        The profiled model's second derivatives are taken apart: with q the products of the working variates, log|S|
        has about -q / s^2 (s^2 = r^2 / n) and r^2 has 2 q; where sigma is far above s they are kept positive.
        """
        basis, pull = self.objective.effects.basis, self._pull(state)
        k, s2 = len(basis), state.sigma2
        profiled = curved_part(basis, state.slopes())
        products = (state.curvature(basis) - profiled) * s2 + np.outer(pull, pull) / state.rss
        change = 1.0 / s2 - 1.0 / sigma2
        gammas = [
            gamma + 2.0 * change * e @ u.T for gamma, e, u in zip(state.gammas, state.e, state.modes, strict=True)
        ]
        curved = curved_part(basis, covariance_slopes(gammas, state.lams))
        out = np.empty((k + 1, k + 1))
        out[:k, :k] = products * max(2.0 / sigma2 - 1.0 / s2, 0.5 / sigma2) + curved
        out[:k, k] = out[k, :k] = 2.0 * pull / sigma2
        out[k, k] = 4.0 * state.rss / sigma2
        return 0.5 * (out + out.T)
