"""Whole groups drawn again or left out: what the cluster bootstrap and the jackknife fit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.tools.sm_exceptions import ConvergenceWarning, ValueWarning

from sm_multilevel.postestimation.resampling.linear_refits import LinearRefits, Refitted
from sm_multilevel.postestimation.resampling.refits import open_start
from sm_multilevel.postestimation.robust.clusters import coarsest

__all__ = ["TopLevel", "group_refits", "refit_to", "refitted", "top_level"]


@dataclass(frozen=True, eq=False)
class TopLevel:
    """The groups in which all random terms lie, independent of each other.

    Attributes
    ----------
    name : str
    codes : ndarray of int, shape (n,)
    size : int
    rows : tuple of ndarray of int
        Of each group.
    """

    name: str
    codes: np.ndarray
    size: int
    rows: tuple[np.ndarray, ...]


def top_level(model: Any, what: str) -> TopLevel:
    """The top level of a model: its coarsest groups, in which all others lie.

    Parameters
    ----------
    model : MultilevelModel
    what : str
        What needs it, for messages.

    Raises
    ------
    ValueError
        Where factors are crossed, so that there is none, or where it has a single group.
    """
    model.require_data(what)
    found = coarsest(model)
    if found is None:
        names = ", ".join(dict.fromkeys(term.group for term in model.random))
        raise ValueError(
            f"{what} needs groups in which all random terms lie, and those of this model ({names}) are crossed: no "
            "grouping factor has all others nested in it. Use the parametric bootstrap with percentile, basic or "
            "normal intervals."
        )
    if found.size < 2:
        raise ValueError(f"{what} needs at least two groups; {found.name!r} has one.")
    order = np.argsort(found.codes, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(found.codes, minlength=found.size))[:-1])
    return TopLevel(found.name, found.codes, found.size, tuple(rows))


def refit_to(result: Any, clusters: TopLevel, drawn: np.ndarray) -> Any:
    """The result's model fitted to some groups, each draw a group of its own.

    Parameters
    ----------
    result : MultilevelResults
    clusters : TopLevel
    drawn : ndarray of int
        Groups, repeated as often as they are drawn.

    Returns
    -------
    MultilevelResults

    Raises
    ------
    ValueError
        Where these groups allow no such fit.
    """
    model = result.model
    design = model.design
    rows = np.concatenate([clusters.rows[g] for g in drawn])
    number = np.repeat(np.arange(len(drawn)), [len(clusters.rows[g]) for g in drawn])

    def relabelled(codes):
        key = number * (int(codes.max()) + 1) + codes[rows]
        levels, new = np.unique(key, return_inverse=True)
        return new.astype(codes.dtype), pd.RangeIndex(len(levels))

    terms = []
    for term in design.terms:
        codes, levels = relabelled(term.codes)
        terms.append(replace(term, codes=codes, levels=levels, exog=term.exog[rows]))
    per_row = ("endog", "exog", "offset", "var_weights", "freq_weights", "n_trials", "exposure")
    taken = {name: None if (value := getattr(design, name)) is None else value[rows] for name in per_row}
    new = replace(
        design, terms=tuple(terms), index=None if design.index is None else pd.RangeIndex(len(rows)),
        outer=None if design.outer is None else relabelled(design.outer[0]), **taken,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", ValueWarning)
        other = model.with_design(new)
        if other.design.exog_names != design.exog_names:
            lost = [name for name in design.exog_names if name not in other.design.exog_names]
            raise ValueError(f"the groups drawn cannot tell {', '.join(lost)} from the other predictors")
        return other.fit(start_params=_start(result), **result.fit_options())


def _start(result):
    if result.residual_variance is None:
        return open_start(result)
    return LinearRefits.opened(result)


def refitted(fitted: Any) -> Refitted:
    """A result's estimates."""
    if not fitted.converged:
        return Refitted(fitted.record.reason)
    return Refitted("", fitted.llf, np.asarray(fitted.params), fitted.theta, fitted.scale, fitted.is_singular)


def group_refits(result: Any, clusters: TopLevel, draws: list[np.ndarray]) -> Iterator[Refitted]:
    """Fits to groups drawn again or left out, as `refit_to`; many at once where that is possible.

    A linear model needs the sums over each group once, and of each replicate how often every group
    is drawn.
    """

    def single(b: int) -> Refitted:
        try:
            return refitted(refit_to(result, clusters, draws[b]))
        except (ValueError, np.linalg.LinAlgError) as error:
            return Refitted(str(error))

    if result.residual_variance is not None:
        engine = LinearRefits(result)
        if engine.is_batched:
            home = np.empty(engine.units.size, dtype=np.intp)
            home[engine.units.codes] = clusters.codes
            counts = np.stack([np.bincount(drawn, minlength=clusters.size)[home] for drawn in draws])
            yield from engine.to_groups(counts.astype(float), single)
            return
    yield from map(single, range(len(draws)))
