"""Binomial responses with any link, from log F and log(1 - F) of `latent`; logit has a fast form."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import special

from sm_multilevel.families.exponential import ExponentialFamily
from sm_multilevel.families.kernels import Kernel
from sm_multilevel.families.latent import latent_of
from sm_multilevel.families.links import InverseLink
from sm_multilevel.families.response import ResponseData
from sm_multilevel.families.rows import PlainLocal, RowResponse, check_common, refuse, total_weight, within

__all__ = ["BinomialFamily"]

_LARGE = 700.0


class _BernoulliLogit(PlainLocal):
    """By odds = exp((1 - 2y) eta), the odds of the other outcome."""

    def __init__(self, eta, odds, sign):
        self._eta, self._odds, self._sign = eta, odds, sign

    @cached_property
    def _same(self):
        same = 1.0 + self._odds
        return np.reciprocal(same, out=same)

    @cached_property
    def _other(self):
        return self._odds * self._same

    @cached_property
    def logf(self):
        logf = np.log1p(self._odds)
        return np.negative(logf, out=logf)

    @cached_property
    def score(self):
        return self._sign * self._other

    @cached_property
    def info(self):
        return self._other * self._same

    @property
    def expected_info(self):
        return self.info

    @cached_property
    def info_slope(self):
        slope = self._other - self._same
        slope *= self._sign
        slope *= self.info
        return slope


class _BinomialLogit(PlainLocal):
    """With numbers of trials or weights: ``successes`` and ``trials`` are times the weights."""

    def __init__(self, eta, successes, trials, constant):
        self._eta, self._successes, self._trials, self._constant = eta, successes, trials, constant

    @cached_property
    def _shares(self):
        odds = np.exp(within(self._eta))
        failure = 1.0 + odds
        np.reciprocal(failure, out=failure)
        odds *= failure
        return odds, failure

    @cached_property
    def logf(self):
        eta = self._eta
        with np.errstate(invalid="ignore"):
            logf = np.minimum(self._successes * eta, (self._successes - self._trials) * eta)
        logf -= self._trials * np.log1p(np.exp(-np.abs(eta)))
        return logf if self._constant is None else logf + self._constant

    @cached_property
    def score(self):
        return self._successes - self._trials * self._shares[0]

    @cached_property
    def info(self):
        success, failure = self._shares
        return self._trials * success * failure

    @property
    def expected_info(self):
        return self.info

    @cached_property
    def info_slope(self):
        success, failure = self._shares
        return self.info * (failure - success)


class _BinomialLatent(PlainLocal):
    """Any link, by log F and log(1 - F)."""

    def __init__(self, eta, response: _BinomialResponse):
        self._eta, self._response = eta, response

    def _sum(self, part):
        response = self._response
        with np.errstate(all="ignore"):
            if response.sign is not None:  # y is 0 or 1 and F symmetric: one side is enough
                value = getattr(self._signed, part)
                if part in ("d1", "d3"):
                    value = response.sign * value
                return value if response.weight is None else response.weight * value
            success, failure = response.successes, response.failures
            # 0 times -inf is 0 here: an outcome that has not been seen.
            s, f = getattr(self._success, part), getattr(self._failure, part)
            return np.where(success > 0, success * s, 0.0) + np.where(failure > 0, failure * f, 0.0)

    @cached_property
    def _signed(self):
        return self._response.latent.log_cdf(self._response.sign * self._eta)

    @cached_property
    def _success(self):
        return self._response.latent.log_cdf(self._eta)

    @cached_property
    def _failure(self):
        return self._response.latent.log_sf(self._eta)

    @cached_property
    def logf(self):
        logf = self._sum("value")
        return logf if self._response.constant is None else logf + self._response.constant

    @cached_property
    def score(self):
        return self._sum("d1")

    @cached_property
    def info(self):
        return -self._sum("d2")

    @cached_property
    def info_slope(self):
        return -self._sum("d3")

    @cached_property
    def expected_info(self):
        with np.errstate(all="ignore"):
            return -self._response.trials * self._success.d1 * self._failure.d1


class _BinomialResponse(RowResponse):
    """A binomial response of any link."""

    _rows: tuple[str, ...] = ("constant", "sign", "weight")
    _derived = ("successes", "failures", "trials")

    def __init__(self, family, data: ResponseData):
        self.data, self.inverse = data, family.inverse
        self.latent = family.latent
        y, n, self.weight = data.endog, data.trials, total_weight(data)
        self.constant: np.ndarray | None = None
        if n is not None:
            s = np.rint(y * n)
            self.constant = special.gammaln(n + 1) - special.gammaln(s + 1) - special.gammaln(n - s + 1)
            if self.weight is not None:
                self.constant = self.constant * self.weight
        zero_one = data.trials is None and bool(np.all((y == 0) | (y == 1)))
        self.sign = 2 * y - 1 if zero_one and self.latent.symmetric else None
        self.fast = zero_one and self.weight is None
        units = self.inverse.units
        self.eta_scale = float(np.sqrt(np.mean(np.square(self.start_eta())))) if units else 1.0

    @cached_property
    def trials(self):
        """Weighted numbers of trials."""
        n = np.ones_like(self.data.endog) if self.data.trials is None else self.data.trials
        return n if self.weight is None else self.weight * n

    @cached_property
    def successes(self):
        """Weighted numbers of successes."""
        y, n = self.data.endog, self.data.trials
        count = y if n is None else np.rint(y * n)
        return count if self.weight is None else self.weight * count

    @cached_property
    def failures(self):
        """Weighted numbers of failures."""
        return self.trials - self.successes

    def at(self, eta, psi):
        return _BinomialLatent(eta, self)

    def start_eta(self):
        y, n = self.data.endog, 1.0 if self.data.trials is None else self.data.trials
        return np.asarray(self.inverse.link((n * y + 0.5) / (n + 1)), dtype=float)


class _LogitResponse(_BinomialResponse):
    _rows: tuple[str, ...] = (*_BinomialResponse._rows, "flip")

    def __init__(self, family, data):
        super().__init__(family, data)
        self.flip = 1 - 2 * data.endog if self.fast else None

    def at(self, eta, psi):
        if self.flip is not None:
            odds = self.flip * eta
            if np.max(odds, initial=0.0) < _LARGE:
                return _BernoulliLogit(eta, np.exp(odds, out=odds), self.sign)
        return _BinomialLogit(eta, self.successes, self.trials, self.constant)


class _BinomialKernel(Kernel):
    name = "Binomial"
    discrete = True

    def variance(self, mu):
        return mu * (1 - mu), 1 - 2 * mu, np.full(np.shape(mu), -2.0)

    def cdf(self, data, mu, scale):
        n = np.ones_like(data.endog) if data.trials is None else data.trials
        s = np.rint(data.endog * n)
        below = np.where(s > 0, special.bdtr(np.maximum(s - 1, 0), n.astype(int), mu), 0.0)
        return below, special.bdtr(s, n.astype(int), mu)

    def simulate(self, data, mu, scale, rng):
        if data.trials is None:
            return (rng.random(np.shape(mu)) < mu).astype(float)
        return rng.binomial(np.broadcast_to(data.trials.astype(np.int64), np.shape(mu)), mu) / data.trials


def _whole(x):
    """Whether whole, but for the rounding of a quotient times its divisor."""
    return np.abs(x - np.rint(x)) <= 1e-7 * np.maximum(1.0, np.abs(x))


class BinomialFamily(ExponentialFamily):
    """Binomial with any link; endog is the proportion, and log f has log C(n, y).

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.families.registry import get_family
    >>> family = get_family("binomial", "probit")
    >>> type(family).__name__, family.mean(np.array([0.0]), np.empty(0)).tolist()
    ('BinomialFamily', [0.5])
    """

    has_trials = True

    def __init__(self, inverse: InverseLink):
        bound = _LogitResponse if inverse.name == "logit" else _BinomialResponse
        super().__init__(_BinomialKernel(), inverse, bound)
        self.latent = latent_of(inverse)
        if self.latent.name == "logit":
            self.logit_link = True
        self.latent_variance = self.latent.variance

    def check(self, data, what):
        check_common(data, what)
        y, n = data.endog, data.trials
        advice = "Code the response as 0 and 1, or give proportions with n_trials=."
        refuse(y < 0, y, what, "has negative values", advice)
        if n is None:
            refuse(y > 1, y, what, "has values above one", advice)
            advice = "Proportions need their numbers of trials: give n_trials=."
            refuse((y > 0) & (y < 1), y, what, "has values between zero and one", advice)
            return
        bad = ~((n >= 1) & (n == np.floor(n)))
        refuse(bad, n, f"n_trials of {what}", "must be positive whole numbers", "Leave out rows without trials.")
        advice = "The response is the proportion of successes, so successes may not exceed n_trials."
        refuse(y > 1, y * n, what, "has more successes than trials", advice)
        advice = "The proportion times n_trials must be a whole number."
        refuse(~_whole(y * n), y * n, what, "has numbers of successes that are not whole", advice)

    def limits(self, data):
        with np.errstate(all="ignore"):
            ends = self.mean(np.array([-30.0, 30.0]), np.empty(0))
        if not np.all((ends >= 0) & (ends <= 1)):  # eta cannot go to infinity in both directions
            return None
        return np.where(data.endog >= 1, 1.0, np.where(data.endog <= 0, -1.0, 0.0))

    def unit_deviance(self, data, eta, psi):
        y, n = data.endog, 1.0 if data.trials is None else data.trials
        with np.errstate(all="ignore"):
            logf = np.where(y > 0, y * self.latent.log_cdf(eta).value, 0.0)
            logf += np.where(y < 1, (1 - y) * self.latent.log_sf(eta).value, 0.0)
        return np.maximum(2 * n * (special.xlogy(y, y) + special.xlogy(1 - y, 1 - y) - logf), 0.0)
