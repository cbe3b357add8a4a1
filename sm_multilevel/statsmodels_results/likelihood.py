"""Likelihood ratio tests, profiles and resampling: inference that fits the model again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sm_multilevel.postestimation.comparison import anova as _anova
from sm_multilevel.postestimation.comparison import compare as _compare
from sm_multilevel.postestimation.profiling import profile as _profile
from sm_multilevel.postestimation.resampling import bootstrap as _bootstrap

__all__ = ["LikelihoodMethods"]


class LikelihoodMethods:
    """Inference of the results of all models that fits the model again.

    Not used directly; `MultilevelResults` has it.
    """

    def compare_lr_test(self, restricted: Any) -> tuple[float, float, int]:
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

    def ranova(
        self,
        reduce_terms: bool = True,
        method: str = "asymptotic",
        n: int | None = None,
        seed: int | None = None,
        n_jobs: int | None = 1,
    ) -> pd.DataFrame:
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

    def profile(
        self,
        which: str | Sequence[str] | None = None,
        alpha: float = 0.01,
        n_jobs: int = 1,
        disp: bool | None = None,
    ) -> _profile.ProfileResults:
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
        disp : bool, optional
            Show progress; default after five seconds, where stderr is a terminal or a notebook.

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
        return _profile.profile(self, which, alpha, n_jobs, disp)

    # -- resampling ------------------------------------------------------------

    def simulate(
        self, n: int = 1, seed: int | np.random.Generator | None = None, include_random: bool | str = "new"
    ) -> np.ndarray:
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

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.simulate(3, seed=1).shape
        (3, 180)
        """
        return _bootstrap.simulate(self, n, seed, include_random)

    def bootstrap(
        self,
        n: int = 1000,
        seed: int | None = None,
        n_jobs: int | None = None,
        statistic: str | Callable[[Any], Any] | None = None,
        kind: str = "parametric",
        disp: bool | None = None,
        batch: int | None = None,
    ) -> _bootstrap.BootstrapResults:
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
            Show progress; default after five seconds, where stderr is a terminal or a notebook.
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
