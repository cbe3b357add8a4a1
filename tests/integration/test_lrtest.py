"""Likelihood ratio tests: R's and published figures, invariances, crossed, singular, weighted and ordinal fits,
and bad inputs."""

import importlib
import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as sm_formula
from scipy import stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel import sp
from sm_multilevel.datasets import cbpp, contraception, epil, pastes, penicillin, sleepstudy, wine

ROOT = Path(__file__).parents[2]
REFERENCE = json.loads((ROOT / "tests/reference/inference_lrt.json").read_text())
CASES = {case["id"]: case for case in REFERENCE["fits"]}


def of_kind(*kinds):
    return [name for name, case in CASES.items() if case["kind"] in kinds]


def frame_of(case):
    entry = REFERENCE["data"][case["data"]]
    if "loader" in entry:
        return importlib.import_module(f"sm_multilevel.datasets.{entry['loader']}").load_pandas().data
    frame = pd.read_csv(ROOT / entry["file"])
    for name in entry.get("factors", {}):
        frame[name] = frame[name].astype(str)
    return frame


def fit(frame, formula, case):
    if "|" not in formula:
        return sm_formula.ols(formula, frame).fit()
    if "family" in case:
        return smf.melogit(formula, frame, n_trials=case["trials"]).fit()
    return smf.mixedlm(formula, frame).fit(reml=case["reml"])


@pytest.fixture(scope="module")
def sleep():
    return sleepstudy.load_pandas().data


@pytest.fixture(scope="module")
def one(sleep):
    return smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit(reml=False)


@pytest.fixture(scope="module")
def two(sleep):
    return smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit(reml=False)


@pytest.fixture(scope="module")
def ols(sleep):
    return sm_formula.ols("Reaction ~ Days", sleep).fit()


# -- R -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of_kind("anova"))
def test_anova_is_lme4s(name):
    case = CASES[name]
    frame = frame_of(case)
    models = [fit(frame, case[key], case) for key in ("formula", "null")]
    table = smm.anova(*models, refit=False)
    tight = 1e-7 if "family" in case else 1e-9
    assert table["logLik"].to_numpy() == pytest.approx([case["llf_null"], case["llf"]], abs=tight)
    assert table["npar"].tolist() == case["npar"]
    assert table["AIC"].to_numpy() == pytest.approx(case["aic"], abs=2 * tight)
    assert table["BIC"].to_numpy() == pytest.approx(case["bic"], abs=2 * tight)
    assert table["Chisq"].iloc[1] == pytest.approx(case["chi2"], abs=2 * tight)
    assert table["Df"].iloc[1] == case["df"]
    assert table["Pr(>Chisq)"].iloc[1] == pytest.approx(case["p"], rel=1e-6)
    assert table.iloc[0, 5:].isna().all()
    test = smm.lrtest(*models)
    assert (test.chi2, test.df) == pytest.approx((table["Chisq"].iloc[1], table["Df"].iloc[1]))
    assert test.p_value == pytest.approx(table["p_value"].iloc[1])
    assert test.p_value <= case["p"] * (1 + 1e-6)


@pytest.mark.parametrize("name", of_kind("ranova"))
def test_ranova_is_lmertests(name):
    case = CASES[name]
    result = fit(frame_of(case), case["formula"], case)
    table = result.ranova(reduce_terms=case["reduce_terms"])
    rows = case["rows"]
    assert table.index.tolist() == [row["row"] for row in rows]
    assert table["npar"].tolist() == [row["npar"] for row in rows]
    assert table["logLik"].to_numpy() == pytest.approx([row["llf_tight"] for row in rows], abs=1e-8)
    for row, (_, line) in zip(rows[1:], list(table.iterrows())[1:], strict=True):
        assert line["LRT"] == pytest.approx(max(row["lrt"], 0), abs=1e-6)
        assert line["Df"] == row["df"]
        assert line["Pr(>Chisq)"] == pytest.approx(row["p"], rel=1e-4, abs=1e-6)
        if np.isfinite(line["p_value"]) and line["LRT"] > 1e-6:
            assert line["p_value"] < line["Pr(>Chisq)"]


