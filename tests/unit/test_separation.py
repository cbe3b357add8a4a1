"""Predictors without finite estimates are found and named; others are not accused."""

import warnings

import numpy as np
import pandas as pd
import pytest
from statsmodels.tools.sm_exceptions import ConvergenceWarning

import sm_multilevel.models.generalized as models
from sm_multilevel.estimation.separation import separating_columns


def frame(seed=0, n=400):
    rng = np.random.default_rng(seed)
    d = pd.DataFrame({"g": rng.integers(0, 25, n), "x": rng.normal(size=n), "w": rng.normal(size=n)})
    eta = 0.4 * d.x + 0.8 * rng.normal(size=25)[d.g]
    d["y"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    d["count"] = rng.poisson(np.exp(0.5 * eta))
    d["rating"] = np.digitize(eta + rng.logistic(size=n), [-1.0, 0.5, 2.0])
    d["rare"] = 0
    d.loc[rng.choice(n, 9, replace=False), "rare"] = 1
    return d


def fit(model, formula, data, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = model.from_formula(formula, data, **options).fit()
    return result, [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]


def check(result, messages, name):
    assert not result.converged
    assert result.separated == [name]
    assert any(name in m and "separate" in m for m in messages)
    assert np.isnan(result.bse[name])
    assert np.isnan(result.pvalues[name])
    others = [n for n in result.params.index if n != name]
    assert np.isfinite(result.params[others]).all()
    assert np.isfinite(result.bse[[n for n in others if result.params[n] != 0]]).all()  # but of an alpha of zero


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "loglog", "cauchy"])
def test_quasi_separation_of_a_rare_level(link):
    d = frame()
    d.loc[d.rare == 1, "y"] = 1
    result, messages = fit(models.MixedGLM, "y ~ x + w + rare + (1 | g)", d, family="binomial", link=link)
    check(result, messages, "rare")


def test_complete_separation():
    d = frame()
    d["y"] = (d.x > 0.3).astype(int)
    result, messages = fit(models.MixedGLM, "y ~ x + w + (1 | g)", d, family="binomial")
    assert not result.converged
    assert "x" in result.separated
    assert np.isnan(result.bse["x"])
    assert messages


def test_trials():
    d = frame()
    d["n"] = 5
    d["s"] = np.random.default_rng(1).binomial(5, 0.4, len(d))
    d.loc[d.rare == 1, "s"] = 0
    result, messages = fit(models.MixedGLM, "s ~ x + rare + (1 | g)", d, family="binomial", n_trials="n")
    check(result, messages, "rare")


@pytest.mark.parametrize("model", [models.MixedGLM, models.MENegBin])
def test_counts_that_are_all_zero_in_a_level(model):
    d = frame()
    d.loc[d.rare == 1, "count"] = 0
    options = {"family": "poisson"} if model is models.MixedGLM else {}
    result, messages = fit(model, "count ~ x + rare + (1 | g)", d, **options)
    check(result, messages, "rare")


@pytest.mark.parametrize("level", [0, 3])
def test_ordinal(level):
    d = frame()
    d.loc[d.rare == 1, "rating"] = level
    result, messages = fit(models.MEOLogit, "rating ~ x + rare + (1 | g)", d)
    check(result, messages, "rare")


@pytest.mark.parametrize("seed", range(5))
def test_no_separation_is_found_where_there_is_none(seed):
    d = frame(seed)
    d["big"] = 1e5 * d.x + 3e4
    for model, formula, options in (
        (models.MixedGLM, "y ~ big + w + rare + (1 | g)", {"family": "binomial"}),
        (models.MixedGLM, "count ~ big + rare + (1 | g)", {"family": "poisson"}),
        (models.MEOLogit, "rating ~ big + w + (1 | g)", {}),
    ):
        result, messages = fit(model, formula, d, **options)
        assert result.converged, messages
        assert result.separated == []
        assert np.isfinite(result.bse).all()


def test_a_group_with_one_outcome_only_separates_nothing():
    d = frame()
    d.loc[d.g == 3, "y"] = 1
    d.loc[d.g == 4, "y"] = 0
    result, _ = fit(models.MixedGLM, "y ~ x + (1 | g)", d, family="binomial")
    assert result.converged


def test_linear_programme():
    x = np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]])
    y = np.array([0, 1, 0, 1, 1, 1])
    ends = np.where(y == 1, 1.0, -1.0)
    assert separating_columns((x * ends[:, None], np.empty((0, 2))), ["a", "b"]) == ["b"]
    y[3] = 0
    ends = np.where(y == 1, 1.0, -1.0)
    assert separating_columns((x * ends[:, None], np.empty((0, 2))), ["a", "b"]) == []


def test_many_rows_are_looked_at_in_parts():
    """One row among 200,000 that contradicts the separation is enough."""
    rng = np.random.default_rng(2)
    n = 200_000
    x = np.column_stack([np.ones(n), rng.normal(size=(n, 3))])
    ends = np.where(x[:, 1] > 0.2, 1.0, -1.0)
    found = separating_columns((x * ends[:, None], np.empty((0, 4))), ["a", "b", "c", "d"])
    assert "b" in found
    ends[12_345] *= -1
    assert separating_columns((x * ends[:, None], np.empty((0, 4))), ["a", "b", "c", "d"]) == []


def test_the_others_have_the_standard_errors_of_the_rows_beside():
    """Rows of a level without failures tell nothing about the others but through the random effects."""
    d = frame()
    d.loc[d.rare == 1, "y"] = 1
    result, _ = fit(models.MixedGLM, "y ~ x + w + rare + (1 | g)", d, family="binomial")
    beside, _ = fit(models.MixedGLM, "y ~ x + w + (1 | g)", d[d.rare == 0], family="binomial")
    assert np.asarray(result.params)[:3] == pytest.approx(np.asarray(beside.params), rel=1e-3)
    assert np.asarray(result.bse)[:3] == pytest.approx(np.asarray(beside.bse), rel=1e-3)
