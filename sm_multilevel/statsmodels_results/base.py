"""What the results of all models share: statsmodels' contract, and one-line delegations to the tools."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np
import pandas as pd
import statsmodels.base.wrapper as wrap
from patsy.eval import EvalEnvironment
from statsmodels.base.model import LikelihoodResultsWrapper

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import check_flag
from sm_multilevel.estimation.record import FitRecord
from sm_multilevel.host import Frame, FrameOrDict
from sm_multilevel.postestimation.components import ranef as _ranef
from sm_multilevel.postestimation.components import varcorr as _varcorr
from sm_multilevel.postestimation.components.solution import (
    TermCovariance,
    TermSolution,
    term_covariances,
    term_solutions,
)
from sm_multilevel.postestimation.description import icc as _icc
from sm_multilevel.postestimation.description import intervals as _intervals
from sm_multilevel.postestimation.description.facts import Facts
from sm_multilevel.postestimation.description.facts import facts as _facts
from sm_multilevel.postestimation.robust.sandwich import chosen_options, without_rows
from sm_multilevel.statsmodels_results.display import DisplayMethods
from sm_multilevel.statsmodels_results.inference import InferenceMethods
from sm_multilevel.statsmodels_results.likelihood import LikelihoodMethods

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from statsmodels.iolib.summary import Summary
    from statsmodels.iolib.summary2 import Summary as Summary2

__all__ = ["CallableFloat", "MultilevelResults", "MultilevelResultsWrapper"]


Results = TypeVar("Results", bound="MultilevelResults")


class CallableFloat(float):
    """A number that may also be called: ``res.aic`` and ``res.aic()`` are the same."""

    def __call__(self) -> float:
        return float(self)


class MultilevelResults(LikelihoodMethods, InferenceMethods, DisplayMethods):
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

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> res.ngroups, res.converged, res.is_singular
    ({'Subject': 18}, True, False)
    """

    # A plain attribute: the base class's cached one would be wiped by remove_data().
    llf: float = float("nan")
    method: str
    record: FitRecord
    converged: bool
    is_singular: bool
    theta: np.ndarray
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

    @property
    def params_packed(self) -> np.ndarray:
        """All that was estimated, as ``model.loglike`` takes it."""
        raise NotImplementedError

    def fit_options(self) -> dict[str, Any]:
        """Options of `fit` with which this result was made."""
        raise NotImplementedError

    # -- numbers ----------------------------------------------------------------------

    @property
    def aic(self) -> CallableFloat:
        """-2 llf + 2 times the number of beta, theta and sigma^2."""
        return CallableFloat(-2 * self.llf + 2 * self.k_params)

    @property
    def bic(self) -> CallableFloat:
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
    def fe_params(self) -> pd.Series:
        """Fixed effects, under statsmodels' MixedLM's name."""
        return self.params[: self.model.k_fixed]

    @property
    def bse_fe(self) -> pd.Series:
        """Standard errors of the fixed effects, under statsmodels' MixedLM's name."""
        return self.bse[: self.model.k_fixed]

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return self.model.ngroups

    # -- random effects -----------------------------------------------------------------

    @property
    def term_covariances(self) -> tuple[TermCovariance, ...]:
        """Covariance of each random term, in formula order (see `TermCovariance`)."""
        if self._terms is not None:
            return self._terms
        if self.model.effects is None:
            self.model.require_data("The covariance of the random effects")
        return term_covariances(self.model.effects, self.theta, self.scale)

    @property
    def term_solutions(self) -> tuple[TermSolution, ...]:
        """Estimates of each random term, in formula order (see `TermSolution`)."""
        if self._terms is None:
            outer = self.model.design.outer
            with one_blas_thread():
                self._terms = term_solutions(self.model.effects, self.theta, self._state, outer and outer[0])
        return self._terms

    def varcorr(
        self, conf_int: bool = False, method: str = "wald", alpha: float | None = None, **kwargs: Any
    ) -> pd.DataFrame:
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

    @overload
    def icc(self, scale: str = ..., conf_int: Literal[False] = ...) -> dict[str, float]: ...
    @overload
    def icc(self, scale: str = ..., conf_int: bool = ..., **kwargs: Any) -> pd.DataFrame | Any: ...
    def icc(
        self,
        scale: str = "latent",
        conf_int: bool = False,
        method: str = "wald",
        alpha: float | None = None,
        slopes: str = "zero",
        **kwargs: Any,
    ) -> Any:
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
    def cov_re(self) -> FrameOrDict:
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

    @overload
    def ranef(self, conditional_se: Literal[False] = ..., given_beta: bool = ...) -> FrameOrDict: ...
    @overload
    def ranef(self, conditional_se: Literal[True], given_beta: bool = ...) -> tuple[FrameOrDict, FrameOrDict]: ...
    def ranef(self, conditional_se: bool = False, given_beta: bool = False) -> Any:
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

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> effects, errors = res.ranef(conditional_se=True)
        >>> print(effects.head(2).round(2))
                 Intercept  Days
        Subject
        308           2.26  9.20
        309         -40.40 -8.62
        >>> print(errors.head(2).round(2))
                 Intercept  Days
        Subject
        308           13.1  2.64
        309           13.1  2.64
        """
        return _ranef.ranef(self.term_solutions, conditional_se, given_beta)

    def group_coef(self) -> FrameOrDict:
        """Coefficients of each level, fixed plus random (lme4's ``coef``).

        Returns
        -------
        DataFrame, or a dict of them where there are several factors

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> print(res.group_coef().head(2).round(2))
                 Intercept   Days
        Subject
        308         253.66  19.67
        309         211.01   1.85
        """
        return _ranef.group_coef(self.term_solutions, pd.Series(np.asarray(self.fe_params), self.model.exog_names))

    @property
    def random_effects(self) -> dict[Any, Any]:
        """Predicted random effects by level, as statsmodels' MixedLM gives them.

        Returns
        -------
        dict of Series
            By level of ``groups=``, variance components included. Without these and with
            several grouping factors, a dict of such dicts.
        """
        return _ranef.random_effects(self.term_solutions, self.model)

    @property
    def random_effects_cov(self) -> dict[Any, Any]:
        """Covariance of the predicted random effects given beta: frames as in `random_effects`."""
        return _ranef.random_effects_cov(self.term_solutions, self.model, self._state)

    # -- refitting ----------------------------------------------------------------------------

    def refit(self: Results, endog: Any) -> Results:
        """Fit the same model to another response.

        Parameters
        ----------
        endog : array_like, shape (n,)
            One value for each row that the fit used.

        Returns
        -------
        MultilevelResults

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.refit(2 * df["Reaction"]).params.round(2).to_dict()
        {'Intercept': 502.81, 'Days': 20.93}
        """
        return self.model.with_response(endog).fit(
            start_params=self.params_packed, **self.fit_options(), **chosen_options(self)
        )  # fmt: skip

    def update(self: Results, formula: str = ". ~ .", data: Frame | None = None, **kwargs: Any) -> Results:
        """Fit a changed formula to the same data; ``.`` stands for the old side.

        Parameters
        ----------
        formula : str
            For example ``". ~ . + x"``; nothing left of ``~`` is the old response too. The default is the old formula.
        data : DataFrame, optional
            Other data.
        **kwargs
            Changed options of ``from_formula``.

        Returns
        -------
        MultilevelResults

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.update(". ~ . - (Days | Subject) + (1 | Subject)").params.round(2).to_dict()
        {'Intercept': 251.41, 'Days': 10.47}
        """
        model = self.model.updated(_expand(formula, self.model.full_formula), data, kwargs,
                                   EvalEnvironment.capture(1))  # fmt: skip
        return model.fit(**self.fit_options(), **chosen_options(self))

    # -- looking ---------------------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """Group sizes, R-squared, ICC and the test of no random effects, taken once (see `Facts`)."""
        if self._facts is None:
            self._facts = _facts(self)
        return self._facts

    def component_table(self) -> _intervals.ComponentTable:
        """Standard errors of the variance components (see `ComponentTable`)."""
        return _intervals.component_table(self) if self._facts is None else self._facts.components

    def summary(
        self,
        yname: str | None = None,
        xname: Sequence[str] | None = None,
        title: str | None = None,
        alpha: float | None = None,
        eform: bool = False,
    ) -> Summary:
        """Summary table; see `sm_multilevel.summary.summarize.summarize`.

        Parameters
        ----------
        yname : str, optional
            Name of the response.
        xname : sequence of str, optional
            Names of the fixed effects.
        title : str, optional
        alpha : float, optional
            Intervals cover ``1 - alpha``; default: that of the fit.
        eform : bool
            Odds, rate or mean ratios instead of coefficients.

        Returns
        -------
        Summary
            With ``as_text()``, ``as_html()``, ``as_latex()`` and ``as_csv()``.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> print(res.summary().tables[1])
        ==============================================================================
        Fixed effects         coef    std err          z   P>|z|     [0.025     0.975]
        ------------------------------------------------------------------------------
        Intercept         251.4051      6.825     36.838   0.000    238.029    264.781
        Days               10.4673      1.546      6.771   0.000      7.438     13.497
        ==============================================================================
        """
        from sm_multilevel.summary.summarize import summarize

        alpha = self.default_alpha if alpha is None else alpha
        return summarize(self, yname=yname, xname=xname, title=title, alpha=alpha, eform=eform)

    def summary2(
        self,
        yname: str | None = None,
        xname: Sequence[str] | None = None,
        title: str | None = None,
        alpha: float | None = None,
        float_format: str = "%.4f",
        eform: bool = False,
    ) -> Summary2:
        """Summary in statsmodels' second format.

        Parameters
        ----------
        yname : str, optional
            Name of the response.
        xname : sequence of str, optional
            Names of the fixed effects.
        title : str, optional
        alpha : float, optional
            Intervals cover ``1 - alpha``; default: that of the fit.
        float_format : str
            Of the coefficients.
        eform : bool
            Odds, rate or mean ratios instead of coefficients.

        Returns
        -------
        Summary2
            With ``as_text()``, ``as_html()`` and ``as_latex()``.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> print(res.summary2().tables[1].round(3).to_string())
                     Coef.  Std.Err.       z  P>|z|   [0.025   0.975]
        Intercept  251.405     6.825  36.838    0.0  238.029  264.781
        Days        10.467     1.546   6.771    0.0    7.438   13.497
        """
        from sm_multilevel.summary.summarize import summarize2

        alpha = self.default_alpha if alpha is None else alpha
        return summarize2(self, yname=yname, xname=xname, title=title, alpha=alpha,
                          float_format=float_format, eform=eform)  # fmt: skip

    def __repr__(self) -> str:
        state = "converged" if self.converged else "NOT CONVERGED"
        return f"<{type(self).__name__}: {self.method}, {state}, log-likelihood {self.llf:.3f}, {self.model!r}>"

    def plot(self, kind: str = "caterpillar", **kwargs: Any) -> Figure:
        """Plot of the fit: ``"caterpillar"``, ``"qq"``, ``"residuals"`` or ``"fitted"``.

        Parameters
        ----------
        kind : {"caterpillar", "qq", "residuals", "fitted"}
        **kwargs
            Options of the function of that name in `sm_multilevel.graphics`, as ``ax``.

        Returns
        -------
        Figure

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> figure = res.plot(kind="qq")
        >>> len(figure.axes)
        2
        """
        from sm_multilevel import graphics

        return graphics.plot(self, kind, **kwargs)

    def remove_data(self) -> None:
        """Drop everything that has one entry a row; population prediction still works.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.remove_data()
        >>> res.params.round(2).to_dict()
        {'Intercept': 251.41, 'Days': 10.47}
        """
        if self.model.random is not None:  # another result of this model may have removed them
            # Computed while the data are there.
            _ = self.facts, self.term_solutions
            self.model.forget_arrays()
        self.cov_kwds = without_rows(self.cov_kwds)
        super().remove_data()


_BARS = r"\([^()|]*\|\|?[^()]*\)"


def _expand(formula, old):
    """The changed formula: ``.`` is the old side, and ``- (x | g)`` takes a random term out."""
    if old is None:
        raise ValueError("update() needs a model made from a formula. Make the changed model from its arrays.")
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
