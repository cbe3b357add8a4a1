"""Profile likelihoods: against R, brute force, invariances, at boundaries, and where they are refused.

Tolerance of the issue: 1e-3 of a standard error. R's limits are solved for (tests/reference/inference_profile.R).
lme4's own are read off a spline, so that they are compared at that tolerance, and zeta at lme4's own points.
"""

import copy
import functools
import json
import pickle
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from oracle import DenseMixedModel, Term
from oracle_glmm import binomial as binomial_density
from oracle_glmm import dense_laplace, gamma, nb2, ordinal, quadrature
from scipy import optimize, stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, pastes, penicillin, sleepstudy, wine
from sm_multilevel.postestimation.profiling import profile as profile_module
from sm_multilevel.postestimation.profiling.profile import (
    component_intervals,
    function_bound,
    profile_bound,
)
from sm_multilevel.postestimation.profiling.profile_path import Path as ProfilePath
from sm_multilevel.postestimation.profiling.profiled import profile_problem
from sm_multilevel.postestimation.profiling.targets import ComponentTarget

matplotlib.use("Agg")
ROOT = Path(__file__).parents[2]
REFERENCE = json.loads((ROOT / "tests" / "reference" / "inference_profile.json").read_text())
FITS = {fit["id"]: fit for fit in REFERENCE["fits"]}
Z95 = stats.norm.ppf(0.975)


def inner(result):
    return getattr(result, "_results", result)


@functools.cache
def fitted(name):
    fit = FITS[name]
    entry = REFERENCE["data"][fit["data"]]
    data = pd.read_csv(ROOT / entry["file"])
    for column, levels in entry.get("factors", {}).items():
        data[column] = pd.Categorical(data[column], levels or sorted(data[column].unique()))
    if fit.get("family"):
        return smf.meglm(fit["formula"], data, family=fit["family"], n_trials=fit.get("trials")).fit()
    return smf.mixedlm(fit["formula"], data).fit(reml=False)


def our_name(parameter):
    """R's name of a parameter in our words."""
    if parameter["python_name"] is not None:
        return parameter["python_name"]
    if parameter["kind"] == "sigma":
        return "sd(Residual)"
    columns, group = parameter["long_name"].split("_", 1)[1].split("|")
    columns = columns.replace("(Intercept)", "Intercept")
    if parameter["kind"] == "cor":
        second, first = columns.split(".", 1)
        return f"cor({first},{second}|{group})"
    return f"sd({columns}|{group})"


CASES = [(name, k) for name, fit in FITS.items() for k in range(len(fit["parameters"]))]


@pytest.mark.parametrize(("name", "k"), CASES, ids=[f"{n}-{FITS[n]['parameters'][k]['name']}" for n, k in CASES])
def test_intervals_are_those_of_r(name, k):
    parameter = FITS[name]["parameters"][k]
    for level in ("0.95", "0.90"):
        ours = profile_bound(inner(fitted(name)), our_name(parameter), 1 - float(level))
        limits = np.array(parameter["limits"][level])
        width = np.ptp(parameter["limits"]["0.95"])
        assert_allclose([ours.lower, ours.upper], limits, rtol=0, atol=2e-7 * width)
        # lme4's spline: 1e-3 of a standard error is 2.5e-4 of the width.
        allowed = max(2.5e-4, 1.1 * parameter["lme4_off"]) * width
        assert_allclose([ours.lower, ours.upper], parameter["lme4"][level], rtol=0, atol=allowed)


@pytest.mark.parametrize("name", FITS)
def test_zeta_at_the_points_of_lme4(name):
    problem = profile_problem(inner(fitted(name)))
    for parameter in FITS[name]["parameters"]:
        path = ProfilePath(problem, problem.target(our_name(parameter)))
        for point in parameter["points"]:
            at_limit = point["value"] <= path.target.lower
            t = path.target.t_lower if at_limit else path.target.to_t(point["value"])
            assert path.zeta(path.at(t)) == pytest.approx(point["zeta"], abs=2e-6)


def test_ends_are_solved_for():
    """zeta is the quantile there, by a new search from the optimum alone."""
    result = inner(fitted("sleepstudy_slope"))
    problem = profile_problem(result)
    limits = result.profile().conf_int()
    for name, (lower, upper) in zip(limits.index, limits.to_numpy()):
        for value, zeta in ((lower, -Z95), (upper, Z95)):
            path = ProfilePath(problem, problem.target(name))
            assert path.zeta(path.at(path.target.to_t(value))) == pytest.approx(zeta, abs=1e-8)


# -- brute force --------------------------------------------------------------------------------


