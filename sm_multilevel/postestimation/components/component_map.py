"""Variance components with their joint covariance: what standard errors, intervals and ICCs start from.

`ComponentMap` gives the variances and covariances of all terms, in the user's units and in the order of
`varcorr()`, as differentiable functions of theta (standardised columns) and sigma^2. `joint_components` adds the
covariance of their estimates from the observed information, 2 H^-1 with H the Hessian of the (restricted) deviance: in
theta and log sigma in the linear model (`second_order.theta_hessian`), in beta, psi and theta in the others.

At the boundary a zero variance is held where it is, and has no standard error (Self and Liang 1987).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import linalg

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.covariance import SINGULAR_TOLERANCE
from sm_multilevel.postestimation.components.second_order import Equations, level_pairs, pair_elements, theta_hessian
from sm_multilevel.postestimation.components.varcorr import component_labels

__all__ = ["ComponentMap", "Components", "Entry", "component_values", "held_directions", "joint_components"]
__all__ += ["restricted_inverse"]

_PAIRS = 2**22  # numbers up to which the Hessian is analytic; beyond, that of the fit's own check serves
_FLAT = 1e-9  # eigenvalues of the scaled information that count as zero
_ONE = 1e-6  # a squared correlation this near to one is one


@dataclass(frozen=True)
class Entry:
    """One row of `varcorr()`.

    Attributes
    ----------
    grp : str
    var1, var2 : str or None
        `var2` is None for variances; both are None for the residual.
    term : int
        Number of the term in formula order, -1 for the residual.
    j, k : int
        Columns of the term; equal for variances.
    """

    grp: str
    var1: str | None
    var2: str | None
    term: int
    j: int
    k: int

    @property
    def is_variance(self) -> bool:
        return self.j == self.k


class ComponentMap:
    """Variances and covariances of all terms as functions of theta and sigma^2.

    Parameters
    ----------
    effects : RandomEffects
    residual : bool
        Whether the model has a residual variance, the last row; theta is then relative to it.

    Attributes
    ----------
    entries : tuple of Entry
        In the order of `varcorr()`.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.postestimation.components.component_map import ComponentMap
    >>> components = ComponentMap(res.model.effects, residual=True)
    >>> values, jacobian = components(res.record.theta_standard, res.scale)
    >>> values.round(1).tolist(), jacobian.shape
    ([612.1, 35.1, 9.6, 654.9], (4, 4))
    """

    def __init__(self, effects, residual: bool):
        self.effects, self.residual = effects, residual
        entries = []
        for label, i, j, k in component_labels(effects.terms):
            columns = effects.terms[i].columns
            entries.append(Entry(label, columns[j], None if j == k else columns[k], i, j, k))
        if residual:
            entries.append(Entry("Residual", None, None, -1, 0, 0))
        self.entries = tuple(entries)

    def find(self, term: int, j: int, k: int) -> int:
        """Place of an element of a term's covariance among `entries`.

        Parameters
        ----------
        term : int
            Place of the term in the formula.
        j, k : int
            Columns.

        Returns
        -------
        int

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> from sm_multilevel.postestimation.components.component_map import ComponentMap
        >>> ComponentMap(res.model.effects, residual=True).find(0, 1, 1)
        1
        """
        j, k = min(j, k), max(j, k)
        return next(n for n, e in enumerate(self.entries) if (e.term, e.j, e.k) == (term, j, k))

    def __call__(self, theta, sigma2: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Components and their derivatives.

        Parameters
        ----------
        theta : ndarray, shape (k,)
            In standardised columns.
        sigma2 : float

        Returns
        -------
        values : ndarray, shape (c,)
        jacobian : ndarray, shape (c, k) or (c, k + 1)
            By theta, and by sigma^2 where there is a residual.
        """
        effects, n = self.effects, self.effects.n_params
        values = np.zeros(len(self.entries))
        jacobian = np.zeros((len(self.entries), n + self.residual))
        if self.residual:
            values[-1] = sigma2
            jacobian[-1, -1] = 1.0
        rows: dict[int, list[int]] = {}
        for at, entry in enumerate(self.entries):
            rows.setdefault(entry.term, []).append(at)
        for i, (term, w, part) in enumerate(
            zip(effects.terms, effects.standardizers, effects.per_term(theta), strict=True)
        ):
            basis = w @ term.covariance.basis(term.q)
            lam = np.tensordot(part, basis, axes=1)
            cov = lam @ lam.T
            slope = basis @ lam.T
            slope = slope + slope.transpose(0, 2, 1)
            here = rows[i]
            j, k = [self.entries[a].j for a in here], [self.entries[a].k for a in here]
            values[here] = sigma2 * cov[j, k]
            jacobian[here, effects.slices[i]] = sigma2 * slope[:, j, k].T
            if self.residual:
                jacobian[here, n] = cov[j, k]
        return values, jacobian

    def sdcor(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standard deviations and correlations of the components, and their derivatives by these.

        Parameters
        ----------
        values : ndarray, shape (c,)
            Variances and covariances, in the order of `entries`.

        Returns
        -------
        sdcor : ndarray, shape (c,)
            A correlation is NaN where a variance is zero.
        jacobian : ndarray, shape (c, c)
            NaN where it does not exist.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> from sm_multilevel.postestimation.components.component_map import ComponentMap
        >>> components = ComponentMap(res.model.effects, residual=True)
        >>> values = components(res.record.theta_standard, res.scale)[0]
        >>> components.sdcor(values)[0].round(2).tolist()
        [24.74, 5.92, 0.07, 25.59]
        """
        out, jacobian = np.empty(len(values)), np.zeros((len(values), len(values)))
        with np.errstate(divide="ignore", invalid="ignore"):
            for n, entry in enumerate(self.entries):
                if entry.is_variance:
                    out[n] = np.sqrt(max(values[n], 0.0))
                    jacobian[n, n] = 0.5 / out[n] if out[n] > 0 else np.nan
                    continue
                a, b = self.find(entry.term, entry.j, entry.j), self.find(entry.term, entry.k, entry.k)
                scale = np.sqrt(values[a] * values[b])
                out[n] = values[n] / scale
                jacobian[n, n] = 1.0 / scale
                jacobian[n, a] = -0.5 * out[n] / values[a]
                jacobian[n, b] = -0.5 * out[n] / values[b]
        return out, jacobian


@dataclass(frozen=True, eq=False)
class Components:
    """Estimates of the variance components and their joint covariance.

    Attributes
    ----------
    map : ComponentMap
    theta : ndarray
        In standardised columns.
    sigma2 : float
        1 where the model has no residual variance.
    values : ndarray, shape (c,)
    cov : ndarray, shape (c, c)
        Of the estimates; what is at its boundary is held there: rows of zeros.
    with_params : ndarray, shape (c, p)
        Their covariance with `params` (of REML and ML fits of the linear model zero).
    cov_params : ndarray, shape (p, p)
        Of `params`, as it belongs to `cov`; rows of zeros for what is held.
    at_zero : ndarray of bool, shape (c,)
        Variances estimated as zero, and covariances with them.
    at_one : ndarray of bool, shape (c,)
        Covariances whose correlation is estimated as +1 or -1.
    """

    map: ComponentMap
    theta: np.ndarray
    sigma2: float
    values: np.ndarray
    cov: np.ndarray
    with_params: np.ndarray
    cov_params: np.ndarray
    at_zero: np.ndarray
    at_one: np.ndarray

    @cached_property
    def se(self) -> np.ndarray:
        """Standard errors of variances and covariances; NaN at the boundary."""
        out = np.sqrt(np.maximum(np.diag(self.cov), 0.0))
        return np.where(self.at_zero, np.nan, out)

    @cached_property
    def sdcor(self) -> np.ndarray:
        """Standard deviations and correlations."""
        return self.map.sdcor(self.values)[0]

    @cached_property
    def sdcor_se(self) -> np.ndarray:
        """Their standard errors by the delta method; NaN at the boundary."""
        jacobian = self.map.sdcor(self.values)[1]
        out = np.full(len(self.values), np.nan)
        for n in np.flatnonzero(~(self.at_zero | self.at_one)):
            out[n] = np.sqrt(max(jacobian[n] @ self.cov @ jacobian[n], 0.0))
        return out


def joint_components(result: Any) -> Components:
    """Variance components of a fit and their joint covariance.

    Parameters
    ----------
    result : MultilevelResults

    Returns
    -------
    Components

    Raises
    ------
    ValueError
        If the data are gone.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.postestimation.components.component_map import joint_components
    >>> joint_components(res).cov.shape
    (4, 4)
    """
    model = result.model
    model.require_data("varcorr(conf_int=True)")
    linear = result.residual_variance is not None
    components = ComponentMap(model.effects, linear)
    with one_blas_thread():
        theta, sigma2, cov, flat = (_linear if linear else _generalised)(result, components)
    values, jacobian = components(theta, sigma2)
    zero = _at_zero(components, theta)
    values[zero], jacobian[zero] = 0.0, 0.0
    sdcor, _ = components.sdcor(np.where(zero, 1.0, values))
    one = np.array([not e.is_variance for e in components.entries], dtype=bool) & ~zero
    one &= 1.0 - np.minimum(sdcor * sdcor, 1.0) < _ONE
    head = len(cov) - jacobian.shape[1]
    with_params, joint = jacobian @ cov[head:, :head], jacobian @ cov[head:, head:] @ jacobian.T
    # Rotations of a singular Lambda change no component; what else has no information has no standard error.
    lost = (np.abs(jacobian @ flat) > 1e-3 * np.abs(values).max()).any(axis=1)
    with_params[lost] = np.nan
    joint[lost, :] = joint[:, lost] = np.nan
    return Components(components, theta, sigma2, values, joint, with_params, cov[:head, :head], zero, one)


def component_values(components: ComponentMap, terms, scale: float | None) -> np.ndarray:
    """The estimates in the order of a map's entries, from `term_covariances` and the residual variance."""
    values = [terms[e.term].cov[e.j, e.k] for e in components.entries if e.term >= 0]
    return np.array(values if scale is None else [*values, scale], dtype=float)


def _at_zero(components, theta):
    """Which entries are, or belong to, a variance of zero."""
    zero = np.zeros(len(components.entries), dtype=bool)
    effects = components.effects
    parts = effects.per_term(theta)
    for n, e in enumerate(components.entries):
        if e.term >= 0:
            lam = effects.terms[e.term].covariance.factor(parts[e.term], effects.terms[e.term].q)
            # The user's column, relative to what is a variance of one in its standardised place.
            rows = (effects.standardizers[e.term] @ lam)[[e.j, e.k]]
            size = np.linalg.norm(effects.standardizers[e.term][[e.j, e.k]], axis=1)
            zero[n] = bool((np.linalg.norm(rows, axis=1) < SINGULAR_TOLERANCE * size).any())
    return zero


def held_directions(components, theta):
    """Orthonormal basis of the directions of theta in which variances of zero stay zero."""
    effects = components.effects
    rows = []
    for i, (term, w, part) in enumerate(
        zip(effects.terms, effects.standardizers, effects.per_term(theta), strict=True)
    ):
        basis = w @ term.covariance.basis(term.q)
        lam = np.tensordot(part, basis, axes=1)
        for j in range(term.q):
            if np.linalg.norm(lam[j]) < SINGULAR_TOLERANCE * np.linalg.norm(w[j]):
                block = np.zeros((term.q, effects.n_params))
                block[:, effects.slices[i]] = basis[:, j, :].T / np.linalg.norm(w[j])
                rows.append(block)
    if not rows:
        return np.eye(effects.n_params)
    _, values, vectors = np.linalg.svd(np.vstack(rows), full_matrices=True)
    return vectors[int(np.sum(values > 1e-10)) :].T


def restricted_inverse(info, free):
    """free (free' info free)^+ free', and the directions without information, which are no part of it."""
    inside = free.T @ info @ free
    if not np.isfinite(inside).all():
        return np.full(info.shape, np.nan), free[:, :0]
    size = np.sqrt(np.abs(np.diag(inside)))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(inside / np.outer(size, size))
    if values.size and values[0] < -1e-6:  # no maximum of the likelihood
        return np.full(info.shape, np.nan), free[:, :0]
    keep = values > _FLAT
    moves = free @ (vectors / size[:, None])
    half = moves[:, keep] / np.sqrt(values[keep])
    return half @ half.T, moves[:, ~keep]


def _linear(result, components):
    """theta, sigma^2, the covariance of beta, theta and sigma^2, and directions of the last two without information."""
    objective = result.model.objective(result.reml)
    theta = result.record.theta_standard
    state = objective.standard_state(theta)
    pairs = level_pairs(Equations.of(state)) if pair_elements(state.data.zz.layout) <= _PAIRS else None
    hessian = theta_hessian(state, components.effects, theta, pairs, result.record.hessian)
    free = linalg.block_diag(held_directions(components, theta), np.ones((1, 1)))
    inverse, flat = restricted_inverse(0.5 * hessian, free)
    p, k, scale = len(np.asarray(result.params)), len(theta), np.ones(len(theta) + 1)
    scale[k] = 2.0 * result.scale  # d sigma^2 / d log sigma
    cov = np.zeros((p + k + 1, p + k + 1))
    cov[:p, :p] = np.nan_to_num(np.asarray(result.cov_params()))
    cov[p:, p:] = inverse * np.outer(scale, scale)
    return theta, float(result.scale), cov, scale[:, None] * flat


def _generalised(result, components):
    """theta, 1, the covariance of natural params and theta, and directions of theta without information.

    psi at zero is held.
    """
    z = result.z_standard
    space, head = result.model.space(), len(np.asarray(result.params))
    held = np.zeros(head, dtype=bool)
    held[result.model.k_fixed :] = space.psi_at_zero(z)
    free = linalg.block_diag(np.eye(head)[:, ~held], held_directions(components, z[head:]))
    info = 0.5 * result.record.hessian
    cov, flat = restricted_inverse(info, free)
    back = np.eye(len(z))
    back[:head, :head] = result.standard_jacobian
    return z[head:], 1.0, back @ cov @ back.T, flat[head:]
