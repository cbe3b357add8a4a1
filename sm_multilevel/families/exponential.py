"""Exponential-family responses with any link: the generic forms of log f and its derivatives.

With k = var_weights / dispersion, log f = k q(y, mu) + normaliser(k) + constant(y), and

    score      = k (y - mu) A,                          A = mu' / V(mu)
    info       = k (mu' A - (y - mu) A')
    info_slope = k (mu'' A + 2 mu' A' - (y - mu) A'')

in derivatives by eta. `stable` has faster and safer forms of the most used ones.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from sm_multilevel.families.kernels import Kernel
from sm_multilevel.families.links import InverseLink
from sm_multilevel.families.response import Response, ResponseData, ResponseFamily
from sm_multilevel.families.rows import PlainLocal, RowResponse, UnitLocal, check_common, refuse_trials, total_weight

__all__ = ["DispersionResponse", "ExponentialFamily", "PlainResponse"]


class _MeanDerivatives:
    """mu', A and the score's derivatives, for unit k."""

    def __init__(self, y, eta, kernel: Kernel, inverse: InverseLink):
        self._y, self._eta, self._kernel, self._inverse = y, eta, kernel, inverse

    def _quiet(self):
        return np.errstate(all="ignore")  # outside of the link's domain

    @cached_property
    def mu(self):
        with self._quiet():
            return self._inverse.mean(self._eta)

    @cached_property
    def m1(self):
        with self._quiet():
            return self._inverse.derivative(self._eta, 1)

    @cached_property
    def m2(self):
        with self._quiet():
            return self._inverse.derivative(self._eta, 2)

    @cached_property
    def v(self):
        with self._quiet():
            return self._kernel.variance(self.mu)

    @cached_property
    def a(self):
        with self._quiet():
            return self.m1 / self.v[0]

    @cached_property
    def a1(self):
        with self._quiet():
            return self.m2 / self.v[0] - self.a * self.a * self.v[1]

    @cached_property
    def a2(self):
        # A = mu'/V: A'' = mu'''/V - 2 (mu''/V) A V' + 2 A^3 V'^2 - A mu' ... collected.
        with self._quiet():
            v0, v1, v2 = self.v
            second = self.m2 / v0
            third = self._inverse.derivative(self._eta, 3) / v0
            return third - 3 * second * self.a * v1 + self.a**3 * (2 * v1 * v1 - v0 * v2)

    @cached_property
    def q(self):
        with self._quiet():
            q = self._kernel.q(self._y, self.mu)
            return np.where(self.mu > 0, q, -np.inf) if self._kernel.positive else q

    @cached_property
    def score(self):
        with self._quiet():
            return (self._y - self.mu) * self.a

    @cached_property
    def info(self):
        with self._quiet():
            return self.m1 * self.a - (self._y - self.mu) * self.a1

    @cached_property
    def info_slope(self):
        with self._quiet():
            return self.m2 * self.a + 2 * self.m1 * self.a1 - (self._y - self.mu) * self.a2

    @cached_property
    def expected_info(self):
        with self._quiet():
            return self.m1 * self.a


class _WeightedLocal(UnitLocal, PlainLocal):
    """Without dispersion."""

    def __init__(self, unit, eta, weight, constant):
        self._unit, self._eta, self._weight, self._constant = unit, eta, weight, constant

    @cached_property
    def logf(self):
        return self._times(self._unit.q + self._constant)


class _DispersionLocal(UnitLocal):
    """The weights are k = var_weights / dispersion, and freq_weights.

    Parameters
    ----------
    unit : object
        With q, score, info, info_slope, expected_info at unit k.
    response : DispersionResponse
    psi : ndarray, shape (1,)
        log dispersion.
    """

    def __init__(self, unit, response, psi):
        self._unit = unit
        self._response = response
        k = np.exp(-psi[0])
        self._k = k if response.var_weights is None else k * response.var_weights
        self._freq = response.freq_weights
        self._weight = self._k if self._freq is None else self._k * self._freq

    def _counted(self, values):
        return values if self._freq is None else self._freq * values

    @cached_property
    def _normaliser(self):
        return self._response.normaliser(self._k)

    @cached_property
    def logf(self):
        return self._counted(self._k * self._unit.q + (self._normaliser[0] + self._response.constant))

    @cached_property
    def psi_score(self):
        return -self._counted(self._k * self._unit.q + self._normaliser[1])[None]

    @cached_property
    def score_psi(self):
        return -self.score[None]

    @cached_property
    def info_psi(self):
        return -self.info[None]

    @cached_property
    def psi_info(self):
        first, second = self._normaliser[1:]
        return np.array([[-np.sum(self._counted(self._k * self._unit.q + (first + second)))]])


class _BoundResponse(RowResponse):
    """A kernel and a link with data. Subclasses may replace ``unit``."""

    def __init__(self, family: ExponentialFamily, data: ResponseData):
        self.data, self.kernel, self.inverse = data, family.kernel, family.inverse
        self.endog = data.endog
        self.constant = self.kernel.constant(data.endog)
        self.eta_scale = float(np.sqrt(np.mean(np.square(self.start_eta())))) if self.inverse.units else 1.0

    def unit(self, eta):
        """q, score, info, info_slope, expected_info at unit k."""
        return _MeanDerivatives(self.endog, eta, self.kernel, self.inverse)

    def start_eta(self):
        mu = self.kernel.start_mean(self.data)
        if not self.kernel.positive and not self.inverse.any_mean:  # a mean that any link can take
            size = float(np.mean(np.abs(mu)))
            mu = np.maximum(0.5 * (mu + np.mean(mu)), 0.1 * size if size > 0 else 0.1)
        return np.asarray(self.inverse.link(mu), dtype=float)


class PlainResponse(_BoundResponse):
    """A response without dispersion."""

    _rows: tuple[str, ...] = ("endog", "constant", "weight")

    def __init__(self, family, data):
        super().__init__(family, data)
        self.weight = total_weight(data)

    def at(self, eta, psi):
        return _WeightedLocal(self.unit(eta), eta, self.weight, self.constant)


class DispersionResponse(_BoundResponse):
    """A response whose dispersion is estimated; psi is its logarithm."""

    _rows: tuple[str, ...] = ("endog", "constant", "var_weights", "freq_weights")
    n_psi = 1

    def __init__(self, family, data):
        super().__init__(family, data)
        self.var_weights, self.freq_weights = data.var_weights, data.freq_weights
        self._kept: tuple | None = None

    def take(self, rows):
        new = super().take(rows)
        new._kept = None  # type: ignore[attr-defined]
        return new

    def normaliser(self, k):
        """The kernel's, kept from call to call: eta changes more often than the dispersion."""
        first = float(k if self.var_weights is None else k[0])
        kept = self._kept
        if kept is None or kept[0] != first:
            kept = self._kept = (first, self.kernel.normaliser(k))
        return kept[1]

    def at(self, eta, psi):
        return _DispersionLocal(self.unit(eta), self, psi)

    def start_psi(self, eta):
        with np.errstate(all="ignore"):
            mu = self.inverse.mean(eta)
            v = self.kernel.variance(mu)[0]
            rows = [self.kernel.unit_deviance(self.endog, mu), (self.endog - mu) ** 2 / v]
            least = 1e-10 * float(np.mean(self.endog**2) / np.mean(v))
        freq = np.ones_like(mu) if self.freq_weights is None else self.freq_weights
        weight = freq if self.var_weights is None else freq * self.var_weights
        deviance, pearson = (np.sum(weight * r) / np.sum(freq) for r in rows)
        dispersion = self.kernel.start_dispersion(deviance, pearson)
        usable = np.isfinite(dispersion) and max(dispersion, least) > 0
        return np.log(np.array([max(dispersion, least) if usable else 1.0]))


