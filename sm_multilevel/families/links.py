"""Inverse links with three derivatives, for any link of statsmodels or a user's own."""

from __future__ import annotations

import numpy as np
from scipy import special
from statsmodels.genmod.families import links

__all__ = ["InverseLink", "inverse_link"]

_SQRT_2PI = np.sqrt(2 * np.pi)
_LARGE = 700.0  # exp of it and of its negative are finite and not zero


class InverseLink:
    """An inverse link mu(eta).

    This base takes any statsmodels link: the value and two derivatives are the link's own,
    the third is a central difference of the second.

    Parameters
    ----------
    link : statsmodels Link

    Attributes
    ----------
    link : statsmodels Link
        The link itself, for mean -> linear predictor.
    name : str
    units : bool
        Whether eta has the units of the mean, in some power.
    any_mean : bool
        Whether it takes means of either sign.
    """

    units = False
    any_mean = False

    def __init__(self, link):
        self.link = link
        self.name = type(link).__name__.lower()

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """mu(eta)."""
        return np.asarray(self.link.inverse(eta), dtype=float)

    def derivative(self, eta: np.ndarray, order: int) -> np.ndarray:
        """The first, second or third derivative of mu(eta)."""
        if order == 1:
            return np.asarray(self.link.inverse_deriv(eta), dtype=float)
        if order == 2:
            # Not the link's inverse_deriv2, which raises in some of them or cannot take nodes x rows.
            return self._difference(eta, 1)
        h = 1e-4 * np.maximum(np.abs(eta), 1.0)  # second difference of the first derivative
        f = self.link.inverse_deriv
        return (np.asarray(f(eta + h)) - 2 * np.asarray(f(eta)) + np.asarray(f(eta - h))) / h**2

    def _difference(self, eta, order):
        h = 1e-5 * np.maximum(np.abs(eta), 1.0)
        return (self.derivative(eta + h, order) - self.derivative(eta - h, order)) / (2 * h)


class _Named(InverseLink):
    """A known link; subclasses have formulas for everything."""

    label = ""

    def __init__(self, link):
        self.link = link
        self.name = self.label


class _Log(_Named):
    label = "log"

    def mean(self, eta):
        return np.exp(np.clip(eta, -_LARGE, _LARGE))

    def derivative(self, eta, order):
        return self.mean(eta)


class _LogC(_Named):
    label = "logc"

    def mean(self, eta):
        return -np.expm1(np.minimum(eta, _LARGE))

    def derivative(self, eta, order):
        return -np.exp(np.minimum(eta, _LARGE))


class _Logit(_Named):
    label = "logit"

    def mean(self, eta):
        return special.expit(eta)

    def derivative(self, eta, order):
        p, q = special.expit(eta), special.expit(-np.asarray(eta))
        if order == 1:
            return p * q
        return p * q * (q - p) if order == 2 else p * q * (1 - 6 * p * q)


class _Probit(_Named):
    label = "probit"

    def mean(self, eta):
        return special.ndtr(eta)

    def derivative(self, eta, order):
        pdf = np.exp(-0.5 * np.square(eta)) / _SQRT_2PI
        if order == 1:
            return pdf
        return -eta * pdf if order == 2 else (np.square(eta) - 1) * pdf


class _Cauchy(_Named):
    label = "cauchit"

    def mean(self, eta):
        return np.arctan2(1.0, -np.asarray(eta)) / np.pi

    def derivative(self, eta, order):
        v = 1 / (1 + np.square(eta))
        if order == 1:
            return v / np.pi
        return -2 * eta * v**2 / np.pi if order == 2 else (6 * np.square(eta) - 2) * v**3 / np.pi


class _CLogLog(_Named):
    label = "cloglog"

    def mean(self, eta):
        return -np.expm1(-np.exp(np.minimum(eta, 300.0)))

    def derivative(self, eta, order):
        t = np.exp(np.clip(eta, -_LARGE, 300.0))
        f = t * np.exp(-t)
        if order == 1:
            return f
        return f * (1 - t) if order == 2 else f * (1 - 3 * t + t * t)


class _LogLog(_Named):
    label = "loglog"

    def mean(self, eta):
        return np.exp(-np.exp(np.minimum(-np.asarray(eta), 300.0)))

    def derivative(self, eta, order):
        t = np.exp(np.clip(-np.asarray(eta), -_LARGE, 300.0))
        f = t * np.exp(-t)
        if order == 1:
            return f
        return f * (t - 1) if order == 2 else f * (1 - 3 * t + t * t)


class _Power(InverseLink):
    """mu = eta^(1/power)."""

    _names = {1.0: "identity", 0.5: "sqrt", -1.0: "inverse", -2.0: "inverse_squared"}
    units = True

    def __init__(self, link):
        self.link = link
        self.power = float(link.power)
        self.any_mean = self.power == 1.0
        self.name = self._names.get(self.power, f"power({self.power:g})")

    def mean(self, eta):
        return self._term(np.asarray(eta, dtype=float), 0)

    def derivative(self, eta, order):
        return self._term(np.asarray(eta, dtype=float), order)

    def _term(self, eta, order):
        exponent, factor = 1.0 / self.power, 1.0
        for _ in range(order):
            factor, exponent = factor * exponent, exponent - 1.0
        if factor == 0.0 or exponent == 0.0:
            return np.full(eta.shape, factor)
        return factor * (eta if exponent == 1.0 else eta**exponent)


class _NegBinLink(_Named):
    """mu = 1 / (alpha (exp(-eta) - 1)), for eta < 0."""

    label = "negbin"

    def mean(self, eta):
        return 1 / (self.link.alpha * np.expm1(-np.asarray(eta)))

    def derivative(self, eta, order):
        # m = 1/expm1(-eta): m' = m + m^2.
        m = 1 / np.expm1(-np.asarray(eta))
        d = m * (1 + m)
        if order > 1:
            d = d * (1 + 2 * m) if order == 2 else d * (1 + 6 * m + 6 * m * m)
        return d / self.link.alpha


_BUILDERS = {
    links.Log: _Log,
    links.LogC: _LogC,
    links.Logit: _Logit,
    links.Probit: _Probit,
    links.Cauchy: _Cauchy,
    links.CLogLog: _CLogLog,
    links.LogLog: _LogLog,
    links.NegativeBinomial: _NegBinLink,
    links.Power: _Power,
}
_METHODS = ("inverse", "inverse_deriv")


def inverse_link(link) -> InverseLink:
    """The inverse of a statsmodels link.

    Parameters
    ----------
    link : statsmodels Link
        A subclass of a known link counts as that link unless it has an ``inverse`` of its own.

    Returns
    -------
    InverseLink
    """
    own = type(link)
    for cls in own.__mro__:
        if cls in _BUILDERS and all(getattr(own, m) is getattr(cls, m) for m in _METHODS):
            return _BUILDERS[cls](link)
    return InverseLink(link)
