"""Results of the generalised models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import statsmodels.base.wrapper as wrap

from sm_multilevel.host import Frame
from sm_multilevel.postestimation.components.solution import conditional_solution
from sm_multilevel.postestimation.description import r_squared_glm as _variance
from sm_multilevel.postestimation.description import ratios as _ratios
from sm_multilevel.postestimation.prediction import predict_glm as _predict
from sm_multilevel.postestimation.prediction.prediction_glm import GLMPrediction, prediction_glm
from sm_multilevel.postestimation.prediction.residuals import residuals as _residuals
from sm_multilevel.statsmodels_results.base import MultilevelResults, MultilevelResultsWrapper

__all__ = ["MixedGLMResults", "MixedGLMResultsWrapper"]


class MixedGLMResults(MultilevelResults):
    """Results of a generalised linear, negative binomial or ordinal mixed model.

    Attributes
    ----------
    params, bse, tvalues, pvalues : Series
        Fixed effects, then the response's own parameters: dispersion, alpha or cut-points.
    family : ResponseFamily
    categories : tuple or None
        Labels of an ordinal response, or (failure, success) of a binary one that came as labels.
    link : str
    nAGQ : int
        Quadrature points a column of random effects; 1 is Laplace's approximation.
    quadrature_error : float or None
        With ``nAGQ="auto"``: change of the log-likelihood with the last points added.
    separated : list of str
        Predictors whose estimates are infinite; then `converged` is False.
    scale : float
        1; a dispersion is one of `params`.
    llf : float
        Log-likelihood, all constants included.
    theta : ndarray
        Cholesky factors of the random effects' covariances in the user's columns.
    record : FitRecord
        What estimation did, and how it was checked.
    converged, is_singular : bool
    fit_warnings : tuple of str
        What the fit warned of; the summary repeats it.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> res.family, res.nAGQ, res.converged
    (Binomial(logit), 1, True)
    >>> res.odds_ratios()["OR"].round(3).to_dict()
    {'Intercept': 0.247, 'period[T.2]': 0.371, 'period[T.3]': 0.323, 'period[T.4]': 0.206}
    """

    method = "ML"

    def __init__(self, model, fitted, *, use_t=None, start_params=None, alpha=0.05):
        space, record = fitted.space, fitted.record
        jacobian = space.head_jacobian(fitted.z)
        head = fitted.covariance[: space.head, : space.head]
        cov = _transformed(head, jacobian)
        if fitted.beside is not None:
            cov = fitted.beside
            back = np.linalg.inv(jacobian + np.diag(np.diag(jacobian) == 0.0))  # alpha at zero
            head = back @ np.nan_to_num(cov) @ back.T
        super().__init__(
            model, record, record.theta[: space.head], cov, 1.0, theta=record.theta[space.head :],
            nobs=model.response.nobs, use_t=use_t, start_params=start_params, alpha=alpha,
            state=conditional_solution(model.effects, fitted.state.mode, space.change, np.nan_to_num(head)),
        )  # fmt: skip
        self.cov_kwds = {"description": "Inverse of the joint observed information of all parameters."}
        self.family, self.link = model.family, model.family.link_name
        self.fit_warnings = tuple(fitted.warnings)
        self.nAGQ, self.quadrature_error = fitted.nAGQ, fitted.quadrature_error
        self.separated = list(fitted.separated)
        self.k_params = len(record.theta)
        # Of beta, psi and theta in standardised columns; components' standard errors come from it.
        self.cov_standard, self.z_standard = fitted.covariance, fitted.z
        self.standard_jacobian = jacobian  # of the user's beta and psi by those
        self.categories = model.design.categories
        self._labelled = model.design.index is not None
        self._null, self._mean_random = None, None

    def fit_options(self) -> dict[str, Any]:
        """Options of `fit` with which this result was made."""
        return {"nAGQ": self.nAGQ, "method": self.record.method, "use_t": self.use_t}

    @property
    def params_packed(self) -> np.ndarray:
        """beta, psi, theta: what ``model.loglike`` takes."""
        return np.concatenate([np.asarray(self.params), self.theta])

    @property
    def fe_params(self) -> pd.Series:
        """Fixed effects: `params` without the response's own parameters."""
        return self._fixed(self.params)

    @property
    def bse_fe(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        return self._fixed(self.bse)

    def _fixed(self, values):
        values = np.asarray(values)[: self.model.k_fixed]
        return pd.Series(values, self.model.data.xnames) if self._labelled else values

    @property
    def psi(self) -> pd.Series:
        """The response's own parameters: dispersion, alpha or cut-points."""
        p = self.model.k_fixed
        return pd.Series(np.asarray(self.params)[p:], self.model.family.psi_names, dtype=float)

    @property
    def thresholds(self) -> pd.Series:
        """Cut-points of an ordinal model, named ``low|high``.

        Raises
        ------
        AttributeError
            For another model.
        """
        if self.family.has_intercept:
            raise AttributeError(f"{type(self.model).__name__} has no thresholds; they are of ordinal models.")
        return self.psi

    # -- numbers ---------------------------------------------------------------------------

    @property
    def positive(self) -> np.ndarray:
        """Which of `params` are a dispersion or alpha, never negative; bool."""
        out = np.zeros(len(np.asarray(self.params)), dtype=bool)
        out[self.model.k_fixed :] = self.family.has_intercept
        return out

    @property
    def pvalues(self) -> pd.Series:
        """Of Wald tests that a parameter is zero; NaN for alpha and dispersion.

        Zero is the boundary of these, or outside of what they can be, and the Wald test does
        not hold there.
        """
        if "pvalues" not in self._cache:
            values = np.array(super().pvalues, dtype=float)
            values[self.positive] = np.nan
            self._cache["pvalues"] = values
        return self._cache["pvalues"]

    def conf_int(self, alpha: float | None = None, method: str = "wald", **kwargs: Any) -> pd.DataFrame:
        """Confidence intervals at level 1 - alpha; default `default_alpha`.

        Those of alpha and dispersion are by "wald" made on the scale of their logarithm; they are NaN
        where alpha is estimated as zero. Where alpha is smaller than its standard error its
        logarithm has no useful one, and the interval is estimate +- z SE, cut off at zero.

        Parameters
        ----------
        alpha : float, optional
            Default: that of the fit.
        method : {"wald", "profile", "boot"}
        **kwargs
            Of `profile` or `bootstrap`.

        Returns
        -------
        DataFrame or ndarray, shape (p + r, 2)

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> print(res.conf_int().round(3))
                         0      1
        Intercept   -1.854 -0.943
        period[T.2] -1.593 -0.391
        period[T.3] -1.769 -0.488
        period[T.4] -2.418 -0.743
        """
        out = np.array(super().conf_int(alpha, method, **kwargs), dtype=float).reshape(-1, 2)
        if method != "wald":
            return out
        rows = self.positive
        value, error = np.asarray(self.params)[rows][:, None], np.asarray(self.bse)[rows][:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            by_log = value * np.exp((out[rows] - value) / value)
        out[rows] = np.where(error > value, np.maximum(out[rows], 0.0), by_log)
        return out

    # -- ratios ----------------------------------------------------------------------------

    def odds_ratios(self, alpha: float | None = None) -> pd.DataFrame:
        """Odds ratios, exp(coefficient), with Wald intervals made on the scale of the coefficients.

        They are conditional ones: within a level of the random effects. Thresholds and
        dispersion are no ratios and left out.

        Parameters
        ----------
        alpha : float, optional
            The intervals' level is 1 - alpha.

        Returns
        -------
        DataFrame
            ``OR, lower, upper, pvalue``, one row a fixed effect.

        Raises
        ------
        ValueError
            If the link is not logit.

        Examples
        --------
        >>> import sm_multilevel.api as smm
        >>> from sm_multilevel.datasets import contraception
        >>> df = contraception.load_pandas().data
        >>> model = smm.MixedGLM.from_formula("use ~ urban + age + (1 | district)", df, family="binomial")
        >>> model.fit().odds_ratios().loc["urban[T.Y]"].round(2).to_dict()
        {'OR': 1.92, 'lower': 1.53, 'upper': 2.41, 'pvalue': 0.0}
        """
        return _ratios.odds_ratios(self, self.default_alpha if alpha is None else alpha)

    def incidence_rate_ratios(self, alpha: float | None = None) -> pd.DataFrame:
        """Incidence-rate ratios, exp(coefficient), of a count model with a log link.

        Parameters
        ----------
        alpha : float, optional
            The intervals' level is 1 - alpha.

        Returns
        -------
        DataFrame
            ``IRR, lower, upper, pvalue``, one row a fixed effect.

        Raises
        ------
        ValueError
            For another response or link.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import epil
        >>> seizures = epil.load_pandas().data
        >>> res = smf.menbreg("y ~ trt + lbase + (1 | subject)", seizures).fit()
        >>> print(res.incidence_rate_ratios().round(3))
                            IRR  lower  upper  pvalue
        Intercept         6.173  4.994  7.630   0.000
        trt[T.progabide]  0.716  0.533  0.964   0.028
        lbase             2.748  2.255  3.348   0.000
        """
        return _ratios.incidence_rate_ratios(self, self.default_alpha if alpha is None else alpha)

    def exp_params(self, alpha: float | None = None) -> pd.DataFrame:
        """exp(coefficient) with a log or logit link: a ratio of means, or of odds.

        Parameters
        ----------
        alpha : float, optional
            The intervals' level is 1 - alpha.

        Returns
        -------
        DataFrame
            ``exp(coef), lower, upper, pvalue``, one row a fixed effect.

        Raises
        ------
        ValueError
            For another link.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import epil
        >>> seizures = epil.load_pandas().data
        >>> res = smf.menbreg("y ~ trt + lbase + (1 | subject)", seizures).fit()
        >>> print(res.exp_params().round(3))
                          exp(coef)  lower  upper  pvalue
        Intercept             6.173  4.994  7.630   0.000
        trt[T.progabide]      0.716  0.533  0.964   0.028
        lbase                 2.748  2.255  3.348   0.000
        """
        return _ratios.exp_params(self, self.default_alpha if alpha is None else alpha)

    # -- variance explained ------------------------------------------------------------------

    def null_point(self):
        """Where observation-level variances are taken; the model with an intercept only is fitted once."""
        if self._null is None:
            self._null = _variance.null_point(self)
        return self._null

    def mean_random_variance(self) -> float:
        """Mean over rows of z'Gz, the variance that the random effects contribute."""
        if self._mean_random is None and self._facts is not None and self._facts.r_squared:
            return self._facts.r_squared["var_random"]
        if self._mean_random is None:
            self.model.require_data("The mean variance of the random effects")
            self._mean_random = _variance.mean_random_variance(self.model, self.term_covariances)
        return self._mean_random

    def r_squared(self, method: str = "auto") -> dict[str, float]:
        """Marginal and conditional R-squared on the scale of the linear predictor.

        Parameters
        ----------
        method : {"auto", "latent", "delta", "lognormal", "trigamma", "observation"}
            The variance of the response given the linear predictor. ``"latent"``: of the
            latent variable (logit pi^2/3, probit 1, cloglog pi^2/6). ``"delta"``:
            V(m) / (dm/d eta)^2. With a log link also ``"lognormal"``, log(1 + V(m)/m^2), and
            ``"trigamma"``, trigamma(m^2/V(m)). ``"observation"`` is ``"trigamma"`` with a log
            link, else ``"delta"``. ``"auto"`` is ``"latent"`` where there is one, else
            ``"observation"``.

        Returns
        -------
        dict
            ``marginal, conditional, var_fixed, var_random, var_residual``.

        Notes
        -----
        Nakagawa, Johnson and Schielzeth (2017), J. R. Soc. Interface 14, 20170213. m is the
        mean of the response in the model with an intercept only and the same random terms,
        which is fitted for this once: exp(b0 + half the sum of its variances) with a log
        link, with others the mean over its random effects by integration. Random slopes
        count by their mean over the rows (Johnson 2014), offsets by their mean. V is that of
        one trial and of unit weight.

        Examples
        --------
        >>> import sm_multilevel.api as smm
        >>> from sm_multilevel.datasets import cbpp
        >>> df = cbpp.load_pandas().data
        >>> model = smm.MixedGLM.from_formula(
        ...     "incidence ~ period + (1 | herd)", df, family="binomial", n_trials="size"
        ... )
        >>> {name: round(value, 3) for name, value in model.fit().r_squared().items()}
        {'marginal': 0.085, 'conditional': 0.187, 'var_fixed': 0.346, 'var_random': 0.412, 'var_residual': 3.29}
        """
        if self._facts is not None and method == "auto" and self._facts.r_squared:
            return dict(self._facts.r_squared)
        return _variance.r_squared_glm(self, method)

    def icc_function(self, components, scale, slopes):
        """Intraclass correlations as a function of components and `params`; see `icc`."""
        return _variance.icc_function(self, components, scale, slopes)

    # -- rows ------------------------------------------------------------------------------

    @property
    def fittedvalues(self) -> pd.Series:
        """Conditional means, random effects included.

        Of a binomial response of one trial; of an ordinal one the mean of the category's
        number 0 .. K-1 (its probabilities are in ``predict()``).
        """
        if self._cache.get("fittedvalues") is None:
            self._cache["fittedvalues"] = np.asarray(_predict.predict_glm(self, None, "mean"))
        return self._cache["fittedvalues"]

    @property
    def resid(self) -> pd.Series:
        """Response minus `fittedvalues`; of a binomial response its proportion."""
        if self._cache.get("resid") is None:
            self._cache["resid"] = self.model.endog - self.fittedvalues
        return self._cache["resid"]

    @property
    def resid_response(self) -> pd.Series:
        """As `resid`."""
        return self.resid

    @property
    def resid_pearson(self) -> pd.Series:
        """As ``residuals("pearson")``."""
        return _residuals(self, "pearson")

    @property
    def resid_deviance(self) -> pd.Series:
        """As ``residuals("deviance")``."""
        return _residuals(self, "deviance")

    @property
    def resid_working(self) -> pd.Series:
        """As ``residuals("working")``."""
        return _residuals(self, "working")

    def residuals(
        self, kind: str = "response", include_random: bool = True, seed: int | np.random.Generator | None = None
    ) -> pd.Series:
        """Residuals of the rows of the fit.

        Parameters
        ----------
        kind : {"response", "pearson", "deviance", "working", "quantile"}
            ``"response"``: y - mean, of proportions where there are trials. ``"pearson"``: by
            the square root of trials or weights over the variance function, as in
            statsmodels' GLM not divided by a dispersion. ``"deviance"``: the signed root of
            the deviance, likewise. ``"working"``: on the scale of the linear predictor.
            ``"quantile"``: standard normal if the model holds, randomised where the response
            is discrete (Dunn and Smyth 1996, J. Comput. Graph. Stat. 5, 236-244). Ordinal
            models have ``"response"`` and ``"pearson"`` of the category's number, and
            ``"quantile"``.
        include_random : bool
            Around the conditional means, or at a random effect of zero.
        seed : int or numpy.random.Generator, optional
            Of the randomisation.

        Returns
        -------
        Series or ndarray

        Examples
        --------
        >>> import sm_multilevel.api as smm
        >>> from sm_multilevel.datasets import epil
        >>> df = epil.load_pandas().data
        >>> res = smm.MENegBin.from_formula("y ~ trt + (1 | subject)", df).fit()
        >>> [round(float(r), 2) for r in res.residuals("pearson").head(3)]
        [0.54, -0.3, -0.3]
        """
        values = _residuals(self, kind, include_random, seed)
        index = self.model.design.index
        return values if index is None else pd.Series(values, index=index)

    def predict(
        self,
        exog: Any = None,
        include_random: bool | str = True,
        transform: bool = True,
        new_levels: str = "zero",
        data: Frame | None = None,
        *,
        type: str | None = None,
        which: str | None = None,
        offset: Any = None,
        exposure: Any = None,
    ) -> pd.Series | Any:
        """Predicted values.

        Parameters
        ----------
        exog : DataFrame, dict or array_like, optional
            New data for the formula; default the data of the fit. An array is taken as the
            columns of the fixed part and gives values at a random effect of zero.
        include_random : bool or "marginal"
            True: with the random effects of known levels. False: at a random effect of zero,
            the typical level. ``"marginal"``: averaged over the distribution of the random
            effects, the mean of the population (with a log link in closed form, with others
            integrated numerically to about 1e-12).
        transform : bool
            False: `exog` holds the columns of the fixed part.
        new_levels : {"zero", "raise"}
            What to do with levels that the fit has not seen: a random effect of zero, with
            one warning, or an error.
        data : DataFrame, optional
            Another name of `exog`.
        type : {"response", "linear", "prob", "class"}, optional
            ``"response"`` (default): the mean, of one trial where there are trials; of an
            ordinal model the probabilities. ``"linear"`` (or ``"link"``): the linear
            predictor, offset included; the mean of the random effects is zero, so that
            "marginal" is as False. ``"prob"``: the probability of each category, a column
            each. ``"class"``: the label of the most probable.
        which : {"mean", "linear", "prob", "class", "var"}, optional
            The same in statsmodels' words. ``"mean"`` of an ordinal model is the mean of the
            category's number, as in `fittedvalues`. ``"var"``: the variance of the response,
            of one trial and unit weight; with "marginal" that of the random effects included.
        offset, exposure : array_like, optional
            For these rows, in place of all offsets and exposures of the model, whose columns
            new data must have otherwise.

        Returns
        -------
        Series or DataFrame, or ndarray where arrays were given
            With the new data's index; NaN where a value is missing.

        Raises
        ------
        FormulaError
            If a column is missing: for the grouping factor the message names the option.
        ValueError
            For words that are unknown or contradict each other, or do not fit the response.

        Examples
        --------
        >>> import sm_multilevel.api as smm
        >>> from sm_multilevel.datasets import cbpp
        >>> df = cbpp.load_pandas().data
        >>> model = smm.MixedGLM.from_formula(
        ...     "incidence ~ period + (1 | herd)", df, family="binomial", n_trials="size"
        ... )
        >>> res = model.fit()
        >>> [round(float(res.predict(df.head(1), include_random=r).iloc[0]), 3) for r in (True, False, "marginal")]
        [0.308, 0.198, 0.216]
        """
        kind = _predict.kind_of(self.family, type, which)
        return _predict.predict_glm(
            self, data if exog is None else exog, kind, include_random=include_random, transform=transform,
            new_levels=new_levels, offset=offset, exposure=exposure,
        )  # fmt: skip

    def get_prediction(
        self,
        exog: Any = None,
        include_random: bool | str = True,
        transform: bool = True,
        new_levels: str = "zero",
        weights: Any = None,
        pred_kwds: dict[str, Any] | None = None,
        data: Frame | None = None,
        *,
        type: str | None = None,
        which: str | None = None,
        offset: Any = None,
        exposure: Any = None,
    ) -> GLMPrediction | Any:
        """Predictions with confidence and prediction intervals.

        Parameters
        ----------
        exog, include_random, transform, new_levels, data, offset, exposure
            As in `predict`.
        weights : array_like, optional
            Precision weights of new observations, for prediction intervals; default one, also where the fit has
            ``var_weights``. Without `exog` they are those of the fit.
        pred_kwds : dict, optional
            Not used; statsmodels passes it.
        type, which : str, optional
            ``"mean"`` (default), ``"linear"`` or, of binomial and ordinal models, ``"prob"``.

        Returns
        -------
        GLMPrediction or ProbabilityPrediction
            ``summary_frame()`` has ``mean, mean_se, mean_ci_lower, mean_ci_upper`` and for
            means ``obs_ci_lower, obs_ci_upper``; of probabilities it has a row for each row
            and category.

        Notes
        -----
        With the random effects of known levels, standard errors include the uncertainty of
        their prediction (given theta; of a level that the fit has not seen, all of its
        variance) and of the coefficients. ``mean_se`` is by the delta
        method; the interval of the mean is that of the linear predictor through the inverse
        link. The interval of an observation has quantiles of the response's distribution,
        averaged over a normal linear predictor whose variance is that of its estimate, and
        for values without random effects also that of the random effects. Of a binomial
        response it is the proportion of its trials, one trial where new data do not have
        their number. Intervals of probabilities are made on the logit scale.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> prediction = res.get_prediction(cows.head(2), include_random="marginal")
        >>> print(prediction.summary_frame()[["mean", "mean_ci_lower", "mean_ci_upper"]].round(3))
            mean  mean_ci_lower  mean_ci_upper
        0  0.216          0.152          0.296
        1  0.097          0.056          0.161
        """
        return prediction_glm(
            self, data if exog is None else exog, _predict.kind_of(self.family, type, which), weights,
            include_random=include_random, transform=transform, new_levels=new_levels, offset=offset,
            exposure=exposure,
        )  # fmt: skip

    def draw(self, eta, rng) -> np.ndarray:
        """A response for each row, given its linear predictor."""
        return self.family.simulate(self.model.design.response_data(), eta, self.psi.to_numpy(), rng)

    def adopt(self, other):
        """Take over another fit but for its coefficients and their covariance (statsmodels' `_fit_zeros`)."""
        for name in ("record", "converged", "is_singular", "theta", "llf", "k_params", "nAGQ", "quadrature_error",
                     "separated", "fit_warnings", "cov_standard", "z_standard", "standard_jacobian"):  # fmt: skip
            setattr(self, name, getattr(other, name))
        self._terms, self._state, self._facts, self._null = other.term_solutions, None, None, None
        self._cache.clear()


def _transformed(cov, jacobian):
    """J cov J' where NaN (an element held at the boundary) touches only what depends on it."""
    known = np.isfinite(np.diag(cov))
    out = jacobian[:, known] @ cov[np.ix_(known, known)] @ jacobian[:, known].T
    lost = (jacobian[:, ~known] != 0).any(axis=1)
    # The derivative of a squared root is zero at the boundary itself.
    lost |= ~known & (np.abs(jacobian).sum(axis=1) == 0)
    if not known.any():
        lost[:] = True
    out[lost, :] = out[:, lost] = np.nan
    return out


class MixedGLMResultsWrapper(MultilevelResultsWrapper):
    """Gives results the names of rows and columns."""

    _attrs = {f"resid_{kind}": "rows" for kind in ("response", "pearson", "deviance", "working")}
    _wrap_attrs = wrap.union_dicts(MultilevelResultsWrapper._wrap_attrs, _attrs)


wrap.populate_wrapper(MixedGLMResultsWrapper, MixedGLMResults)
MixedGLMResults._wrapper = MixedGLMResultsWrapper
