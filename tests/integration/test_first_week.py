"""What a user of R runs into in the first week: short integers, dots in names, R's words, contrasts in interactions."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from statsmodels.tools.sm_exceptions import ValueWarning

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import epil, sleepstudy

SHORT = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64", "float16"]


@pytest.fixture(scope="module")
def sleep():
    return sleepstudy.load_pandas().data


# -- numbers of few bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("fixed", ["I(x**2)", "x + I(x - 20)", "x + I(x*x)", "log(x)", "I(x**2):x"])
def test_arithmetic_of_short_numbers_does_not_wrap_around(sleep, dtype, fixed):
    """Stata files hold int8 and int16, whose squares wrap around and whose logarithms are float16."""
    long = sleep.assign(x=12.0 * sleep["Days"] + 1)
    short = long.assign(x=long["x"].astype(dtype))
    formula = f"Reaction ~ {fixed} + (1 | Subject)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ValueWarning)  # x - 20 is x again
        expected, found = (smf.mixedlm(formula, d).fit() for d in (long, short))
    assert found.llf == pytest.approx(expected.llf, abs=1e-8)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-8)
    # new data of another type than those of the fit
    np.testing.assert_allclose(expected.predict(short), expected.fittedvalues, rtol=1e-8)


@pytest.mark.parametrize("dtype", ["int8", "uint16"])
def test_arithmetic_of_short_numbers_left_of_the_bar(sleep, dtype):
    long = sleep.assign(x=12.0 * sleep["Days"])
    formula = "Reaction ~ 1 + (0 + I(x**2) | Subject)"
    found = smf.mixedlm(formula, long.assign(x=long["x"].astype(dtype))).fit()
    assert found.llf == pytest.approx(smf.mixedlm(formula, long).fit().llf, abs=1e-8)


@pytest.mark.parametrize("given", ["column", "array", "offset"])
def test_exposure_of_short_numbers(given):
    data = epil.load_pandas().data
    data = data.assign(time=np.resize([20, 21, 33], len(data)).astype("int8"))
    long = data["time"].astype(float)
    expected = smf.mepoisson("y ~ trt + (1 | subject)", data, exposure=long.to_numpy()).fit()
    if given == "offset":
        found = smf.mepoisson("y ~ trt + offset(log(time)) + (1 | subject)", data).fit()
    else:
        found = smf.mepoisson(
            "y ~ trt + (1 | subject)", data, exposure="time" if given == "column" else data["time"].to_numpy()
        ).fit()
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-6)


def test_square_of_large_whole_numbers(sleep):
    """In dollars or nanoseconds; the square of 1e10 has no room in 64 bits."""
    large = sleep.assign(x=(1 + sleep["Days"]).astype("int64") * 10**10)
    formula = "Reaction ~ I(x**2) + (1 | Subject)"
    found, expected = (smf.mixedlm(formula, d).fit() for d in (large, large.assign(x=large["x"].astype(float))))
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-8)
    np.testing.assert_allclose(expected.predict(large), expected.fittedvalues, rtol=1e-8)


def test_large_whole_numbers_stay_labels(sleep):
    ids = 12345678900 + sleep["Subject"].astype(str).astype("int64")
    found = smf.mixedlm("Reaction ~ Days + (Days | id)", sleep.assign(id=ids)).fit()
    assert found.llf == pytest.approx(smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit().llf)
    assert set(found.ranef().index) == set(ids)
    assert str(found.ranef().index[0]).isdigit()


# -- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "write"),
    [
        ("Reaction ~ test.day + (1 | Subject)", "Q('test.day')"),
        ("Reaction ~ log(test.day + 1) + (1 | Subject)", "Q('test.day')"),
        ("Reaction ~ Days:test.day + (1 | Subject)", "Q('test.day')"),
        ("Reaction ~ 1 + (test.day | Subject)", "Q('test.day')"),
        ("Reaction ~ Days.new + (1 | Subject)", "Q('Days.new')"),  # where Days is a column, too
        ("log(Reaction.ms) ~ Days + (1 | Subject)", "Q('Reaction.ms')"),
        ("log(time.ms) ~ Days + (1 | Subject)", "Q('time.ms')"),
        ("Reaction ~ l\N{MICRO SIGN} + (1 | Subject)", "Q('l\N{MICRO SIGN}')"),
        ("Reaction ~ lambda + (1 | Subject)", "Q('lambda')"),
        ("Reaction ~ test day + (1 | Subject)", "Q('test day')"),
        ("Reaction ~ sin(2 * pi * Days) + (1 | Subject)", "np.pi"),
        ("Reaction ~ cut(Days, 3) + (1 | Subject)", "pd.cut"),
        ("Reaction ~ pmin(Days, 3) + (1 | Subject)", "np.minimum"),
        ("Reaction ~ C(Days, contr.sum) + (1 | Subject)", "C(x, Sum)"),
        ("Reaction ~ log(Days + 1, 2) + (1 | Subject)", "'log(Days + 1) / log(base)'"),
    ],
)
def test_message_says_what_to_write(sleep, formula, write):
    data = sleep.assign(**{"test.day": sleep["Days"], "Days.new": sleep["Days"] ** 2})
    data = data.assign(**{"Reaction.ms": sleep["Reaction"], "time.ms": sleep["Reaction"], "lambda": data["Days.new"]})
    data = data.assign(**{"l\N{MICRO SIGN}": sleep["Days"], "test day": data["Days.new"]})
    with pytest.raises(ValueError, match=re.escape(write)):
        smf.mixedlm(formula, data)
    if write.startswith("Q("):  # what the message says works
        name = write[3:-2]
        smf.mixedlm(formula.replace(name, write), data)


def test_column_in_the_index(sleep):
    with pytest.raises(ValueError, match=r"reset_index\(\)"):
        smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep.set_index(["Subject", "Days"]))


# -- options of other packages ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("REML", r"fit\(reml=False\)"),
        ("control", "nothing to set"),
        ("contrasts", r"C\(x, Sum\)"),
        ("na_action", "missing='raise'"),
        ("random", r"\(1 \| g\)"),
        ("correlation", "not available"),
        ("family", "meglm"),
        ("weights", "var_weights"),
    ],
)
def test_option_of_another_package(sleep, option, words):
    with pytest.raises(TypeError, match=words):
        smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep, **{option: None})


def test_options_of_fit_and_update(sleep):
    model = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep)
    counts = smf.mepoisson("y ~ trt + (1 | subject)", epil.load_pandas().data)
    for call in (lambda: model.fit(REML=False), lambda: counts.fit(reml=True)):
        with pytest.raises(TypeError, match="linear models have it, written reml="):
            call()
    for call in (lambda: model.fit(nAGQ=7), lambda: counts.fit(nagq=7)):
        with pytest.raises(TypeError, match="generalised models have it, written nAGQ="):
            call()
    result = model.fit()
    with pytest.raises(TypeError, match=r"result\.model\.fit\(reml=False\)"):
        result.update(reml=False)
    with pytest.raises(TypeError, match="data="):
        result.update(subset=sleep["Days"] > 1)


@pytest.mark.parametrize(("name", "write"), [("nbinom2", "negbin"), ("nbinom1", "nb1"), ("quasipoisson", "nb1")])
def test_family_of_another_package(name, write):
    with pytest.raises(ValueError, match=f"Write '{write}'"):
        smf.meglm("y ~ trt + (1 | subject)", epil.load_pandas().data, family=name)


def test_update_to_other_data_alone(sleep):
    result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit()
    later = sleep[sleep["Days"] > 1]
    expected = smf.mixedlm("Reaction ~ Days + (1 | Subject)", later).fit()
    pd.testing.assert_series_equal(result.update(data=later).params, expected.params)


# -- comparisons of levels in models with interactions -------------------------------------------------


@pytest.fixture(scope="module")
def looms():
    """warpbreaks of R's datasets (Tippett 1950), with a loom for each ninth row added."""
    breaks = """26 30 54 25 70 52 51 26 67 18 21 29 17 12 18 35 30 36 36 21 24 18 10 43 28 15 26
        27 14 29 19 29 31 41 20 44 42 26 19 16 39 28 21 39 29 20 21 24 17 13 15 15 16 28"""
    return pd.DataFrame(
        {
            "breaks": [int(x) for x in breaks.split()],
            "wool": np.repeat(["A", "B"], 27),
            "tension": np.tile(np.repeat(["L", "M", "H"], 9), 2),
            "loom": np.tile(np.arange(1, 10), 6),
            "width": np.linspace(1, 3, 54),
        }
    )


