"""Predicted random effects with their standard errors."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["by_group", "ranef", "group_coef", "random_effects", "random_effects_cov"]


def by_group(terms) -> dict[str, list[int]]:
    """Terms of each grouping factor, in formula order."""
    groups: dict[str, list[int]] = {}
    for i, term in enumerate(terms):
        groups.setdefault(term.name or term.group, []).append(i)
    return groups


def _frame(terms, members, values):
    first = terms[members[0]]
    return pd.DataFrame(
        np.hstack([values(terms[i]) for i in members]),
        index=pd.Index(first.levels, name=first.group),
        columns=[c for i in members for c in terms[i].columns],
    )


def ranef(terms, conditional_se=False, given_beta=False):
    """Predicted random effects, one frame a grouping factor.

    Parameters
    ----------
    terms : sequence of TermSolution
    conditional_se : bool
        Also give standard errors.
    given_beta : bool
        Standard errors as if the fixed effects were known (lme4's condVar), smaller than
        the default ones, which include their uncertainty.

    Returns
    -------
    DataFrame or dict of DataFrame, or a tuple of two such
    """

    def pack(values):
        frames = {g: _frame(terms, members, values) for g, members in by_group(terms).items()}
        return next(iter(frames.values())) if len(frames) == 1 else frames

    effects = pack(lambda t: t.effects)
    if not conditional_se:
        return effects

    def errors(term):
        cov = term.cov_given_beta if given_beta else term.cov_posterior
        return np.sqrt(np.maximum(np.einsum("mii->mi", cov), 0.0))

    return effects, pack(errors)


def group_coef(terms, params: pd.Series):
    """Coefficients of every level, fixed plus random (lme4's ``coef``).

    Returns
    -------
    DataFrame or dict of DataFrame
        A column a fixed effect, and one a random column that has no fixed effect.
    """
    effects = ranef(terms)
    frames = effects if isinstance(effects, dict) else {None: effects}
    out = {}
    for group, frame in frames.items():
        names = list(params.index) + [c for c in frame.columns if c not in params.index]
        base = pd.DataFrame(
            np.tile(params.reindex(names).fillna(0.0).to_numpy(), (len(frame), 1)),
            index=frame.index,
            columns=names,
        )
        for column in frame.columns:
            base[column] += frame[column]
        out[group] = base
    return out[None] if None in out else out


def random_effects(terms):
    """Predicted effects as statsmodels' MixedLM gives them: level -> Series."""
    frames = ranef(terms)
    if isinstance(frames, dict):
        return {g: {level: row for level, row in f.iterrows()} for g, f in frames.items()}
    return {level: row for level, row in frames.iterrows()}


def random_effects_cov(terms):
    """Covariance of the predicted effects given beta: level -> DataFrame."""

    def one(members):
        first = terms[members[0]]
        columns = [c for i in members for c in terms[i].columns]
        out = {}
        for k, level in enumerate(first.levels):
            # Terms of one factor are independent a priori; their blocks are given singly.
            block = np.zeros((len(columns), len(columns)))
            at = 0
            for i in members:
                cov = terms[i].cov_given_beta[k]
                block[at : at + len(cov), at : at + len(cov)] = cov
                at += len(cov)
            out[level] = pd.DataFrame(block, index=columns, columns=columns)
        return out

    groups = by_group(terms)
    if len(groups) == 1:
        return one(next(iter(groups.values())))
    return {g: one(members) for g, members in groups.items()}
