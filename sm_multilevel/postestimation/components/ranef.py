"""Predicted random effects with their standard errors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sm_multilevel.postestimation.components.solution import joint_cov

__all__ = ["by_group", "group_coef", "random_effects", "random_effects_cov", "ranef"]


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
    return out.get(None, out)


def random_effects(terms, model):
    """Predicted effects as statsmodels' MixedLM gives them; see `MixedLMResults.random_effects`."""
    if model.outer_levels is not None:
        return {
            level: pd.Series([terms[i].effects[k, j] for i, k, j in members], index=names, name=level, dtype=float)
            for level, (names, members) in _members(terms, model).items()
        }
    frames = ranef(terms)
    if isinstance(frames, dict):
        return {group: dict(frame.iterrows()) for group, frame in frames.items()}
    return dict(frames.iterrows())


def random_effects_cov(terms, model, state):
    """Their covariance given beta; see `MixedLMResults.random_effects_cov`."""

    def one(members):
        first = terms[members[0]]
        columns = [c for i in members for c in terms[i].columns]
        where = [terms[i].start + j for i in members for j in range(len(terms[i].columns))]
        blocks = first.factor_cov[:, where][:, :, where]
        return {
            level: pd.DataFrame(block, index=columns, columns=columns)
            for level, block in zip(first.levels, blocks, strict=True)
        }

    if model.outer_levels is not None:
        model.require_data("random_effects_cov with variance components")
        return {
            level: pd.DataFrame(joint_cov(model.effects, state, members), index=names, columns=names)
            for level, (names, members) in _members(terms, model).items()
        }
    groups = by_group(terms)
    if len(groups) == 1:
        return one(next(iter(groups.values())))
    return {g: one(members) for g, members in groups.items()}


def _members(terms, model) -> dict:
    """Level of ``groups=`` -> names and (term, level, column) of its effects, in MixedLM's order.

    Variance components come last, sorted by name.
    """
    levels, component = model.outer_levels, model.is_component
    out: dict = {level: ([], []) for level in levels}
    order = sorted(range(len(terms)), key=lambda i: (component[i], terms[i].name if component[i] else ""))
    for i in order:
        term = terms[i]
        crossed = not term.levels.equals(levels)
        for k, owner in enumerate(term.owner):
            names, members = out[levels[owner]]
            for j, column in enumerate(term.columns):
                what = str(term.levels[k]).removesuffix(f":{levels[owner]}") if crossed else column
                names.append(f"{term.name}[{what}]" if component[i] else column)
                members.append((i, k, j))
    return out
