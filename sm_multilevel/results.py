"""Results of a fit: statsmodels' contract, and one-line delegations to the tools."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
import statsmodels.base.wrapper as wrap
from patsy.eval import EvalEnvironment
from statsmodels.base.model import LikelihoodModelResults, LikelihoodResultsWrapper

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import check_alpha
from sm_multilevel.postestimation import bootstrap as _bootstrap
from sm_multilevel.postestimation import predict as _predict
from sm_multilevel.postestimation import ranef as _ranef
from sm_multilevel.postestimation import varcorr as _varcorr
from sm_multilevel.postestimation import wald as _wald
from sm_multilevel.postestimation.facts import Facts
from sm_multilevel.postestimation.facts import facts as _facts
from sm_multilevel.postestimation.icc import icc as _icc
from sm_multilevel.postestimation.r_squared import r_squared as _r_squared
from sm_multilevel.postestimation.solution import term_covariances, term_solutions

__all__ = ["MixedLMResults", "MixedLMResultsWrapper"]


class CallableFloat(float):
    """A number that may also be called: ``res.aic`` and ``res.aic()`` are the same."""

    def __call__(self) -> float:
        return float(self)


class MixedLMResults(LikelihoodModelResults):
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
    """

    # A plain attribute: the base class's cached one would be wiped by remove_data().
    llf: float = float("nan")

    def __init__(self, model, record, state, *, reml, use_t=None, start_params=None, alpha=0.05):
        params = state.data.scaling.beta(state.beta)
        cov = state.cov_beta()
        super().__init__(model, params, normalized_cov_params=cov / state.sigma2, scale=state.sigma2)
        self.use_t = bool(use_t)
        self.default_alpha = alpha
        self.cov_type = "nonrobust"
        self.cov_kwds = {"description": "sigma^2 (X'V^-1 X)^-1 at the estimated components."}
        self.record = record
        self.reml = reml
        self.method = "REML" if reml else "ML"
        self.converged = record.converged
        self.is_singular = bool(record.singular)
        self.theta = record.theta
        self.llf = -0.5 * record.value
        self.nobs = state.data.nobs
        self.df_model = len(params) - model.k_constant
        self.df_resid = self.nobs - len(params)
        self.df_resid_inference = self.df_resid
        self.k_params = len(params) + len(record.theta) + 1
        self._cache = {}
        self._state = state
        self._terms = None
        self._facts = None
        self.mle_retvals = {
            "converged": record.converged,
            "fopt": record.value,
            "iterations": record.iterations,
            "fcalls": record.evaluations,
            "gradient_norm": record.gradient_norm,
            "message": record.message,
        }
        self.mle_settings = {"optimizer": record.method, "start_params": start_params}
        self._data_attr = ["_state"]
        self._data_in_cache = ["fittedvalues", "resid", "wresid"]

    # -- numbers ----------------------------------------------------------------------

    @property
    def aic(self):
        """-2 llf + 2 times the number of beta, theta and sigma^2."""
        return CallableFloat(-2 * self.llf + 2 * self.k_params)

    @property
    def bic(self):
        """-2 llf + log(number of rows) times the number of parameters."""
        return CallableFloat(-2 * self.llf + np.log(self.nobs) * self.k_params)

    @property
    def deviance(self) -> float:
        """-2 llf; under REML the REML criterion."""
        return -2 * self.llf

    @property
    def params_packed(self) -> np.ndarray:
        """beta, sigma^2, theta: what ``model.loglike`` takes."""
        return np.concatenate([np.asarray(self.params), [self.scale], self.theta])

    @property
    def fe_params(self):
        """Fixed effects: `params` under statsmodels' MixedLM's name."""
        return self.params

    @property
    def bse_fe(self):
        """Standard errors of the fixed effects: `bse` under statsmodels' MixedLM's name."""
        return self.bse

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return self.model.ngroups

    # -- random effects -----------------------------------------------------------------

    @property
    def term_covariances(self):
        """Covariance of each random term, in formula order (see `TermCovariance`)."""
        if self._terms is not None:
            return self._terms
        return term_covariances(self.model.effects, self.theta, self.scale)

    @property
    def term_solutions(self):
        """Estimates of each random term, in formula order (see `TermSolution`)."""
        if self._terms is None:
            outer = self.model.design.outer
            with one_blas_thread():
                self._terms = term_solutions(self.model.effects, self.theta, self._state, outer and outer[0])
        return self._terms

    def varcorr(self) -> pd.DataFrame:
        """Variance components as lme4's ``as.data.frame(VarCorr(m))``.

        Returns
        -------
        DataFrame
            ``grp, var1, var2, vcov, sdcor``; `var2` None for variances; the residual last.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> vc = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit().varcorr()
        >>> vc["grp"].tolist(), vc["sdcor"].round(3).tolist()
        (['Subject', 'Residual'], [37.124, 30.991])
        """
        return _varcorr.varcorr(self.term_covariances, self.scale)

    @property
    def variance_components(self) -> dict[str, float]:
        """``var(x)``, ``cov(Intercept,x)``, ``var(Residual)``; ``var(x|g)`` with several groups."""
        return _varcorr.variance_components(self.term_covariances, self.scale)

    @property
    def cov_re(self):
        """Covariance of the random effects in the user's units.

        Returns
        -------
        DataFrame, or a dict of them where there are several grouping factors
            Without the variance components, as in statsmodels' MixedLM.
        """
        return _varcorr.cov_re(self.term_covariances, self.model.is_component)

    @property
    def vcomp(self) -> np.ndarray:
        """Variances of the components of ``vc_formula=`` or ``exog_vc=``, sorted by name, as in MixedLM."""
        return _varcorr.vcomp(self.term_covariances, self.model.is_component)

    def ranef(self, conditional_se=False, given_beta=False):
        """Predicted random effects, one row a level.

        Parameters
        ----------
        conditional_se : bool
            Return a tuple (effects, standard errors).
        given_beta : bool
            Standard errors as if the fixed effects were known, as lme4's ``condVar``; the
            default ones include their uncertainty (Henderson 1975).

        Returns
        -------
        DataFrame, or a dict of them where there are several grouping factors
        """
        return _ranef.ranef(self.term_solutions, conditional_se, given_beta)

    def group_coef(self):
        """Coefficients of each level, fixed plus random (lme4's ``coef``)."""
        return _ranef.group_coef(self.term_solutions, pd.Series(self.params, self.model.data.param_names))

    @property
    def random_effects(self) -> dict:
        """Predicted random effects by level, as statsmodels' MixedLM gives them.

        Returns
        -------
        dict of Series
            By level of ``groups=``, variance components included. Without these and with
            several grouping factors, a dict of such dicts.
        """
        return _ranef.random_effects(self.term_solutions, self.model)

    @property
    def random_effects_cov(self) -> dict:
        """Covariance of the predicted random effects given beta: frames as in `random_effects`."""
        return _ranef.random_effects_cov(self.term_solutions, self.model, self._state)

    def r_squared(self) -> dict[str, float]:
        """Marginal and conditional R-squared (Nakagawa and Schielzeth 2013, Johnson 2014).

        Returns
        -------
        dict
            ``marginal, conditional, var_fixed, var_random, var_residual``.
        """
        if self._facts is not None:
            return dict(self._facts.r_squared)
        self.model.require_data("r_squared()")
        linear = self.model.design.exog @ np.asarray(self.params)  # model.exog is None without columns
        return _r_squared(linear, self.model.random, self.term_covariances, self.scale, self.model.freq_weights)

    def icc(self) -> dict[str, float]:
        """Intraclass correlation of each grouping factor, covariates of slopes at zero."""
        if self._facts is not None:
            return dict(self._facts.icc)
        self.model.require_data("icc()")
        return _icc(self.model.random, self.term_covariances, self.scale)

    # -- rows ------------------------------------------------------------------------------

    @property
    def fittedvalues(self):
        """Conditional fitted values, random effects included."""
        if self._cache.get("fittedvalues") is None:
            rows = _predict.rows_of(self.model, None)
            self._cache["fittedvalues"] = np.asarray(_predict.predict(self, rows))
        return self._cache["fittedvalues"]

    @property
    def resid(self):
        """Response minus conditional fitted values."""
        if self._cache.get("resid") is None:
            self._cache["resid"] = self.model.endog - self.fittedvalues
        return self._cache["resid"]

    def predict(self, exog=None, include_random=True, transform=True, new_levels="zero", data=None):
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
        """
        new = data if exog is None else exog
        rows = _predict.rows_of(self.model, new, include_random, transform, new_levels)
        return _predict.predict(self, rows)

    def get_prediction(self, exog=None, include_random=True, transform=True, new_levels="zero",
                       weights=None, pred_kwds=None, data=None):  # fmt: skip
        """Predictions with confidence and prediction intervals.

        Parameters
        ----------
        exog, include_random, transform, new_levels, data
            As in `predict`.
        weights : array_like, optional
            Precision weights of new observations, for prediction intervals.

        Returns
        -------
        Prediction
            ``summary_frame()`` has ``mean, mean_se, mean_ci_lower, mean_ci_upper,
            obs_ci_lower, obs_ci_upper``. With random effects the intervals include the
            uncertainty of their prediction; population ones include the random effects'
            variance in the prediction interval.
        """
        new = data if exog is None else exog
        rows = _predict.rows_of(self.model, new, include_random, transform, new_levels)
        return _predict.prediction(self, rows, weights)

    def conf_int(self, alpha=None, **kwargs):
        """Confidence intervals of the fixed effects, at level 1 - alpha; default `default_alpha`."""
        return super().conf_int(check_alpha(self.default_alpha if alpha is None else alpha), **kwargs)

    # -- tests -----------------------------------------------------------------------------

    def wald_test(self, r_matrix, cov_p=None, invcov=None, use_f=None, df_constraints=None, scalar=True):
        """Wald test of linear hypotheses; also of a dict of coefficients or whole terms.

        Parameters
        ----------
        r_matrix : str, array_like, tuple or dict
            As in statsmodels; or ``{"ses": 0, "gender": 0}``, whose keys are coefficients
            or whole terms (``gender`` for ``gender[T.M]``).
        """
        if isinstance(r_matrix, Mapping):
            r_matrix = _wald.constraints_from_dict(self.model, r_matrix)
        _wald.check_hypothesis(self.model, r_matrix)
        return super().wald_test(
            r_matrix, cov_p=cov_p, invcov=invcov, use_f=use_f, df_constraints=df_constraints,
            scalar=scalar,
        )  # fmt: skip

    def t_test(self, r_matrix, cov_p=None, use_t=None):
        """t or z tests of single linear hypotheses, as in statsmodels."""
        _wald.check_hypothesis(self.model, r_matrix)
        return super().t_test(r_matrix, cov_p=cov_p, use_t=use_t)

    def t_test_pairwise(self, term_name, method="hs", alpha=None, factor_labels=None):
        """Tests of all pairs of levels of a factor, corrected for their number, as in statsmodels."""
        alpha = self.default_alpha if alpha is None else alpha
        return _wald.t_test_pairwise(self, term_name, method, alpha, factor_labels)

    def wald_test_terms(self, skip_single=False, extra_constraints=None, combine_terms=None, scalar=True):
        """A joint Wald test of every term of the fixed part."""
        return _wald.wald_test_terms(self, skip_single, extra_constraints, combine_terms, scalar)

    # -- refitting ----------------------------------------------------------------------------

    def refit(self, endog):
        """Fit the same model to another response.

        Parameters
        ----------
        endog : array_like, shape (n,)
            One value for each row that the fit used.

        Returns
        -------
        MixedLMResults
        """
        return self.model.with_response(endog).fit(
            reml=self.reml, method=self.record.method, start_params=self.theta, use_t=self.use_t
        )

    def update(self, formula, data=None, **kwargs):
        """Fit a changed formula to the same data; ``.`` stands for the old side.

        Parameters
        ----------
        formula : str
            For example ``". ~ . + x"``.
        data : DataFrame, optional
            Other data.
        **kwargs
            Changed options of ``from_formula``.
        """
        model = self.model.updated(_expand(formula, self.model.formula), data, kwargs,
                                   EvalEnvironment.capture(1))  # fmt: skip
        return model.fit(reml=self.reml, method=self.record.method, use_t=self.use_t)

    def simulate(self, n=1, seed=None) -> np.ndarray:
        """Responses drawn from the fitted model, new random effects included; shape (n, rows)."""
        return _bootstrap.simulate(self, n, seed)

    def bootstrap(self, n=1000, seed=None, statistic=None):
        """Parametric bootstrap: new random effects and residuals, model refitted.

        Parameters
        ----------
        n : int
            Replicates.
        seed : int, optional
        statistic : callable, optional
            Result -> array; default fixed effects, then `varcorr()` variances.

        Returns
        -------
        BootstrapResults
            ``estimates`` (n, k), ``conf_int(alpha)``, ``failed``.
        """
        return _bootstrap.bootstrap(self, n, seed, statistic)

    # -- looking ---------------------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """Group sizes, R-squared, ICC and the test of no random effects, taken once (see `Facts`)."""
        if self._facts is None:
            self._facts = _facts(self)
        return self._facts

    def summary(self, yname=None, xname=None, title=None, alpha=None):
        """Summary table; see `sm_multilevel.summary.summarize`."""
        from sm_multilevel.summary import summarize

        alpha = self.default_alpha if alpha is None else alpha
        return summarize(self, yname=yname, xname=xname, title=title, alpha=alpha)

    def summary2(self, yname=None, xname=None, title=None, alpha=None, float_format="%.4f"):
        """Summary in statsmodels' second format."""
        from sm_multilevel.summary import summarize2

        alpha = self.default_alpha if alpha is None else alpha
        return summarize2(self, yname=yname, xname=xname, title=title, alpha=alpha,
                          float_format=float_format)  # fmt: skip

    def __repr__(self):
        state = "converged" if self.converged else "NOT CONVERGED"
        return f"<{type(self).__name__}: {self.method}, {state}, log-likelihood {self.llf:.3f}, {self.model!r}>"

    def plot(self, kind="caterpillar", **kwargs):
        """Plot of the fit: ``"caterpillar"``, ``"qq"``, ``"residuals"`` or ``"fitted"``."""
        from sm_multilevel import graphics

        return graphics.plot(self, kind, **kwargs)

    def remove_data(self):
        """Drop everything that has one entry a row; population prediction still works."""
        if self.model.random is not None:  # another result of this model may have removed them
            # Computed while the data are there.
            _ = self.facts, self.term_solutions
            self.model.forget_arrays()
        super().remove_data()

    remove_data.__doc__ = LikelihoodModelResults.remove_data.__doc__

    def adopt(self, other):
        """Take over another fit but for its coefficients and their covariance (statsmodels' `_fit_zeros`)."""
        for name in ("record", "reml", "method", "converged", "is_singular", "theta", "llf", "scale", "k_params"):
            setattr(self, name, getattr(other, name))
        self._terms, self._state, self._facts = other.term_solutions, None, None
        self._cache.clear()


