"""StatsPAI side by side: equal where it is right, and an independent check of ours where it is not.

The numbers of StatsPAI stand in tests/reference/statspai.json, written by tests/reference/statspai.py, whose frames and
calls are used here with our `sp`. What is found here is told in docs/for_statspai_users.md.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from oracle_glmm import binomial, integrate
from reference import statspai as theirs
from scipy import linalg, stats

import sm_multilevel.formula.api as smf
from sm_multilevel import sp

THEM = theirs.content()


def ours(name, table=None, **changes):
    """Our fit of one of the calls."""
    function, frame, options = {**theirs.AGREE, **theirs.FAULTS, **(table or {})}[name]
    return getattr(sp, function)(frame(), **{**options, **changes})


def here(name):
    """StatsPAI's name in our words."""
    return name.replace("_cons", "Intercept")


def numbers(values):
    return np.array(values, dtype=float)


def table(entry):
    return pd.DataFrame(entry["values"], index=[here(i) for i in entry["index"]], dtype=float)


# -- where it is right -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", theirs.AGREE)
def test_estimates_agree(name):
    """Log-likelihoods to 1e-6, estimates to 1e-5 standard errors, standard errors to 3e-5, variances to 1e-4."""
    entry, r = THEM["agree"][name], ours(name)
    assert r.converged
    assert r.llf == pytest.approx(entry["log_likelihood"], abs=1e-6)
    for column, value in entry["params"].items():
        assert r.params[here(column)] == pytest.approx(value, abs=1e-5 * r.bse[here(column)]), column
        assert r.bse[here(column)] == pytest.approx(float(entry["bse"][column]), rel=3e-5), column
    components = r.variance_components
    kept = {here(k): v for k, v in entry["variance_components"].items() if k.startswith(("var", "cov"))}
    if name == "sleep_gaussian":
        assert r.params["dispersion"] == pytest.approx(kept.pop("var(Residual)"), rel=1e-6)
    assert set(components) == set(kept)
    for key, value in kept.items():
        assert components[key] == pytest.approx(value, rel=1e-4), key
    assert r.nobs == (entry["n_obs"] if "trials" not in entry["options"] else len(theirs.cows()))
    assert r.k_params == entry["n_params"]
    assert r.aic() == r.aic == pytest.approx(entry["aic"], abs=1e-6)
    if "trials" not in entry["options"]:
        assert r.bic() == r.bic == pytest.approx(entry["bic"], abs=1e-6)
    if "dispersion" in entry:
        psi = r.params.drop([here(c) for c in entry["params"]])
        assert psi.iloc[0] == pytest.approx(entry["dispersion"], rel=1e-6)
    if "thresholds" in entry:
        assert_allclose(r.thresholds, list(entry["thresholds"].values()), rtol=1e-6)
        assert_allclose(r.bse[r.thresholds.index], list(entry["thresholds_se"].values()), rtol=3e-5)
        assert [t.split("|", 1)[1] for t in entry["thresholds"]] == [t.replace("|", "/") for t in r.thresholds.index]


LEVELS = [name for name in theirs.AGREE if "levels" in name]


