"""Random terms and how they share grouping factors.

A term is a grouping x columns x covariance structure. Terms on the same grouping (as
``(1 | g) + (0 + x | g)`` or ``(x || g)``) are one factor of the linear algebra, with a
block-diagonal Lambda. theta holds the terms in formula order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from sm_multilevel.covariance import Covariance
from sm_multilevel.linalg.layout import build_layout

__all__ = ["Factor", "RandomEffects", "RandomTerm", "constant_column"]


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """One random-effects term.

    Attributes
    ----------
    group : str
        Name of the grouping factor, nested ones as ``inner:outer``.
    codes : ndarray of int, shape (n,)
        Level of each row.
    levels : pandas.Index
        Labels of the levels; only levels that occur.
    exog : ndarray, shape (n, q)
        Columns of the term.
    columns : tuple of str
        Their names.
    covariance : Covariance
        Structure of the columns' covariance.
    name : str
        How the user refers to the term: a variance component's name, or the group.
    is_component : bool
        Whether it is one of statsmodels' variance components.
    """

    group: str
    codes: np.ndarray
    levels: pd.Index
    exog: np.ndarray
    columns: tuple[str, ...]
    covariance: Covariance
    name: str = ""
    is_component: bool = False

    @property
    def q(self) -> int:
        return self.exog.shape[1]

    @property
    def n_levels(self) -> int:
        return len(self.levels)

    @property
    def n_params(self) -> int:
        return self.covariance.n_params(self.q)


@dataclass(frozen=True)
class Factor:
    """A grouping factor with the columns of all its terms.

    Attributes
    ----------
    terms : tuple of int
        Indices of the terms, in formula order.
    starts : tuple of int
        First column of each term within the factor.
    q, m : int
        Columns and levels.
    """

    terms: tuple[int, ...]
    starts: tuple[int, ...]
    q: int
    m: int


class RandomEffects:
    """All random terms of a model, with theta packed and factors merged.

    Parameters
    ----------
    terms : sequence of RandomTerm
        In formula order.
    weight : float
        Mean precision weight: theta is relative to the residual SD of a row of weight one, and weights may be
        of any size.
    counts : ndarray, shape (n,), optional
        How many rows each row stands for: they are standardised as if they were there.

    Attributes
    ----------
    factors : tuple of Factor
    layout : Layout
        Symbolic structure of Z'Z.
    rows : dict
        Each row's place in the pattern of a pair of factors.
    """

    def __init__(self, terms, weight: float = 1.0, counts: np.ndarray | None = None):
        self.terms = tuple(terms)
        self.weight, self.counts = weight, counts
        self.factors = self._merge()
        codes = [self.terms[f.terms[0]].codes for f in self.factors]
        names = [self.terms[f.terms[0]].group for f in self.factors]
        self.layout, self.rows = build_layout(codes, [f.m for f in self.factors], [f.q for f in self.factors], names)

    def _merge(self):
        found: list[list[int]] = []
        for i, term in enumerate(self.terms):
            for members in found:
                other = self.terms[members[0]]
                if other.group == term.group and (other.codes is term.codes or np.array_equal(other.codes, term.codes)):
                    members.append(i)
                    break
            else:
                found.append([i])
        factors = []
        for members in found:
            widths = [self.terms[i].q for i in members]
            starts = tuple(np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(int).tolist())
            factors.append(Factor(tuple(members), starts, int(sum(widths)), self.terms[members[0]].n_levels))
        return tuple(factors)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each term's elements stand in theta."""
        ends = np.cumsum([t.n_params for t in self.terms])
        return tuple(slice(int(e) - t.n_params, int(e)) for e, t in zip(ends, self.terms, strict=True))

    @property
    def n_params(self) -> int:
        return self.slices[-1].stop if self.slices else 0

    @cached_property
    def home(self) -> tuple[tuple[int, int], ...]:
        """Factor and first column of each term."""
        where = {}
        for f, factor in enumerate(self.factors):
            for i, start in zip(factor.terms, factor.starts, strict=True):
                where[i] = (f, start)
        return tuple(where[i] for i in range(len(self.terms)))

    @cached_property
    def basis(self) -> tuple[tuple[int, np.ndarray], ...]:
        """For each theta_j its factor and dLambda/dtheta_j, shape (q, q)."""
        out = []
        for term, (f, start) in zip(self.terms, self.home, strict=True):
            q = self.factors[f].q
            for b in term.covariance.basis(term.q):
                full = np.zeros((q, q))
                full[start : start + term.q, start : start + term.q] = b
                out.append((f, full))
        return tuple(out)

    def lambdas(self, theta: np.ndarray) -> list[np.ndarray]:
        """Lambda of each factor."""
        out = [np.zeros((f.q, f.q)) for f in self.factors]
        for value, (f, b) in zip(theta, self.basis, strict=True):
            out[f] += value * b
        return out

    def chain(self, gammas: list[np.ndarray]) -> np.ndarray:
        """Gradient in theta from the derivatives in each Lambda."""
        return np.array([np.sum(b * gammas[f]) for f, b in self.basis])

    def per_term(self, theta: np.ndarray) -> list[np.ndarray]:
        """theta of each term."""
        return [theta[s] for s in self.slices]

    def map_terms(self, theta, function) -> np.ndarray:
        """Apply ``function(term index, term, theta of the term)`` and pack the results."""
        parts = [function(i, t, part) for i, (t, part) in enumerate(zip(self.terms, self.per_term(theta), strict=True))]
        return np.concatenate(parts) if parts else np.empty(0)

    def blocks(self, whole: list[np.ndarray]) -> list[np.ndarray]:
        """Each term's block of symmetric matrices of whole factors."""
        parts = [(f, slice(start, start + t.q)) for t, (f, start) in zip(self.terms, self.home, strict=True)]
        return [whole[f][part, part] for f, part in parts]

    def from_blocks(self, whole: list[np.ndarray]) -> np.ndarray:
        """theta of the relative covariances G of whole factors."""
        parts = self.blocks(whole)
        return self.map_terms(np.zeros(self.n_params), lambda i, term, _: term.covariance.from_covariance(parts[i]))

    def canonical(self, theta: np.ndarray) -> np.ndarray:
        """The same Lambdas up to sign, scale elements not negative."""
        return self.map_terms(theta, lambda i, t, part: t.covariance.canonical(part, t.q))

    @cached_property
    def standardizers(self) -> list[np.ndarray]:
        """W of each term: its columns Z become Z W, and b = W b'.

        Columns are centred only where the term has an intercept and any change of basis
        leaves the family of covariances as it is; elsewhere centring changes the model.
        With precision weights a column is of size one in residual SDs of a row of mean weight.
        """
        return [_standardizer(t.exog, t.covariance.maps, self.counts) / np.sqrt(self.weight) for t in self.terms]

    @cached_property
    def factor_standardizers(self) -> list[np.ndarray]:
        """Block-diagonal W of each factor."""
        out = [np.zeros((f.q, f.q)) for f in self.factors]
        for w, (f, start) in zip(self.standardizers, self.home, strict=True):
            out[f][start : start + w.shape[0], start : start + w.shape[0]] = w
        return out

    def to_user(self, theta: np.ndarray) -> np.ndarray:
        """theta in the user's columns, from the standardised ones."""
        return self.map_terms(theta, lambda i, t, part: t.covariance.transform(part, self.standardizers[i]))

    def to_user_many(self, thetas: np.ndarray) -> np.ndarray:
        """`to_user` of many theta, shape (B, k)."""
        parts = [
            t.covariance.transform_many(thetas[:, s], w)
            for t, s, w in zip(self.terms, self.slices, self.standardizers, strict=True)
        ]
        return np.hstack(parts)

    def from_user(self, theta: np.ndarray) -> np.ndarray:
        """theta in the standardised columns."""
        return self.map_terms(
            theta,
            lambda i, t, part: t.covariance.transform(part, np.linalg.inv(self.standardizers[i])),
        )