def brute_zeta(deviance, start, place, value, first=None):
    """zeta at a value of one element of a vector of natural parameters, the others minimised numerically."""
    # Far below the deviances that the tests tell apart: 2 zeta times their tolerance of zeta, 5e-5.
    options = {"maxiter": 20000, "maxfev": 20000, "xatol": 1e-6, "fatol": 1e-9, "adaptive": True}

    def least(function, x):
        x = optimize.minimize(function, x, method="BFGS", options={"gtol": 1e-6}).x
        return optimize.minimize(function, x, method="Nelder-Mead", options=options).fun

    others = np.delete(np.asarray(start if first is None else first, float), place)
    held = least(lambda x: deviance(np.insert(x, place, value)), others)
    return np.sign(value - start[place]) * np.sqrt(max(held - deviance(np.asarray(start, float)), 0.0))


def small(seed=1, groups=6, size=5):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), size)
    x = np.tile(np.linspace(-1, 1, size), groups)
    b = rng.standard_normal((groups, 2)) @ np.array([[1.2, 0.3], [0.0, 0.9]])
    y = 1 + 0.5 * x + b[g, 0] + b[g, 1] * x + 0.7 * rng.standard_normal(len(g))
    return pd.DataFrame({"g": g, "x": x, "y": y})


def covariance(structure, parts):
    if structure == "unstructured":
        a, b, r = parts
        return np.array([[a * a, r * a * b], [r * a * b, b * b]])
    if structure == "diagonal":
        return np.diag(np.square(parts))
    if structure == "identity":
        return parts[0] ** 2 * np.eye(2)
    return parts[0] ** 2 * np.array([[1, parts[1]], [parts[1], 1]])


STRUCTURES = {
    "unstructured": ["sd(Intercept|g)", "sd(x|g)", "cor(Intercept,x|g)"],
    "diagonal": ["sd(Intercept|g)", "sd(x|g)"],
    "identity": ["sd(Intercept|g)"],
    "exchangeable": ["sd(Intercept|g)", "cor(Intercept,x|g)"],
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_linear_models_by_brute_force(structure):
    df = small()
    result = inner(smf.mixedlm("y ~ x + (x | g)", df, covariance=structure).fit(reml=False))
    x = np.column_stack([np.ones(len(df)), df["x"]])
    dense = DenseMixedModel(df["y"], x, [Term(df["g"].to_numpy(), x)], reml=False, dtype=float)
    names = ["Intercept", "x", *STRUCTURES[structure], "sd(Residual)"]
    z, y = x[:5], df["y"].to_numpy()  # the groups have the same rows, so that V is six times the same block

    def deviance(v):
        g, sigma = covariance(structure, v[2:-1]), v[-1]
        if sigma <= 0.01 or np.linalg.eigvalsh(g)[0] < 0:
            return 1e6
        block = z @ g @ z.T + sigma**2 * np.eye(5)
        r = (y - x @ v[:2]).reshape(6, 5)
        return 30 * np.log(2 * np.pi) + 6 * np.linalg.slogdet(block)[1] + np.sum(r.T * np.linalg.solve(block, r.T))

    problem = profile_problem(result)
    best = np.array([problem.estimate(name) for name in names])
    half = np.linalg.cholesky(covariance(structure, best[2:-1]) + 1e-14 * np.eye(2)) / best[-1]
    assert deviance(best) == pytest.approx(float(-2 * dense.loglike(best[:2], best[-1] ** 2, [half])), abs=1e-8)
    for place, name in enumerate(names):
        path = ProfilePath(problem, problem.target(name))
        for side in (-1, 1):
            end = path.end(side, 1.3)
            if not end.note:
                assert brute_zeta(deviance, best, place, end.value) == pytest.approx(1.3 * side, abs=2e-5), name


def glmm_cases():
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(8), 6)
    x = rng.standard_normal(48)
    eta = 0.4 + 0.5 * x + 0.8 * rng.standard_normal(8)[g]
    df = pd.DataFrame({"g": g, "x": x})
    df["count"] = rng.negative_binomial(2.0, 2.0 / (2.0 + np.exp(eta)))
    df["size"] = rng.gamma(2.0, np.exp(eta) / 2.0)
    df["grade"] = pd.Categorical(np.digitize(eta + rng.logistic(size=48), [-0.5, 1.5]), ordered=True)
    df["win"] = rng.binomial(1, 1 / (1 + np.exp(-eta)))
    ones = np.column_stack([np.ones(48), x])
    yield "alpha", smf.menbreg("count ~ x + (1 | g)", df).fit(), df["count"], ones, nb2, {}
    yield "dispersion", smf.megamma("size ~ x + (1 | g)", df).fit(), df["size"], ones, gamma, {}
    yield (
        "thresholds",
        smf.meologit("grade ~ x + (1 | g)", df).fit(),
        df["grade"].cat.codes,
        ones[:, 1:],
        ordinal("logit"),
        {},
    )
    yield (
        "nAGQ=7",
        smf.melogit("win ~ x + (1 | g)", df).fit(nAGQ=7),
        df["win"],
        ones,
        binomial_density("logit"),
        {"points": 7},
    )