@pytest.mark.parametrize("name", of_kind("rlrt", "lrt"))
def test_exact_is_rlrsims(name):
    case = CASES[name]
    frame = frame_of(case)
    full = fit(frame, case["formula"], case)
    if "|" in case["null"] or not case["reml"]:
        test = smm.lrtest(fit(frame, case["null"], case), full, method="exact", n=50_000, seed=1)
        chi2, p = test.chi2, test.p_value
        assert ("taken as known" in str(test)) == ("|" in case["null"])
    else:
        chi2, p = full.ranova(method="exact", n=50_000, seed=1)[["LRT", "p_value"]].iloc[1]
    assert chi2 == pytest.approx(case["statistic"], abs=1e-8)
    expected = 1.0 if case["statistic"] < 1e-9 else case["p"]  # RLRsim compares draws with rounding
    error = np.sqrt(expected * (1 - expected) * (1 / 50_000 + 1 / case["simulations"]))
    assert p == pytest.approx(expected, abs=4 * error + 3e-5)


@pytest.mark.parametrize("name", ["rlrt_ergostool", "lrt_carrots_product_alone", "lrt_alfalfa_date_and_variety"])
def test_exact_quantiles_are_rlrsims(name):
    from sm_multilevel.postestimation.comparison.compare import _exact
    from sm_multilevel.postestimation.comparison.nesting import nest
    from sm_multilevel.postestimation.comparison.regression import regression

    case = CASES[name]
    frame = frame_of(case)
    full = fit(frame, case["formula"], case)._results
    columns = sm_formula.ols(case["null"], frame).exog
    null = regression(full, reml=case["reml"], exog=None if case["reml"] else columns)
    draws, _ = _exact(nest(null, full), null, full, 50_000, 3)
    found = np.quantile(draws, case["quantiles"]["probability"])
    for value, expected, error in zip(found, *(case["quantiles"][k] for k in ("value", "mc_error")), strict=True):
        assert value == pytest.approx(expected, abs=5 * np.hypot(error, error * np.sqrt(2)) + 1e-4)
    if case["zero"]:
        assert np.mean(draws == 0) == pytest.approx(case["zero"], abs=0.01)


def test_statas_chibar(two, sleep):
    # Stata prints chibar2(01) = 2 (llf - llf of regress) with half of chi2(1)'s tail below `mixed`.
    pig = pd.read_csv(ROOT / "tests/data/dyestuff.csv")
    full = smf.mixedlm("Yield ~ 1 + (1 | Batch)", pig).fit(reml=False)
    test = smm.lrtest(sm_formula.ols("Yield ~ 1", pig).fit(), full)
    assert test.chi2 == pytest.approx(5.402826, abs=1e-6)
    assert test.p_value == pytest.approx(0.5 * stats.chi2.sf(5.402826, 1), rel=1e-6)
    assert "chibar2(0:1) = 5.4028" in str(test)


# -- what a test is ------------------------------------------------------------------------------------------


def test_stram_and_lee(one, two):
    test = smm.lrtest(one, two)
    assert (test.df, test.boundary_corrected) == (2, True)
    assert test.distribution.df == (1, 2)
    assert test.distribution.weights == (0.5, 0.5)
    assert test.p_value == pytest.approx(0.5 * stats.chi2.sf(test.chi2, 1) + 0.5 * stats.chi2.sf(test.chi2, 2))
    assert test.p_chi2 == pytest.approx(stats.chi2.sf(test.chi2, 2))
    assert test.mc_error == 0.0
    assert dict(test) == {"chi2": test.chi2, "df": 2, "p_value": test.p_value, "boundary_corrected": True}
    with pytest.raises(KeyError, match="'p'; there are chi2"):
        test["p"]
    with pytest.raises(AttributeError):
        test.chi2 = 0.0


