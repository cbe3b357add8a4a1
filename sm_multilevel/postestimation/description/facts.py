"""What a summary says that needs the rows: taken once, so that it outlives the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sm_multilevel.postestimation.comparison.no_random import NoRandomTest, test_no_random
from sm_multilevel.postestimation.description.intervals import ComponentTable, component_table

__all__ = ["Facts", "GroupFacts", "facts"]


@dataclass(frozen=True)
class GroupFacts:
    """A grouping factor at a glance.

    Attributes
    ----------
    name : str
    levels : int
    smallest, largest : float
        Rows of the smallest and of the largest level, frequency weights counted.
    mean : float
    icc : float or None
        Intraclass correlation; None where the factor has no random intercept.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> group = res.facts.groups[0]
    >>> group.name, group.levels, group.mean, round(group.icc, 3)
    ('Subject', 18, 10.0, 0.483)
    """

    name: str
    levels: int
    smallest: float
    mean: float
    largest: float
    icc: float | None


@dataclass(frozen=True)
class Facts:
    """A fit at a glance; nothing in it is as long as the data.

    Attributes
    ----------
    groups : tuple of GroupFacts
        One for each grouping factor, most levels first.
    r_squared, icc : dict
        As the result's methods of these names give them; empty where they do not exist.
    no_random : NoRandomTest
    slopes : bool
        Whether any random column varies from row to row.
    term_parameters : tuple of int
        Number of covariance parameters of each random term.
    n_dropped : int
        Rows left out because of missing values.
    weights : tuple of (str, str)
        Kind and column (empty: an array) of weights, exposure and offset.
    components : ComponentTable
    n_trials : float or None
        Binomial trials in all, frequency weights counted; None where each row is one.
    outcome : str or None
        The label whose probability is modelled, where the response came as two labels.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> [group.levels for group in res.facts.groups]
    [18]
    """

    groups: tuple[GroupFacts, ...]
    r_squared: dict[str, float]
    icc: dict[str, float]
    no_random: NoRandomTest
    slopes: bool
    term_parameters: tuple[int, ...]
    n_dropped: int
    weights: tuple[tuple[str, str], ...]
    components: ComponentTable
    n_trials: float | None = None
    outcome: str | None = None


def facts(result: Any) -> Facts:
    """Facts of a fit.

    Parameters
    ----------
    result : MultilevelResults

    Raises
    ------
    ValueError
        If the data are gone.
    """
    model = result.model
    if model.random is None:
        raise ValueError(
            "The model's data were removed, by remove_data() of another result of the same model. Call "
            "summary() of this one first."
        )
    icc = _or_nothing(result.icc)
    groups = []
    for factor in model.effects.factors:
        terms = [model.random[i] for i in factor.terms]
        # Terms that share their codes share their correlation.
        shared = [icc[name] for name in (t.name or t.group for t in terms) if name in icc]
        sizes = np.bincount(terms[0].codes, weights=model.freq_weights, minlength=factor.m)
        groups.append(
            GroupFacts(
                name=terms[0].group,
                levels=factor.m,
                smallest=float(sizes.min()),
                mean=float(sizes.mean()),
                largest=float(sizes.max()),
                icc=shared[0] if shared else None,
            )
        )
    return Facts(
        groups=tuple(sorted(groups, key=lambda g: -g.levels)),
        r_squared=_or_nothing(result.r_squared),
        icc=icc,
        no_random=test_no_random(result),
        slopes=any(_varies(column) for term in model.random for column in term.exog.T),
        term_parameters=tuple(term.n_params for term in model.random),
        n_dropped=model.design.n_dropped if model.design is not None else 0,
        weights=tuple(_weights(model)),
        components=component_table(result),
        n_trials=_trials(model.design, model.freq_weights),
        outcome=_outcome(result.family, model.design.categories),
    )


def _or_nothing(method: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Not every link has a residual variance, nor every null model a maximum."""
    try:
        return method()
    except ValueError:
        return {}


def _varies(column: np.ndarray) -> bool:
    return bool(column[0] != column[-1] or np.any(column != column[0]))


def _trials(design: Any, freq_weights: np.ndarray | None) -> float | None:
    if design.n_trials is None:
        return None
    return float(np.sum(design.n_trials if freq_weights is None else design.n_trials * freq_weights))


def _outcome(family: Any, categories: tuple | None) -> str | None:
    if family is None or not family.has_trials or categories is None:
        return None
    return repr(categories[1])


def _weights(model: Any) -> Iterator[tuple[str, str]]:
    for kind in ("var_weights", "freq_weights"):
        if getattr(model, kind) is not None:
            yield kind, _name(model._settings.get(kind))
    design = model.design
    offset = design.offset
    if design.exposure is not None:
        yield "exposure", _name(model._settings.get("exposure"))
        offset = offset - np.log(design.exposure)
    if offset is not None and np.any(offset):
        parts = [] if design.recipe is None else [part.code for part in design.recipe.offsets]
        if model._settings.get("offset") is not None:
            parts.append(_name(model._settings["offset"]))
        yield "offset", parts[0] if len(parts) == 1 else " + ".join(part or "array" for part in parts)


def _name(given: Any) -> str:
    return given if isinstance(given, str) else ""
