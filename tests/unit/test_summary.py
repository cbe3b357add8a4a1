"""The summary's structure and content, and the test of no random effects in its footer."""

import dataclasses
import io
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as sm_formula
from scipy import stats
from statsmodels.iolib import summary2 as sm_summary2
from statsmodels.iolib.summary import Summary
from statsmodels.tools.sm_exceptions import ConvergenceWarning, ValueWarning

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import pastes, penicillin, sleepstudy
from sm_multilevel.postestimation.comparison import no_random

DATA = Path(__file__).parents[1] / "data"
SLOPES = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep():
    return sleepstudy.load_pandas().data


@pytest.fixture(scope="module")
def machines():
    return pd.read_csv(DATA / "machines.csv")


@pytest.fixture
def slopes(sleep):
    return smf.mixedlm(SLOPES, sleep).fit()


def lines(result, **kwargs):
    return result.summary(**kwargs).as_text().split("\n")


def line(result, start):
    """Words of the one line that starts so."""
    found = [text for text in lines(result) if text.startswith(start)]
    assert len(found) == 1, found
    return found[0].split()


def block(result, corner):
    """Lines of words between a table's header and its end."""
    text = lines(result)
    first = next(i for i, row in enumerate(text) if row.startswith(corner)) + 2
    last = next(i for i in range(first, len(text)) if text[i].startswith("==="))
    return [row.split() for row in text[first:last]]


# -- what is where ------------------------------------------------------------------------


def test_overview_under_reml(slopes):
    text = slopes.summary().as_text()
    assert f"Restricted Log-Likelihood:  {slopes.llf:.3f}" in text
    assert re.search(r"Dep. Variable: +Reaction +No. Observations: +180\n", text)
    assert re.search(rf"Method: +REML +AIC: +{slopes.aic:.3f}\n", text)
    assert re.search(rf"Converged: +Yes +BIC: +{slopes.bic:.3f}\n", text)
    r2 = slopes.r_squared()
    assert re.search(rf"Singular fit: +No +R2 marginal: +{r2['marginal']:.4f}\n", text)
    assert re.search(rf"R2 conditional: +{r2['conditional']:.4f}\n", text)
    assert f"Formula: {SLOPES}" in text


def test_overview_under_ml(sleep):
    result = smf.mixedlm(SLOPES, sleep).fit(reml=False)
    text = result.summary().as_text()
    assert "Restricted" not in text
    assert re.search(rf"Log-Likelihood: +{result.llf:.3f}\n", text)
    assert re.search(r"Method: +ML ", text)


def test_fixed_effects_as_in_statsmodels(slopes):
    table = slopes.summary().tables[1]
    assert table.data[0] == ["Fixed effects", "coef", "std err", "z", "P>|z|", "[0.025", "0.975]"]
    words = line(slopes, "Days ")
    expected = [slopes.params["Days"], slopes.bse["Days"], slopes.tvalues["Days"], slopes.pvalues["Days"]]
    np.testing.assert_allclose([float(w) for w in words[1:]], [*expected, *slopes.conf_int().loc["Days"]], atol=6e-4)


def test_t_distribution(sleep):
    result = smf.mixedlm(SLOPES, sleep).fit(use_t=True)
    for text in (str(result.summary()), str(result.summary2())):
        assert "P>|t|" in text
        assert "P>|z|" not in text
        assert re.search(r"Df Residuals: +178", text)


def test_groups_sizes_and_icc(slopes):
    assert line(slopes, "Groups") == ["Groups", "Levels", "Rows:", "min", "mean", "max", "ICC"]
    assert block(slopes, "Groups") == [["Subject", "18", "10", "10.0", "10", f"{slopes.icc()['Subject']:.4f}"]]


def test_unequal_and_weighted_groups(sleep):
    data = sleep.assign(n=np.arange(180) % 3 + 1).iloc[4:]
    result = smf.mixedlm(SLOPES, data, freq_weights="n").fit()
    sizes = data.groupby("Subject", observed=True)["n"].sum()
    assert block(result, "Groups")[0][1:5] == ["18", f"{sizes.min()}", f"{sizes.mean():.1f}", f"{sizes.max()}"]
    assert re.search(rf"No. Observations: +{data['n'].sum()}\n", str(result.summary()))


SHOWN = ["vcov", "vcov_se", "vcov_lower", "vcov_upper", "sdcor"]


