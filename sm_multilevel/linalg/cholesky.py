"""Blocked Cholesky factor of a matrix with the pattern of Z'Z, its solves and its inverse.

A `BlockMatrix` holds the numbers, a `Layout` says where they stand. The factor is never
formed for the blocks between a stage and what follows: V = L^-1 W is kept on the pattern,
and the tail receives the sum of V'V over all levels of all stages at once.

References
----------
Bates, Maechler, Bolker and Walker (2015), Fitting linear mixed-effects models using
lme4, J. Stat. Softw. 67(1), section 3. Takahashi, Fagan and Chin (1973) for the inverse
on the pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from sm_multilevel.linalg import small
from sm_multilevel.linalg.layout import Layout

__all__ = ["BlockCholesky", "BlockMatrix"]


@dataclass(eq=False)
class BlockMatrix:
    """Symmetric matrix on a layout's pattern.

    Attributes
    ----------
    layout : Layout
    diag : list of ndarray, shape (q, q, m)
        Diagonal blocks of each factor.
    off : dict of (a, b) -> ndarray, shape (q_a, q_b, nnz)
        Blocks between two factors, keyed in order of elimination.
    """

    layout: Layout
    diag: list[np.ndarray]
    off: dict[tuple[int, int], np.ndarray]

    def congruence(self, lams: list[np.ndarray], shift: float = 1.0) -> BlockMatrix:
        """``Lambda' A Lambda + shift I`` with one small Lambda a factor."""
        diag = []
        for a, lam in zip(self.diag, lams, strict=True):
            s = small.congruence(lam, a, lam)
            for i in range(s.shape[0]):
                s[i, i] += shift
            diag.append(s)
        off = {key: small.congruence(lams[key[0]], a, lams[key[1]]) for key, a in self.off.items()}
        return BlockMatrix(self.layout, diag, off)

    def matvec(self, x: list[np.ndarray]) -> list[np.ndarray]:
        """``A x`` for right-hand sides of shape (q, m, c) a factor."""
        out = [_matvec(a, v) for a, v in zip(self.diag, x, strict=True)]
        for (f, g), a in self.off.items():
            pattern = self.layout.pairs[f, g]
            for i in range(a.shape[0]):
                for j in range(a.shape[1]):
                    m = sparse.csr_matrix(
                        (a[i, j], (pattern.first, pattern.second)),
                        shape=(self.layout.m[f], self.layout.m[g]),
                    )
                    out[f][i] += m @ x[g][j]
                    out[g][j] += m.T @ x[f][i]
        return out

    def level_products(self, lams: list[np.ndarray], other: BlockMatrix) -> list[np.ndarray]:
        """Sum over levels of the diagonal blocks of ``self Lambda' other``, shape (q, q) a factor.

        Both matrices are symmetric and on the same pattern, and one of them is zero outside of it.
        """
        out = [
            np.einsum("ijm,jkm->ik", np.matmul(lam, s), a)
            for s, lam, a in zip(self.diag, lams, other.diag, strict=True)
        ]
        for (f, g), a in other.off.items():
            s = self.off[f, g]
            out[f] += np.einsum("ijm,kjm->ik", np.matmul(lams[g], s), a)
            q, r, m = s.shape
            out[g] += np.einsum("jkm,jlm->kl", (lams[f] @ s.reshape(q, r * m)).reshape(q, r, m), a)
        return out