# emmeans 1.8.4-1 of glmer(breaks ~ wool * tension + (1 | loom), family = poisson): pairs(emmeans(m, ~ tension))
EMMEANS = {"L-H": (0.5016134, 0.0648786), "M-H": (0.2020206, 0.0687248), "M-L": (-0.2995928, 0.0610117)}


@pytest.mark.parametrize("other", ["C(wool, Sum)", "C(wool, Helmert)"])
def test_pairs_averaged_over_another_factor_are_those_of_emmeans(looms, other):
    result = smf.mepoisson(f"breaks ~ {other} * tension + (1 | loom)", looms).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = result.t_test_pairwise("tension").result_frame
    for pair, (estimate, error) in EMMEANS.items():
        assert frame.loc[pair, "coef"] == pytest.approx(estimate, abs=2e-5)
        assert frame.loc[pair, "std err"] == pytest.approx(error, rel=2e-3)


@pytest.mark.parametrize(
    ("fixed", "held"),
    [
        ("wool * tension", "wool = 'A'"),
        ("tension + tension:wool", "wool = 'A'"),
        ("C(wool, Treatment('B')) * tension", r"= 'B'"),
        ("tension * width + wool", "width = 0"),
        ("tension * wool * width", "width = 0, wool = 'A'"),
    ],
)
def test_pairs_at_a_reference_level_say_so(looms, fixed, held):
    result = smf.mepoisson(f"breaks ~ {fixed} + (1 | loom)", looms).fit()
    with pytest.warns(ValueWarning, match=held):
        result.t_test_pairwise("tension")


