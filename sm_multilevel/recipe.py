"""How a design is made from data, kept so that it can be made again from new data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sm_multilevel.covariance import Covariance
from sm_multilevel.formula.frame import as_frame
from sm_multilevel.formula.matrices import MatrixFormula
from sm_multilevel.formula.terms import FormulaError
from sm_multilevel.grouping import match_levels

__all__ = ["NewData", "Recipe", "TermRecipe"]


@dataclass(frozen=True, eq=False)
class TermRecipe:
    """How a random term is made from data.

    Attributes
    ----------
    group : str
        Name of the grouping factor.
    parts : tuple of Expression or None
        Factors whose crossing is the grouping; None where an array was given.
    text : str
        Patsy right-hand side of the columns.
    covariance : Covariance
    name : str
    split : bool
        ``||``: every column becomes a term of its own.
    given : tuple of ndarray or None
        Values of the grouping where an array was given.
    is_component : bool
        Whether it came from ``vc_formula=``.
    """

    group: str
    parts: tuple | None
    text: str
    covariance: Covariance
    name: str
    split: bool = False
    given: tuple | None = None
    is_component: bool = False


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
    """

    exog: np.ndarray
    offset: np.ndarray
    random: list
    index: pd.Index


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a design is rebuilt for new data; pickles without the data.

    Attributes
    ----------
    fixed : MatrixFormula
    random : tuple of (TermRecipe, MatrixFormula)
    offsets : tuple of Expression
    offset_name : str or None
        Column given in ``offset=``.
    """

    fixed: MatrixFormula
    random: tuple
    offsets: tuple
    offset_name: str | None

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
        offset = np.zeros(len(frame))
        for expression in self.offsets:
            offset = offset + np.asarray(expression.values(frame), dtype=float)
        if self.offset_name is not None:
            if self.offset_name not in frame.columns:
                raise FormulaError(
                    f"The model has the offset column {self.offset_name!r}, which is not in the new "
                    "data. Add it (zeros for no offset)."
                )
            offset = offset + np.asarray(frame[self.offset_name], dtype=float)
        random = []
        if include_random:
            at = 0
            for term, matrix in self.random:
                z = matrix.matrix(frame)
                codes = self._codes(term, frame, levels[at])
                pieces = [z[:, [j]] for j in range(z.shape[1])] if term.split else [z]
                random.extend((codes, piece) for piece in pieces)
                at += len(pieces)
        return NewData(exog, offset, random, frame.index)

    def random_columns(self, data) -> list:
        """Columns of each term for new data, whatever their groups: (None, ndarray) pairs."""
        frame = as_frame(data)
        out = []
        for term, matrix in self.random:
            z = matrix.matrix(frame)
            pieces = [z[:, [j]] for j in range(z.shape[1])] if term.split else [z]
            out.extend((None, piece) for piece in pieces)
        return out

    @staticmethod
    def _codes(term, frame, levels):
        hint = " Add it, or ask for the population value with include_random=False."
        if term.parts is None:
            if term.group in frame.columns:
                return match_levels([frame[term.group].to_numpy()], levels)
            raise FormulaError(
                f"The model's groups were given as an array, so new data need a column named "
                f"{term.group!r} with the group of each row.{hint}"
            )
        for part in term.parts:
            if part.code.isidentifier() and part.code not in frame.columns:
                raise FormulaError(
                    f"The new data have no column {part.code!r}, the grouping factor of "
                    f"({term.text} | {term.group}).{hint}"
                )
        return match_levels([part.values(frame) for part in term.parts], levels)
