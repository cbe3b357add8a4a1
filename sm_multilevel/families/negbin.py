"""Negative binomial responses, exact down to alpha = 0, the Poisson limit.

log f = y log mu + C(y, b) - log y! and a function of alpha and mu, with
C = sum_{j<y} log(1 + j b), see `rising`, and b = alpha (nb2) or alpha / mu (nb1).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from sm_multilevel.families.exponential import ExponentialFamily
from sm_multilevel.families.kernels import Kernel, PoissonKernel, check_counts
from sm_multilevel.families.links import InverseLink
from sm_multilevel.families.response import Local, ResponseData, ResponseFamily
from sm_multilevel.families.rising import SMALL, decline, decline_slope, log_ratio, rising
from sm_multilevel.families.rows import PlainLocal, RowResponse, check_common, refuse_trials, total_weight, within

__all__ = ["NegBin", "NegBinKernel", "fixed_negbin"]

_POISSON = 1e-8  # alpha below which probabilities and draws are the Poisson's; also "at zero"


def _mean(eta):
    return np.exp(np.clip(eta, -700.0, 700.0))


class _NegBinLocal(Local):
    """By derivatives in eta and alpha; psi is tau, alpha = tau^2. Subclasses have unweighted ones."""

    if TYPE_CHECKING:  # _d1, _d2: of logf by alpha

        @property
        def _logf(self) -> np.ndarray: ...
        @property
        def _score(self) -> np.ndarray: ...
        @property
        def _info(self) -> np.ndarray: ...
        @property
        def _slope(self) -> np.ndarray: ...
        @property
        def _expected(self) -> np.ndarray: ...
        @property
        def _d1(self) -> np.ndarray: ...
        @property
        def _d2(self) -> np.ndarray: ...
        @property
        def _score_alpha(self) -> np.ndarray: ...
        @property
        def _info_alpha(self) -> np.ndarray: ...

    def __init__(self, response, eta, tau):
        self._response, self._tau, self._alpha = response, tau, tau * tau
        self._y = response.endog
        self._eta = within(eta, 700.0 - np.log(max(self._alpha, 1.0)))
        self._mu = np.exp(self._eta)

    def _times(self, values):
        return values if self._response.weight is None else self._response.weight * values

    def _by_tau(self, by_alpha):
        if self._tau == 0:
            return np.zeros((1, *self._eta.shape))
        with np.errstate(all="ignore"):
            return (2 * self._tau) * self._times(getattr(self, by_alpha))[None]

    @cached_property
    def logf(self):
        return self._times(self._logf)

    @cached_property
    def score(self):
        return self._times(self._score)

    @cached_property
    def info(self):
        return self._times(self._info)

    @cached_property
    def info_slope(self):
        return self._times(self._slope)

    @cached_property
    def expected_info(self):
        return self._times(self._expected)

    @cached_property
    def psi_score(self):
        return self._by_tau("_d1")

    @cached_property
    def score_psi(self):
        return self._by_tau("_score_alpha")

    @cached_property
    def info_psi(self):
        return self._by_tau("_info_alpha")

    @cached_property
    def psi_info(self):
        with np.errstate(all="ignore"):
            curvature = 4 * self._alpha * self._d2 if self._alpha else 0.0
            total = np.sum(self._times(2 * self._d1 + curvature))
        return np.array([[-total]])


class _NB2Local(_NegBinLocal):
    """With z = alpha mu, q = 1 / (1 + z), p = mu q."""

    @cached_property
    def _z(self):
        return self._alpha * self._mu

    @cached_property
    def _q(self):
        return 1 / (1 + self._z)

    @cached_property
    def _p(self):
        return self._mu * self._q

    @cached_property
    def _log(self):
        return np.log1p(self._z)

    @cached_property
    def _mu_l(self):  # log(1 + z) / alpha
        if self._alpha and self._small is None:
            return self._log / self._alpha
        return self._mu * log_ratio(self._z)

    @cached_property
    def _small(self):
        small = self._z < SMALL
        return small if np.any(small) else None

    @cached_property
    def _logf(self):
        return self._y * (self._eta - self._log) - self._mu_l + self._response.rows_at(self._alpha)[0]

    @cached_property
    def _score(self):
        return self._y * self._q - self._p

    @cached_property
    def _info(self):
        return self._p * self._q * (1 + self._alpha * self._y)

    @cached_property
    def _slope(self):
        return self._info * (2 * self._q - 1)

    @property
    def _expected(self):
        return self._p

    def _patch(self, values, formula):
        """`values`, which divide by alpha, but a series where z is small."""
        if self._small is not None:
            values[self._small] = formula(self._z[self._small], self._mu[self._small])
        return values

    @cached_property
    def _mu2_m(self):
        with np.errstate(all="ignore"):
            found = (self._mu_l - self._p) / self._alpha
        return self._patch(found, lambda z, mu: mu * mu * decline(z))

    @cached_property
    def _d1(self):
        return self._response.rows_at(self._alpha)[1] - self._y * self._p + self._mu2_m

    @cached_property
    def _d2(self):
        with np.errstate(all="ignore"):
            found = (self._p**2 - 2 * self._mu2_m) / self._alpha
        found = self._patch(found, lambda z, mu: mu**3 * decline_slope(z))
        return self._response.rows_at(self._alpha)[2] + self._y * self._p**2 + found

    @cached_property
    def _score_alpha(self):
        return -self._p * self._score

    @cached_property
    def _info_alpha(self):
        return self._p * (self._q * self._y - 2 * self._info)


class _NB1Local(_NegBinLocal):
    @cached_property
    def _c(self):
        return rising(self._y, self._alpha, self._mu)

    def _times_alpha(self, name):
        # 0 at alpha = 0, though the derivative by alpha may overflow where mu is almost 0.
        return self._alpha * getattr(self._c, name) if self._alpha else 0.0

    @cached_property
    def _mu_l(self):
        return self._mu * float(log_ratio([self._alpha])[0])

    @cached_property
    def _mu_m(self):
        return self._mu * float(decline([self._alpha])[0])

    @cached_property
    def _logf(self):
        y = self._y
        return y * (self._eta - np.log1p(self._alpha)) + self._c.value - self._mu_l + self._response.constant

    @cached_property
    def _score(self):
        return self._y - self._times_alpha("d1") - self._mu_l

    @cached_property
    def _info(self):
        return self._mu_l - self._times_alpha("spread")

    @cached_property
    def _slope(self):
        return self._mu_l + self._times_alpha("skew")

    @cached_property
    def _expected(self):
        # The exact one is an infinite sum; this is what the mean and variance alone tell, a lower bound.
        return self._mu / (1 + self._alpha)

    @cached_property
    def _d1(self):
        return self._c.d1 - self._y / (1 + self._alpha) + self._mu_m

    @cached_property
    def _d2(self):
        return self._c.d2 + self._y / (1 + self._alpha) ** 2 + self._mu * float(decline_slope([self._alpha])[0])

    @cached_property
    def _score_alpha(self):
        return self._mu_m - self._c.spread

    @cached_property
    def _info_alpha(self):
        return -self._mu_m - self._c.skew


class _FixedLocal(PlainLocal, _NB2Local):
    """nb2 with a known alpha."""


class _NegBinResponse(RowResponse):
    """Counts; what depends on y and alpha alone is kept from call to call."""

    _rows = ("endog", "constant", "weight", "_index")
    n_psi = 1
    local: type[_NegBinLocal] = _NB2Local

    def __init__(self, data: ResponseData):
        self.data, self.endog, self.weight = data, data.endog, total_weight(data)
        self.constant = -special.gammaln(self.endog + 1)
        self._unique, self._index = np.unique(self.endog, return_inverse=True)
        self._kept: tuple | None = None

    def take(self, rows):
        new = super().take(rows)
        new._kept = None  # type: ignore[attr-defined]
        return new

    def rows_at(self, alpha):
        """C - log y!, and C's derivatives by alpha, for all rows of nb2."""
        kept = self._kept
        if kept is None or kept[0] != alpha:
            kept = self._kept = (alpha, _RowValues(rising(self._unique, alpha, 1.0), self._index, self.constant))
        return kept[1]

    def at(self, eta, psi):
        return self.local(self, eta, float(psi[0]))

    def start_eta(self):
        centre = np.mean(self.endog)
        return np.log(0.5 * (self.endog + (centre if centre > 0 else 0.1)))

    def start_psi(self, eta):
        mu, y = _mean(eta), self.endog
        power = 0 if self.local is _NB1Local else 1  # variance / mu - 1 = alpha mu^power
        w = 1.0 if self.weight is None else self.weight
        excess = np.sum(w * mu ** (power - 1) * ((y - mu) ** 2 - mu)) / np.sum(w * mu ** (2 * power))
        # Not so near to zero, where tau is stationary, that the likelihood cannot tell it from zero.
        least = 1e-2 / max(1.0, float(np.mean(mu)) ** power)
        return np.sqrt([np.clip(excess, least, 100.0) if np.isfinite(excess) else 1.0])


