"""Clusters' parts of the linear model's sandwich: bias-reduced linearisation (CR2) and its degrees of freedom.

With V_i the fitted covariance of cluster i, relative to sigma^2, M = (X'V^-1 X)^-1 and r_i = y_i - X_i beta,

    V^CR = M [sum_i X_i'V_i^-1 A_i r_i r_i'A_i V_i^-1 X_i] M,      A_i = I,  or in CR2
    A_i = D_i' B_i^(+1/2) D_i,   B_i = D_i (V_i - X_i M X_i') D_i',   V_i = D_i'D_i

(Bell and McCaffrey 2002, Survey Methodology 28, 169-181; Pustejovsky and Tipton 2018, J. Bus. Econ. Stat. 36,
672-683, equations 5 to 8, with V as working covariance). A_i (V_i - X_i M X_i') A_i = V_i, so that V^CR is unbiased if
the model holds; A_i does not depend on which root D_i is taken. Without precision weights, or with equal ones in a
cluster, V_i is a multiple of the identity outside of the span of [Z_i X_i], and so is A_i: an orthonormal basis of it
takes the place of the rows, and matrices have the size of the columns, not of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sm_multilevel.postestimation.robust.clusters import Clusters
from sm_multilevel.postestimation.wald.joint import DERIVED, whitened
from sm_multilevel.postestimation.wald.reference import Reference

__all__ = ["ClusterSatterthwaite", "Moments", "influences"]

_CELLS = 2**22  # numbers of a batch of clusters
_MOST = 2000  # rows and columns of a cluster's matrix
_MOMENTS = 2**26  # numbers kept for degrees of freedom
_NULL = 1e-8  # eigenvalue of I - D^-1' X M X' D^-1 that is zero


@dataclass(frozen=True, eq=False)
class Moments:
    """What degrees of freedom need of the clusters, in the user's parameters.

    Attributes
    ----------
    pulls : ndarray, shape (m, p, p)
        M X_i'V_i^-1 A_i X_i R', where M = R'R.
    spreads : ndarray, shape (m, p, p)
        M X_i'V_i^-1 A_i V_i A_i V_i^-1 X_i M.
    """

    pulls: np.ndarray
    spreads: np.ndarray


class ClusterSatterthwaite(Reference):
    """Degrees of freedom of a cluster-robust covariance, with the fitted model as working model.

    Parameters
    ----------
    moments : Moments

    Notes
    -----
    A single hypothesis c has the Satterthwaite degrees of freedom
    (sum_i W_ii)^2 / sum_ij W_ij^2, where W_ij is the covariance, if the model holds, of the clusters' parts of c'beta;
    several have the approximate Hotelling test HTZ (Pustejovsky and Tipton 2018, equations 12 and 16 to 18).
    """

    name = "satterthwaite"
    label = "Satterthwaite (clusters)"

    def __init__(self, moments: Moments):
        self.moments = moments

    def t_df(self, rows):
        return np.array([self._eta(np.asarray(row, dtype=float)[None]) for row in rows])

    def f_df(self, rows):
        rows = np.asarray(rows, dtype=float)
        q, eta = len(rows), self._eta(rows)
        if not eta > q - 1:
            return np.nan, np.nan
        return (eta - q + 1.0) / eta, float(eta - q + 1.0)

    @cached_property
    def _mean(self) -> np.ndarray:
        """Mean of the covariance, if the model holds."""
        pulls = self.moments.pulls
        return np.sum(self.moments.spreads - pulls @ pulls.transpose(0, 2, 1), axis=0)

    def _eta(self, rows) -> float:
        """Degrees of freedom of the Wishart distribution that has the total variance of R V R'."""
        if not (np.diag(rows @ self._mean @ rows.T) > 0.0).all():
            return np.nan
        pulls, spreads = rows @ self.moments.pulls, rows @ self.moments.spreads @ rows.T
        half = whitened(rows, self._mean, DERIVED)
        pulls, spreads = half @ pulls, half @ spreads @ half.T
        q = len(rows)
        # Covariance of the parts i and j: spreads_i (where i = j) - pulls_i pulls_j'.
        flat = pulls.reshape(len(pulls), -1)
        both = (flat.T @ flat).reshape(q, -1, q, pulls.shape[2])
        own = pulls @ pulls.transpose(0, 2, 1)
        left = spreads - own
        trace, trace_own = (np.trace(x, axis1=1, axis2=2) for x in (left, own))
        total = np.sum(both**2) + np.einsum("satb,tasb->", both, both)
        total += np.sum(trace**2 - trace_own**2)
        total += np.einsum("mst,mts->", left, left) - np.einsum("mst,mts->", own, own)
        return float(q * (q + 1.0) / total)


