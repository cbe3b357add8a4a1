"""Results of the linear mixed model."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import pandas as pd
import statsmodels.base.wrapper as wrap

from sm_multilevel.checks import check_option
from sm_multilevel.host import Frame
from sm_multilevel.mixedlm_options import SEARCH_OPTIONS
from sm_multilevel.postestimation.description import icc as _icc
from sm_multilevel.postestimation.description.r_squared import r_squared as _r_squared
from sm_multilevel.postestimation.prediction import predict as _predict
from sm_multilevel.postestimation.profiling import profile_re as _profile_re
from sm_multilevel.postestimation.wald import df as _df
from sm_multilevel.statsmodels_results.base import MultilevelResults, MultilevelResultsWrapper

__all__ = ["MixedLMResults", "MixedLMResultsWrapper"]


class MixedLMResults(MultilevelResults):
    """Results of a linear mixed model.

    Attributes
    ----------
    params, bse, tvalues, pvalues : Series
        Fixed effects. Variance components are in `cov_re`, `vcomp`, `scale`, `varcorr()`.
    scale : float
        Residual variance.
    llf : float
        Log-likelihood, restricted under REML; all constants included.
    theta : ndarray
        Relative Cholesky factors in the user's columns.
    record : FitRecord
        What estimation did, and how it was checked.
    converged, is_singular : bool
    method : {"REML", "ML"}
    default_alpha : float
        Of intervals and summaries for which no other is asked.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> res.params.round(3).to_dict(), round(res.scale, 2)
    ({'Intercept': 251.405, 'Days': 10.467}, 654.94)
    """

    def __init__(self, model, record, state, *, reml, use_t=None, start_params=None, alpha=0.05):
        super().__init__(
            model, record, state.data.scaling.beta(state.beta), state.cov_beta() / state.sigma2, state.sigma2,
            theta=record.theta, nobs=state.data.nobs, use_t=use_t, start_params=start_params, alpha=alpha, state=state,
        )  # fmt: skip
        self.cov_kwds = {"description": _df.MODEL_BASED}
        self.reml = reml
        self.method = "REML" if reml else "ML"
        self.k_params = len(self.params) + len(record.theta) + 1

    @property
    def residual_variance(self) -> float:
        """`scale`: the model has a residual."""
        return self.scale

    def fit_options(self) -> dict[str, Any]:
        """Options of `fit` with which this result was made."""
        df = _df.df_option(self.reference)
        return {"reml": self.reml, "method": self.record.method, "use_t": None if df else self.use_t, "df": df}

    @property
    def params_packed(self) -> np.ndarray:
        """beta, sigma^2, theta: what ``model.loglike`` takes."""
        return np.concatenate([np.asarray(self.params), [self.scale], self.theta])

    def r_squared(self) -> dict[str, float]:
        """Marginal and conditional R-squared (Nakagawa and Schielzeth 2013, Johnson 2014).

        Returns
        -------
        dict
            ``marginal, conditional, var_fixed, var_random, var_residual``.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> {name: round(value, 3) for name, value in res.r_squared().items()}
        {'marginal': 0.279, 'conditional': 0.799, 'var_fixed': 908.953, 'var_random': 1698.071, 'var_residual': 654.941}
        """
        if self._facts is not None:
            return dict(self._facts.r_squared)
        self.model.require_data("r_squared()")
        linear = self.model.design.exog @ np.asarray(self.params)  # model.exog is None without columns
        return _r_squared(linear, self.model.random, self.term_covariances, self.scale, self.model.freq_weights)

    def icc_function(self, components, scale, slopes):
        """Intraclass correlations as a function of components and `params`; see `icc`."""
        return _icc.icc_function(self, components, scale, slopes)

    # -- rows ------------------------------------------------------------------------------

    @property
    def fittedvalues(self) -> pd.Series:
        """Conditional fitted values, random effects included."""
        if self._cache.get("fittedvalues") is None:
            rows = _predict.rows_of(self.model, None)
            self._cache["fittedvalues"] = np.asarray(_predict.predict(self, rows))
        return self._cache["fittedvalues"]

    @property
    def resid(self) -> pd.Series:
        """Response minus conditional fitted values."""
        if self._cache.get("resid") is None:
            self._cache["resid"] = self.model.endog - self.fittedvalues
        return self._cache["resid"]

    @overload
    def predict(self, exog: np.ndarray, include_random: bool = ..., transform: bool = ...) -> np.ndarray: ...
    @overload
    def predict(
        self,
        exog: Frame | None = ...,
        include_random: bool = ...,
        transform: bool = ...,
        new_levels: str = ...,
        data: Frame | None = ...,
    ) -> pd.Series: ...
    def predict(
        self,
        exog: Any = None,
        include_random: bool = True,
        transform: bool = True,
        new_levels: str = "zero",
        data: Frame | None = None,
    ) -> Any:
        """Predicted values.

        Parameters
        ----------
        exog : DataFrame, dict or array_like, optional
            New data for the formula; default the data of the fit. An array is taken as the
            columns of the fixed part and gives population values.
        include_random : bool
            Conditional on the random effects of known levels (then ``predict()`` equals
            `fittedvalues`), or population values.
        transform : bool
            False: `exog` holds the columns of the fixed part.
        new_levels : {"zero", "raise"}
            What to do with levels that the fit has not seen: a random effect of zero, with
            one warning, or an error.
        data : DataFrame, optional
            Another name of `exog`.

        Returns
        -------
        Series or ndarray
            With the new data's index; NaN where a value is missing.

        Raises
        ------
        FormulaError
            If a column is missing: for the grouping factor the message names the option.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.predict(df.head(2)).round(2).tolist()
        [253.66, 273.33]
        >>> res.predict(df.head(2), include_random=False).round(2).tolist()
        [251.41, 261.87]
        """
        new = data if exog is None else exog
        rows = _predict.rows_of(self.model, new, include_random, transform, new_levels)
        return _predict.predict(self, rows)

    def get_prediction(
        self,
        exog: Any = None,
        include_random: bool = True,
        transform: bool = True,
        new_levels: str = "zero",
        weights: Any = None,
        pred_kwds: dict[str, Any] | None = None,
        data: Frame | None = None,
    ) -> _predict.Prediction:
        """Predictions with confidence and prediction intervals.

        Parameters
        ----------
        exog, include_random, transform, new_levels, data
            As in `predict`.
        weights : array_like, optional
            Precision weights of new observations, for prediction intervals; default one, also where the fit has
            ``var_weights``. Without `exog` they are those of the fit.
        pred_kwds : dict, optional
            Not used; statsmodels passes it.

        Returns
        -------
        Prediction
            ``summary_frame()`` has ``mean, mean_se, mean_ci_lower, mean_ci_upper,
            obs_ci_lower, obs_ci_upper``. With random effects the intervals include the
            uncertainty of their prediction (of a level that the fit has not seen, all of
            its variance); population ones include the random effects'
            variance in the prediction interval. After `with_df`, confidence intervals of
            population values are t intervals with the degrees of freedom of each row; for
            predicted random effects and for new observations there are none, and their
            intervals are normal.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> print(res.get_prediction(df.head(2)).summary_frame()[["mean", "mean_ci_lower", "mean_ci_upper"]].round(2))
             mean  mean_ci_lower  mean_ci_upper
        0  253.66         229.64         277.68
        1  273.33         252.67         293.99
        """
        new = data if exog is None else exog
        rows = _predict.rows_of(self.model, new, include_random, transform, new_levels)
        return _predict.prediction(self, rows, weights)

    def profile_re(
        self,
        re_ix: int | str,
        vtype: str,
        num_low: int = 5,
        dist_low: float = 1.0,
        num_high: int = 5,
        dist_high: float = 1.0,
        **fit_kwargs: Any,
    ) -> np.ndarray:
        """The profile likelihood of a variance on a grid, as statsmodels' MixedLM gives it.

        For intervals and standard deviations see `profile`, which takes no grid.

        Parameters
        ----------
        re_ix : int or str
            With ``vtype="re"`` the place of the column in `cov_re`; with "vc" the name of a variance component.
        vtype : {"re", "vc"}
        num_low, num_high : int
            Points below and above the estimate.
        dist_low, dist_high : float
            How far they go from it.
        **fit_kwargs
            statsmodels' options of a fit; the search needs none of them.

        Returns
        -------
        ndarray, shape (num_low + 1 + num_high, 2)
            Values of the variance, ascending, and the log-likelihood maximised over everything else; restricted after
            REML.

        Raises
        ------
        ValueError
            For an unknown variance, or `dist_low` not below the estimate; if the data are gone.

        Notes
        -----
        statsmodels holds the variance's ratio to the residual variance and reports the product with the scale found
        there: values that were not asked for, and at them a likelihood that is not the highest.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import dietox
        >>> df = dietox.load_pandas().data
        >>> result = smf.mixedlm("Weight ~ Time", df, groups="Pig").fit()
        >>> result.profile_re(0, "re", num_low=1, num_high=1, dist_low=10, dist_high=10).round(2).tolist()
        [[30.39, -2406.27], [40.39, -2404.78], [50.39, -2405.55]]
        """
        check_option("profile_re", fit_kwargs, SEARCH_OPTIONS)
        return _profile_re.profile_re(self, re_ix, vtype, num_low, dist_low, num_high, dist_high)

    def draw(self, eta, rng) -> np.ndarray:
        """A response for each row, given its linear predictor."""
        weights = 1.0 if self.model.var_weights is None else self.model.var_weights
        return eta + np.sqrt(self.scale / weights) * rng.standard_normal(len(eta))

    def adopt(self, other):
        """Take over another fit but for its coefficients and their covariance (statsmodels' `_fit_zeros`)."""
        for name in ("record", "reml", "method", "converged", "is_singular", "theta", "llf", "scale", "k_params"):
            setattr(self, name, getattr(other, name))
        self._terms, self._state, self._facts = other.term_solutions, None, None
        self._cache.clear()


class MixedLMResultsWrapper(MultilevelResultsWrapper):
    """Gives results the names of rows and columns."""

    _attrs = {"fe_params": "columns", "bse_fe": "columns"}
    _wrap_attrs = wrap.union_dicts(MultilevelResultsWrapper._wrap_attrs, _attrs)


wrap.populate_wrapper(MixedLMResultsWrapper, MixedLMResults)
MixedLMResults._wrapper = MixedLMResultsWrapper