def test_either_order_and_wrappers(one, two):
    assert str(smm.lrtest(two, one)) == str(smm.lrtest(one, two)) == str(sp.lrtest(one._results, two))
    statistic, p, df = two.compare_lr_test(one)
    test = smm.lrtest(one, two)
    assert (statistic, p, df) == (test.chi2, test.p_value, 2)
    again = smm.lrtest(pickle.loads(pickle.dumps(one)), pickle.loads(pickle.dumps(two)))
    assert str(again) == str(test)
    assert str(pickle.loads(pickle.dumps(test))) == str(test)


def test_fixed_effect_and_variance_at_once(sleep, one):
    test = smm.lrtest(sm_formula.ols("Reaction ~ 1", sleep).fit(), one)
    assert (test.df, test.distribution.df, test.distribution.weights) == (2, (1, 2), (0.5, 0.5))
    null = smf.mixedlm("Reaction ~ 1 + (1 | Subject)", sleep).fit(reml=False)
    fixed = smm.lrtest(null, one)
    assert not fixed.boundary_corrected
    assert fixed.p_value == pytest.approx(stats.chi2.sf(fixed.chi2, 1))


def test_nested_by_columns_and_covariance_not_by_names(sleep, one, two):
    other = sleep.assign(Who=sleep["Subject"].astype(str) + "x", D=2 * sleep["Days"] - 3)
    full = smf.mixedlm("Reaction ~ D + (D | Who)", other).fit(reml=False)
    assert smm.lrtest(one, full).p_value == pytest.approx(smm.lrtest(one, two).p_value, rel=1e-6)
    with pytest.raises(ValueError, match=r"are the same model: there is nothing to test \(df = 0\)"):
        smm.lrtest(two, full)
    same = smf.mixedlm("Reaction ~ D + (Days || Subject)", other).fit(reml=False)
    assert smm.lrtest(same, two).df == 1
    with pytest.raises(ValueError, match=r"not nested: .* has no random term that contains \(Days \| Subject\)"):
        smm.lrtest(same, smf.mixedlm("Reaction ~ D + (1 | Who) + (0 + D | Who)", other).fit(reml=False))


def test_interaction_grouping_lies_in_a_term_of_the_coarser_one():
    # Pinheiro and Bates (2000), section 1.3.4: fm2Machine and fm3Machine, 7.376 with 4 df and p = 0.117.
    frame = pd.read_csv(ROOT / "tests/data/machines.csv")
    small = smf.mixedlm("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", frame).fit()
    large = smf.mixedlm("score ~ Machine + (0 + Machine | Worker)", frame).fit()
    test = smm.lrtest(small, large)
    assert (round(test.chi2, 3), test.df, round(test.p_value, 3)) == (7.376, 4, 0.117)
    assert not test.boundary_corrected


def test_rows_in_another_order_and_labels(sleep):
    def p(frame):
        fits = [smf.mixedlm(f"Reaction ~ Days + ({z} | Subject)", frame).fit() for z in ("1", "Days")]
        return smm.lrtest(*fits).p_value

    shuffled = sleep.sample(frac=1.0, random_state=1).assign(Subject=lambda f: f["Subject"].astype(str) + "z")
    assert p(shuffled) == pytest.approx(p(sleep), rel=1e-6)


# -- crossed, singular, weighted, ordinal and generalised --------------------------------------------------------


def test_crossed_variances_at_once():
    frame = penicillin.load_pandas().data
    full = smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", frame).fit(reml=False)
    test = smm.lrtest(sm_formula.ols("diameter ~ 1", frame).fit(), full)
    assert test.distribution.df == (0, 1, 2)
    # A balanced crossed design: the two are orthogonal, but for the residual variance they share.
    assert test.distribution.weights == pytest.approx((0.25, 0.5, 0.25), abs=0.02)
    assert test.mc_error == 0.0
    small = smf.mixedlm("diameter ~ 1 + (1 | plate)", frame).fit(reml=False)
    assert smm.lrtest(small, full).distribution.weights == (0.5, 0.5)
    boot = smm.lrtest(small, full, method="bootstrap", n=19, seed=1)
    assert boot.p_value == 0.05


