"""Distribution functions F of latent responses, by their logarithms with three derivatives.

A binomial link is such an F (P(y = 1) = F(eta)), and so is an ordinal one
(P(y <= k) = F(kappa_k - eta)). log F and log(1 - F) stay exact where F rounds to 0 or 1.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from sm_multilevel.families.links import InverseLink

__all__ = ["CAUCHY", "GUMBEL", "LOGISTIC", "NORMAL", "REVERSED_GUMBEL", "Jet", "Latent", "LinkLatent", "latent_of"]

_SQRT_2PI = np.sqrt(2 * np.pi)
_SQRT_2 = np.sqrt(2.0)


class Jet:
    """log F(x), or log(1 - F(x)), and its derivatives, computed when asked for."""

    if TYPE_CHECKING:

        @property
        def value(self) -> np.ndarray: ...
        @property
        def d1(self) -> np.ndarray: ...
        @property
        def d2(self) -> np.ndarray: ...
        @property
        def d3(self) -> np.ndarray: ...

    def __init__(self, x: np.ndarray):
        self.x = x


class _Mirrored(Jet):
    """j(-x) as a function of x, given j at -x."""

    def __init__(self, jet: Jet):
        self.jet = jet

    value = property(lambda self: self.jet.value)
    d1 = property(lambda self: -self.jet.d1)
    d2 = property(lambda self: self.jet.d2)
    d3 = property(lambda self: -self.jet.d3)


class Latent:
    """A distribution function F.

    This base is symmetric: 1 - F(x) = F(-x).

    Attributes
    ----------
    name : str
        Of the link.
    symmetric : bool
    mirrored : bool
        Whether it is the mirror image of the one that has the formulas.
    variance : float or None
        Variance of the distribution, None where there is none.
    """

    name = ""
    symmetric = True
    mirrored = False
    variance: float | None = None
    jet: type[Jet]

    def log_cdf(self, x: np.ndarray) -> Jet:
        """log F(x)."""
        return self.jet(x)

    def log_sf(self, x: np.ndarray) -> Jet:
        """log(1 - F(x))."""
        return _Mirrored(self.log_cdf(-x))

    def cdf(self, x):
        """F(x)."""
        raise NotImplementedError

    def ppf(self, p):
        """The quantile function."""
        raise NotImplementedError


class _LogisticJet(Jet):
    @cached_property
    def _sf(self):
        return special.expit(-self.x)

    @cached_property
    def value(self):
        return np.minimum(self.x, 0.0) - np.log1p(np.exp(-np.abs(self.x)))

    @property
    def d1(self):
        return self._sf

    @cached_property
    def d2(self):
        return -self._sf * special.expit(self.x)

    @cached_property
    def d3(self):
        return self.d2 * (2 * self._sf - 1)


class _Logistic(Latent):
    name = "logit"
    variance = np.pi**2 / 3
    jet = _LogisticJet

    def cdf(self, x):
        return special.expit(x)

    def ppf(self, p):
        return special.logit(p)


class _NormalJet(Jet):
    @cached_property
    def value(self):
        return special.log_ndtr(self.x)

    @cached_property
    def d1(self):
        # erfcx has the density's decay divided out, so that the ratio stays exact in the tail.
        return np.sqrt(2 / np.pi) / special.erfcx(self.x / -_SQRT_2)

    @cached_property
    def d2(self):
        return -self.d1 * (self.x + self.d1)

    @cached_property
    def d3(self):
        return -self.d2 * (self.x + self.d1) - self.d1 * (1 + self.d2)


class _Normal(Latent):
    name = "probit"
    variance = 1.0
    jet = _NormalJet
    infinity = 1e8  # stands for infinity where infinity times zero must be zero

    def cdf(self, x):
        return special.ndtr(x)

    def ppf(self, p):
        return special.ndtri(p)

    def log_pdf(self, x):
        return -0.5 * x * x - np.log(_SQRT_2PI)

    def slopes(self, x, order):
        """f'/f, f''/f, f'''/f, as many as asked for."""
        return [-x, x * x - 1, x * (3 - x * x)][:order]

    def interval(self, a, b, delta):
        """log(F(b) - F(a)) and the densities at a and b divided by F(b) - F(a)."""
        flip = a + b > 0  # to the left, where 1 - F does not round
        a, b = np.where(flip, -b, a), np.where(flip, -a, b)
        c = np.minimum(b, 0.0)  # exp(-c^2/2) is divided out of everything
        upper = np.where(b > 0, 2 * special.ndtr(b), special.erfcx(c / -_SQRT_2))
        at_a = np.exp(0.5 * (c - a) * (c + a))
        width = 0.5 * (upper - special.erfcx(a / -_SQRT_2) * at_a)
        low = at_a / (_SQRT_2PI * width)
        high = np.exp(0.5 * (c - b) * (c + b)) / (_SQRT_2PI * width)
        log_width = np.log(width) - 0.5 * c * c
        return log_width, np.where(flip, high, low), np.where(flip, low, high)


class _CauchyJet(Jet):
    @cached_property
    def value(self):
        tail = np.arctan2(1.0, np.abs(self.x)) / np.pi
        return np.where(self.x > 0, np.log1p(-tail), np.log(tail))

    @cached_property
    def d1(self):
        return 1 / ((1 + self.x**2) * np.arctan2(1.0, -self.x))

    @cached_property
    def d2(self):
        (one,) = CAUCHY.slopes(self.x, 1)
        return self.d1 * (one - self.d1)

    @cached_property
    def d3(self):
        one, two = CAUCHY.slopes(self.x, 2)
        return self.d1 * (two - 3 * self.d1 * one + 2 * self.d1**2)


class _Cauchy(Latent):
    name = "cauchit"
    jet = _CauchyJet
    infinity = 1e150

    def cdf(self, x):
        return np.arctan2(1.0, -np.asarray(x)) / np.pi

    def ppf(self, p):
        return -1 / np.tan(np.pi * np.asarray(p))

    def log_pdf(self, x):
        return -np.log(np.pi * (1 + x * x))

    def slopes(self, x, order):
        """f'/f, f''/f, f'''/f, as many as asked for."""
        v = 1 / (1 + x * x)
        found = [-2 * x * v]
        if order > 1:
            found.append((6 - 8 * v) * v)  # (6 x^2 - 2) / (1 + x^2)^2
        if order > 2:
            found.append(-24 * x * (1 - 2 * v) * v * v)
        return found

    def interval(self, a, b, delta):
        """log(F(b) - F(a)) and the densities at a and b divided by F(b) - F(a)."""
        width = np.arctan2(delta, 1 + a * b)
        return np.log(width / np.pi), 1 / ((1 + a * a) * width), 1 / ((1 + b * b) * width)


class _GumbelLogCdf(Jet):
    """log(1 - exp(-t)), t = exp(x); d1 = t / expm1(t)."""

    @cached_property
    def _t(self):
        return np.exp(np.clip(self.x, -700.0, 6.5))  # beyond, F is 1 and all derivatives are 0

    @cached_property
    def _small(self):
        return np.nonzero(self._t < 0.1)

    @cached_property
    def value(self):
        t = self._t
        exact = np.log1p(-np.exp(-np.maximum(t, 0.5)))
        return np.where(t > 0.7, exact, np.minimum(self.x, 0.0) + np.log(-np.expm1(-t) / t))

    @cached_property
    def d1(self):
        return self._t / np.expm1(self._t)

    @cached_property
    def d2(self):
        d2 = self.d1 * (1 - self._t - self.d1)
        t = self._t[self._small]
        d2[self._small] = t * (-1 / 2 + t * (1 / 6 + t**2 * (-1 / 180 + t**2 * (1 / 5040 - t**2 / 151200))))
        return d2

    @cached_property
    def d3(self):
        t, d1 = self._t, self.d1
        d3 = d1 * ((1 - 3 * t + t * t) - 3 * d1 * (1 - t) + 2 * d1 * d1)
        t = t[self._small]
        d3[self._small] = t * (-1 / 2 + t * (1 / 3 + t**2 * (-1 / 45 + t**2 * (1 / 840 - t**2 / 18900))))
        return d3


class _GumbelLogSf(Jet):
    @cached_property
    def value(self):
        return -np.exp(np.clip(self.x, -700.0, 300.0))

    d1 = property(lambda self: self.value)
    d2 = property(lambda self: self.value)
    d3 = property(lambda self: self.value)


class _Gumbel(Latent):
    """F(x) = 1 - exp(-exp(x)): of the smallest of many."""

    name = "cloglog"
    symmetric = False
    variance = np.pi**2 / 6
    jet = _GumbelLogCdf

    def log_sf(self, x):
        return _GumbelLogSf(x)

    def cdf(self, x):
        return -np.expm1(-np.exp(np.minimum(x, 300.0)))

    def ppf(self, p):
        return np.log(-np.log1p(-np.asarray(p)))


class _Reversed(Latent):
    """F(x) = exp(-exp(-x)): of the largest of many."""

    name = "loglog"
    symmetric = False
    mirrored = True
    variance = np.pi**2 / 6

    def log_cdf(self, x):
        return _Mirrored(_GumbelLogSf(-x))

    def log_sf(self, x):
        return _Mirrored(_GumbelLogCdf(-x))

    def cdf(self, x):
        return np.exp(-np.exp(np.minimum(-np.asarray(x), 300.0)))

    def ppf(self, p):
        return -np.log(-np.log(np.asarray(p)))


class _LogJet(Jet):
    """log F for F = exp(x), x < 0."""

    @cached_property
    def value(self):
        return np.where(self.x <= 0, self.x, -np.inf)

    @cached_property
    def d1(self):
        return np.ones_like(self.x)

    @cached_property
    def d2(self):
        return np.zeros_like(self.x)

    d3 = property(lambda self: self.d2)


class _LogComplementJet(Jet):
    """log(1 - exp(x)), x < 0; d1 = -1 / expm1(-x)."""

    @cached_property
    def value(self):
        return np.log(-np.expm1(self.x))

    @cached_property
    def d1(self):
        return -1 / np.expm1(np.minimum(-self.x, 700.0))

    @cached_property
    def d2(self):
        return self.d1 * (1 - self.d1)

    @cached_property
    def d3(self):
        return self.d2 * (1 - 2 * self.d1)


class _Log(Latent):
    name = "log"
    symmetric = False
    jet = _LogJet

    def log_sf(self, x):
        return _LogComplementJet(x)


class _LogC(Latent):
    name = "logc"
    symmetric = False
    jet = _LogComplementJet

    def log_sf(self, x):
        return _LogJet(x)


class _ShareJet(Jet):
    """log share(eta) for share = mu or 1 - mu of any link."""

    def __init__(self, x, inverse, complement):
        super().__init__(x)
        self.inverse = inverse
        mu = inverse.mean(x)
        self._sign = -1.0 if complement else 1.0
        inside = (mu >= 0) & (mu <= 1)
        self._share = np.where(inside, 1 - mu if complement else mu, np.nan)

    def _ratio(self, order):
        return self._sign * self.inverse.derivative(self.x, order) / self._share

    @cached_property
    def value(self):
        return np.log(self._share)

    @cached_property
    def d1(self):
        return self._ratio(1)

    @cached_property
    def _second(self):
        return self._ratio(2)

    @cached_property
    def d2(self):
        return self._second - self.d1**2

    @cached_property
    def d3(self):
        return self._ratio(3) - 3 * self.d1 * self._second + 2 * self.d1**3


class LinkLatent(Latent):
    """F = the inverse of any other link."""

    symmetric = False

    def __init__(self, inverse: InverseLink):
        self.inverse = inverse
        self.name = inverse.name

    def log_cdf(self, x):
        return _ShareJet(x, self.inverse, False)

    def log_sf(self, x):
        return _ShareJet(x, self.inverse, True)

    def cdf(self, x):
        return self.inverse.mean(x)


LOGISTIC = _Logistic()
NORMAL = _Normal()
CAUCHY = _Cauchy()
GUMBEL = _Gumbel()
REVERSED_GUMBEL = _Reversed()
_KNOWN = {latent.name: latent for latent in (LOGISTIC, NORMAL, CAUCHY, GUMBEL, REVERSED_GUMBEL, _Log(), _LogC())}


def latent_of(inverse: InverseLink) -> Latent:
    """The distribution function that an inverse link is."""
    if type(inverse) is InverseLink:  # a user's own, whatever its name
        return LinkLatent(inverse)
    return _KNOWN.get(inverse.name) or LinkLatent(inverse)
