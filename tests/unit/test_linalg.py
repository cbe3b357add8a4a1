"""Blocked Cholesky on random patterns against dense algebra: both ways through the tail, and the memory budget."""

import tracemalloc
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sm_multilevel.linalg import layout as layout_module
from sm_multilevel.linalg import small
from sm_multilevel.linalg.cholesky import BlockCholesky, BlockMatrix
from sm_multilevel.linalg.layout import MemoryBudgetError, build_layout

EXAMPLES = settings(max_examples=150, derandomize=True, deadline=None, database=None)


# -- patterns: each makes the codes of some factors from a generator -----------------------------


def _levels(rng, n, m):
    """Codes of n rows in which every one of m levels occurs."""
    return rng.permutation(np.concatenate([np.arange(m), rng.integers(0, m, n - m)]))


def single(rng):
    return [_levels(rng, 30, 7)]


def nested_two(rng):
    inner = _levels(rng, 40, 12)
    return [inner, _levels(rng, 12, 4)[inner]]


def nested_three(rng):
    inner = _levels(rng, 50, 20)
    middle = _levels(rng, 20, 6)
    return [_levels(rng, 6, 3)[middle[inner]], inner, middle[inner]]


def crossed(rng):
    return [_levels(rng, 40, 9), _levels(rng, 40, 5)]


def crossed_three(rng):
    return [_levels(rng, 45, 9), _levels(rng, 45, 8), _levels(rng, 45, 4)]


def crossed_full(rng):
    """Every level with every other."""
    return [np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6)]


def crossed_and_nested(rng):
    inner = _levels(rng, 50, 14)
    return [_levels(rng, 50, 5), inner, _levels(rng, 14, 4)[inner]]


def nested_in_both(rng):
    """A factor nested in two that are crossed."""
    inner = _levels(rng, 50, 16)
    return [inner, _levels(rng, 16, 5)[inner], _levels(rng, 16, 4)[inner]]


def components(rng):
    """Crossed within blocks of rows that share no level; blocks of very different size."""
    a, b, begin = [], [], [0, 0]
    for size in (1, 2, 3, 3, 11, 12):
        rows = 3 * size + 2
        a.append(begin[0] + _levels(rng, rows, size))
        b.append(begin[1] + _levels(rng, rows, max(1, size - 1)))
        begin = [begin[0] + size, begin[1] + max(1, size - 1)]
    return [np.concatenate(a), np.concatenate(b)]


def components_of_three(rng):
    blocks = [crossed_and_nested(rng) for _ in range(3)]
    shift = np.zeros(3, int)
    out = [[], [], []]
    for block in blocks:
        for f, codes in enumerate(block):
            out[f].append(codes + shift[f])
        shift = shift + [codes.max() + 1 for codes in block]
    return [np.concatenate(f) for f in out]


def same_partition(rng):
    """Two factors with the same groups of rows under other numbers."""
    codes = _levels(rng, 30, 8)
    return [codes, rng.permutation(8)[codes]]


def one_level(rng):
    return [np.zeros(20, int), _levels(rng, 20, 5)]


PATTERNS = [single, nested_two, nested_three, crossed, crossed_three, crossed_full, crossed_and_nested, nested_in_both,
            components, components_of_three, same_partition, one_level]  # fmt: skip


@contextmanager
def path(name):
    """Force one of the two ways in which the tail is updated, dense chunks of a few levels at a time."""
    cost = {"pairs": 0.0, "dense": 1.0}[name]
    with mock.patch.multiple(layout_module, _COST_PAIR=cost, _DENSE_ROWS=40):
        yield


def make(pattern, seed, widths):
    """A layout, a block matrix Z'Z with every block filled, and the dense Z."""
    rng = np.random.default_rng(seed)
    codes = pattern(rng)
    n, m = len(codes[0]), [int(c.max()) + 1 for c in codes]
    q = [widths[f] for f in range(len(codes))]
    layout, rows = build_layout(codes, m, q)
    z = [rng.normal(size=(n, k)) for k in q]
    dense = [np.zeros((n, mf * qf)) for mf, qf in zip(m, q, strict=True)]
    for f, d in enumerate(dense):
        for i, level in enumerate(codes[f]):
            d[i, level * q[f] : (level + 1) * q[f]] = z[f][i]
    diag = []
    for f in range(len(codes)):
        block = np.zeros((q[f], q[f], m[f]))
        for i, level in enumerate(codes[f]):
            block[:, :, level] += np.outer(z[f][i], z[f][i])
        diag.append(block)
    off = {}
    for (f, g), pattern_ in layout.pairs.items():
        block = np.zeros((q[f], q[g], pattern_.nnz))
        for i, at in enumerate(rows[f, g]):
            block[:, :, at] += np.outer(z[f][i], z[g][i])
        off[f, g] = block
    return codes, BlockMatrix(layout, diag, off), np.hstack(dense), rng