def test_random_effects(slopes):
    vc = slopes.varcorr(conf_int=True)
    rows = block(slopes, "Random effects")
    assert [row[:2] for row in rows[:1]] == [["Subject", "Intercept"]]
    assert rows[1][0] == "Days"
    assert rows[2][0] == "Residual"
    numbers = [[float(w) for w in row if re.fullmatch(r"-?[\d.]+", w)] for row in rows]
    np.testing.assert_allclose(numbers[0], vc.loc[0, SHOWN].astype(float), rtol=1e-4)
    np.testing.assert_allclose(numbers[1], [*vc.loc[1, SHOWN].astype(float), vc.loc[2, "sdcor"]], rtol=1e-2)
    np.testing.assert_allclose(numbers[2], vc.loc[3, SHOWN].astype(float), rtol=1e-4)


def test_correlations_are_a_lower_triangle(machines):
    result = smf.mixedlm("score ~ Machine + (0 + Machine | Worker)", machines).fit()
    rows = block(result, "Random effects")
    corr = result.varcorr().set_index(["var1", "var2"])["sdcor"]
    assert [len(row) for row in rows] == [7, 7, 8, 6]
    assert rows[1][6] == f"{corr['Machine[A]', 'Machine[B]']:.3f}"
    assert rows[2][6:] == [f"{corr[c, 'Machine[C]']:.3f}" for c in ("Machine[A]", "Machine[B]")]
    assert block(result, "Groups")[0][-1] == "."  # no intercept, no intraclass correlation
    assert "ICC: for rows" not in str(result.summary())


def test_uncorrelated_terms_have_no_correlations(sleep):
    result = smf.mixedlm("Reaction ~ Days + (Days || Subject)", sleep).fit()
    assert [row[0] for row in block(result, "Random effects")] == ["Subject", "Subject.1", "Residual"]
    assert "Corr" not in str(result.summary())
    assert len(block(result, "Groups")) == 1


@pytest.mark.parametrize(("covariance", "correlated"), [("identity", False), ("exchangeable", True)])
def test_equal_columns_are_one_line(machines, covariance, correlated):
    result = smf.mixedlm("score ~ 1 + (0 + Machine | Worker)", machines, covariance=covariance).fit()
    rows = block(result, "Random effects")
    assert rows[0][:5] == ["Worker", "each", "of", "3", "columns"]
    assert len(rows) == 2
    assert len(rows[0]) == 10 + correlated


def test_nested_and_crossed():
    nested = smf.mixedlm("strength ~ 1 + (1 | batch/cask)", pastes.load_pandas().data).fit()
    assert [row[:2] for row in block(nested, "Groups")] == [["cask:batch", "30"], ["batch", "10"]]
    assert [row[0] for row in block(nested, "Random effects")] == ["cask:batch", "batch", "Residual"]
    crossed = smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin.load_pandas().data).fit()
    icc = crossed.icc()
    rows = block(crossed, "Groups")
    assert [(row[0], row[-1]) for row in rows] == [(g, f"{icc[g]:.4f}") for g in ("plate", "sample")]


def test_variance_components(machines):
    components = {"Worker": "0 + C(Worker)", "Cell": "0 + C(Worker):C(Machine)"}
    result = smf.mixedlm("score ~ Machine", machines, groups=np.ones(len(machines)), vc_formula=components).fit()
    assert {row[0] for row in block(result, "Groups")} == {"Worker", "Cell"}
    assert [row[0] for row in block(result, "Random effects")] == ["Cell", "Worker", "Residual"]


def test_model_from_arrays(sleep):
    x = np.column_stack([np.ones(180), sleep["Days"]])
    result = smm.MixedLM(sleep["Reaction"].to_numpy(), x, groups=sleep["Subject"].to_numpy()).fit()
    assert "Formula" not in str(result.summary())
    assert line(result, "x1")[1] == "10.4673"


def test_no_fixed_effects(sleep):
    result = smf.mixedlm("Reaction ~ 0 + (1 | Subject)", sleep).fit()
    summary = result.summary()
    for text in (str(summary), summary.as_latex(), summary.as_html(), str(result.summary2())):
        assert "Random effects" in text
    assert "No fixed effects" in lines(result)


# -- what must not be missed -----------------------------------------------------------------


def test_singular_fit_in_words_above_the_numbers():
    result = smf.mixedlm("Yield ~ 1 + (1 | Batch)", pd.read_csv(DATA / "dyestuff2.csv")).fit()
    text = lines(result)
    assert text[2] == "Singular fit: Batch: variance is zero."
    assert re.search(r"Singular fit: +Yes", "\n".join(text[3:]))
    assert text[-1] == "LR test vs. linear regression: chibar2(01) = 0.00  Prob >= chibar2 = 1.0000"
    assert "Singular fit: Batch" in str(result.summary2())


