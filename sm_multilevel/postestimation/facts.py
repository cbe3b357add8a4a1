"""What a summary says that needs the rows: taken once, so that it outlives the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sm_multilevel.postestimation.no_random import NoRandomTest, test_no_random

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
    r_squared : dict
        As `MixedLMResults.r_squared` gives it.
    icc : dict
        As `MixedLMResults.icc` gives it.
    no_random : NoRandomTest
    slopes : bool
        Whether any random column varies from row to row.
    term_parameters : tuple of int
        Number of covariance parameters of each random term.
    n_dropped : int
        Rows left out because of missing values.
    weights : tuple of (str, str)
        Kind and column (empty: an array) of weights and offset.
    """

    groups: tuple[GroupFacts, ...]
    r_squared: dict[str, float]
    icc: dict[str, float]
    no_random: NoRandomTest
    slopes: bool
    term_parameters: tuple[int, ...]
    n_dropped: int
    weights: tuple[tuple[str, str], ...]


def facts(result: Any) -> Facts:
    """Facts of a fit.

    Parameters
    ----------
    result : MixedLMResults

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
    icc = result.icc()
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
        r_squared=result.r_squared(),
        icc=icc,
        no_random=test_no_random(result),
        slopes=any(_varies(column) for term in model.random for column in term.exog.T),
        term_parameters=tuple(term.n_params for term in model.random),
        n_dropped=model.design.n_dropped if model.design is not None else 0,
        weights=tuple(_weights(model)),
    )


def _varies(column: np.ndarray) -> bool:
    return bool(column[0] != column[-1] or np.any(column != column[0]))


def _weights(model: Any) -> Iterator[tuple[str, str]]:
    for kind in ("var_weights", "freq_weights", "offset"):
        if getattr(model, kind) is not None:
            given = model._settings.get(kind)
            yield kind, given if isinstance(given, str) else ""
