"""Clusters of rows that are independent of each other: no level of a factor is in two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sm_multilevel.grouping import factorize, lies_within
from sm_multilevel.wording import suggest

__all__ = ["Clusters", "coarsest", "find_clusters"]


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of the rows.

    Attributes
    ----------
    codes : ndarray of int, shape (n,)
        Cluster of each row of the fit.
    labels : Index
    name : str
    """

    codes: np.ndarray
    labels: pd.Index
    name: str

    @property
    def size(self) -> int:
        """Number of clusters."""
        return len(self.labels)


def find_clusters(model: Any, groups: Any = None) -> Clusters:
    """The clusters of a model: its top level, or what the user says.

    Parameters
    ----------
    model : MultilevelModel
    groups : str, array_like or Series, optional
        A grouping factor of the model, a column of its data, or a value for each row; a Series is
        aligned by its index. Default the coarsest grouping factor, in which all others are nested.

    Returns
    -------
    Clusters

    Raises
    ------
    ValueError
        If factors are crossed and `groups` is not given; if a level lies in two clusters; for missing
        values, another length, an unknown name, or a single cluster.
    """
    if groups is None:
        found = _top_level(model)
    elif isinstance(groups, str):
        found = _by_name(model, groups)
    else:
        values, name = _rows(model, groups)
        found = _from_values(values, name)
    _check_whole(model, found)
    if found.size < 2:
        raise ValueError(
            f"A robust covariance needs at least two clusters, and {found.name!r} has one. Use cov_type='nonrobust', "
            "or groups= with more levels."
        )
    return found


def _grouping_factors(model) -> list[Clusters]:
    """Rows by level of each grouping factor, ``groups=`` of variance components first."""
    out = []
    if model.design.outer is not None:
        codes, levels = model.design.outer
        given = model._settings.get("groups")
        out.append(Clusters(codes, levels, given if isinstance(given, str) else "groups"))
    for term in model.random:
        out.append(Clusters(term.codes, term.levels, term.group))
    return out


def _first_in_two(inner: Clusters, outer: Clusters) -> int | None:
    """A level of `inner` whose rows are in several of `outer`; None where there is none."""
    home = np.empty(inner.size, dtype=np.intp)
    home[inner.codes] = outer.codes
    split = np.flatnonzero(home[inner.codes] != outer.codes)
    return int(inner.codes[split[0]]) if split.size else None


def coarsest(model) -> Clusters | None:
    """The grouping factor in which all others are nested; None where factors are crossed."""
    factors = _grouping_factors(model)
    for outer in sorted(factors, key=lambda f: f.size):
        if all(lies_within(inner.codes, outer.codes) for inner in factors):
            return outer
    return None


def _top_level(model) -> Clusters:
    found = coarsest(model)
    if found is not None:
        return found
    names = ", ".join(dict.fromkeys(f.name for f in _grouping_factors(model)))
    raise ValueError(
        f"The grouping factors {names} are crossed: none of them has the others nested in it, so that the rows fall "
        "into no independent clusters of one factor. Robust covariance needs a coarser one that contains whole levels "
        "of all, given as cov_kwds={'groups': ...}; without it use cov_type='nonrobust' or bootstrap()."
    )


def _by_name(model, name: str) -> Clusters:
    factors = _grouping_factors(model)
    labels = [*(f.name for f in factors[: len(factors) - len(model.random)]), *model.group_names]
    for factor, label in zip(factors, labels, strict=True):
        if name in (factor.name, label):
            return factor
    frame = getattr(model.data, "frame", None)
    if frame is None or name not in frame.columns:
        known = dict.fromkeys([*labels, *(() if frame is None else map(str, frame.columns))])
        raise ValueError(
            f"cov_kwds: groups={name!r} is neither a grouping factor nor a column of the data.{suggest(name, known)} "
            f"The model's factors are {', '.join(dict.fromkeys(labels))}."
        )
    return _from_values(frame[name], name)


def _rows(model, groups):
    """The user's values in the order of the rows of the fit, and their name."""
    n, index = len(model.design.endog), model.design.index
    name = str(getattr(groups, "name", None) or "groups")
    if isinstance(groups, pd.DataFrame) or np.ndim(groups) > 1:
        if np.ndim(groups) != 2 or np.shape(groups)[1] != 1:
            raise ValueError(
                f"cov_kwds: groups has the shape {np.shape(groups)}; clustering in several ways at once is not "
                "available. Give one value for each row."
            )
        if isinstance(groups, pd.DataFrame):
            return _rows(model, groups.iloc[:, 0])
        groups = np.asarray(groups)[:, 0]
    if isinstance(groups, pd.Series) and index is not None and not groups.index.equals(index):
        twice = groups.index[groups.index.duplicated()].tolist()
        if twice:
            raise ValueError(
                f"cov_kwds: groups is a Series whose index has {twice[0]!r} twice, so it cannot be aligned with the "
                "data. Give the name of a column, or an array."
            )
        missing = index.difference(groups.index).tolist()
        if missing:
            raise ValueError(
                f"cov_kwds: groups is a Series without a value for the row {missing[0]!r} of the data (its index has "
                f"{len(groups)} labels). Give one with the data's index, or the name of a column."
            )
        groups = groups.loc[index]
    if np.ndim(groups) == 0:
        raise ValueError(f"cov_kwds: groups={groups!r} must be a name, or one value for each row.")
    if len(groups) != n:
        dropped = model.design.n_dropped
        hint = f" ({dropped} with missing values were left out)" if dropped else ""
        raise ValueError(
            f"cov_kwds: groups has {len(groups)} values, and the fit used {n} rows{hint}. Give one value for each of "
            "these, a Series with the data's index, or the name of a column."
        )
    return groups, name


def _from_values(values, name: str) -> Clusters:
    missing = np.asarray(pd.isna(values)).ravel()
    if missing.any():
        at = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"cov_kwds: groups={name!r} has {int(missing.sum())} missing values among the rows of the fit (the first "
            f"is row {at}). Every row belongs to a cluster: fill them in, or leave these rows out of the data."
        )
    if isinstance(values, pd.Series):
        plain = values.array if isinstance(values.dtype, pd.CategoricalDtype) else values.to_numpy()
    else:
        plain = values if isinstance(values, pd.Categorical) else np.asarray(values)
    codes, levels = factorize(plain, name)
    return Clusters(codes, levels, name)


def _check_whole(model, clusters: Clusters) -> None:
    for factor in _grouping_factors(model):
        level = _first_in_two(factor, clusters)
        if level is None:
            continue
        inside = clusters.labels[np.unique(clusters.codes[factor.codes == level])[:2]].tolist()
        raise ValueError(
            f"The clusters {clusters.name!r} are finer than the grouping factor {factor.name!r}, or crossed with it: "
            f"the rows of its level {factor.labels.tolist()[level]!r} are in the clusters {inside[0]!r} and "
            f"{inside[1]!r}, which are then not independent. Cluster at {factor.name!r} or a coarser level."
        )