@pytest.mark.parametrize("fixed", ["tension + wool", "tension * center(width)", "tension * scale(width)"])
def test_pairs_without_a_reference_level_are_silent(looms, fixed):
    result = smf.mepoisson(f"breaks ~ {fixed} + (1 | loom)", looms).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result.t_test_pairwise("tension")


# -- arithmetic that is none in a formula ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "write"),
    [
        ("Reaction ~ Days + Days**2 + (1 | Subject)", "I(x**2)"),  # patsy takes it for Days, and says nothing
        ("Reaction ~ Days + log(Days + 1) ** 2 + (1 | Subject)", "I(x**2)"),
        ("Reaction ~ Days + (Days**2 | Subject)", "I(x**2)"),
        ("Reaction**2 ~ Days + (1 | Subject)", "I(x**2)"),
        ("Reaction / 10 ~ Days + (1 | Subject)", "I(Reaction / 10)"),
        ("Reaction ~ Days / 10 + (1 | Subject)", "I(x / 10)"),
        ("Reaction ~ Days + (Days / 10 | Subject)", "I(x / 10)"),
        ("Reaction ~ 2 * Days + (1 | Subject)", "I(x / 10)"),
    ],
)
def test_arithmetic_outside_of_a_call(sleep, formula, write):
    with pytest.raises(ValueError, match=re.escape(write)):
        smf.mixedlm(formula, sleep)


def test_powers_that_have_a_meaning(sleep):
    data = sleep.assign(x=np.arange(180) % 7)
    crossed = smf.mixedlm("Reaction ~ (Days + x)**2 + (1 | Subject)", data).fit()
    assert list(crossed.params.index) == ["Intercept", "Days", "x", "Days:x"]
    squared = smf.mixedlm("Reaction ~ np.power(Days**2, 1) + I(Days**3) + (1 | Subject)", data).fit()
    assert len(squared.params) == 3


def test_new_data_with_another_type_of_factor(sleep):
    data = sleep.assign(late=np.where(sleep["Days"] > 4, "yes", "no"))
    result = smf.mixedlm("Reaction ~ late + (1 | Subject)", data).fit()
    with pytest.raises(ValueError, match=r"late.*boolean in the new data"):
        result.predict(data.head(2).assign(late=[True, True]))


def test_new_data_of_a_model_with_a_variable_outside_of_the_data(sleep):
    z = np.sqrt(sleep["Days"].to_numpy())
    result = smf.mixedlm("Reaction ~ z + (1 | Subject)", sleep).fit()
    assert len(z) == 180
    with pytest.raises(ValueError, match="180 rows, and the new data have 3"):
        result.predict(sleep.head(3))


# -- a variance that is zero -----------------------------------------------------------------------------


def test_tests_of_a_zero_variance_agree_on_one(sleep):
    """P(X >= 0) is one for a mixture with chi2(0), whatever rounding leaves of a ratio of zero."""
    halves = sleep.assign(half=np.where(np.arange(len(sleep)) % 2, "a", "b"))
    halves = halves.assign(Reaction=halves["Reaction"] - 5 * np.where(halves["half"] == "a", 1, -1))
    full = smf.mixedlm("Reaction ~ Days + (1 | Subject) + (1 | Subject:half)", halves).fit()
    assert full.varcorr()["vcov"][0] == 0
    for scale in (1.0, 3.7, 1e3):  # rounding differs
        full, small = (
            smf.mixedlm(f, halves.assign(Reaction=scale * halves["Reaction"])).fit()
            for f in ("Reaction ~ Days + (1 | Subject) + (1 | Subject:half)", "Reaction ~ Days + (1 | Subject)")
        )
        assert smm.lrtest(small, full).p_value == 1
        assert smm.anova(small, full)["p_value"].iloc[-1] == 1
        assert full.ranova().loc["(1 | Subject:half)", "p_value"] == 1


def test_level_of_intervals_is_alpha(sleep):
    result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit()
    with pytest.raises(TypeError, match="alpha="):
        result.conf_int(level=0.9)
