"""Checks of single columns: numbers, finite, positive where they are weights."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sm_multilevel.design.frame import RowSource, missing_mask

__all__ = ["NOT_REAL", "check_finite", "check_weights", "numeric", "row_vectors"]


# Kinds of arrays that NumPy would turn into floats without a word.
NOT_REAL = {"c": "complex numbers", "m": "time differences", "M": "dates"}


def numeric(values, what, response=False):
    """One column as floats, NaN where a value is missing; what is no real number is refused."""
    how = " Convert it with astype(float), or code it as 0/1." if response else " Convert it to numbers."
    if isinstance(values, pd.Categorical):
        levels = ", ".join(map(repr, values.categories[:3].tolist())) + ", ..." * (len(values.categories) > 3)
        raise ValueError(f"{what} is categorical (levels {levels}), not numeric.{how}")
    values = np.asarray(values)
    if values.ndim > 1:
        raise ValueError(f"{what} has {values.shape[1]} columns; one is needed.")
    if values.dtype.kind in NOT_REAL:
        raise ValueError(f"{what} holds {NOT_REAL[values.dtype.kind]}, not real numbers. Convert it first.")
    if values.dtype == object or values.dtype.kind not in "biuf":
        present = values[~missing_mask(values)]
        if all(isinstance(v, (bool, np.bool_)) for v in present) and present.size:
            pass
        elif present.size and any(isinstance(v, str) for v in present):
            example = next(v for v in present if isinstance(v, str))
            raise ValueError(f"{what} holds text ({str(example)!r}), not numbers.{how}")
        strange = next((v for v in present if isinstance(v, complex) or not hasattr(v, "__float__")), None)
        if strange is not None:
            raise ValueError(
                f"{what} holds a {type(strange).__name__} such as {strange!r}, not numbers. Convert it first."
            )
        out = np.full(values.shape, np.nan)
        out[~missing_mask(values)] = [float(v) for v in present]
        values = out
    values = values.astype(float, copy=False)
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise ValueError(f"{what} has infinite values (first in row {row}). Replace them, or leave these rows out.")
    return values


def row_vectors(source: RowSource, **options) -> dict[str, np.ndarray]:
    """Options that give one number a row, those that are given; each a column's name, a Series or an array."""
    return {name: numeric(source.vector(v, name), name) for name, v in options.items() if v is not None}


def check_finite(matrix, names, what):
    """Raise if a column of a design matrix has infinite values."""
    # A sum shows whether to look closer; column by column, which is fast for narrow matrices.
    bad = np.array([not np.isfinite(matrix[:, j].sum()) for j in range(matrix.shape[1])], bool)
    if bad.any():
        for j in np.flatnonzero(bad):
            if not np.isfinite(matrix[:, j]).all():
                row = int(np.flatnonzero(~np.isfinite(matrix[:, j]))[0])
                raise ValueError(
                    f"{what}: the column {names[j]!r} has infinite or missing values (first in row "
                    f"{row}); perhaps a logarithm of zero."
                )


def check_weights(values, what, integer=False):
    """Raise unless weights are positive (and whole numbers where they count rows)."""
    if values is None:
        return
    bad = ~(values > 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{what} must be positive, but row {row} has {values[row]:g}"
            f" ({int(bad.sum())} of {len(values)} rows are not). Leave these rows out with subset=."
        )
    if integer and not np.array_equal(values, np.round(values)):
        row = int(np.flatnonzero(values != np.round(values))[0])
        raise ValueError(
            f"{what} count rows, so they must be whole numbers, but row {row} has {values[row]:g}. "
            "Precision weights go into var_weights."
        )