def test_weights_by_simulation_state_their_error(sleep):
    full = smf.mixedlm("Reaction ~ Days + (Days + I(Days**2) | Subject)", sleep).fit(reml=False)
    null = sm_formula.ols("Reaction ~ Days", sleep).fit()
    tests = [smm.lrtest(null, full, seed=seed, n=2000) for seed in (1, 1, 2)]
    assert tests[0].distribution.weights == tests[1].distribution.weights != tests[2].distribution.weights
    assert tests[0].mc_error > 0
    assert tests[0].n == 2000
    assert "weights from 2000 draws" in str(tests[0])


@pytest.fixture(scope="module")
def zero():
    frame = pd.read_csv(ROOT / "tests/data/dyestuff2.csv")
    frame["x"] = np.tile(np.arange(5.0), 6)
    small = smf.mixedlm("Yield ~ x + (1 | Batch)", frame).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        large = smf.mixedlm("Yield ~ x + (x | Batch)", frame).fit()
    return frame, small, large


def test_singular_restricted_fit_leaves_the_bootstrap(zero):
    _, small, large = zero
    assert small.is_singular
    for method in ("asymptotic", "exact"):
        with pytest.raises(ValueError, match=r"is singular \(Batch: variance is zero\).*Use method='bootstrap'"):
            smm.lrtest(small, large, method=method)
    test = smm.lrtest(small, large, method="bootstrap", n=39, seed=2)
    assert 0 < test.p_value <= 1
    assert test.mc_error == pytest.approx(np.sqrt(test.p_value * (1 - test.p_value) / (39 - test.failed)))
    assert np.isnan(large.ranova()["p_value"].iloc[1])
    assert np.isfinite(large.ranova(method="bootstrap", n=19, seed=1)["p_value"].iloc[1])


def test_singular_fits_that_differ_in_fixed_effects(zero):
    frame, *_ = zero
    fits = [smf.mixedlm(f"Yield ~ {x} + (1 | Batch)", frame).fit(reml=False) for x in ("1", "x")]
    test = smm.lrtest(*fits)
    assert test.p_value == pytest.approx(stats.chi2.sf(test.chi2, 1))


def test_singular_full_fit():
    frame = pd.read_csv(ROOT / "tests/data/dyestuff2.csv")
    full = smf.mixedlm("Yield ~ 1 + (1 | Batch)", frame).fit(reml=False)
    null = sm_formula.ols("Yield ~ 1", frame).fit()
    for method in ("asymptotic", "exact", "bootstrap"):
        test = smm.lrtest(null, full, method=method, n=20, seed=1)
        assert (test.chi2, test.p_value) == (0.0, 1.0)


