"""The forms of responses that are fast and exact in the tails.

Every pass over an array counts here, so that each exponential is taken once and shared.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sm_multilevel.families.exponential import DispersionResponse, PlainResponse
from sm_multilevel.families.kernels import Kernel
from sm_multilevel.families.links import InverseLink
from sm_multilevel.families.rows import PlainLocal, within

__all__ = ["bound_class"]


class _PoissonLog(PlainLocal):
    """``counts`` are times the weights; mu is too, where there are weights."""

    def __init__(self, eta, response):
        self._eta, self._response = eta, response

    @cached_property
    def _mu(self):
        mu = np.exp(within(self._eta))
        if self._response.weight is not None:
            mu *= self._response.weight
        return mu

    @cached_property
    def logf(self):
        logf = self._response.counts * self._eta
        logf -= self._mu
        logf += self._response.weighted_constant
        return logf

    @cached_property
    def score(self):
        return self._response.counts - self._mu

    @property
    def info(self):
        return self._mu

    info_slope = info
    expected_info = info


class _PoissonLogResponse(PlainResponse):
    _rows: tuple[str, ...] = (*PlainResponse._rows, "counts", "weighted_constant")

    def __init__(self, family, data):
        super().__init__(family, data)
        w = self.weight
        self.counts = self.endog if w is None else w * self.endog
        self.weighted_constant = self.constant if w is None else w * self.constant

    def at(self, eta, psi):
        return _PoissonLog(eta, self)


class _GammaLogUnit:
    """By ratio = y / mu."""

    def __init__(self, log_ratio):
        self._log_ratio = log_ratio

    @cached_property
    def info(self):
        return np.exp(within(self._log_ratio))

    @cached_property
    def q(self):
        q = 1.0 + self._log_ratio
        q -= self.info
        return q

    @cached_property
    def score(self):
        return self.info - 1.0

    @property
    def info_slope(self):
        return -self.info

    @property
    def expected_info(self):
        return np.ones_like(self.info)


class _GammaLogResponse(DispersionResponse):
    _rows: tuple[str, ...] = (*DispersionResponse._rows, "log_endog")

    def __init__(self, family, data):
        super().__init__(family, data)
        self.log_endog = np.log(self.endog)

    def unit(self, eta):
        return _GammaLogUnit(self.log_endog - eta)


class _InverseGaussianLogUnit:
    """By rate = 1 / mu."""

    def __init__(self, y, eta):
        self._y, self._eta = y, eta

    @cached_property
    def _rate(self):
        return np.exp(-within(self._eta))

    @cached_property
    def _ratio(self):
        return self._y * self._rate

    @cached_property
    def q(self):
        with np.errstate(over="ignore"):
            return -0.5 * np.square(self._ratio - 1) / self._y

    @cached_property
    def score(self):
        with np.errstate(over="ignore"):
            return self._rate * (self._ratio - 1)

    @cached_property
    def info(self):
        with np.errstate(over="ignore"):
            return self._rate * (2 * self._ratio - 1)

    @cached_property
    def info_slope(self):
        with np.errstate(over="ignore"):
            return self._rate * (1 - 4 * self._ratio)

    @property
    def expected_info(self):
        return self._rate


class _InverseGaussianLogResponse(DispersionResponse):
    def unit(self, eta):
        return _InverseGaussianLogUnit(self.endog, eta)


class _GaussianIdentityUnit:
    def __init__(self, y, eta):
        self.score = y - eta

    @cached_property
    def q(self):
        return -0.5 * np.square(self.score)

    @cached_property
    def info(self):
        return np.ones_like(self.score)

    @property
    def expected_info(self):
        return self.info

    @cached_property
    def info_slope(self):
        return np.zeros_like(self.score)


class _GaussianIdentityResponse(DispersionResponse):
    def unit(self, eta):
        return _GaussianIdentityUnit(self.endog, eta)


class _GaussianLogUnit:
    def __init__(self, y, eta):
        self._y, self._mu = y, np.exp(within(eta))

    @cached_property
    def q(self):
        with np.errstate(over="ignore"):
            return -0.5 * np.square(self._y - self._mu)

    @cached_property
    def score(self):
        with np.errstate(over="ignore"):
            return self._mu * (self._y - self._mu)

    @cached_property
    def info(self):
        with np.errstate(over="ignore"):
            return self._mu * (2 * self._mu - self._y)

    @cached_property
    def info_slope(self):
        with np.errstate(over="ignore"):
            return self._mu * (4 * self._mu - self._y)

    @cached_property
    def expected_info(self):
        with np.errstate(over="ignore"):
            return np.square(self._mu)


class _GaussianLogResponse(DispersionResponse):
    def unit(self, eta):
        return _GaussianLogUnit(self.endog, eta)


_BOUND = {
    ("Poisson", "log"): _PoissonLogResponse,
    ("Gamma", "log"): _GammaLogResponse,
    ("InverseGaussian", "log"): _InverseGaussianLogResponse,
    ("Gaussian", "identity"): _GaussianIdentityResponse,
    ("Gaussian", "log"): _GaussianLogResponse,
}


def bound_class(kernel: Kernel, inverse: InverseLink):
    """The class of response to use, None for the generic one."""
    return None if type(inverse) is InverseLink else _BOUND.get((kernel.name, inverse.name))
