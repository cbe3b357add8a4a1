"""Which blocks of Z'Z exist, and in which order they are eliminated.

The rows and columns of Z'Z are those of the grouping factors: factor f has ``m`` levels
of ``q`` columns. Within a factor Z'Z is block-diagonal; between two factors a block
exists where a row of data has both levels. A chain of factors, each nested in the next,
can be eliminated without fill outside the pattern ("stages"); what is left is the
"tail", dense within each of its connected components. Nothing here sees a number of Z.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

__all__ = ["Layout", "MemoryBudgetError", "PairPattern", "build_layout"]

# Largest amount of memory (bytes) that the dense tail may take before it is refused.
DENSE_BUDGET = 4 * 2**30
# Seconds of a pair of strip entries (gather, multiply, add) against one fused
# multiply-add of a matrix product; measured, and only their ratio matters.
_COST_PAIR, _COST_DENSE = 15e-9, 0.08e-9
_DENSE_ROWS = 2**22  # numbers of a dense strip chunk


class MemoryBudgetError(ValueError):
    """The dense part of the problem would not fit in memory."""


@dataclass(frozen=True, eq=False)
class PairPattern:
    """Existing blocks between two factors, sorted by the first factor's level.

    Attributes
    ----------
    first, second : ndarray, shape (nnz,)
        Levels of the two factors.
    """

    first: np.ndarray
    second: np.ndarray

    @property
    def nnz(self) -> int:
        return self.first.shape[0]


@dataclass(frozen=True, eq=False)
class StripPairs:
    """All pairs a <= b of entries of the same level, those of the first entry first.

    Attributes
    ----------
    after : ndarray, shape (entries,)
        How many pairs each entry a begins.
    first : ndarray, shape (entries,)
        Where they begin; that pair is (a, a).
    second : ndarray, shape (pairs,)
        Entry b of each pair.
    at : ndarray, shape (pairs,)
        Its place in the tail's storage.
    """

    after: np.ndarray
    first: np.ndarray
    second: np.ndarray
    at: np.ndarray


@dataclass(frozen=True, eq=False)
class TailStrip:
    """Link from a stage to the tail's columns: rows sorted, columns ascending in a row.

    Attributes
    ----------
    rows, cols : ndarray, shape (nnz,)
        Stage level and tail column of each entry.
    indptr : ndarray, shape (m + 1,)
        Where each level's entries begin.
    perm : ndarray or None
        Order that brings the entries, listed factor by factor, into this one.
    inverse : ndarray or None
        The inverse of ``perm``.
    pairs : StripPairs or None
        All pairs of entries of each level; None where a dense product is cheaper.
    """

    rows: np.ndarray
    cols: np.ndarray
    indptr: np.ndarray
    perm: np.ndarray | None
    inverse: np.ndarray | None
    pairs: StripPairs | None

    def chunks(self, width: int, q: int):
        """Ranges of levels whose dense strips stay small."""
        step = max(1, _DENSE_ROWS // max(1, width * q))
        for start in range(0, self.indptr.shape[0] - 1, step):
            stop = min(start + step, self.indptr.shape[0] - 1)
            yield start, stop, self.indptr[start], self.indptr[stop]


@dataclass(frozen=True, eq=False)
class Tail:
    """Storage of the dense tail: components of equal size batched together.

    Attributes
    ----------
    offset : dict
        First tail column of each tail factor.
    width : int
        Number of tail columns.
    buckets : tuple of (start, count, size)
        Slices of the flat storage that hold ``count`` matrices of ``size`` x ``size``.
    base, size, local : ndarray, shape (width,)
        Where a column's component starts in the storage, its size, and the column's
        place in it.
    slot : ndarray, shape (width,)
        Place of a column in a right-hand side ordered bucket by bucket.
    slots : int
        Length of such a right-hand side (padding included).
    storage : int
        Length of the flat storage.
    identity : ndarray, shape (storage,)
        Identity matrices, flat: what padding keeps.
    """

    offset: dict[int, int]
    width: int
    buckets: tuple[tuple[int, int, int], ...]
    base: np.ndarray
    size: np.ndarray
    local: np.ndarray
    slot: np.ndarray
    slots: int
    storage: int
    identity: np.ndarray

    def below(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """As `at`, for columns a <= b, whose places are ordered alike."""
        if self.is_single:
            return b * self.width + a
        return self.base[a] + self.local[b] * self.size[a] + self.local[a]

    @property
    def is_single(self) -> bool:
        """Whether all columns are one component."""
        return len(self.buckets) == 1 and self.buckets[0][1] == 1

    def at(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Place in the storage of the lower-triangle element of two columns."""
        la, lb = self.local[a], self.local[b]
        return self.base[a] + np.maximum(la, lb) * self.size[a] + np.minimum(la, lb)


