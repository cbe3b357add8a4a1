"""Minimisers of a smooth function whose value, gradient and model Hessian come together.

`newton` is a trust-region Newton method on a model Hessian that the objective supplies
(average information), corrected by secant updates so that the last steps converge
superlinearly although the model is only approximate. Other methods are SciPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from sm_multilevel.objectives.point import Point

__all__ = ["METHODS", "NOISE", "Minimum", "newton", "next_radius", "secant_correction", "trust_region_step"]

# A deviance that falls by less than this cannot be told from rounding, relative to |f|.
NOISE = 4e-15
# Cosine of the angle between a step and what the model misses along it, from which a
# rank-one correction is used.
_ALIGNED = 0.3


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where a minimiser stopped, in its own words.

    Attributes
    ----------
    theta : ndarray
    value : float
    evaluations : int
    iterations : int
    message : str
    success : bool
        The minimiser's word; not what `converged` of a fit is.
    """

    theta: np.ndarray
    value: float
    evaluations: int
    iterations: int
    message: str
    success: bool


def trust_region_step(gradient, hessian, radius):
    """Minimiser of the quadratic model within a ball, and the model's decrease."""
    values, vectors = np.linalg.eigh(hessian)
    g = vectors.T @ gradient
    floor = 1e-12 * max(1.0, abs(values[-1]))

    def solve(shift):
        return -g / np.maximum(values + shift, floor)

    low = max(0.0, -values[0] + floor)
    s = solve(low)
    if values[0] > floor and np.linalg.norm(s) <= radius:
        shift = 0.0
    else:
        high = low + np.linalg.norm(g) / radius + floor
        for _ in range(60):  # the norm falls with the shift
            shift = 0.5 * (low + high)
            s = solve(shift)
            size = np.linalg.norm(s)
            if abs(size - radius) <= 0.05 * radius:
                break
            low, high = (shift, high) if size > radius else (low, shift)
    decrease = -(g @ s + 0.5 * s @ (values * s))
    return vectors @ s, float(decrease)


def next_radius(radius: float, ratio: float, step: np.ndarray) -> float:
    """The trust radius after a step that gained `ratio` of what the model promised.

    Steps shrink towards the optimum, and the radius with them: what the model still has wrong cannot throw a
    late step far away.
    """
    if ratio < 0.25:
        return 0.25 * float(np.linalg.norm(step))
    return 2.5 * float(np.linalg.norm(step)) if ratio > 0.75 else radius


def newton(
    function: Callable[[np.ndarray], Point],
    start: np.ndarray,
    *,
    tol: float = 1e-10,
    maxiter: int = 100,
    radius: float = 1.0,
    callback=None,
) -> Minimum:
    """Trust-region Newton method with a corrected model Hessian.

    Parameters
    ----------
    function : callable
        theta -> Point.
    start : ndarray, shape (k,)
    tol : float
        Stop where the model promises a smaller decrease than this (deviance units; a
        decrease of d is sqrt(d) standard errors of theta away).
    maxiter : int
        Most evaluations.
    radius : float
        First trust radius.
    callback : callable, optional
        Called with theta after each step that was taken.

    Returns
    -------
    Minimum
    """
    theta = np.array(start, dtype=float)
    here = function(theta)
    evaluations, iterations = 1, 0
    if not np.isfinite(here.value):
        return Minimum(theta, here.value, 1, 0, "the objective is not finite at the start", False)
    if theta.size == 0:
        return Minimum(theta, here.value, 1, 0, "nothing to estimate", True)
    first = _derivatives(here)
    if first is None:
        return Minimum(theta, np.inf, 1, 0, "the derivatives are not finite at the start", False)
    gradient, model = first
    correction = np.zeros_like(model)
    while evaluations < maxiter:
        step, promised = trust_region_step(gradient, model + correction, radius)
        if promised <= max(tol, NOISE * abs(here.value)):
            return Minimum(theta, here.value, evaluations, iterations, "converged", True)
        there = function(theta + step)
        evaluations += 1
        gained = here.value - there.value if np.isfinite(there.value) else -np.inf
        ratio = gained / promised
        radius = next_radius(radius, ratio, step)
        ahead = _derivatives(there) if ratio > 1e-4 else None
        if ahead is None:
            if ratio > 1e-4:  # a value without derivatives, at the edge of the domain
                radius = 0.25 * float(np.linalg.norm(step))
            if radius < (1e-12 * (1.0 + np.linalg.norm(theta)) if np.isfinite(there.value) else 1e-14):
                break
            continue
        new_gradient, new_model = ahead
        # The mean of both ends' models: the change of the model itself is no error of it.
        mean = 0.5 * (model + new_model)
        correction = secant_correction(correction, mean, step, new_gradient - gradient)
        theta, here, gradient, model = theta + step, there, new_gradient, new_model
        iterations += 1
        if callback is not None:
            callback(theta)
    message = "no further decrease" if evaluations < maxiter else "iteration limit reached"
    return Minimum(theta, here.value, evaluations, iterations, message, False)


