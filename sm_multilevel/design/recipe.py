"""How a design is made from data, kept so that it can be made again from new data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sm_multilevel.covariance import Covariance
from sm_multilevel.design.frame import Expression, as_frame, convert_column
from sm_multilevel.design.matrices import MatrixFormula
from sm_multilevel.design.response import check_trials, log_exposure
from sm_multilevel.design.terms import FormulaError
from sm_multilevel.design.values import numeric
from sm_multilevel.grouping import match_levels

__all__ = ["NewData", "Recipe", "TermRecipe", "without_intercept"]


@dataclass(frozen=True, eq=False)
class TermRecipe:
    """How a random term is made from data.

    Attributes
    ----------
    group : str
        Name of the grouping factor.
    parts : tuple of Expression
        Factors whose crossing is the grouping; of arrays those that new data have.
    text : str
        Patsy right-hand side of the columns.
    covariance : Covariance
    name : str
    split : bool
        ``||``: every column becomes a term of its own.
    given : tuple of ndarray or None
        Values of the parts where an array was given.
    is_component : bool
        Whether it came from ``vc_formula=``.
    cells : Index or None
        Levels of the grouping, where a component's columns and these became one factor
        (see `compact_component`).
    """

    group: str
    parts: tuple
    text: str
    covariance: Covariance
    name: str
    split: bool = False
    given: tuple | None = None
    is_component: bool = False
    cells: pd.Index | None = None


@dataclass(frozen=True, eq=False)
class NewData:
    """A design evaluated on new rows.

    Attributes
    ----------
    exog : ndarray, shape (n, p)
    offset : ndarray, shape (n,)
    random : list of (ndarray, ndarray)
        Codes (-1: unknown level) and columns of each term; empty for population values.
    index : Index
    n_trials : ndarray, shape (n,), or None
        Where the model's trials have a name, and the new data have them.
    """

    exog: np.ndarray
    offset: np.ndarray
    random: list
    index: pd.Index
    n_trials: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a design is rebuilt for new data; pickles without the data.

    Attributes
    ----------
    response : Expression
    fixed : MatrixFormula
    random : tuple of (TermRecipe, MatrixFormula)
    offsets : tuple of Expression
    offset_name : str or None
        Column given in ``offset=``, or the name of the array ("offset" if it has none).
    exposure : Expression or None
        Its logarithm is part of the offset; of an array the column that new data have.
    n_trials : Expression or None
        None where there are none, or an array was given.
    drop_intercept : bool
        Whether the fixed part is coded with an intercept that is then left out.
    """

    response: Expression
    fixed: MatrixFormula
    random: tuple
    offsets: tuple
    offset_name: str | None
    exposure: Expression | None = None
    n_trials: Expression | None = None
    drop_intercept: bool = False

    @property
    def namespace(self) -> dict:
        """The user's names that the formulas refer to, other than columns."""
        out = dict(self.response.space)
        for term, matrix in self.random:
            for part in term.parts:
                out.update(part.space)
            out.update(matrix.namespace)
        for expression in (*self.offsets, self.exposure, self.n_trials):
            if expression is not None:
                out.update(expression.space)
        return {**out, **self.fixed.namespace}

    def apply(self, data, levels, include_random: bool) -> NewData:
        """Evaluate on new data.

        Parameters
        ----------
        data : frame or mapping
        levels : list of Index
            Levels of the terms, as split.
        include_random : bool
            Whether the random terms are wanted; their columns must exist then.
        """
        frame = as_frame(data)
        exog = self.fixed.matrix(frame)
        if self.drop_intercept:
            exog = without_intercept(exog, self.fixed.columns)[0]
        offset = np.zeros(len(frame))
        for expression in self.offsets:
            offset = offset + numeric(expression.values(frame), f"offset({expression.code})")
        if self.offset_name is not None:
            if self.offset_name not in frame.columns:
                raise FormulaError(
                    f"The model has the offset {self.offset_name!r}, which is no column of the new data. Add it "
                    "(zeros for no offset)."
                )
            offset = offset + numeric(convert_column(frame[self.offset_name]), f"The offset {self.offset_name!r}")
        if self.exposure is not None:
            offset = offset + _log_exposure(self.exposure, frame)
        random: list[tuple] = []
        if include_random:
            at = 0
            for term, matrix in self.random:
                z = matrix.matrix(frame)
                codes = self._codes(term, frame, levels[at] if term.cells is None else term.cells)
                if term.cells is not None:
                    codes = _cell_codes(term, matrix.columns, codes, z, levels[at])
                pieces = _pieces(term, z)
                random.extend((codes, piece) for piece in pieces)
                at += len(pieces)
        return NewData(exog, offset, random, frame.index, self._trials(frame))

    def _trials(self, frame):
        """Numbers of trials, which new data need not have."""
        if self.n_trials is None:
            return None
        try:
            values = self.n_trials.values(frame)
        except FormulaError:
            return None
        trials = numeric(values, "n_trials")
        check_trials(trials, frame.index)
        return trials

    def random_columns(self, data) -> list:
        """Columns of each term for new data, whatever their groups."""
        frame = as_frame(data)
        return [piece for term, matrix in self.random for piece in _pieces(term, matrix.matrix(frame))]

    @staticmethod
    def _codes(term, frame, levels):
        hint = " Add it, or ask for the population value with include_random=False."
        for part in term.parts:
            if part.code.isidentifier() and part.code not in frame.columns:
                raise FormulaError(
                    f"The new data have no column {part.code!r}, the grouping factor of "
                    f"({term.text} | {term.group}).{hint}"
                )
        try:
            values = [part.values(frame) for part in term.parts]
        except FormulaError as error:
            raise FormulaError(f"The grouping factor of ({term.text} | {term.group}): {error}{hint}") from None
        return match_levels(values, levels)


def _log_exposure(exposure, frame):
    try:
        values = exposure.values(frame)
    except FormulaError as error:
        raise FormulaError(
            f"The model has the exposure {exposure.code!r}, and the new data lack it. {error} Add it (ones for no "
            "exposure)."
        ) from None
    return log_exposure(numeric(values, f"The exposure {exposure.code!r}"), frame.index)


def without_intercept(matrix, columns):
    """A fixed part, and the names of its columns, without the intercept that patsy has put first."""
    if "Intercept" not in columns:
        return matrix, tuple(columns)
    at = list(columns).index("Intercept")
    return np.delete(matrix, at, axis=1), tuple(c for j, c in enumerate(columns) if j != at)


def _pieces(term, z):
    """The columns of a recipe as those of its terms."""
    if term.split:
        return [z[:, [j]] for j in range(z.shape[1])]
    if term.cells is None:
        return [z]
    if (z != 0).sum(axis=1).max(initial=0) > 1:
        raise ValueError(
            f"The variance component {term.name!r} was fitted to columns of which one at most is not zero in each "
            "row; in the new data a row has several."
        )
    return [z.sum(axis=1, keepdims=True)]


def _cell_codes(term, columns, codes, z, levels):
    """Level of each row where columns and groups became one factor; a row of zeros has any."""
    which = (z != 0).argmax(axis=1)
    labels = [
        columns[j] if len(term.cells) == 1 else f"{columns[j]}:{term.cells[code]}"
        for j, code in zip(which, codes, strict=True)
    ]
    found = np.asarray(levels.get_indexer(pd.Index(labels)), dtype=np.intp)
    found[codes < 0] = -1
    found[~z.any(axis=1)] = 0
    return found
