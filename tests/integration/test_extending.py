"""The classes of docs/extending.md: the page runs as written, and they pass the package's own checks.

Figures of glmmTMB are of version 1.1.5 with R 4.2.2:
glmmTMB(response / 100 ~ temp + contact + (1 | judge), ordinal::wine, family = beta_family()) and
glmmTMB(Weight ~ Time + ar1(0 + factor(Time) | Pig), dietox, REML = ...).
"""

import contextlib
import io
import pickle
import re
import sys
import types
from pathlib import Path

import matplotlib as mpl
import numpy as np
import oracle_glmm
import pandas as pd
import pytest
import unit.test_covariance as structure_checks
import unit.test_families as family_checks
import unit.test_marginal as marginal_checks
from numpy.testing import assert_allclose
from scipy import stats

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.covariance import STRUCTURES
from sm_multilevel.datasets import dietox, wine
from sm_multilevel.families.response import ResponseData

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
SCORES = "I(response / 100) ~ temp + contact + (1 | judge)"
WEIGHTS = "Weight ~ Time + (0 + C(Time) | Pig)"


@pytest.fixture(scope="module")
def page():
    """The names that the page's code makes, after all of it has run."""
    mpl.use("Agg")
    module = types.ModuleType("extending")
    sys.modules["extending"] = module  # so that its classes can be pickled, as those of a user's own module
    space = vars(module)
    blocks = re.findall(r"```python\n(.*?)```(?:\s*```text\n(.*?)```)?", PAGE.read_text(), flags=re.DOTALL)
    space["printed"] = []
    for code, expected in blocks:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, PAGE.name, "exec"), space)
        space["printed"].append((output.getvalue().rstrip(), expected.rstrip()))
    yield space
    del sys.modules["extending"]


@pytest.fixture(scope="module")
def bottles():
    return wine.load_pandas().data


def test_the_page_prints_what_it_says(page):
    assert len(page["printed"]) > 8
    for printed, expected in page["printed"]:
        assert printed == expected


# -- the family ---------------------------------------------------------------------------


def beta_cases(page):
    family = page["Beta"]()

    def maker(var=False, freq=False):
        def make(rng, eta):
            n = np.asarray(eta).shape[-1]
            weights = (rng.uniform(0.5, 2, n) if var else None, rng.integers(1, 4, n) * 1.0 if freq else None)
            return ResponseData(family.simulate(None, eta, [0.6], rng), None, *weights)

        return make

    return [("Beta", family, maker()), ("Beta-weighted", family, maker(var=True, freq=True))]


def test_family_passes_the_checks_of_built_in_ones(page):
    plain, weighted = beta_cases(page)
    for case in (plain, weighted):
        family_checks.test_derivatives_by_eta(case)
        family_checks.test_derivatives_by_psi(case)
        family_checks.test_jacobian_and_internal(case)
        family_checks.test_nodes_are_rows_one_by_one(case)
        family_checks.test_take(case, slice(5, 20))
        family_checks.test_take(case, np.array([3, 1, 30]))
        family_checks.test_start(case)
    family_checks.test_simulate(plain)


def test_expected_information_is_the_variance_of_the_score(page):
    family, eta = page["Beta"](), np.linspace(-2, 2, 9)
    many = np.tile(eta, 5000)
    data = ResponseData(family.simulate(None, many, [6.0], np.random.default_rng(4)))
    local = family.bind(data).at(many, np.log([6.0]))
    square = (local.score**2).reshape(5000, 9)
    z = (square.mean(axis=0) - local.expected_info[:9]) / (square.std(axis=0) / np.sqrt(5000))
    assert np.abs(z).max() < 4


@pytest.mark.parametrize(("structure", "points"), [("slope", None), ("crossed", None), ("intercept", 3), ("nested", 3)])
def test_gradient_of_the_marginal_likelihood(page, monkeypatch, structure, points):
    for label, family, make in beta_cases(page):
        monkeypatch.setitem(marginal_checks.FAMILIES, label, (family, make))
        rng, family, response, x, terms = marginal_checks.prepared(label, structure)
        marginal_checks.check_gradient(marginal_checks.objective(family, response, x, terms, integrate=points), rng)


def test_values_are_those_of_scipy(page):
    family, eta = page["Beta"](), np.linspace(-4, 4, 9)
    dist = stats.beta(4 / (1 + np.exp(-eta)), 4 / (1 + np.exp(eta)))
    y = np.linspace(0.02, 0.98, 9)
    data = ResponseData(y)
    assert_allclose(family.bind(data).at(eta, np.log([4.0])).logf, dist.logpdf(y), rtol=1e-10)
    assert_allclose(family.cdf(data, eta, [4.0])[1], dist.cdf(y), rtol=1e-10)
    assert_allclose(family.variance(eta, [4.0]), dist.var(), rtol=1e-10)
    assert_allclose(family.mean(eta, [4.0]), dist.mean(), rtol=1e-10)
    deviance = family.unit_deviance(data, eta, np.array([4.0]))
    grid = np.linspace(-12, 12, 4001)[:, None]
    best = stats.beta(4 / (1 + np.exp(-grid)), 4 / (1 + np.exp(grid))).logpdf(y).max(axis=0)
    assert_allclose(deviance, 2 * (best - dist.logpdf(y)), atol=1e-4)


