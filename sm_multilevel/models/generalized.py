"""The generalised models: data and a family in, objective and fit out. Nothing here is numerical."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import (
    check_disp,
    check_fit_options,
    start_packed,
)
from sm_multilevel.design.response import ResponseReader
from sm_multilevel.estimation.integration import AUTO, check_nagq, fit_marginal, objective_of, too_rough
from sm_multilevel.families.ordinal import DISTRIBUTIONS, Cumulative
from sm_multilevel.families.registry import get_family
from sm_multilevel.families.response import Response, ResponseFamily
from sm_multilevel.models.base import MultilevelModel
from sm_multilevel.objectives.crossprod import fixed_scaling
from sm_multilevel.objectives.marginal import MarginalObjective
from sm_multilevel.objectives.modes import NoModeError
from sm_multilevel.objectives.rows import Rows, bind_rows
from sm_multilevel.objectives.space import JointSpace
from sm_multilevel.postestimation.prediction.predict_glm import at_linear, kind_of
from sm_multilevel.postestimation.robust.sandwich import check_robust, robust_result
from sm_multilevel.postestimation.wald.df import check_df
from sm_multilevel.progress import Progress
from sm_multilevel.statsmodels_results.generalized import MixedGLMResults, MixedGLMResultsWrapper
from sm_multilevel.wording import suggest

__all__ = ["GeneralizedModel", "MENegBin", "MEOLogit", "MixedGLM"]


@dataclass(frozen=True, eq=False)
class _Bound:
    """Sorted rows with their response, made once."""

    rows: Rows
    response: Response
    change: np.ndarray
    centre: np.ndarray | None
    order: np.ndarray | None


class GeneralizedModel(MultilevelModel):
    """What the models with a response that is not normal share.

    Not used directly.
    """

    family: ResponseFamily
    _options: tuple[str, ...] = ("exposure", "n_trials")

    def __init__(
        self, endog: Any, exog: Any = None, groups: Any = None, exog_re: Any = None, exog_vc: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(endog, exog, groups, exog_re, exog_vc, **kwargs)
        beta, psi = self.design.exog_names, self.family.psi_names
        self.data.param_names = [*beta, *psi]
        if not set(beta).isdisjoint(psi):  # a predictor called alpha: hypotheses need names that are unique
            self.data.cov_names = [*beta, *(f"{name} of the response" if name in beta else name for name in psi)]
        self.k_extra = len(self.family.psi_names)  # statsmodels' name of the number of parameters after beta
        self._bound_rows: _Bound | None = None
        self._data_attr.extend(["response", "_bound_rows"])

    def _family_of(self, design) -> ResponseFamily:
        """The family, where it depends on the response's categories."""
        raise NotImplementedError

    def _check_design(self, design):
        super()._check_design(design)
        self.family = self._family_of(design)
        data = design.response_data()
        self.family.check(data, design.endog_name)
        self.response = self.family.bind(data)

    def _mean_weight(self, design):
        """Random effects are relative to the size of the linear predictor."""
        return 1.0 / self.response.eta_scale**2

    @property
    def k_fixed(self) -> int:
        """Number of fixed effects."""
        return len(self.data.xnames)

    def bound(self) -> _Bound:
        """Rows sorted and standardised for the objectives, made once."""
        self.require_data("The likelihood")
        if self._bound_rows is None:
            x, scale = self.design.exog, self.response.eta_scale
            centre = None
            if not self.family.has_intercept and x.shape[1]:
                centre = x.mean(axis=0)
                x = x - centre
            change = fixed_scaling(self.endog, x).map * scale
            rows, order = bind_rows(self.design.exog, change, self.effects, self.offset, centre)
            # Bound anew: `response` may be in the order of a model that was pickled after a fit.
            whole = self.family.bind(self.design.response_data())
            self.response = response = whole if order is None else whole.take(order)
            self._bound_rows = _Bound(rows, response, change, centre, order)
        return self._bound_rows

    def rebound(self, endog: np.ndarray) -> GeneralizedModel:
        """The model with other numbers as its response, on the rows as they are sorted and standardised.

        Parameters
        ----------
        endog : ndarray, shape (n,)
            As in ``model.endog``. Nothing is read or built again; only the response is checked.

        Returns
        -------
        GeneralizedModel
            For `fit_marginal` alone: all but the response is shared with this model.

        Raises
        ------
        ValueError
            For a response that the family cannot have, or that has no fit.
        """
        bound = self.bound()
        model = copy.copy(self)
        model.design = replace(self.design, endog=endog)
        model._check_response(model.design)
        data = model.design.response_data()
        self.family.check(data, model.design.endog_name)
        whole = self.family.bind(data)
        model.endog, model.response = endog, whole if bound.order is None else whole.take(bound.order)
        model._bound_rows = replace(bound, response=model.response)
        return model

    def __getstate__(self):
        # Made again when needed; it holds what does not pickle.
        return {**self.__dict__, "_bound_rows": None}

    def space(self) -> JointSpace:
        """The coordinates of beta, psi and theta."""
        bound = self.bound()
        return JointSpace(self.effects, bound.change, self.family, self.response.n_psi, bound.centre)

    def objective(self, nAGQ: int | str = 1) -> MarginalObjective:
        """The deviance as a function of beta, psi and theta in standardised columns, with its exact gradient.

        Parameters
        ----------
        nAGQ : int
            0, 1 (Laplace) or the number of quadrature points a column.

        Returns
        -------
        MarginalObjective
        """
        return objective_of(self, check_nagq(nAGQ, self))

    def fit(
        self,
        start_params: Any = None,
        nAGQ: int | str = 1,
        method: str | Sequence[str] = "newton",
        maxiter: int = 100,
        cov_type: str = "nonrobust",
        cov_kwds: dict[str, Any] | None = None,
        use_t: bool | None = None,
        df: str | None = None,
        disp: bool | None = None,
        callback: Callable[[np.ndarray], object] | None = None,
        alpha: float = 0.05,
        **kwargs: Any,
    ) -> MixedGLMResults:
        """Estimate the model by maximum likelihood; the model itself is not changed.

        Parameters
        ----------
        start_params : array_like, optional
            As ``result.params_packed``: beta, psi, theta; or a result.
        nAGQ : int or "auto"
            How the random effects are integrated over. 1: Laplace's approximation, for any
            random effects. k > 1: adaptive Gauss-Hermite quadrature with k points a column,
            for one grouping factor or nested ones. ``"auto"``: points are added until the
            likelihood, the estimates and the variances stop changing. 0: beta is taken at
            its mode together with the random effects; fast, and biased.
        method : str or list of str
            ``"newton"`` (default), ``"lbfgs"``, ``"bfgs"``, ``"cg"``, ``"powell"``, ``"nm"``.
            Where it fails the others are tried, and the record says so.
        maxiter : int
            Most iterations of one attempt.
        cov_type : str
            ``"nonrobust"`` (default): the inverse of the joint observed information. ``"robust"``: the sandwich of
            clusters, the top level of the model. ``"cluster"``: of the clusters in
            ``cov_kwds={"groups": ...}``. ``"CR0"``, ``"CR1"``, ``"CR1S"``: by correction;
            see ``result.get_robustcov_results``.
        cov_kwds : dict, optional
            Its options.
        use_t : bool, optional
            t instead of normal distributions.
        df : {"residual", "normal"}, optional
            The same by the linear model's name of the option; its others do not exist here.
        disp : bool, optional
            None (default): a fit that takes more than five seconds shows on stderr how far it is, where that is a
            terminal or a notebook. True: it does so at once and anywhere, and prints a line about the fit at its
            end. False: nothing.
        callback : callable, optional
            Called with the parameters after every iteration.
        alpha : float
            Default of the result's intervals and summaries: their level is 1 - alpha.

        Returns
        -------
        MixedGLMResults

        Raises
        ------
        ValueError
            For an unknown option, or an integration that the model does not allow.
        """
        began = time.perf_counter()
        self.require_data("fit()")
        method, maxiter, use_t, alpha = check_fit_options(method, maxiter, use_t, alpha, kwargs)
        disp = check_disp(disp)
        points = check_nagq(nAGQ, self)
        robust = check_robust(self, cov_type, cov_kwds, nAGQ=points, use_t=use_t, df=df)
        _, use_t = check_df(df, use_t, linear=False)
        start = start_packed(start_params, self.k_fixed, self.response.n_psi, self.effects.n_params)
        with one_blas_thread(), Progress("fit", disp, unit="evaluations") as progress:
            fitted = fit_marginal(
                self, points, method=method, start=start, maxiter=maxiter, callback=callback, watch=progress.evaluated
            )
            fitted.warnings += too_rough(self, fitted)
            record = fitted.record = replace(fitted.record, seconds=time.perf_counter() - began)
            self._report(record, disp, fitted.warnings)
            result = MixedGLMResults(self, fitted, use_t=use_t, start_params=start_params, alpha=alpha)
        return MixedGLMResultsWrapper(result) if robust is None else robust_result(result, robust)

    def _unpack(self, params):
        self.require_data("The likelihood")
        params = np.asarray(params, dtype=float)
        p, r, k = self.k_fixed, self.response.n_psi, self.effects.n_params
        if params.shape != (p + r + k,):
            raise ValueError(
                f"params has shape {params.shape}; the packed vector beta, psi, theta has "
                f"{p + r + k} elements (result.params_packed)."
            )
        if not np.isfinite(params).all():
            raise ValueError(
                "params has elements that are not finite; give finite numbers, as in result.params_packed."
            )
        return params[:p], params[p : p + r], params[p + r :]

    def loglike(self, params: ArrayLike, nAGQ: int | str = 1) -> float:
        """Log-likelihood at any beta, psi and theta.

        Parameters
        ----------
        params : array_like, shape (p + r + k,)
            Packed as ``result.params_packed``.
        nAGQ : int
            As in `fit`, from 1.

        Returns
        -------
        float
            -inf where the likelihood does not exist.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> round(res.model.loglike(res.params_packed), 4)
        -92.0263
        """
        point = self._unpack(params)
        objective = self._user_objective(nAGQ)
        with one_blas_thread():
            try:
                value = -0.5 * objective.user_state(*point).value
            except (NoModeError, np.linalg.LinAlgError):
                return -np.inf
        return value if np.isfinite(value) else -np.inf

    def score(self, params: ArrayLike, nAGQ: int | str = 1) -> np.ndarray:
        """Gradient of `loglike`; shape (p + r + k,).

        Parameters
        ----------
        params : array_like
            As in `loglike`.
        nAGQ : int or "auto"
            As in `fit`.

        Returns
        -------
        ndarray, shape (p + r + k,)

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> bool(abs(res.model.score(res.params_packed)).max() < 1e-3)
        True
        """
        point = self._unpack(params)
        with one_blas_thread():
            return -0.5 * self._user_objective(nAGQ).user_gradient(*point)

    def hessian(self, params: ArrayLike, nAGQ: int | str = 1) -> np.ndarray:
        """Hessian of `loglike`, by central differences of the exact `score`.

        Parameters
        ----------
        params : array_like
            As in `loglike`.
        nAGQ : int or "auto"
            As in `fit`.

        Returns
        -------
        ndarray, shape (p + r + k, p + r + k)

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> res.model.hessian(res.params_packed).shape
        (5, 5)
        """
        self._unpack(params)
        params = np.asarray(params, dtype=float)
        objective = self._user_objective(nAGQ)
        steps = objective.user_steps(*self._unpack(params))
        rows = []
        with one_blas_thread():
            for step in np.diag(steps):
                ends = [objective.user_gradient(*self._unpack(params + sign * step)) for sign in (1, -1)]
                rows.append(-0.5 * (ends[0] - ends[1]) / (2.0 * step.sum()))
        out = np.array(rows)
        return 0.5 * (out + out.T)

    def _user_objective(self, nAGQ):
        points = check_nagq(nAGQ, self)
        if points == 0 or points == AUTO:
            raise ValueError("nAGQ must be 1 or more here: with nAGQ=0 beta is no argument of the likelihood.")
        return objective_of(self, points)

    def predict(self, params: ArrayLike, exog: ArrayLike | None = None, which: str | None = None) -> np.ndarray:
        """Population values at a random effect of zero (without offset), for an array of columns.

        Parameters
        ----------
        params : array_like, shape (p + r,)
        exog : array_like, shape (m, p), optional
            Default the model's own. A matrix that patsy has built from `formula` holds the offset, which
            is then added; it is checked against the data of the fit.
        which : {"mean", "linear", "prob"}, optional
            Default as of the result's method: "prob" of an ordinal model, else "mean".

        Returns
        -------
        ndarray, shape (m,), or (m, K) of probabilities

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import cbpp
        >>> cows = cbpp.load_pandas().data
        >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
        >>> res.model.predict(res.params)[:2].round(3).tolist()
        [0.198, 0.084]
        """
        kind = kind_of(self.family, which=which)
        params = np.asarray(params, dtype=float)
        exog, offset = self._population_columns(exog)
        return at_linear(self.family, params[self.k_fixed :], kind, exog @ params[: self.k_fixed] + offset)


