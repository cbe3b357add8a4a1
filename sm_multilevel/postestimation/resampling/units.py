"""The independent units of a model, each with a vector of random effects of the same length.

With one grouping factor the units are its levels. With several they are the sets of levels that
meet in rows, directly or through others: of nested factors the levels of the outermost. The
random effects of a unit are those of all its levels, of each factor as many as the unit with the
most has; where a unit has fewer, its columns of Z are zero, and nothing is estimated from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sm_multilevel.linalg.cholesky import BlockMatrix
from sm_multilevel.random_effects import RandomEffects

__all__ = ["Units", "find_units"]


@dataclass(frozen=True, eq=False)
class Units:
    """Where the levels of each factor stand in their units.

    Attributes
    ----------
    size, q : int
        Number of units, and columns of each.
    codes : ndarray of int, shape (n,)
        Unit of each row.
    home : list of ndarray of int, shape (m_f,)
        Unit of each level.
    place : list of ndarray of int, shape (m_f,)
        Which of the unit's levels of the factor it is.
    slots : list of ndarray of int, shape (K_f, q_f)
        Columns of each such level.
    """

    size: int
    q: int
    codes: np.ndarray
    home: list[np.ndarray]
    place: list[np.ndarray]
    slots: list[np.ndarray]

    def gather(self, values: list[np.ndarray]) -> np.ndarray:
        """Numbers of the levels' columns, (q_f, m_f, B) a factor, by unit: (q, units, B)."""
        if self._is_plain:
            return values[0]
        out = np.zeros((self.q, self.size, values[0].shape[2]))
        for value, home, place, slots in zip(values, self.home, self.place, self.slots, strict=True):
            out[slots[place].T, home] = value
        return out

    def blocks(self, matrix: BlockMatrix) -> np.ndarray:
        """A matrix with the pattern of Z'Z as one block a unit: (q, q, units)."""
        if self._is_plain:
            return matrix.diag[0]
        out = np.zeros((self.q, self.q, self.size))
        for diag, home, place, slots in zip(matrix.diag, self.home, self.place, self.slots, strict=True):
            at = slots[place].T
            out[at[:, None], at[None, :], home] = diag
        for (f, g), off in matrix.off.items():
            pattern = matrix.layout.pairs[f, g]
            a, b = self.slots[f][self.place[f][pattern.first]].T, self.slots[g][self.place[g][pattern.second]].T
            home = self.home[f][pattern.first]
            out[a[:, None], b[None, :], home] = off
            out[b[:, None], a[None, :], home] = off.transpose(1, 0, 2)
        return out

    def basis(self, effects: RandomEffects) -> np.ndarray:
        """dLambda / dtheta_j of a unit, shape (k, q, q)."""
        out = np.zeros((effects.n_params, self.q, self.q))
        for j, (f, b) in enumerate(effects.basis):
            for at in self.slots[f]:
                out[j][np.ix_(at, at)] = b
        return out

    @property
    def _is_plain(self) -> bool:
        return len(self.slots) == 1


def find_units(effects: RandomEffects) -> Units:
    """The units of a model.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import pastes
    >>> from sm_multilevel.postestimation.resampling.units import find_units
    >>> model = smf.mixedlm("strength ~ 1 + (1 | batch/cask)", pastes.load_pandas().data)
    >>> units = find_units(model.effects)  # batches, each with one effect and those of its three casks
    >>> units.size, units.q
    (10, 4)
    """
    sizes, widths = effects.layout.m, effects.layout.q
    codes = [effects.terms[factor.terms[0]].codes for factor in effects.factors]
    if len(sizes) == 1:
        nothing = np.zeros(sizes[0], dtype=np.intp)
        return Units(sizes[0], widths[0], codes[0], [np.arange(sizes[0])], [nothing], [np.arange(widths[0])[None]])
    first = np.concatenate([[0], np.cumsum(sizes)])
    heads, feet = [], []
    for (f, g), pattern in effects.layout.pairs.items():
        heads.append(first[f] + pattern.first)
        feet.append(first[g] + pattern.second)
    rows, columns = np.concatenate(heads), np.concatenate(feet)
    graph = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(first[-1], first[-1]))
    size, label = connected_components(graph, directed=False)
    home, place, slots, at = [], [], [], 0
    for f, (m, q) in enumerate(zip(sizes, widths, strict=True)):
        unit = label[first[f] : first[f] + m]
        number = pd.Series(unit).groupby(unit).cumcount().to_numpy()
        most = int(number.max()) + 1
        home.append(unit.astype(np.intp))
        place.append(number)
        slots.append(at + np.arange(most * q).reshape(most, q))
        at += most * q
    return Units(int(size), at, home[0][codes[0]], home, place, slots)
