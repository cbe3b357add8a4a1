"""Newton's method on many data sets at once, with the checks of a single fit.

What does not pass is left to `estimation.fit`: a replicate is certified where its gradient,
curvature and, at the boundary, the derivative in the covariance are those of an optimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sm_multilevel.estimation.fit import KKT_TOLERANCE
from sm_multilevel.objectives.batched import BatchedDeviance, BatchedPoint
from sm_multilevel.objectives.space import SNAP, ThetaSpace, leads_out

__all__ = ["BatchedFit", "minimise_batch"]

_ITERATIONS = 25
_DONE = 1e-7  # distance to the optimum, in standard errors, at which a replicate is left alone
_NOISE = 1e-13  # relative change of a deviance that is rounding
_BETTER = 1e-7  # a deviance lower by this much is another optimum


@dataclass(frozen=True, eq=False)
class BatchedFit:
    """Where the minimisation ended.

    Attributes
    ----------
    theta : ndarray, shape (B, k)
        Standardised columns, signs as they fell.
    point : BatchedPoint
        There.
    certified : ndarray of bool, shape (B,)
        Whether it is an optimum, by the rules of `estimation.fit`.
    singular : ndarray of bool, shape (B,)
        Whether it is at the boundary.
    """

    theta: np.ndarray
    point: BatchedPoint
    certified: np.ndarray
    singular: np.ndarray


def minimise_batch(deviance: BatchedDeviance, space: ThetaSpace, start: np.ndarray) -> BatchedFit:
    """Minimise from a common start; what ends at the boundary is looked at from another one too.

    Parameters
    ----------
    deviance : BatchedDeviance
    space : ThetaSpace
    start : ndarray, shape (k,)
        Standardised columns, inside.

    Returns
    -------
    BatchedFit
    """
    everything = np.arange(deviance.size)
    found = _checked(deviance, space, everything, *_newton(deviance, everything, start))
    again = np.flatnonzero(found.singular & found.certified)
    if start.size < 2 or not again.size:
        return found
    # Optima at the boundary are sometimes local ones: look once more from elsewhere, as a single fit does.
    unit = next(iter(space.others(start)))[2]
    other = _checked(deviance, space, again, *_newton(deviance, again, unit))
    lower = other.point.value < found.point.value[again] - _BETTER
    # Where the second look ended in no optimum, but lower, a single fit decides.
    found.certified[again[lower & ~other.certified]] = False
    take = lower & other.certified
    found.theta[again[take]] = other.theta[take]
    found.singular[again[take]] = other.singular[take]
    found.point.put(again[take], other.point.part(take))
    return found


def _newton(deviance, which, start):
    """Trust-region Newton steps with |eigenvalues|; the replicates that are not done yet go on together."""
    theta = np.tile(start, (which.size, 1))
    here = deviance.at(theta, which)
    step, distance = _step(here)
    radius = np.full(which.size, 0.5 * max(1.0, float(np.linalg.norm(start))))
    active = np.flatnonzero(np.isfinite(here.value) & ~(distance <= _DONE))
    for _ in range(_ITERATIONS):
        if not active.size:
            break
        now = here.part(active)
        move = step[active]
        length = np.linalg.norm(move, axis=1)
        shrink = np.minimum(1.0, radius[active] / np.maximum(length, 1e-300))
        move, length = shrink[:, None] * move, shrink * length
        promised = -np.einsum("bj,bj->b", now.gradient, move)
        promised -= 0.5 * np.einsum("bj,bjk,bk->b", move, now.hessian, move)
        there = deviance.at(theta[active] + move, which[active])
        gained = now.value - there.value
        noise = _NOISE * np.abs(now.value)
        # A change that is rounding says nothing: there the gradient is believed.
        good = (gained > 1e-4 * promised) | ((promised <= noise) & (gained >= -noise))
        radius[active] = np.where(
            good, np.where(gained > 0.75 * promised, np.maximum(radius[active], 2.5 * length), radius[active]),
            0.25 * length,
        )  # fmt: skip
        at, ahead = active[good], there.part(good)
        theta[at] += move[good]
        here.put(at, ahead)
        step[at], distance[at] = _step(ahead)
        active = active[(distance[active] > _DONE) & (radius[active] > 1e-12)]
    return theta, here


def _step(point):
    """Newton steps, up and down the curvature alike, and the distance to the optimum in standard errors."""
    values, vectors, g = _spectrum(point)
    scale = np.maximum(np.abs(values).max(axis=1, initial=0.0), 1e-300)[:, None]
    usable = np.maximum(np.abs(values), 1e-8 * scale)
    step = -np.einsum("bji,bi->bj", vectors, g / usable)
    distance = np.sqrt(0.5 * (g * g / usable).sum(axis=1))
    # On a saddle the distance is none: such a replicate goes on while a step leads anywhere.
    saddle = (values < -1e-6 * scale).any(axis=1) & (np.linalg.norm(step, axis=1) > 1e-9)
    return step, np.where(saddle, np.inf, distance)


def _spectrum(point):
    """Eigenvalues and vectors of the Hessians, and the gradients by these; zero where the deviance does not exist."""
    exists = np.isfinite(point.value)
    values, vectors = np.linalg.eigh(np.where(exists[:, None, None], point.hessian, 0.0))
    return values, vectors, np.einsum("bji,bj->bi", vectors, np.where(exists[:, None], point.gradient, 0.0))


def _checked(deviance, space, which, theta, point) -> BatchedFit:
    """Null spaces that are nearly reached made exact, and the conditions of an optimum."""
    null = np.zeros(which.size, dtype=bool)
    effects = space.effects
    for term, part in zip(effects.terms, effects.slices, strict=True):
        lam = np.einsum("jxy,bj->bxy", term.covariance.basis(term.q), theta[:, part])
        null |= np.linalg.svd(lam, compute_uv=False)[:, -1] < SNAP
    near = np.flatnonzero(null & np.isfinite(point.value))
    if near.size:
        snapped = np.stack([space.snap(space.canonical(z)) for z in theta[near]])
        at_zero, old = deviance.at(snapped, which[near]), point.value[near]
        take = at_zero.value <= old + 1e-9 + 1e-14 * np.abs(old)
        theta[near[take]] = snapped[take]
        point.put(near[take], at_zero.part(take))
    values, _, g = _spectrum(point)
    scale = np.maximum(np.abs(values[:, -1]), 1e-300)
    usable = np.maximum(values, 1e-8 * scale[:, None])
    certified = np.isfinite(point.value) & (np.sqrt(0.5 * (g * g / usable).sum(axis=1)) <= KKT_TOLERANCE)
    singular = np.zeros(which.size, dtype=bool)
    for b in near:
        singular[b] = any(space.is_singular(theta[b]))
        if singular[b] and certified[b]:
            certified[b] = _is_held(effects, theta[b], deviance.factor_slopes(point.slope[b]))
    certified &= values[:, 0] > np.where(singular, -1e-6, 1e-10) * scale
    return BatchedFit(theta, point, certified, singular)


def _is_held(effects, theta, slopes) -> bool:
    """Whether the deviance rises along every way out of the boundary."""
    for term, part, block in zip(effects.terms, effects.per_term(theta), effects.blocks(slopes), strict=True):
        if term.covariance.is_singular(part, term.q):
            rate, _ = term.covariance.escape(part, term.q, block)
            if leads_out(rate):
                return False
    return True
