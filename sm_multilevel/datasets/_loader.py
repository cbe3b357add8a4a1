"""How a bundled data set is read: one CSV beside one declarative module of the same name.

A data set module states its texts (``TITLE``, ``SOURCE``, ...) and
``load_pandas = load = loader(...)``; everything else happens here. The package
finds the modules by itself, so a new data set is one module and one CSV file.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from importlib import resources
from io import BytesIO
from typing import Any

import pandas as pd

from sm_multilevel.host import Dataset

_FOLDER = "sm_multilevel.datasets"


def _read(filename: str) -> pd.DataFrame:
    content = resources.files(_FOLDER).joinpath(filename).read_bytes()
    if filename.endswith(".gz"):
        content = gzip.decompress(content)
    return pd.read_csv(BytesIO(content))


def _label_order(label: Any) -> Any:
    """Integers by size, strings alphabetically whatever their case: R's order of levels."""
    return label.casefold() if isinstance(label, str) else label


def _as_factor(column: pd.Series, levels: list | None, ordered: bool) -> pd.Series:
    if levels is None:
        levels = sorted(column.unique().tolist(), key=_label_order)
    return column.astype(pd.CategoricalDtype(list(levels), ordered=ordered))


def loader(
    filename: str,
    *,
    endog: str,
    groups: Sequence[str],
    exog: Sequence[str] = (),
    factors: Sequence[str] | dict[str, list | None] = (),
    ordered: Sequence[str] = (),
) -> Callable[[], Dataset]:
    """
    Make the ``load_pandas`` function of a data set.

    Parameters
    ----------
    filename : str
        The CSV file in this folder, with ``.csv`` or ``.csv.gz``.
    endog : str
        The response that examples model.
    groups : sequence of str
        The grouping factors.
    exog : sequence of str
        The columns that examples use as fixed effects.
    factors : sequence or dict
        The columns to read as Categorical. A dict gives a column's levels in their order,
        None for the natural one (by size or alphabetical).
    ordered : sequence of str
        Those of the factors whose levels are ordered.

    Returns
    -------
    callable
        A function without arguments that reads the file and returns a ``Dataset``.
    """
    levels = dict(factors) if isinstance(factors, dict) else dict.fromkeys(factors)

    def load_pandas() -> Dataset:
        """
        Load the data.

        Returns
        -------
        Dataset
            statsmodels' dataset container: ``data`` is the whole DataFrame, ``names`` its
            columns, ``endog`` (``endog_name``) a response, ``exog`` (``exog_name``) predictors
            or None, ``groups`` (``groups_name``) the grouping factor or a frame of several.

        Notes
        -----
        What is a factor in R is a Categorical with R's levels in R's order; levels written
        as whole numbers are integers. Every call reads the file anew.
        """
        data = _read(filename)
        for name, order in levels.items():
            data[name] = _as_factor(data[name], order, name in ordered)
        return Dataset(
            data=data,
            names=list(data.columns),
            endog=data[endog].copy(),
            endog_name=endog,
            exog=data[list(exog)].copy() if exog else None,
            exog_name=list(exog),
            groups=data[groups[0] if len(groups) == 1 else list(groups)].copy(),
            groups_name=list(groups),
        )

    return load_pandas
