"""The user's data as columns patsy understands, and arrays aligned with its rows.

pandas' string, categorical, boolean and nullable types, polars frames and dicts are
converted here, one column when it is asked for, so that the rest sees plain arrays.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

import numpy as np
import pandas as pd
from patsy.eval import EvalEnvironment, ast_names

from sm_multilevel.design import pickling
from sm_multilevel.design.terms import FormulaError
from sm_multilevel.wording import suggest

__all__ = [
    "DataFrameView",
    "Expression",
    "RowSource",
    "as_frame",
    "convert_column",
    "dotted_columns",
    "missing_mask",
    "unknown_name",
]

# Names of R that are neither columns nor functions here, and what to write instead.
_R_NAMES = {
    "pi": "np.pi",
    "contr": "C(x, Sum), C(x, Helmert), C(x, Poly) or C(x, Treatment('level'))",
    "cut": "pd.cut(x, ...)",
    "pmin": "np.minimum(a, b)",
    "pmax": "np.maximum(a, b)",
}
# Squares of whole numbers up to here have room in 64 bits.
_SQUARE_FITS = 2**31


def as_frame(data) -> pd.DataFrame:
    """A pandas frame from a frame, dict, record array or polars frame.

    Raises
    ------
    TypeError
        If it is none of them.
    ValueError
        If column names are duplicated.
    """
    if isinstance(data, pd.DataFrame):
        frame = data
    elif type(data).__module__.split(".")[0] == "polars":
        if not hasattr(data, "height"):
            raise TypeError(f"data is a polars {type(data).__name__}, which has no rows yet. Give data.collect().")
        frame = pd.DataFrame({name: _from_polars(data[name]) for name in data.columns})
    elif isinstance(data, Mapping) or (isinstance(data, np.ndarray) and data.dtype.names):
        try:
            frame = pd.DataFrame(data)
        except ValueError as error:
            raise ValueError(f"data cannot be made a table ({error}). Give columns of one length.") from None
    else:
        raise TypeError(
            f"data is of type {type(data).__name__}; give a pandas or polars DataFrame, or a dict of columns."
        )
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        raise ValueError(f"data has more than one column named {doubled[0]!r}. Rename or drop the duplicates.")
    return frame


def _from_polars(series):
    name = str(series.dtype)
    if name.startswith(("Enum", "Categorical")):
        values = series.to_list()
        if name.startswith("Enum"):
            return pd.Categorical(values, categories=series.dtype.categories.to_list(), ordered=True)
        return pd.Categorical(values)
    if series.dtype.is_numeric():
        exact = not series.null_count() and not name.startswith("Decimal")
        return series.to_numpy() if exact else series.cast(float).to_numpy()
    return np.array(series.to_list(), dtype=object) if name == "String" else pd.Series(series.to_list())


def convert_column(column, keep_categories: bool = True):
    """One column as an array or Categorical without pandas' extension types.

    Parameters
    ----------
    column : Series or array_like
    keep_categories : bool
        False in prediction, where the order of the levels is the model's.
    """
    dtype = getattr(column, "dtype", None)
    if isinstance(dtype, pd.CategoricalDtype):
        if not keep_categories:
            return _objects(column)
        categorical = pd.Categorical(column)
        if not isinstance(categorical.categories.dtype, np.dtype):
            categorical = categorical.rename_categories(categorical.categories.astype(object))
        # Unused levels would be columns of zeros; R drops them too.
        return categorical.remove_unused_categories()
    if isinstance(dtype, np.dtype):
        return _widened(np.asarray(column))
    if pd.api.types.is_bool_dtype(dtype):
        return _objects(column) if pd.isna(column).any() else np.asarray(column, dtype=bool)
    if pd.api.types.is_numeric_dtype(dtype):
        return pd.Series(column).to_numpy(dtype=float, na_value=np.nan)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return np.asarray(column)
    return _objects(column)


def _widened(column):
    """Short numbers made long: the square of an int8 wraps around without a word, and its logarithm is a float16."""
    kind, size = column.dtype.kind, column.dtype.itemsize
    if kind == "u" and size == 8:
        return column.astype(float if len(column) and column.max() > np.iinfo(np.int64).max else np.int64)
    if kind in "iu":
        return column if size == 8 else column.astype(np.int64)
    return column.astype(float) if kind == "f" and size == 2 else column


def _roomy(column):
    """Whole numbers whose squares have no room in 64 bits as floats."""
    whole = column.dtype.kind == "i" and len(column) > 0
    return column.astype(float) if whole and max(column.max(), -column.min()) > _SQUARE_FITS else column


def _objects(column):
    values = np.asarray(pd.Series(column), dtype=object)
    gone = pd.isna(values)
    if gone.any():
        values = values.copy()
        values[gone] = None
    return values


class DataFrameView(Mapping):
    """A frame as a mapping of converted columns, each converted once.

    Parameters
    ----------
    frame : DataFrame
    keep_categories : bool
        See `convert_column`.
    """

    def __init__(self, frame: pd.DataFrame, keep_categories: bool = True):
        self.frame = frame
        self._keep = keep_categories
        self._done: dict = {}

    def __getitem__(self, key):
        if key not in self._done:
            column = self.frame[key]
            # Plain numbers stay Series: patsy names their levels 1, not np.int64(1).
            plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf"
            self._done[key] = _roomy(_widened(column)) if plain else convert_column(column, self._keep)
        return self._done[key]

    def levels(self, key):
        """A column as a grouping factor takes it: whole numbers of any size are labels, and stay whole."""
        column = self.frame[key]
        return column if getattr(column.dtype, "kind", "") in "iu" else self[key]

    def __contains__(self, key):
        return key in self.frame.columns

    def __iter__(self):
        return iter(self.frame.columns)

    def __len__(self):
        return len(self.frame.columns)


def missing_mask(values) -> np.ndarray:
    """Which rows are missing (NaN, None, NA)."""
    if isinstance(values, pd.Categorical):
        return np.asarray(values.codes < 0)
    values = np.asarray(values)
    if values.dtype.kind in "biu":
        return np.zeros(values.shape[0], dtype=bool)
    mask = np.asarray(pd.isna(values))
    return np.asarray(mask.any(axis=1)) if mask.ndim > 1 else mask


def dotted_columns(code: str, columns) -> list[str]:
    """Columns with a dot in their names that stand in the code without Q(), as attributes of Python."""
    names = [c for c in columns if isinstance(c, str) and "." in c]
    return [c for c in names if re.search(rf"(?<![\\w.'\"]){re.escape(c)}(?![\\w.('\"])", code)]


def unknown_name(name: str, code: str, frame) -> str:
    """What to write for a name in the code that is no column of the frame; "" if nothing is near."""
    dotted = [c for c in dotted_columns(code, frame.columns) if name in (c, c.split(".")[0])]
    spelt = [c for c in frame.columns if isinstance(c, str) and c != name and unicodedata.normalize("NFKC", c) == name]
    if dotted or spelt:  # Python reads a dot as an attribute, and the micro sign as the Greek letter
        return f" Write Q({(dotted or spelt)[0]!r}) for the column of that name."
    stata = re.search(rf"\b{re.escape(name)}\.(\w+)", code)
    if stata and re.fullmatch(r"c|i|ib\d*", name) and stata[1] in frame.columns:
        column = stata[1]
        return f" For Stata's {stata[0]} write " + (f"{column}." if name == "c" else f"C({column}).")
    if name in frame.index.names:
        return " It is a level of the index: give data.reset_index()."
    if name in _R_NAMES:
        return f" Write {_R_NAMES[name]}."
    return suggest(name, frame.columns)


class RowSource:
    """Where columns, expressions and aligned arrays of one call come from.

    Parameters
    ----------
    frame : DataFrame
        The user's data after `subset`.
    positions : ndarray or None
        Positions of its rows in the data as given (None: all of them).
    full_index : Index
        Row labels of the data as given.
    env : patsy.EvalEnvironment
        Where names that are no columns are looked up.
    """

    def __init__(self, frame, positions, full_index, env):
        self.frame = frame
        self.view = DataFrameView(frame)
        self.positions = positions
        self.full_index = full_index
        self.env = env

    @property
    def n(self) -> int:
        return len(self.frame)

    def vector(self, value, what: str):
        """Values of a column name, expression, Series or array, one a row.

        Parameters
        ----------
        value : str, Series or array_like
        what : str
            Name of the option, for messages.

        Raises
        ------
        FormulaError, ValueError
            If the column is unknown, the length differs, or an index does not match.
        """
        if isinstance(value, str):
            return self.evaluate(value, what)
        if type(value).__module__.split(".")[0] == "polars":
            value = _from_polars(value)
        if isinstance(value, (pd.Series, pd.DataFrame)):
            value = self._aligned(value, what)
        else:
            value = value if isinstance(value, pd.api.extensions.ExtensionArray) else np.asarray(value)
            if np.ndim(value) == 0:
                raise ValueError(f"{what} is a single value; give a column name or one value a row.")
            if len(value) != len(self.full_index):
                raise ValueError(f"{what} has {len(value)} values, but the data have {len(self.full_index)} rows.")
            if self.positions is not None:
                value = value[self.positions]
        return convert_column(value) if np.ndim(value) == 1 else np.asarray(value)

    def _aligned(self, series, what):
        index = self.frame.index
        if len(series) == len(self.full_index) and series.index.equals(self.full_index):
            return series if self.positions is None else series.iloc[self.positions]
        if series.index.is_unique and index.isin(series.index).all() and index.is_unique:
            return series.loc[index]
        raise ValueError(
            f"{what} is a pandas object whose index does not match that of the data, so its rows "
            "cannot be aligned. Give it the data's index, or pass its .to_numpy() if the order is "
            "already right."
        )

    def evaluate(self, code: str, what: str):
        """Value of a Python expression over the data's columns."""
        return self.expression(code, what).values(self.frame, self.view)

    def expression(self, code: str, what: str) -> Expression:
        """An expression whose names are columns first."""
        return Expression(code, self.env, what, self.frame.columns)


