"""What all models of the package share: data and formulas in, a design and its random effects out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd
from patsy.design_info import DesignMatrix
from patsy.eval import EvalEnvironment
from statsmodels.tools.sm_exceptions import ConvergenceWarning, ValueWarning

from sm_multilevel.checks import (
    check_option,
    check_random_terms,
    check_response,
    independent_columns,
    unknown_option,
    users_level,
)
from sm_multilevel.design.from_arrays import design_from_arrays
from sm_multilevel.design.from_formula import design_from_formula
from sm_multilevel.design.response import Reading, ResponseReader
from sm_multilevel.design.tool_matrix import plain_formula, take_apart
from sm_multilevel.design.values import check_weights
from sm_multilevel.host import Frame, LikelihoodModel
from sm_multilevel.postestimation.prediction.predict import fixed_columns
from sm_multilevel.random_effects import RandomEffects, constant_column

__all__ = ["Covariance", "Model", "MultilevelModel"]

Model = TypeVar("Model", bound="MultilevelModel")
# One structure for all random terms, one a term, or one a grouping factor.
Covariance: TypeAlias = "str | Sequence[str] | Mapping[str, str]"

# statsmodels' own machinery passes these; they have no meaning here.
_HOSTS = ("missing_idx", "model_spec", "formula", "use_sqrt", "use_sparse")


class MultilevelModel(LikelihoodModel):
    """What all models of the package share: a design and its random effects.

    Not used directly.

    Notes
    -----
    A subclass says what its response is and which options it has by

    * `_options`: options of one value a row beyond `offset` and weights, out of
      ``("exposure", "n_trials")``;
    * `_read_options`: its other options, such as a family, and how the response is read;
    * `_residual`: the parameter that a random effect for every row would be mistaken for,
      "" if there is none. It may be a property: the options are attributes by then.
    """

    _options: tuple[str, ...] = ()
    _residual = "residual variance"
    _formula_max_endog = 1
    # As the user wrote it. Filled by `from_formula`; a model from arrays has none.
    full_formula: str | None = None
    source: pd.DataFrame | None = None
    fit: Callable[..., Any]  # of each subclass
    _settings: dict = {}

    def __init__(
        self,
        endog: Any,
        exog: Any = None,
        groups: Any = None,
        exog_re: Any = None,
        exog_vc: Any = None,
        *,
        random: Any = None,
        covariance: Covariance = "unstructured",
        offset: Any = None,
        var_weights: Any = None,
        freq_weights: Any = None,
        missing: str = "none",
        hasconst: bool | None = None,
        design: Any = None,
        **kwargs: Any,
    ) -> None:
        for name in _HOSTS:
            kwargs.pop(name, None)
        self._own, self._reader = self._read_options(kwargs)
        for name, value in self._own.items():
            setattr(self, name, value)
        plain = self._reader.kind == "numeric" and not self._options
        reading = None if plain else kwargs.pop("reading", None)
        per_row = {name: kwargs.pop(name, None) for name in self._options}
        if kwargs:
            raise TypeError(unknown_option(type(self).__name__, next(iter(kwargs)), [*per_row, *self._own]))
        if design is None:
            design = design_from_arrays(
                endog, exog, groups, exog_re, exog_vc, random=random, covariance=covariance,
                offset=offset, var_weights=var_weights, freq_weights=freq_weights, missing=missing,
                reader=self._reader, reading=reading, **per_row,
            )  # fmt: skip
        check_weights(design.var_weights, "var_weights")
        check_weights(design.freq_weights, "freq_weights", integer=True)
        self._check_design(design)
        keep = self._independent(design)
        self.all_exog_names = list(design.exog_names)
        self.kept_columns = np.asarray(keep, dtype=int)
        if len(keep) < design.exog.shape[1]:
            dropped = [n for j, n in enumerate(design.exog_names) if j not in set(keep)]
            before = "the columns before them already contain"
            if self._reader.drop_intercept:
                before = "the thresholds (they take the place of the constant) or columns before already contain"
            warnings.warn(
                f"The fixed effects are not of full rank; dropped {', '.join(dropped)}, which {before}.",
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
        self.effects = RandomEffects(design.terms, self._mean_weight(design), design.freq_weights)
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
        self._init_keys = ["random", "offset", "var_weights", "freq_weights", *self._own]
        self._data_attr.extend(["design", "effects", "random", "offset", "var_weights", "freq_weights"])
        self._data_attr.extend(["data.frame", "source"])
        if not plain:
            # For statsmodels, which makes models from `endog` as it is here: nothing is to be read again,
            # and the exposure is in the offset.
            self.reading = Reading(design.endog, design.n_trials, design.categories)
            self.n_trials, self.exposure = design.n_trials, design.exposure
            self._init_keys.append("reading")
            self._data_attr.extend(["reading", "n_trials", "exposure"])

    @classmethod
    def _read_options(cls, kwargs: dict) -> tuple[dict, ResponseReader]:
        """Take the model's own options out of the keywords, and say how the response is read.

        Parameters
        ----------
        kwargs : dict
            Keywords of `__init__`, `from_formula` or `update`. What is taken must be removed.

        Returns
        -------
        own : dict
            The options as keywords of `__init__`: given these again, the method must return
            the same. They become attributes before anything else happens.
        reader : ResponseReader
        """
        return {}, ResponseReader()

    def _mean_weight(self, design) -> float:
        """Mean precision weight, to which the sizes of random effects are relative."""
        return 1.0 if design.var_weights is None else float(design.var_weights.mean())

    def _check_design(self, design) -> None:
        """Raise for a response, or random terms, that the model cannot have."""
        self._check_response(design)
        single = self._reader.kind != "numeric" and design.n_trials is None
        check_random_terms(design, self._residual, single)

    def _check_response(self, design) -> None:
        """Raise for a response without variation."""
        kind = self._reader.kind
        refused = None if self._residual or kind == "ordered" else (0.0,) if kind == "numeric" else (0.0, 1.0)
        check_response(design.endog, design.endog_name, refused)

    def _independent(self, design) -> list[int]:
        """Columns of the fixed part that those before them, or thresholds, do not contain."""
        if not self._reader.drop_intercept:
            return independent_columns(design.exog, design.exog_names)
        whole = np.column_stack([np.ones(len(design.exog)), design.exog])
        return [j - 1 for j in independent_columns(whole, ["thresholds", *design.exog_names]) if j]

    def _report(self, record, disp, notes=()) -> None:
        """Print the record of a fit if that is asked for, and warn of what is wrong with it."""
        if disp:
            print(
                f"{'converged' if record.converged else 'NOT CONVERGED: ' + record.reason}: "
                f"deviance {record.value:.6f}, {record.evaluations} evaluations, {record.seconds:.2f} s"
            )
        texts = list(notes)
        if not record.converged:
            texts.insert(
                0,
                f"The fit did not converge: {record.reason}. Do not use these estimates; see "
                "result.record.attempts for what was tried.",
            )
        for text in texts:
            warnings.warn(text, ConvergenceWarning, stacklevel=users_level())

    def _fit_zeros(self, keep_index=None, start_params=None, **kwargs):
        """Fit with the other coefficients held at zero (statsmodels' method of this name)."""
        result = super()._fit_zeros(keep_index, start_params, **kwargs)
        result._results.adopt(result.results_constrained)
        return result

    def require_data(self, what: str) -> None:
        """Raise if a result's remove_data() has dropped the rows."""
        if self.design is None:
            raise ValueError(f"{what} needs the data of the fit, and remove_data() has dropped them.")

    def forget_arrays(self) -> None:
        """Drop options that are arrays, one value a row; names of columns stay."""
        columns = getattr(getattr(self.data, "frame", None), "columns", ())

        def by_name(value):
            return value is None or isinstance(value, str) or all(isinstance(v, str) and v in columns for v in value)

        for option in ("groups", "offset", "var_weights", "freq_weights", *self._options):
            if not by_name(self._settings.get(option)):
                self._settings = dict(self._settings, **{option: None})

    @property
    def dropped_exog(self) -> list[str]:
        """Columns of the fixed part that were dropped because others contain them."""
        kept = set(self.kept_columns.tolist())
        return [n for j, n in enumerate(self.all_exog_names) if j not in kept]

    @classmethod
    def from_formula(
        cls: type[Model],
        formula: str,
        data: Frame,
        groups: Any = None,
        re_formula: str | dict[str, str] | None = None,
        vc_formula: dict[str, str] | None = None,
        subset: Any = None,
        *,
        covariance: Covariance = "unstructured",
        offset: Any = None,
        var_weights: Any = None,
        freq_weights: Any = None,
        missing: str = "drop",
        eval_env: int | EvalEnvironment | None = None,
        drop_cols: Sequence[str] | None = None,
        use_sqrt: bool = True,
        **kwargs: Any,
    ) -> Model:
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
        exposure : str or array_like, optional
            Of models with a log link: its logarithm is added to the offset.
        n_trials : str or array_like, optional
            Of binomial models: the number of trials of each row. The response is then the
            number of successes, or their proportion if it has values between 0 and 1.
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
        own, reader = cls._read_options(kwargs)
        per_row = {name: kwargs.pop(name, None) for name in cls._options}
        for name in kwargs:  # before a response is read that the option may be about
            if name not in (*_HOSTS, "hasconst"):
                raise TypeError(unknown_option(cls.__name__, name, [*per_row, *own]))
        settings = {
            "groups": groups, "re_formula": re_formula, "vc_formula": vc_formula, "covariance": covariance,
            "offset": offset, "var_weights": var_weights, "freq_weights": freq_weights, "missing": missing,
            **per_row,
        }  # fmt: skip
        design, frame = design_from_formula(formula, data, env, subset=subset, reader=reader, **settings)
        model = cls(None, None, design=design, **own, **kwargs)
        model.full_formula = formula
        model._settings = {name: _cut(value, data, frame, subset) for name, value in settings.items()}
        model._remember(frame)
        return model

    def _remember(self, frame: pd.DataFrame | None) -> None:
        """Keep the user's data: all rows as `source`, and those of the fit where statsmodels has them."""
        self.source = frame
        kept = self.design.kept
        self.data.frame = frame if frame is None or kept is None else frame[kept]

    def with_response(self: Model, endog: Any) -> Model:
        """The same model with another response; shape (n,) for the rows used.

        Numbers are taken as those of ``model.endog``: values, proportions of the trials, or
        numbers 0 .. K-1 of categories. A response of labels may be given as labels.
        """
        self.require_data("refit()")
        old = self.design
        rows = range(len(old.endog)) if old.index is None else old.index
        reading = self._reader.again(endog, rows, old.n_trials, old.categories)
        design = replace(old, endog=reading.endog, n_trials=reading.n_trials, categories=reading.categories)
        return self.with_design(design)

    def on_design(self, design):
        """A model with this one's options on another design, whatever its columns and random terms."""
        return type(self)(None, None, design=design, **self._own)

    def with_design(self: Model, design: Any) -> Model:
        """The same model on other rows; their columns are those that the fit used."""
        model = self.on_design(design)
        # The design has lost the columns that were dropped; new data have them.
        model.all_exog_names, model.kept_columns = self.all_exog_names, self.kept_columns
        model.full_formula, model._settings = self.full_formula, self._settings
        model.source, model.data.frame = self.source, getattr(self.data, "frame", None)
        return model

    def updated(self: Model, formula: str, data: Frame | None, changes: dict[str, Any], env: Any) -> Model:
        """A model with another formula or options on this model's data."""
        changes = {**self._own, **changes}
        own, reader = self._read_options(changes)
        check_option("update", changes, allowed=tuple(self._settings))
        settings = dict(self._settings, **changes)
        env = env.with_outer_namespace(self.recipe.namespace)
        if data is None:
            self.require_data("update() without new data")
            data = self.source
        design, frame = design_from_formula(formula, data, env, reader=reader, **settings)
        model = type(self)(None, None, design=design, **own)
        model.full_formula, model._settings = formula, settings
        model._remember(frame)
        return model

    @property
    def formula(self) -> str | None:
        """The response and the fixed part, as patsy and the tools around statsmodels read them; None without a formula.

        As in statsmodels' MixedLM, random terms are not in it. Levels and knots are written out where patsy would find
        others in other data. Offsets and the logarithm of an exposure are one last term, ``I(...)``, whose coefficient
        `predict` knows to be 1. `full_formula` is what the user wrote.
        """
        if self.full_formula is None or self.recipe is None:
            return None
        return plain_formula(self.recipe, getattr(getattr(self.data, "frame", None), "columns", ()))

    def _population_columns(self, exog: Any) -> tuple[np.ndarray, Any]:
        """Columns of the fixed part of an array, and the offset where patsy has built it from `formula`."""
        if exog is None:
            return self.exog, 0.0
        if self.recipe is not None and isinstance(exog, DesignMatrix):
            self.require_data("predict() with a matrix built from model.formula")
            exog, offset = take_apart(exog, self.recipe, self.data.frame)
            return exog[:, self.kept_columns], offset
        return fixed_columns(self, exog)[0], 0.0

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {name: len(levels) for name, levels in zip(self.group_names, self.levels, strict=True)}

    def __repr__(self) -> str:
        groups = ", ".join(f"{name}: {count}" for name, count in self.ngroups.items())
        return f"<{type(self).__name__}: {self.full_formula or self.endog_names}; groups {groups}>"


def _cut(value, data, frame, subset):
    """An option of one value a row as a Series on the rows of `frame`; others as they are."""
    if subset is None or not isinstance(value, np.ndarray) or value.ndim != 1 or len(value) != len(data):
        return value
    rows = pd.Series(np.arange(len(data)), index=data.index).loc[subset].to_numpy()
    return pd.Series(value[rows], index=frame.index)