class _NB1Response(_NegBinResponse):
    local = _NB1Local


class _RowValues:
    def __init__(self, unique, index, constant):
        self._unique, self._index, self._constant = unique, index, constant
        self._found: dict[int, np.ndarray] = {}

    def __getitem__(self, which):
        if which not in self._found:
            values = getattr(self._unique, ("value", "d1", "d2")[which])[self._index]
            self._found[which] = values + self._constant if which == 0 else values
        return self._found[which]


class _FixedResponse(_NegBinResponse):
    n_psi = 0
    local = _FixedLocal

    def __init__(self, family, data):
        super().__init__(data)
        self._tau = float(np.sqrt(family.kernel.alpha))

    def at(self, eta, psi):
        return _FixedLocal(self, eta, self._tau)

    def start_psi(self, eta):
        return np.empty(0)


_BOUND = {"nb2": _NegBinResponse, "nb1": _NB1Response}


def _distribution(kind, mu, alpha):
    """Size and probability of success."""
    if kind == "nb1":
        return mu / alpha, 1 / (1 + alpha)
    return 1 / alpha, 1 / (1 + alpha * mu)


def _cdf(kind, data, mu, alpha):
    if alpha < _POISSON:
        return PoissonKernel().cdf(data, mu, 1.0)
    y = data.endog
    size, p = _distribution(kind, mu, alpha)
    return np.where(y > 0, special.betainc(size, np.maximum(y, 1.0), p), 0.0), special.betainc(size, y + 1, p)