class Expression:
    """A Python expression over columns, with the few outer names that it uses.

    Parameters
    ----------
    code : str
        A column's name, or an expression.
    env : patsy.EvalEnvironment
        Where names that are no columns are looked up; only those used are kept, so that
        the expression can be pickled.
    what : str
        Which part of the model it is, for messages.
    columns : sequence of str
        Names that are columns, whatever else they mean outside.
    """

    def __init__(self, code: str, env, what: str, columns=()):
        self.code, self.what = code, what
        self.space = {}
        try:
            names = set(ast_names(code))
        except SyntaxError:
            names = set()
        for name in names:
            if name in env.namespace and name not in columns:
                self.space[name] = env.namespace[name]

    def __getstate__(self):
        return dict(self.__dict__, space=pickling.dumps(self.space))

    def __setstate__(self, state):
        self.__dict__.update(state, space=pickling.loads(state["space"]))

    def values(self, frame, view=None):
        """One value a row of the frame; raises FormulaError naming what is wrong."""
        view = DataFrameView(frame) if view is None else view
        if self.code in view:
            return convert_column(view.levels(self.code))
        what, code = self.what, self.code
        space = dict(self.space, Q=lambda name: view[name])
        try:
            value = EvalEnvironment([space]).eval(code, inner_namespace=view)
        except NameError as error:
            name = getattr(error, "name", None) or str(error).split("'")[1]
            raise FormulaError(
                f"{what}: there is no column {name!r} in the data"
                + ("" if name == code else f" (in {code!r})")
                + "."
                + unknown_name(name, code, frame)
            ) from None
        except SyntaxError:
            raise FormulaError(
                f"{what}: {code!r} is neither a column of the data nor a valid expression. A column "
                f"whose name is no Python name is written Q({code!r})."
            ) from None
        except Exception as error:
            dotted = dotted_columns(code, frame.columns) if isinstance(error, AttributeError) else ()
            hint = f". Write Q({dotted[0]!r})." if dotted else ""
            raise FormulaError(f"{what}: {code!r} cannot be evaluated: {error}{hint}") from error
        # C(x) and factor(x) wrap their column in patsy's box.
        value = getattr(value, "data", value) if type(value).__name__ == "_CategoricalBox" else value
        if np.ndim(value) == 0:
            raise FormulaError(
                f"{what}: {code!r} is a single value, not a column. Write what has a value for each row."
            )
        if len(value) != len(frame):
            raise FormulaError(f"{what}: {code!r} has {len(value)} values for {len(frame)} rows.")
        return convert_column(value) if np.ndim(value) == 1 else np.asarray(value)