def place(matrix):
    """First row of each factor in the dense matrix."""
    sizes = [m * q for m, q in zip(matrix.layout.m, matrix.layout.q, strict=True)]
    return np.concatenate([[0], np.cumsum(sizes)])


def to_dense(matrix):
    """The dense matrix, NaN where the pattern has no block."""
    lay, at = matrix.layout, place(matrix)
    out = np.full((at[-1], at[-1]), np.nan)
    for f, block in enumerate(matrix.diag):
        q = lay.q[f]
        for level in range(lay.m[f]):
            i = at[f] + level * q
            out[i : i + q, i : i + q] = block[:, :, level]
    for (f, g), block in matrix.off.items():
        for k, (a, b) in enumerate(zip(lay.pairs[f, g].first, lay.pairs[f, g].second, strict=True)):
            i, j = at[f] + a * lay.q[f], at[g] + b * lay.q[g]
            out[i : i + lay.q[f], j : j + lay.q[g]] = block[:, :, k]
            out[j : j + lay.q[g], i : i + lay.q[f]] = block[:, :, k].T
    return out


def flat(parts):
    """Vectors of shape (q, m, c) a factor as rows of a dense right-hand side."""
    return np.concatenate([x.transpose(1, 0, 2).reshape(-1, x.shape[2]) for x in parts])


def random_vectors(rng, layout, c):
    return [rng.normal(size=(q, m, c)) for m, q in zip(layout.m, layout.q, strict=True)]


def random_factors(rng, layout, singular):
    """One Lambda a factor; a singular one has a zero column, and the last factor's is zero throughout."""
    out = [np.tril(rng.normal(size=(q, q))) for q in layout.q]
    if singular:
        for lam in out:
            lam[:, -1] = 0
        out[-1][:] = 0
    return out


def on_pattern(dense, like):
    return np.where(np.isnan(like), np.nan, dense)


CASES = {
    "pattern": st.sampled_from(PATTERNS),
    "seed": st.integers(0, 2**20),
    "widths": st.tuples(*[st.integers(1, 3)] * 3),
}


@EXAMPLES
@given(**CASES)
def test_pattern_has_the_pairs_that_occur(pattern, seed, widths):
    codes, *_ = make(pattern, seed, widths)
    m = [int(c.max()) + 1 for c in codes]
    layout, rows = build_layout(codes, m, [widths[f] for f in range(len(codes))])
    assert sorted(layout.stages + layout.tail_factors) == list(range(len(codes)))
    assert len(layout.pairs) == len(codes) * (len(codes) - 1) // 2
    for (f, g), pairs in layout.pairs.items():
        want = sorted(set(zip(codes[f].tolist(), codes[g].tolist(), strict=True)))
        assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == want
        assert_array_equal(pairs.first[rows[f, g]], codes[f])
        assert_array_equal(pairs.second[rows[f, g]], codes[g])
    # Stages are a chain of nested factors.
    for i, f in enumerate(layout.stages):
        for g in layout.stages[i + 1 :]:
            assert layout.pairs[f, g].nnz == m[f]


@EXAMPLES
@given(**CASES)
def test_matvec_and_congruence(pattern, seed, widths):
    _, matrix, z, rng = make(pattern, seed, widths)
    a = z.T @ z
    assert_allclose(np.nan_to_num(to_dense(matrix)), a, atol=1e-12)
    x = random_vectors(rng, matrix.layout, 3)
    assert_allclose(flat(matrix.matvec(x)), a @ flat(x), atol=1e-11)
    lams = random_factors(rng, matrix.layout, singular=False)
    big = np.zeros_like(a)
    at = place(matrix)
    for f, lam in enumerate(lams):
        big[at[f] : at[f + 1], at[f] : at[f + 1]] = np.kron(np.eye(matrix.layout.m[f]), lam)
    want = big.T @ a @ big + 0.7 * np.eye(len(a))
    assert_allclose(np.nan_to_num(to_dense(matrix.congruence(lams, 0.7))), want, atol=1e-11)