class MixedGLM(GeneralizedModel):
    """Generalised linear mixed model: g(E y) = offset + X beta + Z b, with b normal.

    Parameters
    ----------
    endog : array_like, shape (n,) or (n, 2)
        Response; for a binomial one 0/1, two labels, proportions or successes with
        `n_trials`, or two columns of successes and failures.
    exog : array_like, shape (n, p)
        Columns of the fixed effects; add a constant yourself.
    groups, exog_re, exog_vc, covariance, missing
        As in `MixedLM`.
    family : statsmodels family, class or str
        ``sm.families.Binomial()``, ``"binomial"``, ``"poisson"``, ``"gamma"``,
        ``"inverse_gaussian"``, ``"gaussian"``, ``"negbin"``.
    link : statsmodels link, class or str, optional
        Default the family's own.
    offset, exposure : array_like, shape (n,), optional
        Added to the linear predictor; the exposure's logarithm.
    n_trials : array_like, shape (n,), optional
        Binomial numbers of trials.
    var_weights, freq_weights : array_like, shape (n,), optional
        Weights that divide the dispersion (in a family without one they multiply the
        log-likelihood); numbers of identical rows.

    Notes
    -----
    The log-likelihood has all constants, and dispersion is estimated by maximum likelihood
    with the other parameters. Its integral over b is Laplace's approximation with observed
    information, or adaptive Gauss-Hermite quadrature (Pinheiro and Bates 1995).

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> df = cbpp.load_pandas().data
    >>> model = smf.meglm("incidence ~ period + (1 | herd)", df, family="binomial", n_trials="size")
    >>> round(model.fit().llf, 4)
    -92.0263
    """

    @classmethod
    def _read_options(cls, kwargs):
        family = get_family(kwargs.pop("family", "gaussian"), kwargs.pop("link", None))
        if kwargs.get("exposure") is not None:
            _check_exposure(family)
        return {"family": family}, _reader(family)

    def _family_of(self, design):
        return self.family

    def _check_design(self, design):
        self._residual = "".join(self.family.psi_names)
        super()._check_design(design)


