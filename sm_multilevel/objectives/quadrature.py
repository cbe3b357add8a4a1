"""Adaptive Gauss-Hermite quadrature over the random effects of one factor, or of nested ones.

The nodes stand around the mode, u = u_hat + L^-T z with H = L L' (Pinheiro and Bates 1995,
J. Comput. Graph. Stat. 4, 12-35, section 2.4). Where factors are nested, the effects of an
inner level are integrated at every node of the level it lies in, around their mode given
that node; the block Cholesky factor of H gives all of them at once. One node a column is
Laplace's approximation. The nodes move with the parameters: `_Chunks` takes log L back to
L, `_cholesky_adjoint` to H, and `marginal` from there to the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import special

from sm_multilevel.families.response import Response
from sm_multilevel.linalg import small
from sm_multilevel.linalg.cholesky import BlockMatrix
from sm_multilevel.objectives.laplace import Integral, Parts
from sm_multilevel.objectives.modes import Mode
from sm_multilevel.objectives.rows import Rows

__all__ = ["NODE_BUDGET", "Quadrature", "cells_of_largest_group", "hermite"]

NODE_BUDGET = 10_000  # nodes at which every row is evaluated
_CELLS = 2**17  # numbers of an array (nodes x rows) of one chunk


def hermite(order: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Product rule for the standard normal density.

    Parameters
    ----------
    order : int
        Points a column.
    columns : int

    Returns
    -------
    nodes : ndarray, shape (columns, order ** columns)
    log_weights : ndarray, shape (order ** columns,)
        With z'z/2 added: logarithms of w exp(z'z/2).

    Examples
    --------
    >>> from sm_multilevel.objectives.quadrature import hermite
    >>> nodes, log_weights = hermite(3, 1)
    >>> nodes.round(4).tolist()
    [[-1.7321, 0.0, 1.7321]]
    """
    x, w = special.roots_hermitenorm(order)
    keep = w > 0  # of very high orders the outermost weights underflow
    x, w = x[keep], w[keep]
    log_w = np.log(w) - 0.5 * np.log(2.0 * np.pi) + 0.5 * x * x
    nodes = np.array(list(product(x, repeat=columns))).T
    return nodes, np.array([sum(part) for part in product(log_w, repeat=columns)])


def cells_of_largest_group(rows: Rows) -> int:
    """Rows of the largest coarsest group, which no chunk can split."""
    return int(rows.levels[rows.layout.stages[-1]].runs.counts.max())


@dataclass(frozen=True, eq=False)
class _Level:
    """One factor of the chain within a chunk, levels in the order of their rows."""

    codes: np.ndarray  # of the chunk's levels
    starts: np.ndarray  # first row of each
    counts: np.ndarray  # rows of each
    children_starts: np.ndarray  # first level of the finer factor; empty for the finest
    children: np.ndarray  # how many of them


@dataclass(frozen=True, eq=False)
class _Chunk:
    rows: slice
    levels: list[_Level]  # finest first
    response: Response


@dataclass(frozen=True, eq=False)
class _Grid:
    """The nodes of a chunk, by stage.

    Attributes
    ----------
    size : list of int
        Nodes of a level and of those it lies in.
    delta : list of ndarray, shape (q, size, m)
        Deviations of u from the mode.
    above : list of dict of t -> ndarray, shape (q_t, size, m)
        Those of the coarser stages t, at the nodes of this one.
    u : list of ndarray, shape (q, size, m)
    """

    size: list[int]
    delta: list[np.ndarray]
    above: list[dict[int, np.ndarray]]
    u: list[np.ndarray]