@pytest.mark.parametrize("way", ["pairs", "dense"])
@EXAMPLES
@given(**CASES, singular=st.booleans())
def test_cholesky_solve_and_inverse(way, pattern, seed, widths, singular):
    with path(way):
        _, matrix, _, rng = make(pattern, seed, widths)
        system = matrix.congruence(random_factors(rng, matrix.layout, singular))
        before = to_dense(system)
        chol = BlockCholesky(system)
    dense = np.nan_to_num(before)
    assert_allclose(chol.logdet, np.linalg.slogdet(dense)[1], rtol=1e-12, atol=1e-10)
    rhs = random_vectors(rng, matrix.layout, 2)
    copies = [b.copy() for b in rhs]
    assert_allclose(flat(chol.solve(rhs)), np.linalg.solve(dense, flat(rhs)), rtol=1e-9, atol=1e-10)
    for b, copy in zip(rhs, copies, strict=True):
        assert_array_equal(b, copy)
    inverse = np.linalg.inv(dense)
    assert_allclose(to_dense(chol.inverse_on_pattern()), on_pattern(inverse, before), rtol=1e-9, atol=1e-10)
    at = place(matrix)
    for f, total in enumerate(chol.inverse_diagonal_sums()):
        q, m = matrix.layout.q[f], matrix.layout.m[f]
        blocks = inverse[at[f] : at[f + 1], at[f] : at[f + 1]].reshape(m, q, m, q)
        assert_allclose(total, np.einsum("minj,mn->ij", blocks, np.eye(m)), rtol=1e-9, atol=1e-10)
    assert_array_equal(to_dense(system), before)  # nothing was overwritten
    assert_allclose(flat(chol.solve(rhs)), np.linalg.solve(dense, flat(rhs)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("way", ["pairs", "dense"])
def test_the_two_ways_are_two(way):
    """The test above would say nothing of a way that is never taken."""
    with path(way):
        layout = make(crossed, 0, (1, 1, 1))[1].layout
    strip = layout.strips[layout.stages[0]]
    assert (strip.pairs is not None) == (way == "pairs")
    if way == "dense":
        with path(way):
            assert len(list(strip.chunks(layout.tail.width, 1))) > 1


def test_components_are_kept_apart():
    """Blocks without a common level never meet: the tail has one small matrix for each."""
    layout = make(components, 0, (1, 1, 1))[1].layout
    sizes = [size for _, count, size in layout.tail.buckets for _ in range(count)]
    assert len(sizes) == 6
    assert max(sizes) <= 12


@pytest.mark.parametrize("pattern", [single, nested_three, crossed, components])
def test_not_positive_definite_is_an_error(pattern):
    _, matrix, *_ = make(pattern, 0, (2, 1, 1))
    for factor in range(len(matrix.diag)):
        diag = [d.copy() for d in matrix.diag]
        for i in range(diag[factor].shape[0]):
            diag[factor][i, i] -= 1e3
        with pytest.raises(np.linalg.LinAlgError):
            BlockCholesky(BlockMatrix(matrix.layout, diag, matrix.off))


def _refused(s):
    try:
        return not np.isfinite(small.cholesky(s)).all()  # some LAPACKs hand NaN on
    except np.linalg.LinAlgError:
        return True


@pytest.mark.parametrize("q", [1, 2, 5, 12, 13, 20])
def test_small_matrices(q):
    """Loops over columns up to 12, LAPACK above."""
    rng = np.random.default_rng(q)
    half = rng.normal(size=(7, q, q + 3))
    s = np.ascontiguousarray((half @ half.transpose(0, 2, 1)).transpose(1, 2, 0))
    low = small.cholesky(s)
    assert_array_equal(low, np.where(np.tril(np.ones((q, q)))[:, :, None] > 0, low, 0.0))
    assert_allclose(np.einsum("ikm,jkm->ijm", low, low), s, rtol=1e-12, atol=1e-12)
    inv = small.inverse_lower(low)
    identity = np.broadcast_to(np.eye(q)[:, :, None], s.shape)
    assert_allclose(np.einsum("ikm,kjm->ijm", inv, low), identity, atol=1e-9)
    for bad in (np.nan, -1.0):
        broken = s.copy()
        broken[q - 1, q - 1, 3] = bad
        assert _refused(broken)


def test_over_the_memory_budget_nothing_is_allocated():
    rng = np.random.default_rng(0)
    n, m = 120_000, 40_000
    codes = [_levels(rng, n, m), _levels(rng, n, m)]
    tracemalloc.start()
    with pytest.raises(MemoryBudgetError) as info:
        build_layout(codes, [m, m], [1, 1], names=["student", "school"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20  # a part of one per cent of what the blocks would take
    message = str(info.value)
    for part in ("student", "school", "GiB", "budget of 4.0 GiB", "Nothing was allocated"):
        assert part in message


def test_the_budget_counts_components():
    """The same numbers of levels, nested or in small blocks, need next to nothing."""
    n = 40_000
    block = np.repeat(np.arange(n // 4), 4)
    a, b = 2 * block + np.tile([0, 0, 1, 1], n // 4), 2 * block + np.tile([0, 1, 0, 1], n // 4)
    layout, _ = build_layout([a, b], [n // 2] * 2, [1, 1], dense_budget=10 * 2**20)
    assert layout.tail.buckets[0][1:] == (n // 4, 2)
    with pytest.raises(MemoryBudgetError):
        build_layout([a, b], [n // 2] * 2, [1, 1], dense_budget=2**16)
