"""Design matrices through patsy: built together on one set of rows, rebuilt for new data."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import re

import numpy as np
import patsy
from patsy import builtins as _builtins
from patsy.categorical import categorical_to_int
from patsy.design_info import DesignInfo
from patsy.eval import EvalEnvironment, ast_names

from sm_multilevel.design import pickling
from sm_multilevel.design.frame import DataFrameView, dotted_columns, unknown_name
from sm_multilevel.design.terms import FormulaError
from sm_multilevel.design.values import NOT_REAL

__all__ = ["R_NAMES", "MatrixFormula", "build_matrices", "environment"]

# patsy's own functions, as formulas see them.
_patsy_builtins = {name: getattr(_builtins, name) for name in _builtins.__all__}
# R spellings that patsy lacks but that mean the same.
R_NAMES = {
    name: getattr(np, name)
    for name in ("log", "exp", "sqrt", "log2", "log10", "log1p", "expm1", "sin", "cos", "tan", "floor")
}
R_NAMES.update(abs=np.abs, scale=patsy.scale, factor=_builtins.C)


def environment(env: EvalEnvironment) -> EvalEnvironment:
    """The user's namespace with patsy's functions and R's spellings behind it."""
    return env.with_outer_namespace(dict(R_NAMES, **_patsy_builtins))


class MatrixFormula:
    """A patsy right-hand side bound to the data it was built on.

    Parameters
    ----------
    text : str
        The right-hand side.
    info : patsy.DesignInfo
    what : str
        Which part of the model it is, for messages.

    Attributes
    ----------
    columns : tuple of str
    """

    def __init__(self, text: str, info: DesignInfo, what: str):
        self.text, self.info, self.what = text, info, what

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.info.column_names)

    def matrix(self, frame, mask=None) -> np.ndarray:
        """The matrix for new data, one row a row of the frame, NaN where a value is missing.

        Raises
        ------
        FormulaError
            If a column is missing from the data or a level is new.
        """
        n = len(frame)
        if not self.info.factor_infos:  # an intercept or nothing: patsy could not count the rows
            return np.ones((n, len(self.columns)))
        view = DataFrameView(frame, keep_categories=False)
        action = _Rows(n)
        try:
            out = patsy.build_design_matrices([self.info], view, NA_action=action)[0]
        except patsy.PatsyError as error:
            raise _explain(error, self, frame) from error
        except ValueError as error:
            raise FormulaError(f"{self.what} ({self.text}): {error}") from error
        except KeyError as error:  # patsy looks up True and False among levels of text
            raise FormulaError(
                f"{self.what} ({self.text}): a factor is boolean in the new data, and was not in the data of the fit."
            ) from error
        if action.keep is None and out.shape[0] not in (1, n):
            raise FormulaError(
                f"{self.what} ({self.text}) has {out.shape[0]} rows, and the new data have {n}: it takes a variable "
                "that is no column. Make it one, in the data of the fit and in the new data."
            )
        if action.keep is None:
            return np.asarray(out)
        full = np.full((n, out.shape[1]), np.nan)
        full[action.keep] = out
        return full

    @property
    def namespace(self) -> dict:
        """The user's names that the formula refers to, other than columns."""
        spaces = {f.code: found.state["eval_env"].namespace for f, found in self.info.factor_infos.items()}
        return {name: space[name] for code, space in spaces.items() for name in ast_names(code) if name in space}

    def __getstate__(self):
        return dict(self.__dict__, info=pickling.dumps(self.info))

    def __setstate__(self, state):
        self.__dict__.update(state, info=pickling.loads(state["info"]))


class _Rows(patsy.NAAction):
    """Drop rows that are missing anywhere, and remember which were kept."""

    def __init__(self, n, gone=None):
        super().__init__(NA_types=["None", "NaN"])
        self.gone = np.zeros(n, dtype=bool) if gone is None else gone
        self.keep = None
        self.culprits = []

    def handle_NA(self, values, is_NAs, origins):
        gone = self.gone.copy()
        for mask, origin in zip(is_NAs, origins, strict=True):
            if mask.any():
                gone |= mask
                self.culprits.append(_origin_text(origin))
        if not gone.any():
            return values
        self.keep = ~gone
        return [v[self.keep] for v in values]


