"""Degrees of freedom of linear mixed models: against lmerTest and pbkrtest, dense algebra, and themselves.

Tolerances are the issue's: degrees of freedom 1e-3, standard errors by Kenward and Roger 1e-5, both relative.
"""

import functools
import json
import pickle
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from oracle import Term
from oracle_df import DenseInference, kr_test
from scipy import stats
from statsmodels.iolib.summary2 import summary_col

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, pastes, sleepstudy, wine
from sm_multilevel.linalg.layout import MemoryBudgetError
from sm_multilevel.postestimation.wald import df as df_module
from sm_multilevel.postestimation.wald.df import KenwardRoger, Satterthwaite

ROOT = Path(__file__).parents[2]
REFERENCE = json.loads((ROOT / "tests" / "reference" / "inference_df.json").read_text())
FITS = REFERENCE["fits"]


def name_of(fit):
    return f"{fit['id']}-{'reml' if fit['reml'] else 'ml'}"


def listed(value):
    """R writes a vector of one as a single value; infinity as text."""
    return np.array(value if isinstance(value, list) else [value], dtype=float)


@functools.cache
def frame(name, rows):
    entry = REFERENCE["data"][name]
    data = pd.read_csv(ROOT / entry["file"])
    for column, levels in entry.get("factors", {}).items():
        data[column] = pd.Categorical(data[column], levels or sorted(data[column].unique()))
    if rows:
        data = data.query(rows).copy()
        for column in entry.get("factors", {}):
            data[column] = data[column].cat.remove_unused_categories()
    return data


@functools.lru_cache(maxsize=2)
def fitted(index):
    fit = FITS[index]
    weights = {"var_weights": fit["weights"]} if fit.get("weights") else {}
    return smf.mixedlm(fit["formula"], frame(fit["data"], fit.get("rows")), **weights).fit(reml=fit["reml"])


def names_of(fit):
    names = fit["python_names"]
    return names if isinstance(names, list) else [names]


def rows_of(fit, result, matrix):
    """R's contrasts in the order of our coefficients."""
    matrix = np.atleast_2d(matrix)
    out = np.zeros_like(matrix)
    out[:, [list(result.params.index).index(n) for n in names_of(fit)]] = matrix
    return out


def compare(fit, result, reference):
    names = names_of(fit)
    table = reference["coefficients"]
    assert_allclose(result.df_coef[names], listed(table["df"]), rtol=1e-3)
    assert_allclose(result.bse[names], listed(table["se"]), rtol=1e-5)
    assert_allclose(result.tvalues[names], listed(table["t"]), rtol=1e-4, atol=1e-6)
    assert_allclose(result.pvalues[names], listed(table["p"]), rtol=5e-3, atol=1e-12)
    for test, want in zip(fit["tests"], reference["tests"], strict=True):
        rows = rows_of(fit, result, np.eye(len(names))[np.asarray(listed(test["columns"]), dtype=int)])
        got = result.wald_test(rows, scalar=True)
        assert got.df_num == want["num_df"]
        assert_allclose(got.df_denom, want["den_df"], rtol=1e-3)
        assert_allclose(got.fvalue, want["F"], rtol=2e-5)
        assert_allclose(got.pvalue, want["p"], rtol=5e-3, atol=1e-12)
    contrasts = [rows_of(fit, result, listed(c)) for c in fit["contrasts"]]
    for rows, want in zip(contrasts, reference["contrasts"], strict=True):
        got = result.t_test(rows)
        assert_allclose(got.df_denom, want["df"], rtol=1e-3)
        assert_allclose(got.sd.ravel(), want["se"], rtol=1e-5)
        assert_allclose(got.pvalue, want["p"], rtol=5e-3, atol=1e-12)


@pytest.mark.parametrize("index", range(len(FITS)), ids=[name_of(f) for f in FITS])
def test_satterthwaite_against_lmertest(index):
    fit = FITS[index]
    result = fitted(index).with_df("satterthwaite")
    compare(fit, result, fit["satterthwaite"])
    assert_allclose(result.df_coef[names_of(fit)], listed(fit["second_opinion"]["df"]), rtol=1e-3)


RESTRICTED = [k for k, fit in enumerate(FITS) if fit["reml"]]