def test_failed_convergence_above_the_numbers(sleep):
    with pytest.warns(ConvergenceWarning):
        result = smf.mixedlm(SLOPES, sleep).fit(maxiter=1, start_params=[10, 3, 0.1])
    text = lines(result)
    assert text[2].startswith("NOT CONVERGED: ")
    start = "\n".join(text[: next(i for i, row in enumerate(text) if "coef" in row)])
    assert "Do not use these estimates." in " ".join(start.split())
    assert re.search(r"Converged: +NO ", start)
    assert "LR test" not in "\n".join(text)
    assert "(NOT CONVERGED)" in str(result.summary2())
    for other in (result.summary().as_html(), result.summary().as_latex(), result.summary().as_csv()):
        assert "NOT CONVERGED: " in other


def test_dropped_columns_and_rows_weights_and_offset(sleep):
    data = sleep.assign(twice=2 * sleep["Days"], w=1.0 + np.arange(180) % 2, shift=1.0)
    data.loc[:3, "Reaction"] = np.nan
    with pytest.warns(ValueWarning, match="twice"):
        model = smf.mixedlm(
            "Reaction ~ Days + twice + (Days | Subject)", data, var_weights="w", offset=data["shift"].to_numpy()
        )
    text = str(model.fit().summary())
    assert "Dropped, because the columns before contain them: twice." in text
    assert re.search(r"Precision weights: +w ", text)
    assert re.search(r"Offset: +yes\n", text)
    assert re.search(r"Rows dropped \(NaN\): +4\n", text)


# -- options ------------------------------------------------------------------------------------


def test_names_title_and_level(slopes):
    text = str(slopes.summary(yname="time", xname=["a", "b"], title="My title", alpha=0.1))
    assert text.startswith(" ")
    assert text.split("\n")[0].strip() == "My title"
    assert re.search(r"Dep. Variable: +time ", text)
    assert "[0.05" in text
    assert "0.95]" in text
    interval = slopes.conf_int(0.1).loc["Days"]
    assert re.search(rf"\nb .* {interval[0]:.3f} +{interval[1]:.3f}\n", text)
    text = str(slopes.summary2(yname="time", xname=["a", "b"], title="My title", alpha=0.1, float_format="%.2f"))
    assert "My title" in text
    assert "[0.05" in text
    assert re.search(r"\nb +10.47 +1.55 ", text)
    assert str(slopes.summary(title="")).startswith("====")


@pytest.mark.parametrize("xname", [["a"], ["a", "b", "c"], "ab"])
def test_wrong_names_are_refused(slopes, xname):
    with pytest.raises(ValueError, match="xname must be a list of 2 names"):
        slopes.summary(xname=xname)


@pytest.mark.parametrize("alpha", [0, 1, 5, "x"])
def test_wrong_level_is_refused(slopes, alpha):
    with pytest.raises(ValueError, match="alpha"):
        slopes.summary(alpha=alpha)
    with pytest.raises(ValueError, match="alpha"):
        slopes.summary2(alpha=alpha)


# -- layout ---------------------------------------------------------------------------------------


def widths(text):
    return {len(row) for row in text.split("\n") if set(row) <= {"=", "-"} and row}


def test_fits_eighty_columns_and_rules_agree(slopes):
    text = str(slopes.summary())
    assert max(map(len, text.split("\n"))) <= 80
    assert len(widths(text)) == 1


def test_long_names_keep_the_layout(sleep):
    long = {name: f"{name}_{'and_a_lot_more_' * 5}end" for name in sleep}
    formula = "Reaction ~ Days + I(Days ** 2 / 1000000000000) + (Days | Subject)"
    for old, new in long.items():
        formula = formula.replace(old, new)
    text = str(smf.mixedlm(formula, sleep.rename(columns=long)).fit().summary())
    assert len(widths(text)) == 1
    assert max(map(len, text.split("\n"))) <= max(widths(text)) < 145
    assert re.search(r"\nDays_and_a_lot_more.*\.\.\..*_end +\d", text)


def test_names_equal_but_for_the_middle_stay_apart(slopes):
    names = ["a" * 30 + c + "b" * 30 for c in "xy"]
    text = str(slopes.summary(xname=names))
    assert all(f"\n{name} " in text for name in names)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1, 1e6, 1e9])
