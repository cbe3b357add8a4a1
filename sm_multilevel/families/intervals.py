"""Log probabilities of the intervals between thresholds, and their derivatives.

The category of a row lies between a threshold a below it and b above it (minus and plus infinity at the
ends). Each evaluator gives log P = log(F(b) - F(a)) with the derivatives by eta, and those by
b that the thresholds need; a moves the rest, since a common shift of the thresholds is one
of eta. Logistic and Gumbel intervals factorise, with the width delta = b - a alone in one
factor, so nothing cancels; the others use differences, and quadrature where narrow.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sm_multilevel.families.latent import CAUCHY, GUMBEL, LOGISTIC, NORMAL, REVERSED_GUMBEL

__all__ = ["INTERVALS", "CategoryRows", "Interval", "Thresholds"]


class Thresholds:
    """What depends on the thresholds alone, by category."""

    def __init__(self, psi):
        psi = np.asarray(psi, dtype=float)
        with np.errstate(over="ignore"):
            self.steps = np.exp(psi[1:])
        self.kappa = psi[0] + np.concatenate([[0.0], np.cumsum(self.steps)])
        self.near = bool(np.max(np.abs(self.kappa)) < 500.0)
        self.low = np.concatenate([[-np.inf], self.kappa])
        self.high = np.concatenate([self.kappa, [np.inf]])
        self.delta = np.concatenate([[np.inf], self.steps, [np.inf]])


class CategoryRows:
    """Thresholds with the categories of rows; what is looked up by category is kept."""

    def __init__(self, thresholds: Thresholds, category: np.ndarray):
        self.thresholds, self.category = thresholds, category
        self._kept: dict[str, np.ndarray] = {}

    def of(self, name: str, by_category) -> np.ndarray:
        """by_category(), one value a row."""
        found = self._kept.get(name)
        if found is None:
            with np.errstate(all="ignore"):
                found = self._kept[name] = by_category().take(self.category, mode="clip")
        return found


class Interval:
    """log P and its derivatives for the categories of `rows`.

    Attributes
    ----------
    logf, score, info, info_slope : ndarray
        By eta.
    high, score_high, info_high : ndarray
        d logf / d b, d score / d b, d info / d b.
    high2 : ndarray
        d2 logf / d b2.
    """

    if TYPE_CHECKING:

        @property
        def logf(self) -> np.ndarray: ...
        @property
        def score(self) -> np.ndarray: ...
        @property
        def info(self) -> np.ndarray: ...
        @property
        def info_slope(self) -> np.ndarray: ...
        @property
        def high(self) -> np.ndarray: ...
        @property
        def score_high(self) -> np.ndarray: ...
        @property
        def info_high(self) -> np.ndarray: ...
        @property
        def high2(self) -> np.ndarray: ...

    def __init__(self, latent, rows: CategoryRows, eta: np.ndarray):
        self._t, self._rows, self._of = rows.thresholds, rows, rows.of


_NEAR = 80.0  # eta and thresholds of usual size


class _LogisticInterval(Interval):
    """log P = log F(b) + log(1 - F(a)) + log(1 - exp(-delta))."""

    def __init__(self, latent, rows, eta):
        super().__init__(latent, rows, eta)
        thresholds = self._t
        self._far = None
        if thresholds.near and eta.size and eta.min() > -_NEAR and eta.max() < _NEAR:
            # A finite number stands for infinity: exp of what underflows is many times slower.
            a = self._of("low_near", lambda: np.maximum(thresholds.low, -600.0)) - eta
            b = eta - self._of("high_near", lambda: np.minimum(thresholds.high, 600.0))
        else:
            a = self._of("low", lambda: thresholds.low) - eta
            b = eta - self._of("high", lambda: thresholds.high)
            self._far = (a.copy(), b.copy())
            np.minimum(a, 700.0, out=a)
            np.minimum(b, 700.0, out=b)
        self._below = np.exp(a, out=a)  # odds of y being below its category, if it were a threshold at a
        self._above = np.exp(b, out=b)

    @cached_property
    def _a(self):
        sf = 1.0 + self._below
        np.reciprocal(sf, out=sf)
        return self._below * sf, sf

    @cached_property
    def _b(self):
        cdf = 1.0 + self._above
        np.reciprocal(cdf, out=cdf)
        return cdf, self._above * cdf

    @cached_property
    def logf(self):
        width = self._of("width", lambda: np.log(-np.expm1(-self._t.delta)))
        if self._far is None:
            logf = np.log1p(self._below)
            logf += np.log1p(self._above)
        else:
            logf = np.logaddexp(self._far[0], 0.0) + np.logaddexp(self._far[1], 0.0)
        return np.subtract(width, logf, out=logf)

    @cached_property
    def score(self):
        return self._a[0] - self._b[1]

    @cached_property
    def _densities(self):
        return self._a[0] * self._a[1], self._b[0] * self._b[1]

    @cached_property
    def info(self):
        return self._densities[0] + self._densities[1]

    @cached_property
    def info_slope(self):
        fa, fb = self._densities
        return fa * (self._a[0] - self._a[1]) + fb * (self._b[0] - self._b[1])

    @cached_property
    def high(self):
        return self._b[1] + self._of("rate", lambda: 1 / np.expm1(self._t.delta))

    @property
    def score_high(self):
        return self._densities[1]

    @cached_property
    def info_high(self):
        return self._densities[1] * (self._b[1] - self._b[0])

    @cached_property
    def high2(self):
        return -self._densities[1] - self._of("curvature", lambda: _inverse_sinh2(self._t.delta))


def _inverse_sinh2(delta):
    """-d/d delta of 1 / expm1(delta)."""
    with np.errstate(over="ignore"):
        return 0.25 / np.sinh(np.minimum(delta, 700.0) / 2) ** 2


class _GumbelInterval(Interval):
    """cloglog: log P = log(1 - F(a)) + log F(x), x = log(e^b - e^a); loglog is its mirror image."""

    def __init__(self, latent, rows, eta):
        super().__init__(latent, rows, eta)
        self._mirror = mirror = latent.mirrored
        self._towards = towards = -1.0 if mirror else 1.0
        self._u = GUMBEL.log_sf(self._of("first", self._first) - towards * eta)
        self._l = GUMBEL.log_cdf(self._of("x", self._x) - towards * eta)
        self._rho = self._of("rho", self._x_by_b)

    def _first(self):
        return -self._t.high if self._mirror else self._t.low

    def _x(self):
        delta = self._t.delta
        x = self._first() + delta + np.log(-np.expm1(-delta))
        last = -self._t.low if self._mirror else self._t.high
        x[0], x[-1] = last[0], last[-1]
        return x

    def _x_by_b(self):
        return 1 / np.expm1(self._t.delta) if self._mirror else -1 / np.expm1(-self._t.delta)

    @cached_property
    def logf(self):
        return self._u.value + self._l.value

    @cached_property
    def score(self):
        return -self._towards * (self._u.d1 + self._l.d1)

    @cached_property
    def info(self):
        return -(self._u.d2 + self._l.d2)

    @cached_property
    def info_slope(self):
        return self._towards * (self._u.d3 + self._l.d3)

    # The mirror image has -b, the upper end of its interval, in u as well.

    @cached_property
    def high(self):
        found = self._l.d1 * self._rho
        return found - self._u.d1 if self._mirror else found

    @cached_property
    def score_high(self):
        found = -self._towards * self._l.d2 * self._rho
        return found - self._u.d2 if self._mirror else found

    @cached_property
    def info_high(self):
        found = -self._l.d3 * self._rho
        return found + self._u.d3 if self._mirror else found

    @cached_property
    def high2(self):
        found = self._l.d2 * self._rho**2 - self._l.d1 * self._of("curvature", lambda: _inverse_sinh2(self._t.delta))
        return found + self._u.d2 if self._mirror else found


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)


class _DifferenceInterval(Interval):
    """By F(b) - F(a) and densities divided by it; averages over the interval where it is narrow."""

    def __init__(self, latent, rows, eta):
        super().__init__(latent, rows, eta)
        thresholds = self._t
        self._latent = latent
        infinity = latent.infinity
        self._a = self._of("low", lambda: np.maximum(thresholds.low, -infinity)) - eta
        self._b = self._of("high", lambda: np.minimum(thresholds.high, infinity)) - eta
        delta = self._of("delta", lambda: np.minimum(thresholds.delta, infinity))
        self._delta = np.broadcast_to(delta, self._a.shape)

    @cached_property
    def _narrow(self):
        """Positions, points of the quadrature, and weights times densities, adding up to one."""
        if np.min(self._t.steps, initial=np.inf) > 0.02:
            return None
        where = np.nonzero(self._delta * (1 + np.abs(self._a)) < 0.02)
        if not len(where[0]):
            return None
        middle, delta = 0.5 * (self._a[where] + self._b[where]), self._delta[where]
        x = middle + 0.5 * delta * _NODES[:, None]
        centre = self._latent.log_pdf(middle)
        density = _WEIGHTS[:, None] * np.exp(self._latent.log_pdf(x) - centre)
        total = density.sum(0)
        with np.errstate(divide="ignore"):
            log_width = np.log(0.5 * delta * total) + centre
            high = np.exp(self._latent.log_pdf(self._b[where]) - centre) / (0.5 * delta * total)
        return where, x, density / total, log_width, high

    @cached_property
    def _width(self):
        """log P, f(a) / P, f(b) / P."""
        with np.errstate(all="ignore"):
            log_width, low, high = self._latent.interval(self._a, self._b, self._delta)
        if self._narrow is not None:
            where = self._narrow[0]
            log_width[where], high[where] = self._narrow[3:]
        return log_width, low, high

    @cached_property
    def _slopes(self):
        """f'/f, f''/f at a and at b."""
        return self._latent.slopes(self._a, 2), self._latent.slopes(self._b, 2)

    def _average(self, order, found):
        if self._narrow is not None:
            where, x, weight = self._narrow[:3]
            found[where] = (-1) ** order * np.sum(weight * self._latent.slopes(x, order)[-1], 0)
        return found

    @property
    def logf(self):
        return self._width[0]

    @cached_property
    def score(self):
        with np.errstate(all="ignore"):
            return self._average(1, self._width[1] - self._width[2])

    @cached_property
    def _second(self):  # P'' / P
        (one_a, _), (one_b, _) = self._slopes
        with np.errstate(all="ignore"):
            return self._average(2, self._width[2] * one_b - self._width[1] * one_a)

    @cached_property
    def info(self):
        return self.score**2 - self._second

    @cached_property
    def info_slope(self):
        (_, two_a), (_, two_b) = self._slopes
        with np.errstate(all="ignore"):
            third = self._average(3, self._width[1] * two_a - self._width[2] * two_b)
        return -(third - 3 * self.score * self._second + 2 * self.score**3)

    @property
    def high(self):
        return self._width[2]

    @cached_property
    def score_high(self):
        return -self.high * (self._slopes[1][0] + self.score)

    @cached_property
    def info_high(self):
        one, two = self._slopes[1]
        return self.high * (self._second - two - 2 * self.score * (one + self.score))

    @cached_property
    def high2(self):
        return self.high * (self._slopes[1][0] - self.high)


INTERVALS: dict[str, tuple[Any, type[Interval]]] = {
    "logit": (LOGISTIC, _LogisticInterval),
    "probit": (NORMAL, _DifferenceInterval),
    "cloglog": (GUMBEL, _GumbelInterval),
    "loglog": (REVERSED_GUMBEL, _GumbelInterval),
    "cauchit": (CAUCHY, _DifferenceInterval),
}
