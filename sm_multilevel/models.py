"""The model classes: data in, objective and fit out. Nothing here is numerical."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
from patsy.eval import EvalEnvironment
from statsmodels.base.model import LikelihoodModel
from statsmodels.tools.sm_exceptions import ConvergenceWarning, ValueWarning

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import (
    check_alpha,
    check_flag,
    check_maxiter,
    check_method,
    check_not_exact,
    check_option,
    check_random_terms,
    check_response,
    independent_columns,
    start_theta,
    unknown_option,
    users_level,
)
from sm_multilevel.design import design_from_formula
from sm_multilevel.design_arrays import design_from_arrays
from sm_multilevel.estimation.fit import estimate_theta
from sm_multilevel.formula.values import check_weights, numeric
from sm_multilevel.objectives.crossprod import cross_products
from sm_multilevel.objectives.linear import LinearObjective
from sm_multilevel.objectives.unprofiled import hessian, loglike, score
from sm_multilevel.random_effects import RandomEffects, constant_column
from sm_multilevel.results import MixedLMResults, MixedLMResultsWrapper

__all__ = ["MixedLM"]


class MultilevelModel(LikelihoodModel):
    """What all models of the package share: a design and its random effects.

    Not used directly.
    """

    _formula_max_endog = 1
    # Filled by `from_formula`; a model from arrays has none.
    formula: str | None = None
    _settings: dict = {}

    def __init__(
        self,
        endog,
        exog=None,
        groups=None,
        exog_re=None,
        exog_vc=None,
        *,
        random=None,
        covariance="unstructured",
        offset=None,
        var_weights=None,
        freq_weights=None,
        missing="none",
        hasconst=None,
        design=None,
        **kwargs,
    ):
        # statsmodels' own machinery passes these; they have no meaning here.
        for name in ("missing_idx", "model_spec", "formula", "use_sqrt"):
            kwargs.pop(name, None)
        if kwargs:
            raise TypeError(unknown_option(type(self).__name__, next(iter(kwargs))))
        if design is None:
            design = design_from_arrays(
                endog, exog, groups, exog_re, exog_vc, random=random, covariance=covariance,
                offset=offset, var_weights=var_weights, freq_weights=freq_weights, missing=missing,
            )  # fmt: skip
        check_weights(design.var_weights, "var_weights")
        check_weights(design.freq_weights, "freq_weights", integer=True)
        check_response(design.endog, design.endog_name)
        check_random_terms(design)
        keep = independent_columns(design.exog, design.exog_names)
        self.all_exog_names = list(design.exog_names)
        self.kept_columns = np.asarray(keep, dtype=int)
        if len(keep) < design.exog.shape[1]:
            dropped = [n for j, n in enumerate(design.exog_names) if j not in set(keep)]
            warnings.warn(
                f"The fixed effects are not of full rank; dropped {', '.join(dropped)}, which "
                "the columns before them already contain.",
                ValueWarning,
                stacklevel=users_level(),
            )
            design = replace(
                design,
                exog=design.exog[:, keep],
                exog_names=tuple(design.exog_names[j] for j in keep),
            )
        names = list(design.exog_names)
        endog, exog = design.endog, design.exog if names else None
        if design.index is not None:  # arrays in, arrays out
            endog = pd.Series(endog, index=design.index, name=design.endog_name, copy=False)
            exog = pd.DataFrame(exog, index=design.index, columns=names, copy=False) if names else None
        # statsmodels' own search for the constant takes longer than a fit: do it here.
        constant = constant_column(design.exog)
        super().__init__(endog, exog, missing="none", hasconst=False)
        self.k_constant = self.data.k_constant = int(constant is not None)
        self.data.const_idx = constant
        self.data.ynames, self.data.xnames, self.data.param_names = design.endog_name, names, names
        self.design = design
        weight = 1.0 if design.var_weights is None else float(design.var_weights.mean())
        self.effects = RandomEffects(design.terms, weight)
        self.random = design.terms
        self.offset, self.var_weights, self.freq_weights = (
            design.offset, design.var_weights, design.freq_weights,
        )  # fmt: skip
        # Small things that predictions need after remove_data().
        self.recipe = design.recipe
        self.levels = [t.levels for t in design.terms]
        self.outer_levels = None if design.outer is None else design.outer[1]
        self.group_names = [t.name or t.group for t in design.terms]
        self.is_component = [t.is_component for t in design.terms]
        self._init_keys = ["random", "offset", "var_weights", "freq_weights"]
        self._data_attr.extend(["design", "effects", "random", "offset", "var_weights", "freq_weights", "data.frame"])

    def require_data(self, what: str) -> None:
        """Raise if a result's remove_data() has dropped the rows."""
        if self.design is None:
            raise ValueError(f"{what} needs the data of the fit, and remove_data() has dropped them.")

    def forget_arrays(self) -> None:
        """Drop options that are arrays, one value a row; names of columns stay."""
        columns = getattr(getattr(self.data, "frame", None), "columns", ())

        def by_name(value):
            return value is None or isinstance(value, str) or all(isinstance(v, str) and v in columns for v in value)

        for option in ("groups", "offset", "var_weights", "freq_weights"):
            if not by_name(self._settings.get(option)):
                self._settings = dict(self._settings, **{option: None})

    @property
    def dropped_exog(self) -> list[str]:
        """Columns of the fixed part that were dropped because others contain them."""
        kept = set(self.kept_columns.tolist())
        return [n for j, n in enumerate(self.all_exog_names) if j not in kept]

    @classmethod
    def from_formula(
        cls,
        formula,
        data,
        groups=None,
        re_formula=None,
        vc_formula=None,
        subset=None,
        *,
        covariance="unstructured",
        offset=None,
        var_weights=None,
        freq_weights=None,
        missing="drop",
        eval_env=None,
        drop_cols=None,
        use_sqrt=True,
        **kwargs,
    ):
        """Create a model from a formula and a data frame.

        Parameters
        ----------
        formula : str
            The response and the fixed effects, and random terms as in lme4:
            ``"y ~ x + (x | g)"``, ``(x || g)``, ``(1 | a/b)``, ``(1 | a:b)``.
        data : DataFrame, polars.DataFrame or dict
            One row an observation.
        groups : str, list of str, Series or array_like, optional
            Grouping factor, where the formula has no bars. A list means nested levels,
            outermost first: ``["school", "class"]``.
        re_formula : str or dict, optional
            Columns that vary by group, ``"~x"``; default an intercept. With nested groups
            for the innermost level; a dict sets each level.
        vc_formula : dict, optional
            Variance components within groups, name -> formula, as in statsmodels' MixedLM.
            Without `re_formula` there is then no random intercept.
        subset : mask or labels, optional
            Rows to use, as for ``data.loc``.
        covariance : str, list or dict, optional
            ``"unstructured"``, ``"diagonal"``, ``"identity"`` or ``"exchangeable"``; a
            list has one a term, a dict one a grouping factor.
        offset : str or array_like, optional
            Added to the linear predictor; ``offset(x)`` in the formula adds another.
        var_weights : str or array_like, optional
            Precision weights, as lme4's ``weights``: the residual variance is sigma^2 / w.
        freq_weights : str or array_like, optional
            How many identical rows each row stands for.
        missing : {"drop", "raise"}
            What to do with incomplete rows.
        eval_env : int or patsy.EvalEnvironment, optional
            Where names in the formula are looked up: frames above the caller, or -1 for
            nowhere.

        Returns
        -------
        model

        Raises
        ------
        FormulaError, ValueError
            Naming the column, level or option at fault.

        Examples
        --------
        >>> import sm_multilevel.api as smm
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> model = smm.MixedLM.from_formula("Reaction ~ Days + (Days | Subject)", df)
        >>> model.exog_names
        ['Intercept', 'Days']
        """
        if eval_env is None:
            env = EvalEnvironment.capture(1)
        elif isinstance(eval_env, EvalEnvironment):
            env = eval_env
        elif eval_env == -1:
            env = EvalEnvironment([{}])
        else:
            env = EvalEnvironment.capture(eval_env + 1)
        if drop_cols:
            raise ValueError("drop_cols= is not supported; leave the columns out of the formula.")
        settings = {
            "groups": groups, "re_formula": re_formula, "vc_formula": vc_formula, "covariance": covariance,
            "offset": offset, "var_weights": var_weights, "freq_weights": freq_weights, "missing": missing,
        }  # fmt: skip
        design, frame = design_from_formula(formula, data, env, subset=subset, **settings)
        model = cls(None, None, design=design, **kwargs)
        model.formula = formula
        model._settings = settings
        model.data.frame = frame
        return model

    def with_response(self, endog):
        """The same model with another response; shape (n,) for the rows used."""
        self.require_data("refit()")
        endog = numeric(endog, "The response", response=True)
        if endog.shape != self.endog.shape:
            raise ValueError(f"The response has shape {endog.shape}; the fit used {self.endog.shape[0]} rows.")
        if not np.isfinite(endog).all():
            raise ValueError("The response has values that are not finite.")
        model = type(self)(None, None, design=replace(self.design, endog=endog))
        # The design has lost the columns that were dropped; new data have them.
        model.all_exog_names, model.kept_columns = self.all_exog_names, self.kept_columns
        model.formula, model._settings = self.formula, self._settings
        model.data.frame = getattr(self.data, "frame", None)
        return model

    def updated(self, formula, data, changes, env):
        """A model with another formula or options on this model's data."""
        check_option("update", changes, allowed=tuple(self._settings))
        settings = dict(self._settings, **changes)
        env = env.with_outer_namespace(self.recipe.namespace)
        if data is None:
            self.require_data("update() without new data")
            data = self.data.frame
        design, frame = design_from_formula(formula, data, env, **settings)
        model = type(self)(None, None, design=design)
        model.formula, model._settings, model.data.frame = formula, settings, frame
        return model

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {name: len(levels) for name, levels in zip(self.group_names, self.levels, strict=True)}

    def __repr__(self):
        groups = ", ".join(f"{name}: {count}" for name, count in self.ngroups.items())
        return f"<{type(self).__name__}: {self.formula or self.endog_names}; groups {groups}>"


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
        common variance.
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
    >>> round(result.params["Days"], 4), round(result.bse["Days"], 4)
    (10.4673, 1.5458)
    """

    def __init__(self, endog, exog=None, groups=None, exog_re=None, exog_vc=None, **kwargs):
        super().__init__(endog, exog, groups, exog_re, exog_vc, **kwargs)
        self._cross = None
        self._data_attr.append("_cross")

    def cross_products(self):
        """The sums that the likelihood needs of the data, made once.

        Returns
        -------
        GaussianData
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
        1794.5
        """
        self.require_data("The likelihood")
        return LinearObjective(self.cross_products(), self.effects, reml)

    def fit(
        self,
        start_params=None,
        reml=True,
        method="newton",
        maxiter=100,
        cov_type="nonrobust",
        cov_kwds=None,
        use_t=None,
        disp=False,
        callback=None,
        alpha=0.05,
        **kwargs,
    ):
        """Estimate the model; the model itself is not changed.

        Parameters
        ----------
        start_params : array_like, optional
            Starting theta (as ``result.theta``), or a packed vector as
            ``result.params_packed``, or a vector of fixed effects (which needs no start
            and is ignored).
        reml : bool
            Restricted (default) or full maximum likelihood.
        method : str or list of str
            ``"newton"`` (default), ``"lbfgs"``, ``"bfgs"``, ``"cg"``, ``"powell"``,
            ``"nm"``. Where it fails the others are tried, and the record says so.
        maxiter : int
            Most iterations of one attempt.
        cov_type : {"nonrobust"}
            Covariance of the fixed effects.
        use_t : bool, optional
            t instead of normal distributions, with ``df_resid`` degrees of freedom.
        disp : bool
            Print the record of the fit.
        callback : callable, optional
            Called with theta after every iteration.
        alpha : float
            Default of the result's intervals and summaries: their level is 1 - alpha.

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
        check_option("fit", kwargs, allowed=("full_output", "retall", "skip_hessian", "gtol"))
        method = check_method(method)
        reml, maxiter = check_flag("reml", reml), check_maxiter(maxiter)
        use_t = None if use_t is None else check_flag("use_t", use_t)
        alpha = check_alpha(alpha)
        if cov_type != "nonrobust":
            raise ValueError(f"cov_type={cov_type!r} is not available for mixed models yet; use 'nonrobust'.")
        start = start_theta(start_params, self.k_fixed, self.effects.n_params)
        with one_blas_thread():
            objective = self.objective(reml)
            record = estimate_theta(
                objective, self.effects, method=method, start=start, maxiter=maxiter,
                callback=callback,
            )  # fmt: skip
            state = objective.standard_state(record.theta_standard)
            record = replace(record, seconds=time.perf_counter() - began)
            if disp:
                print(
                    f"{'converged' if record.converged else 'NOT CONVERGED: ' + record.reason}: "
                    f"deviance {record.value:.6f}, {record.evaluations} evaluations, "
                    f"{record.seconds:.2f} s"
                )
            if not record.converged:
                warnings.warn(
                    f"The fit did not converge: {record.reason}. Do not use these estimates; see "
                    "result.record.attempts for what was tried.",
                    ConvergenceWarning,
                    stacklevel=users_level(),
                )
            result = MixedLMResults(self, record, state, reml=reml, use_t=use_t, start_params=start_params, alpha=alpha)
        return MixedLMResultsWrapper(result)

    def _fit_zeros(self, keep_index=None, start_params=None, **kwargs):
        """Fit with the other coefficients held at zero (statsmodels' method of this name)."""
        result = super()._fit_zeros(keep_index, start_params, **kwargs)
        result._results.adopt(result.results_constrained)
        return result

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
            raise ValueError("params has elements that are not finite.")
        if not params[p] > 0:
            raise ValueError(f"sigma^2 must be positive, not {params[p]:g}.")
        return params[:p], params[p], params[p + 1 :]

    def loglike(self, params, reml=False):
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
        """
        beta, sigma2, theta = self._unpack(params)
        return loglike(self.objective(reml), beta, sigma2, theta)

    def score(self, params, reml=False):
        """Gradient of `loglike`; shape (p + 1 + k,)."""
        beta, sigma2, theta = self._unpack(params)
        return score(self.objective(reml), beta, sigma2, theta)

    def hessian(self, params, reml=False):
        """Hessian of `loglike`, by central differences of the exact `score`."""
        beta, sigma2, theta = self._unpack(params)
        return hessian(self.objective(reml), beta, sigma2, theta)

    def predict(self, params, exog=None):
        """Population values X beta (without offset) for an array of columns.

        Parameters
        ----------
        params : array_like, shape (p,)
        exog : array_like, shape (m, p), optional
            Default the model's own.

        Returns
        -------
        ndarray, shape (m,)
        """
        exog = self.exog if exog is None else np.asarray(exog, dtype=float)
        return exog @ np.asarray(params, dtype=float)[: exog.shape[-1]]