def _derivatives(point: Point) -> tuple[np.ndarray, np.ndarray] | None:
    """Gradient and model Hessian; None where they are not finite."""
    gradient, model = point.gradient(), point.curvature()
    return (gradient, model) if np.isfinite(gradient).all() and np.isfinite(model).all() else None


def secant_correction(correction, model, step, change):
    """Least change of the correction with which (model + correction) step = change of gradient.

    Symmetric rank one where what is missing lies along the step, in the model's metric; a
    rank-one term in another direction would be as large as their angle is steep, so there
    Powell's symmetric Broyden update, weighted by the model (Dennis and Schnabel 1983, section 9.3).
    """
    residual = change - (model + correction) @ step
    along = residual @ step
    values, vectors = np.linalg.eigh(model)
    if not values[-1] > 0:
        return correction
    values = np.maximum(values, 1e-12 * values[-1])
    size_residual = np.sqrt(np.sum((vectors.T @ residual) ** 2 / values))
    size_step = np.sqrt(np.sum((vectors.T @ step) ** 2 * values))
    if size_residual == 0 or size_step == 0:
        return correction
    if abs(along) >= _ALIGNED * size_residual * size_step:
        return correction + np.outer(residual, residual) / along
    weight = vectors @ (values * (vectors.T @ step)) / size_step**2
    both = np.outer(residual, weight)
    return correction + both + both.T - along * np.outer(weight, weight)


def _scipy(name: str):
    """A SciPy minimiser behind the same call as `newton`."""

    def minimise(function, start, *, tol=1e-10, maxiter=1000, radius=1.0, callback=None):
        count = 0
        jac = name not in ("nelder-mead", "powell")

        def evaluate(theta):
            """The value, finite everywhere, with the gradient where the method uses it."""
            nonlocal count
            count += 1
            point = function(np.asarray(theta))
            exists = np.isfinite(point.value)
            value = point.value if exists else 1e300
            if not jac:
                return value
            return value, point.gradient() if exists else np.zeros_like(theta)

        options: dict = {"maxiter": maxiter}
        if name == "l-bfgs-b":
            options.update(ftol=1e-15, gtol=1e-9)
        elif name == "nelder-mead":
            options.update(xatol=1e-8, fatol=1e-10, maxfev=maxiter * 10)
        found = optimize.minimize(
            evaluate, start, jac=jac, method=name, options=options, callback=callback,
        )  # fmt: skip
        return Minimum(
            np.asarray(found.x), float(found.fun), count, int(found.get("nit", 0)),
            str(found.message), bool(found.success),
        )  # fmt: skip

    return minimise


# statsmodels' names for its optimisers, and ours; all take the same arguments.
METHODS = {
    "newton": newton,
    "lbfgs": _scipy("l-bfgs-b"),
    "bfgs": _scipy("bfgs"),
    "cg": _scipy("cg"),
    "powell": _scipy("powell"),
    "nm": _scipy("nelder-mead"),
}
