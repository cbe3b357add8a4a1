"""Tests, intervals and resampling: what results say about the uncertainty of their estimates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.base.model import LikelihoodModelResults
from statsmodels.stats.contrast import ContrastResults

from sm_multilevel.checks import check_alpha
from sm_multilevel.postestimation.comparison import anova as _anova
from sm_multilevel.postestimation.comparison import compare as _compare
from sm_multilevel.postestimation.profiling import profile as _profile
from sm_multilevel.postestimation.resampling import bootstrap as _bootstrap
from sm_multilevel.postestimation.robust import sandwich as _robust
from sm_multilevel.postestimation.wald import df as _df
from sm_multilevel.postestimation.wald import hypotheses as _wald
from sm_multilevel.postestimation.wald import joint as _joint
from sm_multilevel.postestimation.wald.reference import Reference

__all__ = ["InferenceMethods"]

# Intervals of `params` beside Wald's: (result, alpha, options) -> ndarray (p, 2).
_INTERVALS: dict[str, Callable] = {"profile": _profile.profile_conf_int, "boot": _bootstrap.boot_interval}


class InferenceMethods(LikelihoodModelResults):
    """What the results of all models say about the uncertainty of their estimates.

    Not used directly; `MultilevelResults` has it.
    """

    model: Any
    default_alpha: float
    cov_kwds: dict[str, Any]
    reference: Reference | None = None  # of t and F statistics; None: normal, or t with df_resid if use_t
    _wrapper: Any = None  # of the class

    def derived(self, *, reference=None, use_t=None, cov=None, cov_type=None, cov_kwds=None):
        """The same fit with another covariance of `params`, or other degrees of freedom.

        Parameters
        ----------
        reference : Reference, optional
            Degrees of freedom; None leaves normal distributions, or what `use_t` says.
        use_t : bool, optional
            Without a reference: t distributions with ``df_resid``, or normal ones; default as it is.
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
        if reference is None:
            out.use_t = self.use_t if use_t is None else use_t
            out.df_resid_inference = self.df_resid
        else:
            out.use_t = True
            out.df_resid_inference = reference.t_df(np.eye(len(np.asarray(self.params))))
        if cov is not None:
            out.cov_params_default = np.array(cov, dtype=float)
        if cov_type is not None:
            out.cov_type = cov_type
        if cov_kwds is not None:
            out.cov_kwds = dict(cov_kwds)
        return self._wrapper(out)

    def with_df(self, method):
        """The same fit with other degrees of freedom of its t and F tests and intervals.

        Parameters
        ----------
        method : {"satterthwaite", "kenward-roger", "residual", "normal"}
            ``"satterthwaite"``: of linear models, by REML or ML. ``"kenward-roger"``: of linear
            models by REML; it also adjusts the covariance of the fixed effects. ``"residual"``:
            t and F with ``df_resid``. ``"normal"``: normal and chi-squared distributions.

        Returns
        -------
        result
            A new result, whose tests, intervals and summary have these degrees of freedom. This
            one stays as it is.

        Raises
        ------
        ValueError
            For an unknown name; for a method that the model or the fit does not have; if the data
            are gone; for Kenward and Roger's also if too many levels are crossed (`MemoryBudgetError`).

        Notes
        -----
        The first two take the variance l'Cl of a combination of coefficients as an estimate, with
        derivatives g in the variance parameters and their covariance A, and 2 (l'Cl)^2 / g'Ag degrees
        of freedom (Satterthwaite 1946). Satterthwaite's method here has theta and sigma, and the
        observed Hessian of the deviance; several constraints by Fai and Cornelius (1996). Kenward and
        Roger (1997) have the variances and covariances themselves, those estimated as zero too, and
        their expected information. Both are analytic.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit()
        >>> result.with_df("kenward-roger").df_coef.round(2).to_dict()
        {'Intercept': 22.81, 'Days': 161.0}
        """
        return _df.with_df(self, method)

    def get_robustcov_results(self, cov_type="robust", use_t=None, **cov_kwds):
        """The same fit with a cluster-robust covariance of its estimates.

        Parameters
        ----------
        cov_type : str
            ``"robust"``: clusters are the levels of the coarsest grouping factor. ``"cluster"``:
            those of `groups`. ``"CR0"``, ``"CR1"``, ``"CR1S"``, ``"CR2"``: by correction.
            ``"nonrobust"``: back to the model-based covariance.
        use_t : bool, optional
            t and F distributions with the number of clusters minus one degrees of freedom.
        **cov_kwds
            ``groups``: a column of the data, a grouping factor of the model, an array with one
            value for each row that the fit used, or a Series, aligned by its index. All rows of a
            level of any factor must be in one cluster.
            ``correction``: ``"CR0"``, none; ``"CR1"`` (default), the factor m / (m - 1) for m
            clusters, as Stata's ``vce(robust)`` of mixed models; ``"CR1S"``, m (n - 1) / ((m - 1) (n - p));
            ``"CR2"``, of linear models, unbiased if the model holds.
            ``use_correction``: statsmodels' word; True is CR1S, False CR0.
            ``joint``: of linear models by ML, the sandwich of all parameters (default), or with
            False that of the fixed effects alone, as under REML and with CR2.
            ``df``: ``"normal"``, ``"clusters"`` (m - 1), ``"residual"``, or ``"satterthwaite"`` of
            linear models, the default of CR2; joint tests are then HTZ.
            ``df_correction``: statsmodels' word; True is ``df="clusters"``.

        Returns
        -------
        result
            A new result, whose tests, intervals and summary have this covariance. This one stays
            as it is. ``cov_kwds["n_groups"]`` is the number of clusters; ``cov_kwds["cov_joint"]`` the
            covariance of params, theta (standardised columns) and, in linear models, sigma^2, where
            the sandwich is of all parameters.

        Raises
        ------
        ValueError
            For crossed factors without a coarser cluster, clusters that are finer than a factor,
            missing values in `groups`, fewer than two clusters, and options that do not go together.

        Warns
        -----
        ValueWarning
            If a coefficient is determined by a single cluster; its standard error is NaN.

        Notes
        -----
        H^-1 (sum s_i s_i') H^-1 with the exact score s_i of each cluster (Liang and Zeger 1986;
        White 1982). Under REML the score is X_i'V_i^-1 r_i and H is X'V^-1 X. CR2 and its degrees
        of freedom are those of Bell and McCaffrey (2002) and Pustejovsky and Tipton (2018,
        equations 5 to 8 and 12 to 18) with the fitted V as working covariance.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> robust = result.get_robustcov_results("CR2")
        >>> robust.bse.round(3).to_dict(), robust.df_coef.round(2).to_dict()
        ({'Intercept': 6.825, 'Days': 1.546}, {'Intercept': 17.0, 'Days': 17.0})
        """
        return _robust.get_robustcov_results(self, cov_type, use_t, cov_kwds)

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

    def conf_int(self, alpha=None, method="wald", **kwargs):
        """Confidence intervals of `params`.

        Parameters
        ----------
        alpha : float, optional
            Their level is 1 - alpha; default `default_alpha`.
        method : {"wald", "profile", "boot"}
            Estimate +- a quantile times the standard error; where the profile likelihood is high
            enough (see `profile`; of a REML fit that of the ML fit); from bootstrap replicates.
        **kwargs
            Of "profile": ``n_jobs``. Of "boot": ``n=1000``, ``seed``, ``n_jobs``,
            ``kind`` as in `bootstrap`, and ``interval="percentile"``, as `BootstrapResults.conf_int` takes its method.

        Returns
        -------
        DataFrame or ndarray, shape (p, 2)
        """
        alpha = check_alpha(self.default_alpha if alpha is None else alpha)
        if "cols" in kwargs:
            raise TypeError(
                "conf_int() has no cols, as statsmodels since 0.15. Take rows of what it returns: "
                "conf_int().loc[['x']], or conf_int().iloc[[0]]."
            )
        if method == "wald":
            if kwargs:
                raise TypeError(f"conf_int(method='wald') has no option {', '.join(map(repr, kwargs))}.")
            return super().conf_int(alpha)
        if not isinstance(method, str) or method not in _INTERVALS:
            names = ", ".join(map(repr, ["wald", *_INTERVALS]))
            raise ValueError(f"method={method!r} of intervals is not known. Choose one of {names}.")
        return _INTERVALS[method](self, alpha, **kwargs)

    def cov_params(self, r_matrix=None, column=None, scale=None, cov_p=None, other=None):
        """Covariance of the estimates, or of linear combinations of them, as in statsmodels.

        A combination is NaN only where it has a parameter without a standard error in it.
        """
        if r_matrix is None or np.ndim(r_matrix) == 0 or column is not None:
            return super().cov_params(r_matrix, column, scale, cov_p, other)
        root = None if other is not None or scale is not None or cov_p is not None else _joint.standard_root(self)
        if root is not None:  # combinations of large, nearly collinear coefficients cancel; their roots do not
            half = np.asarray(r_matrix, dtype=float) @ root.units @ root.half
            return half @ half.T
        return _wald.contrast_covariance(np.asarray(super().cov_params(scale=scale, cov_p=cov_p)), r_matrix, other)

    # -- tests -----------------------------------------------------------------------------

    def wald_test(self, r_matrix, cov_p=None, invcov=None, use_f=None, df_constraints=None, scalar=True):
        """Wald test of linear hypotheses; also of a dict of coefficients or whole terms.

        Parameters
        ----------
        r_matrix : str, array_like, tuple or dict
            As in statsmodels; or ``{"ses": 0, "gender": 0}``, whose keys are coefficients
            or whole terms (``gender`` for ``gender[T.M]``).

        Raises
        ------
        ValueError
            If constraints contradict each other, or cannot be tested together in working precision.

        Notes
        -----
        A constraint that follows from the ones before it is left out and does not count. No other one is lost,
        whatever the units of the coefficients are. With `invcov` all is as in statsmodels.
        """
        if isinstance(r_matrix, Mapping):
            r_matrix = _wald.constraints_from_dict(self.model, r_matrix)
        _wald.check_hypothesis(self.model, r_matrix)
        known = cov_p is not None or invcov is not None
        _wald.check_testable(self, r_matrix, None if known else super().cov_params())
        rows, hypothesis = None, r_matrix
        if invcov is None:
            rows, hypothesis = _wald.whitened_hypothesis(self, r_matrix, cov_p)
            cov_p, invcov = None, np.eye(len(rows))
        test = super().wald_test(
            hypothesis, cov_p=cov_p, invcov=invcov, use_f=use_f, df_constraints=df_constraints,
            scalar=scalar,
        )  # fmt: skip
        if self.reference is None or test.distribution != "F":
            return test
        if rows is None:
            rows, _ = _wald.independent_constraints(self, r_matrix)
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

    def compare_lr_test(self, restricted):
        """Likelihood ratio test against a restricted model, under statsmodels' name.

        Parameters
        ----------
        restricted : result
            As in `sm_multilevel.api.lrtest`, which gives more.

        Returns
        -------
        statistic, p_value : float
            The p-value takes account of variances that cannot be negative.
        df : int
            Number of parameters that `restricted` does not have.

        Examples
        --------
        >>> import statsmodels.formula.api as sm
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit(reml=False)
        >>> statistic, p_value, extra = result.compare_lr_test(sm.ols("Reaction ~ Days", df).fit())
        >>> round(statistic, 3), extra
        (106.214, 1)
        """
        test = _compare.lrtest(restricted, self)
        return test.chi2, test.p_value, test.df

    def ranova(self, reduce_terms=True, method="asymptotic", n=None, seed=None, n_jobs=1):
        """Likelihood ratio test of each random term: the model without it, or with a part of it, is fitted.

        Parameters
        ----------
        reduce_terms : bool
            ``(x + z | g)`` is tested by leaving out x, then z, with their covariances; ``(1 | g)``, and what has
            nothing that could be left out, whole. False: all terms whole. As lmerTest's ``ranova``.
        method, n, seed, n_jobs
            Of the null distribution, as in `sm_multilevel.api.lrtest`.

        Returns
        -------
        DataFrame
            ``npar, logLik, AIC, LRT, Df, Pr(>Chisq), p_value``, the first row the model itself. ``Pr(>Chisq)`` is
            from chi2(Df), as lmerTest gives it, and too large; ``p_value`` takes account of the boundary. It is NaN
            where the smaller fit is singular; ``method="bootstrap"`` has it then.

        Raises
        ------
        ValueError
            If the fit did not converge, or the data are gone.

        Notes
        -----
        Under REML the likelihoods are restricted; all models have the same fixed effects.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import penicillin
        >>> df = penicillin.load_pandas().data
        >>> result = smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", df).fit()
        >>> result.ranova()[["npar", "LRT", "Df"]].round(2)
                      npar     LRT   Df
        <none>           4     NaN  NaN
        (1 | plate)      3  105.06  1.0
        (1 | sample)     3  282.40  1.0
        """
        return _anova.ranova(self, reduce_terms, method, n, seed, n_jobs)

    # -- likelihood ------------------------------------------------------------

    def profile(self, which=None, alpha=0.01, n_jobs=1):
        """Profile likelihoods: the deviance as a function of one parameter, the others estimated anew.

        Parameters
        ----------
        which : str or sequence of str, optional
            Names as in `params`, and ``"sd(x|g)"``, ``"cor(Intercept,x|g)"``, ``"sd(Residual)"``; or the
            groups ``"beta"``, ``"psi"`` (alpha, dispersion, cut-points) and ``"components"``. Default
            all.
        alpha : float
            Profiles reach as far as the intervals of level 1 - alpha.
        n_jobs : int
            Processes, as joblib takes it, each with one parameter at a time.

        Returns
        -------
        ProfileResults
            ``conf_int(alpha)``, ``plot()``, ``frame``, ``notes``.

        Raises
        ------
        ValueError
            For an unknown name, a fit that did not converge, one with ``nAGQ=0``, or if the data are
            gone.

        Warns
        -----
        ConvergenceWarning
            Where a point did not converge (it is not used), and where the deviance is lower than at
            the fit, which then was not at its optimum.

        Notes
        -----
        zeta = sign(value - estimate) sqrt(deviance(value) - least deviance) is compared with the
        normal distribution (Bates and Watts 1988; Bates, Maechler, Bolker and Walker 2015, section
        5.1). The likelihood is always the full one: of a REML fit the same model is fitted by ML
        first, as in lme4, and ``is_refit`` says so. A standard deviation ends at 0, a correlation at
        -1 and 1, with the same quantiles there; `notes` says which profiles end at a limit.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.profile("components").conf_int().round(2)
                                     lower  upper
        sd(Intercept|Subject)        14.38  37.72
        sd(Days|Subject)              3.80   8.75
        cor(Intercept,Days|Subject)  -0.48   0.69
        sd(Residual)                 22.90  28.86
        """
        return _profile.profile(self, which, alpha, n_jobs)

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

    def bootstrap(
        self, n=1000, seed=None, n_jobs=None, statistic=None, kind="parametric", disp=None, batch=None
    ):  # fmt: skip
        """Parametric or cluster bootstrap.

        Parameters
        ----------
        n : int
            Replicates.
        seed : int, optional
            With the same seed replicate k is the same, whatever `n`, `n_jobs` and `batch` are. Without
            one it is drawn from the system, and is in the result.
        n_jobs : int, optional
            Processes, as joblib takes it; None is one, or what ``joblib.parallel_backend`` or
            ``parallel_config`` says where one is active (loky, threading, dask, ray).
        statistic : {"estimates", "params", "components"} or callable, optional
            What is computed of each refit. "estimates" (default): `params`, then variances and
            covariances, then standard deviations and correlations; "components": without `params`.
            These need no result objects, and linear models are then refitted many at once. A
            callable takes a result and returns an array, Series, dict or number.
        kind : {"parametric", "cluster"}
            New random effects and responses from the fitted model; or whole groups of the top level,
            drawn with replacement, each draw a group of its own.
        disp : bool, optional
            Progress bar; default where stderr is a terminal.
        batch : int, optional
            Replicates of a task, whose responses are in memory together.

        Returns
        -------
        BootstrapResults
            ``estimates`` (n, k), ``conf_int(alpha, method)``, ``bse``, ``failures``, ``extend(n_more)``,
            ``save(path)``.

        Raises
        ------
        ValueError
            For an option that is not known; "parametric" with freq_weights; "cluster" where factors
            are crossed, or there is one group only; if the data are gone; if a callable raises on
            the data themselves, or gives no finite real number.

        Warns
        -----
        ConvergenceWarning
            If more than 5 % of the replicates failed: they did not converge, have no fit, or the
            statistic raised. `failures` counts the reasons. Likewise where a callable gave NaN.

        Notes
        -----
        Davison and Hinkley (1997), Bootstrap methods and their application, sections 2.2 and 3.8. Every
        refit passes the checks of `fit`.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> boot = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit().bootstrap(1000, seed=1)
        >>> boot.conf_int().loc[["Days", "sd(Days)"]].round(1).to_numpy().tolist()
        [[7.5, 13.5], [3.3, 8.2]]
        """
        return _bootstrap.bootstrap(self, n, seed, n_jobs, statistic, kind, disp, batch)
