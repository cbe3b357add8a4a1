"""Quantiles of new responses: a distribution averaged over a normal linear predictor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from sm_multilevel.families.response import ResponseData

__all__ = ["NewRows"]

_ROWS = 2048  # at once
_ITERATIONS = 200
_CLOSE = 1e-7  # precision of quantiles of a continuous response: of the probit of p, or relative
_FAR, _STEP = 7.0, 0.5  # the grid, in standard deviations of the linear predictor
_GRID = np.arange(-_FAR, _FAR + 0.5 * _STEP, _STEP)
_MASSES = np.exp(-0.5 * _GRID**2) / np.exp(-0.5 * _GRID**2).sum()
_SMOOTH = 0.2  # largest change of the cdf from node to node with which the trapezoidal rule is exact to 1e-7
_SHARP = 0.6  # ratio of the widths of response and linear predictor from which the grid is tried
_PANELS = np.array([-_FAR, -3.0, -1.0, 1.0, 3.0, _FAR])  # to start with
_WIDE = 0.6  # largest panel in which the cdf changes
_NEVER = 1e-6  # a probability that counts as zero
_DEPTH = 40
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)


@dataclass(frozen=True, eq=False)
class NewRows:
    """The distribution of new responses: f averaged over a normal linear predictor.

    Attributes
    ----------
    family : ResponseFamily
    psi : ndarray
        Natural.
    trials : ndarray, shape (n,), or None
    weights : float or ndarray
    eta, sd : ndarray, shape (n,)
        Mean and standard deviation of the linear predictor.
    """

    family: Any
    psi: np.ndarray
    trials: np.ndarray | None
    weights: float | np.ndarray
    eta: np.ndarray
    sd: np.ndarray

    def quantile(self, p: float) -> np.ndarray:
        """The p-quantile of each row; of a binomial response as a proportion."""
        out = np.full(len(self.eta), np.nan)
        known = np.flatnonzero(np.isfinite(self.eta + self.sd))
        keys = [self.eta, self.sd, self.weights, 1.0 if self.trials is None else self.trials]
        keys = [np.broadcast_to(key, out.shape)[known] for key in keys]
        # Rows that are the same have the same quantiles.
        _, first, same = np.unique(np.column_stack(keys), axis=0, return_index=True, return_inverse=True)
        found = np.empty(len(first))
        for start in range(0, len(first), _ROWS):
            rows = self._take(known[first[start : start + _ROWS]])
            unit = 1.0 if rows.trials is None else rows.trials
            values = rows._lattice(p) / unit if self.family.is_discrete else rows._continuous(p)
            found[start : start + _ROWS] = values
        out[known] = found[np.ravel(same)]
        return out

    def _take(self, rows):
        def some(values):
            return values[rows] if np.ndim(values) else values

        trials = None if self.trials is None else self.trials[rows]
        return NewRows(self.family, self.psi, trials, some(self.weights), self.eta[rows], self.sd[rows])

    # -- the distribution function -------------------------------------------------------

    def _given(self, y, z, rows=None):
        """P(Y <= y) where the linear predictor is eta + sd z; NaN where that is outside the link's domain."""
        one = self if rows is None else self._take(rows)
        eta = one.eta + one.sd * z
        data = ResponseData(
            y if one.trials is None else y / one.trials, one.trials, np.broadcast_to(one.weights, y.shape)
        )
        with np.errstate(all="ignore"):
            value = np.asarray(one.family.cdf(data, eta, one.psi)[1], dtype=float)
            lost = np.isnan(value)
            if lost.any():
                mean = np.broadcast_to(one.family.mean(eta, one.psi), value.shape)
                value = np.where(lost & (mean == np.inf), 0.0, np.where(lost & (mean == 0), 1.0, value))
        return value

    def below(self, y) -> np.ndarray:
        """P(Y <= y) of each row, given that eta is in the link's domain; of a binomial response y counts successes.

        The cdf falls, as a function of eta, in a step that is narrow where the response is
        sharp. A row for which a grid resolves the step has the trapezoidal rule, any other
        one has panels that are halved until they resolve it.
        """
        y = np.asarray(y, dtype=float)
        _, within, between = self._spread()
        rough = ~(within >= _SHARP * between)
        if _even(self.family, self.psi):
            rough[:] = True
        out = np.empty(len(y))
        rows = np.flatnonzero(~rough)
        if len(rows):
            grid = self._take(rows)._given(y[rows], _GRID[:, None])
            out[rows] = _MASSES @ grid
            resolved = np.abs(np.diff(grid, axis=0)).max(axis=0) <= _SMOOTH  # not at the edge of a domain: NaN
            rough[rows[~resolved]] = True
        if rough.any():
            rows = np.flatnonzero(rough)
            out[rows] = self._take(rows)._by_panels(y[rows])
        return np.clip(out, 0.0, 1.0)

    def _by_panels(self, y):
        """P(Y <= y) by Gauss's rule in panels in which the probit of the cdf changes by at most one."""
        z = np.tile(_PANELS[:, None], len(y))
        if _even(self.family, self.psi):  # the mean turns where eta is zero
            with np.errstate(all="ignore"):
                turn = -self.eta / self.sd
            z = np.sort(np.vstack([z, np.where(np.abs(turn) < _FAR, turn, 0.0)]), axis=0)
        f = self._given(y, z)
        row = np.tile(np.arange(len(y)), len(z) - 1)
        a, b, fa, fb = z[:-1].ravel(), z[1:].ravel(), f[:-1].ravel(), f[1:].ravel()
        done = []
        for depth in range(_DEPTH + 1):
            pa, pb = _probit(fa), _probit(fb)
            split = (np.abs(pa - pb) > 1.0) | ((b - a > _WIDE) & (pa != pb)) | (np.isnan(fa) != np.isnan(fb))
            split &= depth < _DEPTH
            done.append(tuple(part[~split] for part in (row, a, b, fa, fb)))
            row, a, b, fa, fb = (part[split] for part in (row, a, b, fa, fb))
            if not len(row):
                break
            middle = 0.5 * (a + b)
            fm = self._given(y[row], middle, row)
            row, a, b = np.tile(row, 2), np.concatenate([a, middle]), np.concatenate([middle, b])
            fa, fb = np.concatenate([fa, fm]), np.concatenate([fm, fb])
        row, a, b, fa, fb = (np.concatenate(parts) for parts in zip(*done, strict=True))
        inside = ~(np.isnan(fa) | np.isnan(fb))
        row, a, b, fa, fb = (part[inside] for part in (row, a, b, fa, fb))
        mass = special.ndtr(b) - special.ndtr(a)
        value = np.where((fa > 0.5) & (fb > 0.5), mass, 0.0)
        high, low = np.maximum(fa, fb), np.minimum(fa, fb)
        at = np.flatnonzero((high > _NEVER) & (low < 1.0 - _NEVER))
        half, centre = 0.5 * (b[at] - a[at]), 0.5 * (a[at] + b[at])
        nodes = centre + half * _NODES[:, None]
        many = np.tile(row[at], len(_NODES))
        cdf = self._given(y[many], nodes.ravel(), many).reshape(nodes.shape)
        value[at] = half * (_WEIGHTS @ (np.nan_to_num(cdf) * np.exp(-0.5 * nodes**2))) / np.sqrt(2.0 * np.pi)
        with np.errstate(invalid="ignore"):
            return np.bincount(row, value, len(y)) / np.bincount(row, mass, len(y))

    # -- its inverse ----------------------------------------------------------------------

    def _spread(self):
        """Mean and, roughly, standard deviation of the responses, given and not given eta."""
        trials = 1.0 if self.trials is None else self.trials
        with np.errstate(all="ignore"):
            mean = trials * self.family.mean(self.eta, self.psi)
            slope = np.abs(trials * self.family.mean_slope(self.eta, self.psi))
            variance = trials * self.family.variance(self.eta, self.psi) / self.weights
        return mean, np.sqrt(np.maximum(variance, 0.0)), slope * self.sd

    def _lattice(self, p):
        """Least whole number with P(Y <= y) >= p."""
        mean, within, between = self._spread()
        top = np.full(len(mean), np.inf)
        if self.family.has_trials:
            top = np.ones_like(mean) if self.trials is None else np.asarray(self.trials, dtype=float)
        spread = np.sqrt(within**2 + between**2) / (np.maximum(mean, 0.0) + 2.0)
        start = np.log(np.maximum(mean, 0.0) + 2.0)
        return self._search(p, _COUNT, start, spread, np.full(len(mean), -1.0), top)

    def _continuous(self, p):
        """On the scale of the logarithm, where a response is never below zero, or of the response."""
        mean, within, between = self._spread()
        spread = np.sqrt(within**2 + between**2)
        ends = np.full(len(mean), -np.inf), np.full(len(mean), np.inf)
        if (mean > 0).all() and (self.below(np.zeros_like(mean)) == 0.0).all():
            return self._search(p, _POSITIVE, np.log(mean), spread / mean, np.zeros_like(mean), ends[1])
        return self._search(p, _REAL, mean, spread, *ends)

    def _search(self, p, scale, start, spread, bottom, top):
        """The quantile between bottom and top: the Illinois method on the probit of the cdf, nearly linear there.

        Bracketed from the normal quantiles of eta: `start` and `spread` are centre and
        standard deviation on the scale of the search.
        """
        n, target = len(start), special.ndtri(p)
        spread = np.where(np.isfinite(spread), np.clip(spread, 1e-300, scale.widest), 1.0)
        low, high = bottom.copy(), top.copy()
        below, above = np.full(n, -np.inf), np.full(n, np.inf)  # probits less target, at low and high
        t, step, last = start + target * spread, spread.copy(), np.zeros(n)
        out = np.full(n, np.nan)
        active = np.arange(n)
        for k in range(_ITERATIONS):
            i, y = active, scale.to(t[active])
            if scale.whole:
                y = np.clip(np.floor(y), low[i] + 1.0, high[i] - 1.0)
            found = self._take(i).below(y)
            with np.errstate(all="ignore"):
                at, g, enough = scale.of(y), special.ndtri(found) - target, found >= p
                below[i] = np.where(enough, np.where(last[i] > 0, 0.5 * below[i], below[i]), g)
                above[i] = np.where(enough, g, np.where(last[i] < 0, 0.5 * above[i], above[i]))
                low[i], high[i] = np.where(enough, low[i], y), np.where(enough, y, high[i])
                last[i] = np.where(enough, 1.0, -1.0)
                if k == 0:
                    step[i] *= np.clip(1.2 * np.abs(g), 0.1, 1.0)
                # The next one lies between the ends, or beyond them by a step that doubles.
                left, right = scale.of(low[i]), scale.of(high[i])
                width, middle = right - left, 0.5 * (left + right)
                new = middle if k % 4 == 3 else left - below[i] * width / (above[i] - below[i])
                open_ = ~np.isfinite(above[i] - below[i])
                new = np.where(open_, at + np.where(enough, -1.0, 1.0) * step[i], new)
                step[i] = np.where(open_, 2.0 * step[i], step[i])
                new = np.where((new > left) & (new < right), new, middle)
                if scale.whole:
                    near, done = np.zeros(len(i), dtype=bool), high[i] - low[i] <= 1.0
                else:
                    near = np.abs(g) <= _CLOSE
                    done = near | (width <= _CLOSE * np.maximum(spread[i], scale.unit(at)))
            lost = np.isnan(found)
            out[i] = np.where(lost, np.nan, np.where(near, y, high[i]))
            t[i] = new
            active = i[~(done | lost)]
            if not len(active):
                break
        return out


@dataclass(frozen=True)
class _Scale:
    """What a quantile is searched for on.

    Attributes
    ----------
    of, to : callable
        From the response and back.
    unit : callable
        Size, relative to which a bracket is narrow.
    widest : float
        Largest standard deviation that is believed.
    whole : bool
        Whether responses are whole numbers.
    """

    of: Callable
    to: Callable
    unit: Callable
    widest: float = np.inf
    whole: bool = False


_COUNT = _Scale(lambda y: np.log(y + 2.0), lambda t: np.exp(np.minimum(t, 600.0)) - 2.0, np.ones_like, 10.0, True)
_POSITIVE = _Scale(np.log, lambda t: np.exp(np.minimum(t, 600.0)), np.ones_like, 10.0)
_REAL = _Scale(np.array, np.array, np.abs)


def _probit(f):
    return special.ndtri(np.clip(f, _NEVER, 1.0 - _NEVER))


def _even(family, psi) -> bool:
    """Whether means on both sides of a linear predictor of zero are the same."""
    one = np.ones(1)
    with np.errstate(all="ignore"):
        return bool((family.mean(-one, psi) == family.mean(one, psi)).all())