def test_any_scale_shows_digits(sleep, scale):
    result = smf.mixedlm(SLOPES, sleep.assign(Reaction=sleep["Reaction"] * scale)).fit()
    rows = block(result, "Random effects")
    sd = [float(row[-1 if row[0] != "Days" else -2]) for row in rows]
    np.testing.assert_allclose(sd, result.varcorr()["sdcor"].iloc[[0, 1, 3]], rtol=1e-3)


# -- formats and statsmodels' tools ---------------------------------------------------------------


def test_types_and_formats(slopes):
    summary = slopes.summary()
    assert isinstance(summary, Summary)
    assert isinstance(slopes.summary2(), sm_summary2.Summary)
    html, latex, csv = summary.as_html(), summary.as_latex(), summary.as_csv()
    for text in (html, latex, csv, summary._repr_html_(), str(summary)):
        assert "Restricted Log-Likelihood" in text
        assert "LR test vs. linear regression" in text
        assert "(Days " in text
    assert "<p>Formula: " in html
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
    assert csv.startswith("Formula: ")
    table = pd.read_csv(io.StringIO("\n".join(row for row in csv.split("\n") if re.match("Fixed|Days", row))))
    assert float(table.iloc[0, 1]) == pytest.approx(slopes.params["Days"], abs=1e-4)


def test_special_characters(sleep):
    data = sleep.rename(columns={"Subject": "a_b", "Days": "x_1"})
    summary = smf.mixedlm("Reaction ~ I(x_1 < 5) + (1 | a_b)", data).fit().summary()
    assert "I(x_1 &lt; 5)" in summary.as_html().split("</p>")[0]
    latex = summary.as_latex()
    assert r"a\_b" in latex
    assert not re.search(r"(?<!\\)_", latex)
    assert "chibar2(01) = " in latex
    assert "Prob $>$=" in latex


def test_second_format_gives_the_coefficients(slopes):
    summary = slopes.summary2()
    assert "P>|z|" in str(summary)
    table = summary.tables[1]
    assert table.columns[:4].tolist() == ["Coef.", "Std.Err.", "z", "P>|z|"]
    np.testing.assert_allclose(table["Coef."], slopes.params)
    for text in (str(summary), summary.as_html(), summary.as_latex()):
        assert "Random effects" in text
        assert "LR test" in text


def test_side_by_side_with_ols(sleep, slopes):
    ols = sm_formula.ols("Reaction ~ Days", sleep).fit()
    text = str(sm_summary2.summary_col([ols, slopes], model_names=["ols", "mixed"], stars=True))
    assert re.search(r"Days +10\.4673\*\*\* +10\.4673\*\*\*", text)


# -- after the data are gone -----------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
def test_after_remove_data_and_pickling(sleep, before):
    expected = str(smf.mixedlm(SLOPES, sleep).fit().summary())
    result = smf.mixedlm(SLOPES, sleep).fit()
    if before:
        assert str(result.summary()) == expected
    result.remove_data()
    assert str(result.summary()) == expected
    assert "Restricted" in str(result.summary2())
    assert result.r_squared()["marginal"] == pytest.approx(0.2787, abs=1e-4)
    assert list(result.icc()) == ["Subject"]
    again = pickle.loads(pickle.dumps(result))
    assert str(again.summary()) == expected
    again.remove_data()


def test_data_removed_by_another_result(sleep):
    model = smf.mixedlm(SLOPES, sleep)
    first, second = model.fit(), model.fit(reml=False)
    first.remove_data()
    with pytest.raises(ValueError, match="remove_data"):
        second.summary()


def test_facts_are_frozen_and_row_free(slopes):
    facts = slopes.facts
    assert slopes.facts is facts
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts.slopes = False
    assert len(pickle.dumps(facts)) < 2000


def test_summary_changes_nothing(slopes):
    slopes.r_squared()["marginal"] = 9.0
    slopes.icc()["Subject"] = 9.0
    assert str(slopes.summary()) == str(slopes.summary())
    assert "9.0000" not in str(slopes.summary())


# -- the test against no random effects -------------------------------------------------------------


def lm_reml_loglik(y, x, w=None):
    """R's ``logLik(lm(y ~ x, weights = w), REML = TRUE)``, plus its missing log|X'X| scale: none."""
    w = np.ones(len(y)) if w is None else w
    half = np.sqrt(w)
    q, r = np.linalg.qr(x * half[:, None])
    rss = np.sum((y * half - q @ (q.T @ (y * half))) ** 2)
    n = len(y) - x.shape[1]
    value = 0.5 * (np.sum(np.log(w)) - n * (np.log(2 * np.pi) + 1 - np.log(n) + np.log(rss)))
    return value - np.sum(np.log(np.abs(np.diag(r))))


