"""Predictions of the generalised models with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from sm_multilevel.checks import check_alpha
from sm_multilevel.families.response import ResponseData
from sm_multilevel.postestimation.integrate import expectation
from sm_multilevel.postestimation.predict import (
    new_weights,
    prediction_parts,
    prediction_variance,
    random_spread,
    reference,
)
from sm_multilevel.postestimation.predict_glm import at_linear, eta_of, labels_of, rows_and_spread

__all__ = ["GLMPrediction", "ProbabilityPrediction", "prediction_glm"]

_ITERATIONS = 200
_CLOSE = 1e-9  # relative precision of quantiles of a continuous response


@dataclass(frozen=True, eq=False)
class GLMPrediction:
    """Predicted means, or linear predictors, with intervals.

    Attributes
    ----------
    predicted : ndarray, shape (n,)
    se_mean : ndarray, shape (n,)
        By the delta method.
    linear, se_linear : ndarray, shape (n,)
        Linear predictor and its standard error: of beta, and of the random effects if they
        are included.
    index : Index or None
    distribution : scipy.stats distribution
        What intervals of the linear predictor refer to.
    """

    predicted: np.ndarray
    se_mean: np.ndarray
    linear: np.ndarray
    se_linear: np.ndarray
    index: pd.Index | None
    distribution: Any
    _to_mean: Callable
    _quantiles: Callable | None

    @property
    def predicted_mean(self):
        """statsmodels' name of `predicted`."""
        return self.predicted

    @property
    def se(self):
        """statsmodels' name of `se_mean`."""
        return self.se_mean

    def conf_int(self, alpha=0.05, obs=False):
        """Interval of the mean, or of a new observation; shape (n, 2).

        The first is that of the linear predictor, put through the inverse link. The second
        has quantiles of the response's distribution averaged over what is uncertain of the
        linear predictor; a discrete response's are values that it can have, so that the
        interval covers at least ``1 - alpha``.
        """
        alpha = check_alpha(alpha)
        if obs:
            if self._quantiles is None:
                raise ValueError("obs=True: only responses have intervals of observations; use which='mean'.")
            return np.column_stack([self._quantiles(alpha / 2), self._quantiles(1 - alpha / 2)])
        half = self.distribution.ppf(1 - alpha / 2) * self.se_linear
        ends = [self._to_mean(self.linear + side * half) for side in (-1, 1)]
        return np.column_stack([np.minimum(*ends), np.maximum(*ends)])

    def summary_frame(self, alpha=0.05) -> pd.DataFrame:
        """Means, standard errors, confidence intervals, and of a response prediction intervals."""
        mean = self.conf_int(alpha)
        columns = {
            "mean": self.predicted,
            "mean_se": self.se_mean,
            "mean_ci_lower": mean[:, 0],
            "mean_ci_upper": mean[:, 1],
        }
        if self._quantiles is not None:
            obs = self.conf_int(alpha, obs=True)
            columns.update(obs_ci_lower=obs[:, 0], obs_ci_upper=obs[:, 1])
        return pd.DataFrame(columns, index=self.index)


@dataclass(frozen=True, eq=False)
class ProbabilityPrediction:
    """Predicted probabilities of categories with intervals.

    Attributes
    ----------
    predicted : ndarray, shape (n, K)
    se_mean : ndarray, shape (n, K)
        By the delta method, jointly in coefficients, thresholds and random effects.
    labels : list
    index : Index or None
    distribution : scipy.stats distribution
    """

    predicted: np.ndarray
    se_mean: np.ndarray
    labels: list
    index: pd.Index | None
    distribution: Any

    @property
    def predicted_mean(self):
        """statsmodels' name of `predicted`."""
        return self.predicted

    def conf_int(self, alpha=0.05):
        """Intervals made on the logit scale; shape (n, K, 2)."""
        q = self.distribution.ppf(1 - check_alpha(alpha) / 2)
        p = np.clip(self.predicted, 1e-300, 1 - 1e-16)
        half = q * self.se_mean / (p * (1 - p))
        return np.stack([special.expit(special.logit(p) + side * half) for side in (-1, 1)], axis=-1)

    def summary_frame(self, alpha=0.05) -> pd.DataFrame:
        """One row for each row and category: mean, mean_se, mean_ci_lower, mean_ci_upper."""
        interval = self.conf_int(alpha)
        rows = pd.RangeIndex(len(self.predicted)) if self.index is None else self.index
        n, k = self.predicted.shape
        parts = [rows.get_level_values(level).repeat(k) for level in range(rows.nlevels)]
        names = ["row"] if rows.nlevels == 1 else list(rows.names)
        index = pd.MultiIndex.from_arrays([*parts, self.labels * n], names=[*names, "category"])
        columns = {
            "mean": self.predicted.ravel(),
            "mean_se": self.se_mean.ravel(),
            "mean_ci_lower": interval[..., 0].ravel(),
            "mean_ci_upper": interval[..., 1].ravel(),
        }
        return pd.DataFrame(columns, index=index)


