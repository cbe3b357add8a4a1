"""Sums over 0 <= j < y that negative binomial distributions are made of, for any b down to 0.

C(y, b) = sum log(1 + j b), b = alpha / mu, and its derivatives. Where b is small, gamma
functions of 1 / b would leave little after subtraction: `_Series` has taken out by hand what cancels.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import special

__all__ = ["SMALL", "decline", "decline_slope", "log_ratio", "rising"]

_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
_SMALL_B = 1 / 20  # up to here Stirling's series is exact with these terms
SMALL = 0.01
_MANY = 20  # counts above which sums over j < y are not taken term by term
_J = np.arange(9)
_SIGN = (-1.0) ** _J


def _with_series(z, formula, series):
    """formula(z), but for small z a power series with these coefficients, the constant first."""
    z = np.asarray(z, dtype=float)
    small = z < SMALL
    if not np.any(small):
        return formula(z)
    with np.errstate(all="ignore"):
        out = np.array(formula(z))
    out[small] = np.polynomial.polynomial.polyval(z[small], series)
    return out


def log_ratio(z):
    """L(z) = log(1 + z) / z."""
    return _with_series(z, lambda z: np.log1p(z) / z, _SIGN / (_J + 1))


def decline(z):
    """M(z) = -L'(z)."""
    return _with_series(z, lambda z: (np.log1p(z) / z - 1 / (1 + z)) / z, _SIGN * (_J + 1) / (_J + 2))


def decline_slope(z):
    """M'(z)."""
    series = -_SIGN * (_J + 1) * (_J + 2) / (_J + 3)
    return _with_series(z, lambda z: ((1 + z) ** -2.0 - 2 * decline(z)) / z, series)


def _n(z):
    """N(z) = (1 - L(z)) / z."""
    return _with_series(z, lambda z: (z - np.log1p(z)) / (z * z), _SIGN / (_J + 2))


def _n1(z):
    """N'(z)."""
    return _with_series(z, lambda z: (1 / (1 + z) - 2 * _n(z)) / z, -_SIGN * (_J + 1) / (_J + 3))


class _Series:
    """C and derivatives for small b, by Stirling's series with what cancels taken out.

    With q = 1 / (1 + b y) and g = b q, log gamma leaves sums of c (g^m - b^m), m = 1, 3, ...;
    b d/db of g^m is m q g^m.

    Attributes
    ----------
    value : ndarray
        C.
    d1, d2 : ndarray
        Derivatives by alpha: sum j w / mu, -sum j^2 w^2 / mu^2, with w = 1 / (1 + j b).
    spread, skew : ndarray
        sum j w^2 / mu, sum j w^2 (2 w - 1) / mu.
    """

    def __init__(self, y, alpha, mu):
        self._y, self._mu = y, mu
        self._b = alpha / mu
        self._z = self._b * y
        self._q = 1 / (1 + self._z)
        self._g = self._b * self._q
        self._many = y > 1  # sums over j of 0 and 1 counts are 0, and rounding may not make them more

    def _sum(self, term):
        g2, b2 = self._g**2, self._b**2
        total, g, b = 0.0, 1.0, 1.0  # g^(m-1), b^(m-1)
        for k, c in enumerate(_STIRLING):
            total = total + c * term(2 * k + 1, g, b)
            g, b = g * g2, b * b2
        return total

    @cached_property
    def value(self):
        y, z = self._y, self._z
        rest = self._sum(lambda m, g, b: g * self._g - b * self._b)
        return self._many * ((y - 0.5) * np.log1p(z) - y * z * _n(z) + rest)

    @cached_property
    def d1(self):
        y, q = self._y, self._q
        rest = self._sum(lambda m, g, b: m * (q * q * g - b))
        return self._many * (y * y * _n(self._z) - 0.5 * y * q + rest) / self._mu

    @cached_property
    def d2(self):
        y, q = self._y, self._q

        def term(m, g, b):
            if m == 1:
                return -2 * y * q**3
            return m * q**3 * ((m + 1) * q - 2) * self._g ** (m - 2) - (m * m - m) * self._b ** (m - 2)

        return self._many * (y**3 * _n1(self._z) + 0.5 * (y * q) ** 2 + self._sum(term)) / self._mu**2

    @cached_property
    def spread(self):
        y, q = self._y, self._q
        rest = self._sum(lambda m, g, b: m * q * q * ((m + 1) * q - 1) * g - m * m * b)
        return self._many * (y * y * decline(self._z) - 0.5 * y * q * q + rest) / self._mu

    @cached_property
    def skew(self):
        y, z, q = self._y, self._z, self._q

        def term(m, g, b):
            inner = (m + 1) * q * (m * q - 2 * (1 - q)) + (1 - q) - m * q
            return m * q * q * inner * g - m**3 * b

        main = y * y * (decline(z) + z * decline_slope(z)) - 0.5 * y * q * q * (2 * q - 1)
        return self._many * (main + self._sum(term)) / self._mu