@pytest.mark.parametrize("kind", ["var_weights", "freq_weights"])
def test_weights(sleep, kind):
    frame = sleep.assign(w=1.0 + np.arange(len(sleep)) % 3)
    fits = [
        smf.mixedlm(f"Reaction ~ Days + ({z} | Subject)", frame, **{kind: "w"}).fit(reml=False) for z in ("1", "Days")
    ]
    assert smm.lrtest(*fits).df == 2
    if kind == "var_weights":
        wls = sm_formula.wls("Reaction ~ Days", frame, weights=frame["w"]).fit()
        assert smm.lrtest(wls, fits[0]).df == 1
        with pytest.raises(ValueError, match=r"OLS has the log-likelihood .* They differ in family, link, weights"):
            smm.lrtest(sm_formula.ols("Reaction ~ Days", frame).fit(), fits[0])
        assert smm.lrtest(*fits, method="bootstrap", n=19, seed=1).p_value == 0.05
        return
    split = frame.loc[frame.index.repeat(frame["w"].astype(int))].reset_index(drop=True)
    plain = [smf.mixedlm(f"Reaction ~ Days + ({z} | Subject)", split).fit(reml=False) for z in ("1", "Days")]
    assert smm.lrtest(*fits).chi2 == pytest.approx(smm.lrtest(*plain).chi2, abs=1e-8)
    null = sm_formula.ols("Reaction ~ Days", split).fit()
    exact = smm.lrtest(null, plain[0], "exact", n=500, seed=3)
    glm = sm_formula.glm("Reaction ~ Days", frame, freq_weights=frame["w"]).fit()
    assert smm.lrtest(glm, fits[0], "exact", n=500, seed=3).p_value == exact.p_value
    mixtures = [smm.lrtest(n, f).distribution.weights for n, f in ((glm, fits[1]), (null, plain[1]))]
    assert mixtures[0] == pytest.approx(mixtures[1], rel=1e-6)
    with pytest.raises(ValueError, match="freq_weights make a row stand for several"):
        smm.lrtest(*fits, method="bootstrap", n=5)


def test_pseudo_likelihood_is_refused():
    frame = epil.load_pandas().data.assign(w=2.0)
    fits = [smf.mepoisson(f"y ~ {x} + (1 | subject)", frame, var_weights="w").fit() for x in ("1", "trt")]
    with pytest.raises(ValueError, match="Poisson family, which has no dispersion, make a pseudo-likelihood"):
        smm.lrtest(*fits)


def test_ordinal():
    frame = wine.load_pandas().data
    full = smf.meologit("rating ~ temp + contact + (temp | judge)", frame).fit()
    small = smf.meologit("rating ~ temp + contact + (1 | judge)", frame).fit()
    fixed = smf.meologit("rating ~ contact + (1 | judge)", frame).fit()
    test = smm.lrtest(fixed, small)
    assert (test.df, test.boundary_corrected) == (1, False)
    assert smm.lrtest(small, full).distribution.df == (1, 2)
    table = full.ranova()
    assert table.index.tolist() == ["<none>", "temp in (temp | judge)"]
    assert table["npar"].tolist() == [9, 7]
    whole = small.ranova(method="bootstrap", n=19, seed=1)
    assert whole.index.tolist() == ["<none>", "(1 | judge)"]
    assert whole["p_value"].iloc[1] == 0.05
    other = smf.meologit("rating ~ temp + contact + (1 | judge)", frame.assign(rating=frame["rating"].astype(int) + 1))
    with pytest.raises(ValueError, match="different categories"):
        smm.lrtest(fixed, other.fit())


def test_binomial_with_trials_against_glm():
    frame = cbpp.load_pandas().data
    full = smf.melogit("incidence ~ period + (1 | herd)", frame, n_trials="size").fit()
    glm = sm.GLM.from_formula("incidence + I(size - incidence) ~ period", frame, family=sm.families.Binomial()).fit()
    test = smm.lrtest(glm, full)
    assert test.chi2 == pytest.approx(2 * (full.llf - glm.llf), abs=1e-6)
    assert test.distribution.weights == (0.5, 0.5)
    assert smm.lrtest(glm, full, method="bootstrap", n=19, seed=1).p_value == 0.05
    with pytest.raises(ValueError, match="method='exact' is for linear models"):
        smm.lrtest(glm, full, method="exact")


def test_binary_slopes():
    frame = contraception.load_pandas().data
    full = smf.melogit("use ~ urban + age + (urban | district)", frame).fit()
    small = smf.melogit("use ~ urban + age + (1 | district)", frame).fit()
    test = smm.lrtest(small, full)
    assert (test.df, test.distribution.df) == (2, (1, 2))
    assert full.ranova()["LRT"].iloc[1] == pytest.approx(test.chi2, abs=1e-6)
    whole = full.ranova(reduce_terms=False)
    assert whole["LRT"].iloc[1] == pytest.approx(full.facts.no_random.statistic, abs=1e-6)
    assert whole["p_value"].iloc[1] == pytest.approx(full.facts.no_random.p_value, rel=1e-6)