def _matvec(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Batch of (q, r, m) matrices times (r, m, c) vectors -> (q, m, c)."""
    if a.shape[0] == 1 and a.shape[1] == 1:
        return a[0, 0][None, :, None] * x
    return np.einsum("ijm,jmc->imc", a, x)


def _matvec_t(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Transposed batch times vectors: (q, r, m)', (q, m, c) -> (r, m, c)."""
    if a.shape[0] == 1 and a.shape[1] == 1:
        return a[0, 0][None, :, None] * x
    return np.einsum("ijm,imc->jmc", a, x)


class _TailFactor:
    """Cholesky factor of the dense tail, bucket by bucket."""

    def __init__(self, tail, storage):
        self.tail = tail
        self.factors = []
        self.logdet = 0.0
        for start, count, size in tail.buckets:
            block = storage[start : start + count * size * size].reshape(count, size, size)
            if count == 1:
                # The lower triangle of a row-major matrix is LAPACK's upper one.
                low, info = lapack.dpotrf(block[0].T, lower=0, clean=0, overwrite_a=1)
                if info != 0:
                    raise np.linalg.LinAlgError("the dense tail is not positive definite")
                self.factors.append(low)
                self.logdet += 2.0 * np.log(low.diagonal()).sum()
            else:
                low = np.linalg.cholesky(block)
                self.factors.append(low)
                self.logdet += 2.0 * np.log(np.diagonal(low, axis1=1, axis2=2)).sum()

    def solve(self, b):
        """T^-1 b for b of shape (width, c)."""
        tail = self.tail
        rhs = np.zeros((tail.slots, b.shape[1]))
        rhs[tail.slot] = b
        at = 0
        for (_, count, size), low in zip(tail.buckets, self.factors, strict=True):
            part = rhs[at : at + count * size]
            if count == 1:
                part[:] = lapack.dpotrs(low, part, lower=0)[0]
            else:
                cube = part.reshape(count, size, -1)
                half = np.linalg.solve(low, cube)
                cube[:] = np.linalg.solve(low.transpose(0, 2, 1), half)
            at += count * size
        return rhs[tail.slot]

    def inverse(self):
        """Flat storage of T^-1, lower triangles filled (both where cheap)."""
        out = np.empty(self.tail.storage)
        for (start, count, size), low in zip(self.tail.buckets, self.factors, strict=True):
            block = out[start : start + count * size * size].reshape(count, size, size)
            if count == 1:
                inv, info = lapack.dpotri(low, lower=0)
                if info != 0:
                    raise np.linalg.LinAlgError("the dense tail is singular")
                block[0] = inv.T
            else:
                half = np.linalg.inv(low)
                np.matmul(half.transpose(0, 2, 1), half, out=block)
        return out


class BlockCholesky:
    """Factorisation of a positive definite `BlockMatrix`.

    Parameters
    ----------
    matrix : BlockMatrix
        Positive definite; its arrays are not kept.

    Attributes
    ----------
    logdet : float
        Log-determinant.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite.

    Examples
    --------
    >>> import numpy as np
    >>> from sm_multilevel.linalg.layout import build_layout
    >>> from sm_multilevel.linalg.cholesky import BlockCholesky, BlockMatrix
    >>> layout, _ = build_layout([np.array([0, 0, 1])], [2], [1])
    >>> a = BlockMatrix(layout, [np.array([[[4.0, 9.0]]])], {})
    >>> round(BlockCholesky(a).logdet, 6)  # log(4 * 9)
    3.583519
    """

    def __init__(self, matrix: BlockMatrix):
        lay = self.layout = matrix.layout
        self.inv_low: dict[int, np.ndarray] = {}
        self.links: dict[tuple[int, int], np.ndarray] = {}  # V between stages
        self.strips: dict[int, np.ndarray] = {}  # V between a stage and the tail
        self.tail: _TailFactor
        diag = {f: matrix.diag[f] for f in lay.stages}
        between = {k: v for k, v in matrix.off.items() if k[1] in diag}
        strip = {f: self._expand(f, matrix.off) for f in lay.strips}
        storage = self._tail_storage(matrix) if lay.tail is not None else None
        self.logdet = 0.0
        for place, f in enumerate(lay.stages):
            low = small.cholesky(diag[f])
            for i in range(lay.q[f]):
                self.logdet += 2.0 * np.log(low[i, i]).sum()
            inv = self.inv_low[f] = small.inverse_lower(low)
            later = lay.stages[place + 1 :]
            for g in later:
                self.links[f, g] = np.einsum("rsm,stm->rtm", inv, between[f, g])
            v = None
            if lay.tail is not None:
                v = self.strips[f] = self._premultiply(inv, lay.strips[f].rows, strip[f])
            for a, g in enumerate(later):
                vg = self.links[f, g]
                up = lay.sums[f, g]
                diag[g] = diag[g] - _sum_into(up, np.einsum("rim,rjm->ijm", vg, vg))
                for h in later[a + 1 :]:
                    between[g, h] = between[g, h] - _sum_into(up, np.einsum("rim,rjm->ijm", vg, self.links[f, h]))
                if v is not None:
                    rows = lay.strips[f].rows
                    block = np.einsum("rin,rn->in", vg[:, :, rows], v)
                    at, size = lay.strip_remaps[f, g], strip[g].shape[1]
                    strip[g] = strip[g] - np.stack([np.bincount(at, weights=row, minlength=size) for row in block])
            if v is not None:
                self._update_tail(f, v, storage)
        if storage is not None:
            self.tail = _TailFactor(lay.dense, storage)
            self.logdet += self.tail.logdet
        self.logdet = float(self.logdet)

    # -- assembly -------------------------------------------------------------------

    def _expand(self, f, off):
        """Blocks from stage f to all tail factors as (q_f, entries) in strip order."""
        lay = self.layout
        parts = [off[f, g].reshape(lay.q[f], -1) for g in lay.tail_factors]
        flat = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        perm = lay.strips[f].perm
        return flat if perm is None else flat[:, perm]

    def _tail_storage(self, matrix):
        lay = self.layout
        # Padding keeps a unit diagonal; the real columns start from zero.
        storage = lay.dense.identity.copy()
        columns = np.arange(lay.dense.width)
        storage[lay.dense.at(columns, columns)] = 0.0
        for g in lay.tail_factors:
            storage[lay.diag_at[g]] = matrix.diag[g]
        for key, at in lay.pair_at.items():
            storage[at] = matrix.off[key]
        return storage

    @staticmethod
    def _premultiply(inv, rows, w):
        if inv.shape[0] == 1:
            return inv[0, 0][rows][None] * w
        return np.einsum("rsn,sn->rn", inv[:, :, rows], w)

    def _update_tail(self, f, v, storage):
        strip, tail = self.layout.strips[f], self.layout.dense
        pairs = strip.pairs
        if pairs is not None:
            product = np.repeat(v[0], pairs.after) * v[0][pairs.second]
            for row in v[1:]:
                product += np.repeat(row, pairs.after) * row[pairs.second]
            storage -= np.bincount(pairs.at, weights=product, minlength=tail.storage)
            return
        block = storage.reshape(tail.width, tail.width)
        for dense, *_ in self._dense_chunks(f, v):
            block -= dense.T @ dense

    def _dense_chunks(self, f, v):
        """Dense copies of the strip v, some levels at a time, rows (level, column of f)."""
        strip, tail = self.layout.strips[f], self.layout.dense
        q = v.shape[0]
        for start, stop, lo, hi in strip.chunks(tail.width, q):
            dense = np.zeros((q, stop - start, tail.width))
            rows, local = strip.rows[lo:hi] - start, tail.local[strip.cols[lo:hi]]
            for r in range(q):
                dense[r, rows, local] = v[r, lo:hi]
            yield dense.reshape(-1, tail.width), rows, local, lo, hi

    # -- solves ---------------------------------------------------------------------

    def _strip_matrices(self, f):
        strip, lay = self.layout.strips[f], self.layout
        shape = (lay.m[f], lay.dense.width)
        return [sparse.csr_matrix((row, strip.cols, strip.indptr), shape=shape) for row in self.strips[f]]

    def solve(self, rhs: list[np.ndarray]) -> list[np.ndarray]:
        """``S^-1 rhs`` for right-hand sides of shape (q, m, c), one array a factor."""
        lay = self.layout
        b = list(rhs)
        c = rhs[0].shape[2]
        t = None
        if lay.tail is not None:
            t = np.concatenate([rhs[g].transpose(1, 0, 2).reshape(lay.m[g] * lay.q[g], c) for g in lay.tail_factors])
        mats = {f: self._strip_matrices(f) for f in lay.strips}
        for place, f in enumerate(lay.stages):
            b[f] = _matvec(self.inv_low[f], b[f])
            for g in lay.stages[place + 1 :]:
                moved = _matvec_t(self.links[f, g], b[f])
                b[g] = b[g] - np.stack([lay.sums[f, g] @ part for part in moved])
            if t is not None:
                for r, mat in enumerate(mats[f]):
                    t = t - mat.T @ b[f][r]
        if t is not None:
            t = self.tail.solve(t)
            for g in lay.tail_factors:
                at = lay.dense.offset[g]
                part = t[at : at + lay.m[g] * lay.q[g]]
                b[g] = np.ascontiguousarray(part.reshape(lay.m[g], lay.q[g], c).transpose(1, 0, 2))
        for place in range(len(lay.stages) - 1, -1, -1):
            f = lay.stages[place]
            x = b[f]
            for g in lay.stages[place + 1 :]:
                x = x - _matvec(self.links[f, g], b[g][:, lay.pairs[f, g].second])
            if t is not None:
                x = x - np.stack([mat @ t for mat in mats[f]])
            b[f] = _matvec_t(self.inv_low[f], x)
        return b

    # -- inverse --------------------------------------------------------------------

    def inverse_diagonal_sums(self) -> list[np.ndarray]:
        """Sum over levels of the diagonal blocks of S^-1, shape (q, q) a factor.

        With one stage and a tail the blocks between them are not needed, which saves
        most of the work of `inverse_on_pattern`.
        """
        lay = self.layout
        strip = lay.strips[lay.stages[0]] if lay.strips else None
        pairs = None if strip is None else strip.pairs
        if len(lay.stages) > 1 or strip is None or pairs is None:
            return [d.sum(axis=2) for d in self.inverse_on_pattern().diag]
        f = lay.stages[0]
        flat = self.tail.inverse()
        sums: list = [None] * len(lay.m)
        for g in lay.tail_factors:
            sums[g] = flat[lay.diag_at[g]].sum(axis=2)
        inv = self.inv_low[f]
        u = self._premultiply(inv.transpose(1, 0, 2), strip.rows, self.strips[f])
        t = flat[pairs.at]
        own = t[pairs.first]
        q = lay.q[f]
        total = small.gram(inv).sum(axis=2)
        spread = [np.repeat(row, pairs.after) * t for row in u]
        other = [row[pairs.second] for row in u]
        for i in range(q):
            for j in range(i, q):
                both = spread[i] @ other[j] + spread[j] @ other[i] - (u[i] * own) @ u[j]
                total[i, j] += both
                if i != j:
                    total[j, i] += both
        sums[f] = total
        return sums

    def inverse_on_pattern(self) -> BlockMatrix:
        """The blocks of S^-1 where Z'Z has blocks, the cross-factor ones included."""
        lay = self.layout
        diag: list = [None] * len(lay.m)
        off: dict[tuple[int, int], np.ndarray] = {}
        stage_tail: dict[int, np.ndarray] = {}
        flat = None
        if lay.tail is not None:
            flat = self.tail.inverse()
            for g in lay.tail_factors:
                diag[g] = flat[lay.diag_at[g]]
            for key, at in lay.pair_at.items():
                off[key] = flat[at]
        for place in range(len(lay.stages) - 1, -1, -1):
            f = lay.stages[place]
            later = lay.stages[place + 1 :]
            inv = self.inv_low[f]
            block = small.gram(inv)
            ups = {g: lay.pairs[f, g].second for g in later}
            links = {g: np.einsum("rsm,rtm->stm", inv, self.links[f, g]) for g in later}
            strip = None
            if flat is not None:
                rows = lay.strips[f].rows
                strip = self._premultiply(inv.transpose(1, 0, 2), rows, self.strips[f])
            for g in later:
                total = np.zeros_like(links[g])
                for h in later:
                    total = total + np.einsum("rsm,stm->rtm", links[h], self._between(diag, off, h, g, ups))
                if strip is not None:
                    at = lay.strip_remaps[f, g]
                    pieces = strip[:, None] * stage_tail[g][None][:, :, at]
                    total = total + _sum_rows(pieces, lay.strips[f])
                off[f, g] = -total
                block = block - np.einsum("rtm,stm->rsm", off[f, g], links[g])
            if strip is not None:
                x = -self._times_tail_inverse(f, strip, flat)
                for h in later:
                    at = lay.strip_remaps[f, h]
                    x = x - np.einsum("rsn,sn->rn", links[h][:, :, rows], stage_tail[h][:, at])
                stage_tail[f] = x
                block = block - _sum_rows(x[:, None] * strip[None], lay.strips[f])
                self._collapse(f, x, off)
            diag[f] = block
        return BlockMatrix(lay, diag, {key: off[key] for key in lay.pairs})

    def _between(self, diag, off, h, g, ups):
        """S^-1 between the later stages h and g, spread over the levels below them."""
        if h == g:
            return diag[g][:, :, ups[g]]
        if (h, g) in off:
            return off[h, g][:, :, ups[h]]
        return off[g, h].transpose(1, 0, 2)[:, :, ups[g]]

    def _times_tail_inverse(self, f, u, flat):
        """(u T^-1) at the entries of the strip."""
        strip, tail = self.layout.strips[f], self.layout.dense
        pairs = strip.pairs
        if pairs is not None:
            t = flat[pairs.at]
            out = np.empty_like(u)
            size = u.shape[1]
            own = t[pairs.first]
            for r, row in enumerate(u):
                out[r] = np.add.reduceat(row[pairs.second] * t, pairs.first)
                mirrored = np.repeat(row, pairs.after) * t
                out[r] += np.bincount(pairs.second, weights=mirrored, minlength=size)
                out[r] -= row * own  # the pair (a, a) was counted twice
            return out
        low = flat.reshape(tail.width, tail.width)
        full = np.tril(low) + np.tril(low, -1).T
        out = np.empty_like(u)
        for dense, rows, local, lo, hi in self._dense_chunks(f, u):
            product = (dense @ full).reshape(u.shape[0], -1, tail.width)
            for r in range(u.shape[0]):
                out[r, lo:hi] = product[r, rows, local]
        return out

    def _collapse(self, f, x, off):
        """Strip entries back to blocks (q_f, q_g, nnz) of each tail factor."""
        lay = self.layout
        inverse = lay.strips[f].inverse
        if inverse is not None:
            x = x[:, inverse]
        at = 0
        for g in lay.tail_factors:
            size = lay.pairs[f, g].nnz * lay.q[g]
            off[f, g] = x[:, at : at + size].reshape(lay.q[f], lay.q[g], -1)
            at += size


def _sum_into(indicator, blocks):
    """Sum blocks (a, b, m) over the levels that share a parent."""
    a, b, m = blocks.shape
    return np.ascontiguousarray((indicator @ blocks.reshape(a * b, m).T).T).reshape(a, b, -1)


def _sum_rows(pieces, strip):
    """Sum (a, b, entries) over the entries of each stage level."""
    a, b, _ = pieces.shape
    m = strip.indptr.shape[0] - 1
    flat = pieces.reshape(a * b, -1)
    return np.stack([np.bincount(strip.rows, weights=row, minlength=m) for row in flat]).reshape(a, b, m)
