"""What tools around statsmodels read of a formula, and the design matrices that they build from it.

Tools such as marginaleffects read ``model.formula`` and a frame, let patsy build the matrix of other rows from
the text, and hand it to ``model.predict(params, matrix)``. patsy then learns from those rows what the fit has
learnt from its data: levels and their order, knots of splines, means to centre at. So the text says what was
learnt, and a matrix that may have learnt something else is refused.
"""

from __future__ import annotations

import ast

import numpy as np
import pandas as pd
import patsy

from sm_multilevel._compat import spline_knots
from sm_multilevel.design.matrices import R_NAMES, MatrixFormula
from sm_multilevel.design.recipe import Recipe, without_intercept
from sm_multilevel.design.terms import FormulaError

__all__ = ["plain_formula", "take_apart"]

_ROWS = 1000  # at most so many rows of the fit are compared
_SPLINE = ("x", "df", "knots", "degree", "include_intercept", "lower_bound", "upper_bound")  # arguments of patsy.bs


def plain_formula(recipe: Recipe, columns) -> str:
    """The response and the fixed part as patsy reads them from scratch.

    Parameters
    ----------
    recipe : Recipe
    columns : collection of str
        Of the data. An offset that is none of them is left out.

    Returns
    -------
    str
        Levels in an order that patsy would not find, and knots, are written out; offsets are one last term, ``I(...)``.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> df = cbpp.load_pandas().data
    >>> smf.melogit("incidence ~ period + (1 | herd)", df, n_trials="size").formula
    'incidence ~ C(period, levels=[1, 2, 3, 4])'
    """
    infos = recipe.fixed.info.factor_infos
    codes = {factor: _explicit(factor.code, found) for factor, found in infos.items()}
    description = patsy.ModelDesc.from_formula(f"~ {recipe.fixed.text}")
    text = recipe.fixed.text
    if any(code != factor.code for factor, code in codes.items()):
        terms = [":".join(codes[f] for f in t.factors) or "1" for t in description.rhs_termlist]
        text = " + ".join(terms if terms[0] == "1" else ["0", *terms]).removeprefix("1 + ")
    offset = _offset_text(recipe, columns)
    return f"{recipe.response.code} ~ {text}{f' + {offset}' if offset else ''}"


