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
from sm_multilevel.postestimation import ranef as _ranef
from sm_multilevel.postestimation import varcorr as _varcorr
from sm_multilevel.postestimation.facts import Facts
from sm_multilevel.postestimation.facts import facts as _facts
from sm_multilevel.postestimation.solution import term_covariances, term_solutions
from sm_multilevel.results_inference import InferenceMethods

__all__ = ["CallableFloat", "MultilevelResults", "MultilevelResultsWrapper"]


class CallableFloat(float):
    """A number that may also be called: ``res.aic`` and ``res.aic()`` are the same."""

    def __call__(self) -> float:
        return float(self)


class MultilevelResults(InferenceMethods):
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
        return _varcorr.varcorr(self.term_covariances, self.residual_variance)

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
        return self.model.with_response(endog).fit(start_params=self.params_packed, **self.fit_options())

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
        return model.fit(**self.fit_options())

    # -- looking ---------------------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """Group sizes, R-squared, ICC and the test of no random effects, taken once (see `Facts`)."""
        if self._facts is None:
            self._facts = _facts(self)
        return self._facts

    def summary(self, yname=None, xname=None, title=None, alpha=None, eform=False):
        """Summary table; see `sm_multilevel.summary.summarize`."""
        from sm_multilevel.summary import summarize

        alpha = self.default_alpha if alpha is None else alpha
        return summarize(self, yname=yname, xname=xname, title=title, alpha=alpha, eform=eform)

    def summary2(self, yname=None, xname=None, title=None, alpha=None, float_format="%.4f", eform=False):
        """Summary in statsmodels' second format."""
        from sm_multilevel.summary import summarize2

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
