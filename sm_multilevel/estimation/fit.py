"""From an objective to a checked optimum.

The optimiser's word is not taken: at its end point the KKT conditions are checked on
their own, and where they fail other starts and methods are tried.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from sm_multilevel.estimation.minimize import METHODS
from sm_multilevel.estimation.record import Attempt, FitRecord
from sm_multilevel.objectives.space import Escape

__all__ = ["KKT_TOLERANCE", "estimate"]

# Distance to the optimum, in standard errors of the estimates, up to which a fit has converged.
KKT_TOLERANCE = 1e-3
_POLISH = 1e-6  # distance from which one exact Newton step is worth its evaluation
_LEAVES = 6  # how often one attempt may leave the boundary, which restarts it
_SINGLE = 3  # with fewer iterations the user asks for a step, and no other start is tried
_LOOKS = 1  # how many other starts are tried where a fit ends at the boundary


@dataclass(frozen=True, eq=False)
class _Check:
    theta: np.ndarray
    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    kkt: float
    min_curvature: float
    slope: float
    escape: Escape | None
    evaluations: int
    reason: str

    @property
    def converged(self):
        return not self.reason


def estimate(
    objective,
    *,
    method: str = "newton",
    start: np.ndarray | None = None,
    maxiter: int = 100,
    tol: float = 1e-10,
    callback=None,
) -> FitRecord:
    """Minimise an objective and check what was reached.

    Parameters
    ----------
    objective : LinearObjective or MarginalObjective
        Gives ``space``, ``point(z)``, ``steps(z)``, ``slopes(z)`` and ``start()`` in standardised columns.
    method : str
        A key of `estimation.minimize.METHODS`.
    start : ndarray, optional
        In the user's columns, as ``space.from_user`` takes it.
    maxiter : int
        Most iterations of one attempt.
    tol : float
        Deviance whose promised fall ends an attempt.
    callback : callable, optional
        Called with z after each iteration, as the method does.

    Returns
    -------
    FitRecord
    """
    began = time.perf_counter()
    attempts: list[Attempt] = []
    evaluations = iterations = 0
    best: _Check | None = None
    looks, space = 0, objective.space
    for name, how, first in _plan(objective, method, start):
        theta = first
        for _ in range(_LEAVES):
            found = METHODS[how](
                objective.point,
                theta,
                tol=tol,
                maxiter=maxiter,
                radius=0.5 * max(1.0, float(np.linalg.norm(space.split(theta)[1]))),
                callback=callback,
            )
            evaluations += found.evaluations
            iterations += found.iterations
            if not np.isfinite(found.value):
                attempts.append(Attempt(how, name, found.evaluations, found.value, np.inf, found.message))
                break
            check = _check(objective, found.theta)
            evaluations += check.evaluations
            attempts.append(Attempt(how, name, found.evaluations, check.value, check.kkt, check.reason or "converged"))
            if best is None or _better(check, best):
                best = check
            if check.escape is None:
                break
            theta = _leave(objective, check)
            if theta is None:
                break
        if maxiter < _SINGLE:
            break
        if best is not None and best.converged:
            # Optima at the boundary are sometimes local ones: look once more from elsewhere.
            looks += 1
            if looks > _LOOKS or first.size == 1 or not space.at_boundary(best.theta):
                break
    if best is None:
        raise np.linalg.LinAlgError(
            "The likelihood could not be evaluated at any starting value. Check the scale of the columns, the weights "
            "and offsets, and that the link can hold all linear predictors (a log or logit link always does)."
        )
    return FitRecord(
        theta=space.to_user(best.theta),
        theta_standard=best.theta,
        value=best.value,
        converged=best.converged,
        reason=best.reason,
        gradient_norm=float(np.abs(best.gradient).max(initial=0.0)),
        kkt=best.kkt,
        min_curvature=best.min_curvature,
        boundary_slope=best.slope,
        singular=space.at_boundary(best.theta),
        hessian=best.hessian,
        method=method,
        evaluations=evaluations,
        iterations=iterations,
        attempts=tuple(attempts),
        seconds=time.perf_counter() - began,
    )


def _plan(objective, method, start):
    """Starts and methods, in the order in which they are tried."""
    space = objective.space
    first = objective.start() if start is None else space.from_user(np.asarray(start, float))
    label = "moments" if start is None else "start_params"
    yield label, method, first
    if method != "newton":
        yield label, "newton", first
    if start is not None and space.head:  # the other starts need fixed effects that fit the data
        first, label = objective.start(), "moments"
        yield label, "newton", first
    yield from space.others(first)
    yield label, "bfgs", first


def _better(a, b):
    if a.converged != b.converged:
        good, bad = (a, b) if a.converged else (b, a)
        # A converged point is preferred unless the other is clearly lower, and not a place where the
        # likelihood has no minimum, as Laplace's approximation at the edge of where it exists.
        wins = good.value <= bad.value + 1e-6 or not bad.min_curvature > -1e-4
        return wins == (good is a)
    return a.value < b.value


def _check(objective, theta):
    space = objective.space
    theta = space.canonical(theta)
    point = objective.point(theta)
    count = 1
    snapped = space.snap(theta)
    if not np.array_equal(snapped, theta):
        at_zero = objective.point(snapped)
        count += 1
        if at_zero.value <= point.value + 1e-9 + 1e-14 * abs(point.value):
            theta, point = snapped, at_zero
    if not np.isfinite(point.value):
        k = theta.shape[0]
        nothing = np.full(k, np.nan)
        return _Check(
            theta, np.inf, nothing, np.full((k, k), np.nan), np.inf, -np.inf, np.inf, None, count,
            "the likelihood does not exist where the search ended, at the edge of the link's domain",
        )  # fmt: skip
    gradient = point.gradient()
    hessian, extra = _difference_hessian(objective, theta, gradient)
    count += extra
    kkt, least, step = _newton_distance(gradient, hessian)
    for _ in range(3):  # steps with the exact Hessian, which the optimiser did not have
        if not _POLISH < kkt < 1.0:
            break
        polished = space.canonical(theta + step)
        polished = space.snap(polished, tol=1e-6)  # what was made exactly zero stays so
        there = objective.point(polished)
        count += 1
        if not there.value <= point.value + 1e-13 * abs(point.value) + 1e-12:
            break
        nearer = there.gradient()
        new_kkt, new_least, new_step = _newton_distance(nearer, hessian)
        if not new_kkt < kkt:
            break
        theta, point, gradient = polished, there, nearer
        kkt, least, step = new_kkt, new_least, new_step
    slope, escape, extra = space.boundary(objective, theta)
    count += extra
    reason = _reason(kkt, least, slope, escape, any(space.is_singular(theta)), theta)
    return _Check(
        theta, point.value, gradient, hessian, kkt, least, slope, escape, count, reason
    )  # fmt: skip


def _reason(kkt, least, slope, escape, singular, theta):
    if escape is not None:
        return (
            f"the boundary is not the optimum: the deviance falls where a zero variance is raised (slope {slope:.3g})"
        )
    floor = -1e-6 if singular else 1e-10
    if least == -np.inf:
        return "the likelihood does not exist beside the point where the search ended, an edge of the link's domain"
    if theta.size and not least > floor:
        return (
            f"the curvature is not positive (least eigenvalue {least:.2g} of the largest): a "
            "saddle, or a variance component that the data cannot identify"
        )
    if not kkt <= KKT_TOLERANCE:
        return f"the gradient is not zero: about {kkt:.2g} standard errors are left to the optimum"
    return ""


def _difference_hessian(objective, theta, gradient):
    """Differences of the exact gradient: one-sided, or central where a parameter has two steps."""
    k = theta.shape[0]
    out = np.zeros((k, k))
    count = 0
    for j, (ahead, behind) in enumerate(objective.steps(theta)):
        ends = []
        for step in (ahead, behind):
            if step == 0.0:
                ends.append(gradient)
                continue
            moved = theta.copy()
            moved[j] += step
            point = objective.point(moved)
            count += 1
            ends.append(point.gradient() if np.isfinite(point.value) else np.nan)
        out[j] = (ends[0] - ends[1]) / (ahead - behind)
    return 0.5 * (out + out.T), count


def _newton_distance(gradient, hessian):
    """Distance to the optimum in standard errors, least relative curvature, Newton step."""
    if gradient.size == 0:
        return 0.0, 1.0, gradient
    if not np.isfinite(hessian).all():
        return np.inf, -np.inf, np.zeros_like(gradient)
    values, vectors = np.linalg.eigh(hessian)
    g = vectors.T @ gradient
    scale = max(abs(values[-1]), 1e-300)
    # Flat directions are judged by the gradient alone, at a small curvature.
    usable = np.maximum(values, 1e-8 * scale)
    kkt = float(np.sqrt(0.5 * np.sum(g * g / usable)))
    return kkt, float(values[0] / scale), vectors @ (-g / usable)


def _leave(objective, check):
    """The best of some steps along the way out of the boundary."""
    best, best_value = None, check.value
    for size in (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4):
        theta = objective.space.moved(check.theta, check.escape, size)
        value = objective.point(theta).value
        if value < best_value:
            best, best_value = theta, value
    return best