def take_apart(matrix, recipe: Recipe, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the fixed part, and the offset, of a matrix that patsy has built from `plain_formula`.

    Parameters
    ----------
    matrix : patsy.DesignMatrix, shape (m, k)
        With its ``design_info``, or a part of one, which has none.
    recipe : Recipe
        Of the model.
    frame : DataFrame
        The data of the fit. With a ``design_info``, rows of it are evaluated both ways.

    Returns
    -------
    exog : ndarray, shape (m, p)
        Columns dropped in the fit included; without the intercept whose place thresholds take.
    offset : ndarray, shape (m,)

    Raises
    ------
    FormulaError
        If it has not the model's columns, or may have learnt them from other rows than the fit.
    """
    names = list(recipe.fixed.columns)
    offset = _offset_text(recipe, frame.columns)
    if offset is None and _offsets(recipe):
        raise FormulaError(
            "The model's offset or exposure is no column of the data, so that a matrix built from model.formula lacks "
            "it, and predictions would leave it out. Put it into a column of the data, and give its name."
        )
    if offset is not None:
        names.append(offset)
    infos = recipe.fixed.info.factor_infos
    learnt = [f.code for f, found in infos.items() if _learns(found) and _spline(f.code, found) is None]
    if learnt:
        raise FormulaError(
            f"{learnt[0]!r} learns from the data, and a matrix of other rows has learnt it anew: predictions would be "
            "wrong. Use predict() or get_prediction() of the result with a DataFrame; or fit with a function that "
            "learns nothing: (x - 3.5) instead of center(x)."
        )
    values = np.asarray(matrix, dtype=float)
    if values.ndim != 2 or values.shape[1] != len(names):
        width = values.shape[-1] if values.ndim else 0
        raise FormulaError(
            f"The matrix has {width} columns; those of the model are {len(names)}: {', '.join(names)}. Build it with "
            "patsy from model.formula, from rows that have all levels of the factors."
        )
    _check_codes(values, recipe, names)
    info = getattr(matrix, "design_info", None)
    if info is not None:
        _check_equal(info, recipe, frame, names)
    exog = values[:, : len(recipe.fixed.columns)]
    if recipe.drop_intercept:
        exog = without_intercept(exog, recipe.fixed.columns)[0]
    return exog, np.zeros(len(values)) if offset is None else values[:, -1]


# -- what was learnt, as text ---------------------------------------------------------------------


def _explicit(code, found) -> str:
    """A factor's code with what patsy could not learn again from other rows."""
    tree = ast.parse(code, mode="eval")
    space = found.state["eval_env"].namespace
    tree.body = _Spelled(space).visit(tree.body)
    plain = ast.unparse(ast.fix_missing_locations(tree))
    if found.type == "categorical" and not _is_natural(found.categories):
        call = tree.body
        if not _is_call(call, "C"):
            call = ast.Call(ast.Name("C", ast.Load()), [call], [])
        if len(call.args) < 3 and not any(k.arg == "levels" for k in call.keywords):
            levels = [level.item() if isinstance(level, np.generic) else level for level in found.categories]
            if all(isinstance(level, (str, int, float, bool)) for level in levels):
                call.keywords.append(ast.keyword("levels", _literal(levels)))
                return ast.unparse(ast.fix_missing_locations(call))
    knots = _spline(code, found)
    if knots is not None:
        call = tree.body
        given = dict(zip(_SPLINE[1:], call.args[1:], strict=False)) | {k.arg: k.value for k in call.keywords}
        given.pop("df", None)
        given |= {name: _literal(value) for name, value in knots.items()}
        call.args, call.keywords = call.args[:1], [ast.keyword(name, node) for name, node in given.items()]
        return ast.unparse(ast.fix_missing_locations(call))
    return code if plain == ast.unparse(ast.parse(code, mode="eval")) else plain


class _Spelled(ast.NodeTransformer):
    """R's spellings, which only our formulas have, as patsy and NumPy spell them."""

    def __init__(self, space):
        self.space = space

    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name in R_NAMES and R_NAMES[name] is self.space.get(name):
            found, numpy_name = R_NAMES[name], getattr(R_NAMES[name], "__name__", "")
            if found is patsy.builtins.C:
                node.func = ast.Name("C", ast.Load())
            elif getattr(np, numpy_name, None) is found:
                node.func = ast.Attribute(ast.Name("np", ast.Load()), numpy_name, ast.Load())
        return node


def _is_call(node, name):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _is_natural(levels):
    """Whether patsy finds these levels, in this order, in plain text or truth values."""
    kinds = {type(level) for level in levels}
    return (kinds == {str} or kinds <= {bool, np.bool_}) and list(levels) == sorted(levels)


def _learns(found) -> bool:
    return found.type == "numerical" and bool(found.state["transforms"])


def _literal(value):
    return ast.parse(repr(value), mode="eval").body


def _spline(code, found):
    """Arguments that fix a factor that is one B-spline and nothing else; None where it is not."""
    transforms = list(found.state["transforms"].values())
    node = ast.parse(code, mode="eval").body
    return spline_knots(transforms[0]) if len(transforms) == 1 and _is_call(node, "bs") and node.args else None


def _offsets(recipe):
    """Names of columns, or expressions, that are added up in the offset, and whether each is a plain name."""
    out = [(expression.code, f"{expression.code}") for expression in recipe.offsets]
    if recipe.offset_name is not None:
        name = recipe.offset_name
        out.append((name, name if name.isidentifier() else f"Q({name!r})"))
    if recipe.exposure is not None:
        out.append((recipe.exposure.code, f"np.log({recipe.exposure.code})"))
    return out


def _offset_text(recipe, columns):
    """One patsy term that is the sum of all offsets; None where there are none, or one is no column."""
    parts = _offsets(recipe)
    given = [recipe.offset_name, recipe.exposure.code if recipe.exposure is not None else None]
    if not parts or any(n is not None and n not in columns and n.isidentifier() for n in given):
        return None
    texts = [text for _, text in parts]
    return f"I({texts[0]})" if len(texts) == 1 else f"I({' + '.join(f'({text})' for text in texts)})"


# -- is it the same? ------------------------------------------------------------------------------


def _check_codes(values, recipe, names):
    """Raise where a column of factors alone has a value that their coding has not."""
    info = recipe.fixed.info
    for term, codings in info.term_codings.items():
        factors = [info.factor_infos[f] for f in term.factors]
        if any(found.type == "numerical" for found in factors):
            continue
        known = np.ones(1)
        for coding in codings:
            for contrast in coding.contrast_matrices.values():
                known = np.unique(np.round(np.outer(known, np.unique(contrast.matrix)), 12))
        for j in range(*info.term_slices[term].indices(len(names))):
            seen = np.unique(values[:, j])
            if not np.isclose(seen[:, None], known, rtol=0, atol=1e-9).any(axis=1).all():
                raise FormulaError(
                    f"The column {names[j]!r} of the matrix has values that the coding of its factor does not have, "
                    f"such as {seen[0]:g}. Were its levels taken for numbers?"
                )


def _check_equal(info, recipe, frame, names):
    """Raise where a row of the fit has other values than the fit gave it."""
    rows = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, min(len(frame), _ROWS)).astype(int))]
    own = recipe.fixed.matrix(rows)
    if len(names) > own.shape[1]:
        own = np.column_stack([own, recipe.apply(rows, (), include_random=False).offset])
    other = MatrixFormula(recipe.fixed.text, info, "fixed part").matrix(rows)
    size = np.nanmax(np.abs(own), axis=0, initial=1e-300)
    wrong = ~np.isclose(other / size, own / size, rtol=0.0, atol=1e-9, equal_nan=True)
    if wrong.any():
        raise FormulaError(
            f"The column {names[int(wrong.any(axis=0).argmax())]!r} of the matrix gives rows of the fit other "
            "values than the fit had. Build it with patsy from model.formula, from rows that have all levels of the "
            "factors, with their types."
        )
