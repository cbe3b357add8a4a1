"""One parameter's profile: points along it, and its values at given zeta.

zeta(v) = sign(v - estimate) sqrt(deviance(v) - deviance(estimate)) is close to standard normal, and a straight line
where the deviance is quadratic (Bates and Watts 1988, section 6.1; Bates, Maechler, Bolker and Walker 2015, section
5.1). Its derivative comes with the multiplier of the constraint, so that values at a given zeta are found by Newton
steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.interpolate import PchipInterpolator

from sm_multilevel.estimation.minimize import NOISE
from sm_multilevel.postestimation.profiling.profiled import Problem, Solved
from sm_multilevel.postestimation.profiling.targets import Target

__all__ = ["End", "Path"]

_LOWER = 1e-5  # by how much a deviance below that of the fit is one
_CLOSE = 1e-10  # difference of zeta at which a value is found, if rounding does not hide it
_ROUNDING = 4.0  # error of a difference of two deviances, in units of what rounding leaves in one
_SLOW = 8  # Newton steps after which zeta is thought to jump
_REPAIRS = 30  # points that may be replaced by lower ones
_SAME = 1e-7  # deviances this close are the same
_STEPS = 60  # points on one side
_FLAT_STEPS = 8  # steps, each four times the last, over which a deviance that levels off is followed
_TRIES = 6  # halvings of a step that fails


@dataclass(frozen=True)
class End:
    """One end of an interval.

    Attributes
    ----------
    value : float
        NaN where it could not be found.
    note : str
        What is to be said of it; empty for an ordinary end.
    failed : bool
    """

    value: float
    note: str = ""
    failed: bool = False


class Path:
    """Points of one target's profile, found when they are needed.

    Parameters
    ----------
    problem : Problem
    target : Target
    points : sequence of Solved
        Points that are known already.
    stops : dict, optional
        As the attribute of this name.

    Attributes
    ----------
    best : Solved
        The optimum.
    lower : Solved or None
        A point whose deviance is lower than the fit's, which then was not at its optimum.
    failed : list of Solved
        Points that did not converge; nothing else uses them.
    stops : dict
        Why the path ended before a cutoff, by side (-1, 1): "limit", "flat", "floor"
        (a bound of the deviance below the cutoff) or "failed".
    """

    def __init__(self, problem: Problem, target: Target, points=(), stops=None):
        self.problem, self.target = problem, target
        self.best = problem.best(target)
        self.failed: list[Solved] = []
        self.stops: dict[int, str] = dict(stops or {})
        at = self.best.t
        self._limits = {-1: target.t_lower, 1: target.t_upper}
        # At a limit or, of an angle, as near to it as searches go.
        self.at_limit = {s: bool(np.isfinite(end)) and s * (at - end) >= -1e-9 for s, end in self._limits.items()}
        error = problem.standard_error(target)
        if any(self.at_limit.values()):  # the target may have no gradient there, or one of rounding errors
            error = np.nan
            self.best = replace(self.best, tangent=np.full_like(self.best.tangent, np.nan))
        self.points: list[Solved] = list(points) or [self.best]
        self.error = error if np.isfinite(error) and error > 0 else target.unit(problem.z)

    def value(self, point: Solved) -> float:
        """The target's value as users see it."""
        for side, end in self._limits.items():
            if point.t == end and np.isfinite(self._limit(side)):
                return self._limit(side)
        return self.target.to_value(point.t)

    def zeta(self, point: Solved) -> float:
        """Signed root of the change of the deviance."""
        side = np.sign(point.t - self.best.t)
        return float(side * np.sqrt(max(point.deviance - self.problem.deviance, 0.0)))

    @cached_property
    def floor(self) -> float:
        """|zeta| that no point exceeds."""
        return float(np.sqrt(max(self.problem.floor(self.target) - self.problem.deviance, 0.0)))

    @property
    def lower(self) -> Solved | None:
        found = min(self.points, key=lambda p: p.deviance)
        floor = _LOWER + 1e-12 * abs(self.problem.deviance)
        return found if found.deviance < self.problem.deviance - floor else None

    def at(self, t: float, first: Solved | None = None) -> Solved:
        """The point at t; kept where it converged."""
        for known in self.points:
            if known.t == t:
                return known
        near = sorted(self.points, key=lambda p: abs(p.t - t))[:3]
        if first is not None:
            near = [first, *[p for p in near if p is not first]]
        at_limit = t in (self.target.t_lower, self.target.t_upper)
        point = self.problem.solve(self.target, t, near, at_limit)
        if point.converged:
            self.points.append(point)
            self.points.sort(key=lambda p: p.t)
        else:
            self.failed.append(point)
        return point

    def march(self, side: int, cutoff: float, step: float) -> None:
        """Follow the profile to one side until |zeta| reaches a cutoff, in steps of about `step` in zeta.

        What stops it earlier is in `stops`: "limit", "flat", "floor" or "failed".
        """
        outer = [p for p in self.points if side * (p.t - self.best.t) > 0]
        last = max(outer, key=lambda p: side * p.t, default=self.best)
        if abs(self.zeta(last)) >= cutoff or side in self.stops or self.at_limit[side]:
            return
        if abs(self.floor) <= cutoff:
            # Near the floor variances go to zero, where a correlation is hard to hold and tells nothing.
            cutoff, self.stops[side] = 0.7 * self.floor, "floor"
        length, flat, tries = step * self._pace(last), 0, 0
        for _ in range(_STEPS):
            t = last.t + side * length
            end = self._limits[side]
            is_end = side * (t - end) >= 0
            t = end if is_end else t
            point = self.at(t, last)
            before = abs(self.zeta(last))
            gained = abs(self.zeta(point)) - before
            if not point.converged or (gained > 3.0 * step and tries < _TRIES and not is_end):
                if point.converged and abs(self.zeta(point)) >= cutoff and tries >= 3:
                    return
                tries += 1
                if not point.converged and tries > _TRIES:
                    self.stops[side] = "failed"
                    return
                length *= 0.5 if not point.converged else max(0.1, step / gained)
                continue
            if abs(self.zeta(point)) >= cutoff:
                return
            if is_end:
                self.stops[side] = "limit"
                return
            tries = 0
            flat = flat + 1 if gained < 0.05 * step else 0
            if flat >= _FLAT_STEPS:
                # Between points that failed the deviance may have risen: nothing shows that it levels off.
                lost = any(side * (p.t - self.best.t) > 0 for p in self.failed)
                self.stops[side] = "failed" if lost else "flat"
                return
            if gained >= 0.05 * step:
                length = min(max(step * self._pace(point), 0.25 * length), 4.0 * length)
            else:
                length *= 4.0
            last = point
        self.stops[side] = "failed"

    def _pace(self, point) -> float:
        """dt / d zeta."""
        zeta = abs(self.zeta(point))
        if zeta < 1e-3 or not np.isfinite(point.slope):
            return self.error
        return 2.0 * zeta / max(abs(point.slope), 1e-300)

    def end(self, side: int, cutoff: float) -> End:
        """The value at which |zeta| is `cutoff`, solved for; the target's limit where it stays below."""
        for _ in range(_REPAIRS):
            bracket = self._bracket(side, cutoff)
            if bracket is None:
                self.march(side, cutoff, cutoff / 3.0)
                bracket = self._bracket(side, cutoff)
            found = self._unbracketed(side) if bracket is None else self._solve(side, cutoff, *bracket)
            if found is not None:
                return found
        return End(np.nan, "an end was not found: the other parameters have several local optima", failed=True)

    def notes(self, cutoff: float) -> list[str]:
        """What is to be said of the ends, without solving for them."""
        ends = [self._unbracketed(side).note for side in (-1, 1) if self._bracket(side, cutoff) is None]
        return list(dict.fromkeys(ends))

    def _unbracketed(self, side) -> End:
        limit = self._limit(side)
        if self.at_limit[side]:
            return End(limit, f"the estimate is at its limit {limit:g}")
        stop = self.stops.get(side, "failed")
        if stop == "limit":
            return End(limit, f"the deviance at the limit {limit:g} is below the cutoff: one-sided interval")
        if stop == "floor":
            return End(limit, "with a variance of zero the deviance is below the cutoff: no correlation is excluded")
        if stop == "flat":
            return End(limit, f"the deviance levels off below the cutoff: no end before {limit:g}")
        reason = self.failed[-1].reason if self.failed else "too many steps"
        return End(np.nan, f"an end was not found: {reason}", failed=True)

    def _limit(self, side) -> float:
        return self.target.lower if side < 0 else self.target.upper

    def _bracket(self, side, cutoff):
        """Neighbouring points with zeta on both sides of the cutoff, the first ones from the estimate outwards."""
        on_side = sorted((p for p in self.points if side * (p.t - self.best.t) >= 0), key=lambda p: side * p.t)
        for inner, outer in pairwise(on_side):
            if abs(self.zeta(inner)) < cutoff <= abs(self.zeta(outer)):
                return inner, outer
        return None

    def _solve(self, side, cutoff, inner, outer) -> End | None:
        """Newton steps on zeta within a bracket, from the interpolated inverse.

        None where a point turns out not to be the lowest at its value, and was replaced.
        """
        t = self._interpolated(side, cutoff)
        # zeta = sqrt(difference of deviances), so that an error of these is one of zeta over 2 zeta.
        close = max(_CLOSE, 0.5 * _ROUNDING * NOISE * abs(self.problem.deviance) / cutoff)
        for step in range(40):
            if not side * inner.t < side * t < side * outer.t:
                t = 0.5 * (inner.t + outer.t)
            point = self.at(t, min((inner, outer), key=lambda p: abs(p.t - t)))
            if not point.converged:
                return End(np.nan, f"an end was not found: {point.reason}", failed=True)
            over = abs(self.zeta(point)) - cutoff
            if abs(over) <= close:
                return None if self._lowered(point, outer) else End(self.value(point))
            if step >= _SLOW and (self._swept(inner, side) or self._swept(outer, -side)):
                return None
            inner, outer = (point, outer) if over < 0 else (inner, point)
            t = point.t - side * over * self._pace(point)
        return End(np.nan, "an end was not found: no settled value of zeta", failed=True)

    def _swept(self, start, way) -> bool:
        """Follow the local optimum of a point one way, as far as it is lower than what was found there."""
        beyond = [p for p in self.points if way * (p.t - start.t) > 0]
        known, any_lower = start, False
        for point in sorted(beyond, key=lambda p: way * p.t):
            if not self._lowered(point, known):
                break
            known, any_lower = next(p for p in self.points if p.t == point.t), True
        return any_lower

    def _lowered(self, point, other) -> bool:
        """Whether a search from another point finds a lower deviance at a point's t, which it then replaces."""
        if point is self.best or point.t == self.best.t:
            return False
        at_limit = point.t in (self.target.t_lower, self.target.t_upper)
        again = self.problem.solve(self.target, point.t, [other], at_limit)
        if not again.converged or again.deviance > point.deviance - _SAME * (1.0 + 1e-7 * abs(point.deviance)):
            return False
        self.points = [again if p is point else p for p in self.points]
        return True

    def _interpolated(self, side, cutoff) -> float:
        """t at a zeta by a monotone spline through the known points."""
        t: list[float] = []
        zeta: list[float] = []
        for p in sorted(self.points, key=lambda p: p.t):
            z = self.zeta(p)
            if not zeta or z > zeta[-1] + 1e-9:
                t.append(p.t)
                zeta.append(z)
        return float(PchipInterpolator(zeta, t)(side * cutoff)) if len(t) > 1 else np.nan