def _standardizer(z, maps, counts=None):
    q = z.shape[1]
    n = len(z) if counts is None else counts.sum()

    def total(v):
        return v.sum() if counts is None else counts @ v

    # Column by column: reductions over the rows of a narrow matrix are slow in NumPy.
    mean = np.array([total(z[:, j]) for j in range(q)]) / n
    spread = np.sqrt(np.array([total(z[:, j] * z[:, j]) for j in range(q)]) / n)
    spread = np.where(spread > 0, spread, 1.0)
    if maps == "common":
        return np.eye(q) / spread.mean()
    w = np.diag(1.0 / spread)
    one = constant_column(z)
    if maps == "linear" and one is not None:
        for j in range(q):
            if j == one:
                continue
            centred = z[:, j] - mean[j]
            sd = np.sqrt(total(centred * centred) / n)
            sd = sd if sd > 1e-12 * abs(mean[j]) else spread[j]
            w[j, j] = 1.0 / sd
            w[one, j] = -mean[j] / z[0, one] / sd
    return w


def constant_column(x: np.ndarray) -> int | None:
    """Index of the first column that is constant and not zero."""
    for j in range(x.shape[1]):
        if x.shape[0] and x[0, j] != 0 and np.all(x[:, j] == x[0, j]):
            return j
    return None
