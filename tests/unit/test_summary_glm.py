"""Summaries of generalised models: what they show, in every format, and the test of no random effects."""

import io
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from scipy import optimize, stats
from statsmodels.iolib import summary2 as sm_summary2
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.tools.sm_exceptions import ConvergenceWarning, ValueWarning

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, contraception, epil, verbagg, wine
from sm_multilevel.postestimation.comparison.no_random import test_no_random as lr_test

COWS = "incidence ~ period + (1 | herd)"
USE = "use ~ urban + age + (urban | district)"
SEIZURES = "y ~ trt + lbase + (1 | subject)"
WINE = "rating ~ temp + contact + (1 | judge)"


@pytest.fixture(scope="module")
def cows():
    return cbpp.load_pandas().data


@pytest.fixture(scope="module")
def seizures():
    return epil.load_pandas().data


@pytest.fixture(scope="module")
def wines():
    return wine.load_pandas().data


@pytest.fixture
def binomial(cows):
    return smf.melogit(COWS, cows, n_trials="size").fit()


@pytest.fixture(scope="module")
def negbin(seizures):
    return smf.menbreg(SEIZURES, seizures).fit(nAGQ=7)


@pytest.fixture(scope="module")
def ordinal(wines):
    return smf.meologit(WINE, wines).fit(nAGQ=7)


@pytest.fixture(scope="module")
def simulated():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20), 10)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=200), "w": rng.uniform(0.5, 2, 200)})
    frame["n"] = rng.integers(1, 4, 200)
    frame["flat"] = rng.poisson(np.exp(0.5 + 0.3 * frame["x"]))
    frame["cost"] = rng.gamma(2, np.exp(0.5 + 0.3 * frame["x"] + 0.5 * rng.normal(size=20)[g]) / 2)
    frame["under"] = rng.binomial(6, 0.5, 200)
    frame["hours"] = rng.uniform(1, 3, 200)
    return frame


def lines(result, **options):
    return result.summary(**options).as_text().split("\n")


def line(result, start, **options):
    found = [text for text in lines(result, **options) if text.startswith(start)]
    assert len(found) == 1, found
    return found[0].split()


def block(result, corner, **options):
    """Lines of words between a table's header and its end."""
    text = lines(result, **options)
    first = next(i for i, row in enumerate(text) if row.startswith(corner)) + 2
    last = next(i for i in range(first, len(text)) if text[i].startswith("==="))
    return [row.split() for row in text[first:last]]


def shown(result, label):
    """The value of a label in the overview."""
    overview = str(result.summary()).split("\nDep. Variable:")[1].split("\n===")[0]
    match = re.search(rf"(?:^|  ){re.escape(label)} +(.*?)(?:   |$)", "Dep. Variable:" + overview, re.M)
    return match and match.group(1)


def words_of(result):
    return " ".join(str(result.summary()).split())


# -- the overview --------------------------------------------------------------------------------


def test_overview(binomial):
    assert lines(binomial)[0].strip() == "Generalized Linear Mixed Model Regression Results"
    expected = {
        "Dep. Variable:": "incidence", "Model:": "MixedGLM", "Family:": "Binomial", "Link:": "logit",
        "Method:": "ML", "Integration:": "Laplace", "Converged:": "Yes", "Singular fit:": "No",
        "Covariance Type:": "nonrobust", "No. Observations:": "56", "No. Trials:": "842",
        "Log-Likelihood:": f"{binomial.llf:.3f}", "AIC:": f"{binomial.aic:.3f}", "BIC:": f"{binomial.bic:.3f}",
        "R2 marginal:": f"{binomial.r_squared()['marginal']:.4f}",
        "R2 conditional:": f"{binomial.r_squared()['conditional']:.4f}",
    }  # fmt: skip
    assert {label: shown(binomial, label) for label in expected} == expected
    assert "Quadrature error" not in str(binomial.summary())
    assert f"Formula: {COWS}" in lines(binomial)


