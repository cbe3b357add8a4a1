"""What users of Stata and statsmodels did in their first week: their words, their files, their column names."""

import copy
import pickle
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, epil, sleepstudy

SLEEP = sleepstudy.load_pandas().data
SEIZURES = epil.load_pandas().data
COWS = cbpp.load_pandas().data


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"intpoints": 7}, "nAGQ="),
        ({"vce": "robust"}, "cov_type='robust'"),
        ({"dfmethod": "kroger"}, "df='kenward-roger'"),
        ({"nagq": 7}, "nAGQ="),
        ({"REML": False}, "reml="),
        ({"level": 90}, "alpha="),
        ({"irr": True}, r"summary\(eform=True\)"),
        ({"iterate": 5}, "maxiter="),
        ({"groups": "Subject"}, "cov_kwds"),
        ({"freq_weights": 1}, "option of the model, given with the formula"),
        ({"weights": 1}, "var_weights= or freq_weights="),
    ],
)
def test_options_of_stata_are_told_in_ours(options, words):
    with pytest.raises(TypeError, match=words):
        smf.mixedlm("Reaction ~ Days + (1 | Subject)", SLEEP).fit(**options)


def test_reml_of_a_generalised_model():
    with pytest.raises(TypeError, match="fitted by maximum likelihood"):
        smf.mepoisson("y ~ trt + (1 | subject)", SEIZURES).fit(reml=False)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ i.trt + (1 | subject)", r"Stata's i\.trt write C\(trt\)"),
        ("y ~ ib2.trt + (1 | subject)", r"Stata's ib2\.trt write C\(trt\)"),
        ("y ~ c.lage + (1 | subject)", r"Stata's c\.lage write lage"),
        ("y ~ trt##lage + (1 | subject)", r"Stata notation. Write '\*'"),
        ("y ~ trt#lage + (1 | subject)", "Stata notation. Write ':'"),
    ],
)
def test_factor_variables_of_stata(formula, words):
    with pytest.raises(ValueError, match=words):
        smf.mepoisson(formula, SEIZURES)


@pytest.mark.parametrize("hypothesis", ["alpha = 0", {"alpha": 0}, [[0, 1, 0]]])
def test_a_predictor_called_alpha(hypothesis):
    """Hypotheses are about the predictor; the dispersion, of the same name, is not tested."""
    data = SEIZURES.assign(alpha=SEIZURES["lage"])
    expected = smf.menbreg("y ~ lage + (1 | subject)", data).fit()
    result = smf.menbreg("y ~ alpha + (1 | subject)", data).fit()
    assert list(result.params.index) == ["Intercept", "alpha", "alpha"]
    test = result.wald_test(np.array(hypothesis) if isinstance(hypothesis, list) else hypothesis, scalar=True)
    assert_allclose(test.statistic, expected.wald_test("lage = 0", scalar=True).statistic, rtol=1e-8)
    assert_allclose(
        result.wald_test_terms(scalar=True).summary_frame().loc["alpha", "chi2"], test.statistic, rtol=1e-10
    )
    if not isinstance(hypothesis, dict):
        shown = result.t_test(np.array(hypothesis) if isinstance(hypothesis, list) else hypothesis)
        assert_allclose(shown.sd.item(), expected.bse["lage"], rtol=1e-6)


@pytest.mark.parametrize("code", [".", ".a", "NA", "", " . ", "-"])
def test_numbers_as_text_with_a_missing_code_are_no_factor(code):
    text = SLEEP["Days"].map("{:.1f}".format)
    data = SLEEP.assign(Days=text.where(SLEEP.index != 3, code))
    with pytest.raises(ValueError, match=r"'Days' holds numbers as text.*pd\.to_numeric"):
        smf.mixedlm("Reaction ~ Days + (1 | Subject)", data)
    numbers = data.assign(Days=pd.to_numeric(data["Days"], errors="coerce"))
    assert smf.mixedlm("Reaction ~ Days + (1 | Subject)", numbers).fit().nobs == 179


@pytest.mark.parametrize("levels", [["1", "2", "3+"], ["a", "."], ["1", "2"], ["1.5", "2.5", "x"], ["NA"] * 2 + ["no"]])
def test_other_text_is_a_factor(levels):
    data = SLEEP.assign(k=[levels[i % len(levels)] for i in range(180)])
    k = len(set(levels))
    assert len(smf.mixedlm("Reaction ~ k + (1 | Subject)", data).fit().params) == k
    assert len(smf.mixedlm("Reaction ~ C(k) + (1 | Subject)", data).fit().params) == k


def test_stata_missing_values_on_the_command_line(tmp_path):
    text = SLEEP["Days"].astype(str)
    SLEEP.assign(Days=text.where(SLEEP.index != 3, ".")).to_csv(tmp_path / "dots.csv", index=False)
    run = subprocess.run(
        [sys.executable, "-m", "sm_multilevel", "dots.csv", "Reaction ~ Days + (1 | Subject)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.search(r"Rows dropped \(NaN\): +1\n", run.stdout)


@pytest.mark.parametrize("weights", [None, "n"])
def test_r_squared_holds_plain_numbers(weights):
    data = SLEEP.assign(n=1)
    result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", data, freq_weights=weights).fit()
    assert {type(v) for v in result.r_squared().values()} == {float}


def test_copies_keep_their_numbers():
    result = smf.melogit("incidence ~ period + (1 | herd)", COWS, n_trials="size").fit(nAGQ=5)
    for other in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert str(other.summary()) == str(result.summary())
        assert_allclose(other.predict(COWS), result.predict(COWS), rtol=1e-14)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("normal", "gaussian"), ("igaussian", "inverse_gaussian"), ("logit", "binomial")]
)
def test_families_of_stata(theirs, ours):
    with pytest.raises(ValueError, match=f"Write '{ours}'"):
        smf.meglm("y ~ trt + (1 | subject)", SEIZURES, family=theirs)
