"""What a fit found for each random term, in the user's columns and units; row-free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["TermSolution", "term_solutions"]


@dataclass(frozen=True, eq=False)
class TermSolution:
    """Estimates of one random term.

    Attributes
    ----------
    group, name : str
        Grouping factor, and how the user refers to the term.
    columns : tuple of str
    levels : Index
    cov : ndarray, shape (q, q)
        Covariance of the random effects, sigma^2 Lambda Lambda'.
    effects : ndarray, shape (m, q)
        Conditional modes (BLUPs).
    cov_given_beta, cov_posterior : ndarray, shape (m, q, q)
        Covariance of the prediction error given beta (lme4's condVar), and with the
        uncertainty of beta.
    """

    group: str
    name: str
    columns: tuple[str, ...]
    levels: pd.Index
    cov: np.ndarray
    effects: np.ndarray
    cov_given_beta: np.ndarray
    cov_posterior: np.ndarray


def term_solutions(effects, theta, state) -> tuple[TermSolution, ...]:
    """Solutions of all terms.

    Parameters
    ----------
    effects : RandomEffects
    theta : ndarray
        In the user's columns.
    state : GaussianState
        The mixed-model equations solved at theta.
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
    out = []
    for term, part, (f, start) in zip(
        effects.terms, effects.per_term(theta), effects.home, strict=True
    ):
        here = slice(start, start + term.q)
        lam = term.covariance.factor(part, term.q)
        out.append(
            TermSolution(
                term.group, term.name, term.columns, term.levels,
                state.sigma2 * (lam @ lam.T),
                np.ascontiguousarray(modes[f][here].T),
                np.ascontiguousarray(given[f][here, here].transpose(2, 0, 1)),
                np.ascontiguousarray(posterior[f][here, here].transpose(2, 0, 1)),
            )  # fmt: skip
        )
    return tuple(out)