@dataclass(frozen=True, eq=False)
class Layout:
    """Symbolic structure of Z'Z; see the module's text.

    Attributes
    ----------
    m, q : tuple of int
        Levels and columns of each factor, in the caller's order.
    stages, tail_factors : tuple of int
        Factors in order of elimination.
    pairs : dict of (a, b) -> PairPattern
        Keys are ordered by elimination.
    sums : dict of (a, b) -> csr_matrix, shape (m_b, m_a)
        Of two stages: sums over the levels of a that lie in one of b.
    strips : dict of a -> TailStrip
        Of each stage, where there is a tail.
    strip_remaps : dict of (a, b) -> ndarray
        Of two stages: the entry of b's strip to which each of a's belongs.
    tail : Tail or None
    diag_at, pair_at : dict of g, or (g, h) -> ndarray, shape (q, q, m), or (q_g, q_h, nnz)
        Where the blocks of tail factors stand in the tail's storage.
    """

    m: tuple[int, ...]
    q: tuple[int, ...]
    stages: tuple[int, ...]
    tail_factors: tuple[int, ...]
    pairs: dict[tuple[int, int], PairPattern]
    sums: dict[tuple[int, int], sparse.csr_matrix]
    strips: dict[int, TailStrip]
    strip_remaps: dict[tuple[int, int], np.ndarray]
    tail: Tail | None
    diag_at: dict[int, np.ndarray] = field(default_factory=dict)
    pair_at: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    @property
    def dense(self) -> Tail:
        """The tail, where it is known that there is one."""
        if self.tail is None:
            raise RuntimeError("this layout has no tail")
        return self.tail

    @property
    def n_columns(self) -> int:
        """Columns of Z."""
        return sum(m * q for m, q in zip(self.m, self.q, strict=True))


