"""Likelihood ratio tests do not depend on units; what they say of models that cannot be compared."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as sm_formula

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import epil, sleepstudy, wine
from sm_multilevel.postestimation.comparison.nesting import outside

DATA = Path(__file__).parents[1] / "data"


def orthodont(scale=1.0, shift=0.0):
    frame = pd.read_csv(DATA / "orthodont.csv")
    frame = frame.assign(x=(frame["age"] + shift) * scale)
    terms = ("(1 | Subject)", "(0 + x | Subject)", "(x || Subject)", "(x | Subject)")
    return frame, [smf.mixedlm(f"distance ~ x + {term}", frame).fit() for term in terms]


def numbers(test):
    return [test.chi2, test.df, test.p_value, test.boundary_corrected]


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units(scale):
    plain = orthodont()[1]
    moved_frame, moved = orthodont(scale)
    for small, large, method in [(2, 3, "asymptotic"), (0, 3, "asymptotic"), (1, 2, "asymptotic"), (1, 2, "exact")]:
        expected = smm.lrtest(plain[small], plain[large], method, n=2000, seed=1)
        got = smm.lrtest(moved[small], moved[large], method, n=2000, seed=1)
        assert numbers(got) == pytest.approx(numbers(expected), rel=1e-6)
    assert numbers(smm.lrtest(moved[2], moved[3]))[1:] == [1, pytest.approx(0.410313, abs=1e-5), False]
    table, expected = smm.anova(moved[0], moved[2], moved[3]), smm.anova(plain[0], plain[2], plain[3])
    np.testing.assert_allclose(table.to_numpy(), expected.to_numpy(), rtol=1e-6)
    assert table["p_value"].iloc[1:].notna().all()
    pair = [smf.mixedlm(f"distance ~ {x} + (0 + x | Subject)", moved_frame).fit(reml=False) for x in ("1", "x")]
    assert not smm.lrtest(*pair).boundary_corrected  # a test of fixed effects alone


@pytest.mark.parametrize("shift", [1e4, 1e6])
def test_shift(shift):
    plain, moved = orthodont()[1], orthodont(shift=shift)[1]
    got = numbers(smm.lrtest(moved[0], moved[3]))  # x without its covariance with the intercept is another model
    assert got == pytest.approx(numbers(smm.lrtest(plain[0], plain[3])), rel=1e-5)
    table, expected = smm.anova(moved[0], moved[3]), smm.anova(plain[0], plain[3])
    np.testing.assert_allclose(table.to_numpy(), expected.to_numpy(), rtol=1e-5)


def test_a_column_far_from_zero_is_no_constant():
    x = np.arange(8.0) + 1e8
    assert outside(np.ones((8, 1)), np.column_stack([x, np.full(8, 3.0)])) == [0]
    assert outside(np.column_stack([np.ones(8), x]), np.column_stack([2 * x - 1, 1e8 + np.sin(x)])) == [1]


def test_slope_far_from_zero_has_its_boundary():
    fits = orthodont(shift=1e6)[1]
    test = smm.lrtest(fits[0], fits[2])
    assert (test.df, test.boundary_corrected, test.distribution.weights) == (1, True, (0.5, 0.5))


def test_links_that_differ():
    frame = wine.load_pandas().data
    fits = [f("rating ~ temp + (1 | judge)", frame).fit() for f in (smf.meoprobit, smf.meologit)]
    with pytest.raises(ValueError, match=r"different links, .*\(probit\) and .*\(logit\)"):
        smm.lrtest(*fits)


def test_covariance_is_named():
    frame = sleepstudy.load_pandas().data
    formula = "Reaction ~ Days + (Days | Subject)"
    fits = [smf.mixedlm(formula, frame, covariance=c).fit() for c in ("identity", "diagonal", "unstructured")]
    test = smm.lrtest(*fits[:2])
    assert test.restricted == f"{formula!r}, covariance='identity'"
    assert test.full == f"{formula!r}, covariance='diagonal'"
    assert smm.lrtest(*fits[1:]).full == repr(formula)


def test_no_log_likelihood():
    frame = sleepstudy.load_pandas().data
    robust = sm_formula.rlm("Reaction ~ Days", frame).fit()
    full = smf.mixedlm("Reaction ~ Days + (1 | Subject)", frame).fit(reml=False)
    for compare in (smm.lrtest, smm.anova):
        with pytest.raises(ValueError, match="RLM, which has no log-likelihood"):
            compare(robust, full)


def test_regression_belongs_to_the_next_larger_model():
    frame = epil.load_pandas().data
    poisson = smf.mepoisson("y ~ trt + (1 | subject)", frame).fit()
    negbin = smf.menbreg("y ~ trt + (1 | subject)", frame).fit()
    glm = sm_formula.glm("y ~ trt", frame, family=sm.families.Poisson()).fit()
    table = smm.anova(glm, poisson, negbin)
    assert table["Df"].tolist()[1:] == [1, 1]
    for row, pair in ((1, (glm, poisson)), (2, (poisson, negbin))):
        test = smm.lrtest(*pair)
        assert test.distribution.weights == (0.5, 0.5)
        assert table["p_value"].iloc[row] == pytest.approx(test.p_value)
    smaller = smf.mepoisson("y ~ 1 + (1 | subject)", frame).fit()
    table = smm.anova(glm, smaller, poisson)  # neither of the first two contains the other
    assert np.isnan(table["p_value"].iloc[1])
    assert table["p_value"].iloc[2] == pytest.approx(smm.lrtest(smaller, poisson).p_value)


def test_anova_of_a_regression_after_a_mixed_model():
    frame = sleepstudy.load_pandas().data
    fits = [smf.mixedlm(f"Reaction ~ {x} + (1 | Subject)", frame).fit(reml=False) for x in ("1", "Days")]
    ols = sm_formula.ols("Reaction ~ Days", frame).fit()
    table = smm.anova(fits[0], ols, fits[1], names=["mean", "ols", "mixed"])
    assert table.index.tolist() == ["mean", "ols", "mixed"]
    assert np.isnan(table["p_value"].iloc[1])
    assert table["p_value"].iloc[2] == pytest.approx(smm.lrtest(ols, fits[1]).p_value)


@pytest.mark.parametrize(
    ("fixed", "term", "rows"),
    [  # lmerTest 3.1, ranova()
        ("Machine", "0 + Machine", {"Machine": (78.567, 5)}),
        ("1", "0 + Machine", {"Machine": (134.42453, 5)}),
        ("1", "0 + Machine + f", {"Machine": (137.843715, 7), "f": (3.426682, 4)}),
    ],
)
def test_ranova_of_a_factor_without_intercept(fixed, term, rows):
    frame = pd.read_csv(DATA / "machines.csv")
    frame = frame.assign(f=np.where(np.arange(len(frame)) % 2, "b", "a"), Worker=frame["Worker"].astype(str))
    table = smf.mixedlm(f"score ~ {fixed} + ({term} | Worker)", frame).fit().ranova()
    assert table.index.tolist() == ["<none>", *(f"{name} in ({term} | Worker)" for name in rows)]
    for (lrt, df), (_, line) in zip(rows.values(), list(table.iterrows())[1:], strict=True):
        assert line["LRT"] == pytest.approx(lrt, abs=5e-4)
        assert line["Df"] == df