@pytest.mark.parametrize("index", RESTRICTED, ids=[name_of(FITS[k]) for k in RESTRICTED])
def test_kenward_roger_against_pbkrtest(index):
    fit, result = FITS[index], fitted(index).with_df("kenward-roger")
    compare(fit, result, fit["kenward_roger"])
    names, want = names_of(fit), fit["pbkrtest"]
    p = len(names)
    cov = result.cov_params().loc[names, names].to_numpy()
    se = np.sqrt(np.diag(cov))
    assert_allclose(cov / np.outer(se, se), listed(want["vcov_adjusted"]).reshape(p, p) / np.outer(se, se), atol=2e-5)
    assert_allclose(result.df_coef[names], listed(want["df"]), rtol=1e-3)
    for test, other in zip(fit["tests"], want["tests"], strict=True):
        rows = rows_of(fit, result, np.eye(p)[np.asarray(listed(test["columns"]), dtype=int)])
        factor, df = result.reference.f_df(rows)
        assert_allclose(factor, other["F_scaling"], rtol=1e-4)
        assert_allclose(df, other["ddf"], rtol=1e-3)
        assert_allclose(result.wald_test(rows, scalar=True).pvalue, other["p"], rtol=5e-3, atol=1e-12)


# -- dense algebra, weights ------------------------------------------------------------------------


def data_with_weights(seed=0, n=90):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({
        "g": np.concatenate([np.arange(9), rng.integers(0, 9, n - 9)]),
        "h": rng.permutation(np.concatenate([np.arange(5), rng.integers(0, 5, n - 5)])),
        "x": rng.normal(size=n) + 4, "c": rng.integers(0, 3, n), "w": rng.uniform(0.3, 3, n),
        "f": rng.integers(1, 4, n),
    })  # fmt: skip
    slopes = rng.normal(size=9)
    data["y"] = (
        3 + (1 + slopes[data.g]) * data.x + 2 * rng.normal(size=5)[data.h] + rng.normal(size=n) / np.sqrt(data.w)
    )
    return data


WEIGHTS = [{}, {"var_weights": "w"}, {"freq_weights": "f"}, {"var_weights": "w", "freq_weights": "f"}]
FORMULAS = {"slopes": "y ~ x + C(c) + (x | g)", "crossed": "y ~ x + C(c) + (x | g) + (1 | h)"}