def _pair_pattern(a, b, ma, mb):
    """Pattern of two codings and each row's place in it."""
    parent = np.full(ma, -1, dtype=np.intp)
    parent[a] = b
    if np.array_equal(parent[a], b):  # nested: one block a level, no search needed
        return PairPattern(np.arange(ma), parent), a
    key = a.astype(np.int64) * mb + b
    if ma * mb <= max(8 * a.shape[0], 2**20):
        seen = np.zeros(ma * mb, dtype=bool)
        seen[key] = True
        unique = np.flatnonzero(seen)
        place = np.empty(ma * mb, dtype=np.intp)
        place[unique] = np.arange(unique.shape[0])
        rows = place[key]
    else:
        codes, unique = pd.factorize(key)
        order = np.argsort(unique, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(order.shape[0])
        unique, rows = unique[order], rank[codes]
    return PairPattern(unique // mb, unique % mb), rows


def _best_chain(size, nested):
    """The chain of factors, each nested in all that follow, with the most columns."""
    factors = sorted(range(len(size)), key=lambda f: -size[f])
    best: tuple[int, ...] = ()
    best_size = -1
    for k in range(1, len(factors) + 1):
        for subset in combinations(factors, k):
            chain = tuple(subset)  # sorted by size, so finer factors come first
            if all(nested[i, j] for i, j in combinations(chain, 2)):
                total = sum(size[f] for f in chain)
                if total > best_size:
                    best, best_size = chain, total
    return best


def build_layout(codes, m, q, names=None, dense_budget=None):
    """Analyse the structure of Z'Z.

    Parameters
    ----------
    codes : list of ndarray, shape (n,)
        Level number of each row, one array a factor; every level occurs.
    m, q : list of int
        Numbers of levels and of columns.
    names : list of str, optional
        Names of the factors, for messages.
    dense_budget : int, optional
        Bytes that the dense tail may take.

    Returns
    -------
    layout : Layout
    rows : dict of (a, b) -> ndarray, shape (n,)
        Each row's place in the pattern of a pair of factors.

    Raises
    ------
    MemoryBudgetError
        If the dense blocks would need more memory than the budget; nothing is allocated.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.linalg.layout import build_layout
    >>> pupil, school = np.arange(6), np.repeat([0, 1], 3)
    >>> build_layout([pupil, school], [6, 2], [1, 1])[0].stages
    (0, 1)
    """
    k = len(codes)
    budget = DENSE_BUDGET if dense_budget is None else dense_budget
    size = [m[f] * q[f] for f in range(k)]
    by_size = sorted(range(k), key=lambda f: -size[f])
    found = {}
    nested = np.zeros((k, k), dtype=bool)
    for i, j in combinations(by_size, 2):
        pattern, rows = _pair_pattern(codes[i], codes[j], m[i], m[j])
        found[i, j] = pattern, rows
        nested[i, j] = pattern.nnz == m[i]
    stages = _best_chain(size, nested)
    tail_factors = tuple(f for f in by_size if f not in stages)
    order = stages + tail_factors

    pairs, places = {}, {}
    for i, j in combinations(order, 2):
        if (i, j) in found:
            pairs[i, j], places[i, j] = found[i, j]
        else:
            pairs[i, j], places[i, j] = _swap(*found[j, i], m[i])

    sums = {}
    for i, j in combinations(stages, 2):
        pattern = pairs[i, j]
        ones = np.ones(m[i])
        sums[i, j] = sparse.csr_matrix((ones, (pattern.second, pattern.first)), shape=(m[j], m[i]))

    tail = None
    strips, strip_remaps, diag_at, pair_at = {}, {}, {}, {}
    if tail_factors:
        tail = _build_tail(stages, tail_factors, pairs, m, q, names, budget)
        cols = {g: tail.offset[g] + np.arange(m[g] * q[g]).reshape(m[g], q[g]).T for g in tail_factors}
        for f in stages:
            strips[f] = _build_strip(f, tail_factors, pairs, cols, m, q, tail)
        for i, j in combinations(stages, 2):
            up = pairs[i, j].second
            key_j = strips[j].rows.astype(np.int64) * tail.width + strips[j].cols
            key_i = up[strips[i].rows].astype(np.int64) * tail.width + strips[i].cols
            strip_remaps[i, j] = np.searchsorted(key_j, key_i)
        for g in tail_factors:
            diag_at[g] = tail.at(cols[g][:, None], cols[g][None, :])
        for g, h in combinations(tail_factors, 2):
            p = pairs[g, h]
            pair_at[g, h] = tail.at(cols[g][:, p.first][:, None], cols[h][:, p.second][None, :])
    layout = Layout(tuple(m), tuple(q), stages, tail_factors, pairs, sums, strips, strip_remaps, tail, diag_at, pair_at)
    return layout, places


def _swap(pattern, rows, m_new_first):
    order = np.lexsort((pattern.first, pattern.second))
    rank = np.empty_like(order)
    rank[order] = np.arange(order.shape[0])
    return PairPattern(pattern.second[order], pattern.first[order]), rank[rows]


def _build_tail(stages, tail_factors, pairs, m, q, names, budget):
    offset, level_offset, width, levels = {}, {}, 0, 0
    for g in tail_factors:
        offset[g], level_offset[g] = width, levels
        width += m[g] * q[g]
        levels += m[g]
    # Tail levels hang together if a row, or an eliminated level, has both.
    nodes = {f: sum(m[h] for h in stages[:i]) + levels for i, f in enumerate(stages)}
    nodes.update(level_offset)
    total = levels + sum(m[f] for f in stages)
    heads, feet = [], []
    for (a, b), p in pairs.items():
        if b in offset:
            heads.append(nodes[a] + p.first)
            feet.append(nodes[b] + p.second)
    head, foot = np.concatenate(heads), np.concatenate(feet)
    graph = sparse.coo_matrix((np.ones(head.shape[0]), (head, foot)), shape=(total, total))
    label = connected_components(graph, directed=False)[1][:levels]
    label = np.concatenate([np.repeat(label[level_offset[g] : level_offset[g] + m[g]], q[g]) for g in tail_factors])
    component = np.unique(label, return_inverse=True)[1]
    counts = np.bincount(component)
    # Pad components up to the next power of two above 8, so that there are few batches.
    padded = np.where(counts <= 8, counts, 2 ** np.ceil(np.log2(np.maximum(counts, 1))).astype(int))
    padded = np.where(counts == counts.max(), counts.max(), np.minimum(padded, counts.max()))
    need = int((padded.astype(np.int64) ** 2).sum()) * 8 * 3
    if need > budget:
        label_of = names or [str(f) for f in range(len(m))]
        listed = ", ".join(f"{label_of[g]} ({m[g]} levels)" for g in tail_factors)
        raise MemoryBudgetError(
            f"The random effects of {listed} are crossed with those of "
            f"{label_of[stages[0]]} ({m[stages[0]]} levels) and would need dense blocks of "
            f"{need / 2**30:.1f} GiB, over the budget of {budget / 2**30:.1f} GiB. Nothing was "
            "allocated. Drop a term, merge levels, or nest the factor if it is nested."
        )
    column_rank = np.empty(width, dtype=np.intp)
    by_component = np.argsort(component, kind="stable")
    first = np.concatenate([[0], np.cumsum(counts)])
    column_rank[by_component] = np.arange(width) - np.repeat(first[:-1], counts)
    base = np.empty(counts.shape[0], dtype=np.intp)
    slot0 = np.empty(counts.shape[0], dtype=np.intp)
    buckets, start, slots = [], 0, 0
    for b in np.unique(padded):
        members = np.flatnonzero(padded == b)
        base[members] = start + np.arange(members.shape[0]) * b * b
        slot0[members] = slots + np.arange(members.shape[0]) * b
        buckets.append((start, members.shape[0], int(b)))
        start += members.shape[0] * b * b
        slots += members.shape[0] * b
    identity = np.concatenate([np.broadcast_to(np.eye(b), (c, b, b)).reshape(-1) for _, c, b in buckets])
    return Tail(
        offset, width, tuple(buckets), base[component], padded[component].astype(np.intp),
        column_rank, slot0[component] + column_rank, slots, start, identity,
    )  # fmt: skip


def _build_strip(f, tail_factors, pairs, cols, m, q, tail):
    rows = np.concatenate([np.tile(pairs[f, g].first, q[g]) for g in tail_factors])
    columns = np.concatenate([cols[g][:, pairs[f, g].second].ravel() for g in tail_factors])
    key = rows * np.int64(tail.width) + columns
    perm = inverse = None
    if (np.diff(key) < 0).any():
        perm = np.argsort(key, kind="stable")
        inverse = np.empty_like(perm)
        inverse[perm] = np.arange(perm.shape[0])
        rows, columns = rows[perm], columns[perm]
    per_row = np.bincount(rows, minlength=m[f])
    indptr = np.concatenate([[0], np.cumsum(per_row)])
    n_pairs = int((per_row * (per_row + 1) // 2).sum())
    dense = 2.0 * m[f] * q[f] * float(tail.width) ** 2 * _COST_DENSE
    listed = None
    if not tail.is_single or n_pairs * q[f] * _COST_PAIR <= dense:
        nnz = rows.shape[0]
        after = np.repeat(indptr[1:], per_row) - np.arange(nnz)
        first = np.cumsum(after) - after
        second = np.arange(n_pairs) + np.repeat(np.arange(nnz) - first, after)
        at = tail.below(np.repeat(columns, after), columns[second])
        listed = StripPairs(after, first, second, at)
    return TailStrip(rows, columns, indptr, perm, inverse, listed)