GENERALISED = {case[0]: case for case in glmm_cases()}


@pytest.mark.parametrize("case", GENERALISED.values(), ids=lambda case: case[0])
def test_generalised_models_by_brute_force(case):
    _, result, y, x, density, options = case
    codes, column = np.repeat(np.arange(8), 6), np.ones((48, 1))
    evaluate = quadrature if options else dense_laplace
    p = x.shape[1]

    def deviance(v):
        psi, sd = v[p:-1], v[-1]
        if sd < 0 or (len(psi) == 1 and psi[0] <= 0) or np.any(np.diff(psi) <= 0):
            return 1e6
        return -2 * evaluate(y.to_numpy(), x, v[:p], None, [(codes, column, [[sd**2]])], density, psi, **options)

    problem = profile_problem(inner(result))
    best = np.array([problem.estimate(name) for name in problem.names])
    assert deviance(best) == pytest.approx(problem.deviance, abs=1e-7)
    for place, name in enumerate(problem.names):
        path = ProfilePath(problem, problem.target(name))
        side, end = next((s, e) for s in (-1, 1) if not (e := path.end(s, 1.2)).note)
        near = path.points[0 if side < 0 else -1].estimates  # the numerical search starts near
        assert brute_zeta(deviance, best, place, end.value, near) == pytest.approx(1.2 * side, abs=1e-4), name


def test_a_function_of_the_components_by_brute_force():
    """An ICC: its profile is that of theta in a model with one intercept."""
    df = sleepstudy.load_pandas().data
    result = inner(smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit(reml=False))
    found = function_bound(result, lambda v, params: v[0] / (v[0] + v[1]), 0.05, name="icc", lower=0.0, upper=1.0)
    objective = result.model.objective(reml=False)

    def zeta2(icc):
        return objective([np.sqrt(icc / (1 - icc))]) - result.deviance - Z95**2

    estimate = result.theta[0] ** 2 / (1 + result.theta[0] ** 2)
    assert found.lower == pytest.approx(optimize.brentq(zeta2, 1e-6, estimate, xtol=1e-13), abs=1e-8)
    assert found.upper == pytest.approx(optimize.brentq(zeta2, estimate, 1 - 1e-9, xtol=1e-13), abs=1e-8)


@pytest.mark.parametrize("scale", [1e-5, 1.0])
def test_a_function_at_its_limit(scale):
    """The ICC of a variance of zero ends where the standard deviation's profile does."""
    df = pd.read_csv(ROOT / "tests/data/dyestuff2.csv").assign(Yield=lambda d: scale * d["Yield"])
    result = inner(smf.mixedlm("Yield ~ 1 + (1 | Batch)", df).fit(reml=False))
    found = function_bound(result, lambda v, params: v[0] / (v[0] + v[1]), 0.05, name="icc", lower=0.0, upper=1.0)
    assert found.lower == 0.0
    objective = result.model.objective(reml=False)
    end = optimize.brentq(lambda theta: objective([theta]) - result.deviance - Z95**2, 1e-3, 3.0, xtol=1e-13)
    assert found.upper == pytest.approx(end**2 / (1 + end**2), abs=1e-8)


# -- what must not matter ---------------------------------------------------------------------------


def test_units_origins_and_order_do_not_matter():
    df = small(2, 10, 6)
    df["w"] = np.random.default_rng(0).standard_normal(len(df))
    plain = smf.mixedlm("y ~ x + w + (x | g)", df).fit().profile().conf_int()
    moved = df.assign(x=df["x"], w=1000 * df["w"] + 1e5, y=10 * df["y"]).sample(frac=1, random_state=1)
    other = smf.mixedlm("y ~ x + w + (x | g)", moved).fit().profile().conf_int()
    assert_allclose(other.loc["w"], plain.loc["w"] / 100, rtol=1e-6)
    assert_allclose(other.loc["x"], plain.loc["x"] * 10, rtol=1e-6)
    for name in ("sd(Intercept|g)", "sd(x|g)", "sd(Residual)"):
        assert_allclose(other.loc[name], plain.loc[name] * 10, rtol=1e-6)
    assert_allclose(other.loc["cor(Intercept,x|g)"], plain.loc["cor(Intercept,x|g)"], atol=1e-6)


