"""Refits of a linear model to many data sets, from their cross-products alone.

The rows are passed once for all responses of a batch. Where the model has one grouping factor,
or nested or crossed ones whose units are small, the replicates are then minimised together
(`estimation.batched`); others, and what does not pass there, go one at a time through
`estimation.fit` on their own cross-products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
from scipy import sparse

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import check_not_exact
from sm_multilevel.estimation.batched import minimise_batch
from sm_multilevel.estimation.fit import estimate
from sm_multilevel.objectives.batched import BatchedDeviance, Replicates, UnitClasses
from sm_multilevel.objectives.crossprod import FixedScaling, GaussianData, combined_weights
from sm_multilevel.objectives.linear import LinearObjective
from sm_multilevel.objectives.space import ThetaSpace
from sm_multilevel.postestimation.resampling.units import find_units

__all__ = ["LinearRefits", "Refitted"]

_ENTRIES = 2**22  # numbers of a block of responses
_WORK = 2**16  # of an evaluation of one replicate, up to which it is cheaper than the calls of one by itself
_EXACT = 1e-26  # part of y'Wy that rounding leaves of a regression, as in `checks`


@dataclass(frozen=True, eq=False)
class Refitted:
    """One data set's fit.

    Attributes
    ----------
    reason : str
        Empty if it converged; the others are then those of an optimum.
    llf : float
    params, theta : ndarray
        In the user's columns.
    scale : float
    singular : bool
    """

    reason: str
    llf: float = np.nan
    params: np.ndarray | None = None
    theta: np.ndarray | None = None
    scale: float = np.nan
    singular: bool = False


@dataclass(frozen=True, eq=False)
class _Sums:
    """Cross-products of a batch of responses with the standardised columns.

    Attributes
    ----------
    start : ndarray, shape (p, B)
        First regression on X, which the responses are residuals of.
    xy : ndarray, shape (p, B)
    yy, raw : ndarray, shape (B,)
        Of the residuals, and of the responses as they are.
    zy : list of ndarray, shape (q, m, B)
    """

    start: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    raw: np.ndarray
    zy: list[np.ndarray]


class LinearRefits:
    """What refits of a linear model share.

    Parameters
    ----------
    result : MixedLMResults
    """

    def __init__(self, result: Any):
        model = result.model
        model.require_data("Refits")
        self.model, self.effects, self.reml = model, model.effects, result.reml
        self.method = result.record.method
        self.data: GaussianData = model.cross_products()
        self.p = self.data.p
        design = model.design
        self.weights = weights = combined_weights(design.var_weights, design.freq_weights)
        self.x = design.exog @ self.data.scaling.map
        self.xw = self.x if weights is None else self.x * weights[:, None]
        gram = self.data.xxy[: self.p, : self.p]
        self.gram_inverse = np.linalg.pinv(gram, hermitian=True) if self.p else gram
        self.units = find_units(self.effects)
        self.space = ThetaSpace(self.effects)
        self.start = self.space.from_user(self.opened(result))
        self._zt: list[sparse.csr_matrix] | None = None

    @staticmethod
    def opened(result: Any) -> np.ndarray:
        """The result's theta (user's columns), off the boundary: there its derivative is zero and leads nowhere."""
        effects, space = result.model.effects, ThetaSpace(result.model.effects)
        theta = result.record.theta_standard
        singular = space.is_singular(theta)
        opened = effects.map_terms(theta, lambda i, t, part: t.covariance.open(part, t.q, 0.1) if singular[i] else part)
        return space.to_user(opened)

    # -- the rows -------------------------------------------------------------------

    def _columns(self) -> list[sparse.csr_matrix]:
        """Z'W of each factor, rows ordered (column, level); shape (q m, n)."""
        if self._zt is None:
            self._zt = []
            for factor, w in zip(self.effects.factors, self.data.maps, strict=True):
                terms = [self.effects.terms[i] for i in factor.terms]
                z = np.hstack([t.exog for t in terms]) @ w
                if self.weights is not None:
                    z = z * self.weights[:, None]
                n, q = z.shape
                at = terms[0].codes[:, None] + factor.m * np.arange(q)
                whole = sparse.csc_matrix((z.ravel(), at.ravel(), np.arange(0, n * q + 1, q)), shape=(factor.m * q, n))
                self._zt.append(whole.tocsr())
        return self._zt

    def _sums(self, responses: np.ndarray) -> _Sums:
        """In blocks of a fixed width, as `BatchedDeviance.at`: rounding depends on a response alone."""
        n = responses.shape[1]
        width = int(np.clip(_ENTRIES // n // 8 * 8, 8, 64))
        parts = []
        for first in range(0, len(responses), width):
            block = responses[first : first + width]
            fill = np.minimum(np.arange(width), len(block) - 1)
            parts.append((self._block_sums(block[fill]), len(block)))

        def joined(pick):
            return np.concatenate([pick(sums)[..., :count] for sums, count in parts], axis=-1)

        zy = [joined(lambda sums, f=f: sums.zy[f]) for f in range(len(self.effects.factors))]
        start, xy, yy, raw = (joined(attrgetter(name)) for name in ("start", "xy", "yy", "raw"))
        return _Sums(start, xy, yy, raw, zy)

    def _block_sums(self, responses: np.ndarray) -> _Sums:
        y = responses if self.model.offset is None else responses - self.model.offset
        y = np.array(y.T, order="C")  # (n, B)
        w = 1.0 if self.weights is None else self.weights[:, None]
        raw = np.einsum("nb,nb->b", y, w * y)
        start = self.gram_inverse @ (self.xw.T @ y)
        if self.p:
            y -= self.x @ start
        zy = [
            (zt @ y).reshape(factor.q, factor.m, -1)
            for zt, factor in zip(self._columns(), self.effects.factors, strict=True)
        ]
        return _Sums(start, self.xw.T @ y, np.einsum("nb,nb->b", y, w * y), raw, zy)

    def _one(self, sums: _Sums, b: int) -> GaussianData:
        """The cross-products of one response."""
        p, data = self.p, self.data
        xxy = data.xxy.copy()
        xxy[:p, p] = xxy[p, :p] = sums.xy[:, b]
        xxy[p, p] = sums.yy[b]
        zxy = [
            np.concatenate([old[:, :, :p], zy[:, :, b : b + 1]], axis=2)
            for old, zy in zip(data.zxy, sums.zy, strict=True)
        ]
        scaling = FixedScaling(data.scaling.map, data.scaling.map @ sums.start[:, b])
        return replace(data, zxy=zxy, xxy=xxy, scaling=scaling)

    # -- fits -----------------------------------------------------------------------

    def to_responses(self, responses: np.ndarray) -> Iterator[Refitted]:
        """Fits to responses of shape (B, n), in order."""
        step = max(64, 4 * _ENTRIES // (self.units.q**2 * self.units.size))
        for first in range(0, len(responses), step):
            yield from self._to_some(responses[first : first + step])

    def _to_some(self, responses):
        with one_blas_thread():
            sums = self._sums(responses)

            def single(b: int) -> Refitted:
                return self._single(sums, b, responses[b])

            if not self.is_batched:
                yield from map(single, range(len(responses)))
                return
            classes, member = self._classes
            d = self.units.gather(sums.zy)
            one = np.ones(1)
            replicates = Replicates(
                np.asarray(member.sum(axis=1)),
                _summed(member, d),
                _summed(member, np.einsum("xmb,ymb->xymb", d, d)),
                self.data.xxy[: self.p, : self.p, None], sums.xy, sums.yy,
                self.data.nobs * one, self.data.log_weights * one,
            )  # fmt: skip
            start = (sums.start.T[:, None, :] * self.data.scaling.map).sum(axis=2)
            exact = sums.yy <= _EXACT * sums.raw
            yield from self.together(classes, replicates, start, single, exact)

    def to_groups(self, counts: np.ndarray, single: Callable[[int], Refitted]) -> Iterator[Refitted]:
        """Fits to the model's own response with each unit as often as it is drawn, in order.

        Parameters
        ----------
        counts : ndarray, shape (B, units)
        single : callable
            Number of a data set -> Refitted, for those that cannot be fitted together.
        """
        data, p, m = self.data, self.p, counts.shape[1]
        design = self.model.design
        with one_blas_thread():
            classes, member = self._classes
            y = design.endog if design.offset is None else design.endog - design.offset
            y = y - design.exog @ data.scaling.start
            yw = y if self.weights is None else y * self.weights

            def by_group(values):
                return np.bincount(self.units.codes, weights=values, minlength=m)

            xx = np.array([[by_group(self.xw[:, i] * self.x[:, j]) for j in range(p)] for i in range(p)])
            xy = np.array([by_group(self.x[:, i] * yw) for i in range(p)]).reshape(p, m)
            ones, logs = design.freq_weights, design.var_weights
            nobs = by_group(np.ones(len(y)) if ones is None else ones)
            log_weights = by_group(np.zeros(len(y)) if logs is None else np.log(logs) * (1.0 if ones is None else ones))
            d = self.units.gather([zxy[:, :, p:] for zxy in data.zxy])[:, :, 0]
            drawn = np.ascontiguousarray(counts.T)
            dd = np.einsum("xm,ym->xym", d, d)

            def total(values):  # (..., m) -> (..., B), apart for each data set: see `_sums`
                flat = values.reshape(-1, m)
                return np.array([[row @ column for column in counts] for row in flat]).reshape(
                    *values.shape[:-1], len(counts)
                )

            raw = np.asarray(total(by_group(yw * y)))
            replicates = Replicates(
                member @ drawn, _summed(member, d[:, :, None] * drawn), _summed(member, dd[..., None] * drawn),
                total(xx.reshape(p, p, m)), total(xy), raw, total(nobs), total(log_weights),
            )  # fmt: skip
            nothing = np.zeros(len(counts), dtype=bool)
            yield from self.together(classes, replicates, data.scaling.start, single, nothing)

    def together(
        self,
        classes: UnitClasses,
        replicates: Replicates,
        start: np.ndarray,
        single: Callable[[int], Refitted],
        refused: np.ndarray,
    ) -> Iterator[Refitted]:
        """Fits of many data sets at once; `single` fits those that are refused or not certified.

        Parameters
        ----------
        classes : UnitClasses
        replicates : Replicates
        start : ndarray, shape (B, p) or (p,)
            What to add to the coefficients, in the user's columns.
        single : callable
            Number of a data set -> Refitted.
        refused : ndarray of bool, shape (B,)
        """
        basis, slots = self.units.basis(self.effects), self.units.slots
        deviance = BatchedDeviance(classes, replicates, basis, self.reml, self.data.scaling.logdet, slots)
        found = minimise_batch(deviance, self.space, self.start)
        point = found.point
        params = start + (point.beta[:, None, :] * self.data.scaling.map).sum(axis=2)
        theta = self.effects.to_user_many(found.theta)
        for b in range(replicates.size):
            if refused[b] or not found.certified[b]:
                yield single(b)
            else:
                value, sigma2 = -0.5 * float(point.value[b]), float(point.sigma2[b])
                yield Refitted("", value, params[b], theta[b], sigma2, bool(found.singular[b]))

    @cached_property
    def is_batched(self) -> bool:
        """Whether many replicates are fitted together: units that are small, or there is one factor."""
        if len(self.effects.factors) == 1:
            return True
        work = self.units.q**3
        # Only a few classes may be left of many units, but these are listed first.
        if work > _WORK or work * self.units.size > 64 * _WORK:
            return False
        return work * self._classes[0].a.shape[2] <= _WORK

    @cached_property
    def _classes(self) -> tuple[UnitClasses, sparse.csr_matrix]:
        """Classes of equal units, and their members as a matrix (C, units) of zeros and ones."""
        units = self.units
        a = units.blocks(self.data.zz)
        k = units.gather([zxy[:, :, : self.p] for zxy in self.data.zxy]).transpose(0, 2, 1)
        m = units.size
        features = np.concatenate([a.reshape(-1, m), k.reshape(-1, m)]).T
        _, first, inverse = np.unique(features, axis=0, return_index=True, return_inverse=True)
        member = sparse.csr_matrix((np.ones(m), (np.ravel(inverse), np.arange(m))), shape=(len(first), m))
        return UnitClasses(np.ascontiguousarray(a[:, :, first]), np.ascontiguousarray(k[:, :, first])), member

    def _single(self, sums: _Sums, b: int, response: np.ndarray) -> Refitted:
        try:
            check_not_exact(sums.yy[b], response, self.model.var_weights, self.model.freq_weights)
            objective = LinearObjective(self._one(sums, b), self.effects, self.reml)
            record = estimate(objective, method=self.method, start=self.space.to_user(self.start))
            if not record.converged:
                return Refitted(record.reason)
            state = objective.standard_state(record.theta_standard)
        except (ValueError, np.linalg.LinAlgError) as error:  # a response that has no fit
            return Refitted(str(error))
        beta = state.data.scaling.beta(state.beta)
        return Refitted("", -0.5 * record.value, beta, record.theta, state.sigma2, bool(record.singular))


def _summed(member: sparse.csr_matrix, values: np.ndarray) -> np.ndarray:
    """Sums over the members of each class: (..., m, B) -> (..., C, B)."""
    *lead, m, b = values.shape
    flat = values.reshape(-1, m, b)
    return np.stack([member @ part for part in flat]).reshape(*lead, member.shape[0], b)
