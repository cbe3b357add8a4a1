"""Predictors far from zero in interactions: columns that are nearly collinear lose nothing."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import contraception, epil, sleepstudy, wine


def _sleep():
    data = sleepstudy.load_pandas().data
    return data.assign(t=data["Days"].astype(float), b=np.sin(data["Subject"].astype("category").cat.codes))


def _women():
    data = contraception.load_pandas().data
    return data.assign(t=data["age"], b=(data["urban"] == "Y").astype(float))


def _seizures():
    data = epil.load_pandas().data
    return data.assign(t=data["lage"], b=(data["trt"] == "progabide").astype(float))


def _bottles():
    data = wine.load_pandas().data
    rng = np.random.default_rng(3)
    return data.assign(t=rng.normal(size=len(data)), b=(data["temp"] == "warm").astype(float))


CASES = {
    "REML": (smf.mixedlm, "Reaction ~ t * b + (1 | Subject)", _sleep, {}),
    "ML": (smf.mixedlm, "Reaction ~ t * b + (1 | Subject)", _sleep, {"reml": False}),
    "logit": (smf.melogit, "use ~ t * b + (1 | district)", _women, {}),
    "Poisson": (smf.mepoisson, "y ~ t * b + (1 | subject)", _seizures, {"nAGQ": 5}),
    "negative binomial": (smf.menbreg, "y ~ t * b + (1 | subject)", _seizures, {}),
    "ordinal": (smf.meologit, "rating ~ t * b + (1 | judge)", _bottles, {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shift", [1e4, 1e6])
def test_a_shift_of_an_interacting_predictor_changes_what_it_must(case, shift):
    function, formula, data, options = CASES[case]
    frame = data()
    plain = function(formula, frame).fit(**options)
    moved = function(formula, frame.assign(t=frame["t"] + shift)).fit(**options)
    assert plain.converged
    assert moved.converged
    if case == "REML":  # the columns of X count in the restricted likelihood, but their span's volume is the same
        assert moved.llf == pytest.approx(plain.llf, abs=1e-6)
    else:
        assert moved.llf == pytest.approx(plain.llf, abs=1e-7)
    # The data hold shift + t to 1e-16 of the shift: that much of t is lost before the fit begins.
    tolerance = 1e-6 + 1e-14 * shift
    for name in ("t", "t:b"):
        assert_allclose(moved.bse[name], plain.bse[name], rtol=tolerance)
    assert_allclose(moved.params["t:b"], plain.params["t:b"], rtol=10 * tolerance)
    assert_allclose(moved.params["t"], plain.params["t"], rtol=10 * tolerance)
    # At the old origin the effect of b has the old standard error: a combination of two that cancel.
    at = np.zeros(len(moved.params))
    names = list(moved.params.index)
    at[names.index("b")], at[names.index("t:b")] = 1.0, shift
    assert_allclose(moved.t_test(at).sd.item(), plain.bse["b"], rtol=max(1e-5, 1e-12 * shift))


def test_powers_of_a_year():
    frame = _sleep().assign(year=lambda d: 1995.0 + d["t"])
    raw = smf.mixedlm("Reaction ~ year + I(year**2) + (1 | Subject)", frame).fit()
    plain = smf.mixedlm("Reaction ~ t + I(t**2) + (1 | Subject)", frame).fit()
    assert raw.converged
    assert_allclose(raw.fittedvalues, plain.fittedvalues, rtol=1e-6)
    assert_allclose(raw.bse.iloc[-1], plain.bse.iloc[-1], rtol=1e-5)