@pytest.mark.parametrize("weights", WEIGHTS, ids=["plain", "var", "freq", "both"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_weighted_fits_against_dense_algebra(formula, weights):
    """pbkrtest mishandles weights: both methods from V in full, rows with a frequency weight repeated."""
    data = data_with_weights()
    result = smf.mixedlm(FORMULAS[formula], data, **weights).fit()
    terms = [Term(data.g.to_numpy(), np.column_stack([np.ones(len(data)), data.x]))]
    terms += [Term(data.h.to_numpy(), np.ones((len(data), 1)))] if formula == "crossed" else []
    x = np.column_stack([np.ones(len(data)), data.c == 1, data.c == 2, data.x])
    dense = DenseInference(
        data.y.to_numpy(), x, terms, ["unstructured"] * len(terms), *(
            data[weights[k]].to_numpy() if k in weights else None for k in ("var_weights", "freq_weights")
        ),
    )  # fmt: skip
    sigma, beta = np.sqrt(result.scale), result.params.to_numpy()
    assert list(result.params.index)[-1] == "x"
    phi, adjusted, p, w = dense.kenward_roger(result.theta, sigma)
    kr = result.with_df("kr")
    assert_allclose(kr.bse, np.sqrt(np.diag(adjusted)), rtol=1e-6)
    for rows in (np.eye(4)[[3]], np.eye(4)[1:3], np.eye(4)[1:]):
        value, _, m = kr_test(rows, beta, phi, adjusted, p, w)
        got = kr.wald_test(rows, scalar=True)
        assert_allclose([got.fvalue, got.df_denom], [value, m], rtol=1e-6)
    cov, slopes, hessian = dense.satterthwaite(result.theta, sigma)
    gradients = np.array([np.diag(s) for s in slopes])
    want = 2 * np.diag(cov) ** 2 / np.einsum("ki,kl,li->i", gradients, 2 * np.linalg.inv(hessian), gradients)
    assert_allclose(result.with_df("satterthwaite").df_coef, want, rtol=1e-5)


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_frequency_weights_are_rows(method):
    data = data_with_weights(1)
    rows = data.loc[data.index.repeat(data.f)].reset_index(drop=True)
    a = smf.mixedlm(FORMULAS["crossed"], data, freq_weights="f", var_weights="w").fit(df=method)
    b = smf.mixedlm(FORMULAS["crossed"], rows, var_weights="w").fit(df=method)
    assert_allclose(a.df_coef, b.df_coef, rtol=1e-5)
    assert_allclose(a.bse, b.bse, rtol=1e-6)
    assert_allclose(a.wald_test({"C(c)": 0}).pvalue, b.wald_test({"C(c)": 0}).pvalue, rtol=1e-5)


@pytest.mark.parametrize("reml", [True, False])
def test_satterthwaite_from_differences_of_the_score(reml):
    """The same from the model's own likelihood in the user's theta and sigma^2, beta profiled out."""
    result = smf.mixedlm(FORMULAS["crossed"], data_with_weights(2), var_weights="w").fit(reml=reml)
    model, p = result.model, 4
    hessian = -2 * model.hessian(result.params_packed, reml=reml)
    inside = hessian[p:, p:]
    if not reml:
        inside = inside - hessian[p:, :p] @ np.linalg.solve(hessian[:p, :p], hessian[:p, p:])
    objective = model.objective(reml)

    def variances(at):
        state = objective.state(at[1:])
        return at[0] * np.diag(state.cov_beta()) / state.sigma2

    at = np.append(result.scale, result.theta)
    slopes = [(variances(at + s) - variances(at - s)) / 2e-4 for s in 1e-4 * np.eye(len(at))]
    want = 2 * variances(at) ** 2 / np.einsum("ki,kl,li->i", slopes, 2 * np.linalg.inv(inside), slopes)
    assert_allclose(result.with_df("satterthwaite").df_coef, want, rtol=1e-5)


# -- what changes nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_units_order_and_labels(method):
    data = data_with_weights(3)
    base = smf.mixedlm(FORMULAS["crossed"], data).fit(df=method)
    other = data.sample(frac=1.0, random_state=0)
    other["g"], other["h"] = [f"a{9 - v}" for v in other.g], other.h * -7
    other["x"], other["y"] = 1e4 * other.x - 5e6, 0.01 * other.y
    moved = smf.mixedlm(FORMULAS["crossed"], other).fit(df=method)
    assert_allclose(moved.df_coef.iloc[1:], base.df_coef.iloc[1:], rtol=1e-4)
    assert_allclose(moved.tvalues.iloc[1:], base.tvalues.iloc[1:], rtol=1e-4)
    assert_allclose(moved.wald_test({"C(c)": 0}).pvalue, base.wald_test({"C(c)": 0}).pvalue, rtol=1e-4)


def test_balanced_split_plot_has_the_textbook_degrees_of_freedom():
    """Oats: whole plots against Block:Variety (10), subplots against rows (45); F as in the analysis of variance."""
    data = pd.read_csv(ROOT / "tests" / "data" / "oats.csv")
    result = smf.mixedlm('Q("yield") ~ C(Variety, Sum) * C(nitro, Sum) + (1 | Block/Variety)', data).fit(df="kr")
    table = result.wald_test_terms().table
    assert_allclose(table["df_denom"], [5, 10, 45, 45], rtol=1e-5)
    # Yates (1935): 1.49, 37.69, 0.30 on 2, 3, 6.
    assert_allclose(table["statistic"].iloc[1:], [1.4853, 37.6857, 0.3028], atol=1e-3)


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_no_variance_between_groups_is_ordinary_least_squares(method):
    """Satterthwaite leaves a component of zero out: n - p. Kenward-Roger counts its uncertainty: fewer."""
    data = pd.read_csv(ROOT / "tests" / "data" / "dyestuff2.csv")
    result = smf.mixedlm("Yield ~ 1 + (1 | Batch)", data).fit(df=method)
    assert result.is_singular
    df = float(result.df_coef.iloc[0])
    assert df == pytest.approx(29.0) if method == "satterthwaite" else 3.0 < df < 29.0


# -- results ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study():
    return smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleepstudy.load_pandas().data).fit()


@pytest.fixture(scope="module")
def plots():
    data = data_with_weights(4)
    data["c"] = data.c.map({0: "a", 1: "b", 2: "c"})
    return smf.mixedlm("y ~ c + x + (x | g)", data).fit()


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_every_method_has_the_degrees_of_freedom(plots, method):
    result = plots.with_df(method)
    assert isinstance(result.reference, {"satterthwaite": Satterthwaite, "kenward-roger": KenwardRoger}[method])
    df, t = result.df_coef.to_numpy(), np.asarray(result.params / result.bse)
    assert (df > 0).all()
    assert (df != df[0]).any()
    assert list(result.df_coef.index) == list(result.params.index)
    assert_allclose(result.tvalues, t)
    assert_allclose(result.pvalues, 2 * stats.t.sf(np.abs(t), df))
    q = stats.t.ppf(0.95, df)
    assert_allclose(result.conf_int(alpha=0.1)[0], result.params - q * result.bse)
    one = result.t_test("x = 0")
    assert_allclose(one.df_denom, df[-1])
    assert_allclose(one.pvalue, result.pvalues["x"])
    assert_allclose(result.t_test(np.eye(4)).pvalue, result.pvalues)
    assert_allclose(result.wald_test({"x": 0}).fvalue, t[-1] ** 2)
    assert_allclose(result.wald_test({"x": 0}).pvalue, result.pvalues["x"])
    joint = [
        result.wald_test(h, scalar=True)
        for h in ("c[T.b] = 0, c[T.c] = 0", {"c": 0}, np.eye(4)[1:3], (np.eye(4)[1:3], np.zeros(2)))
    ]
    assert len({round(j.pvalue, 12) for j in joint}) == len({round(j.df_denom, 8) for j in joint}) == 1
    factor, denominator = result.reference.f_df(np.eye(4)[1:3])
    beta = result.params.to_numpy()[1:3]
    wald = beta @ np.linalg.solve(result.cov_params().to_numpy()[1:3, 1:3], beta) / 2
    assert_allclose([joint[0].fvalue, joint[0].df_denom], [factor * wald, denominator])
    assert_allclose(joint[0].pvalue, stats.f.sf(factor * wald, 2, denominator))
    assert result.wald_test({"c": 0}, use_f=False).distribution == "chi2"
    table = result.wald_test_terms().table
    assert list(table.columns) == ["statistic", "pvalue", "df_constraint", "df_denom"]
    assert_allclose(table.loc["c", ["df_denom", "pvalue"]].astype(float), [denominator, joint[0].pvalue])
    assert_allclose(table.loc["x", "df_denom"], df[-1])
    pairs = result.t_test_pairwise("c").result_frame
    assert_allclose(pairs["P>|t|"].iloc[0], result.pvalues["c[T.b]"])


def test_results_stay_as_they_are(study):
    before = study.bse.copy(), study.pvalues.copy(), study.use_t
    adjusted = study.with_df("KR")
    assert study.reference is None
    assert not study.use_t
    assert_allclose(study.bse, before[0])
    assert adjusted.params.equals(study.params)
    for method, other in (("satterthwaite", "Kenward_Roger"), ("kenward roger", "satterthwaite")):
        there = study.with_df(method).with_df(other)
        assert_allclose(there.bse, study.with_df(other).bse)
        assert_allclose(there.df_coef, study.with_df(other).df_coef)
    back = adjusted.with_df("normal")
    assert back.reference is None
    assert not back.use_t
    assert np.isinf(back.df_coef).all()
    assert_allclose(back.bse, before[0])
    assert_allclose(back.pvalues, before[1])
    assert back.cov_kwds == study.cov_kwds != adjusted.cov_kwds
    residual = adjusted.with_df("residual")
    assert residual.use_t
    assert residual.df_coef.tolist() == [178.0, 178.0]
    assert_allclose(residual.pvalues, study.model.fit(use_t=True).pvalues)


def test_options_of_fit_are_kept(study):
    data = sleepstudy.load_pandas().data
    result = study.model.fit(df="kr")
    assert_allclose(result.df_coef, study.with_df("kr").df_coef)
    assert result.refit(data.Reaction + 1.0).reference.name == "kenward-roger"
    assert result.update(". ~ . - Days").reference.name == "kenward-roger"
    assert study.refit(data.Reaction).reference is None
    for df, use_t in (("normal", False), ("residual", True)):
        plain = study.model.fit(df=df)
        assert (plain.use_t, plain.reference) == (use_t, None)
        assert plain.refit(data.Reaction).use_t is use_t


def test_pickling_and_remove_data(plots):
    result = plots.with_df("kr")
    again = pickle.loads(pickle.dumps(result))
    assert_allclose(again.df_coef, result.df_coef)
    assert_allclose(again.wald_test({"c": 0}).pvalue, result.wald_test({"c": 0}).pvalue)
    assert_allclose(again.with_df("satterthwaite").df_coef, plots.with_df("satterthwaite").df_coef)
    new = pd.DataFrame({"c": ["a", "b"], "x": [1.0, 2.0]})
    want = result.get_prediction(new, include_random=False).summary_frame()
    again.remove_data()
    assert_allclose(again.df_coef, result.df_coef)
    assert "Kenward-Roger" in str(again.summary())
    got = again.get_prediction(new, include_random=False).summary_frame()
    assert_allclose(got["mean_ci_lower"], want["mean_ci_lower"])
    assert_allclose(again.with_df("normal").bse, plots.bse)
    with pytest.raises(ValueError, match=r"df='satterthwaite' needs the cross-products.*remove_data\(\) has dropped"):
        again.with_df("satterthwaite")


def test_summaries(plots):
    result = plots.with_df("kenward-roger")
    text = str(result.summary())
    assert "Degrees of freedom:       Kenward-Roger" in text
    assert "Df Residuals" not in text
    line = next(x for x in text.split("\n") if x.startswith("Fixed effects"))
    assert line.split()[2:] == ["coef", "std", "err", "t", "df", "P>|t|", "[0.025", "0.975]"]
    row = next(x for x in text.split("\n") if x.startswith("x "))
    assert row.split()[4] == f"{result.df_coef['x']:.2f}"
    assert max(map(len, text.split("\n")[:-3])) == 78
    for written in (result.summary().as_html(), result.summary().as_latex(), result.summary().as_csv()):
        assert f"{result.df_coef['x']:.2f}" in written
    second = str(result.summary2())
    assert "Degrees of freedom:" in second
    assert f"{result.df_coef['x']:.2f}" in second
    assert "Satterthwaite" in str(plots.with_df("satterthwaite").summary())
    for plain in (plots, plots.with_df("residual")):
        assert " df " not in str(plain.summary())
    assert "Df Residuals:" in str(plots.with_df("residual").summary())
    assert f"({result.bse['x']:.4f})" in str(summary_col([result, plots]))
    none = smf.mixedlm("Reaction ~ 0 + (1 | Subject)", sleepstudy.load_pandas().data).fit(df="kr")
    assert "No fixed effects" in str(none.summary())


def test_predictions(plots):
    """Population means: t intervals with each row's own degrees of freedom; all others are normal."""
    result, new = plots.with_df("kr"), pd.DataFrame({"c": ["a", "c", "b"], "x": [0.0, 4.0, 9.0], "g": [1, 2, 3]})
    rows = np.array([[1, 0, 0, 0], [1, 0, 1, 4], [1, 1, 0, 9.0]])
    tests = result.t_test(rows)
    got = result.get_prediction(new, include_random=False).summary_frame(alpha=0.1)
    assert_allclose(got["mean"], tests.effect)
    assert_allclose(got["mean_se"], tests.sd.ravel())
    assert_allclose(got[["mean_ci_lower", "mean_ci_upper"]], tests.conf_int(alpha=0.1))
    half = (got["obs_ci_upper"] - got["obs_ci_lower"]) / 2
    plain = plots.get_prediction(new, include_random=False)
    se_obs = np.sqrt(plain.se_obs**2 - plain.se_mean**2 + got["mean_se"] ** 2)
    assert_allclose(half, stats.norm.ppf(0.95) * se_obs)
    for kind in ("satterthwaite", "kr"):
        conditional = plots.with_df(kind).get_prediction(new).summary_frame()
        assert_allclose(conditional, plots.get_prediction(new).summary_frame())
    assert_allclose(
        plots.with_df("residual").get_prediction(new).summary_frame(),
        plots.model.fit(use_t=True).get_prediction(new).summary_frame(),
    )


def test_without_fixed_effects():
    for method in ("satterthwaite", "kr"):
        result = smf.mixedlm("Reaction ~ 0 + (1 | Subject)", sleepstudy.load_pandas().data).fit(df=method)
        assert len(result.df_coef) == 0
        interval = result.get_prediction(include_random=False).conf_int()
        assert_allclose(interval, 0.0)


# -- limits --------------------------------------------------------------------------------------------------


def test_budget(plots):
    """Too many levels that depend on each other: Kenward-Roger is refused, before the fit; Satterthwaite is as good."""
    want = plots.with_df("satterthwaite").df_coef
    with mock.patch.object(df_module, "PAIR_BUDGET", 10):
        assert_allclose(plots.with_df("satterthwaite").df_coef, want, rtol=1e-5)
        for call in (lambda: plots.with_df("kr"), lambda: plots.model.fit(df="kr")):
            with pytest.raises(MemoryBudgetError, match=r"df='kr' needs Z'V\^-1 Z of 18 random effects.*the budget is"):
                call()
        with mock.patch("sm_multilevel.models.linear.estimate") as fit, pytest.raises(MemoryBudgetError):
            plots.model.fit(df="kr")
        fit.assert_not_called()


def test_satterthwaite_joint_tests_of_few_degrees_of_freedom():
    """nu <= 2 in any direction: 2, as lmerTest; all equal: that; all infinite: infinite."""

    def reference(*nu):
        size = len(nu)
        slopes = np.array([np.diag(row) for row in np.eye(size)])
        with np.errstate(divide="ignore"):
            return Satterthwaite(np.diag(1.0 + 0.1 * np.arange(size)), slopes, np.diag(2.0 / np.array(nu)))

    def f_df(*nu):
        made = reference(*nu)
        made.cov = np.diag(np.ones(len(nu)) + 1e-3 * np.arange(len(nu)))
        made.slopes = made.slopes * np.diag(made.cov)[:, None, None]
        return made.f_df(np.eye(len(nu)))

    assert f_df(5.0) == (1.0, pytest.approx(5.0))
    assert f_df(5.0, 5.0, 5.0) == (1.0, pytest.approx(5.0))
    total = 4 / 2 + 10 / 8
    assert f_df(4.0, 10.0) == (1.0, pytest.approx(2 * total / (total - 2)))
    assert f_df(1.9, 30.0) == (1.0, 2.0)
    with np.errstate(divide="ignore"):
        assert f_df(np.inf, np.inf)[1] == np.inf


def test_kenward_roger_at_two_degrees_of_freedom():
    """Two blocks, balanced: A has 2 denominator degrees of freedom, where the formula of the factor is 0 / 0."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame([(b, a, s) for s in range(3) for a in range(3) for b in range(2)], columns=["b", "A", "s"])
    data["y"] = 3 * rng.normal(size=6)[data.b * 3 + data.A] + 10 * data.b + rng.normal(size=len(data))
    plain = smf.mixedlm("y ~ C(A) + C(s) + (1 | b) + (1 | b:A)", data).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = plain.with_df("kr")
        for term, df in (("C(A)", 2.0), ("C(s)", 10.0)):
            test, wald = result.wald_test({term: 0}), plain.wald_test({term: 0}, use_f=True)
            assert_allclose([test.df_denom, test.fvalue], [df, wald.fvalue], rtol=1e-5)


def test_kenward_roger_says_where_it_breaks_down():
    """The factor of F is not that of a test of anything where d and m - 2 change sign apart from each other."""
    with pytest.warns(
        RuntimeWarning, match=r"approximation breaks down for a joint test of 2 constraints \(denominator"
    ):
        factor, m = df_module._scaled_f(2, 3.9, 2.05)
    assert np.isnan(factor) == np.isnan(m) or not 0.5 < factor < 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert df_module._scaled_f(3, 0.0, 0.0) == (1.0, np.inf)
        # The analysis of variance with s = 2 / m: A1 = q^2 s, A2 = q s.
        for m in (2.0, 3.0, 4.0, 7.5, 40.0):
            assert_allclose(df_module._scaled_f(3, 18.0 / m, 6.0 / m), (1.0, m), rtol=1e-8)


def test_components_that_cannot_be_told_apart():
    """Where the information is singular Kenward-Roger says so, and Satterthwaite does without."""
    with pytest.raises(ValueError, match="the data cannot tell some of them apart"):
        df_module._inverse(np.array([[2.0, 2.0], [2.0, 2.0]]))
    with pytest.raises(ValueError, match="the data cannot tell some of them apart"):
        df_module._inverse(np.array([[2.0, 0.0], [0.0, 0.0]]))
    assert_allclose(df_module._pseudo_inverse(np.array([[2.0, 2.0], [2.0, 2.0]])).sum(), 0.5)
    with pytest.warns(UserWarning, match="not at a minimum"):
        df_module._pseudo_inverse(np.diag([1.0, -0.5]))


def test_other_models_refuse_by_name():
    binomial = smf.melogit("y ~ period + (1 | herd)", cbpp_rows())
    ordinal = smf.meologit("rating ~ temp + (1 | judge)", wine.load_pandas().data)
    for model in (binomial, ordinal):
        result = model.fit(df="normal")
        assert result.with_df("residual").use_t
        assert not result.with_df("normal").use_t
        assert model.fit(df="residual").use_t
        for method in ("satterthwaite", "kenward-roger", "KR"):
            for call in (result.with_df, lambda m, model=model: model.fit(df=m)):
                with pytest.raises(ValueError, match=rf"df='{method}' is for linear mixed models.*bootstrap\(\)"):
                    call(method)
        with pytest.raises(ValueError, match="df='t' is not known"):
            model.fit(df="t")


def cbpp_rows():
    data = cbpp.load_pandas().data
    return data.assign(y=(data.incidence > 1).astype(int))


BAD = [
    ({"df": "kr2"}, "df='kr2' is not known. Choose 'satterthwaite', 'kenward-roger', 'residual' or 'normal'"),
    ({"df": ""}, "df='' is not known"),
    ({"df": 12}, "df=12 is not known"),
    ({"df": ["kr"]}, "is not known"),
    ({"df": True}, "df=True is not known"),
    ({"df": "kr", "reml": False}, "df='kr' is defined for restricted maximum likelihood.*reml=True"),
    ({"df": "satterthwaite", "use_t": False}, "df='satterthwaite' and use_t=False contradict"),
    ({"df": "normal", "use_t": True}, "df='normal' and use_t=True contradict"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_of_fit(study, options, message):
    with mock.patch("sm_multilevel.models.linear.estimate") as fit, pytest.raises(ValueError, match=message):
        study.model.fit(**options)
    fit.assert_not_called()


def test_bad_options_of_with_df(study):
    for bad in ("kr2", 12, [], str):
        with pytest.raises(ValueError, match=r"is not known\. Choose 'satterthwaite'"):
            study.with_df(bad)
    with pytest.raises(ValueError, match="df=None is not known"):
        study.with_df(None)
    with pytest.raises(ValueError, match="reml=True, or df='satterthwaite'"):
        study.model.fit(reml=False).with_df("kenward-roger")
    assert_allclose(study.model.fit(reml=False).with_df("satterthwaite").df_coef["Days"], 162.0, rtol=1e-6)


def test_robust_covariance_refuses(study):
    robust = study.derived(cov=2 * np.eye(2), cov_type="cluster")
    for method in ("satterthwaite", "kr"):
        with pytest.raises(ValueError, match=rf"df='{method}' belongs to the model-based .* cov_type='cluster'"):
            robust.with_df(method)
    kept = robust.with_df("residual")
    assert_allclose(kept.bse, np.sqrt(2.0))
    assert kept.use_t
    assert not kept.with_df("normal").use_t


def test_crossed_and_singular_fits_of_bundled_data():
    data = pastes.load_pandas().data
    for method in ("satterthwaite", "kr"):
        nested = smf.mixedlm("strength ~ 1 + (1 | batch/cask)", data).fit(df=method)
        assert_allclose(nested.df_coef, 9.0, rtol=1e-4)  # ten batches
