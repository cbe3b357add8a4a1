"""The marginal likelihood of a response that is not normal, with its exact gradient.

The modes u and H are functions of the parameters, and so is what is integrated around
them. The gradient takes them backwards: from log L's derivatives in H and u (`Parts`) to
those in each row's linear predictor, and through the mode's own equation
Lambda'Z's = u (the implicit function theorem) to beta, psi and Lambda:

    t = c D',  c = diag(Z Lambda (dL/dH) Lambda'Z'),  D' = dD/d eta
    k = H^-1 (dL/du + Lambda'Z't),  r = Z Lambda k,  v = t - D r
    dL/d beta   = X'(dL/d eta + v)
    dL/d psi    = dL/d psi|u,H + c'dD/d psi + r'ds/d psi
    dL/d Lambda = dL/d Lambda|u,H + Z'v u' + Z's k' + 2 Z'DZ Lambda dL/dH

One solve with H, whatever the number of parameters, and whatever the integral. With
nAGQ=0 beta is a mode like u (`joint`): the system is bordered by X.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sm_multilevel.families.response import Response
from sm_multilevel.linalg.small import level_gram
from sm_multilevel.objectives.laplace import Integral, Parts, laplace
from sm_multilevel.objectives.modes import Mode, NoModeError, find_mode
from sm_multilevel.objectives.point import NOWHERE, Point, unwatched
from sm_multilevel.objectives.rows import Rows
from sm_multilevel.objectives.slopes import covariance_slopes, curved_part, working_variates
from sm_multilevel.objectives.space import JointSpace
from sm_multilevel.random_effects import RandomEffects

__all__ = ["Adjoint", "MarginalObjective", "MarginalState"]

_STEP = 1e-4  # difference step of the Hessian, in standard errors
_SHARP, _WIDE = 1e4, 1e-2  # information of a row from which a wider one is taken
_ROUGH = 1e-3  # precision of the modes that only serve to find a start


@dataclass(frozen=True, eq=False)
class Adjoint:
    """The module's c, k, r and v: of each row, but k of each level.

    Attributes
    ----------
    c, r, v : ndarray, shape (n,)
    k : list of ndarray, shape (q, m)
    """

    c: np.ndarray
    k: list[np.ndarray]
    r: np.ndarray
    v: np.ndarray


class MarginalState:
    """The likelihood at one point, and its derivatives on demand.

    Attributes
    ----------
    mode : Mode
    integral : Integral
    value : float
        Deviance, -2 log L with all constants.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> state = res.model.objective().state(res.record.theta_standard)
    >>> round(-0.5 * state.value, 4), bool(abs(state.gradient).max() < 1e-3)
    (-92.0263, True)
    """

    def __init__(self, mode: Mode, integrate: Callable[[Mode], Integral], basis, joint=False):
        self.mode, self.basis, self.joint = mode, basis, joint
        self.integral = integrate(mode)
        self.value = -2.0 * self.integral.value

    def adjoint(self, parts: Parts) -> Adjoint:
        """What the modes and H pass on of the derivatives in them."""
        mode = self.mode
        rows, local, lams = mode.rows, mode.local, mode.lams
        c = rows.quadratic(parts.h.congruence([lam.T for lam in lams], 0.0))
        t = c * local.info_slope
        pull = [lam.T @ v for lam, v in zip(lams, rows.collect(t), strict=True)]
        if parts.u is not None:
            pull = [a + b for a, b in zip(pull, parts.u, strict=True)]
        k = [x[:, :, 0] for x in mode.chol.solve([x[:, :, None] for x in pull])]
        if self.joint and rows.p:
            low = sum(np.einsum("qmp,qm->p", c, x) for c, x in zip(mode.border[1], k, strict=True))
            k_beta = np.linalg.solve(mode.schur, rows.xt @ t - low)
            k = [x - c @ k_beta for x, c in zip(k, mode.border_solved, strict=True)]
        r = rows.spread([lam @ x for lam, x in zip(lams, k, strict=True)])
        if self.joint and rows.p:
            r += k_beta @ rows.xt
        return Adjoint(c, k, r, t - local.info * r)

    @property
    def gradient(self) -> np.ndarray:
        """Of the deviance, in beta (unless it is part of the mode), psi and theta."""
        return self._derivatives[0]

    @property
    def gammas(self) -> list[np.ndarray]:
        """Derivative of the deviance in each factor's Lambda, shape (q, q)."""
        return self._derivatives[1]

    @cached_property
    def _derivatives(self) -> tuple[np.ndarray, list[np.ndarray]]:
        mode, parts = self.mode, self.integral.parts()
        rows, local, lams = mode.rows, mode.local, mode.lams
        back = self.adjoint(parts)
        g_beta = np.empty(0) if self.joint else rows.xt @ (parts.eta + back.v)
        g_psi = parts.psi
        if g_psi.size:
            g_psi = g_psi + local.psi_pull(None, back.r, back.c)
        products = parts.h.level_products(lams, mode.zz)
        gammas = [
            -2.0 * (direct + moved @ u.T + s @ x.T + 2.0 * product.T)
            for direct, moved, u, s, x, product in zip(
                parts.lams, rows.collect(back.v), mode.u, mode.score_sums, back.k, products, strict=True
            )
        ]
        g_theta = [np.sum(b * gammas[f]) for f, b in self.basis]
        return np.concatenate([-2.0 * g_beta, -2.0 * g_psi, g_theta]), gammas

    def slopes(self) -> list[np.ndarray]:
        """Derivative of the deviance in each factor's covariance G, where Lambda has full rank."""
        return covariance_slopes(self.gammas, self.mode.lams)

    @cached_property
    def curvature(self) -> np.ndarray:
        """Model Hessian of the deviance.

        For beta and psi that of the penalised likelihood with u profiled out; for theta the average information of
        the working response, as for a normal one.
        """
        mode = self.mode
        rows, local = mode.rows, mode.local
        p, r = rows.p, mode.psi.shape[0]
        k = len(self.basis)
        low = list(mode.border[1])
        head = np.zeros((p + r, p + r))
        head[:p, :p] = mode.border[0]
        if r:
            score_psi, psi_info = local.score_psi, local.psi_info
            extra = [
                np.stack([lam.T @ v for v in part], axis=-1)
                for lam, part in zip(mode.lams, rows.collect(score_psi), strict=True)
            ]
            low = [np.concatenate([a, -b], axis=2) for a, b in zip(low, extra, strict=True)]
            head[:p, p:] = -(rows.xt @ score_psi.T)
            head[p:, :p] = head[:p, p:].T
            head[p:, p:] = psi_info
        c = working_variates(self.basis, mode.lams, mode.score_sums)
        ac = mode.zz.matvec(c)
        low = [
            np.concatenate([a, np.einsum("ij,imk->jmk", lam, x)], axis=2)
            for a, lam, x in zip(low, mode.lams, ac, strict=True)
        ]
        solved = mode.chol.solve(low)
        out = np.zeros((p + r + k, p + r + k))
        out[: p + r, : p + r] = 2.0 * head
        for x, y in zip(c, ac, strict=True):
            out[p + r :, p + r :] += level_gram(x, y)
        for x, y in zip(low, solved, strict=True):
            both = level_gram(x, y)
            out[: p + r, : p + r] -= 2.0 * both[: p + r, : p + r]
            out[p + r :, p + r :] -= both[p + r :, p + r :]
        out[p + r :, p + r :] += curved_part(self.basis, self.slopes())
        if self.joint and p:
            out = out[p:, p:] - out[p:, :p] @ np.linalg.solve(out[:p, :p], out[:p, p:])
        return 0.5 * (out + out.T)


