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
from sm_multilevel.random_effects import RandomEffects

__all__ = ["KKT_TOLERANCE", "estimate_theta"]

# Distance to the optimum, in standard errors of theta, up to which a fit has converged.
KKT_TOLERANCE = 1e-3
_POLISH = 1e-6  # distance from which one exact Newton step is worth its evaluation
_OPEN = 1e-3  # how far a null space is opened to see the derivative in it
_LOOKS = 1  # how many other starts are tried where a fit ends at the boundary
_STEP = 1e-4  # difference step for the Hessian, standardised columns


@dataclass(frozen=True, eq=False)
class _Check:
    theta: np.ndarray
    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    kkt: float
    min_curvature: float
    slope: float
    escape: np.ndarray | None
    evaluations: int
    reason: str

    @property
    def converged(self):
        return not self.reason


def estimate_theta(
    objective,
    effects: RandomEffects,
    *,
    method: str = "newton",
    start: np.ndarray | None = None,
    maxiter: int = 100,
    tol: float = 1e-10,
    callback=None,
) -> FitRecord:
    """Minimise an objective over theta and check what was reached.

    Parameters
    ----------
    objective : LinearObjective
        Gives ``point(theta)``, ``slopes(theta)`` and ``start()`` in standardised columns.
    effects : RandomEffects
    method : str
        A key of `estimation.minimize.METHODS`.
    start : ndarray, optional
        theta in the user's columns.
    maxiter : int
        Most iterations of one attempt.

    Returns
    -------
    FitRecord
    """
    began = time.perf_counter()
    attempts: list[Attempt] = []
    evaluations = iterations = 0
    best: _Check | None = None
    looks = 0
    for name, how, first in _plan(objective, effects, method, start):
        theta = first
        for _ in range(6):  # leaving the boundary restarts from there
            found = METHODS[how](
                objective.point,
                theta,
                tol=tol,
                maxiter=maxiter,
                radius=0.5 * max(1.0, float(np.linalg.norm(theta))),
                callback=callback,
            )
            evaluations += found.evaluations
            iterations += found.iterations
            if not np.isfinite(found.value):
                attempts.append(Attempt(how, name, found.evaluations, found.value, np.inf, found.message))
                break
            check = _check(objective, effects, found.theta)
            evaluations += check.evaluations
            attempts.append(Attempt(how, name, found.evaluations, check.value, check.kkt, check.reason or "converged"))
            if best is None or _better(check, best):
                best = check
            if check.escape is None:
                break
            theta = _leave(objective, check)
            if theta is None:
                break
        if maxiter < 3:  # the user asked for a single step
            break
        if best is not None and best.converged:
            # Optima at the boundary are sometimes local ones: look once more from elsewhere.
            looks += 1
            if looks > _LOOKS or first.size == 1 or not _singular_terms(effects, best.theta):
                break
    if best is None:
        raise np.linalg.LinAlgError(
            "The likelihood could not be evaluated at any starting value. Check the scale of the "
            "columns and the weights."
        )
    return FitRecord(
        theta=effects.to_user(best.theta),
        theta_standard=best.theta,
        value=best.value,
        converged=best.converged,
        reason=best.reason,
        gradient_norm=float(np.abs(best.gradient).max(initial=0.0)),
        kkt=best.kkt,
        min_curvature=best.min_curvature,
        boundary_slope=best.slope,
        singular=_singular_terms(effects, best.theta),
        hessian=best.hessian,
        method=method,
        evaluations=evaluations,
        iterations=iterations,
        attempts=tuple(attempts),
        seconds=time.perf_counter() - began,
    )


def _plan(objective, effects, method, start):
    """Starts and methods, in the order in which they are tried."""
    first = objective.start() if start is None else effects.from_user(np.asarray(start, float))
    label = "moments" if start is None else "start_params"
    yield label, method, first
    ones = effects.map_terms(np.zeros(effects.n_params), lambda i, t, part: t.covariance.from_covariance(np.eye(t.q)))
    if method != "newton":
        yield label, "newton", first
    yield "unit", "newton", ones
    yield "small", "newton", 0.1 * ones
    yield "large", "lbfgs", 3.0 * ones
    yield label, "bfgs", first


def _better(a, b):
    if a.converged != b.converged:
        # A converged point is preferred unless the other is clearly lower.
        return a.converged if a.value <= b.value + 1e-6 else False
    return a.value < b.value


