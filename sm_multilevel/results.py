"""Results of a fit: statsmodels' contract, and one-line delegations to the tools."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
import statsmodels.base.wrapper as wrap
from patsy.eval import EvalEnvironment
from statsmodels.base.model import LikelihoodModelResults, LikelihoodResultsWrapper

from sm_multilevel.postestimation import bootstrap as _bootstrap
from sm_multilevel.postestimation import predict as _predict
from sm_multilevel.postestimation import ranef as _ranef
from sm_multilevel.postestimation import varcorr as _varcorr
from sm_multilevel.postestimation import wald as _wald
from sm_multilevel.postestimation.facts import Facts
from sm_multilevel.postestimation.facts import facts as _facts
from sm_multilevel.postestimation.icc import icc as _icc
from sm_multilevel.postestimation.r_squared import r_squared as _r_squared
from sm_multilevel.postestimation.solution import term_solutions

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
    """

    # A plain attribute: the base class's cached one would be wiped by remove_data().
    llf: float = float("nan")

    def __init__(self, model, record, state, *, reml, use_t=None, start_params=None):
        params = state.data.scaling.beta(state.beta)
        cov = state.cov_beta()
        super().__init__(model, params, normalized_cov_params=cov / state.sigma2, scale=state.sigma2)
        self.use_t = bool(use_t)
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
        """Fixed effects (statsmodels' MixedLM's name)."""
        return pd.Series(self.params, index=self.model.data.param_names)

    @property
    def bse_fe(self):
        """Standard errors of the fixed effects."""
        return pd.Series(np.sqrt(np.diag(self.cov_params())), index=self.model.data.param_names)

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {t.name or t.group: len(t.levels) for t in self.term_solutions}

    # -- random effects -----------------------------------------------------------------

    @property
    def term_solutions(self):
        """Estimates of each random term, in formula order (see `TermSolution`)."""
        if self._terms is None:
            self._terms = term_solutions(self.model.effects, self.theta, self._state)
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
        return _varcorr.varcorr(self.term_solutions, self.scale)

    @property
    def variance_components(self) -> dict[str, float]:
        """``var(x)``, ``cov(Intercept,x)``, ``var(Residual)``; ``var(x|g)`` with several groups."""
        return _varcorr.variance_components(self.term_solutions, self.scale)

    @property
    def cov_re(self):
        """Covariance of the random effects in the user's units: a frame, or a dict of them."""
        blocks = {}
        solutions = self.term_solutions
        for group, members in _ranef.by_group(solutions).items():
            if self._is_component(members):
                continue
            names = [c for i in members for c in solutions[i].columns]
            out = np.zeros((len(names), len(names)))
            at = 0
            for i in members:
                q = len(solutions[i].columns)
                out[at : at + q, at : at + q] = solutions[i].cov
                at += q
            blocks[group] = pd.DataFrame(out, index=names, columns=names)
        if not blocks:
            return pd.DataFrame(np.zeros((0, 0)))
        return next(iter(blocks.values())) if len(blocks) == 1 else blocks

    def _is_component(self, members) -> bool:
        return all(self.model.is_component[i] for i in members)

    @property
    def vcomp(self) -> np.ndarray:
        """Variances of the components given in ``vc_formula=`` / ``exog_vc=``, in that order."""
        return np.array(
            [t.cov[0, 0] for t, c in zip(self.term_solutions, self.model.is_component, strict=True) if c]
        )

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
        return _ranef.group_coef(self.term_solutions, self.fe_params)

    @property
    def random_effects(self) -> dict:
        """Predicted random effects by level, as statsmodels' MixedLM gives them."""
        return _ranef.random_effects(self.term_solutions)

    @property
    def random_effects_cov(self) -> dict:
        """Covariance of the predicted random effects given beta, by level."""
        return _ranef.random_effects_cov(self.term_solutions)

    def r_squared(self) -> dict[str, float]:
        """Marginal and conditional R-squared (Nakagawa and Schielzeth 2013, Johnson 2014).

        Returns
        -------
        dict
            ``marginal, conditional, var_fixed, var_random, var_residual``.
        """
        linear = self.model.exog @ np.asarray(self.params)
        return _r_squared(
            linear, self.model.random, self.term_solutions, self.scale, self.model.freq_weights
        )

    def icc(self) -> dict[str, float]:
        """Intraclass correlation of each grouping factor, covariates of slopes at zero."""
        return _icc(self.model.random, self.term_solutions, self.scale)

    # -- rows ------------------------------------------------------------------------------

    @property
    def fittedvalues(self):
        """Conditional fitted values, random effects included."""
        if "fittedvalues" not in self._cache:
            with_random = _predict.evaluate(self.model, None, True, "zero")
            self._cache["fittedvalues"] = _predict.linear_predictor(
                np.asarray(self.params), *with_random[:3], self.term_solutions
            )
        return self._cache["fittedvalues"]

    @property
    def resid(self):
        """Response minus conditional fitted values."""
        if "resid" not in self._cache:
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
        exog = data if exog is None else exog
        if exog is not None and (self.model.recipe is None or not transform or _is_array(exog)):
            return _predict_columns(self, exog)
        was_dict = isinstance(exog, Mapping)
        if isinstance(exog, pd.Series):
            exog = exog.to_frame().T.infer_objects()
        if was_dict and all(np.ndim(v) == 0 for v in exog.values()):
            exog = {k: [v] for k, v in exog.items()}
        design, offset, random, index = _predict.evaluate(self.model, exog, include_random, new_levels)
        values = _predict.linear_predictor(
            np.asarray(self.params), design, offset, random, self.term_solutions
        )
        return pd.Series(values, index=index) if index is not None else values

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
        exog = data if exog is None else exog
        if exog is not None and (self.model.recipe is None or not transform or _is_array(exog)):
            columns, index = _columns_of(self, exog)
            design, offset, random = columns, np.zeros(len(columns)), []
        else:
            if self._state is None:
                raise ValueError("get_prediction needs the fit's data, and remove_data() dropped them.")
            design, offset, random, index = _predict.evaluate(
                self.model, exog, True, new_levels if include_random else "zero"
            ) if include_random else _predict.evaluate(self.model, exog, False, "zero")
        beta = np.asarray(self.params)
        mean = _predict.linear_predictor(beta, design, offset, random, self.term_solutions)
        variance = _predict.prediction_variance(
            design, random, self.term_solutions, self.model.effects, self._state, self.cov_params()
        )
        noise = self.scale / (1.0 if weights is None else np.asarray(weights, dtype=float))
        if exog is None and weights is None and self.model.var_weights is not None:
            noise = self.scale / self.model.var_weights
        spread = variance + noise
        if not include_random or not random:
            spread = spread + self._population_variance(exog, transform)
        dist = _predict.reference(self.use_t, self.df_resid)
        return _predict.Prediction(mean, np.sqrt(variance), np.sqrt(spread), index, dist)

    def _population_variance(self, exog, transform):
        """z'Gz of each row where the rows' random columns are known, else the mean."""
        if exog is None:
            random = [(t.codes, t.exog) for t in self.model.random]
        elif self.model.recipe is not None and transform and not _is_array(exog):
            random = self.model.recipe.random_columns(exog)
        else:
            return self.r_squared()["var_random"]
        return sum(
            np.einsum("ni,ij,nj->n", z, s.cov, z)
            for (_, z), s in zip(random, self.term_solutions, strict=True)
        )

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
        return super().wald_test(
            r_matrix, cov_p=cov_p, invcov=invcov, use_f=use_f, df_constraints=df_constraints,
            scalar=scalar,
        )  # fmt: skip

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

    def summary(self, yname=None, xname=None, title=None, alpha=0.05):
        """Summary table; see `sm_multilevel.summary.summarize`."""
        from sm_multilevel.summary import summarize

        return summarize(self, yname=yname, xname=xname, title=title, alpha=alpha)

    def summary2(self, yname=None, xname=None, title=None, alpha=0.05, float_format="%.4f"):
        """Summary in statsmodels' second format."""
        from sm_multilevel.summary import summarize2

        return summarize2(self, yname=yname, xname=xname, title=title, alpha=alpha,
                          float_format=float_format)  # fmt: skip

    def plot(self, kind="caterpillar", **kwargs):
        """Plot of the fit: ``"caterpillar"``, ``"qq"``, ``"residuals"`` or ``"fitted"``."""
        from sm_multilevel import graphics

        return graphics.plot(self, kind, **kwargs)

    def remove_data(self):
        """Drop everything that has one entry a row; population prediction still works."""
        if self.model.random is not None:  # another result of this model may have removed them
            self.facts  # noqa: B018  computed while the data are there, and with it `term_solutions`
        super().remove_data()

    remove_data.__doc__ = LikelihoodModelResults.remove_data.__doc__


