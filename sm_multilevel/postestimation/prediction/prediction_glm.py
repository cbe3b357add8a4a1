"""Predictions of the generalised models with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from sm_multilevel.checks import check_alpha
from sm_multilevel.postestimation.prediction.integrate import expectation
from sm_multilevel.postestimation.prediction.predict import (
    new_weights,
    prediction_parts,
    prediction_variance,
    random_spread,
    reference,
)
from sm_multilevel.postestimation.prediction.predict_glm import at_linear, eta_of, labels_of, rows_and_spread
from sm_multilevel.postestimation.prediction.quantiles import NewRows
from sm_multilevel.postestimation.wald.hypotheses import lost_parameters, touches

__all__ = ["GLMPrediction", "ProbabilityPrediction", "prediction_glm"]


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

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> prediction = res.get_prediction(cows.head(2), include_random=False)
    >>> print(prediction.predicted_mean.round(3).tolist())
    [0.198, 0.084]
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
    def predicted_mean(self) -> np.ndarray:
        """statsmodels' name of `predicted`."""
        return self.predicted

    @property
    def se(self) -> np.ndarray:
        """statsmodels' name of `se_mean`."""
        return self.se_mean

    def conf_int(self, alpha: float = 0.05, obs: bool = False) -> np.ndarray:
        """Interval of the mean, or of a new observation; shape (n, 2).

        The first is that of the linear predictor, put through the inverse link. The second
        has quantiles of the response's distribution averaged over what is uncertain of the
        linear predictor; a discrete response's are values that it can have, so that the
        interval covers at least ``1 - alpha``.

        Parameters
        ----------
        alpha : float
            The interval covers ``1 - alpha``.
        obs : bool
            Of a new observation instead of the mean.

        Returns
        -------
        ndarray, shape (n, 2)

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> res.get_prediction(cows.head(1)).conf_int().round(3).tolist()
        [[0.177, 0.48]]
        """
        alpha = check_alpha(alpha)
        if obs:
            if self._quantiles is None:
                raise ValueError("obs=True: only responses have intervals of observations; use which='mean'.")
            return np.column_stack([self._quantiles(alpha / 2), self._quantiles(1 - alpha / 2)])
        half = self.distribution.ppf(1 - alpha / 2) * self.se_linear
        ends = [self._to_mean(self.linear + side * half) for side in (-1, 1)]
        return np.column_stack([np.minimum(*ends), np.maximum(*ends)])

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """Means, standard errors, confidence intervals, and of a response prediction intervals.

        Parameters
        ----------
        alpha : float
            Intervals cover ``1 - alpha``.

        Returns
        -------
        DataFrame
            ``mean, mean_se, mean_ci_lower, mean_ci_upper``, and ``obs_ci_lower, obs_ci_upper``.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> print(res.get_prediction(cows.head(2)).summary_frame().round(3).T)
                           0      1
        mean           0.308  0.142
        mean_se        0.079  0.051
        mean_ci_lower  0.177  0.068
        mean_ci_upper  0.480  0.272
        obs_ci_lower   0.071  0.000
        obs_ci_upper   0.643  0.417
        """
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

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import wine
    >>> bottles = wine.load_pandas().data
    >>> res = smf.meologit("rating ~ temp + contact + (1 | judge)", bottles).fit()
    >>> prediction = res.get_prediction(bottles.head(1))
    >>> print(prediction.predicted_mean.round(3))
    [[0.035 0.42  0.472 0.061 0.012]]
    """

    predicted: np.ndarray
    se_mean: np.ndarray
    labels: list
    index: pd.Index | None
    distribution: Any

    @property
    def predicted_mean(self) -> np.ndarray:
        """statsmodels' name of `predicted`."""
        return self.predicted

    def conf_int(self, alpha: float = 0.05) -> np.ndarray:
        """Intervals made on the logit scale; shape (n, K, 2).

        Parameters
        ----------
        alpha : float
            Intervals cover ``1 - alpha``.

        Returns
        -------
        ndarray, shape (n, K, 2)

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import wine
        >>> bottles = wine.load_pandas().data
        >>> res = smf.meologit("rating ~ temp + contact + (1 | judge)", bottles).fit()
        >>> res.get_prediction(bottles.head(1)).conf_int().round(3).shape
        (1, 5, 2)
        """
        q = self.distribution.ppf(1 - check_alpha(alpha) / 2)
        p = np.clip(self.predicted, 1e-300, 1 - 1e-16)
        half = q * self.se_mean / (p * (1 - p))
        return np.stack([special.expit(special.logit(p) + side * half) for side in (-1, 1)], axis=-1)

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """One row for each row and category: mean, mean_se, mean_ci_lower, mean_ci_upper.

        Parameters
        ----------
        alpha : float
            Intervals cover ``1 - alpha``.

        Returns
        -------
        DataFrame
            Indexed by row and category.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import wine
        >>> bottles = wine.load_pandas().data
        >>> res = smf.meologit("rating ~ temp + contact + (1 | judge)", bottles).fit()
        >>> print(res.get_prediction(bottles.head(1)).summary_frame().round(3).to_string())
                       mean  mean_se  mean_ci_lower  mean_ci_upper
        row category
        0   1         0.035    0.028          0.007          0.152
            2         0.420    0.151          0.177          0.709
            3         0.472    0.131          0.242          0.715
            4         0.061    0.044          0.014          0.229
            5         0.012    0.011          0.002          0.068
        """
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
    cov, effects = np.asarray(result.cov_params()), result.model.effects
    lost = touches(lost_parameters(cov)[:p], rows.exog)
    variance = prediction_variance(rows.exog, rows.random, terms, effects, result._state, np.nan_to_num(cov[:p, :p]))
    variance = np.where(lost, np.nan, variance)
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
    new = NewRows(family, psi, rows.trials, weights, eta, np.sqrt(around))
    return GLMPrediction(to_mean(eta), np.abs(slope) * se, eta, se, rows.index, dist, to_mean, new.quantile)


def _probabilities(result, rows, spread, eta, psi, terms, dist):
    """Probabilities with the delta method's standard errors."""
    family, k, p_fixed = result.family, len(psi), result.model.k_fixed
    lost = lost_parameters(np.asarray(result.cov_params()))
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
    variance[touches(lost[:p_fixed], rows.exog)] = np.nan
    for threshold in np.flatnonzero(lost[p_fixed:]):  # between two categories
        variance[:, threshold : threshold + 2] = np.nan
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
