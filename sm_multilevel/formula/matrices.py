"""Design matrices through patsy: built together on one set of rows, rebuilt for new data."""

from __future__ import annotations

import importlib
import inspect
from collections import OrderedDict

import numpy as np
import patsy
from patsy import builtins as _builtins
from patsy.design_info import DesignInfo, FactorInfo, SubtermInfo
from patsy.eval import EvalEnvironment, EvalFactor

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
        view = DataFrameView(frame, keep_categories=False)
        action = _Rows(n)
        try:
            out = patsy.build_design_matrices([self.info], view, NA_action=action)[0]
        except patsy.PatsyError as error:
            raise _explain(error, self, frame) from error
        except ValueError as error:
            raise FormulaError(f"{self.what} {self.text!r}: {error}") from error
        if not self.info.factor_infos:
            return np.tile(np.asarray(out), (n, 1))
        if action.keep is None:
            return np.asarray(out)
        full = np.full((n, out.shape[1]), np.nan)
        full[action.keep] = out
        return full

    # DesignInfo refuses to be pickled; its parts are plain enough to be written out.
    def __getstate__(self):
        return {"text": self.text, "what": self.what, "info": _dump(self.info)}

    def __setstate__(self, state):
        self.text, self.what = state["text"], state["what"]
        self.info = _restore(state["info"])


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


def _dump(info):
    env_of = {}
    factors = list(info.factor_infos)
    for k, factor in enumerate(factors):
        state = dict(info.factor_infos[factor].state)
        env = state.pop("eval_env")
        names = {}
        for space in reversed(env._namespaces):
            for name in space:
                names[name] = env.namespace[name]
        env_of[k] = (state, {name: _dump_value(v) for name, v in names.items()}, env.flags)
    index = {factor: k for k, factor in enumerate(factors)}
    terms = [
        (
            [index[f] for f in term.factors],
            [
                (
                    [index[f] for f in s.factors],
                    {index[f]: (c.matrix, list(c.column_suffixes)) for f, c in s.contrast_matrices.items()},
                    s.num_columns,
                )
                for s in subterms
            ],
        )
        for term, subterms in info.term_codings.items()
    ]
    described = [
        (f.code, i.type, i.num_columns, i.categories)
        for f, i in info.factor_infos.items()
    ]
    return {"names": list(info.column_names), "factors": described, "env": env_of, "terms": terms}


def _dump_value(value):
    if inspect.ismodule(value):
        return ("module", value.__name__)
    name = getattr(value, "__name__", None)
    if name in _patsy_builtins and _patsy_builtins[name] is value:
        return ("patsy", name)
    for key, known in {**_R_NAMES, **_patsy_builtins}.items():
        if known is value:
            return ("known", key)
    return ("value", value)


def _load_value(dumped):
    kind, value = dumped
    if kind == "module":
        return importlib.import_module(value)
    if kind == "patsy":
        return _patsy_builtins[value]
    if kind == "known":
        return {**_R_NAMES, **_patsy_builtins}[value]
    return value


def _restore(state):
    factors, infos = [], {}
    for k, (code, kind, width, categories) in enumerate(state["factors"]):
        factor = EvalFactor(code)
        saved, names, flags = state["env"][k]
        space = {name: _load_value(v) for name, v in names.items()}
        full = dict(saved, eval_env=EvalEnvironment([space], flags))
        infos[factor] = FactorInfo(factor, kind, full, num_columns=width, categories=categories)
        factors.append(factor)
    codings = OrderedDict()
    for members, subterms in state["terms"]:
        term = patsy.Term([factors[i] for i in members])
        codings[term] = [
            SubtermInfo(
                [factors[i] for i in inside],
                {factors[i]: patsy.ContrastMatrix(m, s) for i, (m, s) in contrasts.items()},
                width,
            )
            for inside, contrasts, width in subterms
        ]
    return DesignInfo(state["names"], infos, codings)