def test_negative_binomial_against_poisson():
    frame = epil.load_pandas().data
    small = smf.mepoisson("y ~ trt + (1 | subject)", frame).fit()
    large = smf.menbreg("y ~ trt + (1 | subject)", frame).fit()
    test = smm.lrtest(small, large)
    assert (test.df, test.distribution.weights, test.boundary_corrected) == (1, (0.5, 0.5), True)
    assert test.chi2 == pytest.approx(2 * (large.llf - small.llf))
    slopes = smf.menbreg("y ~ trt + (lbase | subject)", frame).fit()
    with pytest.raises(ValueError, match=r"both alpha and variances at zero\. Use method='bootstrap'"):
        smm.lrtest(small, slopes)
    other = smf.menbreg("y ~ trt + (1 | subject)", frame, loglike_method="nb1").fit()
    with pytest.raises(ValueError, match="different families"):
        smm.lrtest(other, large)


def test_gamma_glm_differs_by_how_its_dispersion_is_estimated(sleep):
    full = smf.megamma("Reaction ~ Days + (1 | Subject)", sleep).fit()
    glm = sm_formula.glm("Reaction ~ Days", sleep, family=sm.families.Gamma(sm.families.links.Log())).fit()
    test = smm.lrtest(glm, full)
    assert test.df == 1
    assert test.chi2 == pytest.approx(full.facts.no_random.statistic, abs=1e-6)


# -- bootstrap ---------------------------------------------------------------------------------------------------


def test_bootstrap_does_not_depend_on_the_number_of_jobs(one, two):
    one_job, two_jobs = (smm.lrtest(one, two, "bootstrap", n=60, seed=4, n_jobs=k) for k in (1, 2))
    assert str(one_job) == str(two_jobs)
    assert one_job.n == 60


def test_bootstrap_is_near_the_asymptotic_test():
    frame = pastes.load_pandas().data
    small = smf.mixedlm("strength ~ 1 + (1 | batch:cask)", frame).fit()
    large = smf.mixedlm("strength ~ 1 + (1 | batch) + (1 | batch:cask)", frame).fit()
    tests = {m: smm.lrtest(small, large, m, n=200, seed=1) for m in ("asymptotic", "exact", "bootstrap")}
    assert tests["bootstrap"].p_value == pytest.approx(0.18, abs=0.11)  # RLRsim: 0.179
    assert tests["exact"].p_value == pytest.approx(0.18, abs=0.11)
    assert tests["asymptotic"].p_value == pytest.approx(0.2087, abs=1e-4)


def test_failed_replicates_are_counted(one, two, monkeypatch):
    from sm_multilevel.postestimation.comparison import compare

    plain = compare.refits

    def some_fail(result, responses):
        found = plain(result, responses)
        return replace(found, converged=found.converged & (np.arange(len(responses)) > 0))

    monkeypatch.setattr(compare, "refits", some_fail)
    with pytest.warns(ConvergenceWarning, match="2 of 150 replicates did not converge"):
        test = smm.lrtest(one, two, "bootstrap", n=150, seed=1)
    assert test.failed == 2
    assert test.p_value == 1 / 149
    assert "2 of them failed" in str(test)


# -- tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("df", ["kenward-roger", "satterthwaite"])
def test_degrees_of_freedom_are_no_part_of_a_comparison(sleep, one, df):
    full = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit(df=df)
    plain = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit()
    pd.testing.assert_frame_equal(smm.anova(one, full), smm.anova(one, plain))
    pd.testing.assert_frame_equal(full.ranova(), plain.ranova())