def test_integration_in_words(cows):
    model = smf.melogit(COWS, cows, n_trials="size")
    assert shown(model.fit(nAGQ=7), "Integration:") == "Adaptive Gauss-Hermite, 7 points"
    auto = model.fit(nAGQ="auto")
    assert shown(auto, "Integration:") == f"Adaptive Gauss-Hermite, {auto.nAGQ} points"
    assert float(shown(auto, "Quadrature error:")) == pytest.approx(auto.quadrature_error, rel=0.5)
    rough = model.fit(nAGQ=0)
    assert shown(rough, "Integration:") == "nAGQ=0 (approximate)"
    assert "nAGQ=0: fixed effects are taken at their mode" in str(rough.summary())
    assert "nAGQ=0: " not in str(auto.summary())


def test_the_outcome_of_two_labels():
    data = contraception.load_pandas().data
    result = smf.meprobit("use ~ urban + age + (1 | district)", data).fit()
    assert shown(result, "Dep. Variable:") == "P(use = 'Y')"
    assert "P(method = 'Y')" in str(result.summary(yname="method"))
    assert shown(result, "Link:") == "probit"
    assert shown(result, "No. Trials:") is None
    other = smf.meprobit("(use == 'N') ~ urban + age + (1 | district)", data).fit()
    assert shown(other, "Dep. Variable:") == "(use == 'N')"


def test_two_columns(cows):
    result = smf.melogit("incidence + I(size - incidence) ~ period + (1 | herd)", cows).fit()
    assert shown(result, "Dep. Variable:") == "incidence + I(size - incidence)"
    assert shown(result, "No. Trials:") == "842"
    weighted = smf.melogit(COWS, cows.assign(k=2), n_trials="size", freq_weights="k").fit()
    assert shown(weighted, "No. Trials:") == "1684"
    assert shown(weighted, "Frequency weights:") == "k"


def test_offset_exposure_and_rows(simulated):
    data = simulated.assign(log_hours=np.log(simulated["hours"]))
    data.loc[3, "x"] = np.nan

    def of(formula="flat ~ x + (1 | g)", **options):
        return smf.mepoisson(formula, data, **options).fit()

    assert (shown(of(), "Offset:"), shown(of(), "Exposure:")) == (None, None)
    assert shown(of(), "Rows dropped (NaN):") == "1"
    assert shown(of(offset="log_hours"), "Offset:") == "log_hours"
    assert shown(of(offset=data["log_hours"].to_numpy()), "Offset:") == "yes"
    assert shown(of("flat ~ x + offset(np.log(hours)) + (1 | g)"), "Offset:") == "np.log(hours)"
    both = of("flat ~ x + offset(np.log(hours)) + (1 | g)", offset="w", exposure="n")
    assert (shown(both, "Offset:"), shown(both, "Exposure:")) == ("np.log(hours) + w", "n")
    assert shown(of(exposure="hours"), "Offset:") is None


def test_pseudo_likelihood_is_said(simulated, wines):
    words = "a pseudo-likelihood"
    assert words in words_of(smf.mepoisson("flat ~ x + (1 | g)", simulated, var_weights="w").fit())
    assert words in words_of(smf.menbreg("flat ~ x + (1 | g)", simulated, var_weights="w").fit())
    assert words in words_of(smf.meologit(WINE, wines.assign(w=2.0), var_weights="w").fit())
    gamma = smf.megamma("cost ~ x + (1 | g)", simulated, var_weights="w").fit()
    assert words not in words_of(gamma)
    assert shown(gamma, "Precision weights:") == "w"


