"""Wald tests, intervals and the covariances behind them: what results say about their estimates' uncertainty."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from statsmodels.stats.contrast import ContrastResults

from sm_multilevel.checks import check_alpha
from sm_multilevel.host import Hypothesis, LikelihoodModelResults
from sm_multilevel.postestimation.profiling import profile as _profile
from sm_multilevel.postestimation.resampling import bootstrap as _bootstrap
from sm_multilevel.postestimation.robust import sandwich as _robust
from sm_multilevel.postestimation.wald import df as _df
from sm_multilevel.postestimation.wald import hypotheses as _wald
from sm_multilevel.postestimation.wald import joint as _joint
from sm_multilevel.postestimation.wald.reference import Reference

__all__ = ["InferenceMethods"]

Results = TypeVar("Results", bound="InferenceMethods")
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

    def derived(
        self: Results,
        *,
        reference: Reference | None = None,
        use_t: bool | None = None,
        cov: np.ndarray | None = None,
        cov_type: str | None = None,
        cov_kwds: dict[str, Any] | None = None,
    ) -> Results:
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

    def with_df(self: Results, method: str) -> Results:
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

    def get_robustcov_results(
        self: Results, cov_type: str = "robust", use_t: bool | None = None, **cov_kwds: Any
    ) -> Results:
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
    def df_coef(self) -> pd.Series:
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

    def conf_int(self, alpha: float | None = None, method: str = "wald", **kwargs: Any) -> pd.DataFrame:
        """Confidence intervals of `params`.

        Parameters
        ----------
        alpha : float, optional
            Their level is 1 - alpha; default `default_alpha`.
        method : {"wald", "profile", "boot"}
            Estimate +- a quantile times the standard error; where the profile likelihood is high
            enough (see `profile`; of a REML fit that of the ML fit); from bootstrap replicates.
        **kwargs
            Of "profile": ``n_jobs``, ``disp``. Of "boot": ``n=1000``, ``seed``, ``n_jobs``, ``disp``,
            ``kind`` as in `bootstrap`, and ``interval="percentile"``, as `BootstrapResults.conf_int` takes its method.

        Returns
        -------
        DataFrame or ndarray, shape (p, 2)

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> print(res.conf_int(method="profile").round(2))
                        0       1
        Intercept  237.68  265.13
        Days         7.36   13.58
        """
        alpha = check_alpha(self.default_alpha if alpha is None else alpha)
        if "cols" in kwargs:
            raise TypeError(
                "conf_int() has no cols, as statsmodels since 0.15. Take rows of what it returns: "
                "conf_int().loc[['x']], or conf_int().iloc[[0]]."
            )
        if method == "wald":
            if "level" in kwargs:
                raise TypeError("conf_int() has no option 'level'. Write alpha=, which is 0.05 for 95% intervals.")
            if kwargs:
                others = " and ".join(map(repr, _INTERVALS))
                raise TypeError(
                    f"conf_int(method='wald') has no option {next(iter(kwargs))!r}; method={others} have some."
                )
            return super().conf_int(alpha)
        if not isinstance(method, str) or method not in _INTERVALS:
            names = ", ".join(map(repr, ["wald", *_INTERVALS]))
            raise ValueError(f"method={method!r} of intervals is not known. Choose one of {names}.")
        return _INTERVALS[method](self, alpha, **kwargs)

    def cov_params(
        self, r_matrix: Any = None, column: Any = None, scale: Any = None, cov_p: Any = None, other: Any = None
    ) -> pd.DataFrame:
        """Covariance of the estimates, or of linear combinations of them, as in statsmodels.

        A combination is NaN only where it has a parameter without a standard error in it.

        Parameters
        ----------
        r_matrix : array_like, optional
            Combinations, one a row.
        column : optional
            Positions or names of some estimates.
        scale : float, optional
            Multiplies the covariance.
        cov_p : array_like, optional
            Another covariance of the estimates.
        other : array_like, optional
            Combinations on the other side: the result is ``r_matrix @ cov @ other.T``.

        Returns
        -------
        DataFrame, shape (p, p); of combinations an ndarray

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> print(res.cov_params().round(3))
                   Intercept   Days
        Intercept     46.575 -1.451
        Days          -1.451  2.389
        """
        if r_matrix is None or np.ndim(r_matrix) == 0 or column is not None:
            return super().cov_params(r_matrix, column, scale, cov_p, other)
        root = None if other is not None or scale is not None or cov_p is not None else _joint.standard_root(self)
        if root is not None:  # combinations of large, nearly collinear coefficients cancel; their roots do not
            half = np.asarray(r_matrix, dtype=float) @ root.units @ root.half
            return half @ half.T
        return _wald.contrast_covariance(np.asarray(super().cov_params(scale=scale, cov_p=cov_p)), r_matrix, other)

    # -- tests -----------------------------------------------------------------------------

    def wald_test(
        self,
        r_matrix: Hypothesis | Mapping[str, float],
        cov_p: Any = None,
        invcov: Any = None,
        use_f: bool | None = None,
        df_constraints: int | None = None,
        scalar: bool = True,
    ) -> ContrastResults:
        """Wald test of linear hypotheses; also of a dict of coefficients or whole terms.

        Parameters
        ----------
        r_matrix : str, array_like, tuple or dict
            As in statsmodels; or ``{"ses": 0, "gender": 0}``, whose keys are coefficients
            or whole terms (``gender`` for ``gender[T.M]``).
        cov_p : array_like, optional
            Another covariance of the estimates.
        invcov, df_constraints
            As in statsmodels.
        use_f : bool, optional
            F or chi-squared; default: as the result's t tests.
        scalar : bool
            Whether statistic and p-value are numbers or arrays of one.

        Returns
        -------
        ContrastResults
            With ``statistic``, ``pvalue``, ``df_num`` and ``df_denom``.

        Raises
        ------
        ValueError
            If constraints contradict each other, or cannot be tested together in working precision.

        Notes
        -----
        A constraint that follows from the ones before it is left out and does not count. No other one is lost,
        whatever the units of the coefficients are. With `invcov` all is as in statsmodels.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> test = res.wald_test("Days = 10", scalar=True)
        >>> print(f"{test.statistic:.3f}, p = {test.pvalue:.3f}")
        0.091, p = 0.762
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

    def t_test(self, r_matrix: Hypothesis, cov_p: Any = None, use_t: bool | None = None) -> ContrastResults:
        """t or z tests of single linear hypotheses, as in statsmodels.

        Of a parameter that has no standard error all is NaN. That a dispersion or alpha is
        zero has no such test: among several hypotheses its p-value is NaN, alone it is refused.

        Parameters
        ----------
        r_matrix : str, array_like or tuple
            As ``"x = 0, z = 1"``, or combinations, one a row.
        cov_p : array_like, optional
            Another covariance of the estimates.
        use_t : bool, optional
            Default: as the result's.

        Returns
        -------
        ContrastResults
            With ``effect``, ``sd``, ``pvalue``, ``conf_int()`` and ``summary_frame()``.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> print(res.t_test("Intercept + 5 * Days = 300").summary_frame().round(3).to_string())
               coef  std err      z  P>|z|  Conf. Int. Low  Conf. Int. Upp.
        c0  303.742    9.581  0.391  0.696         284.963           322.52
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

    def t_test_pairwise(
        self, term_name: str, method: str = "hs", alpha: float | None = None, factor_labels: Sequence[str] | None = None
    ) -> Any:
        """Tests of all pairs of levels of a factor, corrected for their number, as in statsmodels.

        Parameters
        ----------
        term_name : str
            A factor, as in the formula.
        method : str
            Correction for the number of tests, as in ``statsmodels.stats.multitest.multipletests``.
        alpha : float, optional
            Default: that of the fit.
        factor_labels : sequence of str, optional
            Names of the levels.

        Returns
        -------
        statsmodels' result of pairwise tests
            With ``result_frame``.

        Warns
        -----
        ValueWarning
            If the factor is in an interaction and the other factors have a reference level: the differences are
            those at that level. With the others coded as ``C(x, Sum)`` (numbers as ``center(x)``) they are averaged
            over the levels with equal weights, as R's emmeans does.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> print(res.t_test_pairwise("period").result_frame[["coef", "pvalue-hs"]].round(3))
              coef  pvalue-hs
        2-1 -0.992      0.005
        3-1 -1.129      0.003
        4-1 -1.580      0.001
        3-2 -0.136      0.720
        4-2 -0.588      0.509
        4-3 -0.452      0.579
        """
        alpha = self.default_alpha if alpha is None else alpha
        return _wald.t_test_pairwise(self, term_name, method, alpha, factor_labels)

    def wald_test_terms(
        self,
        skip_single: bool = False,
        extra_constraints: Any = None,
        combine_terms: Sequence[str] | None = None,
        scalar: bool = True,
    ) -> Any:
        """A joint Wald test of every term of the fixed part.

        Parameters
        ----------
        skip_single : bool
            Leave out terms with a single coefficient.
        extra_constraints : sequence, optional
            Further hypotheses, as in `wald_test`.
        combine_terms : sequence of str, optional
            Terms whose names hold one of these are tested together as well.
        scalar : bool
            Whether statistics are numbers or arrays of one.

        Returns
        -------
        WaldTestResults
            Its ``table`` has a row a term.

        Notes
        -----
        Coefficients are tested as they are coded, as in statsmodels: beside ``a:b`` those of ``a`` are differences at
        the reference level of ``b``. With factors coded as ``C(a, Sum)`` and numbers as ``center(x)`` they are
        averages over the levels, and the table is that of R's lmerTest (type III).

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> print(res.wald_test_terms(scalar=True))
                        chi2        P>chi2  df constraint
        Intercept  36.191344  1.788632e-09              1
        period     24.948774  1.582601e-05              3
        """
        return _wald.wald_test_terms(self, skip_single, extra_constraints, combine_terms, scalar)