class Quadrature:
    """Makes the integral at a mode; the nodes and the chunks of rows are made once.

    Parameters
    ----------
    rows : Rows
        Of a model without crossed factors.
    response : Response
    order : int
        Points a column.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> objective = res.model.objective(nAGQ=7)
    >>> objective.integrate.nodes
    7
    >>> round(-0.5 * objective.state(res.record.theta_standard).value, 3)
    -91.984
    """

    def __init__(self, rows: Rows, response: Response, order: int):
        self.rows = rows
        self.stages = rows.layout.stages  # finest first
        self.grids = [hermite(order, rows.layout.q[f]) for f in self.stages]
        self.nodes = int(np.prod([len(w) for _, w in self.grids]))
        self.chunks = self._split(response)

    def __call__(self, mode: Mode) -> Integral:
        mode.release()  # the nodes have values of their own
        return _Nodes(self, mode)

    def _split(self, response):
        """Chunks of whole coarsest groups, with about the same number of rows."""
        rows, stages = self.rows, self.stages
        places = [rows.levels[f].runs for f in stages]
        coarse = places[-1]
        step = max(1, _CELLS // self.nodes)
        ends, begin = [], 0
        stops = np.append(coarse.starts[1:], rows.n)
        while begin < len(coarse.starts):
            end = int(np.searchsorted(stops, coarse.starts[begin] + step, side="right"))
            begin = max(begin + 1, end)
            ends.append(begin)
        chunks: list[_Chunk] = []
        begin = 0
        for end in ends:
            part = slice(int(coarse.starts[begin]), int(stops[end - 1]))
            levels: list[_Level] = []
            finer: np.ndarray | None = None
            for place in places:
                lo = int(np.searchsorted(place.starts, part.start))
                hi = int(np.searchsorted(place.starts, part.stop))
                starts = place.starts[lo:hi] - part.start
                codes = np.arange(lo, hi) if place.order is None else place.order[lo:hi]
                of = many = np.empty(0, dtype=np.intp)
                if finer is not None:
                    of = np.searchsorted(finer, starts)
                    many = np.diff(np.append(of, len(finer)))
                levels.append(_Level(codes, starts, place.counts[lo:hi], of, many))
                finer = starts
            chunks.append(_Chunk(part, levels, response.take(part)))
            begin = end
        return chunks


class _Nodes(Integral):
    """All chunks integrated; derivatives come with the value, since nothing is kept of the nodes."""

    def __init__(self, rule: Quadrature, mode: Mode, apart: bool = False):
        self.rule, self.mode, self.apart = rule, mode, apart
        lay, stages = mode.rows.layout, rule.stages
        self.inv = [mode.chol.inv_low[f] for f in stages]
        n_psi = mode.psi.shape[0]
        self.eta_bar = np.empty(mode.rows.n)
        self.u_bar = [np.zeros_like(mode.u[f]) for f in stages]
        self.low_bar = [np.zeros((lay.q[f], lay.q[f], lay.m[f])) for f in stages]
        self.link_bar = {key: np.zeros_like(v) for key, v in mode.chol.links.items()}
        self.lam_bar = [np.zeros((lay.q[f], lay.q[f], lay.m[f])[: 2 + apart]) for f in stages]
        self.psi_bar = np.zeros((n_psi, mode.rows.n)[: 1 + apart])
        fixed = mode.rows.fixed(mode.beta)
        with np.errstate(invalid="ignore"):  # nodes outside of the link's domain make the value NaN
            self.value = -0.5 * mode.chol.logdet + sum(self._chunk(chunk, fixed) for chunk in rule.chunks)

    def _chunk(self, chunk: _Chunk, fixed: np.ndarray) -> float:
        """log L of a chunk of groups; its derivatives are added to those of the others."""
        grid = self._grid(chunk)
        local = chunk.response.at(self._linear(chunk, grid, fixed), self.mode.psi)
        value, shares = self._integrate(chunk, grid, local.logf)
        weights = np.repeat(shares[0], chunk.levels[0].counts, axis=-1)
        if self.psi_bar.size and self.apart:
            self.psi_bar[:, chunk.rows] = (local.psi_score * weights).sum(axis=1)
        elif self.psi_bar.size:
            self.psi_bar += local.psi_pull(weights)
        score = weights * local.score
        self.eta_bar[chunk.rows] = score.sum(axis=0)
        self._pull_back(chunk, grid, self._pulls(chunk, grid, score, shares))
        return value

    def _grid(self, chunk: _Chunk) -> _Grid:
        """Nodes of the coarsest stage first, because those of the finer ones depend on them."""
        rule, mode, stages = self.rule, self.mode, self.rule.stages
        depth = len(stages)
        codes = [level.codes for level in chunk.levels]
        size = [1] * depth
        total = 1
        for s in reversed(range(depth)):
            total *= rule.grids[s][0].shape[1]
            size[s] = total
        delta: list = [None] * depth
        above: list[dict[int, np.ndarray]] = [{} for _ in range(depth)]
        for s in reversed(range(depth)):
            z = rule.grids[s][0]
            k = z.shape[1]
            right = np.tile(z, (1, size[s] // k))[:, :, None]
            for t in range(s + 1, depth):
                over = self._down(delta[t], chunk, t, s)
                over = np.repeat(over, size[s] // over.shape[1], axis=1)
                above[s][t] = over
                link = mode.chol.links[stages[s], stages[t]][:, :, codes[s]]
                right = right - np.einsum("rtm,tkm->rkm", link, over)
            delta[s] = np.einsum("rsm,rkm->skm", self.inv[s][:, :, codes[s]], right)
        u = [mode.u[f][:, None, c] + d for f, c, d in zip(stages, codes, delta, strict=True)]
        return _Grid(size, delta, above, u)

    def _linear(self, chunk: _Chunk, grid: _Grid, fixed: np.ndarray) -> np.ndarray:
        """Linear predictor at all nodes, shape (nodes, rows)."""
        mode = self.mode
        eta = fixed[chunk.rows][None]
        for s, f in enumerate(self.rule.stages):
            b = np.tensordot(mode.lams[f], grid.u[s], axes=1)
            for j, column in enumerate(mode.rows.columns[f]):
                part = np.repeat(b[j], chunk.levels[s].counts, axis=-1)
                if not isinstance(column, float):
                    part *= column[chunk.rows]
                elif column != 1.0:
                    part *= column
                eta = eta + np.repeat(part, grid.size[0] // grid.size[s], axis=0)
        return eta

    def _integrate(self, chunk: _Chunk, grid: _Grid, logf: np.ndarray) -> tuple[float, list[np.ndarray]]:
        """log L, and the posterior weight of each stage's nodes, shape (size, m)."""
        grids, depth = self.rule.grids, len(self.rule.stages)
        # Upwards: log of the integral of each level at the nodes of those above it.
        inside = np.add.reduceat(logf, chunk.levels[0].starts, axis=-1)
        shares = []
        for s in range(depth):
            log_w = grids[s][1]
            k = len(log_w)
            inside = inside - 0.5 * np.sum(grid.u[s] * grid.u[s], axis=0)
            cube = inside.reshape(grid.size[s] // k, k, -1) + log_w[:, None]
            top = cube.max(axis=1, keepdims=True)
            weights = np.exp(cube - top)
            mass = weights.sum(axis=1, keepdims=True)
            weights /= mass
            shares.append(weights.reshape(grid.size[s], -1))
            inside = (np.log(mass) + top)[:, 0]
            if s + 1 < depth:
                inside = np.add.reduceat(inside, chunk.levels[s + 1].children_starts, axis=-1)
        # Downwards: given the nodes above, times the weights of these.
        for s in reversed(range(depth - 1)):
            over = np.repeat(shares[s + 1], chunk.levels[s + 1].children, axis=-1)
            shares[s] *= np.repeat(over, len(grids[s][1]), axis=0)
        return float(inside.sum()), shares

    def _pulls(self, chunk: _Chunk, grid: _Grid, score: np.ndarray, shares: list[np.ndarray]) -> list[np.ndarray]:
        """Derivatives in u at the nodes of each stage, as `grid.u`; those in Lambda and in the modes are added up."""
        mode = self.mode
        out = []
        for s, f in enumerate(self.rule.stages):
            part = score.reshape(grid.size[s], -1, score.shape[-1])
            part = part[:, 0] if part.shape[1] == 1 else part.sum(axis=1)
            sums = np.stack(
                [
                    np.add.reduceat(_times(column, part, chunk.rows), chunk.levels[s].starts, axis=-1)
                    for column in mode.rows.columns[f]
                ]
            )
            here = chunk.levels[s].codes
            if self.apart:
                self.lam_bar[s][:, :, here] = np.einsum("akm,bkm->abm", sums, grid.u[s])
            else:
                self.lam_bar[s] += np.tensordot(sums, grid.u[s], axes=([1, 2], [1, 2]))
            pull = np.tensordot(mode.lams[f].T, sums, axes=1) - shares[s] * grid.u[s]
            self.u_bar[s][:, here] += pull.sum(axis=1)
            out.append(pull)
        return out

    def _pull_back(self, chunk: _Chunk, grid: _Grid, pulls: list[np.ndarray]) -> None:
        """Back through delta_f = L_f^-T (z_f - sum V_fg delta_g) to L, finest first."""
        stages, depth = self.rule.stages, len(self.rule.stages)
        pulls = list(pulls)
        for s in range(depth):
            here = chunk.levels[s].codes
            y = np.einsum("rsm,skm->rkm", self.inv[s][:, :, here], pulls[s])
            self.low_bar[s][:, :, here] -= np.einsum("rkm,skm->rsm", grid.delta[s], y)
            for t in range(s + 1, depth):
                key = stages[s], stages[t]
                self.link_bar[key][:, :, here] -= np.einsum("rkm,tkm->rtm", y, grid.above[s][t])
                back = np.einsum("rtm,rkm->tkm", self.mode.chol.links[key][:, :, here], y)
                back = back.reshape(back.shape[0], grid.size[t], -1, back.shape[2]).sum(axis=2)
                pulls[t] = pulls[t] - self._up(back, chunk, s, t)

    @staticmethod
    def _down(values, chunk, t, s):
        """Values of levels of stage t, given to the levels of stage s within them."""
        for i in range(t, s, -1):
            values = np.repeat(values, chunk.levels[i].children, axis=-1)
        return values

    @staticmethod
    def _up(values, chunk, s, t):
        """Sums over the levels of stage s within those of stage t."""
        for i in range(s + 1, t + 1):
            values = np.add.reduceat(values, chunk.levels[i].children_starts, axis=-1)
        return values

    def parts(self, apart=False):
        if apart and not self.apart:
            return _Nodes(self.rule, self.mode, apart=True).parts(apart)
        order = np.argsort(self.rule.stages)
        u_bar, lam_bar = ([bar[i] for i in order] for bar in (self.u_bar, self.lam_bar))
        return Parts(self._h_bar(), u_bar, self.eta_bar, lam_bar, self.psi_bar)

    def _h_bar(self) -> BlockMatrix:
        """From the factor L back to H, the steps of the blocked Cholesky in reverse."""
        chol, lay, stages = self.mode.chol, self.mode.rows.layout, self.rule.stages
        diag: list = [None] * len(lay.m)
        off: dict[tuple[int, int], np.ndarray] = {}  # in H's block, not halved
        for s in reversed(range(len(stages))):
            f = stages[s]
            inv = self.inv[s]
            low_bar = self.low_bar[s].copy()
            for i in range(lay.q[f]):
                low_bar[i, i] -= inv[i, i]  # -log|L|: the diagonal of L^-1 is one over that of L
            later = stages[s + 1 :]
            for a, g in enumerate(later):
                up = lay.pairs[f, g].second
                v_bar = self.link_bar[f, g]
                v_bar = v_bar - 2.0 * np.einsum("rtm,tsm->rsm", chol.links[f, g], diag[g][:, :, up])
                for h in later[a + 1 :]:
                    v_bar = v_bar - np.einsum("rhm,ghm->rgm", chol.links[f, h], off[g, h][:, :, up])
                for h in later[:a]:
                    mine = off[h, g][:, :, lay.pairs[f, h].second]
                    v_bar = v_bar - np.einsum("rhm,hgm->rgm", chol.links[f, h], mine)
                w_bar = off[f, g] = np.einsum("rsm,rtm->stm", inv, v_bar)
                low_bar -= np.einsum("rtm,stm->rsm", w_bar, chol.links[f, g])
            diag[f] = _cholesky_adjoint(inv, low_bar)
        return BlockMatrix(lay, diag, {key: 0.5 * off[key] for key in lay.pairs})


def _times(column, values, rows):
    if not isinstance(column, float):
        return column[rows] * values
    return values if column == 1.0 else column * values


def _cholesky_adjoint(inv: np.ndarray, low_bar: np.ndarray) -> np.ndarray:
    """Derivative in the symmetric A = L L' from that in L; batches (q, q, m).

    A_bar = L^-T P L^-1 made symmetric, P the lower triangle of L'L_bar with half its diagonal
    (Murray 2016, arXiv:1602.07527, equation 9).
    """
    q = inv.shape[0]
    if q == 1:
        return 0.5 * inv * low_bar
    low = small.inverse_lower(inv)
    p = np.einsum("krm,ksm->rsm", low, np.where(np.tril(np.ones((q, q)))[:, :, None] > 0, low_bar, 0.0))
    p *= (np.tril(np.ones((q, q))) - 0.5 * np.eye(q))[:, :, None]
    a = np.einsum("krm,klm,lsm->rsm", inv, p, inv)
    return 0.5 * (a + a.transpose(1, 0, 2))