def test_arrays(cows):
    x = np.column_stack([np.ones(56), cows["period"].astype(float)])
    model = smm.MixedGLM(
        cows["incidence"].to_numpy(), x, groups=cows["herd"].to_numpy(), family="binomial",
        n_trials=cows["size"].to_numpy(),
    )  # fmt: skip
    result = model.fit()
    assert "Formula" not in str(result.summary())
    assert shown(result, "No. Trials:") == "842"
    exposed = smm.MixedGLM(
        cows["incidence"].to_numpy(), x, groups=cows["herd"].to_numpy(), family="poisson",
        exposure=cows["size"].to_numpy(),
    ).fit()  # fmt: skip
    assert (shown(exposed, "Exposure:"), shown(exposed, "Offset:")) == ("yes", None)


# -- tables --------------------------------------------------------------------------------------


def test_fixed_effects(binomial):
    header = binomial.summary().tables[1].data[0]
    assert header == ["Fixed effects", "coef", "std err", "z", "P>|z|", "[0.025", "0.975]"]
    words = line(binomial, "period[T.3]")
    name = "period[T.3]"
    expected = [binomial.params[name], binomial.bse[name], binomial.tvalues[name], binomial.pvalues[name]]
    assert_allclose([float(w) for w in words[1:]], [*expected, *binomial.conf_int().loc[name]], atol=6e-4)


def test_own_parameters_have_no_test(negbin, ordinal):
    for result, corner in ((negbin, "Response parameters"), (ordinal, "Cut-points")):
        names = list(result.psi.index)
        rows = block(result, corner)
        assert [row[0] for row in rows] == names
        interval = result.conf_int().loc[names]
        expected = np.column_stack([result.params[names], result.bse[names], interval])
        assert_allclose([[float(w) for w in row[1:]] for row in rows], expected, atol=6e-4)
        header = next(text for text in lines(result) if text.startswith(corner))
        assert header.split() == [*corner.split(), "coef", "std", "err", "[0.025", "0.975]"]
        fixed = next(text for text in lines(result) if text.startswith("Fixed effects"))
        assert header.index("[0.025") == fixed.index("[0.025")
        assert not [row for row in block(result, "Fixed effects") if row[0] in names]
    assert "Cut-points" not in str(negbin.summary())
    assert lines(ordinal)[0].strip() == "Mixed Ordinal Model Regression Results"


def test_dispersion(simulated):
    result = smf.megamma("cost ~ x + (1 | g)", simulated).fit()
    assert block(result, "Response parameters")[0][0] == "dispersion"
    assert shown(result, "Family:") == "Gamma"


def test_groups_and_random_effects():
    result = smf.melogit(USE, contraception.load_pandas().data).fit()
    assert line(result, "Groups") == ["Groups", "Levels", "Rows:", "min", "mean", "max", "ICC"]
    sizes = contraception.load_pandas().data.groupby("district", observed=True).size()
    assert block(result, "Groups") == [
        ["district", "60", str(sizes.min()), f"{sizes.mean():.1f}", str(sizes.max()), f"{result.icc()['district']:.4f}"]
    ]
    vc = result.varcorr(conf_int=True)
    shown = ["vcov", "vcov_se", "vcov_lower", "vcov_upper", "sdcor"]
    rows = block(result, "Random effects")
    assert [row[:2] for row in rows[:1]] == [["district", "Intercept"]]
    assert len(rows) == 2
    assert_allclose(
        [float(w) for w in [*rows[0][2:], *rows[1][1:]]],
        [*vc.loc[0, shown], *vc.loc[1, shown], vc.loc[2, "sdcor"]],
        rtol=1e-3,
    )
    assert "Residual" not in str(result.summary())
    assert "ICC: for rows where" in str(result.summary())


def test_crossed():
    result = smf.melogit("r2 ~ Anger + btype + (1 | id) + (1 | item)", verbagg.load_pandas().data).fit()
    assert [row[0] for row in block(result, "Groups")] == ["id", "item"]
    assert [row[0] for row in block(result, "Random effects")] == ["id", "item"]