_BARS = r"\([^()|]*\|\|?[^()]*\)"


def _expand(formula, old):
    """The changed formula: ``.`` is the old side, and ``- (x | g)`` takes a random term out."""
    if old is None:
        raise ValueError("update() needs a model made from a formula.")
    if "~" not in formula:
        raise ValueError(f"{formula!r} has no '~'. Write '. ~ . + x'.")
    left, right = formula.split("~", 1)
    old_left, old_right = old.split("~", 1)
    for minus, term in re.findall(rf"(-\s*({_BARS}))", right):
        right = right.replace(minus, "", 1)
        plain = re.sub(r"\s", "", term)
        found = [t for t in re.findall(_BARS, old_right) if re.sub(r"\s", "", t) == plain]
        if not found:
            raise ValueError(f"update(): the formula {old!r} has no term {term} to take out.")
        old_right = old_right.replace(found[0], "_GONE_", 1)
    dot = re.compile(r"(?<![\w.)\]])\.(?![\w.])")
    # Written without parentheses, so that bars stay terms of the sum.
    text = f"{dot.sub(old_left.strip(), left)} ~ {dot.sub(old_right.strip(), right)}"
    text = re.sub(r"\+\s*_GONE_|_GONE_\s*\+", "", text)
    return text.replace("_GONE_", "1")


class MixedLMResultsWrapper(LikelihoodResultsWrapper):
    """Gives results the names of rows and columns."""

    _attrs = {"fittedvalues": "rows", "resid": "rows", "fe_params": "columns", "bse_fe": "columns"}
    _wrap_attrs = wrap.union_dicts(LikelihoodResultsWrapper._wrap_attrs, _attrs)

    def __repr__(self):
        return repr(self._results)


wrap.populate_wrapper(MixedLMResultsWrapper, MixedLMResults)
