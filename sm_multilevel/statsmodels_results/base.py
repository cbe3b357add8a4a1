"""What the results of all models share: statsmodels' contract, and one-line delegations to the tools."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.base.wrapper as wrap
from patsy.eval import EvalEnvironment
from statsmodels.base.model import LikelihoodModelResults, LikelihoodResultsWrapper

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import check_flag
from sm_multilevel.postestimation.components import ranef as _ranef
from sm_multilevel.postestimation.components import varcorr as _varcorr
from sm_multilevel.postestimation.components.solution import term_covariances, term_solutions
from sm_multilevel.postestimation.description import icc as _icc
from sm_multilevel.postestimation.description import intervals as _intervals
from sm_multilevel.postestimation.description.facts import Facts
from sm_multilevel.postestimation.description.facts import facts as _facts
from sm_multilevel.postestimation.robust.sandwich import chosen_options, without_rows
from sm_multilevel.statsmodels_results.display import DisplayMethods
from sm_multilevel.statsmodels_results.inference import InferenceMethods

__all__ = ["CallableFloat", "MultilevelResults", "MultilevelResultsWrapper"]


class CallableFloat(float):
    """A number that may also be called: ``res.aic`` and ``res.aic()`` are the same."""

    def __call__(self) -> float:
        return float(self)


class MultilevelResults(InferenceMethods, DisplayMethods):
    """What the results of all models share.

    Not used directly.

    Attributes
    ----------
    params, bse, tvalues, pvalues : Series
        Fixed effects, then a response's own parameters. Variance components are in `cov_re`, `vcomp`, `varcorr()`.
    llf : float
        Log-likelihood, all constants included.
    theta : ndarray
        Relative Cholesky factors in the user's columns.
    record : FitRecord
        What estimation did, and how it was checked.
    converged, is_singular : bool
    default_alpha : float
        Of intervals and summaries for which no other is asked.
    """

    # A plain attribute: the base class's cached one would be wiped by remove_data().
    llf: float = float("nan")
    method: str
    family: Any = None  # of a generalised model

    def __init__(self, model, record, params, normalized_cov, scale, *, theta, nobs, use_t, start_params, alpha, state):
        super().__init__(model, params, normalized_cov_params=normalized_cov, scale=scale)
        self.use_t = bool(use_t)
        self.default_alpha = alpha
        self.cov_type = "nonrobust"
        self.record = record
        self.converged = record.converged
        self.is_singular = bool(record.singular)
        self.theta = theta
        self.llf = -0.5 * record.value
        self.nobs = nobs
        self.df_model = model.k_fixed - model.k_constant
        self.df_resid = self.nobs - len(params)
        self.df_resid_inference = self.df_resid
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

    @property
    def residual_variance(self) -> float | None:
        """The residual variance, a row of `varcorr()`; None where the model has none."""
        return None

    def fit_options(self) -> dict:
        """Options of `fit` with which this result was made."""
        raise NotImplementedError

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
    def positive(self) -> np.ndarray:
        """Which of `params` are never negative; bool."""
        return np.zeros(len(np.asarray(self.params)), dtype=bool)

    @property
    def fe_params(self):
        """Fixed effects, under statsmodels' MixedLM's name."""
        return self.params[: self.model.k_fixed]

    @property
    def bse_fe(self):
        """Standard errors of the fixed effects, under statsmodels' MixedLM's name."""
        return self.bse[: self.model.k_fixed]

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
        if self.model.effects is None:
            self.model.require_data("The covariance of the random effects")
        return term_covariances(self.model.effects, self.theta, self.scale)

    @property
    def term_solutions(self):
        """Estimates of each random term, in formula order (see `TermSolution`)."""
        if self._terms is None:
            outer = self.model.design.outer
            with one_blas_thread():
                self._terms = term_solutions(self.model.effects, self.theta, self._state, outer and outer[0])
        return self._terms

    def varcorr(self, conf_int=False, method="wald", alpha=None, **kwargs) -> pd.DataFrame:
        """Variance components as lme4's ``as.data.frame(VarCorr(m))``.

        Parameters
        ----------
        conf_int : bool
            Add standard errors and intervals.
        method : {"wald", "profile", "boot"}
            ``"wald"``: by the delta method from the observed information, on the scale of the
            logarithm for variances and standard deviations, Fisher's z for correlations, and
            as it is for covariances. ``"profile"``: of the ML profile likelihood. ``"boot"``:
            percentiles of a parametric bootstrap.
        alpha : float, optional
            The intervals' level is 1 - alpha.
        **kwargs
            Of ``"boot"``: ``n``, ``seed``, ``n_jobs`` (see `bootstrap`).

        Returns
        -------
        DataFrame
            ``grp, var1, var2, vcov, sdcor``; `var2` None for variances; the residual last.
            With `conf_int` also ``vcov_se, vcov_lower, vcov_upper`` and ``sdcor_se,
            sdcor_lower, sdcor_upper``.

        Notes
        -----
        A variance estimated as zero has no standard error; with ``"wald"`` its interval is that
        of the profile likelihood, from zero on. So is the interval of a correlation estimated
        as +1 or -1.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit()
        >>> res.varcorr()["grp"].tolist(), res.varcorr()["sdcor"].round(3).tolist()
        (['Subject', 'Residual'], [37.124, 30.991])
        >>> res.varcorr(conf_int=True)[["sdcor_lower", "sdcor_upper"]].round(2).values.tolist()
        [[25.91, 53.19], [27.78, 34.57]]
        """
        frame = _varcorr.varcorr(self.term_covariances, self.residual_variance)
        if not check_flag("conf_int", conf_int):
            _intervals.check_no_interval("varcorr()", method, alpha, kwargs)
            return frame
        return _intervals.with_intervals(self, frame, method, self.default_alpha if alpha is None else alpha, kwargs)

    def icc(self, scale="latent", conf_int=False, method="wald", alpha=None, slopes="zero", **kwargs):
        """Intraclass correlation of each grouping factor.

        Parameters
        ----------
        scale : {"latent", "observation"}
            ``"latent"``: of the linear predictor, with the residual variance of
            ``r_squared()``. ``"observation"``: the correlation of two responses (of one
            trial) that share a level, at the mean linear predictor of the data, by
            integration over the random effects. In a linear model they are the same.
        conf_int : bool
            A table with standard errors and intervals.
        method : {"wald", "profile", "boot"}
            ``"wald"``: by the delta method from the joint covariance of the components, on the
            logit scale, as Stata's ``estat icc``; ``"profile"`` and ``"boot"`` as in `varcorr`.
        alpha : float, optional
        slopes : {"zero", "average"}
            Covariates of random slopes at zero, as in Stata, or averaged over the rows
            (Johnson 2014, Methods in Ecology and Evolution 5, 944-946).
        **kwargs
            Of ``"boot"``: ``n``, ``seed``, ``n_jobs``.

        Returns
        -------
        dict, or with `conf_int` a DataFrame
            ``estimate, se, ci_lower, ci_upper``, one row a grouping factor. Along a nesting
            variances add up: what two rows of one class share includes their school.

        Notes
        -----
        With log links the residual variance is taken at the mean of the null model. In standard
        errors and intervals that mean moves with the mean response of the model itself.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit()
        >>> res.icc(conf_int=True).round(3).loc["Subject"].tolist()
        [0.589, 0.093, 0.403, 0.753]
        """
        if check_flag("conf_int", conf_int):
            alpha = self.default_alpha if alpha is None else alpha
            return _intervals.icc_intervals(self, scale, slopes, method, alpha, kwargs)
        _intervals.check_no_interval("icc()", method, alpha, kwargs)
        if self._facts is not None and (scale, slopes) == ("latent", "zero") and self._facts.icc:
            return dict(self._facts.icc)
        return _icc.icc(self, scale, slopes)

    def icc_function(self, components, scale, slopes):
        """Intraclass correlations as a function of components and `params`; see `icc`."""
        raise NotImplementedError

    @property
    def variance_components(self) -> dict[str, float]:
        """``var(x)``, ``cov(Intercept,x)``, ``var(Residual)``; ``var(x|g)`` with several groups."""
        return _varcorr.variance_components(self.term_covariances, self.residual_variance)

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
        return _ranef.group_coef(self.term_solutions, pd.Series(np.asarray(self.fe_params), self.model.exog_names))

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

    # -- refitting ----------------------------------------------------------------------------

    def refit(self, endog):
        """Fit the same model to another response.

        Parameters
        ----------
        endog : array_like, shape (n,)
            One value for each row that the fit used.

        Returns
        -------
        MultilevelResults
        """
        return self.model.with_response(endog).fit(
            start_params=self.params_packed, **self.fit_options(), **chosen_options(self)
        )  # fmt: skip

    def update(self, formula, data=None, **kwargs):
        """Fit a changed formula to the same data; ``.`` stands for the old side.

        Parameters
        ----------
        formula : str
            For example ``". ~ . + x"``; nothing left of ``~`` is the old response too.
        data : DataFrame, optional
            Other data.
        **kwargs
            Changed options of ``from_formula``.
        """
        model = self.model.updated(_expand(formula, self.model.formula), data, kwargs,
                                   EvalEnvironment.capture(1))  # fmt: skip
        return model.fit(**self.fit_options(), **chosen_options(self))

    # -- looking ---------------------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """Group sizes, R-squared, ICC and the test of no random effects, taken once (see `Facts`)."""
        if self._facts is None:
            self._facts = _facts(self)
        return self._facts

    def component_table(self):
        """Standard errors of the variance components (see `ComponentTable`)."""
        return _intervals.component_table(self) if self._facts is None else self._facts.components

    def summary(self, yname=None, xname=None, title=None, alpha=None, eform=False):
        """Summary table; see `sm_multilevel.summary.summarize.summarize`."""
        from sm_multilevel.summary.summarize import summarize

        alpha = self.default_alpha if alpha is None else alpha
        return summarize(self, yname=yname, xname=xname, title=title, alpha=alpha, eform=eform)

    def summary2(self, yname=None, xname=None, title=None, alpha=None, float_format="%.4f", eform=False):
        """Summary in statsmodels' second format."""
        from sm_multilevel.summary.summarize import summarize2

        alpha = self.default_alpha if alpha is None else alpha
        return summarize2(self, yname=yname, xname=xname, title=title, alpha=alpha,
                          float_format=float_format, eform=eform)  # fmt: skip

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
        self.cov_kwds = without_rows(self.cov_kwds)
        super().remove_data()

    remove_data.__doc__ = LikelihoodModelResults.remove_data.__doc__


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
    left = left if left.strip() else "."
    text = f"{dot.sub(old_left.strip(), left)} ~ {dot.sub(old_right.strip(), right)}"
    text = re.sub(r"\+\s*_GONE_|_GONE_\s*\+", "", text)
    return text.replace("_GONE_", "1")


class MultilevelResultsWrapper(LikelihoodResultsWrapper):
    """Gives results the names of rows and columns."""

    _attrs = {"fittedvalues": "rows", "resid": "rows"}
    _wrap_attrs = wrap.union_dicts(LikelihoodResultsWrapper._wrap_attrs, _attrs)

    def __repr__(self):
        return repr(self._results)
