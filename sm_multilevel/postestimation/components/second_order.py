"""Second-order quantities of the linear mixed model, from cross-products: what degrees of freedom are made of.

With V = Z G Z' + W^-1 (in units of sigma^2) and directions D_i in which the G of one grouping factor changes,
V_i = Z (I kron D_i) Z', everything follows from Q = Z'V^-1 Z = A - A Lambda S^-1 Lambda'A, A = Z'WZ, and from
F = Z'V^-1 [X, y - X beta]:

    tr(V^-1 V_i)             sum over levels l of tr(D_i Q_ll)
    tr(V^-1 V_i V^-1 V_j)    sum over pairs of levels l, k of tr(D_i Q_lk D_j Q_kl)
    [X r]'V^-1 V_i V^-1 [X r]              sum over levels of F_l' D_i F_l
    [X r]'V^-1 V_i V^-1 V_j V^-1 [X r]     F'(I kron D_i) Q (I kron D_j) F, by solves

No row of the data is looked at. Q is made some columns at a time and only contracted. Levels that never meet,
directly or through others, are independent: Q is zero between them, so that one solve serves a column of each
connected component of levels. A single grouping factor needs as many solves as it has columns, however many levels.

References
----------
Gilmour, Thompson and Cullis (1995), equations 5 to 8, for the second derivatives of the restricted likelihood.
Kenward and Roger (1997), section 2, for P_i and Q_ij.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sm_multilevel.linalg.cholesky import BlockCholesky, BlockMatrix
from sm_multilevel.linalg.layout import Layout
from sm_multilevel.objectives.gaussian import GaussianState

__all__ = ["Equations", "LevelPairs", "SecondOrder", "cov_slopes", "direction_traces", "first_order", "level_pairs"]
__all__ += ["pair_elements", "second_order", "theta_directions", "theta_hessian"]

Directions = list[tuple[int, np.ndarray]]  # of each its factor, and D of shape (q, q) over all its columns

_CHUNK = 2**21  # numbers of Q made at once
_STEP = 1e-4  # relative difference step of the gradient, where Q would be too large


@dataclass(frozen=True, eq=False)
class Equations:
    """The mixed-model equations at some Lambda.

    Attributes
    ----------
    zz : BlockMatrix
        A = Z'WZ.
    chol : BlockCholesky
        Of S = Lambda'A Lambda + I.
    lams : sequence of ndarray, shape (q, q)
    """

    zz: BlockMatrix
    chol: BlockCholesky
    lams: Sequence[np.ndarray]

    @classmethod
    def of(cls, state: GaussianState) -> Equations:
        return cls(state.data.zz, state.chol, state.lams)

    def q_times(self, right: list[np.ndarray]) -> list[np.ndarray]:
        """Q times right-hand sides of shape (q, m, c) a factor."""
        moved = self.zz.matvec(right)
        solved = self.chol.solve([np.einsum("ji,jmc->imc", lam, a) for lam, a in zip(self.lams, moved, strict=True)])
        back = self.zz.matvec([np.einsum("ij,jmc->imc", lam, u) for lam, u in zip(self.lams, solved, strict=True)])
        return [a - b for a, b in zip(moved, back, strict=True)]


@dataclass(frozen=True, eq=False)
class LevelPairs:
    """Contractions of Q = Z'V^-1 Z over levels.

    Attributes
    ----------
    sums : list of ndarray, shape (q, q)
        Sum of the diagonal blocks of each factor.
    products : dict of (f, g) -> ndarray, shape (q_f, q_g, q_f, q_g)
        Sum over pairs of levels of Q_lk[b, c] Q_lk[a, d], in the order (b, c, a, d); f <= g.
    """

    sums: list[np.ndarray]
    products: dict[tuple[int, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class SecondOrder:
    """Traces and quadratic forms in k directions; V in units of sigma^2, columns standardised.

    Attributes
    ----------
    traces : ndarray, shape (k,)
        tr(V^-1 V_i).
    pair_traces : ndarray, shape (k, k)
        tr(V^-1 V_i V^-1 V_j).
    first : ndarray, shape (k, p + 1, p + 1)
        [X r]'V^-1 V_i V^-1 [X r], r = y - X beta.
    second : ndarray, shape (k, k, p + 1, p + 1)
        [X r]'V^-1 V_i V^-1 V_j V^-1 [X r].
    """

    traces: np.ndarray
    pair_traces: np.ndarray
    first: np.ndarray
    second: np.ndarray


# -- Q, some columns at a time ---------------------------------------------------------------------------


def _component_ranks(layout: Layout) -> list[np.ndarray]:
    """Each level's number among the levels of its factor that are in the same connected component."""
    start = np.concatenate([[0], np.cumsum(layout.m)])
    ends = [
        (start[f] + pattern.first, start[g] + pattern.second) for (f, g), pattern in layout.pairs.items()
    ] or [(np.zeros(0, dtype=int), np.zeros(0, dtype=int))]  # fmt: skip
    first, second = (np.concatenate(part) for part in zip(*ends, strict=True))
    graph = sparse.coo_matrix((np.ones(len(first), dtype=bool), (first, second)), shape=(start[-1], start[-1]))
    component = connected_components(graph, directed=False)[1]
    out = []
    for f, m in enumerate(layout.m):
        own = component[start[f] : start[f + 1]]
        order = np.argsort(own, kind="stable")
        begins = np.flatnonzero(np.diff(own[order], prepend=-1))
        rank = np.empty(m, dtype=np.intp)
        rank[order] = np.arange(m) - np.repeat(begins, np.diff(np.append(begins, m)))
        out.append(rank)
    return out