def test_anova_refits_by_ml(sleep, one, two, ols):
    fits = [smf.mixedlm(f"Reaction ~ {x}", sleep).fit() for x in ("1 + (1 | Subject)", "Days + (Days | Subject)")]
    table = smm.anova(*fits[::-1])
    assert "by ML" in table.attrs["note"]
    assert table["logLik"].iloc[1] == pytest.approx(two.llf, abs=1e-6)
    assert table.index.tolist() == ["Reaction ~ 1 + (1 | Subject)", "Reaction ~ Days + (Days | Subject)"]
    with pytest.raises(ValueError, match="REML likelihoods of models with different fixed effects"):
        smm.anova(*fits, refit=False)
    three = smm.anova(two, ols, one, names=["slopes", "ols", "intercepts"])
    assert three.index.tolist() == ["ols", "intercepts", "slopes"]
    assert three["Df"].tolist()[1:] == [1, 2]
    assert three.attrs["note"] == ""
    assert smm.anova(one, two, one).index.tolist() == ["m1", "m3", "m2"]


def test_anova_of_models_that_are_not_nested(sleep, one):
    other = smf.mixedlm("Reaction ~ I(Days**2) + (1 | Subject)", sleep).fit(reml=False)
    table = smm.anova(one, other)
    assert table[["Pr(>Chisq)", "p_value"]].isna().all().all()


def test_ranova_drops_parts_of_terms(sleep):
    frame = sleep.assign(z=np.sin(np.arange(180.0)), f=np.where(np.arange(180) % 3, "a", "b"))
    result = smf.mixedlm("Reaction ~ Days + (Days + f | Subject)", frame).fit()
    table = result.ranova()  # patsy has factors first
    assert table.index.tolist() == ["<none>", "f in (f + Days | Subject)", "Days in (f + Days | Subject)"]
    assert table["Df"].tolist()[1:] == [3, 3]
    assert result.ranova(reduce_terms=False).index.tolist() == ["<none>", "(f + Days | Subject)"]
    same = smf.mixedlm("Reaction ~ Days", frame, groups="Subject", re_formula="Days", covariance="identity").fit()
    assert same.ranova().index.tolist() == ["<none>", "(Days | Subject)"]
    assert same.ranova()["Df"].iloc[1] == 1


def test_ranova_from_arrays(sleep):
    x = np.column_stack([np.ones(180), sleep["Days"]])
    result = smm.MixedLM(sleep["Reaction"].to_numpy(), x, sleep["Subject"].to_numpy(), exog_re=x).fit()
    table = result.ranova()
    assert table["LRT"].iloc[1] == pytest.approx(42.836813, abs=1e-5)
    assert table["Df"].iloc[1] == 2


# -- bad inputs ---------------------------------------------------------------------------------------------------


