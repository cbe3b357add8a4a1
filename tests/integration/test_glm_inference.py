"""Generalised models at their limits: sharp responses, alpha at zero, separation, words that do not fit."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, special, stats

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.families.negbin import NegBin
from sm_multilevel.families.registry import get_family
from sm_multilevel.postestimation.prediction.quantiles import NewRows

ENDS = (0.025, 0.975)


def rows_of(family, psi, eta, sd, n=3, trials=None, weights=1.0):
    trials = None if trials is None else np.full(n, float(trials))
    return NewRows(family, np.array(psi, dtype=float), trials, weights, np.full(n, float(eta)), np.full(n, float(sd)))


def mixed(cdf, eta, sd):
    """y -> E cdf(y, eta + sd Z) by a plain sum over very many nodes."""
    z = np.linspace(-8.5, 8.5, 200_001)
    mass = np.exp(-0.5 * z * z)
    mass /= mass.sum()
    with np.errstate(all="ignore"):
        return lambda y: mass @ cdf(y, eta + sd * z)


def poisson(y, eta):
    return special.pdtr(y, np.exp(eta))


def nb(alpha):
    return lambda y, eta: special.betainc(1 / alpha, y + 1, 1 / (1 + alpha * np.exp(eta)))


COUNTS = {
    "poisson e^9": (get_family("poisson"), [], poisson, 9, 1, None),
    "poisson e^5": (get_family("poisson"), [], poisson, 5, 1, None),
    "poisson e^14, narrow": (get_family("poisson"), [], poisson, 14, 0.3, None),
    "poisson, response wider": (get_family("poisson"), [], poisson, 9, 1e-3, None),
    "poisson, no spread": (get_family("poisson"), [], poisson, 3, 0, None),
    "poisson, rare": (get_family("poisson"), [], poisson, -2, 1, None),
    "poisson, very wide": (get_family("poisson"), [], poisson, 2, 4, None),
    "poisson, sqrt": (get_family("poisson", "sqrt"), [], lambda y, x: special.pdtr(y, x * x), 30, 40, None),
    "nb e^9": (NegBin("nb2"), [0.1], nb(0.1), 9, 1, None),
    "nb e^9, nearly poisson": (NegBin("nb2"), [1e-4], nb(1e-4), 9, 1, None),
    "nb at poisson": (NegBin("nb2"), [0.0], poisson, 9, 1, None),
    "binomial": (get_family("binomial"), [], lambda y, x: special.bdtr(y, 20_000, special.expit(x)), 0.3, 1, 20_000),
    "binary": (get_family("binomial"), [], lambda y, x: special.bdtr(y, 1, special.expit(x)), 0.3, 1, None),
}


@pytest.mark.parametrize("name", COUNTS)
def test_quantiles_of_counts_are_exact(name):
    family, psi, cdf, eta, sd, trials = COUNTS[name]
    below = mixed(cdf, eta, sd)
    for p in ENDS:
        y = rows_of(family, psi, eta, sd, trials=trials).quantile(p) * (trials or 1)
        assert (y == y[0]).all()
        y = np.rint(y[0])
        assert below(y) >= p - 1e-7
        assert y == 0 or below(y - 1) < p + 1e-7


CONTINUOUS = {
    "gamma 1e-4": (get_family("gamma", "log"), [1e-4], lambda y, x: special.gammainc(1e4, y / np.exp(x) * 1e4), 1, 1),
    "gamma 1": (get_family("gamma", "log"), [1.0], lambda y, x: -np.expm1(-y / np.exp(x)), 1, 1),
    "gamma 5": (get_family("gamma", "log"), [5.0], lambda y, x: special.gammainc(0.2, y / np.exp(x) / 5), 1, 0.2),
    "gamma, inverse": (get_family("gamma", "inverse"), [0.01], lambda y, x: special.gammainc(100, y * x * 100), 3, 0.3),
    "inverse gaussian": (
        get_family("inverse_gaussian", "log"), [1e-3],
        lambda y, x: stats.invgauss.cdf(y, np.exp(x) * 1e-3, scale=1e3), 1, 1,
    ),
    "gaussian, log": (get_family("gaussian", "log"), [0.04], lambda y, x: special.ndtr((y - np.exp(x)) / 0.2), 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTINUOUS)
def test_quantiles_of_continuous_responses(name):
    family, psi, cdf, eta, sd = CONTINUOUS[name]
    below = mixed(cdf, eta, sd)
    for p in ENDS:
        y = rows_of(family, psi, eta, sd).quantile(p)[0]
        ends = sorted([y * 0.5, y * 2])
        assert y == pytest.approx(optimize.brentq(lambda x, p=p: below(x) - p, *ends), rel=1e-5)


@pytest.mark.parametrize("noise", [1e-9, 1e-3, 0.05, 0.7, 1.0, 30.0])
@pytest.mark.parametrize("sd", [0.0, 1e-6, 1.0, 100.0])
def test_gaussian_quantiles_are_normal(noise, sd):
    found = [rows_of(get_family("gaussian"), [noise**2], 1.0, sd).quantile(p)[0] for p in ENDS]
    want = stats.norm(1.0, np.hypot(noise, sd)).ppf(ENDS)
    assert_allclose(found, want, atol=1e-5 * np.hypot(noise, sd))


def test_quantiles_of_many_rows():
    rng = np.random.default_rng(2)
    eta, sd = rng.normal(6, 1, 5000), rng.uniform(0, 1.5, 5000)
    eta[7] = np.nan
    eta[11], sd[11] = eta[10], sd[10]
    rows = NewRows(get_family("poisson"), np.empty(0), None, 1.0, eta, sd)
    found = rows.quantile(0.9)
    assert np.flatnonzero(np.isnan(found)).tolist() == [7]
    assert found[11] == found[10]
    for i in (0, 10, 99, 4999):
        below = mixed(poisson, eta[i], sd[i])
        assert below(found[i] - 1) < 0.9 + 1e-7
        assert below(found[i]) >= 0.9 - 1e-7


def test_prediction_intervals_of_a_sharp_response():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(60), 10)
    df = pd.DataFrame({"g": g, "y": rng.poisson(np.exp(9 + rng.normal(size=60)[g]))})
    res = smf.mepoisson("y ~ 1 + (1 | g)", df).fit()
    out = res.get_prediction(df.head(1), include_random=False)
    sd = np.sqrt(out.se_linear[0] ** 2 + res.mean_random_variance())
    want = np.exp(out.linear[0] + sd * stats.norm.ppf(ENDS))  # the response adds little
    assert_allclose(out.conf_int(obs=True)[0], want, rtol=3e-3)


# -- alpha at the Poisson limit ---------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(30), 10), rng.normal(size=300)
    count = rng.binomial(6, special.expit(0.3 * x + 0.5 * rng.normal(size=30)[g]))
    df = pd.DataFrame({"g": g, "x": x, "part": np.array(list("abc"))[np.arange(300) % 3], "count": count})
    formula = "count ~ x + part + (1 | g)"
    return smf.menbreg(formula, df).fit(), smf.mepoisson(formula, df).fit(), df


def test_tests_at_the_poisson_limit_are_those_of_poisson(pair):
    limit, plain, df = pair
    assert np.isnan(limit.bse["alpha"])
    ours, theirs = limit.t_test("x = 0, part[T.b] = part[T.c]"), plain.t_test("x = 0, part[T.b] = part[T.c]")
    for name in ("effect", "sd", "tvalue", "pvalue"):
        assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-4)
    assert_allclose(ours.conf_int(), theirs.conf_int(), rtol=1e-4)
    for hypothesis in ("x = 0", {"part": 0, "x": 0.1}):
        a, b = limit.wald_test(hypothesis, scalar=True), plain.wald_test(hypothesis, scalar=True)
        assert_allclose([a.statistic, a.pvalue], [b.statistic, b.pvalue], rtol=1e-3)
    assert_allclose(limit.f_test("x = 0").fvalue, plain.f_test("x = 0").fvalue, rtol=1e-4)
    tables = [r.wald_test_terms(scalar=True).table.to_numpy(float) for r in (limit, plain)]
    assert_allclose(*tables, rtol=1e-3)
    pairs = [r.t_test_pairwise("part").result_frame.to_numpy(float) for r in (limit, plain)]
    assert_allclose(*pairs, rtol=1e-3)
    assert_allclose(limit.incidence_rate_ratios(), plain.incidence_rate_ratios(), rtol=1e-3)
    frames = [r.get_prediction(df.head(4)).summary_frame() for r in (limit, plain)]
    assert_allclose(*frames, rtol=1e-3)
    assert "alpha" in str(limit.summary())


def test_contrasts_that_touch_alpha_at_its_boundary(pair):
    limit, _, _ = pair
    for hypothesis in ("alpha = 0.3", "x + alpha = 0", "x = 0, alpha = 1"):
        with pytest.raises(ValueError, match=r"'alpha'.*no standard error.*boundary, zero"):
            limit.wald_test(hypothesis)
    assert np.isnan(limit.t_test("alpha = 0.3").pvalue)
    test = limit.t_test(np.eye(len(limit.params)))
    assert_array_equal(np.isnan(test.pvalue), limit.params.index == "alpha")
    cov = limit._results.cov_params(r_matrix=np.eye(len(limit.params)))
    assert_array_equal(np.isnan(cov), np.isnan(limit.cov_params()))


def test_zero_is_no_hypothesis_about_positive_parameters(pair):
    limit, _, df = pair
    rng = np.random.default_rng(3)
    more = df.assign(y=rng.gamma(2, np.exp(0.2 * df["x"])), over=rng.poisson(rng.gamma(1.0, 2.0, 300)))
    gamma = smf.megamma("y ~ x + (1 | g)", more).fit()
    nb2 = smf.menbreg("over ~ x + (1 | g)", more).fit()
    for res, name in ((limit, "alpha"), (nb2, "alpha"), (gamma, "dispersion")):
        for call in (res.t_test, res.wald_test, res.f_test):
            with pytest.raises(ValueError, match=f"{name} = 0 has no meaning.*log-likelihood"):
                call(f"{name} = 0")
        with pytest.raises(ValueError, match="no meaning"):
            res.wald_test(f"x = 0, 2 * {name} = 0")
    for res, name in ((nb2, "alpha"), (gamma, "dispersion")):
        z = (res.params[name] - 0.5) / res.bse[name]
        assert float(np.squeeze(res.t_test(f"{name} = 0.5").tvalue)) == pytest.approx(z)
        assert float(res.wald_test({name: 0.5}, scalar=True).statistic) == pytest.approx(z**2)
        every = res.t_test(np.eye(len(res.params)))
        assert_allclose(every.pvalue, res.pvalues, rtol=1e-6)  # NaN for these
        assert_allclose(every.sd, res.bse)


# -- separation ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def separated(pair):
    rng = np.random.default_rng(1)
    df = pair[2].assign(yes=(rng.random(300) < 0.5).astype(int))
    df["only"] = ((np.arange(300) % 7 == 0) & (df["yes"] == 1)).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return smf.melogit("yes ~ x + part + only + (1 | g)", df).fit(), df


def test_separated_predictors(separated):
    res, df = separated
    assert res.separated == ["only"]
    with pytest.raises(ValueError, match=r"'only'.*no standard error.*separated"):
        res.wald_test("only = 0")
    assert np.isnan(res.t_test("only = 0").pvalue)
    assert float(np.squeeze(res.t_test("x = 0").pvalue)) == pytest.approx(res.pvalues["x"])
    table = res.wald_test_terms(scalar=True).table
    assert table.iloc[:, 1].isna().to_dict()["only"]
    assert np.isfinite(table.loc[["x", "part"]].to_numpy(float)).all()
    assert np.isfinite(res.t_test_pairwise("part").result_frame.to_numpy(float)).all()
    assert np.isnan(res.odds_ratios().loc["only", "lower"])
    rows = df[df["only"] == 1].head(2)
    for options in ({}, {"include_random": False}, {"which": "prob"}, {"which": "linear"}):
        out = res.get_prediction(rows, **options)
        assert np.isfinite(out.predicted).all()
        assert np.isnan(out.se_mean).all()
    with pytest.raises(ValueError, match=r"separated.*only"):
        res.r_squared()
    with pytest.raises(ValueError, match=r"separated.*only"):
        res.icc("observation")
    assert 0 <= res.icc()["g"] < 1
    text = str(res.summary())
    assert "NOT CONVERGED" in text
    assert "R2" not in text


def test_pairs_of_levels_of_which_one_is_separated(separated):
    df = separated[1].assign(yes=lambda d: d["yes"].where(d["part"] != "b", 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        res = smf.melogit("yes ~ part + (1 | g)", df).fit()
    assert res.separated == ["part[T.b]"]
    frame = res.t_test_pairwise("part", method=["hs", "b"]).result_frame
    assert_array_equal(frame["pvalue-b"].isna(), frame["P>|z|"].isna())
    assert frame.loc["b-a"].isna()["pvalue-hs"]


# -- words ----------------------------------------------------------------------------------------


def test_exposure_needs_a_log_link(pair, separated):
    _, plain, df = pair
    res = separated[0]
    for call in (res.predict, res.get_prediction):
        for data in (None, df.assign(only=0)):
            with pytest.raises(ValueError, match="exposure= needs a log link"):
                call(data, exposure=2.0)
    assert_allclose(plain.predict(df.head(3), exposure=2.0), 2.0 * plain.predict(df.head(3)))


def test_update_without_a_left_side(pair):
    _, plain, df = pair
    want = smf.mepoisson("count ~ x + part + I(x**2) + (1 | g)", df).fit().llf
    for formula in ("~ . + I(x**2)", " ~ . + I(x**2)", ". ~ . + I(x**2)"):
        new = plain.update(formula)
        assert new.model.endog_names == "count"
        assert new.llf == pytest.approx(want)
    linear = smf.mixedlm("count ~ x + (1 | g)", df).fit().update("~ . - (1 | g) + (x | g)")
    assert linear.model.endog_names == "count"


def test_models_without_fixed_effects(pair):
    df = pair[2]
    for res in (smf.mepoisson("count ~ 0 + (1 | g)", df).fit(), smf.menbreg("count ~ 0 + (1 | g)", df).fit()):
        assert "No fixed effects" in str(res.summary())
        assert "Groups" in str(res.summary2())
        assert np.isfinite(res.get_prediction(df.head(2)).summary_frame()).all(axis=None)
        assert 0 < res.icc()["g"] < 1
        assert res.r_squared()["marginal"] == 0


def test_not_converged(pair):
    df = pair[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        res = smm.MENegBin.from_formula("count ~ x + (1 | g)", df).fit(maxiter=1)
    assert not res.converged
    assert "NOT CONVERGED" in str(res.summary())
    assert 0 <= res.icc()["g"] < 1
    assert 0 <= res.r_squared()["marginal"] < 1
