"""From a formula and a frame to a frozen design.

Everything that can be wrong with the data is found here, before any number is computed:
names, lengths, missing and infinite values, levels, weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import patsy
from patsy.eval import EvalEnvironment

from sm_multilevel._compat import IndexingError
from sm_multilevel.design.frame import Expression, RowSource, as_frame
from sm_multilevel.design.matrices import build_matrices, environment
from sm_multilevel.design.random_part import random_recipes
from sm_multilevel.design.recipe import Recipe, without_intercept
from sm_multilevel.design.record import Design, compact_component
from sm_multilevel.design.response import ResponseReader, response_columns
from sm_multilevel.design.rows import missing_rows, refuse_incomplete, total_offset
from sm_multilevel.design.terms import FormulaError, parse
from sm_multilevel.design.values import check_finite, numeric, row_vectors
from sm_multilevel.grouping import cross
from sm_multilevel.random_effects import RandomTerm

__all__ = ["design_from_formula"]


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
        The rows of `subset`, incomplete ones too, all columns.

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
        raise ValueError("The data have no rows. Check the file or the selection that they come from.")
    frame, positions = _subset(full, subset)
    source = RowSource(frame, positions, full.index, environment(env))

    recipes = random_recipes(spec, source, groups, re_formula, vc_formula, covariance)
    offsets = tuple(source.expression(code, "offset") for code in spec.offsets)
    if isinstance(offset, str) and offset not in frame.columns:  # an expression, to be evaluated on new data too
        offsets, offset = (*offsets, source.expression(offset, "offset")), None
    reader = ResponseReader() if reader is None else reader
    response = f"The response {spec.response!r}"
    lhs = reader.screen(response_columns(spec.response, source, reader), response)
    vectors = _offset_vectors(offsets, source) | row_vectors(
        source, offset=offset, exposure=exposure, n_trials=n_trials, var_weights=var_weights, freq_weights=freq_weights
    )
    parts = [list(r.given) if r.given else [p.values(frame, source.view) for p in r.parts] for r in recipes]

    grouping = [(f"group {r.group!r}", v) for r, p in zip(recipes, parts, strict=True) for v in p]
    responses = [(f"the response {spec.response!r}", values) for values in lhs]
    gone, culprits = missing_rows([*responses, *vectors.items(), *grouping], len(frame))
    texts = [(_with_intercept(spec.fixed) if reader.drop_intercept else spec.fixed, "fixed part")]
    texts += [(r.text, f"random part of {r.group!r}") for r in recipes]
    formulas, matrices, keep, factors = build_matrices(texts, source, gone)
    refuse_incomplete(keep, culprits + factors, missing == "drop")

    def kept(values):
        return values if keep.all() else values[keep]

    terms, random = _random_terms(recipes, formulas[1:], matrices[1:], [[kept(v) for v in p] for p in parts])
    check_finite(matrices[0], formulas[0].columns, "fixed part")
    exog, exog_names = matrices[0], formulas[0].columns
    if reader.drop_intercept:
        exog, exog_names = without_intercept(exog, exog_names)
    vectors = {name: kept(values) for name, values in vectors.items()}
    index = frame.index if keep.all() else frame.index[keep]
    lhs = [kept(values) for values in lhs]
    reading = reader.read(lhs, response, index, reader.trials(lhs, vectors))
    offset_name = offset
    if offset is not None and not isinstance(offset, str):
        offset_name = str(getattr(offset, "name", None) or "offset")
    recipe = Recipe(
        source.expression(spec.response, "response"),
        formulas[0],
        tuple(zip(random, formulas[1:], strict=True)),
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
        terms=terms,
        offset=total_offset(vectors, index),
        var_weights=vectors.get("var_weights"),
        freq_weights=vectors.get("freq_weights"),
        index=index,
        recipe=recipe,
        n_dropped=int((~keep).sum()),
        outer=cross([kept(source.vector(groups, "groups"))], "groups") if vc_formula else None,
        n_trials=reading.n_trials,
        categories=reading.categories,
        exposure=vectors.get("exposure"),
        kept=None if keep.all() else keep,
    )
    return design, frame


def _offset_vectors(offsets, source) -> dict[str, np.ndarray]:
    """Values of the formula's offsets by name; the same one twice counts twice."""
    out: dict[str, np.ndarray] = {}
    for k, expression in enumerate(offsets):
        name = f"offset({expression.code})"
        values = numeric(expression.values(source.frame, source.view), name)
        out[name if name not in out else f"{name}, number {k + 1}"] = values
    return out


def _random_terms(recipes, formulas, matrices, parts):
    """The random terms on complete rows, and the recipes of the same for new data."""
    terms, again = [], []
    for recipe, built, matrix, values in zip(recipes, formulas, matrices, parts, strict=True):
        codes, levels = cross(values, f"group {recipe.group!r}")
        names = built.columns
        check_finite(matrix, names, f"random part of {recipe.group!r}")
        if not names:
            raise FormulaError(f"({recipe.text} | {recipe.group}) has no columns. Write (1 | {recipe.group}).")
        pieces = [[j] for j in range(len(names))] if recipe.split else [list(range(len(names)))]
        for piece in pieces:
            columns = matrix if len(piece) == len(names) else matrix[:, piece]
            mine = tuple(names[j] for j in piece)
            whole = RandomTerm(
                recipe.group, codes, levels, columns, mine, recipe.covariance, recipe.name, recipe.is_component
            )
            terms.append(compact_component(whole))
        became_factor = terms[-1].q < whole.q
        # The arrays of the fit are not carried along.
        again.append(replace(recipe, given=None, cells=levels if became_factor else None))
    return tuple(terms), again


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
        raise ValueError("subset leaves no rows. Check its condition, and the type of the column in it.")
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
