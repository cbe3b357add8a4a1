"""Codes and levels of grouping factors, on the data and on new data."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["cross", "factorize", "lies_within", "match_levels"]


def factorize(values, what: str = "the grouping factor") -> tuple[np.ndarray, pd.Index]:
    """Level number of each row, and the levels that occur, sorted.

    Integer codes are levels, never numbers; a Categorical keeps the order of its categories.

    Parameters
    ----------
    values : ndarray or Categorical, shape (n,)
        Without missing values.
    what : str
        What it is, for messages.

    Returns
    -------
    codes : ndarray of int, shape (n,)
    levels : Index

    Examples
    --------
    >>> from sm_multilevel.grouping import factorize
    >>> codes, levels = factorize(["b", "a", "b"])
    >>> codes.tolist(), levels.tolist()
    ([1, 0, 1], ['a', 'b'])
    """
    if isinstance(values, pd.Categorical):
        codes, levels = _compress(values.codes.astype(np.intp), len(values.categories))
        return codes, pd.Index(np.asarray(values.categories)[levels])
    values = _whole(np.asarray(values))
    if values.dtype.kind in "iu" and values.size:
        low, high = int(values.min()), int(values.max())
        if high - low <= 4 * values.size + 1024:  # no sort or hash needed
            codes, levels = _compress((values - low).astype(np.intp), high - low + 1)
            return codes, pd.Index(levels + low)
    try:
        codes, levels = pd.factorize(values, sort=True)
    except TypeError:  # values that cannot be ordered keep the order of the data
        try:
            codes, levels = pd.factorize(values)
        except TypeError as error:
            raise ValueError(f"{what} has values that cannot be levels: {error}. Use text or numbers.") from None
    if levels.dtype == object:  # numbers as objects are labelled as numbers
        levels = pd.Series(levels.tolist()).to_numpy()
    return codes.astype(np.intp, copy=False), pd.Index(levels)


def _whole(values):
    """Float values that are whole numbers as integers: what a missing value made of integer codes."""
    if values.dtype.kind == "f" and values.size and (np.abs(values) < 2**53).all():
        whole = values.astype(np.int64)
        if np.array_equal(whole, values):
            return whole
    return values


def _text(values):
    """Labels of levels, whole numbers without a decimal point."""
    return [
        str(int(v)) if isinstance(v, (float, np.floating)) and float(v).is_integer() else str(v)
        for v in np.asarray(values)
    ]


def _compress(codes, size):
    """Renumber codes below `size` so that only those that occur are left."""
    used = np.zeros(size, dtype=bool)
    used[codes] = True
    levels = np.flatnonzero(used)
    if levels.shape[0] == size:
        return codes, levels
    renumber = np.zeros(size, dtype=np.intp)
    renumber[levels] = np.arange(levels.shape[0])
    return renumber[codes], levels


def cross(parts: list, what: str = "the grouping factor") -> tuple[np.ndarray, pd.Index]:
    """Crossing of several factors; levels are labelled ``inner:outer`` as in lme4."""
    codes, levels = factorize(parts[0], what)
    if len(parts) == 1:
        return codes, levels
    labels = [levels]
    key = codes.astype(np.int64)
    for part in parts[1:]:
        other, names = factorize(part, what)
        key = key * len(names) + other
        labels.append(names)
        # Renumbering at every step keeps the product of level counts from overflowing.
    combined, unique = factorize(key)
    left = np.asarray(unique)
    columns = []
    for names in reversed(labels):
        left, here = np.divmod(left, len(names))
        columns.append(np.asarray(names)[here])
    text = [":".join(row) for row in zip(*map(_text, reversed(columns)), strict=True)]
    index = pd.Index(text)
    if not index.is_unique:
        raise ValueError(
            f"{what}: two levels of the crossing are both called {index[index.duplicated()][0]!r}, because labels "
            "contain colons. Replace the colons."
        )
    return combined, index


def match_levels(parts: list, levels: pd.Index) -> np.ndarray:
    """Level number of each row of new data, -1 for a level that is not known or missing."""
    if len(parts) == 1:
        values = parts[0]
        labels = np.asarray(values, dtype=object) if isinstance(values, pd.Categorical) else np.asarray(values)
    else:
        labels = np.array([":".join(row) for row in zip(*map(_text, parts), strict=True)], dtype=object)
    # Older pandas guess the type of objects.
    index = pd.Index(labels, dtype=object) if labels.dtype == object else pd.Index(labels)
    codes = np.asarray(levels.get_indexer(index), dtype=np.intp)
    if codes.size and (codes < 0).all() and np.isin(_text(labels), _text(levels)).any():
        new, old = (getattr(v, "item", lambda v=v: v)() for v in (labels[0], levels[0]))
        raise ValueError(
            f"The levels {new!r}, ... of the new data and {old!r}, ... of the fit are of different types. "
            "Convert one of them, for example with astype(str) or astype(int)."
        )
    return codes


def lies_within(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Whether the rows of every level of one factor are in a single level of another.

    Parameters
    ----------
    inner, outer : ndarray of int, shape (n,)
        Codes of the rows.
    """
    parent = np.empty(inner.max() + 1, dtype=outer.dtype)
    parent[inner] = outer
    return bool(np.array_equal(parent[inner], outer))
