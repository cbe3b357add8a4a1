"""Sums over the rows of each level, and back: all that the row-wise objectives do with X and Z.

Rows are sorted once, by the nested chain of factors and then by the largest crossed one, so
that the sums over the levels of the chain run over neighbours (`np.add.reduceat`); other
factors are summed by `np.bincount`. Columns are stored apart, each contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sm_multilevel.linalg.cholesky import BlockMatrix
from sm_multilevel.linalg.layout import Layout
from sm_multilevel.random_effects import RandomEffects

__all__ = ["Places", "Rows", "Runs", "bind_rows"]

Column = np.ndarray | float  # a number where the column is constant


@dataclass(frozen=True, eq=False)
class Runs:
    """Neighbouring rows of equal codes, where each code has one run.

    Attributes
    ----------
    starts : ndarray of int
        First row of each run.
    order : ndarray of int, or None
        Code of each run; None where runs are in the order of codes.
    counts : ndarray of int
        Rows of each run.
    """

    starts: np.ndarray
    order: np.ndarray | None
    counts: np.ndarray


@dataclass(frozen=True, eq=False)
class Places:
    """Where each row belongs: a level, or a block of a pair of factors.

    Attributes
    ----------
    codes : ndarray of int, shape (n,)
    size : int
    found : Runs or None
        None where the rows of a code are not neighbours.
    """

    codes: np.ndarray
    size: int
    found: Runs | None

    @property
    def runs(self) -> Runs:
        """The runs, where it is known that there are any: of the factors of a nested chain."""
        if self.found is None:
            raise RuntimeError("the rows of a level are not neighbours")
        return self.found

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sums of a row vector, shape (..., n) -> (..., size)."""
        if self.found is not None:
            sums = np.add.reduceat(values, self.found.starts, axis=-1)
            if self.found.order is None:
                return sums
            out = np.empty_like(sums)
            out[..., self.found.order] = sums
            return out
        if values.ndim == 1:
            return np.bincount(self.codes, weights=values, minlength=self.size)
        flat = values.reshape(-1, values.shape[-1])
        out = np.stack([np.bincount(self.codes, weights=v, minlength=self.size) for v in flat])
        return out.reshape(*values.shape[:-1], self.size)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Each row's value, shape (..., size) -> (..., n)."""
        if self.found is not None:
            order = self.found.order
            return np.repeat(values if order is None else values[..., order], self.found.counts, axis=-1)
        return values[..., self.codes]


def _places(codes: np.ndarray, size: int) -> Places:
    """Find out whether the rows of every code are neighbours."""
    n = codes.shape[0]
    change = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    if change.shape[0] + 1 != size:
        return Places(codes, size, None)
    starts = np.concatenate([[0], change])
    order = codes[starts]
    counts = np.diff(np.append(starts, n))
    return Places(codes, size, Runs(starts, None if (np.diff(order) > 0).all() else order, counts))


@dataclass(frozen=True, eq=False)
class Rows:
    """X, Z and offset of sorted rows, in standardised columns.

    Attributes
    ----------
    xt : ndarray, shape (p, n)
    offset : ndarray or None
    columns : list of list of Column
        Of each factor.
    levels : list of Places
    pairs : dict of (f, g) -> Places
    layout : Layout
    """

    xt: np.ndarray
    offset: np.ndarray | None
    columns: list[list[Column]]
    levels: list[Places]
    pairs: dict[tuple[int, int], Places]
    layout: Layout

    @property
    def p(self) -> int:
        return self.xt.shape[0]

    @property
    def n(self) -> int:
        return self.levels[0].codes.shape[0]

    @cached_property
    def blocks(self) -> Places:
        """The component of each row: levels that never meet, even through others, are solved apart."""
        first = self.levels[0]
        if len(self.levels) == 1:
            return first
        at = np.concatenate([[0], np.cumsum([place.size for place in self.levels])])
        heads = np.concatenate([at[f] + p.first for (f, g), p in self.layout.pairs.items()])
        feet = np.concatenate([at[g] + p.second for (f, g), p in self.layout.pairs.items()])
        graph = sparse.coo_matrix((np.ones(heads.shape[0]), (heads, feet)), shape=(at[-1], at[-1]))
        count, label = connected_components(graph, directed=False)
        return _places(label[: first.size][first.codes].astype(np.intp), count)

    def fixed(self, beta: np.ndarray) -> np.ndarray:
        """offset + X beta."""
        eta = beta @ self.xt if self.p else np.zeros(self.n)
        return eta if self.offset is None else eta + self.offset

    def spread(self, b: list[np.ndarray]) -> np.ndarray:
        """Z b for b of shape (..., q, m) a factor."""
        out: np.ndarray | None = None
        for columns, place, values in zip(self.columns, self.levels, b, strict=True):
            for j, column in enumerate(columns):
                part = place.spread(values[..., j, :])
                if not (isinstance(column, float) and column == 1.0):
                    part *= column
                if out is None:
                    out = part
                else:
                    out += part
        return np.zeros(self.n) if out is None else out

    def collect(self, v: np.ndarray) -> list[np.ndarray]:
        """Z'v, shape (..., q, m) a factor."""
        return [
            np.stack([_scaled_sum(place, column, v) for column in columns], axis=-2)
            for columns, place in zip(self.columns, self.levels, strict=True)
        ]

    def gram(self, w: np.ndarray) -> BlockMatrix:
        """Z' diag(w) Z on its pattern."""
        diag = []
        for columns, place in zip(self.columns, self.levels, strict=True):
            q = len(columns)
            block = np.empty((q, q, place.size))
            for i in range(q):
                wi = _times(columns[i], w)
                for j in range(i, q):
                    block[i, j] = _scaled_sum(place, columns[j], wi)
                    if i != j:
                        block[j, i] = block[i, j]
            diag.append(block)
        off = {}
        for (f, g), place in self.pairs.items():
            a, b = self.columns[f], self.columns[g]
            block = np.empty((len(a), len(b), place.size))
            for i, left in enumerate(a):
                wi = _times(left, w)
                for j, right in enumerate(b):
                    block[i, j] = _scaled_sum(place, right, wi)
            off[f, g] = block
        return BlockMatrix(self.layout, diag, off)

    def quadratic(self, m: BlockMatrix) -> np.ndarray:
        """diag(Z M Z') of a symmetric M on the pattern; shape (n,)."""
        out = np.zeros(self.n)
        for columns, place, block in zip(self.columns, self.levels, m.diag, strict=True):
            for i, left in enumerate(columns):
                for j in range(i, len(columns)):
                    part = place.spread(block[i, j] if i == j else 2.0 * block[i, j])
                    out += _times(columns[j], _times(left, part))
        for (f, g), place in self.pairs.items():
            for i, left in enumerate(self.columns[f]):
                for j, right in enumerate(self.columns[g]):
                    out += _times(right, _times(left, place.spread(2.0 * m.off[f, g][i, j])))
        return out


