"""Tests, intervals and resampling: what results say about the uncertainty of their estimates."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.base.model import LikelihoodModelResults
from statsmodels.stats.contrast import ContrastResults

from sm_multilevel.checks import check_alpha
from sm_multilevel.postestimation import bootstrap as _bootstrap
from sm_multilevel.postestimation import wald as _wald
from sm_multilevel.postestimation.reference import Reference

__all__ = ["InferenceMethods"]


class InferenceMethods(LikelihoodModelResults):
    """What the results of all models say about the uncertainty of their estimates.

    Not used directly; `MultilevelResults` has it.
    """

    model: Any
    default_alpha: float
    reference: Reference | None = None  # of t and F statistics; None: normal, or t with df_resid if use_t
    _wrapper: Any = None  # of the class

    def derived(self, *, reference=None, cov=None, cov_type=None, cov_kwds=None):
        """The same fit with another covariance of `params`, or other degrees of freedom.

        Parameters
        ----------
        reference : Reference, optional
            Degrees of freedom; None leaves normal distributions, or what `use_t` says.
        cov : ndarray, shape (p, p), optional
            Covariance of `params`; default as it is.
        cov_type : str, optional
            Its name.
        cov_kwds : dict, optional
            How it was made; ``description`` says it in words.

        Returns
        -------
        result
            A new result. This one stays as it is.
        """
        out = copy.copy(self)
        out._cache = {}
        out.reference = reference
        if reference is not None:
            out.use_t = True
            out.df_resid_inference = reference.t_df(np.eye(len(np.asarray(self.params))))
        if cov is not None:
            out.cov_params_default = np.array(cov, dtype=float)
        if cov_type is not None:
            out.cov_type = cov_type
        if cov_kwds is not None:
            out.cov_kwds = dict(cov_kwds)
        return self._wrapper(out)

    @property
    def df_coef(self):
        """Degrees of freedom of each of `params`; infinite where the normal distribution is used.

        Returns
        -------
        Series
        """
        p = len(np.asarray(self.params))
        if self.reference is None:
            df = np.full(p, float(self.df_resid_inference) if self.use_t else np.inf)
        else:
            df = self.reference.t_df(np.eye(p))
        return pd.Series(df, index=list(self.model.data.param_names), name="df")

    def conf_int(self, alpha=None, **kwargs):
        """Confidence intervals of the fixed effects, at level 1 - alpha; default `default_alpha`."""
        return super().conf_int(check_alpha(self.default_alpha if alpha is None else alpha), **kwargs)

    def cov_params(self, r_matrix=None, column=None, scale=None, cov_p=None, other=None):
        """Covariance of the estimates, or of linear combinations of them, as in statsmodels.

        A combination is NaN only where it has a parameter without a standard error in it.
        """
        if r_matrix is None or np.ndim(r_matrix) == 0 or column is not None:
            return super().cov_params(r_matrix, column, scale, cov_p, other)
        return _wald.contrast_covariance(np.asarray(super().cov_params(scale=scale, cov_p=cov_p)), r_matrix, other)

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
        known = cov_p is not None or invcov is not None
        _wald.check_testable(self, r_matrix, None if known else super().cov_params())
        test = super().wald_test(
            r_matrix, cov_p=cov_p, invcov=invcov, use_f=use_f, df_constraints=df_constraints,
            scalar=scalar,
        )  # fmt: skip
        if self.reference is None or test.distribution != "F":
            return test
        rows, _ = _wald.constraints(self.model, r_matrix)
        factor, df = self.reference.f_df(rows)
        return ContrastResults(F=test.fvalue * factor, df_denom=df, df_num=test.df_num)

    def t_test(self, r_matrix, cov_p=None, use_t=None):
        """t or z tests of single linear hypotheses, as in statsmodels.

        Of a parameter that has no standard error all is NaN. That a dispersion or alpha is
        zero has no such test: among several hypotheses its p-value is NaN, alone it is refused.
        """
        _wald.check_hypothesis(self.model, r_matrix)
        zero = _wald.zero_tests(self, r_matrix)
        if len(zero) == 1:
            _wald.check_testable(self, r_matrix)
        base = self
        if self.reference is not None:
            rows, _ = _wald.constraints(self.model, r_matrix)
            base = copy.copy(self)
            base.df_resid_inference = self.reference.t_df(rows)
        test = LikelihoodModelResults.t_test(base, r_matrix, cov_p=cov_p, use_t=use_t)
        if zero.any():
            test.pvalue = np.where(zero, np.nan, test.pvalue)
        return test

    def t_test_pairwise(self, term_name, method="hs", alpha=None, factor_labels=None):
        """Tests of all pairs of levels of a factor, corrected for their number, as in statsmodels."""
        alpha = self.default_alpha if alpha is None else alpha
        return _wald.t_test_pairwise(self, term_name, method, alpha, factor_labels)

    def wald_test_terms(self, skip_single=False, extra_constraints=None, combine_terms=None, scalar=True):
        """A joint Wald test of every term of the fixed part."""
        return _wald.wald_test_terms(self, skip_single, extra_constraints, combine_terms, scalar)

    # -- resampling ------------------------------------------------------------

    def simulate(self, n=1, seed=None, include_random="new") -> np.ndarray:
        """Responses drawn from the fitted model, in the coding of ``model.endog``.

        Parameters
        ----------
        n : int
            Responses.
        seed : int or numpy.random.Generator, optional
        include_random : {"new", True, False}
            New random effects for each response; those predicted from the data; or zero.

        Returns
        -------
        ndarray, shape (n, rows)
            With offset, weights and numbers of trials of the data; a binomial response as
            the proportion of its trials, an ordinal one as the number 0 .. K-1.
        """
        return _bootstrap.simulate(self, n, seed, include_random)

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