def pair_elements(layout: Layout) -> int:
    """How many numbers of Q have to be made: all columns, times those of the largest connected component."""
    return int(
        layout.n_columns * sum(q * (r.max() + 1) for q, r in zip(layout.q, _component_ranks(layout), strict=True))
    )


def level_pairs(equations: Equations) -> LevelPairs:
    """Contractions of Q over single levels and over pairs of levels.

    Parameters
    ----------
    equations : Equations

    Returns
    -------
    LevelPairs
    """
    layout = equations.zz.layout
    factors = range(len(layout.m))
    sums = [np.zeros((q, q)) for q in layout.q]
    products = {
        (f, g): np.zeros((layout.q[f] * layout.q[g],) * 2) for g in factors for f in factors if f <= g
    }  # fmt: skip
    for g, rank in enumerate(_component_ranks(layout)):
        q = layout.q[g]
        width = max(1, _CHUNK // (layout.n_columns * q))
        for begin in range(0, int(rank.max()) + 1, width):
            levels = np.flatnonzero((rank >= begin) & (rank < begin + width))
            place = rank[levels] - begin
            count = int(place.max()) + 1
            right = [np.zeros((a, m, count, q)) for a, m in zip(layout.q, layout.m, strict=True)]
            for c in range(q):
                right[g][c, levels, place, c] = 1.0
            found = equations.q_times([r.reshape(*r.shape[:2], count * q) for r in right])
            for f in range(g + 1):
                block = found[f].reshape(layout.q[f], -1, q).transpose(0, 2, 1).reshape(layout.q[f] * q, -1)
                products[f, g] += block @ block.T
            sums[g] += found[g].reshape(q, layout.m[g], count, q)[:, levels, place].sum(axis=1)
    shaped = {(f, g): t.reshape(layout.q[f], layout.q[g], layout.q[f], layout.q[g]) for (f, g), t in products.items()}
    return LevelPairs([0.5 * (s + s.T) for s in sums], shaped)


# -- traces and quadratic forms --------------------------------------------------------------------------


def _border(state: GaussianState) -> list[np.ndarray]:
    """F = Z'V^-1 [X, y - X beta], shape (q, m, p + 1) a factor."""
    p = state.data.p
    return [
        np.concatenate([x[:, :, :p], e[:, :, None]], axis=2)
        for x, e in zip(state.residual_products, state.e, strict=True)
    ]


def first_order(state: GaussianState, directions: Directions) -> np.ndarray:
    """[X r]'V^-1 V_i V^-1 [X r] of each direction; shape (k, p + 1, p + 1)."""
    grams = [_outer(border, border) for border in _border(state)]
    size = state.data.p + 1
    return np.stack([np.einsum("ab,apbr->pr", d, grams[f]) for f, d in directions]).reshape(-1, size, size)


def _outer(x, y):
    """Sum over levels of x y': (q, m, c), (r, m, d) -> (q, c, r, d)."""
    (q, m, c), (r, _, d) = x.shape, y.shape
    left = x.transpose(0, 2, 1).reshape(q * c, m)
    return (left @ y.transpose(1, 0, 2).reshape(m, r * d)).reshape(q, c, r, d)


def direction_traces(directions: Directions, pairs: LevelPairs) -> tuple[np.ndarray, np.ndarray]:
    """tr(V^-1 V_i), shape (k,), and tr(V^-1 V_i V^-1 V_j), shape (k, k)."""
    traces = np.array([np.sum(d * pairs.sums[f]) for f, d in directions])
    pair_traces = np.empty((len(directions), len(directions)))
    groups = _by_factor(directions)
    for f, (here, di) in groups.items():
        for g, (there, dj) in groups.items():
            if f <= g:
                block = np.einsum("iab,bcad,jcd->ij", di, pairs.products[f, g], dj, optimize=True)
                pair_traces[np.ix_(here, there)] = block
                pair_traces[np.ix_(there, here)] = block.T
    return traces, pair_traces


def second_order(state: GaussianState, directions: Directions, pairs: LevelPairs) -> SecondOrder:
    """All traces and quadratic forms of some directions.

    Parameters
    ----------
    state : GaussianState
    directions : list of (int, ndarray of shape (q, q))
        Factor and change of its G (relative, standardised columns) of each direction; symmetric.
    pairs : LevelPairs

    Returns
    -------
    SecondOrder
    """
    k, size = len(directions), state.data.p + 1
    traces, pair_traces = direction_traces(directions, pairs)
    groups = _by_factor(directions)
    border, equations = _border(state), Equations.of(state)
    second = np.empty((k, k, size, size))
    for j, (g, d) in enumerate(directions):
        right = [np.zeros_like(x) for x in border]
        right[g] = np.einsum("ab,bmc->amc", d, border[g])
        moved = equations.q_times(right)
        for f, (here, di) in groups.items():
            second[here, j] = np.tensordot(di, _outer(border[f], moved[f]), axes=([1, 2], [0, 2]))
    return SecondOrder(traces, pair_traces, first_order(state, directions), second)


def _by_factor(directions: Directions) -> dict[int, tuple[list[int], np.ndarray]]:
    """Directions of each factor: their places, and their matrices, shape (n, q, q)."""
    out = {}
    for f in {f for f, _ in directions}:
        here = [i for i, (g, _) in enumerate(directions) if g == f]
        out[f] = here, np.stack([directions[i][1] for i in here])
    return out


# -- in theta and the residual standard deviation -----------------------------------------------------------


def theta_directions(state: GaussianState, effects) -> Directions:
    """dG / d theta_j, theta of standardised columns."""
    return [(f, b @ state.lams[f].T + state.lams[f] @ b.T) for f, b in effects.basis]


def cov_slopes(state: GaussianState, first: np.ndarray) -> np.ndarray:
    """Derivatives of cov(beta), for the user's columns, in directions of the relative G; shape (k, p, p).

    With C = (X'V^-1 X)^-1, dC = C X'V^-1 V_i V^-1 X C.
    """
    p = state.data.p
    half = state.data.scaling.map @ (state.inv_chol_x.T @ state.inv_chol_x)
    return state.sigma2 * np.einsum("ab,kbc,dc->kad", half, first[:, :p, :p], half)


def theta_hessian(
    state: GaussianState, effects, theta: np.ndarray, pairs: LevelPairs | None, profiled: np.ndarray | None = None
) -> np.ndarray:
    """Hessian of the deviance, beta profiled out, in theta (standardised columns) and log sigma.

    Parameters
    ----------
    state : GaussianState
        At theta, with its own sigma^2.
    effects : RandomEffects
    theta : ndarray, shape (k,)
    pairs : LevelPairs or None
        None: the part in theta from `profiled`, or by central differences of the exact gradient.
    profiled : ndarray, shape (k, k), optional
        Hessian in theta with sigma profiled out too, where it is known.

    Returns
    -------
    ndarray, shape (k + 1, k + 1)

    Notes
    -----
    With C = (X'V^-1 X)^-1 and P = V^-1 - V^-1 X C X'V^-1, the restricted deviance has the second derivatives
    tr(P V_ij) - tr(P V_i P V_j) + (2 y'P V_i P V_j P y - y'P V_ij P y) / sigma^2; without restriction V^-1 stands
    in place of P in the traces. In log sigma they are 4 r^2 / sigma^2, and with theta 2 y'P V_i P y / sigma^2.
    """
    k, p, sigma2 = len(theta), state.data.p, state.sigma2
    directions = theta_directions(state, effects)
    out = np.zeros((k + 1, k + 1))
    out[k, k] = 4.0 * state.rss / sigma2
    if pairs is None:
        first = first_order(state, directions)
    else:
        parts = second_order(state, directions, pairs)
        first = parts.first
    out[:k, k] = out[k, :k] = 2.0 * first[:, p, p] / sigma2
    if pairs is None:
        # The gradient there is of the deviance with sigma profiled out: put back what that took.
        profiled = _by_differences(state, effects, theta) if profiled is None else profiled
        out[:k, :k] = profiled + np.outer(out[:k, k], out[:k, k]) / out[k, k]
        return out
    cov = state.inv_chol_x.T @ state.inv_chol_x
    score = first[:, :p, p]
    out[:k, :k] = 2.0 * (parts.second[:, :, p, p] - score @ cov @ score.T) / sigma2 - parts.pair_traces
    slopes = [s - e @ e.T / sigma2 for s, e in zip(pairs.sums, state.e, strict=True)]
    if state.deviance.reml:
        inside = first[:, :p, :p] @ cov
        out[:k, :k] += 2.0 * np.einsum("ijab,ba->ij", parts.second[:, :, :p, :p], cov)
        out[:k, :k] -= np.einsum("iab,jba->ij", inside, inside)
        slopes = [s - np.einsum("imc,jmc->ij", e, e) for s, e in zip(slopes, state.whitened[0], strict=True)]
    for i, (f, bi) in enumerate(effects.basis):
        for j, (g, bj) in enumerate(effects.basis):
            if f == g:
                out[i, j] += 2.0 * np.sum(slopes[f] * (bi @ bj.T))
    return 0.5 * (out + out.T)


def _by_differences(state, effects, theta):
    """Hessian in theta of the deviance with sigma profiled out."""

    def gradient(at):
        return effects.chain(state.deviance.at(effects.lambdas(at)).gammas)

    steps = _STEP * np.maximum(np.abs(theta), 1.0)
    rows = [(gradient(theta + step) - gradient(theta - step)) / (2.0 * step.sum()) for step in np.diag(steps)]
    out = np.array(rows)
    return 0.5 * (out + out.T)
