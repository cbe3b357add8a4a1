"""Minimise an objective on a surface: the inner problem of a profile likelihood.

min f(z) subject to c(z) = 0, by Newton steps on the tangent space of the surface with the Hessian of the Lagrangian
f - lambda'c, each followed by a way back onto the surface (Nocedal and Wright 2006, sections 12.3 and 18.1). The
multiplier lambda is the derivative of the profiled objective in the constraint's value. Points stay on the surface, so
that objective values can be compared as in unconstrained minimisation, and steps are judged as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sm_multilevel.estimation.minimize import NOISE, next_radius, secant_correction, trust_region_step
from sm_multilevel.objectives.point import Point

__all__ = ["ConstrainedMinimum", "Surface", "SurfacePoint", "minimize_on"]

_ON = 1e-13  # distance from the surface, in units of z, that counts as none
_SETTLED = 1e-8  # a decrease of the objective that is left at the end without harm


@dataclass(frozen=True, eq=False)
class SurfacePoint:
    """The constraint at one z.

    Attributes
    ----------
    value : ndarray, shape (m,)
        Zero on the surface.
    jacobian : ndarray, shape (m, k)
    curvature : callable (ndarray of shape (m,)) -> ndarray of shape (k, k)
        Weighted sum of the Hessians of the constraints, or a model of it.
    """

    value: np.ndarray
    jacobian: np.ndarray
    curvature: Callable[[np.ndarray], np.ndarray]


Surface = Callable[[np.ndarray], SurfacePoint]


@dataclass(frozen=True, eq=False)
class ConstrainedMinimum:
    """Where the search ended.

    Attributes
    ----------
    z : ndarray, shape (k,)
    value : float
    multiplier : ndarray, shape (m,)
        Derivative of the minimum in the constraints' values.
    tangent : ndarray, shape (k, m)
        Derivative of z in them.
    kkt : float
        Distance to the minimum on the surface, in standard errors: sqrt(g'H^-1 g / 2) on the tangent space.
    evaluations : int
    reason : str
        Empty where the conditions for a minimum hold.
    """

    z: np.ndarray
    value: float
    multiplier: np.ndarray
    tangent: np.ndarray
    kkt: float
    evaluations: int
    reason: str

    @property
    def converged(self) -> bool:
        return not self.reason


def minimize_on(
    function: Callable[[np.ndarray], Point],
    surface: Surface,
    start: np.ndarray,
    *,
    tol: float = 1e-10,
    maxiter: int = 80,
    radius: float = 1.0,
) -> ConstrainedMinimum:
    """Minimise an objective subject to equality constraints.

    Parameters
    ----------
    function : callable
        z -> Point, with exact gradient and a model Hessian.
    surface : callable
        z -> SurfacePoint.
    start : ndarray, shape (k,)
        Need not lie on the surface.
    tol : float
        Stop where the model promises a smaller decrease.
    maxiter : int
        Most evaluations.
    radius : float
        First trust radius.

    Returns
    -------
    ConstrainedMinimum
    """
    first = _onto(surface, np.array(start, dtype=float))
    if first is None:
        return _nowhere(start, "no point with this value was found")
    z = first
    here = function(z)
    evaluations = 1
    if not np.isfinite(here.value):
        return _nowhere(z, "the likelihood does not exist there")
    level, gradient, model = surface(z), here.gradient(), here.curvature()
    correction = np.zeros_like(model)
    while True:
        local = _Tangent(level, gradient, model + correction)
        step, promised = local.step(radius)
        if promised <= max(tol, NOISE * abs(here.value)) or evaluations >= maxiter or radius < 1e-13:
            return local.minimum(z, here.value, evaluations)
        ahead = _onto(surface, z + step)
        there = None if ahead is None else function(ahead)
        evaluations += 1
        gained = here.value - there.value if there is not None and np.isfinite(there.value) else -np.inf
        ratio = gained / promised
        radius = next_radius(radius, ratio, step)
        if ratio > 1e-4 and there is not None and ahead is not None:
            new_level, new_gradient, new_model = surface(ahead), there.gradient(), there.curvature()
            # Of the Lagrangian: what the constraints' Hessians have wrong is learnt too.
            multiplier = _multiplier(new_level.jacobian, new_gradient)
            mean = 0.5 * (model + new_model - level.curvature(multiplier) - new_level.curvature(multiplier))
            change = new_gradient - gradient - (new_level.jacobian - level.jacobian).T @ multiplier
            correction = secant_correction(correction, mean, ahead - z, change)
            z, here, level, gradient, model = ahead, there, new_level, new_gradient, new_model


def _multiplier(jacobian, gradient):
    """Least-squares solution of jacobian' lambda = gradient."""
    return np.linalg.lstsq(jacobian.T, gradient, rcond=None)[0] if len(jacobian) else np.zeros(0)


class _Tangent:
    """The quadratic problem on the tangent space at one point of the surface."""

    def __init__(self, level: SurfacePoint, gradient, hessian):
        m, k = level.jacobian.shape
        self.level, self.gradient, self.hessian = level, gradient, hessian
        self.multiplier, self.tangents = np.zeros(m), np.eye(k)
        if m:
            q, r = np.linalg.qr(level.jacobian.T, mode="complete")
            self.multiplier = np.linalg.solve(r[:m], q[:, :m].T @ gradient)
            self.tangents = q[:, m:]
            self.hessian = hessian - level.curvature(self.multiplier)
        self.inside = self.tangents.T @ self.hessian @ self.tangents
        self.slope = self.tangents.T @ gradient

    def step(self, radius):
        if not self.slope.size:
            return np.zeros_like(self.gradient), 0.0
        step, promised = trust_region_step(self.slope, self.inside, radius)
        return self.tangents @ step, promised

    def minimum(self, z, value, evaluations) -> ConstrainedMinimum:
        left = 0.0
        if self.slope.size:
            values, vectors = np.linalg.eigh(self.inside)
            usable = np.maximum(values, 1e-8 * max(abs(values[-1]), 1e-300))
            left = float(np.sum((vectors.T @ self.slope) ** 2 / usable))
        kkt = float(np.sqrt(0.5 * left))
        settled = left <= max(_SETTLED, 100.0 * NOISE * abs(value))
        reason = "" if settled else f"about {kkt:.2g} standard errors are left to the minimum"
        return ConstrainedMinimum(z, value, self.multiplier, self._tangent(), kkt, evaluations, reason)

    def _tangent(self):
        """Derivative of the minimum in the constraints' values, from the linearised conditions."""
        jacobian = self.level.jacobian
        m, k = jacobian.shape
        if not m:
            return np.zeros((k, 0))
        whole = np.zeros((k + m, k + m))
        whole[:k, :k] = self.hessian
        whole[:k, k:] = jacobian.T
        whole[k:, :k] = jacobian
        size = np.ones(k + m)
        size[k:] = 1.0 / np.maximum(np.linalg.norm(jacobian, axis=1), 1e-300)
        right = np.vstack([np.zeros((k, m)), np.diag(size[k:])])
        return np.linalg.lstsq(whole * np.outer(size, size), right, rcond=1e-9)[0][:k]


def _onto(surface: Surface, z: np.ndarray) -> np.ndarray | None:
    """The surface's point near z, by Newton steps of least length; None where that fails."""
    last = np.inf
    for _ in range(50):
        level = surface(z)
        if not len(level.value):
            return z
        size = np.linalg.norm(level.jacobian, axis=1)
        if not (np.isfinite(level.value).all() and np.isfinite(size).all() and size.all()):
            return None
        gap = level.value / size
        distance = float(np.abs(gap).max())
        if distance <= _ON * (1.0 + float(np.abs(z).max())) or (distance < 1e-9 and distance >= 0.5 * last):
            return z
        last = distance
        jacobian = level.jacobian / size[:, None]
        step = jacobian.T @ np.linalg.lstsq(jacobian @ jacobian.T, gap, rcond=None)[0]
        length = float(np.linalg.norm(step))
        z = z - step * min(1.0, (1.0 + float(np.abs(z).max())) / length)
    return None


def _nowhere(z, reason) -> ConstrainedMinimum:
    nothing = np.full((len(z), 1), np.nan)
    return ConstrainedMinimum(np.asarray(z), np.inf, nothing[:1, 0], nothing, np.inf, 0, reason)