def _is_array(exog):
    return isinstance(exog, (np.ndarray, list, tuple)) and getattr(exog, "dtype", None) is not None and exog.dtype.names is None or isinstance(exog, (list, tuple))


def _columns_of(result, exog):
    index = exog.index if isinstance(exog, pd.DataFrame) else None
    if isinstance(exog, pd.Series):
        index = [exog.name] if exog.name is not None else [0]
        index = pd.Index(index)
    values = np.asarray(exog, dtype=float)
    p = len(result.model.data.param_names)
    if values.ndim == 1:
        values = values[:, None] if p == 1 and values.shape[0] != 1 else values[None, :]
    full = len(result.model.all_exog_names)
    if values.shape[1] == full and full != p:
        values = values[:, result.model.kept_columns]
    if values.shape[1] != p:
        raise ValueError(
            f"exog has {values.shape[1]} columns; the fixed part has {p}: "
            f"{', '.join(result.model.data.param_names)}."
        )
    return values, index


def _predict_columns(result, exog):
    values, index = _columns_of(result, exog)
    out = values @ np.asarray(result.params)
    return pd.Series(out, index=index) if index is not None else out


def _expand(formula, old):
    if old is None:
        raise ValueError("update() needs a model made from a formula.")
    if "~" not in formula:
        raise ValueError(f"{formula!r} has no '~'. Write '. ~ . + x'.")
    left, right = formula.split("~", 1)
    old_left, old_right = old.split("~", 1)
    dot = re.compile(r"(?<![\w.)\]])\.(?![\w.])")
    # Written without parentheses, so that bars stay terms of the sum.
    return f"{dot.sub(old_left.strip(), left)} ~ {dot.sub(old_right.strip(), right)}"


class MixedLMResultsWrapper(LikelihoodResultsWrapper):
    """Gives results the names of rows and columns."""

    _attrs = {"fittedvalues": "rows", "resid": "rows"}
    _wrap_attrs = wrap.union_dicts(LikelihoodResultsWrapper._wrap_attrs, _attrs)


wrap.populate_wrapper(MixedLMResultsWrapper, MixedLMResults)