def test_no_predictors(wines):
    result = smf.meologit("rating ~ 1 + (1 | judge)", wines).fit()
    assert "No fixed effects" in lines(result)
    assert len(block(result, "Cut-points")) == 4
    for text in (str(result.summary2()), result.summary().as_latex(), result.summary().as_html()):
        assert "Cut-points" in text or "1|2" in text


# -- what must not be missed ---------------------------------------------------------------------


def test_alpha_at_zero_is_the_poisson_limit(simulated):
    result = smf.menbreg("under ~ x + (1 | g)", simulated).fit()
    assert result.params["alpha"] == 0
    text = lines(result)
    assert "Singular fit: alpha is zero: the Poisson limit." in text[2:4]
    row = block(result, "Response parameters")[0]
    assert row[:3] == ["alpha", "0", "."]
    assert "nan" not in str(result.summary()) + str(result.summary2())
    assert "alpha is zero: the Poisson limit" in str(result.summary2())


def test_singular(simulated):
    result = smf.mepoisson("flat ~ x + (1 | g)", simulated).fit()
    assert lines(result)[2] == "Singular fit: g: variance is zero."
    assert shown(result, "Singular fit:") == "Yes"
    assert lines(result)[-1] == "LR test vs. no random effects: chibar2(01) = 0.00  Prob >= chibar2 = 1.0000"


def test_not_converged():
    model = smf.melogit(USE, contraception.load_pandas().data)
    with pytest.warns(ConvergenceWarning):
        result = model.fit(start_params=[5, 1, 1, 3, 1, 3], maxiter=1)
    text = "\n".join(lines(result))
    assert lines(result)[2].startswith("NOT CONVERGED: ")
    assert "Do not use these estimates." in " ".join(text.split("Fixed effects")[0].split())
    assert shown(result, "Converged:") == "NO"
    assert "LR test" not in text
    assert "(NOT CONVERGED)" in str(result.summary2())


def test_separation_is_on_top(simulated):
    x = simulated["x"]
    data = simulated.assign(y=((x > 0) ^ (np.arange(200) % 5 == 0)).astype(int), z=(np.arange(200) < 40).astype(float))
    data.loc[data["z"] == 1, "y"] = 1
    with pytest.warns(ConvergenceWarning):
        result = smf.melogit("y ~ x + z + (1 | g)", data).fit()
    head = " ".join(" ".join(lines(result)[2:6]).split())
    assert head.startswith("NOT CONVERGED: the predictors separate the response: ")
    assert "along z, whose estimates" in head
    assert "nan" not in str(result.summary())


def test_dropped_columns(wines):
    with pytest.warns(ValueWarning):
        result = smf.meologit("rating ~ temp + I(temp == 'warm') + (1 | judge)", wines).fit()
    said = "Dropped, because cut-points or the columns before contain them: I(temp == 'warm')[T.True]."
    assert said in words_of(result)


def test_r_squared_is_left_out_where_there_is_none(cows):
    result = smf.meglm("incidence ~ 1 + (1 | herd)", cows, n_trials="size", family="binomial", link="cauchit").fit()
    assert shown(result, "R2 marginal:") is None
    assert block(result, "Groups")[0][-1] == "."
    assert str(result.summary2())
    with pytest.raises(ValueError, match="no latent variable"):
        result.r_squared()


# -- ratios --------------------------------------------------------------------------------------


def test_odds_ratios(binomial):
    rows = block(binomial, "Fixed effects", eform=True)
    assert any(re.match("Fixed effects +Odds Ratio ", text) for text in lines(binomial, eform=True))
    b, se = binomial.params, binomial.bse
    expected = np.column_stack(
        [np.exp(b), np.exp(b) * se, binomial.tvalues, binomial.pvalues, np.exp(binomial.conf_int())]
    )
    assert_allclose([[float(w) for w in row[1:]] for row in rows], expected, atol=6e-4)
    text = str(binomial.summary(eform=True))
    assert "Intercept: baseline odds (covariates and random effects at zero)." in text
    assert "baseline" not in str(binomial.summary())
    table = binomial.summary2(eform=True).tables[1]
    assert table.columns[0] == "Odds Ratio"
    assert_allclose(table["Odds Ratio"], np.exp(b))


