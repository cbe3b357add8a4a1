"""What a fit found for each random term, in the user's columns and units; row-free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["TermCovariance", "TermSolution", "joint_cov", "term_covariances", "term_solutions"]


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