@pytest.mark.parametrize("name", [name for name in theirs.AGREE if name not in LEVELS])
def test_what_is_asked_of_a_fit_agrees(name):
    entry, r = THEM["agree"][name], ours(name)
    data = theirs.AGREE[name][1]()
    effects, errors = r.ranef(conditional_se=True)
    want = entry["random_effects"]
    assert list(effects.shape) == want["shape"]
    assert effects.index.name == want["index_name"]
    assert list(effects.columns) == [here(c) for c in want["columns"]]
    labels = pd.Index(effects.index.map(str))
    rows = labels.get_indexer(want["index"])
    assert_allclose(effects.iloc[rows].to_numpy(), np.column_stack(list(want["values"].values())), rtol=1e-4, atol=1e-6)
    if "values" in entry["ranef_se"]:
        se = np.column_stack(list(entry["ranef_se"]["values"].values()))
        assert_allclose(errors.iloc[rows].to_numpy(), se, rtol=1e-5)
    if "error" not in entry["r_squared"]:
        n = len(data)  # var_fixed is over n there, over n - 1 (as R's performance) here
        got = r.r_squared()
        assert list(got) == list(entry["r_squared"])
        assert entry["r_squared"]["var_fixed"] * n / (n - 1) == pytest.approx(got["var_fixed"], rel=1e-6)
        for key in ("var_random", "var_residual"):
            assert entry["r_squared"][key] == pytest.approx(got[key], rel=1e-6)
    if "error" not in entry["fitted"]:
        assert_allclose(r.predict(data)[:5], list(entry["fitted"].values()), rtol=1e-6)
        if "error" not in entry["fitted_in_sample"]:
            assert list(entry["fitted_in_sample"].values()) == pytest.approx(list(r.predict()[:5]), rel=1e-6)
        assert_allclose(
            r.predict(data.head(), include_random=False), list(entry["population"].values()), rtol=1e-6, atol=1e-8
        )
    if "error" not in entry["linear"]:
        assert_allclose(r.predict(data.head(), type="linear"), list(entry["linear"].values()), rtol=1e-5, atol=1e-7)
    if "chi2" in entry["wald"]:
        test = r.wald_test([c for c in entry["params"] if c != "_cons"])
        assert float(np.squeeze(test.statistic)) == pytest.approx(entry["wald"]["chi2"], rel=1e-5)
        assert test.df_denom == entry["wald"]["df"]
        assert float(test.pvalue) == pytest.approx(entry["wald"]["p_value"], rel=1e-3, abs=1e-300)
    for key, column in (("odds_ratios", "OR"), ("incidence_rate_ratios", "IRR")):
        if "values" in entry[key]:
            got, want = getattr(r, key)(), table(entry[key])
            assert entry[key]["columns"] == list(got.columns)[:3] == [column, "lower", "upper"]
            assert_allclose(got.loc[want.index, want.columns], want, rtol=3e-5)
    if "estimate" in entry["icc"]:
        got = sp.icc(r)
        for key, value in entry["icc"].items():
            assert getattr(got, key) == pytest.approx(value, rel=3e-5), key
    level = r.conf_int()
    for bound, column in (("lower", 0), ("upper", 1)):
        want = table(entry["conf_int"])[bound]
        assert_allclose(level.loc[want.index, column], want, rtol=1e-4, atol=1e-5)
    assert "Variance" in str(r.summary())
    assert {"params", "bse", "tvalues"} <= {k for k, v in entry["types"].items() if v == "Series"}
    assert all(isinstance(v, pd.Series) for v in (r.params, r.bse, r.tvalues))


@pytest.mark.parametrize("name", LEVELS)
def test_levels_agree(name):
    entry, r = THEM["agree"][name], ours(name)
    outer, inner = entry["options"]["group"]
    components = entry["variance_components"]
    assert float(sp.icc(r, outer)) == pytest.approx(components[f"icc({outer})"], rel=1e-4)
    assert float(sp.icc(r, inner)) == pytest.approx(components[f"icc({outer}+{inner})"], rel=1e-4)
    assert sp.icc(r, inner) == sp.icc(r, f"{inner}:{outer}")
    for key in ("var_random", "var_residual"):
        assert r.r_squared()[key] == pytest.approx(entry["r_squared"][key], rel=1e-4)
    assert r.ranef()[f"{inner}:{outer}"].shape == tuple(entry["random_effects"]["shape"])


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("intercept_slope", ("sleep_intercept", "sleep_slope", {}, {})),
        ("intercept_slope_naive", ("sleep_intercept", "sleep_slope", {}, {"boundary": False})),
        ("intercept_diagonal", ("sleep_intercept", "sleep_slope", {"cov_type": "diagonal"}, {})),
        ("fixed_effect_ordinal", ("tasters_one_column_less", "tasters_7", {}, {})),
    ],
)
def test_likelihood_ratio_tests_agree(name, fits):
    restricted, full, changes, options = fits
    want = THEM["specials"]["lrtest"][name]
    test = sp.lrtest(ours(restricted), ours(full, **changes), **options)
    assert test.chi2 == pytest.approx(want["chi2"], rel=1e-6)
    assert test.p_value == pytest.approx(want["p_value"], rel=1e-5)
    assert test.df == want["df"]
    assert test.boundary_corrected == want["boundary_corrected"]
    assert dict(test) == {key: getattr(test, key) for key in ("chi2", "df", "p_value", "boundary_corrected")}


# -- where it is not: the optimum ------------------------------------------------------------------