def _origin_text(origin):
    return origin.code[origin.start : origin.end].strip() if origin is not None else "?"


def build_matrices(texts, source, gone):
    """Design matrices of several right-hand sides on their common complete rows.

    Parameters
    ----------
    texts : list of (str, str)
        Patsy right-hand side and what it is (for messages).
    source : RowSource
    gone : ndarray of bool, shape (n,)
        Rows to be left out for other reasons.

    Returns
    -------
    formulas : list of MatrixFormula
    matrices : list of ndarray
    keep : ndarray of bool, shape (n,)
    culprits : list of str
        Factors with missing values.
    """
    formulas = _learn(texts, source, source.view)
    action = _Rows(source.n, gone)
    with_data = [f for f in formulas if f.info.factor_infos]
    built = []
    if with_data:
        try:
            built = patsy.build_design_matrices([f.info for f in with_data], source.view, NA_action=action)
        except patsy.PatsyError as error:
            raise _explain(error, with_data[0], source.frame) from error
        except TypeError as error:  # numbers that are not real
            for formula in with_data:
                _refuse_unreal(formula, source.view)
            raise FormulaError(f"{with_data[0].what}: {error}") from error
    elif gone.any():
        action.keep = ~gone
    keep = np.ones(source.n, dtype=bool) if action.keep is None else action.keep
    if keep.any() and not keep.all() and any(_lost_level(f, source.view, keep) for f in with_data):
        # A level that occurs only in incomplete rows would be a column of zeros; R drops it too.
        kept = DataFrameView(source.frame[keep])
        with contextlib.suppress(patsy.PatsyError):  # an array of the user's that has the rows of all data
            again = _learn(texts, source, kept)
            built = patsy.build_design_matrices([f.info for f in again if f.info.factor_infos], kept, NA_action="raise")
            formulas, with_data = again, [f for f in again if f.info.factor_infos]
    n = int(keep.sum())
    done = {id(f): np.asarray(m) for f, m in zip(with_data, built, strict=True)}
    matrices = []
    for f in formulas:
        matrix = done.get(id(f))
        if matrix is None:
            matrix = np.ones((n, len(f.columns)))
        if matrix.shape[0] != n:
            raise FormulaError(
                f"{f.what} ({f.text}) is a single value, not a column. Write what has a value for each row."
            )
        matrices.append(matrix)
    return formulas, matrices, keep, action.culprits


def _learn(texts, source, view):
    """Right-hand sides bound to the levels and the state of stateful transforms of the view's rows."""
    env = environment(source.env)
    formulas = []
    for text, what in texts:
        try:
            info = patsy.incr_dbuilder(f"~ {text}", lambda: iter([view]), env)
        except patsy.PatsyError as error:
            raise _explain(error, MatrixFormula(text, None, what), source.frame) from error
        except ValueError as error:
            twice = "mismatch between column_names" in str(error)
            problem = "two columns have the same name; a column named 'Intercept' must be renamed" if twice else error
            raise FormulaError(f"{what} ({text}): {problem}.") from error
        for factor, found in info.factor_infos.items():
            # patsy also keeps a variable of the user's that has a column's name, perhaps the data themselves.
            space = found.state["eval_env"]
            names = [n for n in ast_names(factor.code) if n in space.namespace and n not in view]
            found.state["eval_env"] = space.subset(names)
            if found.type == "categorical" and not factor.code.startswith("C("):
                _check_levels(factor.code, found.categories, what)
        formulas.append(MatrixFormula(text, info, what))
    return formulas