class _Direct:
    """The same for b that is not small, nu = 1 / b; j = 0 contributes nothing."""

    def __init__(self, y, alpha, mu):
        nu = mu / alpha
        self._y, self._nu = np.broadcast_arrays(np.maximum(y, 1.0), nu)
        self._alpha = alpha

    @cached_property
    def _sums(self):
        """Sums of w, w^2, w^3 over 0 < j < y: term by term, but by gamma functions where y is large."""
        y, nu = self._y.ravel(), self._nu.ravel()
        sums = np.zeros((3, len(y)))
        large = np.nonzero(y > _MANY)[0]
        y1, nu1 = y[large], nu[large]
        sums[0, large] = nu1 * (special.psi(nu1 + y1) - special.psi(nu1 + 1))
        sums[1, large] = nu1**2 * (special.zeta(2, nu1 + 1) - special.zeta(2, nu1 + y1))
        sums[2, large] = nu1**3 * (special.zeta(3, nu1 + 1) - special.zeta(3, nu1 + y1))
        rows = np.nonzero((y > 1) & (y <= _MANY))[0]
        for j in range(1, _MANY):
            if not len(rows):
                break
            w = nu[rows] / (nu[rows] + j)
            square = w * w
            sums[0, rows] += w
            sums[1, rows] += square
            sums[2, rows] += w * square
            rows = rows[y[rows] > j + 1]
        return sums.reshape(3, *self._y.shape)

    @cached_property
    def value(self):
        y, nu = self._y, self._nu
        return special.gammaln(nu + y) - special.gammaln(nu + 1) - (y - 1) * np.log(nu)

    @cached_property
    def d1(self):
        return (self._y - 1 - self._sums[0]) / self._alpha

    @cached_property
    def d2(self):
        e1, e2, _ = self._sums
        return -(self._y - 1 - 2 * e1 + e2) / self._alpha**2

    @cached_property
    def spread(self):
        e1, e2, _ = self._sums
        return (e1 - e2) / self._alpha

    @cached_property
    def skew(self):
        e1, e2, e3 = self._sums
        return (3 * e2 - e1 - 2 * e3) / self._alpha


class _Mixed:
    """Either, element by element."""

    def __init__(self, y, alpha, mu, small):
        y = np.broadcast_to(y, small.shape)
        self._small = small
        self._parts = _Series(y[small], alpha, mu[small]), _Direct(y[~small], alpha, mu[~small])

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        out = np.empty(self._small.shape)
        out[self._small], out[~self._small] = (getattr(part, name) for part in self._parts)
        self.__dict__[name] = out
        return out


def rising(y: np.ndarray, alpha: float, mu: np.ndarray | float):
    """C(y, alpha / mu) with its derivatives, as `_Series` describes them."""
    small = alpha <= _SMALL_B * np.asarray(mu)
    if np.all(small):
        return _Series(y, alpha, mu)
    if not np.any(small):
        return _Direct(y, alpha, mu)
    return _Mixed(y, alpha, mu, small)