class MENegBin(GeneralizedModel):
    """Negative binomial mixed model with a log link; its dispersion alpha is estimated.

    Parameters
    ----------
    endog, exog, groups, exog_re, exog_vc, offset, exposure, covariance, missing
        As in `MixedGLM`.
    loglike_method : {"nb2", "nb1"}
        Variance mu + alpha mu^2, or mu (1 + alpha).

    Notes
    -----
    alpha = 0, the Poisson limit, is inside the parameter space: where the data have no
    overdispersion the fit ends there, and the result says so.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import epil
    >>> df = epil.load_pandas().data
    >>> result = smf.menbreg("y ~ trt + (1 | subject)", df).fit()
    >>> bool(result.params["alpha"] > 0)
    True
    """

    loglike_method: str
    _options = ("exposure",)
    _residual = "dispersion alpha"

    @classmethod
    def _read_options(cls, kwargs):
        kind = kwargs.pop("loglike_method", "nb2")
        if kind not in ("nb2", "nb1"):
            raise ValueError(f"loglike_method={kind!r} is not known. Choose 'nb2' or 'nb1'.")
        return {"loglike_method": kind}, ResponseReader()

    def _family_of(self, design):
        return get_family(self.loglike_method)


class MEOLogit(GeneralizedModel):
    """Cumulative (ordinal) mixed model: P(y <= k) = F(kappa_k - eta), eta = X beta + Z b.

    Parameters
    ----------
    endog : array_like, shape (n,)
        Ordered Categorical, whole numbers, or labels with `order`.
    exog : array_like, shape (n, p)
        Without a constant, whose place the thresholds take.
    groups, exog_re, exog_vc, offset, covariance, missing
        As in `MixedGLM`.
    distr : {"logit", "probit", "cloglog", "loglog", "cauchit"}
        Distribution function F.
    order : list, optional
        Labels from the lowest to the highest.

    Notes
    -----
    McCullagh (1980), J. R. Stat. Soc. B 42, 109-142. The thresholds ("cut-points") are in
    ``params`` after the fixed effects, named ``low|high``, and in ``result.thresholds``.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import wine
    >>> df = wine.load_pandas().data
    >>> result = smf.meologit("rating ~ temp + contact + (1 | judge)", df).fit()
    >>> round(result.llf, 3)
    -81.565
    """

    distr: str
    _options = ()
    _residual = ""

    @classmethod
    def _read_options(cls, kwargs):
        own = {"distr": kwargs.pop("distr", "logit"), "order": kwargs.pop("order", None)}
        if own["distr"] not in DISTRIBUTIONS:
            raise ValueError(
                f"distr={own['distr']!r} is not known.{suggest(str(own['distr']), DISTRIBUTIONS)} "
                f"There are {', '.join(DISTRIBUTIONS)}."
            )
        return own, ResponseReader("ordered", order=own["order"])

    def _family_of(self, design):
        return Cumulative(self.distr, design.categories)


def _reader(family):
    """How a response of the family is read."""
    return ResponseReader("proportion", 2) if family.has_trials else ResponseReader()


def _check_exposure(family):
    if not family.log_link:
        raise ValueError(
            f"exposure= needs a log link, but the model is {family!r}. Use offset= for a term of the linear predictor."
        )
