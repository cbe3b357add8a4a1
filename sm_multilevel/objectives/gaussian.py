"""Profiled deviance of the linear mixed model, ML and REML, with its exact gradient.

With V = Z Lambda Lambda' Z' + W^-1 (in units of sigma^2) and S = Lambda'Z'WZ Lambda + I,

    ML:    log|S| + n (1 + log(2 pi r^2 / n)) - sum log w
    REML:  log|S| + log|X'V^-1 X| + (n - p)(1 + log(2 pi r^2 / (n - p))) - sum log w

where r^2 is the penalised residual sum of squares at its minimum over beta and u (Bates,
Maechler, Bolker and Walker 2015, equations 34 and 41). Nothing here depends on the number
of rows. The gradient follows from E = Z'V^-1[X y]: see `GaussianState.gradient`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from sm_multilevel.linalg.cholesky import BlockCholesky
from sm_multilevel.linalg.small import congruence, level_gram
from sm_multilevel.objectives.crossprod import GaussianData
from sm_multilevel.objectives.slopes import covariance_slopes, curved_part, working_variates

__all__ = ["GaussianDeviance", "GaussianState", "PerfectFitError"]


# Least singular value of Lambda at which it is still inverted in the gradient.
_SMALL = 1e-3


class PerfectFitError(ValueError):
    """The model fits the response exactly: the residual variance is not identified."""


class GaussianDeviance:
    """The profiled deviance as a function of the factors' Lambdas.

    Parameters
    ----------
    data : GaussianData
    reml : bool
    """

    def __init__(self, data: GaussianData, reml: bool):
        self.data = data
        self.reml = reml
        self.df = data.nobs - data.p if reml else data.nobs

    def at(self, lams: list[np.ndarray]) -> GaussianState:
        """Solve the mixed-model equations for given Lambdas (standardised columns)."""
        return GaussianState(self, lams)


class GaussianState:
    """Solution of the mixed-model equations at one Lambda; derivatives on demand.

    Attributes
    ----------
    value : float
        Deviance, all constants included: -2 times the (restricted) log-likelihood.
    beta : ndarray, shape (p,)
        Fixed effects of the standardised columns.
    rss : float
        Penalised residual sum of squares r^2.
    sigma2 : float
        Profiled residual variance.
    """

    def __init__(self, deviance: GaussianDeviance, lams: list[np.ndarray]):
        data = deviance.data
        self.deviance, self.data, self.lams = deviance, data, lams
        p = data.p
        self.chol = BlockCholesky(data.zz.congruence(lams))
        right = [_apply(lam.T, b) for lam, b in zip(lams, data.zxy, strict=True)]
        self.u = self.chol.solve(right)  # S^-1 Lambda'Z'[X y]
        cross = data.xxy - sum(level_gram(c, u) for c, u in zip(right, self.u, strict=True))
        self.xvx = cross[:p, :p]
        # X'V^-1 X is p x p and well scaled: its inverse factor is wanted in several places.
        try:
            self.chol_x = np.linalg.cholesky(self.xvx)
        except np.linalg.LinAlgError as error:
            raise np.linalg.LinAlgError("X'V^-1 X is not positive definite") from error
        self.inv_chol_x = np.linalg.inv(self.chol_x)
        half = self.inv_chol_x @ cross[:p, p]
        self.beta = self.inv_chol_x.T @ half
        self.rss = float(cross[p, p] - half @ half)
        if not self.rss > 1e-14 * data.xxy[p, p] or self.rss <= 0:
            raise PerfectFitError(
                "The model fits the response exactly: no residual variance is left to estimate. Look for a predictor "
                "or a grouping factor that is computed from the response."
            )
        df = deviance.df
        self.sigma2 = self.rss / df
        value = self.chol.logdet + df * (1.0 + np.log(2.0 * np.pi * self.sigma2))
        if deviance.reml and p:
            value += 2.0 * np.log(np.diag(self.chol_x)).sum() - 2.0 * data.scaling.logdet
        self.value = float(value - data.log_weights)

    # -- derivatives ----------------------------------------------------------------

    @cached_property
    def residual_products(self) -> list[np.ndarray]:
        """E = Z'V^-1[X y], shape (q, m, p + 1) a factor; Lambda'E = u."""
        moved = self.data.zz.matvec([_apply(lam, u) for lam, u in zip(self.lams, self.u, strict=True)])
        return [b - a for b, a in zip(self.data.zxy, moved, strict=True)]

    @cached_property
    def e(self) -> list[np.ndarray]:
        """Z'V^-1(y - X beta), shape (q, m) a factor."""
        p = self.data.p
        return [x[:, :, p] - x[:, :, :p] @ self.beta for x in self.residual_products]

    @cached_property
    def modes(self) -> list[np.ndarray]:
        """Conditional modes of the spherical random effects, shape (q, m) a factor."""
        p = self.data.p
        return [u[:, :, p] - u[:, :, :p] @ self.beta for u in self.u]

    @cached_property
    def inverse(self):
        """S^-1 on the pattern of Z'Z."""
        return self.chol.inverse_on_pattern()

    @cached_property
    def whitened(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """E_X and u_X times the inverse factor of X'V^-1 X: their products carry M^-1."""
        p = self.data.p
        right = self.inv_chol_x.T
        return (
            [e[:, :, :p] @ right for e in self.residual_products],
            [u[:, :, :p] @ right for u in self.u],
        )

    @cached_property
    def gammas(self) -> list[np.ndarray]:
        """Derivative of the deviance in each factor's Lambda, shape (q, q).

        2 sum_i [Z'V^-1 Z Lambda]_ii - 2 (df / r^2) sum_i e_i u_i' and, under REML, minus
        2 sum_i E_i (X'V^-1 X)^-1 U_i'. The first needs S^-1 on the whole pattern of Z'Z.
        """
        lams = self.lams
        traces = self._traces()
        rate = self.deviance.df / self.rss
        gammas = []
        for f in range(len(lams)):
            gamma = 2.0 * traces[f].T - 2.0 * rate * (self.e[f] @ self.modes[f].T)
            if self.deviance.reml:
                ex, ux = self.whitened
                gamma -= 2.0 * np.einsum("imc,jmc->ij", ex[f], ux[f])
            gammas.append(gamma)
        return gammas

    def _traces(self) -> list[np.ndarray]:
        """Sum over levels of [S^-1 Lambda'Z'Z]_ii, shape (q, q) a factor.

        S^-1 Lambda'Z'Z Lambda = I - S^-1, so where every Lambda can be inverted the
        diagonal blocks of S^-1 are enough; near the boundary that loses digits, and the
        blocks between factors are used.
        """
        lams = self.lams
        if len(lams) > 1 and all(np.linalg.norm(lam, -2) > _SMALL for lam in lams):
            sums = self.chol.inverse_diagonal_sums()
            return [
                (m * np.eye(len(lam)) - s) @ np.linalg.inv(lam)
                for m, lam, s in zip(self.data.zz.layout.m, lams, sums, strict=True)
            ]
        return self.inverse.level_products(lams, self.data.zz)

    def slopes(self) -> list[np.ndarray]:
        """Derivative of the deviance in each factor's relative covariance G, where Lambda has full rank; (q, q)."""
        return covariance_slopes(self.gammas, self.lams)

    def curvature(self, basis) -> np.ndarray:
        """Average-information approximation of the Hessian in theta.

        (2 / sigma^2) times the products q_j'P q_k of the working variates
        q_j = dV/dtheta_j P y, less the rank-one term of the profiled sigma^2, plus the
        exact part that comes from the curvature of V (Gilmour, Thompson and Cullis 1995,
        equation 8, with their sigma^2 profiled out).

        Parameters
        ----------
        basis : sequence of (factor, ndarray of shape (q, q))
            dLambda/dtheta_j.
        """
        c = working_variates(basis, self.lams, self.e)
        ac = self.data.zz.matvec(c)
        low = [_apply(lam.T, a) for lam, a in zip(self.lams, ac, strict=True)]
        solved = self.chol.solve(low)
        products: Any = sum(level_gram(x, y) for x, y in zip(c, ac, strict=True))
        products -= sum(level_gram(x, y) for x, y in zip(low, solved, strict=True))
        if self.data.p:
            ex = self.whitened[0]
            cx = sum(np.einsum("qmk,qmp->kp", x, y) for x, y in zip(c, ex, strict=True))
            products -= cx @ cx.T
        ce = sum(np.einsum("qmk,qm->k", x, y) for x, y in zip(c, self.e, strict=True))
        hess = (products - np.outer(ce, ce) / self.rss) / self.sigma2 + curved_part(basis, self.slopes())
        return 0.5 * (hess + hess.T)

    # -- solution -------------------------------------------------------------------

    def cov_beta(self) -> np.ndarray:
        """Covariance of the user's fixed effects, sigma^2 (X'V^-1 X)^-1; shape (p, p)."""
        half = self.inv_chol_x @ self.data.scaling.map.T
        return self.sigma2 * (half.T @ half)

    def effects(self) -> list[np.ndarray]:
        """Conditional modes b of the user's columns, shape (q, m) a factor."""
        return [w @ lam @ u for w, lam, u in zip(self.data.maps, self.lams, self.modes, strict=True)]

    def effects_cov(self) -> list[np.ndarray]:
        """Covariance of b given y and beta, sigma^2 Lambda S^-1 Lambda'; (q, q, m)."""
        out = []
        for w, lam, s in zip(self.data.maps, self.lams, self.inverse.diag, strict=True):
            left = (w @ lam).T
            out.append(self.sigma2 * congruence(left, s, left))
        return out


def _apply(matrix, x):
    """A small matrix times every level's columns: (a, q), (q, m, c) -> (a, m, c)."""
    q, m, c = x.shape
    return (matrix @ x.reshape(q, m * c)).reshape(-1, m, c)