def density(y, eta, psi):
    """log f by SciPy, its derivatives by differences: nothing of ours."""

    def logf(e):
        return stats.beta.logpdf(np.reshape(y, (-1,) + (1,) * (np.ndim(e) - 1)), psi[0] / (1 + np.exp(-e)),
                                 psi[0] / (1 + np.exp(e)))  # fmt: skip

    h = 1e-3
    f = {k: logf(eta + k * h) for k in (-2, -1, 0, 1, 2)}
    first = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
    return f[0], first, (16 * (f[1] + f[-1]) - (f[2] + f[-2]) - 30 * f[0]) / (12 * h * h)


def test_fit_is_that_of_brute_force_and_glmmtmb(page, bottles):
    model = smf.meglm(SCORES, bottles, family=page["Beta"]())
    res = model.fit()
    assert res.converged
    assert res.llf == pytest.approx(43.7061721056, abs=1e-7)
    assert_allclose(res.params, [-0.8872881260, 0.9802324621, 0.5768207336, 13.92550132], rtol=3e-5)
    assert_allclose(res.bse[:3], [0.1615530043, 0.1283919630, 0.1276958771], rtol=2e-4)
    assert res.cov_re.iloc[0, 0] == pytest.approx(0.1145792056, rel=1e-4)

    y, x = bottles["response"].to_numpy() / 100, model.exog
    codes = pd.factorize(bottles["judge"])[0]
    terms = [(codes, np.ones((len(y), 1)), res.cov_re.to_numpy())]
    args = (y, x, res.fe_params, None, terms, density, [res.params["precision"]])
    assert res.llf == pytest.approx(oracle_glmm.dense_laplace(*args), abs=1e-6)
    exact = model.fit(nAGQ="auto")
    terms = [(codes, np.ones((len(y), 1)), exact.cov_re.to_numpy())]
    args = (y, x, exact.fe_params, None, terms, density, [exact.params["precision"]])
    assert exact.llf == pytest.approx(oracle_glmm.integrate(*args), abs=2e-5)


def test_family_in_crossed_weighted_and_singular_fits(page, bottles):
    family = page["Beta"]()
    crossed = smf.meglm(SCORES + " + (1 | bottle)", bottles, family=family).fit()
    assert crossed.converged
    twice = smf.meglm(SCORES, pd.concat([bottles, bottles]), family=family).fit()
    weighted = smf.meglm(SCORES, bottles.assign(n=2), family=family, freq_weights="n").fit()
    assert weighted.llf == pytest.approx(twice.llf, abs=1e-8)
    assert_allclose(weighted.params, twice.params, rtol=1e-5)
    assert_allclose(weighted.bse, twice.bse, rtol=1e-4)
    level = np.log(bottles["response"] / (100 - bottles["response"]))
    alike = level - level.groupby(bottles["judge"], observed=True).transform("mean")
    singular = smf.meglm(SCORES, bottles.assign(response=100 / (1 + np.exp(-alike))), family=family).fit()
    assert singular.converged
    assert singular.is_singular


def test_tools_work_with_the_family(page, bottles):
    res = smf.meglm(SCORES, bottles, family=page["Beta"]()).fit()
    assert list(res.odds_ratios().index) == ["Intercept", "temp[T.warm]", "contact[T.yes]"]
    frame = res.get_prediction(bottles.head(4)).summary_frame()
    assert (frame["obs_ci_lower"] > 0).all()
    assert (frame["obs_ci_upper"] < 1).all()
    marginal = res.predict(bottles.head(1), include_random="marginal").iloc[0]
    draws = res.fe_params.iloc[0] + np.sqrt(res.cov_re.iloc[0, 0]) * np.random.default_rng(0).normal(size=400_000)
    assert marginal == pytest.approx(np.mean(1 / (1 + np.exp(-draws))), abs=5e-4)
    for kind in ("response", "pearson", "deviance", "working", "quantile"):
        assert np.isfinite(res.residuals(kind)).all()
    smaller = smf.meglm("I(response / 100) ~ temp + (1 | judge)", bottles, family=page["Beta"]()).fit()
    assert smm.lrtest(smaller, res).p_value == pytest.approx(stats.chi2.sf(2 * (res.llf - smaller.llf), 1))
    assert res.get_robustcov_results("robust").bse["precision"] > 0
    assert res.bootstrap(4, seed=1).estimates.shape[0] == 4
    assert res.profile("precision").conf_int().loc["precision", "lower"] > 5
    again = pickle.loads(pickle.dumps(res))
    assert again.llf == res.llf
    assert again.family == res.family


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (100.0, r"has values that are not between 0 and 1: row 3 \(counted from 0\) is 1\. Leave these rows out"),
        (0.0, r"row 3 \(counted from 0\) is 0\."),
        (-5.0, r"row 3 \(counted from 0\) is -0\.05\."),
    ],
)
def test_family_refuses_by_name(page, bottles, value, message):
    bad = bottles.assign(response=bottles["response"].astype(float))
    bad.loc[3, "response"] = value
    with pytest.raises(ValueError, match=message):
        smf.meglm(SCORES, bad, family=page["Beta"]()).fit()