def prediction_glm(result, data=None, kind="mean", weights=None, **options):
    """Predictions with intervals; see `MixedGLMResults.get_prediction`."""
    family = result.family
    if kind in ("class", "var"):
        raise ValueError(f"get_prediction() has no intervals of {kind!r}; use predict(), or 'mean', 'linear', 'prob'.")
    if kind == "mean" and not family.has_intercept:
        raise ValueError(
            "get_prediction() of an ordinal model: the mean of the categories' numbers has no interval. Use "
            "which='prob' or 'linear'."
        )
    rows, spread = rows_and_spread(result, data, **options)
    if rows.random and result._state is None:
        raise ValueError(
            "Intervals with random effects need the data of the fit, and remove_data() has dropped them. "
            "Population values do not: include_random=False."
        )
    psi, p = result.psi.to_numpy(), result.model.k_fixed
    eta, terms = eta_of(result, rows), result.term_covariances
    if rows.random:
        terms = result.term_solutions
    dist = reference(result.use_t, result.df_resid)
    if kind == "prob":
        return _probabilities(result, rows, spread, eta, psi, terms, dist)
    cov = np.asarray(result.cov_params())[:p, :p]
    effects = result.model.effects
    variance = prediction_variance(rows.exog, rows.random, terms, effects, result._state, cov)
    se = np.sqrt(variance)

    def to_mean(x):
        return at_linear(family, psi, kind, x, spread)

    if kind == "linear":
        return GLMPrediction(eta, se, eta, se, rows.index, dist, to_mean, None)
    slope = family.mean_slope(eta, psi)
    if spread is not None:
        slope = expectation(lambda x, _: family.mean_slope(x, psi), eta, np.sqrt(spread), 1.0 if family.log_link else 0)
    weights = rows.weights if weights is None else new_weights(weights, len(eta))
    # A new observation has random effects, whether the prediction has them or not.
    around = variance
    if not rows.random:
        if rows.columns is None:
            around = around + result.mean_random_variance()
        else:
            around = around + random_spread(rows, terms)
    new = _NewRows(family, psi, rows.trials, weights, eta, np.sqrt(around))
    return GLMPrediction(to_mean(eta), np.abs(slope) * se, eta, se, rows.index, dist, to_mean, new.quantile)


def _probabilities(result, rows, spread, eta, psi, terms, dist):
    """Probabilities with the delta method's standard errors."""
    family, k = result.family, len(psi)
    labels = labels_of(result)
    p = at_linear(family, psi, "prob", eta, spread)
    by_eta = _slope(lambda x, t: at_linear(family, t, "prob", x, spread), eta, psi, None)
    by_psi = [_slope(lambda x, t: at_linear(family, t, "prob", x, spread), eta, psi, j) for j in range(k)]
    if rows.random:
        given, a = prediction_parts(rows.exog, rows.random, terms, result.model.effects, result._state)
        half = result._state.half_cov
        root = result.standard_jacobian
        if k:
            toward = [np.broadcast_to(root[len(root) - k + j], a.shape) for j in range(k)]
    else:
        given, a = 0.0, np.hstack([rows.exog, np.zeros((len(eta), k))])
        cov = np.nan_to_num(np.asarray(result.cov_params()))
        values, vectors = np.linalg.eigh(cov)
        half = vectors * np.sqrt(np.maximum(values, 0.0))
        toward = [np.broadcast_to(np.eye(len(cov))[len(cov) - k + j], a.shape) for j in range(k)]
    variance = np.empty_like(p)
    for c in range(p.shape[1]):
        w = by_eta[:, [c]] * a
        for j in range(k):
            w = w + by_psi[j][:, [c]] * toward[j]
        variance[:, c] = by_eta[:, c] ** 2 * given + np.sum((w @ half) ** 2, axis=1)
    return ProbabilityPrediction(p, np.sqrt(np.maximum(variance, 0.0)), labels, rows.index, dist)


