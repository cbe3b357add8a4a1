"""stargazer, maketables and great_tables: numbers, stars and statistics in their tables are those of the fits."""

import re

import great_tables
import maketables
import numpy as np
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as theirs
from stargazer.stargazer import LineLocation, Stargazer

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import contraception, epil, sleepstudy, wine

SLEEP = sleepstudy.load_pandas().data
WOMEN = contraception.load_pandas().data.assign(y=lambda d: (d["use"] == "Y").astype(int))
FITS = {
    "ols": theirs.ols("Reaction ~ Days", SLEEP).fit(),
    "linear": smf.mixedlm("Reaction ~ Days + (Days | Subject)", SLEEP).fit(),
    "ml": smf.mixedlm("Reaction ~ Days + (1 | Subject)", SLEEP).fit(reml=False),
    "logistic": smf.melogit("use ~ urban + age + (1 | district)", WOMEN).fit(),
    "glm": theirs.glm("y ~ urban + age", WOMEN, family=sm.families.Binomial()).fit(),
    "counts": smf.menbreg("y ~ trt + lbase + (1 | subject)", epil.load_pandas().data).fit(),
    "ordinal": smf.meologit("rating ~ temp + contact + (1 | judge)", wine.load_pandas().data).fit(),
}
FITS["robust"] = FITS["linear"].get_robustcov_results("CR2")


def stars(p):
    return "*" * sum(p < limit for limit in (0.1, 0.05, 0.01))


def latex_rows(table):
    """First cells -> the other cells of each row."""
    out, last = {}, None
    for line in table.render_latex().splitlines():
        cells = [cell.strip().rstrip("\\").strip() for cell in line.split("&")]
        if len(cells) > 1:
            last = cells[0] or f"{last} se"
            out[last] = cells[1:]
    return out


@pytest.mark.parametrize("name", FITS)
def test_stargazer_numbers(name):
    fit = FITS[name]
    rows = latex_rows(Stargazer([fit]))
    assert rows["Observations"] == [f"{int(fit.nobs)}"]
    for term in fit.params.index:
        if not np.isfinite(fit.pvalues[term]):
            continue
        assert rows[term] == [f"{fit.params[term]:.3f}$^{{{stars(fit.pvalues[term])}}}$"]
        assert rows[f"{term} se"] == [f"({fit.bse[term]:.3f})"]
    assert ("$R^2$" in rows and rows["$R^2$"] != [""]) == (name == "ols")


def test_stargazer_side_by_side():
    fits = [FITS[name] for name in ("ols", "linear", "logistic", "glm", "counts", "ordinal")]
    table = Stargazer(fits)
    assert table.render_html().count("<tr>") > 15
    assert latex_rows(table)["Days"][:2] == ["10.467$^{***}$", "10.467$^{***}$"]


def test_stargazer_needs_two_settings():
    """What its table would say and is not so: the page tells how to leave it out."""
    rows = latex_rows(Stargazer([FITS["linear"]]))
    residuals = np.sqrt((FITS["linear"].resid ** 2).sum() / FITS["linear"].df_resid)
    assert rows["Residual Std. Error"] == [f"{residuals:.3f} (df=178)"]  # and not the model's sigma
    assert residuals != pytest.approx(np.sqrt(FITS["linear"].scale), rel=0.05)
    assert latex_rows(Stargazer([FITS["counts"]]))["alpha"][0].endswith("$^{***}$")  # its p-value is NaN

    table = Stargazer([FITS["linear"], FITS["counts"]])
    table.show_residual_std_err = False
    table.covariate_order([*FITS["linear"].fe_params.index, *FITS["counts"].fe_params.index.drop("Intercept")])
    table.add_line("Groups", [18, 59], LineLocation.FOOTER_TOP)
    rows = latex_rows(table)
    assert "alpha" not in rows
    assert "Residual Std. Error" not in rows
    assert rows["Groups"] == ["18", "59"]


def cells(table):
    return {key[-1]: value for key, value in table.df.T.to_dict("list").items()}


@pytest.mark.parametrize("name", FITS)
def test_etable_numbers(name):
    fit = FITS[name]
    table = maketables.ETable([fit], model_stats=["N", "r2", "ll", "aic", "bic", "se_type"])
    text = {k: v[0] for k, v in cells(table).items()}
    assert text["Observations"] == f"{int(fit.nobs):,}"
    for label, value in (("Log-likelihood", fit.llf), ("AIC", fit.aic)):
        assert float(text[label].replace(",", "")) == pytest.approx(float(value), abs=0.06)
    assert text["S.E. type"] == fit.cov_type
    assert (text["R²"] == "-") == (name != "ols")
    estimates = [v for k, v in text.items() if "(" in v]
    assert len(estimates) == len(fit.params)
    for term, estimate in fit.params.items():
        shown = next(v for k, v in text.items() if k in (term, re.sub(r"\[T\.(.*)\]", r"=\1", term)))
        number, error = re.fullmatch(r"(-?[\d.,]+)(?:\**) *\n *\(([\d.,]+)\)", shown).groups()
        assert float(number.replace(",", "")) == pytest.approx(estimate, abs=6e-4)
        assert float(error.replace(",", "")) == pytest.approx(fit.bse[term], abs=6e-4)
        p = fit.pvalues[term]
        assert shown.count("*") == (len(stars(p)) if np.isfinite(p) else 0)


def test_etable_together():
    fits = [FITS[name] for name in ("ols", "linear", "logistic", "counts")]
    table = maketables.ETable(fits, custom_model_stats={"Groups": ["", "18", "60", "59"]})
    assert cells(table)["Groups"] == ["", "18", "60", "59"]
    assert "tabular" in table.make(type="tex")
    assert "<table" in table.make(type="html")


def test_great_tables_of_tidy():
    frame = smm.tidy(FITS["linear"], effects=["fixed", "ran_pars"], conf_int=True)
    html = great_tables.GT(frame).fmt_number(columns=["estimate", "std_error"], decimals=2).as_raw_html()
    assert "10.47" in html
    assert "sd__Observation" in html


def test_notebook_and_markdown():
    for name, fit in FITS.items():
        if name in ("ols", "glm"):
            continue
        assert "<table" in fit._repr_html_()
        assert fit.to_markdown().count("|") > 20
        assert "\\begin{tabular}" in fit.to_latex()