def influences(
    result: Any, clusters: Clusters, resid: np.ndarray, adjust: bool, with_moments: bool
) -> tuple[np.ndarray, Moments | None]:
    """Each cluster's part of the sandwich of beta.

    Parameters
    ----------
    result : MixedLMResults
    clusters : Clusters
    resid : ndarray, shape (n,)
        y - X beta.
    adjust : bool
        CR2's A_i, or the identity.
    with_moments : bool
        Whether degrees of freedom are wanted.

    Returns
    -------
    ndarray, shape (m, p)
        M X_i'V_i^-1 A_i r_i in the user's parameters.
    Moments or None

    Raises
    ------
    ValueError
        If a cluster is too large for its matrices, naming it, or there are too many clusters.
    """
    model = result.model
    state = result._state
    m, p = clusters.size, state.data.p
    if with_moments and 2 * m * p * p > _MOMENTS:
        raise ValueError(
            f"Satterthwaite's degrees of freedom keep two matrices of {p} x {p} for each of the {m} clusters, over the "
            "budget. With so many clusters use cov_kwds={'df': 'normal'}."
        )
    rows = _Rows(result, clusters, resid)
    root, change = state.inv_chol_x, state.data.scaling.map
    bread = root.T @ root
    parts = np.empty((m, p))
    pulls, spreads = (np.empty((m, p, p)) if with_moments else np.empty((0, p, p)) for _ in range(2))
    for members, reducible in rows.batches(model.effects, clusters):
        x, e, v = rows.reduced(members, reducible)
        white = np.linalg.solve(v, x)
        if adjust:
            white = _adjustment(v, x, bread) @ white
        parts[members] = np.einsum("bkp,bk->bp", white, e)
        if with_moments:
            pulls[members] = white.transpose(0, 2, 1) @ x
            spreads[members] = white.transpose(0, 2, 1) @ v @ white
    back = change @ bread
    moments = Moments(back @ pulls @ root.T, back @ spreads @ back.T) if with_moments else None
    return parts @ back.T, moments


def _adjustment(v, x, bread):
    """A_i of a batch of clusters."""
    low = np.linalg.cholesky(v)  # D = L'
    inside = np.linalg.solve(low, x)
    eye = np.eye(v.shape[1])
    left = np.linalg.eigvalsh(eye - inside @ bread @ inside.transpose(0, 2, 1))
    nulls = (left < _NULL).sum(axis=1)
    b = low.transpose(0, 2, 1) @ (v - x @ bread @ x.transpose(0, 2, 1)) @ low
    values, vectors = np.linalg.eigh(b)
    known = np.arange(v.shape[1]) >= nulls[:, None]
    power = np.where(known, 1.0 / np.sqrt(np.where(known, values, 1.0)), 0.0)
    outer = low @ vectors
    return (outer * power[:, None, :]) @ outer.transpose(0, 2, 1)


