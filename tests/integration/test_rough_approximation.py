"""Laplace's approximation, or too few points, where more would give other estimates: said with the fit."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from statsmodels.tools.sm_exceptions import ConvergenceWarning

import sm_multilevel.formula.api as smf
from sm_multilevel import datasets

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def children():
    """Every child crosses 24 mm about once: the likelihood grows with the variance, without end."""
    data = pd.read_csv(DATA / "orthodont.csv")
    return data.assign(long=(data["distance"] > 24).astype(int))


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (1, "Laplace's approximation is too rough.*9 points a column.*nAGQ='auto'"),
        (7, "7 quadrature points.*15 points"),
    ],
)
def test_a_variance_without_end(children, points, words):
    with pytest.warns(ConvergenceWarning, match=words):
        smf.melogit("long ~ age + (1 | Subject)", children).fit(nAGQ=points)


def test_no_number_of_points_is_enough(children):
    with pytest.warns(ConvergenceWarning, match="at 101 points a column, the most that are tried: the log-likelihood"):
        smf.melogit("long ~ age + (1 | Subject)", children).fit(nAGQ="auto")


@pytest.mark.parametrize("random", ["1", "time"])
def test_the_toenail_trial(random):
    visits = datasets.toenail.load_pandas().data
    visits = visits.assign(severe=(visits["outcome"] == "moderate or severe").astype(int))
    model = smf.melogit(f"severe ~ treatment * time + ({random} | patientID)", visits)
    with pytest.warns(ConvergenceWarning, match="Laplace's approximation is too rough"):
        model.fit()


def test_many_groups_of_few_rows():
    """The bias stays with the number of groups, and standard errors fall."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(4000), 3)
    data = pd.DataFrame({"g": g, "y": (rng.random(len(g)) < 1 / (1 + np.exp(-1.5 * rng.normal(size=4000)[g]))) * 1})
    model = smf.melogit("y ~ 1 + (1 | g)", data)
    with pytest.warns(ConvergenceWarning, match="too rough"):
        model.fit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(nAGQ="auto")


@pytest.mark.parametrize("points", [1, 7])
@pytest.mark.parametrize(
    ("function", "name", "formula", "options"),
    [
        (smf.melogit, "cbpp", "incidence ~ period + (1 | herd)", {"n_trials": "size"}),
        (smf.melogit, "contraception", "use ~ urban + age + livch + (urban | district)", {}),
        (smf.meologit, "wine", "rating ~ temp + contact + (1 | judge)", {}),
        (smf.mepoisson, "epil", "y ~ trt + lbase + (1 | subject)", {}),
        (smf.menbreg, "owls", "SiblingNegotiation ~ FoodTreatment + (1 | Nest)", {}),
        (smf.mepoisson, "mmmec", "deaths ~ uvb + (1 | nation/region)", {"exposure": "expected"}),
    ],
)
def test_silent_where_it_is_good(function, name, formula, options, points):
    data = getattr(datasets, name).load_pandas().data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(formula, data, **options).fit(nAGQ=points)
