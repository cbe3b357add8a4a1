"""R's fits of generalised models, read for the tests: see README.md."""

import functools
import json
from pathlib import Path

import pandas as pd

from sm_multilevel import datasets
from sm_multilevel.models.generalized import MENegBin, MEOLogit, MixedGLM

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@functools.cache
def _content():
    return json.loads((HERE / "glmm.json").read_text())


def fits():
    """All fits in the order of the cases."""
    return _content()["fits"]


def fit_id(fit):
    """Name of a fit, for pytest's ids."""
    return f"{fit['id']}-{fit['engine']}-{fit['nAGQ']}"


@functools.cache
def _frame(name):
    entry = _content()["data"][name]
    if "loader" in entry:
        data = getattr(datasets, entry["loader"]).load_pandas().data.copy()
    else:
        data = pd.read_csv(ROOT / entry["file"])
    for column, levels in entry.get("factors", {}).items():
        values = data[column]
        if isinstance(values.dtype, pd.CategoricalDtype):
            continue
        data[column] = pd.Categorical(values, levels or sorted(values.unique()))
    return data


def frame(fit):
    """The data of a fit, with the columns that its case computes."""
    import numpy as np

    data = _frame(fit["data"]).copy()
    columns = {**_content()["data"][fit["data"]].get("columns", {}), **fit.get("columns", {})}
    for name, expression in columns.items():
        names = {c: data[c].astype(object) if data[c].dtype == "category" else data[c] for c in data}
        data[name] = 1.0 * eval(expression, {"log": np.log}, names)  # written by us in glmm_cases.json
    return data


def model(fit):
    """The same model in this package."""
    data = frame(fit)
    if fit.get("rows"):  # as "comm <= 80", of a factor whose levels are numbers
        column, _, limit = fit["rows"].partition(" <= ")
        data = data[data[column].astype(int) <= int(limit)]
    options = {"offset": fit["offset"]} if fit.get("offset") else {}
    if fit.get("weights"):
        options["freq_weights"] = fit["weights"]
    formula, family = fit["formula"], fit["family"]
    if family == "ordinal":
        response = formula.split("~")[0].strip()
        data[response] = pd.Categorical(data[response].astype(object), ordered=True)
        levels = _content()["data"][fit["data"]].get("factors", {}).get(response)
        if levels:
            data[response] = data[response].cat.set_categories(levels, ordered=True)
        return MEOLogit.from_formula(formula, data, distr=fit["link"], **options)
    if family in ("nb2", "nb1"):
        return MENegBin.from_formula(formula, data, loglike_method=family, **options)
    if fit.get("trials"):
        options["n_trials"] = fit["trials"]
    return MixedGLM.from_formula(formula, data, family=family, link=fit["link"], **options)


@functools.cache
def _brute():
    return json.loads((HERE / "brute.json").read_text())["fits"]


def brute_fits():
    """The brute-force fits, in the same form."""
    return _brute()
