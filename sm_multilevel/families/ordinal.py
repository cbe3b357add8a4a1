"""Ordinal responses: P(y <= k) = F(kappa_k - eta), K - 1 thresholds."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from sm_multilevel.families.intervals import INTERVALS, CategoryRows, Thresholds
from sm_multilevel.families.response import ResponseData, ResponseFamily
from sm_multilevel.families.rows import RowResponse, UnitLocal, check_common, refuse, refuse_trials, total_weight

__all__ = ["DISTRIBUTIONS", "Cumulative"]


DISTRIBUTIONS = tuple(INTERVALS)


class _OrdinalLocal(UnitLocal):
    def __init__(self, response, eta, psi):
        self._response, self._eta, self._weight = response, eta, response.weight
        rows = response.rows(psi)
        self._thresholds = rows.thresholds
        self._unit = response.interval(response.latent, rows, eta)

    @cached_property
    def logf(self):
        return self._times(self._unit.logf)

    @cached_property
    def expected_info(self):
        response, total = self._response, 0.0
        for k in range(len(self._thresholds.low)):
            rows = CategoryRows(self._thresholds, np.full(self._eta.shape[-1], k))
            unit = response.interval(response.latent, rows, self._eta)
            with np.errstate(under="ignore"):
                total = total + np.exp(unit.logf) * unit.score**2
        return self._times(total)

    def _by_psi(self, shift, high):
        """Derivatives by psi from those by a common shift of a and b, and by b alone.

        The first psi shifts all thresholds; the i-th, i > 0, those above category i, whose
        width it is.
        """
        shift, high = self._times(shift), self._times(high)
        out = np.empty((len(self._thresholds.kappa), *shift.shape))
        out[0] = shift
        for i, step in enumerate(self._thresholds.steps, start=1):
            above, here = self._response.masks[i]
            np.multiply(shift, above, out=out[i])
            out[i][..., here] = high[..., here]
            out[i] *= step
        return out

    @cached_property
    def psi_score(self):
        return self._by_psi(-self._unit.score, self._unit.high)

    @cached_property
    def score_psi(self):
        return self._by_psi(self._unit.info, self._unit.score_high)

    @cached_property
    def info_psi(self):
        return self._by_psi(-self._unit.info_slope, self._unit.info_high)

    def psi_pull(self, a=None, b=None, c=None):
        unit = self._unit
        shift: Any = 0.0
        high: Any = 0.0
        if a is not None:
            shift, high = shift - a * unit.score, high + a * unit.high
        if b is not None:
            shift, high = shift + b * unit.info, high + b * unit.score_high
        if c is not None:
            shift, high = shift - c * unit.info_slope, high + c * unit.info_high
        if shift.ndim > 1:
            shift, high = (v.reshape(-1, v.shape[-1]).sum(axis=0) for v in (shift, high))
        category, size = self._response.category, len(self._thresholds.low)
        by_shift, by_high = (np.bincount(category, self._times(v), minlength=size) for v in (shift, high))
        above = np.cumsum(by_shift[::-1])[::-1]
        out = np.empty(size - 1)
        out[0] = above[0]
        out[1:] = self._thresholds.steps * (above[2:] + by_high[1:-1])
        return out

    def psi_shift(self, d):
        moves = d[1:] * self._thresholds.steps
        below = np.concatenate([[0.0], np.cumsum(moves)])  # of the widths of the categories below
        both = d[0] + np.concatenate([[0.0], below])
        width = np.concatenate([[0.0], moves, [0.0]])
        category = self._response.category
        return self._times(both[category] * self._unit.info + width[category] * self._unit.score_high)

    @cached_property
    def psi_info(self):
        t, k = self._thresholds, self._response.category
        parts = (self._unit.info, self._unit.score_high, self._unit.high2, -self._unit.score, self._unit.high)
        size = len(t.low)
        info, cross, high2, shift, high = (np.bincount(k, self._times(p), minlength=size) for p in parts)
        r = len(t.kappa)
        by_psi = np.concatenate([[1.0], t.steps])
        out = np.zeros((r, r))
        for category in range(size):
            moves = np.where(np.arange(r) <= max(category - (category == r), 0), by_psi, 0.0)
            if category < r:
                moves[category + 1 :] = 0.0
            move_a = np.where(np.arange(r) < max(category, 1), by_psi, 0.0)
            out += info[category] * np.outer(move_a, move_a)
            if 0 < category < r:  # between two thresholds: the width is a parameter
                width = np.zeros(r)
                width[category] = by_psi[category]
                out += cross[category] * (np.outer(move_a, width) + np.outer(width, move_a))
                out -= high2[category] * np.outer(width, width)
        above = np.cumsum(shift[::-1])[::-1]
        for i in range(1, r):  # psi_i is the logarithm of a step
            out[i, i] -= by_psi[i] * (above[i + 1] + high[i])
        return out


class _OrdinalResponse(RowResponse):
    _rows = ("category", "weight")

    def __init__(self, family: Cumulative, data: ResponseData):
        self.data = data
        self.latent, self.interval = INTERVALS[family.link_name]
        self.size = len(family.categories)
        self.n_psi = self.size - 1
        self.category = data.endog.astype(np.intp)
        self.weight = total_weight(data)
        self._masks: list | None = None
        self._kept: tuple | None = None

    def take(self, rows):
        new = super().take(rows)
        new._masks = new._kept = None  # type: ignore[attr-defined]
        return new

    @property
    def masks(self):
        """For each category: which rows are above it, as 0 and 1, and the numbers of those in it."""
        if self._masks is None:
            k = self.category
            self._masks = [((k > i).astype(float), np.nonzero(k == i)[0]) for i in range(self.size)]
        return self._masks

    def rows(self, psi):
        """Thresholds at psi, kept from call to call."""
        key = np.asarray(psi, dtype=float).tobytes()
        kept = self._kept
        if kept is None or kept[0] != key:
            kept = self._kept = (key, CategoryRows(Thresholds(psi), self.category))
        return kept[1]

    def at(self, eta, psi):
        return _OrdinalLocal(self, eta, psi)

    def start_eta(self):
        return np.zeros(len(self.category))

    def start_psi(self, eta):
        counts = np.bincount(self.category, self.weight, minlength=self.size) + 0.5 / self.size
        share = np.cumsum(counts)[:-1] / np.sum(counts)
        kappa = self.latent.ppf(share) + np.average(eta, weights=self.weight)
        return np.concatenate([kappa[:1], np.log(np.maximum(np.diff(kappa), 1e-3))])


class Cumulative(ResponseFamily):
    """Ordinal response with cumulative link.

    Parameters
    ----------
    distr : {"logit", "probit", "cloglog", "loglog", "cauchit"}
        F(x) is logistic, normal, 1 - exp(-exp(x)), exp(-exp(-x)), Cauchy.
    categories : sequence
        Labels in order, at least two.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.families.ordinal import Cumulative
    >>> family = Cumulative("logit", ("low", "mid", "high"))
    >>> family.psi_names
    ('low|mid', 'mid|high')
    >>> family.probabilities(np.array([0.0]), np.array([-1.0, 1.0])).round(3).tolist()
    [[0.269, 0.462, 0.269]]
    """

    name = "Cumulative"
    is_discrete = True
    has_intercept = False

    def __init__(self, distr: str = "logit", categories=()):
        if distr not in INTERVALS:
            raise ValueError(f"No ordinal model with distr={distr!r}; there are {', '.join(INTERVALS)}.")
        self.categories = tuple(categories)
        if len(self.categories) < 2:
            raise ValueError(f"An ordinal response needs two categories at least; there are {self.categories}.")
        self.link_name = distr
        self.psi_names = tuple(f"{a}|{b}" for a, b in zip(self.categories[:-1], self.categories[1:]))
        self._latent, self._interval = INTERVALS[distr]
        self.latent_variance = self._latent.variance
        self.logit_link = distr == "logit"

    def limits(self, data):
        return np.where(data.endog == 0, -1.0, np.where(data.endog == len(self.categories) - 1, 1.0, 0.0))

    def recession(self, data, x):
        # kappa_y - eta may only rise, kappa_(y-1) - eta only fall.
        y, k = data.endog.astype(int), len(self.categories) - 1
        one = np.eye(k)
        below, above = y < k, y > 0
        rows = np.vstack([np.hstack([-x[below], one[y[below]]]), np.hstack([x[above], -one[y[above] - 1]])])
        return rows, np.empty((0, rows.shape[1]))

    def check(self, data, what):
        check_common(data, what)
        refuse_trials(data, what, "an ordinal")
        y = data.endog
        last = len(self.categories) - 1
        bad = (y < 0) | (y > last) | (y != np.floor(y))
        refuse(bad, y, what, f"has values that are not categories 0 to {last}", "Give an ordered categorical.")
        seen = np.unique(y).astype(int)
        if len(seen) < 2:
            only = self.categories[seen[0]]
            raise ValueError(f"{what} has a single category, {only!r}, in its rows; an ordinal model needs two.")

    def bind(self, data):
        return _OrdinalResponse(self, data)

    def natural(self, psi):
        return Thresholds(psi).kappa

    def internal(self, natural):
        natural = np.asarray(natural, dtype=float)
        if np.any(np.diff(natural) <= 0):
            raise ValueError(f"Thresholds must increase; they are {natural}.")
        return np.concatenate([natural[:1], np.log(np.diff(natural))])

    def jacobian(self, psi):
        return np.tril(np.ones((len(psi), len(psi)))) * np.concatenate([[1.0], np.exp(psi[1:])])

    def probabilities(self, eta, psi):
        eta = np.asarray(eta, dtype=float)
        t = Thresholds(self.internal(psi))
        rows = eta.shape[-1] if eta.ndim else 1
        units = (self._interval(self._latent, CategoryRows(t, np.full(rows, k)), eta) for k in range(len(t.low)))
        return np.stack([np.exp(u.logf) for u in units], axis=-1)

    def _moment(self, eta, psi, power):
        return self.probabilities(eta, psi) @ np.arange(len(self.categories), dtype=float) ** power

    def mean(self, eta, psi):
        return self._moment(eta, psi, 1)

    def variance(self, eta, psi):
        return np.maximum(self._moment(eta, psi, 2) - self._moment(eta, psi, 1) ** 2, 0.0)

    def mean_slope(self, eta, psi):
        """Sum of the densities at the thresholds."""
        h = np.asarray(psi, dtype=float) - np.asarray(eta, dtype=float)[..., None]
        both = self._latent.log_cdf(h)
        with np.errstate(all="ignore"):
            return np.sum(both.d1 * np.exp(both.value), axis=-1)

    def cdf(self, data, eta, psi):
        k = data.endog.astype(np.intp)
        low, high = np.concatenate([[-np.inf], psi])[k] - eta, np.concatenate([psi, [np.inf]])[k] - eta
        with np.errstate(all="ignore"):
            return self._latent.cdf(low), self._latent.cdf(high)

    def unit_deviance(self, data, eta, psi):
        t = Thresholds(self.internal(psi))
        unit = self._interval(self._latent, CategoryRows(t, data.endog.astype(np.intp)), eta)
        return np.maximum(-2 * unit.logf, 0.0)

    def simulate(self, data, eta, psi, rng):
        eta = np.asarray(eta, dtype=float)
        latent = eta + self._latent.ppf(1 - rng.random(eta.shape))  # P(latent <= kappa) = F(kappa - eta)
        return np.searchsorted(psi, latent, side="left").astype(float)
