"""Design matrices through patsy: built together on one set of rows, rebuilt for new data."""

from __future__ import annotations

import numpy as np
import patsy
from patsy import builtins as _builtins
from patsy.design_info import DesignInfo
from patsy.eval import EvalEnvironment

from sm_multilevel.formula import pickling
from sm_multilevel.formula.frame import DataFrameView, suggest
from sm_multilevel.formula.terms import FormulaError

__all__ = ["MatrixFormula", "environment", "build_matrices"]

# patsy's own functions, as formulas see them.
_patsy_builtins = {name: getattr(_builtins, name) for name in _builtins.__all__}
# R spellings that patsy lacks but that mean the same.
_R_NAMES = {
    name: getattr(np, name)
    for name in ("log", "exp", "sqrt", "log2", "log10", "log1p", "expm1", "sin", "cos", "tan", "floor")
}
_R_NAMES.update(abs=np.abs, scale=patsy.scale, factor=_builtins.C)


def environment(env: EvalEnvironment) -> EvalEnvironment:
    """The user's namespace with patsy's functions and R's spellings behind it."""
    return env.with_outer_namespace(dict(_R_NAMES, **_patsy_builtins))


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
            raise FormulaError(f"{self.what} {self.text!r}: {error}") from error
        if action.keep is None:
            return np.asarray(out)
        full = np.full((n, out.shape[1]), np.nan)
        full[action.keep] = out
        return full

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
    env = environment(source.env)
    formulas = []
    for text, what in texts:
        try:
            info = patsy.incr_dbuilder(f"~ {text}", lambda: iter([source.view]), env)
        except patsy.PatsyError as error:
            raise _explain(error, MatrixFormula(text, None, what), source.frame) from error
        formulas.append(MatrixFormula(text, info, what))
    action = _Rows(source.n, gone)
    with_data = [f for f in formulas if f.info.factor_infos]
    built = []
    if with_data:
        try:
            built = patsy.build_design_matrices([f.info for f in with_data], source.view, NA_action=action)
        except patsy.PatsyError as error:
            raise _explain(error, with_data[0], source.frame) from error
    elif gone.any():
        action.keep = ~gone
    keep = np.ones(source.n, dtype=bool) if action.keep is None else action.keep
    n = int(keep.sum())
    done = {id(f): np.asarray(m) for f, m in zip(with_data, built, strict=True)}
    matrices = []
    for f in formulas:
        matrix = done.get(id(f))
        if matrix is None:
            matrix = np.ones((n, len(f.columns)))
        matrices.append(matrix)
    return formulas, matrices, keep, action.culprits


def _explain(error, formula, frame):
    """patsy's error as a sentence that names the column or level at fault."""
    text = str(error).split("\n")[0]
    where = f"{formula.what} {formula.text!r}"
    if "NameError" in text:
        name = text.split("'")[1]
        return FormulaError(
            f"{where}: there is no column {name!r} in the data.{suggest(name, frame.columns)}"
        )
    if "does not match any of the expected levels" in text:
        level = text.split("observation with value ")[-1].split(" does not match")[0]
        known = text.split("(expected: ")[-1].rstrip(")")
        factor = _origin_text(error.origin) if error.origin is not None else formula.text
        return FormulaError(
            f"{where}: {factor} has the level {level} in the new data, which was not in the data "
            f"that the model was fitted to (levels: {known})."
        )
    return FormulaError(f"{where}: {text}")
