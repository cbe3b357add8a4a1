"""The reference fits of R, read for the tests: see README.md."""

import functools
import json
from pathlib import Path

import pandas as pd

from sm_multilevel import datasets

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@functools.cache
def _content():
    return json.loads((HERE / "lmm.json").read_text())


def fits():
    """All fits in the order of the cases, REML before ML."""
    return _content()["fits"]


def fit_id(fit):
    """Name of a fit, for pytest's ids."""
    return f"{fit['id']}-{'reml' if fit['reml'] else 'ml'}"


@functools.cache
def _frame(name):
    entry = _content()["data"][name]
    if "loader" in entry:
        return getattr(datasets, entry["loader"]).load_pandas().data
    data = pd.read_csv(ROOT / entry["file"])
    for column, levels in entry.get("factors", {}).items():
        data[column] = pd.Categorical(data[column], levels or sorted(data[column].unique()))
    return data


def frame(name):
    """Return a copy of the data that the fits call ``name``."""
    return _frame(name).copy()