@pytest.fixture(scope="module")
def plain_boundary():
    plain = smf.mixedlm("y ~ x + (x | g)", singular_correlation()).fit().profile()
    return plain, plain.conf_int()


@pytest.mark.parametrize("scale", [1e-7, 1e7])
def test_units_of_the_response_do_not_matter_at_the_boundary(scale, plain_boundary):
    df = singular_correlation()
    plain, limits = plain_boundary
    other = smf.mixedlm("y ~ x + (x | g)", df.assign(y=scale * df["y"])).fit().profile()
    assert other.notes == plain.notes
    factor = [1.0 if name.startswith("cor") else scale for name in plain.names]
    assert_allclose(other.conf_int().div(factor, axis=0), limits, rtol=1e-6)


def test_frequency_weights_are_rows():
    df = sleepstudy.load_pandas().data.assign(f=lambda d: 1 + np.arange(len(d)) % 3)
    whole = df.loc[df.index.repeat(df["f"])].reset_index(drop=True)
    a = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df, freq_weights="f").fit().profile().conf_int()
    b = smf.mixedlm("Reaction ~ Days + (Days | Subject)", whole).fit().profile().conf_int()
    assert_allclose(a, b, rtol=1e-6)


def test_size_of_precision_weights_scales_the_residual_only():
    df = sleepstudy.load_pandas().data
    df["w"] = np.random.default_rng(0).uniform(0.5, 2.0, len(df))
    a = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df, var_weights="w").fit().profile().conf_int()
    b = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df.assign(w=4 * df["w"]), var_weights="w").fit()
    b = b.profile().conf_int()
    assert_allclose(b.loc["sd(Residual)"], 2 * a.loc["sd(Residual)"], rtol=1e-6)
    rest = [name for name in a.index if name != "sd(Residual)"]
    assert_allclose(b.loc[rest], a.loc[rest], rtol=1e-6)


def test_zeta_is_the_wald_statistic_near_the_optimum():
    result = inner(smf.melogit("incidence ~ period + (1 | herd)", cbpp.load_pandas().data, n_trials="size").fit())
    problem = profile_problem(result)
    for name, estimate, se in zip(problem.names, result.params, result.bse):
        path = ProfilePath(problem, problem.target(name))
        for side in (-1, 1):
            assert path.zeta(path.at(estimate + 0.01 * side * se)) == pytest.approx(0.01 * side, rel=5e-3)


def test_crossed_and_reml():
    """A REML fit is profiled with the ML likelihood, and says so."""
    df = penicillin.load_pandas().data
    reml = smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", df).fit()
    ml = smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", df).fit(reml=False)
    a, b = reml.profile(), ml.profile()
    assert (a.is_refit, b.is_refit) == (True, False)
    assert_allclose(a.conf_int(), b.conf_int(), rtol=1e-6)
    assert_allclose(a.estimate["sd(plate)" if "sd(plate)" in a.estimate else "sd(Intercept|plate)"],
                    ml.varcorr()["sdcor"][0], rtol=1e-6)  # fmt: skip
    assert_allclose(reml.conf_int(method="profile"), ml.conf_int(method="profile"), rtol=1e-7)


def test_conf_int_method_profile():
    result = GENERALISED["alpha"][1]
    by_profile = result.conf_int(method="profile")
    assert list(by_profile.index) == list(result.params.index)
    assert_allclose(by_profile, result.profile(["beta", "psi"]).conf_int(), rtol=1e-9)
    alone = result.conf_int(0.2, method="profile").iloc[[2]]
    assert_allclose(alone, result.profile("alpha").conf_int(0.2), rtol=1e-9)
    assert_allclose(result.conf_int(method="profile", n_jobs=2), by_profile, rtol=1e-9)
    wald = result.conf_int()
    assert not np.allclose(wald, by_profile, rtol=1e-3)


def test_component_intervals_follow_varcorr():
    result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit(reml=False)
    found = component_intervals(inner(result), 0.05)
    table = result.profile("components").conf_int()
    assert len(found.notes) == len(result.varcorr()) == 4
    assert_allclose(found.sdcor, table.to_numpy(), rtol=1e-9)
    assert_allclose(found.vcov[[0, 1, 3]], found.sdcor[[0, 1, 3]] ** 2)
    covariance_row = result.varcorr()["vcov"][2]
    assert found.vcov[2, 0] < covariance_row < found.vcov[2, 1]


