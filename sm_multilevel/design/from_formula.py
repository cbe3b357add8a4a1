"""From a formula and a frame to a frozen design.

Everything that can be wrong with the data is found here, before any number is computed:
names, lengths, missing and infinite values, levels, weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import patsy
from patsy.eval import EvalEnvironment

from sm_multilevel._compat import IndexingError
from sm_multilevel.design.frame import Expression, RowSource, as_frame, missing_mask
from sm_multilevel.design.matrices import build_matrices, environment
from sm_multilevel.design.random_part import random_recipes
from sm_multilevel.design.recipe import Recipe, without_intercept
from sm_multilevel.design.response import ResponseReader, log_exposure, response_columns
from sm_multilevel.design.terms import FormulaError, parse
from sm_multilevel.design.values import check_finite, numeric, row_vectors
from sm_multilevel.families.response import ResponseData
from sm_multilevel.grouping import cross, factorize
from sm_multilevel.random_effects import RandomTerm

__all__ = ["Design", "compact_component", "design_from_formula"]


@dataclass(frozen=True, eq=False)
class Design:
    """A model's data, checked and complete; nothing in it is missing or infinite.

    Attributes
    ----------
    endog : ndarray, shape (n,)
    exog : ndarray, shape (n, p)
    endog_name : str
    exog_names : tuple of str
    terms : tuple of RandomTerm
    offset, var_weights, freq_weights : ndarray, shape (n,), or None
    index : Index or None
        Labels of the rows kept; None where only arrays were given.
    recipe : Recipe or None
        None for a model from arrays.
    n_dropped : int
        Rows left out because of missing values.
    outer : tuple of (ndarray, Index), or None
        Codes and levels of ``groups=``, where there are variance components within them.
    n_trials : ndarray, shape (n,), or None
        Binomial numbers of trials; None where every row is a single trial.
    categories : tuple or None
        Labels of an ordered response that occur, in order; (failure, success) of a binary
        one that came as labels.
    exposure : ndarray, shape (n,), or None
        Its logarithm is in `offset` already.
    """

    endog: np.ndarray
    exog: np.ndarray
    endog_name: str
    exog_names: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    offset: np.ndarray | None
    var_weights: np.ndarray | None
    freq_weights: np.ndarray | None
    index: pd.Index | None
    recipe: Recipe | None
    n_dropped: int
    outer: tuple[np.ndarray, pd.Index] | None = None
    n_trials: np.ndarray | None = None
    categories: tuple | None = None
    exposure: np.ndarray | None = None

    def response_data(self) -> ResponseData:
        """What a response family needs of the data."""
        return ResponseData(self.endog, self.n_trials, self.var_weights, self.freq_weights, self.categories)


def design_from_formula(
    formula: str,
    data,
    env: EvalEnvironment,
    *,
    groups=None,
    re_formula=None,
    vc_formula=None,
    covariance="unstructured",
    offset=None,
    var_weights=None,
    freq_weights=None,
    subset=None,
    missing: str = "drop",
    exposure=None,
    n_trials=None,
    reader: ResponseReader | None = None,
) -> tuple[Design, pd.DataFrame]:
    """Evaluate a formula on data.

    Parameters
    ----------
    formula : str
        With lme4's bars, or without them and `groups`.
    data : DataFrame, polars frame or dict
    env : patsy.EvalEnvironment
        The user's namespace.
    groups, re_formula, vc_formula, covariance, offset, var_weights, freq_weights, subset, missing
        As in `MixedLM.from_formula`.
    exposure, n_trials : str or array_like, optional
        Exposure, whose logarithm is added to the offset, and binomial numbers of trials.
    reader : ResponseReader, optional
        How the response is read, default as one column of numbers. Where its thresholds
        take the intercept's place, the fixed part is coded with an intercept, whether the
        formula has one or not, which is then left out.

    Returns
    -------
    design : Design
    frame : DataFrame
        The rows used, all columns.

    Raises
    ------
    FormulaError, ValueError
        Naming the column, level or option at fault.
    """
    spec = parse(formula)
    if not spec.response:
        raise FormulaError(f"{formula!r} has no response. Write 'y ~ x + (1 | g)'.")
    if missing not in ("drop", "raise", "none"):
        raise ValueError(f"missing={missing!r} is not known. Choose 'drop' or 'raise'.")
    full = as_frame(data)
    if len(full) == 0:
        raise ValueError("The data have no rows.")
    frame, positions = _subset(full, subset)
    source = RowSource(frame, positions, full.index, environment(env))

    recipes = random_recipes(spec, source, groups, re_formula, vc_formula, covariance)
    offsets = tuple(source.expression(code, "offset") for code in spec.offsets)
    if isinstance(offset, str) and offset not in frame.columns:  # an expression, to be evaluated on new data too
        offsets, offset = (*offsets, source.expression(offset, "offset")), None
    reader = ResponseReader() if reader is None else reader
    response = f"The response {spec.response!r}"
    lhs = reader.screen(response_columns(spec.response, source, reader), response)
    vectors = {}
    for k, expression in enumerate(offsets):
        name = f"offset({expression.code})"
        values = numeric(expression.values(frame, source.view), name)
        vectors[name if name not in vectors else f"{name}, number {k + 1}"] = values  # the same twice counts twice
    vectors |= row_vectors(
        source, offset=offset, exposure=exposure, n_trials=n_trials, var_weights=var_weights, freq_weights=freq_weights
    )
    parts = [list(r.given) if r.given else [p.values(frame, source.view) for p in r.parts] for r in recipes]

    gone = np.zeros(len(frame), dtype=bool)
    culprits = []
    grouping = [(f"group {r.group!r}", v) for r, p in zip(recipes, parts, strict=True) for v in p]
    responses = [(f"the response {spec.response!r}", values) for values in lhs]
    for name, values in [*responses, *vectors.items(), *grouping]:
        mask = missing_mask(values)
        if mask.all():
            start = name[0].upper() + name[1:] if " " in name else name
            raise ValueError(f"{start} is missing (NaN) in every row.")
        if mask.any():
            gone |= mask
            culprits.append(name)
    texts = [(_with_intercept(spec.fixed) if reader.drop_intercept else spec.fixed, "fixed part")]
    texts += [(r.text, f"random part of {r.group!r}") for r in recipes]
    formulas, matrices, keep, factors = build_matrices(texts, source, gone)
    culprits += factors
    if not keep.any():
        raise ValueError(f"No row is complete: every row has a missing value in {', '.join(dict.fromkeys(culprits))}.")
    if not keep.all() and missing != "drop":
        raise ValueError(
            f"{int((~keep).sum())} of {len(keep)} rows have missing values, in {', '.join(dict.fromkeys(culprits))}. "
            "Drop or fill them, or use missing='drop'."
        )

    def kept(values):
        return values if keep.all() else values[keep]

    terms = []
    for recipe, built, matrix, values in zip(recipes, formulas[1:], matrices[1:], parts, strict=True):
        codes, levels = cross([kept(v) for v in values], f"group {recipe.group!r}")
        fnames = built.columns
        check_finite(matrix, fnames, f"random part of {recipe.group!r}")
        if matrix.shape[1] == 0:
            raise FormulaError(f"({recipe.text} | {recipe.group}) has no columns. Write (1 | {recipe.group}).")
        pieces = [[j] for j in range(len(fnames))] if recipe.split else [list(range(len(fnames)))]
        for piece in pieces:
            columns = matrix if len(piece) == matrix.shape[1] else matrix[:, piece]
            names = tuple(fnames[j] for j in piece)
            term = RandomTerm(
                recipe.group, codes, levels, columns, names, recipe.covariance, recipe.name, recipe.is_component
            )
            terms.append(compact_component(term))
        if len(terms[-1].columns) < len(names):  # became a factor
            recipes[recipes.index(recipe)] = replace(recipe, cells=levels)
    check_finite(matrices[0], formulas[0].columns, "fixed part")
    exog, exog_names = matrices[0], formulas[0].columns
    if reader.drop_intercept:
        exog, exog_names = without_intercept(exog, exog_names)
    vectors = {name: kept(values) for name, values in vectors.items()}
    index = frame.index if keep.all() else frame.index[keep]
    total_offset = None
    for name, values in vectors.items():
        if name.startswith("offset"):
            total_offset = values + (0.0 if total_offset is None else total_offset)
    if exposure is not None:
        logs = log_exposure(vectors["exposure"], index)
        total_offset = logs if total_offset is None else total_offset + logs
    lhs = [kept(values) for values in lhs]
    reading = reader.read(lhs, response, index, reader.trials(lhs, vectors))
    offset_name = offset
    if offset is not None and not isinstance(offset, str):
        offset_name = str(getattr(offset, "name", None) or "offset")
    # The arrays of the fit are not carried along for new data.
    random = tuple((replace(r, given=None), f) for r, f in zip(recipes, formulas[1:], strict=True))
    recipe = Recipe(
        source.expression(spec.response, "response"),
        formulas[0],
        random,
        offsets,
        offset_name,
        exposure=_named(exposure, source, "exposure"),
        n_trials=source.expression(n_trials, "n_trials") if isinstance(n_trials, str) else None,
        drop_intercept=reader.drop_intercept,
    )
    design = Design(
        endog=reading.endog,
        exog=exog,
        endog_name=spec.response,
        exog_names=exog_names,
        terms=tuple(terms),
        offset=total_offset,
        var_weights=vectors.get("var_weights"),
        freq_weights=vectors.get("freq_weights"),
        index=index,
        recipe=recipe,
        n_dropped=int((~keep).sum()),
        outer=cross([kept(source.vector(groups, "groups"))], "groups") if vc_formula else None,
        n_trials=reading.n_trials,
        categories=reading.categories,
        exposure=vectors.get("exposure"),
    )
    return design, frame


def _subset(full, subset):
    if subset is None:
        return full, None
    if isinstance(subset, str):
        raise ValueError(f"subset={subset!r}: give a boolean mask or row labels, for example df['x'] > 0.")
    if type(subset).__module__.split(".")[0] == "polars":
        subset = subset.to_numpy()
    try:
        positions = pd.Series(np.arange(len(full)), index=full.index).loc[subset].to_numpy()
    except (KeyError, IndexError, ValueError, IndexingError) as error:
        said = " ".join(str(error).split())[:150]
        if isinstance(error, KeyError) and np.ndim(subset) == 1:
            strange = [v for v in np.asarray(subset).tolist() if v not in full.index]
            said = f"no row is labelled {', '.join(map(repr, strange[:3]))}"
        raise ValueError(
            f"subset does not fit the data ({said}). Give a boolean mask, one entry a row, or labels of the index."
        ) from error
    if positions.size == 0:
        raise ValueError("subset leaves no rows.")
    return full.iloc[positions], positions


def _with_intercept(text):
    """A right-hand side that codes factors with an intercept; the last constant decides, as in patsy."""
    try:
        has = patsy.INTERCEPT in patsy.ModelDesc.from_formula(f"~ {text}").rhs_termlist
    except patsy.PatsyError:  # explained where the matrices are built
        has = True
    return text if has else f"{text} + 1"


def _named(value, source, what):
    """The expression for new data of an option: its name, or the column with the name of an array."""
    if value is None:
        return None
    if isinstance(value, str):
        return source.expression(value, what)
    name = str(getattr(value, "name", None) or what)
    return Expression(name, source.env, what, [name])


def compact_component(term: RandomTerm) -> RandomTerm:
    """A variance component of indicator columns as a grouping factor of its own.

    Columns of which each row has at most one are a factor crossed with the group; as such
    they cost one column instead of a dense block a group.
    """
    if not term.is_component or term.q == 1:
        return term
    used = term.exog != 0
    if used.sum(axis=1).max(initial=0) > 1:
        return term
    column = used.argmax(axis=1)
    codes, cells = factorize(term.codes * term.q + column)
    value = term.exog[np.arange(len(column)), column][:, None]
    group, which = np.divmod(np.asarray(cells), term.q)
    names = [str(name) for name in np.asarray(term.columns)[which]]
    if term.n_levels > 1:
        names = [f"{a}:{b}" for a, b in zip(names, np.asarray(term.levels)[group], strict=True)]
    return replace(term, group=term.name, codes=codes, levels=pd.Index(names), exog=value, columns=("Intercept",))
