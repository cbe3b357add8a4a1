"""The null distribution of a likelihood ratio where variances or alpha may be zero.

At the restricted fit, the covariance G of the full model's terms may change by any H of its structure with N'HN
positive semidefinite, N a basis of the null space of G: the tangent cone (Self and Liang 1987, J. Am. Stat. Assoc.
82, 605-610; Stram and Lee 1994, Biometrics 50, 1171-1177). The ratio is then that of a normal vector projected onto
this cone, in the metric of the information. Directions with N'HN = 0 are free and add whole degrees of freedom; of
the others only the covariance of N'HN, given everything else that is estimated, matters. With V = Z G Z' + W^-1 in
units of sigma^2, the expected information of G, with sigma^2 profiled out, is

    1/2 [tr(V^-1 V_i V^-1 V_j) - tr(V^-1 V_i) tr(V^-1 V_j) / n],   V_i = Z (I kron H_i) Z',

under REML with P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1 for V^-1 and n - p for n. In generalised models W are the
expected information of the rows at the modes of the restricted fit: the normal approximation by the working response.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sm_multilevel.linalg.cholesky import BlockCholesky
from sm_multilevel.objectives.gaussian import GaussianState
from sm_multilevel.objectives.modes import find_mode
from sm_multilevel.postestimation.comparison.chibar import ChiBarSquare, chi_bar_square, svec_basis
from sm_multilevel.postestimation.comparison.nesting import Nesting
from sm_multilevel.postestimation.comparison.regression import Regression
from sm_multilevel.postestimation.components.second_order import Equations, direction_traces, level_pairs, pair_elements

__all__ = ["NoNullError", "asymptotic", "cone_of", "null_space"]

_NULL = 1e-9  # eigenvalues of G, in standardised columns, that are zero
_EXACT = 2**22  # numbers of Z'V^-1 Z up to which traces are exact
_PROBES = 64  # and random vectors from which they are estimated beyond: the error falls with the columns, too


class NoNullError(ValueError):
    """The null distribution is not known."""


def asymptotic(nesting: Nesting, restricted: Any, n: int, seed) -> ChiBarSquare:
    """Large-sample distribution of the likelihood ratio under the restricted model.

    Parameters
    ----------
    nesting : Nesting
    restricted : MultilevelResults or Regression
        Not singular.
    n : int
        Draws, where weights are simulated.
    seed : int or None

    Returns
    -------
    ChiBarSquare

    Raises
    ------
    NoNullError
        If it is not known.
    """
    sizes, cone = cone_of(nesting)
    d = sum(k * (k + 1) // 2 for k in sizes)
    if nesting.psi:
        if d or nesting.psi > 1:
            raise NoNullError("The restricted model has both alpha and variances at zero.")
        sizes, d = [1], 1
    shift = nesting.df - d
    if d < 2:
        return chi_bar_square(None, sizes, shift)
    try:
        cov = cone @ np.linalg.inv(component_information(nesting, restricted)) @ cone.T
        np.linalg.cholesky(cov)
    except (ArithmeticError, np.linalg.LinAlgError):
        raise NoNullError("The information on the added components is singular.") from None
    return chi_bar_square(cov, sizes, shift, n, seed)


def cone_of(nesting: Nesting) -> tuple[list[int], np.ndarray]:
    """Orders of the matrices that must be positive semidefinite, and the map from directions to their elements.

    Returns
    -------
    sizes : list of int
    cone : ndarray, shape (d, directions)

    Raises
    ------
    NoNullError
        For a structure whose boundary is neither that of all matrices nor that of some variances.
    """
    effects = nesting.full.model.effects
    rays: list[np.ndarray] = []
    blocks: list[tuple[int, np.ndarray]] = []
    for term, (f, start) in zip(effects.terms, effects.home, strict=True):
        part = slice(start, start + term.q)
        null = null_space(nesting.null[f][part, part])
        k = null.shape[1]
        if not k:
            continue
        # N'HN of each direction; those of other terms do not move this one's covariance.
        compressed = np.stack(
            [null.T @ g[part, part] @ null if home == f else np.zeros((k, k)) for home, g in nesting.directions]
        )
        coordinates = np.tensordot(svec_basis(k), compressed, axes=([1, 2], [1, 2]))
        rank = np.linalg.matrix_rank(coordinates, tol=1e-9)
        if rank == k * (k + 1) // 2:
            (rays.append(coordinates[0]) if k == 1 else blocks.append((k, coordinates)))
            continue
        found = _common_eigenvalues(compressed)
        if found is None or len(found) != rank:
            raise NoNullError(f"The boundary of a covariance of the structure {term.covariance!r} has another shape.")
        rays += found
    sizes = [1] * len(rays) + [k for k, _ in blocks]
    parts = [np.atleast_2d(r) for r in rays] + [c for _, c in blocks]
    return sizes, np.vstack(parts) if parts else np.zeros((0, len(nesting.directions)))


def null_space(g: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the null space of a covariance in standardised columns; shape (q, k).

    A small eigenvalue counts only if it is small among correlations, too: where columns were far from zero and not
    centred, a variance that is not zero moves their deviations little.
    """
    if len(g) == 1:
        return np.eye(1)[:, g[0] < _NULL]
    sd = np.sqrt(np.maximum(np.diag(g), 0.0))
    sd = np.where(sd * sd > 1e-13 * max(1.0, sd.max() ** 2), sd, 1.0)
    values, vectors = np.linalg.eigh(g / np.outer(sd, sd))
    k = int(min((values < _NULL).sum(), (np.linalg.eigvalsh(g) < _NULL).sum()))
    return np.linalg.qr(vectors[:, :k] / sd[:, None])[0]