def test_one_parameter_of_many_names_is_profiled_once():
    df = small(3, 12, 6).assign(f=lambda d: np.resize(list("abc"), len(d)))
    result = inner(smf.mixedlm("y ~ 1 + (0 + f | g)", df, covariance="exchangeable").fit(reml=False))
    found = component_intervals(result, 0.05)
    assert_allclose(found.sdcor[:3], found.sdcor[[0, 0, 0]])
    assert_allclose(found.sdcor[3:6], found.sdcor[[3, 3, 3]])


# -- boundaries -------------------------------------------------------------------------------------


def test_a_standard_deviation_that_may_be_zero():
    result = smf.mixedlm("strength ~ 1 + (1 | batch/cask)", pastes.load_pandas().data).fit(reml=False)
    profiles = result.profile("sd(Intercept|batch)")
    assert profiles.conf_int().loc["sd(Intercept|batch)", "lower"] == 0.0
    assert "one-sided" in profiles.notes["sd(Intercept|batch)"]
    first = profiles.frame.iloc[0]
    assert first["value"] == 0.0
    # zeta at zero is the root of the likelihood ratio statistic of the model without the term.
    without = smf.mixedlm("strength ~ 1 + (1 | batch:cask)", pastes.load_pandas().data).fit(reml=False)
    assert first["zeta"] == pytest.approx(-np.sqrt(2 * (result.llf - without.llf)), abs=1e-6)


def test_an_estimate_of_zero_has_a_one_sided_interval():
    result = smf.mixedlm("Yield ~ 1 + (1 | Batch)", pd.read_csv(ROOT / "tests/data/dyestuff2.csv")).fit()
    assert result.is_singular
    profiles = result.profile("components")
    lower, upper = profiles.conf_int().loc["sd(Intercept|Batch)"]
    assert lower == 0.0
    assert upper > 0
    assert "estimate is at its limit 0" in profiles.notes["sd(Intercept|Batch)"]
    assert (profiles.frame.query("parameter == 'sd(Intercept|Batch)'")["zeta"] >= 0).all()


def singular_correlation():
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(10), 6), np.tile(np.arange(6) - 2.0, 10)
    b = rng.standard_normal(10)[g]
    return pd.DataFrame({"g": g, "x": x, "y": 1 + x * 0.5 + b * (1 + 0.4 * x) + rng.standard_normal(60)})


def test_a_correlation_of_one():
    df = singular_correlation()
    result = smf.mixedlm("y ~ x + (x | g)", df).fit(reml=False)
    assert result.is_singular
    profiles = result.profile("cor(Intercept,x|g)")
    lower, upper = profiles.conf_int().loc["cor(Intercept,x|g)"]
    assert upper == 1.0
    assert 0.5 < lower < 1.0
    # A search over the dense likelihood with the correlation held there.
    x = np.column_stack([np.ones(60), df["x"]])
    dense = DenseMixedModel(df["y"], x, [Term(df["g"].to_numpy(), x)], reml=False, dtype=float)

    def deviance(v):
        if min(v) <= 0.01:
            return 1e6
        half = np.linalg.cholesky(covariance("unstructured", [v[0], v[1], lower]))
        return float(dense.at([half]).deviance)

    least = optimize.minimize(deviance, [1.3, 0.7], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).fun
    assert least - result.deviance == pytest.approx(Z95**2, abs=1e-5)


def test_a_singular_fit_may_leave_the_boundary_along_a_profile():
    """The others are free to: brute force over theta finds no lower deviance than the path."""
    df = singular_correlation()
    result = inner(smf.mixedlm("y ~ x + (x | g)", df).fit(reml=False))
    problem = profile_problem(result)
    path = ProfilePath(problem, problem.target("x"))
    x = np.column_stack([np.ones(60), df["x"]])
    for side in (-1, 1):
        value = path.end(side, 2.5).value
        point = path.at(value)
        dense = DenseMixedModel(
            df["y"] - value * df["x"], x[:, :1], [Term(df["g"].to_numpy(), x)], reml=False, dtype=float
        )
        found = [
            optimize.minimize(
                lambda t: float(dense.at([np.array([[t[0], 0], [t[1], t[2]]])]).deviance),  # noqa: B023
                start, method="BFGS",
            ).fun
            for start in ([1.0, 0.5, 0.5], [1.5, 0.0, 0.1], [1.0, 0.8, -0.01])
        ]  # fmt: skip
        assert point.deviance == pytest.approx(min(found), abs=1e-6)