def test_labels_of_ratios(negbin, ordinal, simulated):
    assert " IRR " in str(negbin.summary(eform=True))
    assert "baseline incidence rate" in str(negbin.summary(eform=True))
    gamma = smf.megamma("cost ~ x + (1 | g)", simulated).fit()
    assert " exp(coef) " in str(gamma.summary(eform=True))
    assert "baseline mean" in str(gamma.summary(eform=True))
    assert "Odds Ratio" in str(ordinal.summary(eform=True))
    assert "baseline" not in str(ordinal.summary(eform=True))
    for result, corner in ((negbin, "Response parameters"), (ordinal, "Cut-points")):
        assert block(result, corner, eform=True) == block(result, corner)  # these are not exponentiated
    assert "0.95]" in str(negbin.summary(eform=True, alpha=0.1))


def test_links_without_ratios(cows, simulated):
    for result in (
        smf.meprobit(COWS, cows, n_trials="size").fit(),
        smf.meoprobit("n ~ x + (1 | g)", simulated).fit(),
        smf.meglm("x ~ w + (1 | g)", simulated).fit(),
        smf.mixedlm("x ~ w + (1 | g)", simulated).fit(),
    ):
        for summary in (result.summary, result.summary2):
            with pytest.raises(ValueError, match="eform=True needs a log or a logit link"):
                summary(eform=True)
    with pytest.raises(ValueError, match="eform='yes' must be True or False"):
        result.summary(eform="yes")


# -- formats and options ----------------------------------------------------------------------------


@pytest.mark.parametrize("eform", [False, True])
@pytest.mark.parametrize("kind", ["binomial", "negbin", "ordinal"])
def test_formats(request, kind, eform):
    result = request.getfixturevalue(kind)
    summary = result.summary(eform=eform)
    html, latex, csv = summary.as_html(), summary.as_latex(), summary.as_csv()
    for text in (html, latex, csv, str(summary), str(result.summary2(eform=eform)), result.summary2().as_latex()):
        assert "Integration:" in text
        assert "LR test vs. no random effects" in text
        assert "nan" not in text
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
    assert not re.search(r"(?<!\\)_", latex)
    name = result.params.index[1]
    row = next(text for text in csv.split("\n") if text.startswith(name))
    value = result.params[name]
    assert float(next(pd.read_csv(io.StringIO(row), header=None).itertuples())[2]) == pytest.approx(
        np.exp(value) if eform else value, abs=1e-3
    )


def test_layout(binomial, negbin, ordinal):
    for result in (binomial, negbin, ordinal):
        for eform in (False, True):
            text = lines(result, eform=eform)
            assert max(map(len, text)) <= 80
            assert len({len(row) for row in text if row and set(row) <= {"=", "-"}}) == 1
            assert not [row for row in text if row != row.rstrip()]


def test_long_names_keep_the_layout(seizures):
    long = {"trt": "treatment_" + 5 * "and_a_lot_more_" + "end", "subject": "s" * 60, "y": "w" * 70}
    formula = SEIZURES.replace("trt", long["trt"]).replace("subject", long["subject"]).replace("y ", f"{long['y']} ", 1)
    text = str(smf.menbreg(formula, seizures.rename(columns=long)).fit().summary()).split("\n")
    assert len({len(row) for row in text if row and set(row) <= {"=", "-"}}) == 1
    assert max(map(len, text)) <= max(len(row) for row in text if row and set(row) <= {"=", "-"}) < 130