class MarginalObjective:
    """Deviance as a function of beta, psi and theta, in standardised columns.

    Parameters
    ----------
    rows : Rows
    response : Response
        Of the sorted rows.
    effects : RandomEffects
    space : JointSpace
    integrate : callable
        Mode -> Integral.
    joint : bool
        beta is a mode like u, and no parameter (nAGQ=0).

    Attributes
    ----------
    first : ndarray or None
        Where a better start is known.
    watch : callable
        Called with each deviance that has been worked out.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> objective = res.model.objective(nAGQ=1)
    >>> round(-0.5 * objective.user_state(res.params, [], res.theta).value, 4)
    -92.0263
    """

    def __init__(
        self,
        rows: Rows,
        response: Response,
        effects: RandomEffects,
        space: JointSpace,
        integrate: Callable[[Mode], Integral] = laplace,
        joint: bool = False,
    ):
        self.joint = joint
        self.rows, self.response, self.effects, self.space = rows, response, effects, space
        self.integrate = integrate
        self.first: np.ndarray | None = None
        self.watch: Callable[[float], None] = unwatched
        self._maps = effects.factor_standardizers
        self._recent: list[tuple[bytes, np.ndarray, MarginalState]] = []
        self._start_u: list[np.ndarray] | None = None
        self._start_beta = np.zeros(rows.p)

    def state(self, z: np.ndarray) -> MarginalState:
        """The likelihood at a point; the last two are kept.

        Raises
        ------
        NoModeError
            Where it does not exist.
        """
        beta, psi, theta = self.space.parts(z)
        return self._at(beta, psi, theta, self.effects.lambdas(theta))

    def _at(self, beta, psi, theta, lams) -> MarginalState:
        z = np.concatenate([beta, psi, theta])
        if not np.isfinite(z).all():
            raise NoModeError("parameters outside of their space")
        key = z.tobytes()
        for known, _, state in self._recent:
            if known == key:
                return state
        start = self._start_u
        if self.joint:
            beta = self._start_beta
        if self._recent:
            near = min(self._recent, key=lambda known: float(np.abs(known[1] - z).max(initial=0.0)))[2].mode
            if self.joint:
                beta = near.beta
            start = near.predicted(beta, psi, lams)
            for _, _, known_state in self._recent:
                known_state.mode.release()
        mode = find_mode(self.rows, self.response, beta, psi, lams, start, joint=self.joint)
        state = MarginalState(mode, self.integrate, self.effects.basis, self.joint)
        self._recent = [(key, z, state), *self._recent[:1]]
        self.watch(state.value)
        return state

    def follow(self, other: MarginalObjective) -> None:
        """Start where another objective of the same model has got to."""
        self.first, self._start_u, self._start_beta = other.first, other._start_u, other._start_beta
        self.watch = other.watch
        if other._recent:
            self._start_u = other._recent[0][2].mode.u

    # -- the user's columns -------------------------------------------------------------

    def user_state(self, beta, psi, theta) -> MarginalState:
        """The likelihood at the user's beta, natural psi and theta."""
        beta, psi = self.space.head_from_user(np.asarray(beta, float), np.asarray(psi, float))
        theta = np.asarray(theta, float)
        self._recent = []
        if not self._is_rotated:
            lams = [np.linalg.solve(w, lam) for w, lam in zip(self._maps, self.effects.lambdas(theta), strict=True)]
            return self._at(beta, psi, theta, lams)
        theta = self.effects.from_user(theta)
        return self._at(beta, psi, theta, self.effects.lambdas(theta))

    @property
    def _is_rotated(self) -> bool:
        """Whether log L depends on which root Lambda of the covariance is taken: a grid of nodes has directions.

        Then the root is that of the standardised columns, so that units and origins do not matter.
        """
        return self.integrate is not laplace

    def user_gradient(self, beta, psi, theta) -> np.ndarray:
        """Gradient of the deviance there, in the user's parameters."""
        state = self.user_state(beta, psi, theta)
        head = self.space.head
        z = np.concatenate([state.mode.beta, state.mode.psi, theta])
        g_head = np.linalg.solve(self.space.head_jacobian(z).T, state.gradient[:head])
        if self._is_rotated:
            g_theta = state.gradient[head:] @ _jacobian(self.effects.from_user, np.asarray(theta, float))
        else:
            gammas = [np.linalg.solve(w.T, g) for w, g in zip(self._maps, state.gammas, strict=True)]
            g_theta = self.effects.chain(gammas)
        return np.concatenate([g_head, g_theta])

    def user_steps(self, beta, psi, theta) -> np.ndarray:
        """Difference steps in the user's parameters: parts of their standard errors."""
        space = self.space
        z = space.from_user(np.concatenate([beta, psi, theta]))
        sizes = np.sqrt(2.0 / np.maximum(np.diag(self.state(z).curvature), 1e-4))
        head = np.sqrt((space.head_jacobian(z) ** 2) @ sizes[: space.head] ** 2)
        scale = [np.abs(b).sum() * np.linalg.norm(self._maps[f], 2) for f, b in self.effects.basis]
        return 1e-4 * np.concatenate([head, np.array(scale) * np.minimum(sizes[space.head :], 1.0)])

    # -- standardised columns: what the optimiser sees ------------------------------------

    def point(self, z) -> Point:
        """Value, gradient and model Hessian."""
        try:
            state = self.state(z)
        except (NoModeError, np.linalg.LinAlgError):
            return NOWHERE
        if not np.isfinite(state.value):
            return NOWHERE
        return Point(state.value, lambda: state.gradient, lambda: state.curvature)

    def slopes(self, z) -> list[np.ndarray]:
        """Derivative of the deviance in each term's covariance, at a point without null spaces."""
        return self.effects.blocks(self.state(z).slopes())

    def steps(self, z) -> list[tuple[float, float]]:
        """Steps of the differences that make the Hessian: parts of the standard errors.

        One-sided for beta and psi; central for theta, in which the deviance is far from quadratic near a boundary.
        """
        state = self.state(z)
        errors = np.sqrt(2.0 / np.maximum(np.diag(state.curvature), 1e-4))
        if float(state.mode.local.info.max(initial=0.0)) > _SHARP:
            # Rounding of eta is a large part of a small step there, and the deviance nearly quadratic.
            return [(step, -step) for step in np.clip(_WIDE * errors, 1e-9, 1e-2)]
        sizes, head = np.clip(_STEP * errors, 1e-9, 1e-3), self.space.head
        return [(step, 0.0 if j < head else -step) for j, step in enumerate(sizes)]

    def start(self) -> np.ndarray:
        """Starting point: `first`, or a regression without random effects and variances by moments."""
        if self.first is not None:
            return self.first
        rows, response, effects = self.rows, self.response, self.effects
        zeros = [np.zeros((f.q, f.q)) for f in effects.factors]
        psi = response.start_psi(response.start_eta())
        beta = self._first_beta(psi)
        for _ in range(3 if response.n_psi else 1):
            mode = find_mode(rows, response, beta, psi, zeros, joint=True, tol=_ROUGH, strict=False)
            beta, old = mode.beta, psi
            psi = response.start_psi(mode.eta)
            if not response.n_psi or np.abs(psi - old).max() < 0.1:
                break
        theta = self._moments(mode)
        lams = effects.lambdas(theta)
        mode = find_mode(rows, response, beta, psi, lams, joint=True, tol=_ROUGH, strict=False)
        if response.n_psi:  # what the random effects explain was taken for dispersion so far
            psi = response.start_psi(mode.eta)
            mode = find_mode(rows, response, mode.beta, psi, lams, mode.u, joint=True, tol=_ROUGH, strict=False)
        self._start_u, self._start_beta = mode.u, mode.beta
        return np.concatenate([np.empty(0) if self.joint else mode.beta, psi, theta])

    def _first_beta(self, psi) -> np.ndarray:
        """Least squares of the starting linear predictor, or zero where that leaves the link's domain."""
        rows = self.rows
        if rows.p == 0:
            return np.zeros(0)
        eta = self.response.start_eta()
        target = eta if rows.offset is None else eta - rows.offset
        beta = np.linalg.pinv(rows.xt @ rows.xt.T, hermitian=True) @ (rows.xt @ target)
        if np.isfinite(self.response.at(rows.fixed(beta), psi).logf).all():
            return beta
        level = np.linalg.lstsq(rows.xt.T, np.full(rows.n, float(np.median(target))), rcond=None)[0]
        return level

    def _moments(self, mode: Mode) -> np.ndarray:
        """Each column's variance as if it were the only one, from e = Z's and a = diag(Z'DZ) without random effects.

        The variance of e is a + a^2 g.
        """
        blocks = []
        for diag, e in zip(mode.zz.diag, mode.score_sums, strict=True):
            a = np.maximum(np.einsum("iim->im", diag), 0.0)
            ratio = np.divide(e * e, a, out=np.zeros_like(e), where=a > 0)
            g = (ratio.sum(axis=1) - (a > 0).sum(axis=1)) / np.maximum(a.sum(axis=1), 1e-300)
            blocks.append(np.diag(np.clip(g, 0.1**2, 2.0**2)))
        return self.effects.from_blocks(blocks)


def _jacobian(function, x):
    """Derivative of a smooth map between vectors, by central differences."""
    columns = []
    for j in range(len(x)):
        step = np.zeros(len(x))
        step[j] = 1e-6 * max(1.0, abs(x[j]))
        columns.append((function(x + step) - function(x - step)) / (2.0 * step[j]))
    return np.array(columns).T
