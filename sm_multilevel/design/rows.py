"""Rows that are complete, and the offset that their vectors add up to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sm_multilevel.design.frame import missing_mask
from sm_multilevel.design.response import log_exposure

__all__ = ["missing_rows", "refuse_incomplete", "total_offset"]


def missing_rows(columns: Iterable[tuple], n: int) -> tuple[np.ndarray, list[str]]:
    """Rows in which a value is missing, and the names of what lacks one.

    Parameters
    ----------
    columns : iterable of (str, ndarray or Categorical)
        Name, for messages, and values, one or several a row.
    n : int
        Rows.

    Returns
    -------
    gone : ndarray of bool, shape (n,)
    culprits : list of str

    Raises
    ------
    ValueError
        If one is missing everywhere.
    """
    gone = np.zeros(n, dtype=bool)
    culprits = []
    for name, values in columns:
        mask = missing_mask(values)
        if mask.all():
            start = name[0].upper() + name[1:] if " " in name else name
            raise ValueError(f"{start} is missing (NaN) in every row. Leave it out, or check how it was made.")
        if mask.any():
            gone |= mask
            culprits.append(name)
    return gone, culprits


def refuse_incomplete(keep: np.ndarray, culprits: list[str], drop: bool) -> None:
    """Raise where no row is complete, or some are not and may not be dropped."""
    listed = ", ".join(dict.fromkeys(culprits))
    if not keep.any():
        raise ValueError(
            f"No row is complete: every row has a missing value in {listed}. Fill them, or leave out what has most."
        )
    if not (drop or keep.all()):
        raise ValueError(
            f"{int((~keep).sum())} of {len(keep)} rows have missing values, in {listed}. Drop or fill them, or use "
            "missing='drop'."
        )


def total_offset(vectors: dict[str, np.ndarray], index) -> np.ndarray | None:
    """Sum of all offsets and of the logarithm of the exposure; None where there are none.

    Parameters
    ----------
    vectors : dict of ndarray, shape (n,)
        Options of the rows; names of offsets begin with "offset".
    index : Index
        Labels of the rows, for messages.
    """
    parts = [values for name, values in vectors.items() if name.startswith("offset")]
    if "exposure" in vectors:
        parts.append(log_exposure(vectors["exposure"], index))
    return np.sum(parts, axis=0) if parts else None