def _check_levels(code, levels, what):
    """Refuse what patsy would quietly take for a factor."""
    numbers = [v for v in levels if isinstance(v, (float, np.floating, int, np.integer)) and not isinstance(v, bool)]
    if any(isinstance(v, (datetime.date, np.datetime64)) for v in levels):
        raise FormulaError(
            f"{what}: {code!r} holds dates. Convert it to numbers, for example days since the first, or write "
            f"C({code}) to use each date as a level."
        )
    if any(isinstance(v, decimal.Decimal) for v in levels):
        raise FormulaError(
            f"{what}: {code!r} holds decimal.Decimal objects, which are no numbers to NumPy. Convert it with "
            f".astype(float), or write C({code}) to use each value as a level."
        )
    if numbers and any(isinstance(v, str) for v in levels):
        text = next(v for v in levels if isinstance(v, str))
        raise FormulaError(
            f"{what}: {code!r} mixes numbers and text ({numbers[0]!r}, {text!r}). Clean it, or write C({code}) to use "
            "each value as a level."
        )
    if (missing := _missing_code(levels)) is not None:
        raise FormulaError(
            f"{what}: {code!r} holds numbers as text, with {missing!r} for missing values. Convert it with "
            f"pd.to_numeric(..., errors='coerce'), or write C({code}) to use each value as a level."
        )


# What programs write for a missing value (Stata has . and .a to .z), in lower case.
_MISSING = {".", "", "-", "--", "?", "*", "na", "n/a", "#n/a", "nan", "null", "none", "missing"}


def _missing_code(levels) -> str | None:
    """The code of missing values among numbers that are text; None where the levels are something else."""
    if not all(isinstance(v, str) for v in levels):
        return None
    codes = [v for v in levels if v.strip().lower() in _MISSING or re.fullmatch(r"\.[a-z]", v.strip())]
    others = [v for v in levels if v not in codes]
    if not codes or not others:
        return None
    try:
        [float(v) for v in others]
    except ValueError:
        return None
    return codes[0]


def _refuse_unreal(formula, view):
    """Name the factor whose numbers are complex or time differences."""
    for factor, found in formula.info.factor_infos.items():
        kind = np.asarray(factor.eval(found.state, view)).dtype.kind
        if kind in "cmM":
            raise FormulaError(
                f"{formula.what}: {factor.code!r} holds {NOT_REAL[kind]}, not real numbers. Convert it first."
            )


def _lost_level(formula, view, keep):
    """Whether a level of a factor occurs only in rows that are left out."""
    for factor, found in formula.info.factor_infos.items():
        if found.type == "categorical":
            codes = categorical_to_int(factor.eval(found.state, view), found.categories, patsy.NAAction())
            if np.unique(codes[keep]).shape[0] < len(found.categories):
                return True
    return False


def _explain(error, formula, frame):
    """patsy's error as a sentence that names the column or level at fault."""
    text = str(error).split("\n")[0]
    where = f"{formula.what} ({formula.text})"
    if "NameError" in text:
        name = text.split("'")[1]
        kind = "column or function" if f"{name}(" in formula.text else "column"
        hint = unknown_name(name, formula.text, frame)
        return FormulaError(f"{where}: there is no {kind} {name!r} in the data.{hint}")
    if "AttributeError" in text and (dotted := dotted_columns(formula.text, frame.columns)):
        return FormulaError(f"{where}: a dot stands before an attribute in Python. Write Q({dotted[0]!r}).")
    if "non-numeric data" in text:
        factor = _origin_text(error.origin) if error.origin is not None else formula.text
        return FormulaError(f"{where}: {factor!r} was numeric in the data of the fit, and is not in the new data.")
    if "does not match any of the expected levels" in text:
        level = text.split("observation with value ")[-1].split(" does not match")[0]
        known = text.split("(expected: ")[-1].rstrip(")")
        factor = _origin_text(error.origin) if error.origin is not None else formula.text
        return FormulaError(
            f"{where}: {factor} has the level {level} in the new data, which was not in the data "
            f"that the model was fitted to (levels: {known})."
        )
    if "numbers besides" in text:
        return FormulaError(f"{where}: numbers other than 0 and 1 are no terms. Write arithmetic as in I(x / 10).")
    return FormulaError(f"{where} cannot be evaluated: {text.replace('Error evaluating factor: ', '').rstrip('.')}.")
