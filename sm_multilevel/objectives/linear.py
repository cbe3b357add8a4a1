"""The linear mixed model's objective: theta in, deviance and gradient out.

Two coordinates of theta exist. Users and results speak of their own columns; the
optimiser works in standardised columns, where all elements are of order one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sm_multilevel.objectives.crossprod import GaussianData
from sm_multilevel.objectives.gaussian import GaussianDeviance, GaussianState
from sm_multilevel.objectives.point import NOWHERE, Point, unwatched
from sm_multilevel.objectives.space import ThetaSpace
from sm_multilevel.random_effects import RandomEffects

__all__ = ["LinearObjective"]

_STEP = 1e-4  # difference step for the Hessian


class LinearObjective:
    """Profiled ML or REML deviance of a linear mixed model.

    Call it with theta to get the deviance (-2 log-likelihood, all constants included).

    Parameters
    ----------
    data : GaussianData
        Cross-products; build them with `cross_products`.
    effects : RandomEffects
        The random terms.
    reml : bool
        Restricted likelihood or full likelihood.

    Attributes
    ----------
    to_standard : list of ndarray, shape (q, q)
        Of each factor: what takes Lambda of the user's columns to that of the standardised ones.
    watch : callable
        Called with each deviance that has been worked out.

    Notes
    -----
    theta holds the random terms in formula order; of each the relative Cholesky factor
    Lambda (in units of the residual standard deviation), its lower triangle column by
    column (Bates et al. 2015, equation 4). Elements of Lambda's diagonal may have any
    sign: only Lambda Lambda' matters.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> objective = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).objective(reml=True)
    >>> deviance, gradient = objective.value_and_gradient([1.0])
    >>> round(deviance, 3), gradient.shape
    (1787.399, (1,))
    """

    def __init__(self, data: GaussianData, effects: RandomEffects, reml: bool):
        self.effects = effects
        self.space = ThetaSpace(effects)
        self.deviance = GaussianDeviance(data, reml)
        self.watch: Callable[[float], None] = unwatched
        self._recent: list[tuple[bytes, GaussianState]] = []
        self.to_standard = [np.linalg.inv(w) for w in effects.factor_standardizers]

    @property
    def reml(self) -> bool:
        return self.deviance.reml

    @property
    def n_params(self) -> int:
        """Length of theta."""
        return self.effects.n_params

    # -- the user's columns -----------------------------------------------------------

    def state(self, theta) -> GaussianState:
        """Solution of the mixed-model equations at theta (the user's columns)."""
        theta = self._check(theta)
        lams = self.effects.lambdas(theta)
        return self.deviance.at([w @ lam for w, lam in zip(self.to_standard, lams, strict=True)])

    def __call__(self, theta) -> float:
        return self.state(theta).value

    def value_and_gradient(self, theta) -> tuple[float, np.ndarray]:
        """Deviance and its exact gradient in theta.

        Parameters
        ----------
        theta : array_like, shape (k,)

        Returns
        -------
        float, ndarray of shape (k,)

        Raises
        ------
        ValueError
            If theta has another length or is not finite.
        """
        state = self.state(theta)
        gammas = [w.T @ g for w, g in zip(self.to_standard, state.gammas, strict=True)]
        return state.value, self.effects.chain(gammas)

    def _check(self, theta):
        theta = np.asarray(theta, dtype=float)
        if theta.shape != (self.n_params,):
            raise ValueError(
                f"theta has shape {theta.shape}, but this model has {self.n_params} "
                "elements of theta (terms in formula order, each Lambda's lower triangle "
                "column by column)."
            )
        if not np.isfinite(theta).all():
            raise ValueError("theta has elements that are not finite; give finite numbers, as in result.theta.")
        return theta

    # -- standardised columns: what the optimiser sees --------------------------------

    def standard_state(self, theta) -> GaussianState:
        """The equations solved at theta; the last two solutions are kept.

        The optimiser, the check of its end point and the results ask for the same points.
        """
        key = theta.tobytes()
        for known, state in self._recent:
            if known == key:
                return state
        state = self.deviance.at(self.effects.lambdas(theta))
        self._recent = [(key, state), *self._recent[:1]]
        self.watch(state.value)
        return state

    def point(self, theta) -> Point:
        """Value, gradient and model Hessian in standardised columns."""
        try:
            state = self.standard_state(theta)
        except np.linalg.LinAlgError:
            return NOWHERE
        return Point(
            state.value,
            lambda: self.effects.chain(state.gammas),
            lambda: state.curvature(self.effects.basis),
        )

    def steps(self, theta) -> list[tuple[float, float]]:
        """Steps of the differences that make the Hessian: all elements are of order one here."""
        return [(_STEP, 0.0)] * len(theta)

    def slopes(self, theta) -> list[np.ndarray]:
        """Derivative of the deviance in each term's G, at a theta without a null space."""
        return self.effects.blocks(self.standard_state(theta).slopes())

    def start(self) -> np.ndarray:
        """Starting theta, standardised columns.

        Moment estimates where the random effects are small beside the residual. Where they
        are not, the residual variance is overestimated by moments, and one EM step from a
        Lambda that is too large is far closer. Local optima are rare but exist, as with a
        random slope without an intercept: a plain start is taken where its deviance is lower.
        """
        theta = self._moments()
        unit = self.effects.map_terms(theta, lambda i, term, _: term.covariance.from_covariance(np.eye(term.q)))
        if theta.size and np.abs(theta).max() > 0.9:
            theta = self._from_above(unit)
        plain = (4.0 * unit,) if theta.size < 2 else (unit, 10.0 * unit)
        return min((theta, *plain), key=lambda start: self.point(start).value)

    def _from_above(self, unit) -> np.ndarray:
        """An EM step from a Lambda so large that the step makes it smaller."""
        for size in (3.0, 10.0, 30.0):
            theta = self._em_step(size * unit)
            if np.abs(theta).max() < size:
                break
        return theta

    def _em_step(self, theta) -> np.ndarray:
        """One EM step: G from the expected products of the random effects."""
        state = self.standard_state(theta)
        blocks = []
        for lam, u, cov, m in zip(
            state.lams, state.modes, state.chol.inverse_diagonal_sums(), self.effects.layout.m, strict=True
        ):
            blocks.append(lam @ (u @ u.T / state.sigma2 + cov) @ lam.T / m)
        return self.effects.from_blocks(blocks)

    def _moments(self) -> np.ndarray:
        """Each column's variance from sum e^2 / a, as if it were the only one.

        e = Z'(y - X beta) of least squares and a = diag(Z'Z).
        """
        data = self.deviance.data
        p = data.p
        beta = np.linalg.pinv(data.xxy[:p, :p], hermitian=True) @ data.xxy[:p, p]
        rss = data.xxy[p, p] - data.xxy[p, :p] @ beta
        total = rss / data.nobs
        variances = []
        for diag, zxy in zip(data.zz.diag, data.zxy, strict=True):
            e = zxy[:, :, p] - zxy[:, :, :p] @ beta
            a = np.einsum("iim->im", diag)
            ratio = np.divide(e * e, a, out=np.zeros_like(e), where=a > 0)
            excess = ratio.sum(axis=1) - (a > 0).sum(axis=1) * total
            variances.append(np.maximum(excess, 0.0) / np.maximum(a.sum(axis=1), 1e-300))
        left = max(total - sum(v.sum() for v in variances), 0.1 * total)
        return self.effects.from_blocks([np.diag(np.clip(v / left, 0.05**2, 10.0**2)) for v in variances])