def test_family_takes_no_trials_and_no_link(page, bottles):
    with pytest.raises(ValueError, match="has no trials: n_trials= is for a binomial response"):
        smf.meglm(SCORES, bottles.assign(n=3), family=page["Beta"](), n_trials="n").fit()
    with pytest.raises(ValueError, match="has its link already"):
        smf.meglm(SCORES, bottles, family=page["Beta"](), link="probit").fit()


# -- the structure ------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.6, 0.95])
def test_structure_keeps_the_contract(page, monkeypatch, rho):
    monkeypatch.setitem(STRUCTURES, "ar1", lambda: page["AR1"](rho))
    for check in (
        structure_checks.test_lambda_is_what_the_documentation_says,
        structure_checks.test_from_covariance_and_back,
        structure_checks.test_span_holds_every_covariance_and_no_more,
        structure_checks.test_canonical_has_the_same_covariance_and_no_negative_scale,
        structure_checks.test_transform,
        structure_checks.test_escape_finds_a_way_down_if_there_is_one,
    ):
        check(name="ar1")
    structure_checks.test_escape_from_nothing_finds_a_way_down("ar1")


def test_structures_of_other_options_are_others(page):
    ar1 = page["AR1"]
    assert ar1(0.5) == ar1(0.5)
    assert ar1(0.5) != ar1(0.6)
    assert repr(ar1(0.5)) == "AR1(rho=0.5)"
    assert len({ar1(0.5), ar1(0.5), ar1(0.6)}) == 2


@pytest.mark.parametrize(
    ("reml", "rho", "llf", "variance", "residual"),
    [
        (False, 0.9428075806, -2066.54316939, 49.3140351920, 0.2601235372),
        (True, 0.9433900012, -2067.63165221, 49.9505077263, 0.2558164386),
    ],
)
def test_ar1_is_that_of_glmmtmb(page, reml, rho, llf, variance, residual):
    res = smf.mixedlm(WEIGHTS, dietox.load_pandas().data, covariance=page["AR1"](rho)).fit(reml=reml)
    assert res.converged
    assert res.llf == pytest.approx(llf, abs=2e-6)
    assert res.cov_re.iloc[0, 0] == pytest.approx(variance, rel=1e-4)
    assert res.scale == pytest.approx(residual, rel=2e-3)


def test_ar1_likelihood_by_dense_matrices(page):
    """One multivariate normal density for each pig, weeks that are missing included."""
    pigs = dietox.load_pandas().data.iloc[:200].assign(Pig=lambda d: d["Pig"].astype(int))
    res = smf.mixedlm(WEIGHTS, pigs, covariance=page["AR1"](0.94)).fit(reml=False)
    total, variance = 0.0, res.cov_re.iloc[0, 0]
    weeks = pigs["Time"].rank(method="dense").astype(int)
    for _, rows in pigs.groupby("Pig"):
        week = weeks[rows.index].to_numpy()
        v = variance * 0.94 ** np.abs(np.subtract.outer(week, week)) + res.scale * np.eye(len(week))
        mean = res.fe_params["Intercept"] + res.fe_params["Time"] * rows["Time"].to_numpy()
        total += stats.multivariate_normal(mean, v).logpdf(rows["Weight"])
    assert res.llf == pytest.approx(total, abs=1e-8)


def test_ar1_in_singular_generalised_and_unsuitable_models(page, bottles):
    rng = np.random.default_rng(5)
    d = pd.DataFrame({"g": np.repeat(np.arange(30), 4), "t": np.tile(np.arange(4), 30)})
    d["y"] = rng.normal(size=120)
    d["y"] -= d.groupby("g")["y"].transform("mean")
    singular = smf.mixedlm("y ~ 1 + (0 + C(t) | g)", d, covariance=page["AR1"](0.9)).fit()
    assert singular.converged
    assert singular.is_singular
    d["count"] = rng.poisson(np.exp(1 + np.repeat(rng.normal(size=30), 4)))
    counts = smf.mepoisson("count ~ 1 + (0 + C(t) | g)", d, covariance=page["AR1"](0.9)).fit()
    assert counts.converged
    assert counts.cov_re.iloc[0, 1] / counts.cov_re.iloc[0, 0] == pytest.approx(0.9)
    other = smf.mepoisson("count ~ 1 + (0 + C(t) | g)", d, covariance=page["AR1"](0.5)).fit()
    with pytest.raises(ValueError, match="nested"):
        smm.lrtest(other, counts)
