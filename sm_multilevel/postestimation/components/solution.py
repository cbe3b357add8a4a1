"""What a fit found for each random term, in the user's columns and units; row-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sm_multilevel.linalg.small import congruence

__all__ = ["ConditionalSolution", "TermCovariance", "TermSolution", "conditional_solution", "joint_cov"]
__all__ += ["term_covariances", "term_solutions"]


@dataclass(frozen=True, eq=False)
class TermCovariance:
    """Estimated covariance of one random term.

    Attributes
    ----------
    group, name : str
        Grouping factor, and how the user refers to the term.
    columns : tuple of str
    levels : Index
    cov : ndarray, shape (q, q)
        Covariance of the random effects, sigma^2 Lambda Lambda'.
    correlated : bool
        Whether covariances are parameters, or zero by structure.
    """

    group: str
    name: str
    columns: tuple[str, ...]
    levels: pd.Index
    cov: np.ndarray
    correlated: bool


@dataclass(frozen=True, eq=False)
class TermSolution(TermCovariance):
    """Estimates of one random term, its predicted effects included.

    Attributes
    ----------
    effects : ndarray, shape (m, q)
        Conditional modes (BLUPs).
    factor_cov : ndarray, shape (m, Q, Q)
        Covariance of the prediction error given beta, of all terms of the grouping factor.
    start : int
        Where this term's columns begin in it.
    cov_posterior : ndarray, shape (m, q, q)
        Covariance of the prediction error with the uncertainty of beta.
    owner : ndarray of int, shape (m,), or None
        Level of ``groups=`` in which each level lies, where there are variance components.
    """

    effects: np.ndarray
    factor_cov: np.ndarray
    start: int
    cov_posterior: np.ndarray
    owner: np.ndarray | None = None

    @property
    def cov_given_beta(self) -> np.ndarray:
        """Covariance of the prediction error given beta (lme4's condVar); shape (m, q, q)."""
        here = slice(self.start, self.start + len(self.columns))
        return self.factor_cov[:, here, here]


def term_covariances(effects, theta, scale) -> tuple[TermCovariance, ...]:
    """Covariances of all terms; unlike `term_solutions` without any work on the levels."""
    out = []
    for term, part in zip(effects.terms, effects.per_term(theta), strict=True):
        lam = term.covariance.factor(part, term.q)
        cov = scale * (lam @ lam.T)
        out.append(TermCovariance(term.group, term.name, term.columns, term.levels, cov, term.covariance.correlated))
    return tuple(out)


def term_solutions(effects, theta, state, outer=None) -> tuple[TermSolution, ...]:
    """Solutions of all terms.

    Parameters
    ----------
    effects : RandomEffects
    theta : ndarray
        In the user's columns.
    state : GaussianState
        The mixed-model equations solved at theta.
    outer : ndarray of int, shape (n,), optional
        Codes of ``groups=``, where there are variance components within them.
    """
    modes = state.effects()
    given = state.effects_cov()
    ux = state.whitened[1]
    posterior = []
    for w, lam, u, v in zip(state.data.maps, state.lams, ux, given, strict=True):
        if u.shape[2] == 0:
            posterior.append(v)
            continue
        spread = np.einsum("ij,jmc->imc", w @ lam, u)
        posterior.append(v + state.sigma2 * np.einsum("imc,jmc->ijm", spread, spread))
    given = [np.ascontiguousarray(v.transpose(2, 0, 1)) for v in given]
    out = []
    known = term_covariances(effects, theta, state.sigma2)
    for term, estimate, (f, start) in zip(effects.terms, known, effects.home, strict=True):
        here = slice(start, start + term.q)
        out.append(
            TermSolution(
                **vars(estimate),
                effects=np.ascontiguousarray(modes[f][here].T),
                factor_cov=given[f],
                start=start,
                cov_posterior=np.ascontiguousarray(posterior[f][here, here].transpose(2, 0, 1)),
                owner=None if outer is None else _owner(term, outer),
            )
        )
    return tuple(out)


def _owner(term, outer):
    owner = np.empty(term.n_levels, dtype=outer.dtype)
    owner[term.codes] = outer
    return owner


@dataclass(frozen=True, eq=False)
class _Scaling:
    map: np.ndarray


@dataclass(frozen=True, eq=False)
class _Columns:
    """How columns were standardised, under the names of `GaussianData`."""

    p: int
    scaling: _Scaling
    maps: list[np.ndarray]


@dataclass(frozen=True, eq=False)
class ConditionalSolution:
    """A generalised model's random effects given the data, under the names of `GaussianState`.

    At the mode the posterior is nearly that of a linear model for the working response; the
    covariance of beta, and of psi (thresholds are a kind of intercept), is the generalised model's own,
    and p counts them all. All covariances are of standardised columns, and sigma2 is 1.

    Attributes
    ----------
    u : list of ndarray, shape (q, m, p)
        -du / d(beta, psi): H^-1 Lambda'Z'DX, and for a response's own parameters -H^-1 Lambda'Z' ds/dpsi.
    modes : list of ndarray, shape (q, m)
    half_cov : ndarray, shape (p, p)
        A root of the covariance of beta and psi.
    chol_x : ndarray, shape (p, p)
        Cholesky factor of its inverse.
    """

    data: _Columns
    lams: list[np.ndarray]
    u: list[np.ndarray]
    modes: list[np.ndarray]
    chol: Any
    inverse: Any
    half_cov: np.ndarray
    chol_x: np.ndarray
    sigma2: float = 1.0

    @property
    def whitened(self):
        """The second of a pair, as `GaussianState` has it: u times a root of the covariance of beta."""
        return None, [u @ self.half_cov for u in self.u]

    def effects(self):
        """Conditional modes b of the user's columns, shape (q, m) a factor."""
        return [w @ lam @ u for w, lam, u in zip(self.data.maps, self.lams, self.modes, strict=True)]

    def effects_cov(self):
        """Covariance of b given y and beta, Lambda H^-1 Lambda'; (q, q, m)."""
        out = []
        for w, lam, s in zip(self.data.maps, self.lams, self.inverse.diag, strict=True):
            out.append(congruence((w @ lam).T, s, (w @ lam).T))
        return out


def conditional_solution(effects, mode, change, cov) -> ConditionalSolution:
    """The posterior of the random effects at the mode.

    Parameters
    ----------
    effects : RandomEffects
    mode : Mode
    change : ndarray, shape (p, p)
        How X was standardised.
    cov : ndarray, shape (p + r, p + r)
        Covariance of beta (in standardised columns) and psi (internal); zero where it is not known.
    """
    p, size = change.shape[0], cov.shape[0]
    values, vectors = np.linalg.eigh(cov) if size else (np.zeros(0), np.zeros((0, 0)))
    values = np.maximum(values, 1e-300)
    half = vectors * np.sqrt(values)
    low = np.asarray(np.linalg.qr((vectors / np.sqrt(values)).T, mode="r")).T if size else half
    u = mode.border_solved
    if size > p:
        by_psi = mode.rows.collect(mode.local.score_psi)
        right = [np.stack([lam.T @ v for v in part], axis=-1) for lam, part in zip(mode.lams, by_psi, strict=True)]
        u = [np.concatenate([a, -b], axis=2) for a, b in zip(u, mode.chol.solve(right), strict=True)]
    columns = np.hstack([change, np.zeros((p, size - p))])
    return ConditionalSolution(
        _Columns(size, _Scaling(columns), effects.factor_standardizers),
        mode.lams, u, mode.u, mode.chol, mode.inverse, half, low,
    )  # fmt: skip


def joint_cov(effects, state, members) -> np.ndarray:
    """Covariance, given beta, of the prediction errors of any random effects.

    Parameters
    ----------
    effects : RandomEffects
    state : GaussianState
    members : sequence of (int, int, int)
        Term, level and column of each effect.

    Returns
    -------
    ndarray, shape (k, k)
    """
    layout = effects.layout
    right = [np.zeros((q, m, len(members))) for q, m in zip(layout.q, layout.m, strict=True)]
    for k, (i, level, column) in enumerate(members):
        f, start = effects.home[i]
        right[f][:, level, k] = (state.data.maps[f] @ state.lams[f])[start + column]
    solved = state.chol.solve(right)
    out = sum(np.einsum("qmk,qml->kl", b, s) for b, s in zip(right, solved, strict=True))
    return state.sigma2 * out