def _check(objective, effects, theta):
    theta = effects.canonical(theta)
    point = objective.point(theta)
    count = 1
    snapped = _snap(effects, theta)
    if not np.array_equal(snapped, theta):
        at_zero = objective.point(snapped)
        count += 1
        if at_zero.value <= point.value + 1e-9 + 1e-14 * abs(point.value):
            theta, point = snapped, at_zero
    gradient = point.gradient()
    hessian = _difference_hessian(objective, theta, gradient)
    count += theta.shape[0]
    kkt, least, step = _newton_distance(gradient, hessian)
    for _ in range(3):  # steps with the exact Hessian, which the optimiser did not have
        if not _POLISH < kkt < 1.0:
            break
        polished = effects.canonical(theta + step)
        polished = _snap(effects, polished, tol=1e-6)  # what was made exactly zero stays so
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
    slope, escape, extra = _boundary(objective, effects, theta)
    count += extra
    reason = _reason(kkt, least, slope, escape, effects, theta, point.value)
    return _Check(
        theta, point.value, gradient, hessian, kkt, least, slope, escape, count, reason
    )  # fmt: skip


def _reason(kkt, least, slope, escape, effects, theta, value):
    if escape is not None:
        return (
            f"the boundary is not the optimum: the deviance falls where a zero variance is raised (slope {slope:.3g})"
        )
    singular = any(
        t.covariance.is_singular(part, t.q) for t, part in zip(effects.terms, effects.per_term(theta), strict=True)
    )
    floor = -1e-6 if singular else 1e-10
    if theta.size and not least > floor:
        return (
            f"the curvature is not positive (least eigenvalue {least:.2g} of the largest): a "
            "saddle, or a variance component that the data cannot identify"
        )
    if not kkt <= KKT_TOLERANCE:
        return f"the gradient is not zero: about {kkt:.2g} standard errors of theta are left to the optimum"
    return ""


def _difference_hessian(objective, theta, gradient):
    k = theta.shape[0]
    out = np.zeros((k, k))
    for j in range(k):
        moved = theta.copy()
        moved[j] += _STEP
        point = objective.point(moved)
        out[j] = (point.gradient() - gradient) / _STEP if np.isfinite(point.value) else np.nan
    return 0.5 * (out + out.T)


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


def _snap(effects, theta, tol=1e-3):
    """theta with null spaces that are nearly reached made exact."""

    def project(i, term, part):
        null = term.covariance.null_projector(part, term.q, tol=tol)
        if not null.any():
            return part
        lam = term.covariance.factor(part, term.q)
        keep = np.eye(term.q) - null
        half = keep @ lam
        return term.covariance.from_covariance(half @ half.T)

    return effects.map_terms(theta, project)


def _boundary(objective, effects, theta):
    """Derivative of the objective along the null spaces, and where to go if it is negative."""
    singular = [
        t.covariance.is_singular(part, t.q) for t, part in zip(effects.terms, effects.per_term(theta), strict=True)
    ]
    if not any(singular):
        return np.inf, None, 0
    opened = effects.map_terms(theta, lambda i, t, part: t.covariance.open(part, t.q, _OPEN) if singular[i] else part)
    slopes = objective.slopes(opened)
    least, way = np.inf, None
    for i, (term, part) in enumerate(zip(effects.terms, effects.per_term(theta), strict=True)):
        if not singular[i]:
            continue
        rate, direction = term.covariance.escape(part, term.q, slopes[i])
        if rate < least:
            least, way = rate, (i, direction)
    # In deviance units: what a relative variance of (0.03)^2 along the way would gain.
    significant = way is not None and least * 1e-3 < -1e-6
    return float(least), (way if significant else None), 1


def _leave(objective, check):
    """The best of some steps along the way out of the boundary."""
    effects = objective.effects
    term_index, direction = check.escape
    best, best_value = None, check.value
    for size in (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4):

        def moved(i, term, part, size=size):
            if i != term_index:
                return part
            lam = term.covariance.factor(part, term.q)
            return term.covariance.from_covariance(lam @ lam.T + size * direction)

        theta = effects.map_terms(check.theta, moved)
        value = objective.point(theta).value
        if value < best_value:
            best, best_value = theta, value
    return best


def _singular_terms(effects, theta):
    words = []
    for term, part in zip(effects.terms, effects.per_term(theta), strict=True):
        cov = term.covariance
        if not cov.is_singular(part, term.q):
            continue
        lam = cov.factor(part, term.q)
        sd = np.sqrt(np.sum(lam * lam, axis=1))
        zero = [c for c, s in zip(term.columns, sd, strict=True) if s < 1e-4]
        if len(zero) == term.q:
            what = "variance is zero" if term.q == 1 else "all variances are zero"
        elif zero:
            what = f"variance of {', '.join(zero)} is zero"
        elif term.q == 2:
            sign = "+1" if lam[0] @ lam[1] > 0 else "-1"
            what = f"correlation of {term.columns[0]} and {term.columns[1]} is {sign}"
        else:
            rank = int(np.linalg.matrix_rank(lam, tol=1e-4))
            what = f"covariance of {', '.join(term.columns)} has rank {rank} of {term.q}"
        words.append(f"{term.name or term.group}: {what}")
    return tuple(words)
