"""The conditional modes: maximise log f(y | eta, psi) - u'u/2 over the spherical random effects.

A damped Newton method for all levels at once. Steps are judged in sum; where that fails,
by block (levels that never meet are solved apart), so that one hard group does not
shorten the steps of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from sm_multilevel.families.response import Local, Response
from sm_multilevel.linalg.cholesky import BlockCholesky, BlockMatrix
from sm_multilevel.linalg.small import level_gram
from sm_multilevel.objectives.rows import Rows

__all__ = ["Mode", "NoModeError", "find_mode"]

# A Newton step (in prior and in posterior standard deviations of u) that need not be taken any more.
TOLERANCE = 1e-11
_STALLED = 1e-7  # below it a step that does not shrink is rounding
_CLOSE = 1e-4  # and that is not judged by what it gains
_MAXITER = 200
_ATTEMPTS = 30  # steps towards a mode that only serves as a start
_EDGE = 1e-8  # a step as short as this, where Newton's is longer, is stopped by the edge of the domain
_FAR = 2.0  # prior standard deviations that a first-order prediction is good for
_LONGEST = 100.0  # and that a Newton step may have
_SHORTER, _TIMES = 0.3, 40  # how a step that does not gain is shortened, and how often


class NoModeError(ArithmeticError):
    """The penalised likelihood has no maximum that could be found from here."""


@dataclass(eq=False)
class Mode:
    """The maximum, and what was computed there.

    Attributes
    ----------
    rows : Rows
    response : Response
    beta : ndarray, shape (p,)
    psi : ndarray, shape (r,)
        Internal.
    lams : list of ndarray, shape (q, q)
    u : list of ndarray, shape (q, m)
    eta : ndarray, shape (n,)
    local : Local
    zz : BlockMatrix
        Z'DZ, with the observed information.
    chol : BlockCholesky
        Of H = Lambda'Z'DZ Lambda + I.
    value : float
        sum log f - u'u/2.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> mode = res.model.objective().state(res.record.theta_standard).mode
    >>> bool(abs(mode.lams[0] @ mode.u[0] - res.ranef().to_numpy().T).max() < 1e-6)
    True
    """

    rows: Rows
    response: Response
    beta: np.ndarray
    psi: np.ndarray
    lams: list[np.ndarray]
    u: list[np.ndarray]
    eta: np.ndarray
    local: Local
    zz: BlockMatrix
    chol: BlockCholesky
    value: float

    def release(self) -> None:
        """Let go of the rows' values but for those that a nearby mode is predicted from."""
        if not isinstance(self.local, _Kept):
            self.local = cast(Local, _Kept(self.response, self.eta, self.psi, self.local.info))

    @cached_property
    def score_sums(self) -> list[np.ndarray]:
        """Z's, shape (q, m) a factor."""
        return self.rows.collect(self.local.score)

    @cached_property
    def inverse(self) -> BlockMatrix:
        """H^-1 on the pattern."""
        return self.chol.inverse_on_pattern()

    @cached_property
    def border(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """X'DX and Lambda'Z'DX, the latter (q, m, p) a factor."""
        rows, d = self.rows, self.local.info
        p = rows.p
        xx = np.empty((p, p))
        low = [np.empty((lam.shape[0], u.shape[1], p)) for lam, u in zip(self.lams, self.u, strict=True)]
        for j in range(p):
            dx = d * rows.xt[j]
            xx[j] = rows.xt @ dx
            for out, lam, part in zip(low, self.lams, rows.collect(dx), strict=True):
                out[:, :, j] = lam.T @ part
        return 0.5 * (xx + xx.T), low

    @cached_property
    def border_solved(self) -> list[np.ndarray]:
        """H^-1 Lambda'Z'DX, shape (q, m, p) a factor."""
        return self.chol.solve(self.border[1])

    @cached_property
    def schur(self) -> np.ndarray:
        """X'DX - X'DZ Lambda H^-1 Lambda'Z'DX: the information on beta at given u's distribution."""
        xx, low = self.border
        return xx - _gram(low, self.border_solved)

    def predicted(self, beta, psi, lams) -> list[np.ndarray]:
        """The mode at nearby parameters, to first order; the old one where that goes too far to be believed."""
        rows = self.rows
        d_lam = [new - old for new, old in zip(lams, self.lams, strict=True)]
        shift = rows.spread([d @ u for d, u in zip(d_lam, self.u, strict=True)])
        if rows.p:
            shift += (beta - self.beta) @ rows.xt
        shift *= -self.local.info
        d_psi = psi - self.psi
        if d_psi.any():
            shift += self.local.psi_shift(d_psi)
        sums = rows.collect(shift)
        right = [
            (lam.T @ v + d.T @ s)[:, :, None]
            for lam, v, d, s in zip(self.lams, sums, d_lam, self.score_sums, strict=True)
        ]
        moves = self.chol.solve(right)
        if max(float(np.abs(du).max(initial=0.0)) for du in moves) > _FAR:
            return self.u
        return [u + du[:, :, 0] for u, du in zip(self.u, moves, strict=True)]


def find_mode(rows, response, beta, psi, lams, start=None, *, joint=False, tol=TOLERANCE, strict=True) -> Mode:
    """Find the mode of u, or of beta and u together.

    Parameters
    ----------
    rows : Rows
    response : Response
        Of the sorted rows.
    beta : ndarray, shape (p,)
        Where `joint`, a starting value.
    psi : ndarray, shape (r,)
    lams : list of ndarray, shape (q, q)
    start : list of ndarray, shape (q, m), optional
    joint : bool
        Maximise over beta too.
    tol : float
        Length of the last Newton step, in prior standard deviations of u.
    strict : bool
        Otherwise what was reached is returned where the maximum is not: a start for other methods.

    Returns
    -------
    Mode

    Raises
    ------
    NoModeError
        If the likelihood cannot be evaluated, or the observed information at the end is not positive definite.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> from sm_multilevel.objectives.modes import find_mode
    >>> known = res.model.objective().state(res.record.theta_standard).mode
    >>> mode = find_mode(known.rows, known.response, known.beta, known.psi, known.lams)
    >>> round(mode.value - known.value, 6)
    0.0
    """
    u = [np.zeros((lam.shape[0], m)) for lam, m in zip(lams, rows.layout.m, strict=True)] if start is None else start
    search = _Search(rows, response, psi, lams)
    beta = np.array(beta, dtype=float)
    fixed = rows.fixed(beta)
    here = search.at(fixed, u)
    if not np.isfinite(here.value) and start is not None:
        here = search.at(fixed, [np.zeros_like(v) for v in u])
    if not np.isfinite(here.value):
        raise NoModeError("the likelihood is not finite here")
    last, reached, settled = np.inf, None, False
    for _ in range(_MAXITER if strict else _ATTEMPTS):
        mode, step = search.newton(here, beta, joint)
        if settled or step.size < max(tol, step.noise) or (step.size < _STALLED and step.size > 0.5 * last):
            if not step.observed and strict:
                raise NoModeError("the observed information is not positive definite at the mode")
            return mode
        last = step.size
        # Rows' values of one point only are held at a time.
        here.local = None
        if not strict:
            mode.release()
            reached = mode
        del mode
        if step.beta is not None:
            found, part = search.joint_line(fixed, here, step.u, step.beta @ rows.xt)
            if found is not None:
                beta = beta + part * step.beta
                fixed = rows.fixed(beta)
        elif step.size < step.close:
            found = search.at(fixed, [v + s for v, s in zip(here.u, step.u, strict=True)])
            found = found if np.isfinite(found.value) else None
        else:
            found = search.line(fixed, here, step.u)
        if found is None:
            if reached is not None:
                return reached
            raise NoModeError("the penalised likelihood does not rise along Newton's direction")
        moved = max(float(np.abs(a - b).max(initial=0.0)) for a, b in zip(found.u, here.u, strict=True))
        if step.beta is None and strict and step.size > _STALLED and moved < min(_EDGE, 1e-4 * step.size):
            if search.outside:
                raise NoModeError("the mode lies at the edge of the link's domain")
            settled = True  # what is left of the step is rounding
        here = found
    if reached is not None:
        return reached
    raise NoModeError(f"the inner Newton method did not converge in {_MAXITER} steps")


class _Kept:
    """The information of the rows; other values are computed anew each time they are asked for."""

    def __init__(self, response, eta, psi, info):
        self.response, self.eta, self.psi, self.info = response, eta, psi, info

    def __getattr__(self, name):
        return getattr(self.response.at(self.eta, self.psi), name)


class _Expected:
    """Expected in place of observed information."""

    def __init__(self, local):
        self.info = local.expected_info
        self.score = local.score


@dataclass(eq=False)
class _Here:
    u: list[np.ndarray]
    eta: np.ndarray
    local: Any  # None once its rows' values are not needed any more
    value: float


@dataclass(frozen=True, eq=False)
class _Step:
    """Newton's step from a point.

    Attributes
    ----------
    u : list of ndarray, shape (q, m)
    beta : ndarray, shape (p,), or None
        Where beta is a mode too.
    observed : bool
        Whether the observed information is positive definite there; else the step is by the expected one.
    size : float
        Its length: the longest of the levels', in prior and in posterior standard deviations.
    noise : float
        As much of it is rounding of eta.
    close : float
        The size below which what a step gains, size^2 / 2, is lost in the rounding of the likelihood.
    """

    u: list[np.ndarray]
    beta: np.ndarray | None
    observed: bool
    size: float
    noise: float
    close: float


class _Search:
    """Evaluations of the penalised likelihood: at points, Newton's steps from them, and along these."""

    def __init__(self, rows, response, psi, lams):
        self.rows, self.response, self.psi, self.lams = rows, response, psi, lams
        self.outside = False  # whether the last line had points where the likelihood does not exist

    def at(self, fixed, u):
        eta = self.rows.spread([lam @ v for lam, v in zip(self.lams, u, strict=True)])
        eta += fixed
        local = self.response.at(eta, self.psi)
        value = float(local.logf.sum()) - 0.5 * sum(float(np.vdot(v, v)) for v in u)
        self.outside |= not np.isfinite(value)
        return _Here(u, eta, local, value)

    def newton(self, here, beta, joint) -> tuple[Mode, _Step]:
        """What a mode has, of this point, and the step that leads on."""
        rows, lams, local, observed = self.rows, self.lams, here.local, True
        zz = rows.gram(local.info)
        system = zz.congruence(lams)
        try:
            chol = BlockCholesky(system)
        except np.linalg.LinAlgError:
            observed = False
            chol = BlockCholesky(rows.gram(local.expected_info).congruence(lams))
        mode = Mode(rows, self.response, beta, self.psi, lams, here.u, here.eta, local, zz, chol, here.value)
        sums = mode.score_sums
        gradient = [(lam.T @ s - v)[:, :, None] for lam, s, v in zip(lams, sums, here.u, strict=True)]
        step = chol.solve(gradient)
        d_beta = None
        if joint and rows.p:
            if not observed:
                mode.local = cast(Local, _Expected(local))
            d_beta = _solve(mode.schur, rows.xt @ local.score - _cross(mode.border[1], step))
            step = [s - (c @ d_beta)[:, :, None] for s, c in zip(step, mode.border_solved, strict=True)]
        # Rows of much information need posterior standard deviations.
        size = max(float(np.abs(s).max(initial=0.0)) for s in step)
        gains = (float(np.einsum("qmi,qmi->m", a, s).max(initial=0.0)) for a, s in zip(gradient, step, strict=True))
        size = max(size, float(np.sqrt(max(*gains, 0.0))))
        if d_beta is not None:
            size = max(size, float(np.abs(d_beta).max()))
        sharp = max(float(np.einsum("iim->im", a).max(initial=0.0)) for a in system.diag)
        noise = 4e-16 * float(np.abs(here.eta).max(initial=0.0)) * np.sqrt(sharp)
        close = max(_CLOSE, min(0.1, 3.0 * np.sqrt(noise * np.sqrt(sharp))))
        return mode, _Step([s[:, :, 0] for s in step], d_beta, observed, size, noise, close)

    def line(self, fixed, here, step):
        """The full step if the sum rises by it, else steps of each block's own length."""
        self.outside = False
        longest = max(float(np.abs(s).max(initial=0.0)) for s in step)
        if longest > _LONGEST:  # where there is no curvature left
            step = self._shortened(step)
        there = self.at(fixed, [v + s for v, s in zip(here.u, step, strict=True)])
        if there.value >= here.value - 1e-13 * (1.0 + abs(here.value)):
            return there
        place = self.rows.blocks
        blocks = self._blocks(place)
        old = self._values(place, blocks, self.at(fixed, here.u))
        noise = 1e-12 * (1.0 + np.abs(old))
        part = np.ones(place.size)
        for _ in range(_TIMES):
            new = self._values(place, blocks, there)
            bad = ~(new >= old - noise)
            if not bad.any():
                return there
            part[bad] *= _SHORTER
            u = [v + s * part[b] for v, s, b in zip(here.u, step, blocks, strict=True)]
            there = self.at(fixed, u)
        part[bad] = 0.0
        if not part.any():
            return None
        return self.at(fixed, [v + s * part[b] for v, s, b in zip(here.u, step, blocks, strict=True)])

    def _shortened(self, step):
        place = self.rows.blocks
        blocks = self._blocks(place)
        size = np.zeros(place.size)
        for b, s in zip(blocks, step, strict=True):
            np.maximum.at(size, b, np.abs(s).max(axis=0))
        part = np.minimum(1.0, _LONGEST / np.maximum(size, _LONGEST))
        return [s * part[b] for s, b in zip(step, blocks, strict=True)]

    def joint_line(self, fixed, here, step, d_fixed):
        part = 1.0
        for _ in range(_TIMES):
            there = self.at(fixed + part * d_fixed, [v + part * s for v, s in zip(here.u, step, strict=True)])
            if there.value >= here.value - 1e-13 * (1.0 + abs(here.value)):
                return there, part
            part *= _SHORTER
        return None, 0.0

    def _blocks(self, place):
        """The block of every level."""
        out = []
        for level in self.rows.levels:
            block = np.zeros(level.size, dtype=np.intp)
            block[level.codes] = place.codes
            out.append(block)
        return out

    def _values(self, place, blocks, here):
        with np.errstate(invalid="ignore"):
            value = place.sum(here.local.logf)
        for b, v in zip(blocks, here.u, strict=True):
            value -= 0.5 * np.bincount(b, weights=np.sum(v * v, axis=0), minlength=place.size)
        return value


def _gram(a, b):
    """Sum over factors and levels of a'b: (q, m, c), (q, m, d) -> (c, d)."""
    return sum(level_gram(x, y) for x, y in zip(a, b, strict=True))


def _cross(a, b):
    return _gram(a, b)[:, 0]


def _solve(a, b):
    """Solution of a symmetric system that may be singular where predictors separate."""
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(a, hermitian=True) @ b
