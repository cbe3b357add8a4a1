"""Predictions, with intervals that include the uncertainty of the random effects."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.tools.sm_exceptions import ValueWarning

__all__ = ["Prediction", "NewLevelWarning", "evaluate", "linear_predictor", "prediction_variance"]

_CHUNK = 512  # rows solved at once where no shortcut exists


class NewLevelWarning(ValueWarning):
    """New data have levels that the fit has not seen."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted means with intervals.

    Attributes
    ----------
    predicted : ndarray, shape (n,)
    se_mean : ndarray, shape (n,)
        Standard error: of beta, and of the random effects if they are included.
    se_obs : ndarray, shape (n,)
        Standard deviation of a new observation around the prediction.
    index : Index or None
    quantile : callable
        Quantile function of the reference distribution.
    """

    predicted: np.ndarray
    se_mean: np.ndarray
    se_obs: np.ndarray
    index: object
    distribution: object

    @property
    def predicted_mean(self):
        """statsmodels' name of `predicted`."""
        return self.predicted

    def conf_int(self, alpha=0.05, obs=False):
        """Interval of the mean, or of a new observation; shape (n, 2)."""
        if not 0 < alpha < 1:
            raise ValueError(f"alpha={alpha!r} must lie between 0 and 1.")
        q = self.distribution.ppf(1 - alpha / 2)
        se = self.se_obs if obs else self.se_mean
        return np.column_stack([self.predicted - q * se, self.predicted + q * se])

    def summary_frame(self, alpha=0.05) -> pd.DataFrame:
        """Means, standard errors, confidence and prediction intervals."""
        mean, obs = self.conf_int(alpha), self.conf_int(alpha, obs=True)
        return pd.DataFrame(
            {
                "mean": self.predicted,
                "mean_se": self.se_mean,
                "mean_ci_lower": mean[:, 0],
                "mean_ci_upper": mean[:, 1],
                "obs_ci_lower": obs[:, 0],
                "obs_ci_upper": obs[:, 1],
            },
            index=self.index,
        )


def evaluate(model, data, include_random, new_levels):
    """Design of new data for prediction; unknown levels are warned of or refused.

    Parameters
    ----------
    model : MultilevelModel
    data : frame or mapping, or None for the model's own rows
    include_random : bool
    new_levels : {"zero", "raise"}

    Returns
    -------
    exog, offset, random, index
    """
    if new_levels not in ("zero", "raise"):
        raise ValueError(f"new_levels={new_levels!r} is not known. Choose 'zero' or 'raise'.")
    terms = model.random
    if data is None:
        offset = np.zeros(model.endog.shape[0]) if model.offset is None else model.offset
        random = [(t.codes, t.exog) for t in terms] if include_random else []
        return model.exog, offset, random, model.data.row_labels
    new = model.recipe.apply(data, [lv for lv in model.levels], include_random)
    exog = new.exog[:, model.kept_columns]
    unseen = {}
    for (codes, _), group in zip(new.random, model.group_names, strict=False):
        if (codes < 0).any():
            unseen[group] = int((codes < 0).sum())
    if unseen:
        said = ", ".join(f"{n} rows of {g!r}" for g, n in unseen.items())
        if new_levels == "raise":
            raise ValueError(
                f"New data have levels that the fit has not seen, or missing ones: {said}. Use "
                "new_levels='zero' to give them a random effect of zero."
            )
        warnings.warn(
            f"Levels that the fit has not seen (or missing ones) get a random effect of zero: {said}.",
            NewLevelWarning,
            stacklevel=4,
        )
    return exog, new.offset, new.random, new.index


def linear_predictor(beta, exog, offset, random, terms):
    """offset + X beta + sum of z'b; unknown levels have b = 0."""
    out = exog @ beta + offset
    for (codes, z), solution in zip(random, terms, strict=False):
        known = codes >= 0
        if known.all():
            out = out + np.einsum("nq,nq->n", z, solution.effects[codes])
        else:
            out[known] += np.einsum("nq,nq->n", z[known], solution.effects[codes[known]])
    return out


def prediction_variance(exog, random, terms, effects, state, cov_beta):
    """Variance of x'(beta_hat - beta) + z'(b_hat - b), in units of the response.

    For known levels sigma^2 [v'S^-1 v + a'M^-1 a], with v = Lambda'z and
    a = x - U_X'v (Henderson's mixed-model equations); a new level adds z'Gz.

    Returns
    -------
    ndarray, shape (n,)
    """
    if not random:
        return np.maximum(np.einsum("ni,ij,nj->n", exog, cov_beta, exog), 0.0)
    n = exog.shape[0]
    extra = np.zeros(n)
    for (codes, z), solution in zip(random, terms, strict=True):
        new = codes < 0
        if new.any():
            extra[new] += np.einsum("ni,ij,nj->n", z[new], solution.cov, z[new])
    layout, sigma2, p = effects.layout, state.sigma2, state.data.p
    # v of every row and factor, zero where the level is new.
    v, level = [], []
    for factor, lam, w in zip(effects.factors, state.lams, state.data.maps, strict=True):
        z = np.hstack([random[i][1] for i in factor.terms])
        codes = random[factor.terms[0]][0]
        vf = z @ (w @ lam)
        vf[codes < 0] = 0.0
        v.append(vf)
        level.append(np.maximum(codes, 0))
    quad = np.zeros(n)
    a = exog @ state.data.scaling.map
    for f in range(len(v)):
        ux = state.u[f][:, :, :p]
        if p:
            a = a - np.einsum("nq,qnc->nc", v[f], ux[:, level[f]])
        s = state.inverse.diag[f][:, :, level[f]]
        quad += np.einsum("ni,ijn,nj->n", v[f], s, v[f])
    outside = np.zeros(n, dtype=bool)
    for (f, g), pattern in layout.pairs.items():
        key = pattern.first.astype(np.int64) * layout.m[g] + pattern.second
        want = level[f].astype(np.int64) * layout.m[g] + level[g]
        at = np.minimum(np.searchsorted(key, want), key.shape[0] - 1)
        found = key[at] == want
        s = state.inverse.off[f, g][:, :, at]
        quad += 2.0 * np.where(found, np.einsum("ni,ijn,nj->n", v[f], s, v[g]), 0.0)
        outside |= ~found & v[f].any(axis=1) & v[g].any(axis=1)
    rows = np.flatnonzero(outside)
    for start in range(0, rows.shape[0], _CHUNK):
        some = rows[start : start + _CHUNK]
        quad[some] = _solve_rows(state, layout, [x[some] for x in v], [c[some] for c in level])
    fixed = np.zeros(n)
    if p:
        from scipy.linalg import solve_triangular

        half = solve_triangular(state.chol_x, a.T, lower=True)
        fixed = np.einsum("cn,cn->n", half, half)
    return np.maximum(sigma2 * (quad + fixed) + extra, 0.0)


def _solve_rows(state, layout, v, level):
    """v'S^-1 v for rows whose levels never met in the data."""
    k = v[0].shape[0]
    rhs = []
    for f, vf in enumerate(v):
        b = np.zeros((layout.q[f], layout.m[f], k))
        b[:, level[f], np.arange(k)] = vf.T
        rhs.append(b)
    solved = state.chol.solve(rhs)
    return sum(np.einsum("qmk,qmk->k", b, s) for b, s in zip(rhs, solved, strict=True))


def reference(use_t, df):
    """The distribution that intervals refer to."""
    return stats.t(df) if use_t else stats.norm