def _simulate(kind, mu, alpha, rng):
    if alpha >= _POISSON:
        size, p = _distribution(kind, mu, alpha)
        mu = rng.gamma(np.broadcast_to(size, np.shape(mu)), (1 - p) / p)
    return rng.poisson(mu).astype(float)


class NegBin(ResponseFamily):
    """Negative binomial with log link and alpha estimated.

    Internally alpha = tau^2, tau of any sign, so that the Poisson limit is inside.

    Parameters
    ----------
    kind : {"nb2", "nb1"}
        Variance mu + alpha mu^2, or mu (1 + alpha).

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.families.negbin import NegBin
    >>> NegBin("nb2").variance(np.log([2.0]), np.array([0.5])).round(6).tolist()
    [4.0]
    >>> NegBin("nb1").variance(np.log([2.0]), np.array([0.5])).round(6).tolist()
    [3.0]
    """

    is_discrete = True
    log_link = True
    link_name = "log"
    psi_names = ("alpha",)
    zero_limit = "the Poisson limit"

    def __init__(self, kind: str = "nb2"):
        if kind not in _BOUND:
            raise ValueError(f'The kind of a negative binomial is "nb2" or "nb1", not {kind!r}.')
        self.kind = kind
        self.name = "NegativeBinomial" if kind == "nb2" else "NegativeBinomial1"

    def limits(self, data):
        return np.where(data.endog == 0, -1.0, 0.0)

    def check(self, data, what):
        check_common(data, what)
        refuse_trials(data, what, f"a {self.name}")
        check_counts(data.endog, what)

    def bind(self, data):
        return _BOUND[self.kind](data)

    def natural(self, psi):
        return np.square(psi)

    def internal(self, natural):
        return np.sqrt(natural)

    def jacobian(self, psi):
        return np.diag(2 * np.asarray(psi, dtype=float))

    def at_zero(self, psi):
        """Alpha below 1e-8: tau within 1e-4 of zero."""
        return np.abs(psi) < 1e-4

    def mean(self, eta, psi):
        return _mean(eta)

    def variance(self, eta, psi):
        mu = _mean(eta)
        return mu * (1 + psi[0]) if self.kind == "nb1" else mu * (1 + psi[0] * mu)

    def mean_slope(self, eta, psi):
        return _mean(eta)

    def cdf(self, data, eta, psi):
        return _cdf(self.kind, data, _mean(eta), psi[0])

    def unit_deviance(self, data, eta, psi):
        response = self.bind(ResponseData(data.endog))
        tau = self.internal(psi)
        with np.errstate(divide="ignore"):
            best = np.log(data.endog)
        if self.kind == "nb1":  # its saturated mean is not y
            for _ in range(25):
                local = response.at(best, tau)
                # Where alpha is large the expected information is far too small, and steps by it never settle.
                step = np.clip(local.score / np.maximum(local.info, local.expected_info), -1, 1)
                best = np.where(data.endog > 0, best + step, best)
        return np.maximum(2 * (response.at(best, tau).logf - response.at(eta, tau).logf), 0.0)

    def simulate(self, data, eta, psi, rng):
        return _simulate(self.kind, _mean(eta), psi[0], rng)


class NegBinKernel(Kernel):
    """nb2 with a known alpha, for any link."""

    discrete = True
    counts = True

    def __init__(self, alpha: float):
        self.alpha = float(alpha)
        self.name = f"NegativeBinomial({self.alpha:g})"

    def check(self, data, what):
        check_counts(data.endog, what)

    def variance(self, mu):
        return mu * (1 + self.alpha * mu), 1 + 2 * self.alpha * mu, np.full(np.shape(mu), 2 * self.alpha)

    def q(self, y, mu):
        z = self.alpha * mu
        return special.xlogy(y, mu) - y * np.log1p(z) - mu * log_ratio(z)

    def constant(self, y):
        return rising(y, self.alpha, 1.0).value - special.gammaln(y + 1)

    def cdf(self, data, mu, scale):
        return _cdf("nb2", data, mu, self.alpha)

    def simulate(self, data, mu, scale, rng):
        return _simulate("nb2", mu, self.alpha, rng)


def fixed_negbin(alpha: float, inverse: InverseLink) -> ExponentialFamily:
    """statsmodels' NegativeBinomial: nb2 with a known alpha."""
    bound = _FixedResponse if inverse.name == "log" and type(inverse) is not InverseLink else None
    family = ExponentialFamily(NegBinKernel(alpha), inverse, bound)
    family.alpha = float(alpha)  # type: ignore[attr-defined]  # equality compares it
    return family
