"""Distributions as functions of their means: variance function, density, draws."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from sm_multilevel.families.response import ResponseData
from sm_multilevel.families.rows import refuse

__all__ = ["GammaKernel", "GaussianKernel", "InverseGaussianKernel", "Kernel", "PoissonKernel", "check_counts"]


def _stirling(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """h(x) = x log x - x - lgamma(x), x h'(x) and x^2 h''(x), without cancellation for large x."""
    x = np.asarray(x, dtype=float)
    large = np.maximum(x, 20.0)
    v = 1 / large**2
    r0 = (1 / 12 - v * (1 / 360 - v * (1 / 1260 - v * (1 / 1680 - v / 1188)))) / large
    r1 = -(1 / 12 - v * (1 / 120 - v * (1 / 252 - v * (1 / 240 - v / 132)))) / large
    r2 = (1 / 6 - v * (1 / 30 - v * (1 / 42 - v * (1 / 30 - v * 5 / 66)))) / large
    series = (0.5 * np.log(large / (2 * np.pi)) - r0, 0.5 - r1, -0.5 - r2)
    if np.all(x >= 20.0):
        return series
    small = np.minimum(x, 20.0)
    log = np.log(small)
    direct = (
        small * log - small - special.gammaln(small),
        small * (log - special.psi(small)),
        small - small**2 * special.polygamma(1, small),
    )
    return tuple(np.where(x >= 20.0, s, d) for s, d in zip(series, direct))


class Kernel:
    """A distribution as a function of its mean; k is 1 / dispersion (with var_weights).

    Attributes
    ----------
    name : str
    dispersion : bool
        Whether the dispersion is a parameter.
    discrete, positive : bool
        Whether the response is, and whether the mean must be.
    counts : bool
        Whether a response of zero is the likelier, the smaller the mean.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.families.kernels import GammaKernel
    >>> variance, slope, _ = GammaKernel().variance(np.array([3.0]))
    >>> variance.tolist(), slope.tolist()
    ([9.0], [6.0])
    """

    name = ""
    dispersion = False
    discrete = False
    positive = True
    counts = False

    def check(self, data: ResponseData, what: str) -> None:
        """Raise ValueError for values the distribution does not have."""

    def variance(self, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """V(mu) and its first two derivatives."""
        raise NotImplementedError

    def q(self, y: np.ndarray, mu: np.ndarray) -> np.ndarray:
        """The part of log f in which the mean is."""
        raise NotImplementedError

    def constant(self, y: np.ndarray) -> np.ndarray:
        """The part of log f in which only the response is."""
        raise NotImplementedError

    def normaliser(self, k: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """c(k), k c'(k), k^2 c''(k): Gaussian and inverse Gaussian."""
        half = np.full(np.shape(k), 0.5)
        return 0.5 * np.log(k), half, -half

    def start_dispersion(self, deviance: float, pearson: float) -> float:
        """Maximum-likelihood estimate from the mean unit deviance (or from Pearson's statistic)."""
        return deviance

    def unit_deviance(self, y: np.ndarray, mu: np.ndarray) -> np.ndarray:
        """2 (q(y, y) - q(y, mu))."""
        return np.maximum(2 * (self.q(y, y) - self.q(y, mu)), 0.0)

    def start_mean(self, data: ResponseData) -> np.ndarray:
        """A mean inside the domain."""
        y = data.endog
        centre = np.mean(y)
        if not self.positive:
            return np.array(y)
        return 0.5 * (y + (centre if centre > 0 else 0.1))

    def cdf(self, data: ResponseData, mu: np.ndarray, scale: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """P(Y < y), P(Y <= y); ``scale`` is the dispersion over var_weights."""
        raise NotImplementedError

    def simulate(self, data: ResponseData, mu, scale, rng) -> np.ndarray:
        """New responses."""
        raise NotImplementedError


def check_counts(y: np.ndarray, what: str) -> None:
    """Refuse what is not a count."""
    refuse(y < 0, y, what, "has negative counts", "Counts are 0, 1, 2, ...; use a Gaussian family for other responses.")
    advice = "Counts are whole numbers; for rates give the counts as response and exposure=."
    refuse(y != np.floor(y), y, what, "has counts that are not whole numbers", advice)


class PoissonKernel(Kernel):
    """Poisson."""

    name = "Poisson"
    discrete = True
    counts = True

    def check(self, data, what):
        check_counts(data.endog, what)

    def variance(self, mu):
        return mu, np.ones_like(mu), np.zeros_like(mu)

    def q(self, y, mu):
        return special.xlogy(y, mu) - mu

    def constant(self, y):
        return -special.gammaln(y + 1)

    def cdf(self, data, mu, scale):
        y = data.endog
        return np.where(y > 0, special.pdtr(np.maximum(y - 1, 0), mu), 0.0), special.pdtr(y, mu)

    def simulate(self, data, mu, scale, rng):
        return rng.poisson(mu).astype(float)


class GaussianKernel(Kernel):
    """Gaussian."""

    name = "Gaussian"
    dispersion = True
    positive = False

    def variance(self, mu):
        return np.ones_like(mu), np.zeros_like(mu), np.zeros_like(mu)

    def q(self, y, mu):
        return -0.5 * np.square(y - mu)

    def constant(self, y):
        return np.full(y.shape, -0.5 * np.log(2 * np.pi))

    def cdf(self, data, mu, scale):
        p = special.ndtr((data.endog - mu) / np.sqrt(scale))
        return p, p

    def simulate(self, data, mu, scale, rng):
        return mu + np.sqrt(scale) * rng.standard_normal(np.shape(mu))


def _check_positive(data, what):
    advice = "Leave these rows out, or choose a family that has such values (Gaussian, or a two-part model)."
    refuse(data.endog <= 0, data.endog, what, "has values that are zero or negative", advice)


class GammaKernel(Kernel):
    """Gamma with shape k."""

    name = "Gamma"
    dispersion = True

    def check(self, data, what):
        _check_positive(data, what)

    def variance(self, mu):
        return mu * mu, 2 * mu, np.full(np.shape(mu), 2.0)

    def q(self, y, mu):
        ratio = y / mu
        return 1 + np.log(ratio) - ratio

    def constant(self, y):
        return -np.log(y)

    def normaliser(self, k):
        return _stirling(k)

    def start_dispersion(self, deviance, pearson):
        # Thom's approximation of the root of log k - psi(k) = deviance / 2.
        s = max(deviance / 2, 1e-12)
        return 12 * s / (3 - s + np.sqrt((s - 3) ** 2 + 24 * s))

    def cdf(self, data, mu, scale):
        p = special.gammainc(1 / scale, data.endog / (mu * scale))
        return p, p

    def simulate(self, data, mu, scale, rng):
        return rng.gamma(np.broadcast_to(1 / scale, np.shape(mu)), mu * scale)


class InverseGaussianKernel(Kernel):
    """Inverse Gaussian, variance dispersion mu^3."""

    name = "InverseGaussian"
    dispersion = True

    def check(self, data, what):
        _check_positive(data, what)

    def variance(self, mu):
        return mu**3, 3 * mu * mu, 6 * mu

    def q(self, y, mu):
        return -0.5 * np.square(y / mu - 1) / y

    def constant(self, y):
        return -0.5 * np.log(2 * np.pi) - 1.5 * np.log(y)

    def cdf(self, data, mu, scale):
        p = stats.invgauss.cdf(data.endog, mu * scale, scale=1 / scale)
        return p, p

    def simulate(self, data, mu, scale, rng):
        return rng.wald(mu, np.broadcast_to(1 / scale, np.shape(mu)))