def test_a_correlation_with_a_variance_of_zero_does_not_exist():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        g, x = np.repeat(np.arange(10), 6), np.tile(np.arange(6) - 2.0, 10)
        df = pd.DataFrame({"g": g, "x": x, "y": 1 + x * 0.5 + rng.standard_normal(60)})
        result = smf.mixedlm("y ~ x + (x | g)", df).fit(reml=False)
        if result.varcorr()["sdcor"][:2].max() < 1e-6:
            break
    profiles = result.profile("components")
    assert profiles.conf_int().loc["cor(Intercept,x|g)"].isna().all()
    assert "does not exist" in profiles.notes["cor(Intercept,x|g)"]
    found = component_intervals(inner(result), 0.05)
    assert np.isnan(found.sdcor[2]).all()
    assert found.sdcor[0, 0] == 0.0 < found.sdcor[0, 1]


def test_no_correlation_is_excluded_where_a_variance_may_be_zero():
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(10), 6), np.tile(np.arange(6) - 2.0, 10)
    df = pd.DataFrame({"g": g, "x": x, "y": 1 + x * 0.5 + rng.standard_normal(10)[g] + rng.standard_normal(60)})
    result = smf.mixedlm("y ~ x + (x | g)", df).fit(reml=False)
    bound = profile_bound(inner(result), "cor(Intercept,x|g)", 0.05)
    assert (bound.lower, bound.upper) == (-1.0, 1.0)
    assert "no correlation is excluded" in bound.note


def test_alpha_of_zero():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(20), 5), rng.standard_normal(100)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        df = pd.DataFrame({"g": g, "x": x, "y": rng.poisson(np.exp(1 + 0.3 * x + 0.5 * rng.standard_normal(20)[g]))})
        result = smf.menbreg("y ~ x + (1 | g)", df).fit()
        if result.params["alpha"] == 0:
            break
    lower, upper = result.conf_int(method="profile").loc["alpha"]
    assert lower == 0.0
    model = result.model
    # The end by its own definition: the deviance with alpha held there.
    problem = profile_problem(inner(result))
    path = ProfilePath(problem, problem.target("alpha"))
    point = path.at(np.sqrt(upper))
    assert point.deviance - result.deviance == pytest.approx(Z95**2, abs=1e-7)
    packed = np.concatenate([point.estimates[:3], point.estimates[3:4]])
    assert -2 * model.loglike(packed) == pytest.approx(point.deviance, abs=1e-7)
    slope = model.score(packed)
    assert_allclose(slope[[0, 1, 3]], 0.0, atol=1e-3)


def test_a_separated_coefficient_has_no_upper_end():
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"g": np.repeat(np.arange(20), 5), "x": rng.integers(0, 2, 100)})
    df["y"] = np.where(df["x"] == 1, 1, rng.integers(0, 2, 100))
    with pytest.warns(ConvergenceWarning, match="separate"):
        result = smf.melogit("y ~ x + (1 | g)", df).fit()
    profiles = result.profile("x")
    lower, upper = profiles.conf_int().loc["x"]
    assert 0 < lower < 10
    assert upper == np.inf
    assert "levels off" in profiles.notes["x"]


# -- results --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def profiles():
    return smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit(reml=False).profile()


def test_frame(profiles):
    frame = profiles.frame
    assert list(frame.columns[:4]) == ["parameter", "value", "zeta", "deviance"]
    assert list(frame.columns[4:]) == list(profiles.names)
    for name, part in frame.groupby("parameter", sort=False):
        assert np.all(np.diff(part["value"]) > 0)
        assert np.all(np.diff(part["zeta"]) > 0)
        assert_allclose(part[name], part["value"], rtol=1e-9)
        assert_allclose(np.square(part["zeta"]), part["deviance"] - profiles.deviance, atol=1e-8)
        assert part["zeta"].abs().max() >= stats.norm.ppf(0.995)
    assert_allclose(frame[frame["zeta"] == 0.0]["value"], profiles.estimate, rtol=1e-9)


def test_intervals_beyond_the_profile(profiles):
    wide = profiles.conf_int(1e-4, "Days")
    narrow = profiles.conf_int(0.5, "Days")
    assert wide["lower"].item() < profiles.frame.query("parameter == 'Days'")["value"].min() < narrow["lower"].item()


def test_profiles_are_pickled_and_made_in_parallel(profiles):
    again = pickle.loads(pickle.dumps(profiles))
    assert_allclose(again.conf_int(), profiles.conf_int())
    result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit(reml=False)
    parallel = result.profile("components", n_jobs=2).frame.set_index("parameter")
    assert_allclose(parallel, profiles.frame.set_index("parameter").loc[parallel.index.unique()])


def test_nothing_is_changed_by_a_profile():
    result = smf.melogit("incidence ~ period + (1 | herd)", cbpp.load_pandas().data, n_trials="size").fit()
    before = pickle.dumps([result.params, result.bse, result.theta, result.llf])
    result.profile("period[T.2]")
    assert pickle.dumps([result.params, result.bse, result.theta, result.llf]) == before