class _Rows:
    """X, residuals and Z Lambda of the rows in order of clusters, times the root of frequency weights."""

    def __init__(self, result, clusters, resid):
        model, state = result.model, result._state
        effects = model.effects
        order = np.argsort(clusters.codes, kind="stable")
        self.counts = np.bincount(clusters.codes, minlength=clusters.size)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        root = np.ones(len(order)) if model.freq_weights is None else np.sqrt(model.freq_weights[order])
        self.x = (model.design.exog[order] @ state.data.scaling.map) * root[:, None]
        self.e = resid[order] * root
        self.noise = np.ones(len(order)) if model.var_weights is None else 1.0 / model.var_weights[order]
        self.z, self.places, self.widths = [], [], []
        for factor, w, lam in zip(effects.factors, state.data.maps, state.lams, strict=True):
            columns = np.hstack([effects.terms[i].exog for i in factor.terms])[order]
            self.z.append((columns @ (w @ lam)) * root[:, None])
            codes = effects.terms[factor.terms[0]].codes
            home = np.empty(factor.m, dtype=np.intp)
            home[codes] = clusters.codes
            inside = np.argsort(home, kind="stable")
            many = np.bincount(home, minlength=clusters.size)
            rank = np.empty(factor.m, dtype=np.intp)
            rank[inside] = np.arange(factor.m) - np.repeat(np.cumsum(many) - many, many)
            self.places.append(rank[codes[order]])
            self.widths.append(many)

    def batches(self, effects, clusters):
        """Clusters with the same numbers of rows and levels, not too many at a time."""
        smallest, largest = (f.reduceat(self.noise, self.starts) for f in (np.minimum, np.maximum))
        columns = sum(many * f.q for many, f in zip(self.widths, effects.factors, strict=True)) + self.x.shape[1]
        reducible = (smallest == largest) & (self.counts > columns)
        sizes = np.where(reducible, columns, self.counts)
        worst = int(np.argmax(sizes))
        if sizes[worst] > _MOST or self.counts[worst] * columns[worst] > 2**27:
            raise ValueError(
                f"Cluster {clusters.labels.tolist()[worst]!r} of {clusters.name!r} has {self.counts[worst]} rows and "
                f"{columns[worst]} columns of fixed and random effects; CR2 and Satterthwaite's degrees of freedom "
                f"need a matrix of {sizes[worst]} rows for it, over the budget of {_MOST}. Use CR1."
            )
        kinds = np.column_stack([reducible, self.counts, *self.widths])
        found, which = np.unique(kinds, axis=0, return_inverse=True)
        by_kind = np.argsort(which.ravel(), kind="stable")
        at = 0
        for kind, many in zip(found, np.bincount(which.ravel()), strict=True):
            members = by_kind[at : at + many]
            at += many
            width = int(columns[members[0]])
            step = max(1, _CELLS // int(kind[1] * width + sizes[members[0]] ** 2))
            for begin in range(0, many, step):
                yield members[begin : begin + step], bool(kind[0])

    def reduced(self, members, reducible):
        """X, residuals and V of clusters of one kind: of their rows, or of a basis of the span of [Z X]."""
        n = int(self.counts[members[0]])
        rows = self.starts[members][:, None] + np.arange(n)
        batch = np.arange(len(members))[:, None], np.arange(n)[None, :]
        blocks = []
        for z, places, many in zip(self.z, self.places, self.widths, strict=True):
            levels, q = int(many[members[0]]), z.shape[1]
            dense = np.zeros((len(members), n, levels, q))
            dense[(*batch, places[rows])] = z[rows]
            blocks.append(dense.reshape(len(members), n, levels * q))
        z, x, e, noise = np.concatenate(blocks, axis=2), self.x[rows], self.e[rows], self.noise[rows]
        if reducible:
            basis = np.linalg.qr(np.concatenate([z, x], axis=2))[0]
            back = basis.transpose(0, 2, 1)
            z, x, e = back @ z, back @ x, np.einsum("bnk,bn->bk", basis, e)
            noise = noise[:, : z.shape[1]]
        v = z @ z.transpose(0, 2, 1)
        diagonal = np.arange(v.shape[1])
        v[:, diagonal, diagonal] += noise
        return x, e, v