def dense_reml(y, x, z, groups, g, s2):
    """The restricted log-likelihood at given components, from the dense covariance of all rows."""
    same = groups[:, None] == groups[None, :]
    factor = linalg.cho_factor(np.where(same, z @ g @ z.T, 0.0) + s2 * np.eye(len(y)), lower=True)
    gram = x.T @ linalg.cho_solve(factor, x)
    beta = np.linalg.solve(gram, x.T @ linalg.cho_solve(factor, y))
    r = y - x @ beta
    logdet = 2 * np.log(np.diag(factor[0])).sum() + np.linalg.slogdet(gram)[1]
    return -0.5 * ((len(y) - x.shape[1]) * np.log(2 * np.pi) + logdet + r @ linalg.cho_solve(factor, r))


SLOPES = {  # how far below the maximum StatsPAI ends, and says that it has converged
    "states_years": (364.73, ("year", "unemp"), "log_gsp", "state"),
    "states_dollars": (20.21, ("year", "unemp"), "gsp", "state"),
    "sleep_x_moved": (21.39, ("Days",), "Reaction", "Subject"),
    "sleep_y_thousand": (0.02027, ("Days",), "Reaction", "Subject"),
    "sleep_y_millionth": (192.04, ("Days",), "Reaction", "Subject"),
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_do_not_depend_on_units(name):
    short, columns, response, group = SLOPES[name]
    slope = columns[0]
    entry, r = THEM["faults"][name], ours(name)
    data = theirs.FAULTS[name][1]()
    columns = [data[c] - data[c].mean() for c in columns]  # centred, for the oracle's own precision
    x = np.column_stack([np.ones(len(data)), *columns])
    move = np.array([[1.0, data[slope].mean()], [0.0, 1.0]])
    g = move @ r.cov_re.to_numpy() @ move.T
    best = dense_reml(data[response].to_numpy(float), x, x[:, :2], data[group].to_numpy(), g, r.scale)
    assert r.converged
    assert r.llf == pytest.approx(best, abs=1e-5)
    assert entry["converged"]
    assert r.llf - entry["log_likelihood"] == pytest.approx(short, rel=1e-3)


def test_a_calendar_year_is_a_year():
    """The same model with the years counted from 1970, where StatsPAI finds the maximum."""
    moved, r, wrong = THEM["agree"]["states_years_from_1970"], ours("states_years"), THEM["faults"]["states_years"]
    assert r.llf == pytest.approx(moved["log_likelihood"], abs=1e-6)
    for key in ("year", "unemp"):
        assert r.params[key] == pytest.approx(moved["params"][key], abs=1e-5 * r.bse[key])
        assert r.bse[key] == pytest.approx(moved["bse"][key], rel=1e-4)
    assert wrong["bse"]["year"] / r.bse["year"] == pytest.approx(0.400, abs=5e-4)


def test_predictors_of_any_size():
    """Contraception's age in years: StatsPAI returns its start values. So with sizes of schools."""
    scaled = ours("women_1")
    for name in ("women_age", "women_age_7"):
        r = ours(name)
        want = THEM["agree"]["women_7" if name.endswith("7") else "women_1"]
        assert r.llf == pytest.approx(want["log_likelihood"], abs=1e-6)
        assert THEM["faults"][name]["log_likelihood"] < r.llf - 1400
    assert ours("women_age").params["age"] == pytest.approx(scaled.params["x2"] / 10, rel=1e-5)
    r, entry = ours("passes_size"), THEM["faults"]["passes_size"]
    small = sp.melogit(theirs.changed(theirs.passes, size=1e-3)(), "passed", ["ses", "size"], "school")
    assert r.llf == pytest.approx(small.llf, abs=1e-6)
    assert r.llf - entry["log_likelihood"] > 15_000
    base = ours("sleep_gamma")
    for name in ("sleep_gamma_x_scaled", "sleep_gamma_x_moved"):
        r, entry = ours(name), THEM["faults"][name]
        assert r.llf == pytest.approx(THEM["faults"]["sleep_gamma"]["log_likelihood"], abs=1e-6)
        assert r.params["dispersion"] == pytest.approx(base.params["dispersion"], rel=1e-5)
        assert entry["converged"]
        assert r.llf - entry["log_likelihood"] > 330


def test_negative_binomial_contains_the_poisson():
    poisson, nb = ours("poisson"), ours("poisson_by_menbreg")
    entry = THEM["faults"]["poisson_by_menbreg"]
    assert nb.llf == pytest.approx(poisson.llf, abs=1e-9)
    assert nb.params["alpha"] == 0
    assert nb.is_singular
    assert poisson.llf - entry["log_likelihood"] == pytest.approx(0.0109, abs=1e-4)


def test_singular_and_separated_fits_say_so():
    r = ours("dyestuff2")
    assert r.is_singular
    assert r.cov_re.iloc[0, 0] == 0
    with pytest.warns(UserWarning, match="separate the response"):
        separated = ours("separated")
    assert not separated.converged
    assert THEM["faults"]["separated"]["converged"]
    assert "warnings" not in THEM["faults"]["separated"]


# -- where it is not: what the columns mean --------------------------------------------------------


def test_text_is_a_factor():
    """Text of digits too: StatsPAI fits a straight line through the labels."""
    r, entry = ours("sleep_text"), THEM["faults"]["sleep_text"]
    assert len(r.params) == 10
    assert r.llf == pytest.approx(smf.mixedlm("Reaction ~ C(Days) + (1 | Subject)", theirs.sleep()).fit().llf, abs=1e-8)
    assert entry["params"]["Days"] == pytest.approx(THEM["agree"]["sleep_intercept"]["params"]["Days"])
    words, flags = ours("text_predictor"), ours("schools_intercept")
    assert words.llf == pytest.approx(flags.llf, abs=1e-8)
    assert words.params["gender[T.Male]"] == pytest.approx(-flags.params["female"])
    assert ours("text_outcome").llf == pytest.approx(ours("women_1").llf, abs=1e-8)
    assert {THEM["faults"][k]["error"] for k in ("text_predictor", "text_outcome")} == {"ValueError"}


def test_columns_that_others_contain():
    with pytest.warns(UserWarning, match="dropped twice"):
        r = ours("sleep_collinear")
    assert r.llf == pytest.approx(ours("sleep_intercept").llf, abs=1e-8)
    entry = THEM["faults"]["sleep_collinear"]
    assert entry["bse"]["Days"] > 1e7
    assert entry["converged"]
    assert r.variance_components["var(Intercept)"] / entry["variance_components"]["var(_cons)"] > 6


def test_order_of_categories():
    with pytest.raises(ValueError, match=r"holds text, whose order is not known\. Give order="):
        ours("bottles_text")
    want = ours("bottles_7")
    r = ours("bottles_text", order=theirs.LABELS)
    assert r.llf == pytest.approx(want.llf, abs=1e-8)
    entry = THEM["faults"]["bottles_text"]  # in the order of the alphabet
    assert want.llf - entry["log_likelihood"] == pytest.approx(2.769, abs=1e-3)
    assert want.params["temp"] / entry["params"]["temp"] == pytest.approx(1.108, abs=1e-3)
    unused, entry = ours("bottles_unused"), THEM["faults"]["bottles_unused"]
    assert unused.llf == pytest.approx(want.llf, abs=1e-8)
    assert list(unused.thresholds.index) == ["1|2", "2|3", "3|4", "4|5"]
    assert max(entry["thresholds"].values()) > 9000
    assert entry["bse"]["temp"] / unused.bse["temp"] == pytest.approx(0.693, abs=1e-3)


REFUSED = {
    "cows_more_than_trials": "cannot be more successes than trials",
    "cows_counts_as_outcomes": "an outcome is 0 or 1",
    "outcomes_of_1_and_2": "an outcome is 0 or 1",
    "counts_below_zero": "negative counts",
    "counts_with_halves": "not whole numbers",
    "costs_of_zero": "zero or negative",
}


@pytest.mark.parametrize("name", REFUSED)
def test_responses_that_the_family_does_not_have(name):
    """StatsPAI reports a converged fit of each."""
    with pytest.raises(ValueError, match=REFUSED[name]):
        ours(name)
    assert THEM["faults"][name]["converged"]


def test_trials_are_no_observations():
    r, entry = ours("cows_1"), THEM["agree"]["cows_1"]
    assert entry["n_obs"] == theirs.cows()["size"].sum() == 842
    assert r.bic == pytest.approx(-2 * r.llf + 5 * np.log(56))
    assert entry["bic"] - r.bic == pytest.approx(13.55, abs=0.01)


# -- where it is not: what is asked of a fit -------------------------------------------------------


def test_levels_predict_with_all_their_effects():
    """Best linear unbiased prediction by the dense formula, for labels that repeat and for those that do not."""
    data, levels = theirs.pastes(), THEM["specials"]["levels"]
    inner = pd.factorize(data["batch"] + "/" + data["cask"])[0]
    outer = pd.factorize(data["batch"])[0]
    for column, name in (("sample", "distinct"), ("cask", "reused")):
        r = sp.mixed(data, y="strength", group=["batch", column])
        v = r.variance_components
        random = v[f"var(Intercept|{column})"] * np.equal.outer(inner, inner)
        random = random + v["var(Intercept|batch)"] * np.equal.outer(outer, outer)
        residual = data["strength"] - r.params["Intercept"]
        want = r.params["Intercept"] + random @ np.linalg.solve(random + r.scale * np.eye(60), residual)
        assert_allclose(r.predict(), want, rtol=1e-9)
        assert_allclose(r.predict(data), want, rtol=1e-9)
        assert np.ptp(levels[name]["in_sample"]) < 1e-9  # the fixed part alone
        assert len(r.ranef()[f"{column}:batch"].index.unique()) == 30
        assert float(sp.icc(r, column)) == pytest.approx(levels[name]["icc"][column]["estimate"], rel=1e-4)
        assert sp.icc(r, column).se > 0
        assert levels[name]["icc"][column]["se"] == "nan"
        away = np.abs(numbers(levels[name]["data"]) - want).max()
        assert away == pytest.approx({"distinct": 0.0, "reused": 5.94}[name], abs=0.01)
    assert len(set(levels["reused"]["ranef_index"])) == 3


def test_predictions_keep_their_rows():
    data = theirs.sleep_missing()
    r, entry = ours("sleep_slope", {"sleep_slope": ("mixed", theirs.sleep_missing, theirs._SLOPE)}), THEM["specials"]
    complete = data.dropna()
    assert r.nobs == entry["missing"]["n_obs"] == len(complete) == 177
    assert r.predict().index.equals(complete.index)
    assert_allclose(r.predict(complete), r.predict())
    assert entry["missing"]["index"] == list(range(12))


def test_levels_that_the_fit_does_not_know():
    r, special = ours("sleep_slope"), THEM["specials"]
    new = pd.DataFrame({"Days": [0.0, 1.0, 2.0], "Subject": [308.0, 9999.0, np.nan]})
    with pytest.warns(UserWarning, match="2 rows of 'Subject'"):
        assert_allclose(r.predict(new), special["new_levels"]["values"], rtol=1e-6)
    with pytest.raises(ValueError, match=r"levels that the fit has not seen.*1 rows of 'Subject'"):
        r.predict(new.iloc[:2], new_levels="raise")
    text = theirs.sleep().head(3).assign(Subject=lambda d: d["Subject"].astype(str))
    with pytest.raises(ValueError, match=r"levels '308'.*are of different types"):
        r.predict(text)
    assert_allclose(special["labels_as_text"]["values"], r.predict(theirs.sleep().head(3), include_random=False))
    assert special["new_levels"]["warnings"] == special["labels_as_text"]["warnings"] == []


def test_an_ordinal_fit_predicts():
    assert "error" in THEM["agree"]["bottles_7"]["fitted"]
    r = ours("bottles_7")
    data = theirs.bottles()
    chances = r.predict(data.head(), type="response")
    eta = r.predict(data.head(), type="linear")
    want = stats.logistic.cdf(np.subtract.outer(r.thresholds.to_numpy(), eta.to_numpy())).T
    assert_allclose(chances.cumsum(axis=1).iloc[:, :4], want)


def test_quadrature_of_slopes_and_levels():
    """Refused by StatsPAI. The integral itself, on a grid."""
    r = ours("slope_quadrature")
    many = ours("slope_quadrature", nAGQ=21)
    assert {THEM["faults"][k]["error"] for k in ("slope_quadrature", "levels_glmm")} == {"MethodIncompatibility"}
    data = theirs.women()
    x = np.column_stack([np.ones(len(data)), data["x1"], data["x2"]])
    terms = [(pd.factorize(data["district"])[0], x[:, :2], many.cov_re.to_numpy())]
    exact = integrate(data["y"].to_numpy(), x, many.params.to_numpy(), 0.0, terms, binomial("logit"), n_points=65)
    assert many.llf == pytest.approx(exact, abs=1e-6)
    assert r.llf == pytest.approx(many.llf, abs=1e-3)
    nested = ours("levels_glmm")
    formula = smf.melogit("y ~ x1 + x2 + (1 | district/urban)", data).fit()
    assert nested.llf == pytest.approx(formula.llf, abs=1e-8)
    slopes = ours("levels_slope")
    formula = smf.mixedlm("math ~ year + (year | child:school) + (1 | school)", theirs.pupils()).fit()
    assert slopes.llf == pytest.approx(formula.llf, abs=1e-7)
    assert THEM["faults"]["levels_slope"]["error"] == "NotImplementedError"


def test_icc_of_slopes():
    r = ours("sleep_slope")
    v = r.variance_components
    want = v["var(Intercept)"] / (v["var(Intercept)"] + v["var(Residual)"])  # on the day zero
    assert float(sp.icc(r)) == pytest.approx(want)
    assert THEM["specials"]["icc_slope"]["error"] == "MethodIncompatibility"


# -- where it is not: likelihood ratios ------------------------------------------------------------


def test_a_correlation_has_no_boundary():
    """Half of the right p-value there: a covariance of zero lies inside the parameter space."""
    diagonal, slope = ours("sleep_slope", cov_type="diagonal"), ours("sleep_slope")
    test, wrong = sp.lrtest(diagonal, slope), THEM["specials"]["lrtest"]["diagonal_slope"]
    assert not test.boundary_corrected
    assert test.p_value == pytest.approx(stats.chi2.sf(test.chi2, 1))
    assert wrong["p_value"] == pytest.approx(test.p_value / 2, rel=1e-4)
    with pytest.raises(ValueError, match=r"boundary=True, but nothing"):
        sp.lrtest(diagonal, slope, boundary=True)


def test_fits_that_cannot_be_compared():
    special = THEM["specials"]["lrtest"]
    intercept, slope = ours("sleep_intercept"), ours("sleep_slope")
    assert sp.lrtest(slope, intercept).p_value == sp.lrtest(intercept, slope).p_value  # in either order
    assert special["swapped"]["p_value"] == special["other_rows"]["p_value"] == 1
    short = sp.mixed(theirs.sleep().query("Days < 5"), **theirs._SLEEP)
    with pytest.raises(ValueError, match="rows"):
        sp.lrtest(short, slope)
    with pytest.raises(ValueError, match="REML"):
        sp.lrtest(ours("sleep_intercept", method="ml"), slope)
    halves = theirs.sleep().assign(half=lambda d: d["Days"] // 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a singular fit
        other = sp.mixed(halves, **{**theirs._SLEEP, "group": "half"})
    with pytest.raises(ValueError, match="nested"):
        sp.lrtest(other, slope)
    poisson, nb = ours("seizures_poisson_1"), ours("seizures_nb_1")
    assert sp.lrtest(poisson, nb).boundary_corrected
    assert special["poisson_negbin"]["error"] == "ValueError"
    assert special["ml_reml"]["p_value"] < 1e-10
    assert special["other_groups"]["p_value"] < 1e-30


def test_several_variances_at_once():
    """StatsPAI gives an upper bound and says so; the mixture's weights follow from the information."""
    slopes = {"group": "school", "y": "normexam", "x_fixed": ["girl", "standLRT"]}
    data = theirs.exam()
    full = sp.mixed(data, x_random=["standLRT"], **slopes)
    restricted = sp.mixed(data, **slopes)
    test = sp.lrtest(restricted, full)
    want = 0.5 * (stats.chi2.sf(test.chi2, 1) + stats.chi2.sf(test.chi2, 2))
    assert test.p_value == pytest.approx(want)
    special = THEM["specials"]["lrtest"]
    two = sp.lrtest(restricted, sp.mixed(data, x_random=["girl", "standLRT"], cov_type="diagonal", **slopes))
    assert two.chi2 == pytest.approx(special["two_slopes_diagonal"]["chi2"], abs=1e-4)
    assert two.p_value < special["two_slopes_diagonal"]["p_value"]
    assert 2 not in two.distribution.df or two.distribution.weights[two.distribution.df.index(2)] < 0.5


def test_against_no_random_effects():
    """Its summary compares a REML fit with a least-squares one in another likelihood."""
    data = theirs.sleep()
    x = np.column_stack([np.ones(180), data["Days"]])
    y = data["Reaction"].to_numpy()
    rss = np.linalg.lstsq(x, y, rcond=None)[1][0]
    ols = -0.5 * (178 * (np.log(2 * np.pi * rss / 178) + 1) + np.linalg.slogdet(x.T @ x)[1])
    for name, printed in (("sleep_intercept", 106.1825), ("sleep_slope", 148.2960)):
        said = THEM["specials"]["against_ols"][name][0]
        assert f"= {printed:.4f}" in said
        r = ours(name)
        chi2 = 2 * (r.llf - ols)
        assert f"= {chi2:.2f}" in str(r.summary()).split("LR test")[1]
        assert chi2 - printed == pytest.approx({"sleep_intercept": 1.016, "sleep_slope": 1.739}[name], abs=1e-3)