@pytest.fixture(scope="module")
def weighted(sleep):
    rng = np.random.default_rng(3)
    return sleep.assign(w=rng.uniform(0.5, 2, 180), off=rng.normal(size=180), n=rng.integers(1, 4, 180))


def null_loglik(result):
    return -0.5 * no_random.regression_deviance(result.model.cross_products(), result.reml)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_null_likelihood_is_that_of_the_regression(weighted, weights, shift):
    data = weighted.assign(Reaction=weighted["Reaction"] + shift)
    options = {} if weights is None else {"var_weights": weights}
    model = smf.mixedlm(SLOPES, data, offset="off", **options)
    data["y"] = data["Reaction"] - data["off"]
    w = 1.0 if weights is None else data[weights]
    ols = sm_formula.wls("y ~ Days", data, weights=w).fit()
    assert null_loglik(model.fit(reml=False)) == pytest.approx(ols.llf, rel=1e-9)
    reml = lm_reml_loglik(data["y"].to_numpy(), ols.model.exog, None if weights is None else data[weights].to_numpy())
    assert null_loglik(model.fit()) == pytest.approx(reml, rel=1e-9)


def test_null_likelihood_with_frequency_weights(weighted):
    repeated = weighted.loc[weighted.index.repeat(weighted["n"])]
    for reml in (True, False):
        result = smf.mixedlm(SLOPES, weighted, freq_weights="n").fit(reml=reml)
        long = smf.mixedlm(SLOPES, repeated).fit(reml=reml)
        assert null_loglik(result) == pytest.approx(null_loglik(long), rel=1e-10)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", [SLOPES, "Reaction ~ 0 + (1 | Subject)"])
def test_null_deviance_is_the_objective_at_zero(sleep, formula, reml):
    result = smf.mixedlm(formula, sleep).fit(reml=reml)
    zero = result.model.objective(reml=reml)(np.zeros_like(result.theta))
    assert -2 * null_loglik(result) == pytest.approx(zero, rel=1e-12)


def test_single_variance_is_a_mixture(sleep):
    result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit(reml=False)
    test = no_random.test_no_random(result)
    ols = sm_formula.ols("Reaction ~ Days", sleep).fit()
    assert (test.kind, test.df) == ("chibar2", 1)
    assert test.statistic == pytest.approx(2 * (result.llf - ols.llf), rel=1e-9)
    assert test.p_value == pytest.approx(0.5 * stats.chi2.sf(test.statistic, 1))
    assert f"LR test vs. linear regression: chibar2(01) = {test.statistic:.2f}  Prob >= chibar2 = 0.0000" in str(
        result.summary()
    )


def test_several_parameters_are_a_mixture(slopes):
    test = no_random.test_no_random(slopes)
    assert (test.kind, test.df) == ("chibar2", 3)
    # Between a variance alone, half and half, and chi2(3), which knows no boundary.
    assert 0.5 * stats.chi2.sf(test.statistic, 1) < test.p_value < stats.chi2.sf(test.statistic, 3)
    text = str(slopes.summary())
    assert f"LR test vs. linear regression: chibar2(0:3) = {test.statistic:.2f}  Prob >= chibar2 = 0.0000\n" in text
    assert "conservative" not in text


def test_weights_that_need_simulation_are_left_conservative(sleep):
    result = smf.mixedlm("Reaction ~ Days + (Days + I(Days**2) | Subject)", sleep).fit()
    test = no_random.test_no_random(result)
    assert (test.kind, test.df) == ("chi2", 6)
    assert test.p_value == pytest.approx(stats.chi2.sf(test.statistic, 6))
    text = str(result.summary())
    assert f"LR test vs. linear regression: chi2(6) = {test.statistic:.2f}  Prob > chi2 = 0.0000\n" in text
    assert "The LR test is conservative" in text


def test_zero_variance_has_p_value_one():
    result = smf.mixedlm("Yield ~ 1 + (1 | Batch)", pd.read_csv(DATA / "dyestuff2.csv")).fit()
    assert no_random.test_no_random(result) == no_random.NoRandomTest(0.0, 1, 1.0, "chibar2")


def test_no_warnings(sleep):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = smf.mixedlm(SLOPES, sleep).fit()
        str(result.summary())
        str(result.summary2())
