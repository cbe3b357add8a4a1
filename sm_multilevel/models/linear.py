"""The model classes: data in, objective and fit out. Nothing here is numerical."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import (
    check_disp,
    check_fit_options,
    check_flag,
    check_not_exact,
    start_theta,
)
from sm_multilevel.covariance import Diagonal
from sm_multilevel.estimation.fit import estimate
from sm_multilevel.mixedlm_options import check_host_options, free_pattern, start_values
from sm_multilevel.models.base import MultilevelModel
from sm_multilevel.objectives.crossprod import GaussianData, cross_products
from sm_multilevel.objectives.linear import LinearObjective
from sm_multilevel.objectives.unprofiled import hessian, loglike, score
from sm_multilevel.postestimation.robust.sandwich import check_robust, robust_result
from sm_multilevel.postestimation.wald.df import check_df
from sm_multilevel.progress import Progress
from sm_multilevel.statsmodels_results.linear import MixedLMResults, MixedLMResultsWrapper

__all__ = ["MixedLM"]


class MixedLM(MultilevelModel):
    """Linear mixed model: y = offset + X beta + Z b + e, with b and e normal.

    Parameters
    ----------
    endog : array_like, shape (n,)
        Response.
    exog : array_like, shape (n, p)
        Columns of the fixed effects; add a constant yourself.
    groups : array_like, shape (n,), or list of them
        Group of each row; a list means nested levels, outermost first.
    exog_re : array_like, shape (n, q), or dict, optional
        Columns that vary by group (the innermost one); default a constant. A dict
        ``{name: (groups, columns)}`` gives several, possibly crossed, terms.
    exog_vc : dict, optional
        Variance components within groups: name -> array (n, k) of columns with one
        common variance; or a VCSpec, or dicts of matrices by group, of statsmodels.
    covariance : str, list or dict
        ``"unstructured"``, ``"diagonal"``, ``"identity"`` or ``"exchangeable"``.
    offset : array_like, shape (n,), optional
    var_weights : array_like, shape (n,), optional
        Precision weights: the residual variance of row i is sigma^2 / w_i.
    freq_weights : array_like, shape (n,), optional
        Number of identical rows each row stands for.
    missing : {"none", "drop", "raise"}
        With "none", missing values are an error.

    Attributes
    ----------
    effects : RandomEffects
        Random terms, their grouping and covariance.
    dropped_exog : list of str
        Columns left out because others contain them.

    Notes
    -----
    Estimation is by REML or ML on the profiled deviance of Bates, Maechler, Bolker and
    Walker (2015), with its exact gradient.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> round(float(result.params["Days"]), 4), round(float(result.bse["Days"]), 4)
    (10.4673, 1.5458)
    """

    def __init__(
        self, endog: Any, exog: Any = None, groups: Any = None, exog_re: Any = None, exog_vc: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(endog, exog, groups, exog_re, exog_vc, **kwargs)
        self._cross: GaussianData | None = None
        self._data_attr.append("_cross")

    def cross_products(self) -> GaussianData:
        """The sums that the likelihood needs of the data, made once.

        Returns
        -------
        GaussianData

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> round(res.model.cross_products().nobs)
        180
        """
        if self._cross is None:
            with one_blas_thread():
                y = self.endog if self.offset is None else self.endog - self.offset
                cross = cross_products(y, self.design.exog, self.effects, self.var_weights, self.freq_weights)
                check_not_exact(cross.xxy[-1, -1], y, self.var_weights, self.freq_weights)
                self._cross = cross
        return self._cross

    def objective(self, reml: bool = True) -> LinearObjective:
        """The profiled deviance as a function of theta, with its exact gradient.

        Parameters
        ----------
        reml : bool
            Restricted likelihood or full likelihood.

        Returns
        -------
        LinearObjective
            Call it with theta; ``value_and_gradient(theta)`` gives both.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> model = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df)
        >>> round(model.objective(reml=False)([1.2]), 2)
        1794.1
        """
        self.require_data("The likelihood")
        return LinearObjective(self.cross_products(), self.effects, reml)

    def fit(
        self,
        start_params: Any = None,
        reml: bool = True,
        method: str | Sequence[str] = "newton",
        maxiter: int = 100,
        cov_type: str = "nonrobust",
        cov_kwds: dict[str, Any] | None = None,
        use_t: bool | None = None,
        df: str | None = None,
        disp: bool | None = None,
        callback: Callable[[np.ndarray], object] | None = None,
        alpha: float = 0.05,
        free: Any = None,
        **kwargs: Any,
    ) -> MixedLMResults:
        """Estimate the model; the model itself is not changed.

        Parameters
        ----------
        start_params : array_like, optional
            Starting theta (as ``result.theta``), or a packed vector as
            ``result.params_packed``, or a vector of fixed effects (which needs no start
            and is ignored), or statsmodels' MixedLMParams.
        reml : bool
            Restricted (default) or full maximum likelihood.
        method : str or list of str
            ``"newton"`` (default), ``"lbfgs"``, ``"bfgs"``, ``"cg"``, ``"powell"``,
            ``"nm"``. Where it fails the others are tried, and the record says so.
        maxiter : int
            Most iterations of one attempt.
        cov_type : str
            ``"nonrobust"`` (default): sigma^2 (X'V^-1 X)^-1. ``"robust"``: the sandwich of
            clusters, the top level of the model. ``"cluster"``: of the clusters in
            ``cov_kwds={"groups": ...}``. ``"CR0"``, ``"CR1"``, ``"CR1S"``, ``"CR2"``: by correction;
            see ``result.get_robustcov_results``.
        cov_kwds : dict, optional
            Its options.
        use_t : bool, optional
            t instead of normal distributions, with ``df_resid`` degrees of freedom.
        df : {"satterthwaite", "kenward-roger", "residual", "normal"}, optional
            Degrees of freedom of t and F tests and of intervals; see ``result.with_df``. Default
            as `use_t` says.
        disp : bool, optional
            None (default): a fit that takes more than five seconds shows on stderr how far it is, where that is a
            terminal or a notebook. True: it does so at once and anywhere, and prints a line about the fit at its
            end. False: nothing.
        callback : callable, optional
            Called with theta after every iteration.
        alpha : float
            Default of the result's intervals and summaries: their level is 1 - alpha.
        free : MixedLMParams, optional
            statsmodels' mask of what is estimated, all of it or all but the covariances: with
            ``cov_re=np.eye(q)`` the result is that of the model with ``covariance="diagonal"``.

        Returns
        -------
        MixedLMResults

        Raises
        ------
        ValueError
            For an unknown option, or a response that the model fits exactly.

        Warns
        -----
        ConvergenceWarning
            If no attempt reached an optimum; the reason is in ``result.record.reason``.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit(reml=False)
        >>> result.converged, round(result.llf, 3)
        (True, -897.039)
        """
        began = time.perf_counter()
        self.require_data("fit()")
        kwargs = check_host_options(kwargs)
        if free is not None:
            return self.with_free(free, start_params).fit(
                start_params, reml, method, maxiter, cov_type, cov_kwds, use_t, df, disp, callback, alpha, **kwargs
            )
        method, maxiter, use_t, alpha = check_fit_options(method, maxiter, use_t, alpha, kwargs)
        disp = check_disp(disp)
        reml = check_flag("reml", reml)
        robust = check_robust(self, cov_type, cov_kwds, reml=reml, use_t=use_t, df=df)
        df, use_t = check_df(df, use_t, reml=reml, cov_type=cov_type, layout=self.effects.layout)
        start = start_theta(start_values(start_params, self.random), self.k_fixed, self.effects.n_params)
        with one_blas_thread(), Progress("fit", disp, unit="evaluations") as progress:
            objective = self.objective(reml)
            objective.watch = progress.evaluated
            record = estimate(objective, method=method, start=start, maxiter=maxiter, callback=callback)
            state = objective.standard_state(record.theta_standard)
            record = replace(record, seconds=time.perf_counter() - began)
            self._report(record, disp)
            result = MixedLMResults(self, record, state, reml=reml, use_t=use_t, start_params=start_params, alpha=alpha)
        if robust is not None:
            return robust_result(result, robust)
        wrapped = MixedLMResultsWrapper(result)
        return wrapped if df is None else wrapped.with_df(df)

    def with_free(self, free: Any, start_params: Any = None) -> MixedLM:
        """The model in which what statsmodels' mask `free` has as 0 is zero; see `fit`."""
        design = free_pattern(self.design, free, start_params)
        if design is self.design:
            return self
        model = self.with_design(design)
        if model.full_formula is not None:
            model._settings = dict(model._settings, covariance=Diagonal.name)
        return model

    @property
    def k_fixed(self) -> int:
        """Number of fixed effects."""
        return len(self.design.exog_names) if self.design is not None else len(self.data.param_names)

    def _unpack(self, params):
        self.require_data("The likelihood")
        params = np.asarray(params, dtype=float)
        p, k = self.k_fixed, self.effects.n_params
        if params.shape != (p + 1 + k,):
            raise ValueError(
                f"params has shape {params.shape}; the packed vector beta, sigma^2, theta has "
                f"{p + 1 + k} elements (result.params_packed)."
            )
        if not np.isfinite(params).all():
            raise ValueError(
                "params has elements that are not finite; give finite numbers, as in result.params_packed."
            )
        if not params[p] > 0:
            raise ValueError(f"params: sigma^2, the element after beta, must be positive, not {params[p]:g}.")
        return params[:p], params[p], params[p + 1 :]

    def loglike(self, params: ArrayLike, reml: bool = False) -> float:
        """Log-likelihood at any beta, sigma^2 and theta.

        Parameters
        ----------
        params : array_like, shape (p + 1 + k,)
            Packed as ``result.params_packed``.
        reml : bool
            The restricted log-likelihood does not depend on beta.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If params has another length.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit(reml=False)
        >>> round(res.model.loglike(res.params_packed), 3), round(float(res.llf), 3)
        (-875.97, -875.97)
        """
        beta, sigma2, theta = self._unpack(params)
        return loglike(self.objective(reml), beta, sigma2, theta)

    def score(self, params: ArrayLike, reml: bool = False) -> np.ndarray:
        """Gradient of `loglike`; shape (p + 1 + k,).

        Parameters
        ----------
        params : array_like
            As in `loglike`.
        reml : bool
            Of the restricted likelihood.

        Returns
        -------
        ndarray, shape (p + 1 + k,)

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit(reml=False)
        >>> bool(abs(res.model.score(res.params_packed)).max() < 1e-3)
        True
        """
        beta, sigma2, theta = self._unpack(params)
        return score(self.objective(reml), beta, sigma2, theta)

    def hessian(self, params: ArrayLike, reml: bool = False) -> np.ndarray:
        """Hessian of `loglike`, by central differences of the exact `score`.

        Parameters
        ----------
        params : array_like
            As in `loglike`.
        reml : bool
            Of the restricted likelihood.

        Returns
        -------
        ndarray, shape (p + 1 + k, p + 1 + k)

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit(reml=False)
        >>> res.model.hessian(res.params_packed).shape
        (6, 6)
        """
        beta, sigma2, theta = self._unpack(params)
        return hessian(self.objective(reml), beta, sigma2, theta)

    def predict(self, params: ArrayLike, exog: ArrayLike | None = None) -> np.ndarray:
        """Population values X beta (without offset) for an array of columns.

        Parameters
        ----------
        params : array_like, shape (p,)
        exog : array_like, shape (m, p), optional
            Default the model's own. A matrix that patsy has built from `formula` holds the offset, which
            is then added; it is checked against the data of the fit.

        Returns
        -------
        ndarray, shape (m,)

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.model.predict(res.params)[:2].round(2).tolist()
        [251.41, 261.87]
        """
        exog, offset = self._population_columns(exog)
        return exog @ np.asarray(params, dtype=float)[: self.k_fixed] + offset