def test_plot(profiles):
    fig = profiles.plot()
    assert [ax.get_title() for ax in fig.axes] == list(profiles.names)
    single = matplotlib.figure.Figure().subplots()
    assert profiles.plot("Days", ax=single) is single.figure
    # The curve goes through the estimate, and is no straight line for a standard deviation.
    line = fig.axes[3].lines[1]
    x, y = line.get_data()
    assert np.interp(profiles.estimate["sd(Days|Subject)"], x, y) == pytest.approx(0.0, abs=0.02)
    assert np.ptp(np.gradient(y, x)) > 0.1
    with pytest.raises(ValueError, match="ax= holds one parameter"):
        profiles.plot("beta", ax=single)
    with pytest.raises(ValueError, match="alpha=2"):
        profiles.plot(alpha=[0.5, 2])


def test_plot_of_what_has_no_profile():
    result = smf.mixedlm("Yield ~ 1 + (1 | Batch)", pd.read_csv(ROOT / "tests/data/dyestuff2.csv")).fit()
    fig = result.profile().plot()
    assert len(fig.axes) == 3


def test_an_ordinal_fit():
    result = smf.meologit("rating ~ temp + contact + (1 | judge)", wine.load_pandas().data).fit()
    names = [*result.params.index, "sd(Intercept|judge)"]
    assert list(profile_problem(inner(result)).names) == names
    limits = result.profile(["temp[T.warm]", "2|3", "sd(Intercept|judge)"]).conf_int()
    assert (limits["lower"] < limits["upper"]).all()
    # ordinal::clmm has no profiles of the thresholds; of the SD its profile with Laplace's approximation is this.
    estimates = pd.Series([*result.params, np.sqrt(result.varcorr()["vcov"][0])], names)[limits.index]
    assert ((limits["lower"] < estimates) & (limits["upper"] > estimates)).all()