def bad_inputs(sleep, one, two, ols):
    def lm(formula, frame=sleep, reml=False, **options):
        return smf.mixedlm(formula, frame, **options).fit(reml=reml)

    gone = sleep.assign(x=np.where(np.arange(180) < 3, np.nan, 1.0 * np.arange(180)))
    moved = sleep.assign(Reaction=sleep["Reaction"] + np.arange(180))
    broken = replace(one._results.record, converged=False, reason="the gradient is not zero")
    failed = lm("Reaction ~ Days + (1 | Subject)")
    failed._results.record, failed._results.converged = broken, False
    low = lm("Reaction ~ Days + (Days | Subject)")
    low._results.llf = one.llf - 1.0
    lost = lm("Reaction ~ Days + (1 | Subject)")
    lost.remove_data()
    poisson = smf.mepoisson("n ~ Days + (1 | Subject)", sleep.assign(n=np.arange(180) % 5)).fit()
    counts = sleep.assign(n=np.arange(180) % 5)
    glmm = [smf.mepoisson(f"n ~ {x} + (1 | Subject)", counts).fit(nAGQ=k) for x, k in (("1", 1), ("Days", 5), ("1", 0))]
    return [
        (one, lm("Reaction ~ Days + x + (1 | Subject)", gone), {}, r"different rows: 180 and 177\..* 0 and 3 rows"),
        (one, lm("Reaction ~ Days + (Days | Subject)", moved), {}, "different responses: the values of 'Reaction'"),
        (one, lm("Reaction ~ Days + (Days | Subject)", sleep.iloc[::-1]), {}, "in another order"),
        (lm("Reaction ~ 1 + (1 | Subject)", reml=True), lm("Reaction ~ Days + (1 | Subject)", reml=True), {},
         "REML likelihoods of models with different fixed effects"),
        (one, lm("Reaction ~ Days + (Days | Subject)", reml=True), {}, "One model is fitted by REML and the other by"),
        (ols, lm("Reaction ~ Days + (1 | Subject)", reml=True), {}, r"OLS cannot be compared .*\(REML\).*ranova"),
        (lm("Reaction ~ I(Days**2) + (1 | Subject)"), two, {}, r"not nested: the fixed effect 'I\(Days \*\* 2\)'"),
        (sm_formula.ols("Reaction ~ np.sin(Days)", sleep).fit(), one, {}, r"not nested: 'np.sin\(Days\)' of OLS"),
        (lm("Reaction ~ Days + (0 + Days | Subject)"), lm("Reaction ~ Days + (1 | Subject)"), {},
         r"no random term that contains \(Days \| Subject\)"),
        (one, one, {}, r"same model: there is nothing to test \(df = 0\)"),
        (failed, two, {}, "did not converge .the gradient is not zero"),
        (one, low, {}, "has a lower log-likelihood .* one of the fits has not reached its optimum"),
        (lost, two, {}, "remove_data"),
        (one, poisson, {}, "different responses"),
        (one, lm("Reaction ~ Days + (Days | Subject)", offset=np.ones(180)), {}, "different offset"),
        (one, lm("Reaction ~ Days + (Days | Subject)", var_weights=np.arange(1.0, 181)), {}, "different var_weights"),
        (glmm[0], glmm[1], {}, "integrated differently: nAGQ=1 and nAGQ=5"),
        (glmm[2], glmm[1], {}, "nAGQ=0 does not maximise"),
        (one, "two", {}, "full= is a str, not a fitted model"),
        (None, two, {}, "restricted= is a NoneType"),
        (ols, ols, {}, "Neither model has random effects"),
        (one, two, {"method": "wald"}, "method='wald' is not known. Choose one of 'asymptotic', 'exact', 'bootstrap'"),
        (one, two, {"n": 0}, "n=0: give the number of draws"),
        (one, two, {"n": 10.5}, "n=10.5: give the number"),
        (one, two, {"n_jobs": 0}, "n_jobs=0: give a number of processes"),
        (one, two, {"method": "exact"}, "one variance that the full model adds, without correlations"),
        (one, lm("Reaction ~ Days + (Days || Subject)"), {"method": "exact"}, "for REML fits .Greven"),
    ]  # fmt: skip


def test_bad_inputs_name_the_culprit(sleep, one, two, ols):
    for restricted, full, options, words in bad_inputs(sleep, one, two, ols):
        with pytest.raises(ValueError, match=words):
            smm.lrtest(restricted, full, **options)


def test_bad_inputs_of_the_tables(one, two, ols):
    for models, options, words in [
        ((one,), {}, "two or more"),
        ((ols, ols), {}, "one regression of statsmodels"),
        ((one, two), {"refit": "ML"}, "refit='ML' must be True or False"),
        ((one, two), {"names": ["a"]}, "1 names for 2 models"),
        ((one, 3), {}, "model 2= is a int"),
    ]:
        with pytest.raises(ValueError, match=words):
            smm.anova(*models, **options)
    with pytest.raises(ValueError, match="reduce_terms='no' must be True or False"):
        two.ranova(reduce_terms="no")
    with pytest.raises(ValueError, match="method='x' is not known"):
        two.ranova(method="x")