def test_names(negbin, ordinal):
    text = str(negbin.summary(xname=["a", "b", "c"], yname="z", title="Mine"))
    assert text.split("\n")[0].strip() == "Mine"
    assert re.search(r"\nc +1\.0", text)
    assert re.search(r"\nalpha +0\.1", text)
    assert re.search(r"\nshape +0\.1", str(negbin.summary(xname=["a", "b", "c", "shape"])))
    for xname in (["a"], ["a", "b"], list("abcde"), "abc"):
        with pytest.raises(ValueError, match="xname must be a list of 3 names, one for each of Intercept, trt"):
            negbin.summary(xname=xname)
    assert re.search(r"\nq +3\.0", str(ordinal.summary2(xname=["q", "r"])))
    with pytest.raises(ValueError, match="alpha"):
        ordinal.summary(alpha=2)


def test_t_distribution(seizures):
    result = smf.menbreg(SEIZURES, seizures).fit(use_t=True)
    for text in (str(result.summary()), str(result.summary2())):
        assert "P>|t|" in text
        assert re.search(r"Df Residuals: +232", text)


def test_side_by_side(binomial, cows):
    glm = sm.GLM.from_formula("incidence + I(size - incidence) ~ period", cows, family=sm.families.Binomial()).fit()
    text = str(sm_summary2.summary_col([glm, binomial], model_names=["glm", "mixed"], stars=True))
    assert re.search(r"period\[T.2\] +-1\.1\d+\*\*\* +-0\.9923\*\*", text)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("function", "formula", "load", "options"), [
    ("melogit", COWS, cbpp, {"n_trials": "size"}), ("menbreg", SEIZURES, epil, {}), ("meologit", WINE, wine, {}),
    ("melogit", USE, contraception, {}), ("mepoisson", SEIZURES, epil, {"offset": "lage"}),
])  # fmt: skip
def test_after_remove_data_and_pickling(function, formula, load, options, before):
    data = load.load_pandas().data
    expected = str(getattr(smf, function)(formula, data, **options).fit().summary())
    result = getattr(smf, function)(formula, data, **options).fit()
    if before:
        assert str(result.summary()) == expected
    again = pickle.loads(pickle.dumps(result))
    assert str(again.summary()) == expected
    result.remove_data()
    assert str(result.summary()) == expected
    assert str(pickle.loads(pickle.dumps(result)).summary()) == expected
    assert str(result.summary2())


def test_no_warnings(cows, wines, seizures):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for result in (
            smf.melogit(COWS, cows, n_trials="size").fit(nAGQ="auto"),
            smf.menbreg(SEIZURES, seizures).fit(),
            smf.meologit(WINE, wines).fit(),
        ):
            str(result.summary(eform=True))
            str(result.summary2())


# -- the test against no random effects ------------------------------------------------------------


def null_llf(result):
    """The log-likelihood without random effects that the test has used."""
    return result.llf - 0.5 * lr_test(result).statistic


def test_binomial_against_glm(cows, binomial):
    glm = sm.GLM.from_formula("incidence + I(size - incidence) ~ period", cows, family=sm.families.Binomial()).fit()
    assert null_llf(binomial) == pytest.approx(glm.llf, abs=1e-7)
    test = lr_test(binomial)
    assert (test.kind, test.df) == ("chibar2", 1)
    assert test.p_value == pytest.approx(0.5 * stats.chi2.sf(test.statistic, 1))
    words = f"LR test vs. no random effects: chibar2(01) = {test.statistic:.2f}  Prob >= chibar2 = {test.p_value:.4f}"
    assert words in lines(binomial)


@pytest.mark.parametrize("points", [0, 1, 7])
def test_poisson_whatever_the_integration(seizures, points):
    result = smf.mepoisson(SEIZURES, seizures, offset="lage").fit(nAGQ=points)
    glm = sm.GLM.from_formula(
        "y ~ trt + lbase", seizures, family=sm.families.Poisson(), offset=seizures["lage"]
    ).fit()  # fmt: skip
    assert null_llf(result) == pytest.approx(glm.llf, abs=1e-6)