def _slope(function, eta, psi, j):
    """Central difference of the probabilities in eta (None) or in an element of psi, with one extrapolation."""

    def at(step):
        if j is None:
            return (function(eta + step, psi) - function(eta - step, psi)) / (2 * step)
        unit = np.eye(len(psi))[j] * step
        return (function(eta, psi + unit) - function(eta, psi - unit)) / (2 * step)

    gap = np.diff(psi).min(initial=1.0)
    step = min(1e-3, 0.2 * gap)
    return (4 * at(step / 2) - at(step)) / 3


@dataclass(frozen=True, eq=False)
class _NewRows:
    """The distribution of new responses: f averaged over a normal linear predictor."""

    family: Any
    psi: np.ndarray
    trials: np.ndarray | None
    weights: float | np.ndarray
    eta: np.ndarray
    sd: np.ndarray

    def quantile(self, p: float) -> np.ndarray:
        """The p-quantile of each row."""
        known = np.isfinite(self.eta + self.sd)
        out = np.full(len(self.eta), np.nan)
        if known.any():
            rows = self._take(known)
            unit = 1.0 if rows.trials is None else rows.trials
            out[known] = rows._lattice(p) / unit if self.family.is_discrete else rows._continuous(p)
        return out

    def _take(self, rows):
        def some(values):
            return values[rows] if np.ndim(values) else values

        trials = None if self.trials is None else self.trials[rows]
        return _NewRows(self.family, self.psi, trials, some(self.weights), self.eta[rows], self.sd[rows])

    def _below(self, y) -> np.ndarray:
        """P(Y <= y); of a binomial response y counts successes."""
        y = np.asarray(y, dtype=float)
        proportion = y if self.trials is None else y / self.trials
        weights = np.broadcast_to(self.weights, y.shape)
        nodes, masses = special.roots_hermitenorm(21)
        eta = self.eta + self.sd * nodes[:, None]
        data = ResponseData(proportion, self.trials, weights)
        with np.errstate(all="ignore"):
            upto = self.family.cdf(data, eta, self.psi)[1]
        return (masses / masses.sum()) @ np.nan_to_num(upto)

    def _lattice(self, p):
        """Least whole number with P(Y <= y) >= p."""
        low = np.full(len(self.eta), -1.0)  # P(Y <= low) < p
        if self.family.has_trials:
            high = np.ones_like(low) if self.trials is None else np.asarray(self.trials, dtype=float)
        else:
            high = np.maximum(np.ceil(2.0 * self.family.mean(self.eta, self.psi)), 1.0)
            for _ in range(_ITERATIONS):
                short = self._below(high) < p
                if not short.any():
                    break
                low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
        for _ in range(_ITERATIONS):
            if not (high - low > 1.0).any():
                break
            middle = np.floor(0.5 * (low + high))
            enough = self._below(middle) >= p
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return high

    def _continuous(self, p):
        """Bisection on the logarithm, where a response is positive, or on the response."""
        mean = self.family.mean(self.eta, self.psi)
        step = np.sqrt(self.family.variance(self.eta, self.psi) / self.weights)
        low, high = mean - step, mean + step
        # A response that is never below zero is sought on the scale of its logarithm.
        positive = bool((self._below(np.zeros_like(mean)) == 0.0).all()) and bool((mean > 0).all())
        if positive:
            low, high = np.log(mean) - 1.0, np.log(mean) + 1.0

        def at(x):
            return self._below(np.exp(x) if positive else x)

        width = high - low
        for _ in range(_ITERATIONS):
            above, below = at(low) > p, at(high) < p
            if not (above.any() or below.any()):
                break
            width = 2.0 * width
            low, high = np.where(above, low - width, low), np.where(below, high + width, high)
        for _ in range(_ITERATIONS):
            middle = 0.5 * (low + high)
            enough = at(middle) >= p
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
            if (high - low <= _CLOSE * (1.0 if positive else np.maximum(np.abs(high), step))).all():
                break
        middle = 0.5 * (low + high)
        return np.exp(middle) if positive else middle