# -- what is refused, and what is said --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"which": "sd(Day|Subject)"}, r"Did you mean 'sd\(Days\|Subject\)'"),
        ({"which": "theta"}, "which='theta' is not a parameter"),
        ({"which": []}, "asks for nothing"),
        ({"which": 1}, "which=1"),
        ({"alpha": 0}, "alpha=0"),
        ({"alpha": 1.2}, "alpha=1.2"),
        ({"alpha": "5%"}, "alpha='5%'"),
        ({"n_jobs": 0}, "n_jobs=0"),
        ({"n_jobs": "all"}, "n_jobs='all'"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        fitted("sleepstudy_slope").profile(**options)


def test_names_that_were_not_profiled(profiles):
    part = fitted("dyestuff").profile("Intercept")
    with pytest.raises(ValueError, match="was not profiled"):
        part.conf_int(which="components")
    with pytest.raises(ValueError, match="alpha=1"):
        profiles.conf_int(1)
    with pytest.raises(ValueError, match="not a single parameter"):
        profile_bound(inner(fitted("dyestuff")), "components", 0.05)


def test_fits_that_have_no_profile():
    df = cbpp.load_pandas().data
    model = smf.melogit("incidence ~ period + (1 | herd)", df, n_trials="size")
    with pytest.raises(ValueError, match="nAGQ=0"):
        model.fit(nAGQ=0).profile()
    stopped = copy.copy(inner(model.fit()))
    stopped.converged = False
    with pytest.raises(ValueError, match="did not converge"):
        stopped.profile()
    gone = model.fit()
    gone.remove_data()
    with pytest.raises(ValueError, match="remove_data"):
        gone.profile()


def test_a_robust_covariance_has_no_profile():
    result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit()
    robust = result.get_robustcov_results("robust")
    with pytest.raises(ValueError, match="cov_type='robust'"):
        robust.conf_int(method="profile")
    with pytest.raises(ValueError, match="method='profil'"):
        result.conf_int(method="profil")


def test_a_lower_deviance_is_said_loudly(monkeypatch):
    result = inner(smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit(reml=False))
    problem = profile_problem(result)
    problem.deviance += 1.0  # as if the fit had ended there
    monkeypatch.setattr(profile_module, "profile_problem", lambda result: problem)
    with pytest.warns(
        ConvergenceWarning,
        match=r"lower deviance than the fit's, 1752.* instead of 1752.9393.*, at Days = .*not at its optimum",
    ):
        profiles = result.profile("Days")
    with pytest.warns(ConvergenceWarning, match="lower deviance"):
        assert profiles.conf_int().isna().to_numpy().all()


def test_points_that_fail_are_said_and_not_used(monkeypatch):
    result = inner(smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit(reml=False))
    problem = profile_problem(result)
    solve = type(problem).solve

    def failing(self, target, t, near, at_limit=False):
        found = solve(self, target, t, near, at_limit)
        if t > 12:
            object.__setattr__(found, "reason", "for the test")
        return found

    monkeypatch.setattr(type(problem), "solve", failing)
    with pytest.warns(ConvergenceWarning, match=r"The profile of Days at 12\..* did not converge \(for the test\)"):
        profiles = result.profile("Days")
    assert profiles.frame["value"].max() <= 12
    with pytest.warns(ConvergenceWarning):
        limits = profiles.conf_int().loc["Days"]
    assert np.isfinite(limits["lower"])
    assert np.isnan(limits["upper"])


def test_a_function_that_does_not_exist():
    with pytest.raises(ValueError, match="ratio is not finite"):
        function_bound(inner(fitted("dyestuff")), lambda v, params: np.nan, 0.05, name="ratio")


# -- columns and sizes that leave few digits -----------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_origin_of_a_predictor_in_an_interaction_does_not_matter(weighted):
    data = sleepstudy.load_pandas().data
    late = (data["Subject"].astype(int) % 2).astype(float)
    data = data.assign(late=late, w=np.linspace(0.5, 2.0, len(data)), o=np.sin(np.arange(len(data))))
    kwds = {"var_weights": "w", "offset": "o"} if weighted else {}
    rows, others = [], []
    for origin in (0.0, 1e5):
        moved = data.assign(day=data["Days"] + origin)
        result = smf.mixedlm("Reaction ~ late * day + (1 | Subject)", moved, **kwds).fit(reml=weighted)
        limits = result.conf_int(method="profile")
        rows.append(limits.loc[["day", "late:day"]].to_numpy())
        others.append(limits)
    width = rows[0][:, 1] - rows[0][:, 0]
    assert np.abs((rows[1] - rows[0]) / width[:, None]).max() < 1e-7
    # Far from the data a line is its slope times the distance: so are its limits.
    far = others[1].loc["late"].to_numpy() / -1e5
    assert_allclose(far[::-1], rows[0][1], atol=2e-3)


def test_a_large_deviance_hides_the_last_digits_of_zeta():
    data = sleepstudy.load_pandas().data.assign(n=100_000)
    result = inner(smf.mixedlm("Reaction ~ Days + (1 | Subject)", data, freq_weights="n").fit(reml=False))
    profiles = result.profile()
    limits = profiles.conf_int()
    assert np.isfinite(limits.to_numpy()).all()
    # With so many rows the residuals' sd is normal.
    spread = (limits["upper"] - limits["lower"])["sd(Residual)"]
    wald = 2 * 1.959964 * profiles.estimate["sd(Residual)"] / np.sqrt(2 * 180 * 100_000)
    assert_allclose(spread, wald, rtol=1e-4)


def test_no_end_is_infinite_after_points_that_failed():
    data = sleepstudy.load_pandas().data
    problem = profile_problem(inner(smf.mixedlm("Reaction ~ Days + (1 | Subject)", data).fit(reml=False)))
    solve = problem.solve

    def level(target, t, near, at_limit=False):
        found = solve(target, t, near, at_limit)
        top = problem.deviance + 1.0
        reason = "for the test" if failing and t > 11.4 and found.deviance > top and len(seen) < 2 else ""
        seen.extend([t] if reason else [])
        return replace(found, deviance=min(found.deviance, top), reason=reason)

    problem.solve = level
    for failing, expected in [(False, np.inf), (True, np.nan)]:
        seen: list[float] = []
        end = ProfilePath(problem, problem.target("Days")).end(1, 1.96)
        assert_allclose(end.value, expected)
        assert end.failed == failing


def test_a_covariance_is_not_called_a_correlation():
    data = sleepstudy.load_pandas().data
    problem = profile_problem(inner(smf.mixedlm("Reaction ~ Days + (Days | Subject)", data).fit(reml=False)))
    n = next(n for n, name in enumerate(problem.components) if name.startswith("cor("))
    assert ComponentTarget(problem.components[n], problem.coordinates, n).name == "cor(Intercept,Days|Subject)"
    both = ComponentTarget(problem.components[n], problem.coordinates, n, covariance=True)
    assert both.name == "cov(Intercept,Days|Subject)"


@pytest.mark.parametrize(
    ("option", "said"), [("n", "'n': n belongs to method='boot'"), ("steps", "'steps'; it has n_jobs and disp")]
)
def test_options_of_intervals_that_are_not_theirs(option, said):
    with pytest.raises(TypeError, match=rf"conf_int\(method='profile'\) has no option {said}"):
        fitted("dyestuff").conf_int(method="profile", **{option: 10})