def _common_eigenvalues(matrices: np.ndarray) -> list[np.ndarray] | None:
    """Distinct eigenvalues, as functions of the coefficients, of combinations of commuting matrices."""
    mixed = np.tensordot(np.sqrt(1.0 + np.arange(len(matrices))), matrices, axes=1)
    values, vectors = np.linalg.eigh(mixed)
    turned = vectors.T @ matrices @ vectors
    diagonal = np.einsum("nii->ni", turned)
    if np.abs(turned - diagonal[:, :, None] * np.eye(len(values))).max() > 1e-9:
        return None
    starts = np.flatnonzero(np.concatenate([[True], np.diff(values) > 1e-9]))
    return [diagonal[:, s:e].mean(axis=1) for s, e in zip(starts, [*starts[1:], len(values)], strict=True)]


# -- information -----------------------------------------------------------------------------------------


def component_information(nesting: Nesting, restricted: Any) -> np.ndarray:
    """Expected information on the coefficients of the directions; shape (directions, directions)."""
    result, lams = nesting.full, [_root(g) for g in nesting.null]
    if result.family is None:
        state = GaussianState(result.model.objective(result.reml).deviance, lams)
        border = state.whitened[0] if result.reml else None
        traces, pairs = _traces(Equations.of(state), border, nesting.directions)
        return 0.5 * (pairs - np.outer(traces, traces) / state.deviance.df)
    model, bound, space = result.model, result.model.bound(), result.model.space()
    if isinstance(restricted, Regression):
        beta, psi = restricted.beta, restricted.psi
    else:
        p = restricted.model.k_fixed
        params = np.asarray(restricted.params)
        x = restricted.model.design.exog
        beta = np.linalg.lstsq(model.design.exog, x @ params[:p], rcond=None)[0] if x.shape[1] else np.zeros(space.p)
        if params[p:].shape[0] < space.n_psi:  # what the full model adds is zero
            params = np.concatenate([params, np.zeros(space.n_psi - len(params[p:]))])
        beta, psi = space.head_from_user(beta, params[p:])
    mode = find_mode(bound.rows, bound.response, beta, psi, lams)
    zz = bound.rows.gram(mode.local.expected_info)
    equations = Equations(zz, BlockCholesky(zz.congruence(lams)), lams)
    traces, pairs = _traces(equations, None, nesting.directions)
    if model.family.dispersion(model.family.natural(psi)) != 1.0:  # G is in units of it, as of sigma^2
        pairs = pairs - np.outer(traces, traces) / bound.response.nobs
    return 0.5 * pairs


def _root(g):
    values, vectors = np.linalg.eigh(g)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _traces(equations: Equations, border, directions) -> tuple[np.ndarray, np.ndarray]:
    """tr(Q H_i) and tr(Q H_i Q H_j) with Q = Z'V^-1 Z; less EE' for a border E, shape (q, m, p) a factor."""
    if pair_elements(equations.zz.layout) > _EXACT:
        return _estimated_traces(equations, border, directions)
    traces, pairs = direction_traces(directions, level_pairs(equations))
    if border is None:
        return traces, pairs
    # tr((Q - EE')H_i (Q - EE')H_j) = tr(Q H_i Q H_j) - 2 tr(E'H_i Q H_j E) + tr(E'H_i E E'H_j E)
    inner = np.array([np.einsum("amp,ab,bmr->pr", border[f], g, border[f]) for f, g in directions])
    for j, (f, g) in enumerate(directions):
        moved = equations.q_times(_along(border, f, g))
        outer = [np.einsum("amp,ab,bmp->", border[home], h, moved[home]) for home, h in directions]
        pairs[:, j] += np.einsum("ipr,rp->i", inner, inner[j]) - 2.0 * np.array(outer)
    return traces - np.einsum("ipp->i", inner), 0.5 * (pairs + pairs.T)


def _along(values, f, g):
    """(I kron g) applied to the part of factor f; zero for others."""
    out = [np.zeros_like(x) for x in values]
    out[f] = np.einsum("ij,jmc->imc", g, values[f])
    return out


def _estimated_traces(equations: Equations, border, directions) -> tuple[np.ndarray, np.ndarray]:
    """The same from random signs (Hutchinson 1990, Commun. Stat. Simul. Comput. 19, 433-450)."""
    rng = np.random.default_rng(0)
    first = [rng.choice([-1.0, 1.0], (*d.shape[1:], _PROBES)) / np.sqrt(_PROBES) for d in equations.zz.diag]

    def product(x):
        moved = equations.q_times(x)
        if border is not None:
            inner = sum(np.einsum("qmp,qmc->pc", e, v) for e, v in zip(border, x, strict=True))
            moved = [a - np.einsum("qmp,pc->qmc", e, inner) for a, e in zip(moved, border, strict=True)]
        return moved

    left = product(first)
    k = len(directions)
    traces, pairs = np.empty(k), np.empty((k, k))
    turned = [np.einsum("ij,jmc->imc", g, left[f]) for f, g in directions]
    for j, (f, g) in enumerate(directions):
        traces[j] = np.sum(turned[j] * first[f])
        moved = product(_along(first, f, g))
        for i, (home, _) in enumerate(directions):
            pairs[i, j] = np.sum(turned[i] * moved[home])
    return traces, 0.5 * (pairs + pairs.T)