@pytest.mark.parametrize("kind", ["nb2", "nb1"])
def test_negative_binomial_against_statsmodels(seizures, kind):
    result = smf.menbreg(SEIZURES, seizures, loglike_method=kind).fit()
    x = np.column_stack([np.ones(236), seizures["trt"] == "progabide", seizures["lbase"]])
    other = sm.NegativeBinomial(seizures["y"], x, loglike_method=kind).fit(disp=0, method="newton", tol=1e-12)
    assert null_llf(result) == pytest.approx(other.llf, abs=1e-6)


def test_ordinal_against_statsmodels(wines, ordinal):
    x = np.column_stack([wines["temp"] == "warm", wines["contact"] == "yes"]).astype(float)
    other = OrderedModel(wines["rating"].astype(int), x, distr="logit").fit(disp=0, method="bfgs", gtol=1e-9)
    assert null_llf(ordinal) == pytest.approx(other.llf, abs=1e-6)


@pytest.mark.parametrize("weights", [None, "w"])
def test_gamma_with_dispersion_by_maximum_likelihood(simulated, weights):
    options = {} if weights is None else {"var_weights": weights}
    result = smf.megamma("cost ~ x + (1 | g)", simulated, **options).fit()
    x = np.column_stack([np.ones(200), simulated["x"]])
    w = 1.0 if weights is None else simulated[weights].to_numpy()

    def minus(z):
        shape = w * np.exp(z[2])
        return -np.sum(stats.gamma.logpdf(simulated["cost"], shape, scale=np.exp(x @ z[:2]) / shape))

    start = optimize.minimize(minus, [0.5, 0.3, 0.5], method="Nelder-Mead").x
    best = optimize.minimize(minus, start, method="BFGS", options={"gtol": 1e-7})
    assert null_llf(result) == pytest.approx(-best.fun, abs=1e-6)


def test_gaussian_is_the_linear_one(simulated):
    linear = smf.mixedlm("cost ~ x + (x | g)", simulated).fit(reml=False)
    general = smf.meglm("cost ~ x + (x | g)", simulated, family="gaussian").fit()
    ours, theirs = lr_test(general), lr_test(linear)
    assert ours.statistic == pytest.approx(theirs.statistic, abs=1e-5)
    assert (ours.kind, ours.df) == ("chibar2", 3)
    assert ours.p_value == pytest.approx(theirs.p_value, rel=1e-4)


def test_frequency_weights(simulated):
    repeated = simulated.loc[simulated.index.repeat(simulated["n"])]
    weighted = smf.menbreg("flat ~ x + (1 | g)", simulated, freq_weights="n").fit()
    long = smf.menbreg("flat ~ x + (1 | g)", repeated).fit()
    assert null_llf(weighted) == pytest.approx(null_llf(long), abs=1e-7)


def test_overdispersion_that_the_random_effects_have_taken():
    """alpha is zero with random effects, and not without them: one does not start where the other ends."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(40), 8)
    data = pd.DataFrame({"g": g, "y": rng.poisson(np.exp(1 + rng.normal(size=40)[g]))})
    result = smf.menbreg("y ~ 1 + (1 | g)", data).fit()
    null = sm.NegativeBinomial(data["y"], np.ones(320)).fit(disp=0)
    assert result.params["alpha"] < 0.05
    assert null_llf(result) == pytest.approx(null.llf, abs=1e-6)


def test_links_with_a_bounded_domain(simulated):
    """The identity link: the mixed model's beta may lie outside what is possible without random effects."""
    data = simulated.assign(y=simulated["flat"] + 3 * (simulated["g"] % 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = smf.meglm("y ~ 1 + (1 | g)", data, family="poisson", link="identity").fit()
    assert null_llf(result) == pytest.approx(np.sum(stats.poisson.logpmf(data["y"], data["y"].mean())), abs=1e-6)


def test_facts_stay_small(negbin):
    assert len(pickle.dumps(negbin.facts)) < 2000