class ExponentialFamily(ResponseFamily):
    """A kernel with a link.

    Parameters
    ----------
    kernel : Kernel
    inverse : InverseLink
    bound : type, optional
        The class of the response, where there is a better one than the generic.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.families.registry import get_family
    >>> family = get_family("gamma", "log")
    >>> type(family).__name__, family.psi_names
    ('ExponentialFamily', ('dispersion',))
    >>> family.variance(np.array([0.0]), np.array([0.5])).tolist()
    [0.5]
    """

    def __init__(self, kernel: Kernel, inverse: InverseLink, bound: type[Response] | None = None):
        self.kernel, self.inverse = kernel, inverse
        self.name, self.link_name = kernel.name, inverse.name
        self.is_discrete = kernel.discrete
        self.psi_names = ("dispersion",) if kernel.dispersion else ()
        self.log_link = inverse.name == "log"
        self.logit_link = False
        self._bound = bound or (DispersionResponse if kernel.dispersion else PlainResponse)

    def check(self, data, what):
        check_common(data, what)
        refuse_trials(data, what, f"a {self.name}")
        self.kernel.check(data, what)

    def limits(self, data):
        # A count of zero is the likelier, the smaller its mean.
        return np.where(data.endog == 0, -1.0, 0.0) if self.kernel.counts and self.log_link else None

    def bind(self, data):
        return self._bound(self, data)  # type: ignore[call-arg]

    def natural(self, psi):
        return np.exp(psi)

    def internal(self, natural):
        return np.log(natural)

    def jacobian(self, psi):
        return np.diag(np.exp(psi))

    def mean(self, eta, psi):
        with np.errstate(all="ignore"):
            return self.inverse.mean(eta)

    def variance(self, eta, psi):
        with np.errstate(all="ignore"):
            v = self.kernel.variance(self.inverse.mean(eta))[0]
        return psi[0] * v if self.kernel.dispersion else v

    def dispersion(self, psi):
        return float(psi[0]) if self.kernel.dispersion else 1.0

    def mean_slope(self, eta, psi):
        with np.errstate(all="ignore"):
            return self.inverse.derivative(eta, 1)

    def _scale(self, data, psi):
        if not self.kernel.dispersion:
            return 1.0
        return psi[0] if data.var_weights is None else psi[0] / data.var_weights

    def cdf(self, data, eta, psi):
        with np.errstate(all="ignore"):
            return self.kernel.cdf(data, self.inverse.mean(eta), self._scale(data, psi))

    def unit_deviance(self, data, eta, psi):
        with np.errstate(all="ignore"):
            return self.kernel.unit_deviance(data.endog, self.inverse.mean(eta))

    def simulate(self, data, eta, psi, rng):
        return self.kernel.simulate(data, self.inverse.mean(eta), self._scale(data, psi), rng)
