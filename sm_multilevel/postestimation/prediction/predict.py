"""Predictions, with intervals that include the uncertainty of the random effects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.tools.sm_exceptions import ValueWarning

from sm_multilevel.checks import check_alpha, check_flag, users_level

__all__ = ["NewLevelWarning", "Prediction", "Rows", "linear_predictor", "predict", "prediction", "prediction_parts"]
__all__ += ["fixed_columns", "prediction_variance", "random_spread", "reference", "rows_of"]

_CHUNK = 512  # rows solved at once where no shortcut exists


class NewLevelWarning(ValueWarning):
    """New data have levels that the fit has not seen.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> import warnings
    >>> from sm_multilevel.api import NewLevelWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", NewLevelWarning)
    ...     res.predict(df.head(1).assign(Subject="new")).round(2).tolist()
    [251.41]
    """


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
    distribution : scipy.stats distribution
        What intervals of the mean refer to; it may differ from row to row.
    distribution_obs : scipy.stats distribution
        What those of new observations refer to.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> prediction = res.get_prediction(df.head(2), include_random=False)
    >>> print(prediction.predicted_mean.round(2).tolist())
    [251.41, 261.87]
    """

    predicted: np.ndarray
    se_mean: np.ndarray
    se_obs: np.ndarray
    index: pd.Index | None
    distribution: Any
    distribution_obs: Any

    @property
    def predicted_mean(self) -> np.ndarray:
        """statsmodels' name of `predicted`."""
        return self.predicted

    def conf_int(self, alpha: float = 0.05, obs: bool = False) -> np.ndarray:
        """Interval of the mean, or of a new observation; shape (n, 2).

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
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.get_prediction(df.head(1)).conf_int().round(2).tolist()
        [[229.64, 277.68]]
        """
        alpha = check_alpha(alpha)
        q = (self.distribution_obs if obs else self.distribution).ppf(1 - alpha / 2)
        se = self.se_obs if obs else self.se_mean
        return np.column_stack([self.predicted - q * se, self.predicted + q * se])

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """Means, standard errors, confidence and prediction intervals.

        Parameters
        ----------
        alpha : float
            Intervals cover ``1 - alpha``.

        Returns
        -------
        DataFrame
            ``mean, mean_se, mean_ci_lower, mean_ci_upper, obs_ci_lower, obs_ci_upper``.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> print(res.get_prediction(df.head(2)).summary_frame().round(1).T)
                           0      1
        mean           253.7  273.3
        mean_se         12.3   10.5
        mean_ci_lower  229.6  252.7
        mean_ci_upper  277.7  294.0
        obs_ci_lower   198.1  219.1
        obs_ci_upper   309.3  327.6
        """
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


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to predict.

    Attributes
    ----------
    exog : ndarray, shape (n, p)
    offset : ndarray, shape (n,)
    random : list of (ndarray, ndarray)
        Codes (-1: unknown level) and columns of each term; empty for population values.
    index : Index or None
        Labels; None where arrays were given, and arrays come out.
    columns : callable or None
        Gives the random columns of each term, whatever the groups; None: not known.
    weights : float or ndarray
        Precision weights.
    trials : ndarray, shape (n,), or None
        Binomial numbers of trials.
    """

    exog: np.ndarray
    offset: np.ndarray
    random: list
    index: pd.Index | None
    columns: Callable | None
    weights: float | np.ndarray = 1.0
    trials: np.ndarray | None = None


def new_weights(weights, n):
    """Precision weights of new rows, checked."""
    try:
        values = np.asarray(weights, dtype=float)
    except (TypeError, ValueError):
        raise ValueError("weights= must be numbers, one a row or one for all.") from None
    if values.ndim and values.shape != (n,):
        raise ValueError(f"weights= has shape {values.shape}, but there are {n} rows to predict.")
    if not (values > 0).all():
        raise ValueError(f"weights= must be positive; the least is {values.min():g}.")
    return values


def rows_of(model, data, include_random=True, transform=True, new_levels="zero", offset=None, exposure=None) -> Rows:
    """Rows to predict, from new data or from the model's own; unknown levels are warned of or refused.

    Parameters
    ----------
    model : MultilevelModel
    data : DataFrame, Series, mapping or array_like, or None for the model's own rows
    include_random : bool
    transform : bool
        False: `data` holds the columns of the fixed part.
    new_levels : {"zero", "raise"}
    offset, exposure : array_like, optional
        For these rows, in place of all offsets and exposures of the model.
    """
    include_random = check_flag("include_random", include_random)
    if new_levels not in ("zero", "raise"):
        raise ValueError(f"new_levels={new_levels!r} is not known. Choose 'zero' or 'raise'.")
    if data is None:
        model.require_data("Predicting the rows of the fit")
        n = model.design.endog.shape[0]
        own = np.zeros(n) if model.offset is None else model.offset
        random = [(t.codes, t.exog) for t in model.random]
        weights = 1.0 if model.var_weights is None else model.var_weights
        return Rows(
            model.design.exog, own if offset is None and exposure is None else _offset(offset, exposure, n),
            random if include_random else [], model.design.index,
            lambda: [z for _, z in random], weights, model.design.n_trials,
        )  # fmt: skip
    if model.recipe is None or not transform or _is_array(data):
        exog, index = fixed_columns(model, data)
        return Rows(exog, _offset(offset, exposure, len(exog)), [], index, None)
    frame, recipe = _as_rows(model, data), model.recipe
    if offset is not None or exposure is not None:
        recipe = replace(recipe, offsets=(), offset_name=None, exposure=None)
    new = recipe.apply(frame, model.levels, include_random)
    _check_levels(model, new.random, new_levels)
    exog = new.exog[:, model.kept_columns]
    total = new.offset + _offset(offset, exposure, len(exog))
    return Rows(exog, total, new.random, new.index, lambda: recipe.random_columns(frame), trials=new.n_trials)


def _offset(offset, exposure, n):
    """What is added to the linear predictor of n rows, given as numbers."""
    total = np.zeros(n)
    for name, given in (("offset", offset), ("exposure", exposure)):
        if given is None:
            continue
        try:
            values = np.asarray(given, dtype=float)
        except (TypeError, ValueError):
            raise ValueError(f"{name}= must be numbers, one a row or one for all.") from None
        if values.ndim and values.shape != (n,):
            raise ValueError(f"{name}= has shape {values.shape}, but there are {n} rows to predict.")
        if name == "exposure":
            if not (values > 0).all():
                raise ValueError(
                    f"exposure= must be positive, since its logarithm is added; the least is {values.min():g}."
                )
            values = np.log(values)
        total = total + values
    return total


def _is_array(data):
    return isinstance(data, (list, tuple)) or (isinstance(data, np.ndarray) and data.dtype.names is None)


def _as_rows(model, data):
    """Series and dicts as the frames that they stand for."""
    if isinstance(data, pd.Series):
        columns = [factor.name() for factor in model.recipe.fixed.info.factor_infos]
        return data.to_frame() if data.name in columns else data.to_frame().T.infer_objects()
    if isinstance(data, Mapping):
        warnings.warn(
            "Using a dict of new data in predict() is deprecated, as it is in statsmodels. Use a DataFrame.",
            DeprecationWarning,
            stacklevel=users_level(),
        )
        scalars = all(np.ndim(v) == 0 for v in data.values())
        return pd.DataFrame({k: [v] for k, v in data.items()} if scalars else dict(data))
    return data


def fixed_columns(model, data):
    """Columns of the fixed part, given as such, and the labels of their rows."""
    names = model.data.xnames
    index = None
    if isinstance(data, pd.DataFrame):
        index = data.index
        data = data[names] if set(names) <= set(data.columns) else data
    elif isinstance(data, pd.Series):
        index = data.index if len(names) == 1 < len(data) else pd.Index([0 if data.name is None else data.name])
    try:
        values = np.asarray(data, dtype=float)
    except (TypeError, ValueError):
        raise ValueError("exog is not numeric. Give numbers, or a frame to use the formula.") from None
    if values.ndim > 2:
        raise ValueError(f"exog has {values.ndim} dimensions; rows and columns are needed.")
    if values.ndim < 2:
        values = values.reshape(-1, 1) if len(names) == 1 else values.reshape(1, -1)
    if values.shape[1] == len(model.all_exog_names):
        values = values[:, model.kept_columns]
    if values.shape[1] != len(names):
        raise ValueError(f"exog has {values.shape[1]} columns; the fixed part has {len(names)}: {', '.join(names)}.")
    return values, index


def _check_levels(model, random, new_levels):
    unseen = {}
    for (codes, _), group in zip(random, model.group_names, strict=False):
        if (codes < 0).any():
            unseen[group] = int((codes < 0).sum())
    if not unseen:
        return
    said = ", ".join(f"{n} rows of {g!r}" for g, n in unseen.items())
    if new_levels == "raise":
        raise ValueError(
            f"New data have levels that the fit has not seen, or missing ones: {said}. Use "
            "new_levels='zero' to give them a random effect of zero."
        )
    warnings.warn(
        f"Levels that the fit has not seen (or missing ones) get a random effect of zero: {said}.",
        NewLevelWarning,
        stacklevel=users_level(),
    )


def predict(result, rows: Rows):
    """Predicted values: a Series where the rows have labels, else an array."""
    values = linear_predictor(np.asarray(result.params), rows, result.term_solutions)
    return values if rows.index is None else pd.Series(values, index=rows.index)


def prediction(result, rows: Rows, weights=None) -> Prediction:
    """Predicted values with intervals; see `MixedLMResults.get_prediction`."""
    if rows.random and result._state is None:
        raise ValueError(
            "Intervals with random effects need the data of the fit, and remove_data() has dropped them. "
            "Population values do not: include_random=False."
        )
    terms = result.term_solutions
    mean = linear_predictor(np.asarray(result.params), rows, terms)
    variance = prediction_variance(
        rows.exog, rows.random, terms, result.model.effects, result._state, np.asarray(result.cov_params())
    )
    weights = rows.weights if weights is None else new_weights(weights, len(mean))
    spread = variance + result.scale / weights
    if not rows.random:  # a new observation has random effects all the same
        spread = spread + (result.r_squared()["var_random"] if rows.columns is None else random_spread(rows, terms))
    obs = reference(result.use_t and result.reference is None, result.df_resid)
    return Prediction(mean, np.sqrt(variance), np.sqrt(spread), rows.index, _of_means(result, rows, obs), obs)


def _of_means(result, rows: Rows, other):
    """The distribution of each mean: population values are combinations of beta, with degrees of freedom."""
    if result.reference is None or rows.random:
        return other
    df = result.reference.t_df(rows.exog)
    # Old versions of SciPy have no t distribution with infinite degrees of freedom.
    return stats.t(np.where(np.isfinite(df), df, 1e10))


def random_spread(rows: Rows, terms) -> np.ndarray:
    """z'Gz: variance that the random effects of any level contribute to each row."""
    assert rows.columns is not None
    out = np.zeros(len(rows.exog))
    for z, term in zip(rows.columns(), terms, strict=True):
        out += np.einsum("ni,ij,nj->n", z, term.cov, z)
    return out


def linear_predictor(beta, rows: Rows, terms):
    """offset + X beta + sum of z'b; unknown levels have b = 0."""
    out = rows.exog @ beta + rows.offset
    for (codes, z), solution in zip(rows.random, terms, strict=False):
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
    given, a = prediction_parts(exog, random, terms, effects, state)
    fixed = np.zeros(len(a))
    if a.shape[1]:
        from scipy.linalg import solve_triangular

        half = solve_triangular(state.chol_x, a.T, lower=True, check_finite=False)  # a missing value stays one
        fixed = np.einsum("cn,cn->n", half, half)
    return np.maximum(given + state.sigma2 * fixed, 0.0)


def prediction_parts(exog, random, terms, effects, state):
    """The two sources of the error of x'beta_hat + z'b_hat: what is not known given beta, and beta.

    Returns
    -------
    given : ndarray, shape (n,)
        Variance given beta.
    a : ndarray, shape (n, p)
        Derivative in standardised beta, through the predicted effects too.
    """
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
    return sigma2 * quad + extra, a


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