def _times(column: Column, v: np.ndarray) -> np.ndarray:
    return v if isinstance(column, float) and column == 1.0 else column * v


def _scaled_sum(place, column, v):
    if isinstance(column, float):
        total = place.sum(v)
        return total if column == 1.0 else column * total
    return place.sum(column * v)


def bind_rows(x: np.ndarray, change: np.ndarray, effects: RandomEffects, offset=None, centre=None):
    """Sort the rows and standardise their columns.

    Parameters
    ----------
    x : ndarray, shape (n, p)
    change : ndarray, shape (p, p)
        X_used = (X - centre) @ change.
    effects : RandomEffects
    offset : ndarray, shape (n,), optional
    centre : ndarray, shape (p,), optional
        For models whose thresholds take up what centring X does to the level.

    Returns
    -------
    rows : Rows
    order : ndarray of int, or None
        The caller's row of each sorted one; None where they were in order.
    """
    layout = effects.layout
    n = x.shape[0]
    codes = [effects.terms[f.terms[0]].codes for f in effects.factors]
    # Coarse levels first, so that the rows of every level of the chain are neighbours.
    keys = [codes[f] for f in layout.stages] + [codes[f] for f in layout.tail_factors[:1]]
    chain = len(layout.stages)
    sort = [*reversed(keys[:chain]), *keys[chain:]]
    order = None if _in_order(sort) else np.lexsort(sort[::-1])

    def sorted_(v):
        return v if order is None else v[order]

    columns: list[list[Column]] = []
    for factor, w in zip(effects.factors, effects.factor_standardizers, strict=True):
        parts = [effects.terms[i].exog for i in factor.terms]
        z = parts[0] if len(parts) == 1 else np.hstack(parts)
        mine: list[Column] = []
        for j in range(factor.q):
            used = np.flatnonzero(w[:, j])
            column = z[:, j] * w[j, j] if used.tolist() == [j] else z @ w[:, j]
            constant = bool(np.all(column == column[0]))
            value = float(column[0]) if n else 1.0
            if constant:  # a standard deviation of one, but for rounding
                mine.append(1.0 if abs(value - 1.0) < 1e-15 else value)
            else:
                mine.append(np.ascontiguousarray(sorted_(column)))
        columns.append(mine)
    levels = [_places(sorted_(c), f.m) for c, f in zip(codes, effects.factors, strict=True)]
    pairs = {key: _places(sorted_(effects.rows[key]), p.nnz) for key, p in layout.pairs.items()}
    xt = np.empty((x.shape[1], n))
    for j in range(x.shape[1]):
        used = np.flatnonzero(change[:, j])
        column = x[:, j] * change[j, j] if used.tolist() == [j] else x @ change[:, j]
        if centre is not None:
            column = column - centre @ change[:, j]
        xt[j] = sorted_(column)

    offset = None if offset is None else np.ascontiguousarray(sorted_(offset))
    return Rows(xt, offset, columns, levels, pairs, layout), order


def _in_order(keys) -> bool:
    """Whether rows are sorted lexicographically by the keys."""
    tied = np.ones(max(0, keys[0].shape[0] - 1), dtype=bool)
    for key in keys:
        step = key[1:] - key[:-1]
        if (step[tied] < 0).any():
            return False
        tied &= step == 0
    return True
