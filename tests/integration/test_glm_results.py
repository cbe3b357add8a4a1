"""Results of the generalised models: what they say of rows, ratios and variances, against independent computations."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats

import sm_multilevel.api as smm
from sm_multilevel.datasets import cbpp, contraception, epil, wine
from sm_multilevel.design.terms import FormulaError
from sm_multilevel.postestimation.prediction.integrate import expectation
from sm_multilevel.postestimation.prediction.predict import NewLevelWarning

ROOT = Path(__file__).parents[2]
EXPIT = stats.logistic.cdf


def frame(seed=5, n=900):
    """Unsorted and unbalanced rows, labels of text, a two-column term crossed with another, an offset."""
    rng = np.random.default_rng(seed)
    who = rng.choice(60, n, p=rng.dirichlet(np.full(60, 3.0)))
    item = rng.choice(9, n)
    x, log_time = rng.normal(size=n), rng.normal(size=n) * 0.4
    b = rng.normal(size=(60, 2)) @ np.array([[0.8, 0.3], [0.0, 0.5]])
    a = rng.normal(size=9) * 0.5
    eta = -0.3 + 0.5 * x + log_time + b[who, 0] + b[who, 1] * x + a[item]
    size = rng.integers(1, 9, n)
    data = pd.DataFrame(
        {
            "x": x,
            "log_time": log_time,
            "time": np.exp(log_time),
            "who": np.char.add("w", who.astype(str)),
            "item": np.char.add("item ", item.astype(str)),
            "yes": (rng.random(n) < EXPIT(eta)).astype(int),
            "size": size,
            "wins": rng.binomial(size, EXPIT(eta)),
            "count": rng.poisson(np.exp(eta)),
            "over": rng.poisson(np.exp(eta) * rng.gamma(2.5, 1 / 2.5, n)),
            "cost": rng.gamma(4.0, np.exp(eta) / 4.0),
            "grade": np.searchsorted([-1.0, 0.4, 1.8], eta + rng.logistic(size=n)),
        },
        index=pd.Index(rng.permutation(n) + 1000, name="row"),
    )
    data["answer"] = np.where(data["yes"] == 1, "pass", "fail")
    data["grade"] = pd.Categorical.from_codes(data["grade"], ["low", "mid", "high", "top"], ordered=True)
    return data


FORMULA = "{} ~ x + (x | who) + (1 | item)"
MODELS = {
    "bernoulli": (smm.MixedGLM, "yes", {"family": "binomial", "offset": "log_time"}),
    "probit": (smm.MixedGLM, "answer", {"family": "binomial", "link": "probit", "offset": "log_time"}),
    "binomial": (smm.MixedGLM, "wins", {"family": "binomial", "n_trials": "size", "offset": "log_time"}),
    "poisson": (smm.MixedGLM, "count", {"family": "poisson", "exposure": "time"}),
    "gamma": (smm.MixedGLM, "cost", {"family": "gamma", "link": "log", "offset": "log_time"}),
    "nb2": (smm.MENegBin, "over", {"offset": "log_time"}),
    "ordinal": (smm.MEOLogit, "grade", {"offset": "log_time"}),
}
LOG = ("poisson", "gamma", "nb2")


@pytest.fixture(scope="module")
def data():
    return frame()


@pytest.fixture(scope="module")
def fits(data):
    out = {}
    for name, (cls, response, options) in MODELS.items():
        out[name] = cls.from_formula(FORMULA.format(response), data, **options).fit()
        assert out[name].converged
        assert not out[name].is_singular
    return out


@pytest.fixture(params=list(MODELS))
def name(request):
    return request.param


def linear_by_hand(res, data, include_random=True):
    """The linear predictor from the tables that users see."""
    beta = res.fe_params
    eta = data["log_time"] + beta["x"] * data["x"] + beta.get("Intercept", 0.0)
    if not include_random:
        return eta
    effects = res.ranef()
    eta = eta + effects["who"]["Intercept"].reindex(data["who"]).to_numpy()
    eta = eta + effects["who"]["x"].reindex(data["who"]).to_numpy() * data["x"]
    return eta + effects["item"]["Intercept"].reindex(data["item"]).to_numpy()


def spread_by_hand(res, data):
    g = res.cov_re["who"].loc[["Intercept", "x"], ["Intercept", "x"]].to_numpy()
    x = data["x"]
    return g[0, 0] + 2 * g[0, 1] * x + g[1, 1] * x**2 + res.cov_re["item"].iloc[0, 0]


def mean_by_hand(name, res, eta):
    """Means, or probabilities of categories, at a linear predictor."""
    eta = np.asarray(eta, dtype=float)
    if name in LOG:
        return np.exp(eta)
    if name == "probit":
        return stats.norm.cdf(eta)
    if name != "ordinal":
        return EXPIT(eta)
    upto = EXPIT(np.asarray(res.thresholds) - eta[..., None])
    pad = np.zeros((*eta.shape, 1))
    return np.diff(np.concatenate([pad, upto, pad + 1], axis=-1), axis=-1)


# -- predict ----------------------------------------------------------------------------------


@pytest.mark.parametrize("include_random", [True, False])
def test_predictions_follow_from_the_tables(name, fits, data, include_random):
    res = fits[name]
    new = data.sample(50, random_state=1)
    eta = linear_by_hand(res, new, include_random)
    linear = res.predict(new, type="linear", include_random=include_random)
    assert_allclose(linear, eta, rtol=1e-9, atol=1e-10)
    assert linear.index.equals(new.index)
    pd.testing.assert_series_equal(linear, res.predict(new, which="linear", include_random=include_random))
    got = res.predict(new, include_random=include_random)
    assert_allclose(got, mean_by_hand(name, res, eta), rtol=1e-9)
    assert got.index.equals(new.index)
    if include_random:
        assert_allclose(res.predict(type="linear").loc[new.index], eta, rtol=1e-9, atol=1e-10)
        assert_allclose(res.predict().loc[new.index], got, rtol=1e-12)


def test_marginal_means_by_another_integration(name, fits, data):
    res = fits[name]
    new = data.sample(6, random_state=2)
    eta, spread = linear_by_hand(res, new, False), spread_by_hand(res, new)
    got = res.predict(new, include_random="marginal")
    columns = range(4) if name == "ordinal" else [None]
    for k in columns:
        for place, (e, s) in enumerate(zip(eta, np.sqrt(spread))):

            def integrand(z, e=e, s=s, k=k):
                mean = mean_by_hand(name, res, e + s * z)
                return (mean if k is None else mean[..., k]) * stats.norm.pdf(z)

            want = integrate.quad(integrand, -12, 12, epsabs=1e-13, epsrel=1e-12, limit=200)[0]
            value = got.iloc[place] if k is None else got.iloc[place, k]
            assert value == pytest.approx(want, rel=1e-10, abs=1e-13)
    assert_allclose(res.predict(new, include_random="marginal", type="linear"), eta, rtol=1e-9)
    if name == "ordinal":
        assert_allclose(got.sum(axis=1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("sd", [0.0, 0.3, 2.0, 15.0])
@pytest.mark.parametrize(
    "function", [EXPIT, stats.norm.cdf, stats.cauchy.cdf, lambda x: -np.expm1(-np.exp(np.minimum(x, 50.0)))]
)
def test_expectation_is_exact(function, sd):
    eta = np.array([-4.0, 0.2, 9.0])
    got = expectation(lambda x, _: function(x), eta, np.full(3, sd))
    for value, e in zip(got, eta):
        if sd == 0:
            want = function(e)
        else:
            points = [-e / sd] if abs(e / sd) < 12 else None
            precise = {"epsabs": 1e-14, "epsrel": 1e-13, "limit": 500, "points": points}
            want = integrate.quad(lambda z, e=e: function(e + sd * z) * stats.norm.pdf(z), -12, 12, **precise)[0]
        assert value == pytest.approx(want, abs=2e-11)


def test_marginal_variances_include_those_of_the_means(fits, data):
    new = data.sample(4, random_state=3)
    for name in LOG:
        res = fits[name]
        eta, v = linear_by_hand(res, new, False), spread_by_hand(res, new)
        first, second = np.exp(eta + v / 2), np.exp(2 * eta + 2 * v)
        by_mean, by_square = {
            "poisson": (1.0, 0.0),
            "gamma": (0.0, res.params.get("dispersion")),
            "nb2": (1.0, res.params.get("alpha")),
        }[name]
        given = by_mean * first + by_square * second
        got = res.predict(new, which="var", include_random="marginal")
        assert_allclose(got, given + second - first**2, rtol=1e-9)
    res = fits["bernoulli"]
    p = res.predict(new, include_random="marginal")
    assert_allclose(res.predict(new, which="var", include_random="marginal"), p * (1 - p), rtol=1e-9)


def test_classes_and_probabilities(fits, data):
    res = fits["ordinal"]
    p = res.predict(data, type="prob")
    assert list(p.columns) == ["low", "mid", "high", "top"]
    pd.testing.assert_frame_equal(p, res.predict(data))
    classes = res.predict(data, type="class")
    assert (classes == p.idxmax(axis=1)).all()
    numbers = p.to_numpy() @ np.arange(4)
    assert_allclose(res.predict(data, which="mean"), numbers, rtol=1e-12)
    assert_allclose(res.fittedvalues, numbers, rtol=1e-12)
    assert_allclose(res.resid, data["grade"].cat.codes - numbers, atol=1e-12)
    res = fits["probit"]
    p = res.predict(data, type="prob")
    assert list(p.columns) == ["fail", "pass"]
    assert_allclose(p["pass"], res.predict(data), rtol=1e-12)
    assert_array_equal(res.predict(data, type="class"), np.where(p["pass"] > 0.5, "pass", "fail"))
    assert set(fits["bernoulli"].predict(data, which="class")) == {0, 1}


def test_arrays_missing_values_and_new_levels(name, fits, data):
    res = fits[name]
    columns = np.column_stack([np.ones(3), [0.5, np.nan, -1.0]])[:, -res.model.k_fixed :]
    got = res.predict(columns)
    assert type(got) is np.ndarray
    assert_allclose(got[[0, 2]], mean_by_hand(name, res, columns[[0, 2]] @ np.asarray(res.fe_params)), rtol=1e-10)
    assert np.isnan(got[1]).all()
    exposure = 2.0 if res.family.log_link else None
    more = 0.0 if exposure is None else np.log(exposure)
    shifted = res.predict(columns, offset=[0.1, 0.2, 0.3], exposure=exposure, which="linear")
    assert_allclose((shifted - res.predict(columns, which="linear"))[[0, 2]], [0.1 + more, 0.3 + more])

    new = data.head(3).copy()
    new.iloc[1, new.columns.get_loc("x")] = np.nan
    for include_random in (True, "marginal"):
        got = res.predict(new, include_random=include_random)
        assert np.isnan(got.iloc[1]).all()
        assert np.isfinite(got.iloc[[0, 2]]).all(axis=None)
    new = data.head(2).assign(who=["nobody", data["who"].iloc[1]])
    with pytest.warns(NewLevelWarning, match="1 rows of 'who'"):
        got = res.predict(new, which="linear")
    effect = res.ranef()["item"]["Intercept"][new["item"].iloc[0]]
    assert got.iloc[0] == pytest.approx(linear_by_hand(res, new, False).iloc[0] + effect)
    with pytest.raises(ValueError, match="levels that the fit has not seen"):
        res.predict(new, new_levels="raise")
    with pytest.raises(FormulaError, match=r"exposure 'time'|offset 'log_time'"):
        res.predict(data.head(2).drop(columns=["time", "log_time"]))
    given = res.predict(data.head(2).drop(columns=["time", "log_time"]), offset=data["log_time"].head(2))
    assert_allclose(given, res.predict(data.head(2)), rtol=1e-12)


# -- residuals ----------------------------------------------------------------------------------


def test_residuals_by_hand(name, fits, data):
    res = fits[name]
    mean = np.asarray(res.fittedvalues)
    y = np.asarray(res.model.endog)
    assert_allclose(res.resid, y - mean, atol=1e-12)
    assert_allclose(res.residuals(), res.resid)
    assert res.resid.index.equals(data.index)
    assert res.residuals("pearson").index.equals(data.index)
    outside = np.asarray(res.residuals("response", include_random=False))
    if name == "ordinal":
        p = mean_by_hand(name, res, linear_by_hand(res, data, False))
        assert_allclose(outside, y - p @ np.arange(4), atol=1e-9)
        p = res.predict().to_numpy()
        assert_allclose(res.resid_pearson, (y - mean) / np.sqrt(p @ np.arange(4) ** 2 - mean**2), rtol=1e-8)
        return
    assert_allclose(outside, y - mean_by_hand(name, res, linear_by_hand(res, data, False)), atol=1e-9)
    trials = data["size"] if name == "binomial" else 1.0
    unit = {
        "poisson": lambda: mean,
        "gamma": lambda: mean**2,
        "nb2": lambda: mean + res.params["alpha"] * mean**2,
    }.get(name, lambda: mean * (1 - mean))()
    assert_allclose(res.resid_pearson, (y - mean) * np.sqrt(trials / unit), rtol=1e-8)
    h = 1e-5
    eta = np.asarray(res.predict(type="linear"))
    slope = (mean_by_hand(name, res, eta + h) - mean_by_hand(name, res, eta - h)) / (2 * h)
    assert_allclose(res.resid_working, (y - mean) / slope, rtol=1e-6)
    assert (np.sign(res.resid_deviance) == np.sign(y - mean)).all()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("binomial", {}),
        ("binomial", {"n_trials": True}),
        ("poisson", {}),
        ("gamma", {"var_weights": True}),
        ("nb2", {}),
        ("gaussian", {"var_weights": True}),
    ],
)
def test_residuals_without_variance_are_those_of_glm(family, options):
    """Groups with equal means: the variance is zero, and the model is statsmodels' GLM."""
    rng = np.random.default_rng(3)
    x = np.tile(rng.normal(size=12), 20)
    g = np.repeat(np.arange(20), 12)
    eta = 0.3 + 0.4 * x
    once = rng.random(12)
    size = np.tile(rng.integers(2, 7, 12), 20)
    weights = np.tile(rng.uniform(0.5, 2.0, 12), 20)
    y = {
        "binomial": lambda: (np.tile(once, 20) < EXPIT(eta)).astype(float),
        "poisson": lambda: np.tile(rng.poisson(np.exp(eta[:12])), 20).astype(float),
        "gamma": lambda: np.tile(rng.gamma(3, np.exp(eta[:12]) / 3), 20),
        "nb2": lambda: np.tile(np.array([0, 1, 9, 0, 3, 2, 14, 0, 1, 5, 2, 0.0]), 20),
        "gaussian": lambda: np.tile(eta[:12] + rng.normal(size=12), 20),
    }[family]()
    given = {}
    if "n_trials" in options:
        y = np.floor(size * np.tile(once, 20)) / size
        given["n_trials"] = size
    if "var_weights" in options:
        given["var_weights"] = weights
    columns = sm.add_constant(x)
    link = {"link": "log"} if family == "gamma" else {}
    cls, own = (smm.MENegBin, {}) if family == "nb2" else (smm.MixedGLM, {"family": family, **link})
    res = cls(y, columns, g, **own, **given).fit()
    assert res.is_singular
    theirs = {
        "binomial": sm.families.Binomial,
        "poisson": sm.families.Poisson,
        "gamma": lambda: sm.families.Gamma(sm.families.links.Log()),
        "nb2": lambda: sm.families.NegativeBinomial(alpha=res.params[-1]),
        "gaussian": sm.families.Gaussian,
    }[family]()
    endog = np.column_stack([y * size, size - y * size]) if "n_trials" in options else y
    glm = sm.GLM(endog, columns, theirs, var_weights=given.get("var_weights")).fit(tol=1e-13)
    assert_allclose(res.fittedvalues, glm.fittedvalues, rtol=1e-6)
    # Ours are of proportions, as the response is in the model; GLM multiplies by the trials, in resid_working twice.
    trials = size if "n_trials" in options else 1.0
    scale = {"response": trials, "working": trials**2}
    for kind in ("response", "pearson", "deviance", "working"):
        want = np.asarray(getattr(glm, f"resid_{kind}")) / scale.get(kind, 1.0)
        assert_allclose(getattr(res, f"resid_{kind}"), want, rtol=1e-5, atol=1e-5)


def test_quantile_residuals_are_normal_under_the_model(name, data):
    """At the true random effects, which a fit with many rows a level comes close to."""
    cls, response, options = MODELS[name]
    many = frame(seed=11, n=6000)
    res = cls.from_formula(FORMULA.format(response), many, **options).fit()
    r = res.residuals("quantile", seed=4)
    assert_array_equal(r, res.residuals("quantile", seed=4))
    assert stats.kstest(r, "norm").pvalue > 0.01
    if name == "gamma":
        assert_array_equal(r, res.residuals("quantile", seed=5))  # nothing to be drawn
        shape = 1 / res.params["dispersion"]
        want = stats.norm.ppf(stats.gamma.cdf(many["cost"], shape, scale=res.fittedvalues / shape))
        assert_allclose(r, want, atol=1e-7)
    else:
        assert not np.array_equal(r, res.residuals("quantile", seed=5))
    # Without the random effects the model does not hold, and they say so, where a row says enough.
    outside = res.residuals("quantile", include_random=False, seed=4)
    assert name in ("bernoulli", "probit") or stats.kstest(outside, "norm").pvalue < 0.01


# -- predictions with intervals -----------------------------------------------------------------


def brute_posterior(res):
    """Covariance of (beta, psi, b) from the joint penalised likelihood's Hessian, by differences of nothing.

    For a Poisson model with a log link: H = [X Z]'W[X Z] with the random effects' precision.
    """
    model = res.model
    z, precision = [], []
    for term, cov in zip(model.random, res.term_covariances):
        block = np.zeros((len(term.codes), term.n_levels * term.q))
        for j in range(term.q):
            block[np.arange(len(term.codes)), term.codes * term.q + j] = term.exog[:, j]
        z.append(block)
        precision.append(np.kron(np.eye(term.n_levels), np.linalg.inv(cov.cov)))
    z = np.hstack(z)
    inner = z.T @ (np.asarray(res.fittedvalues)[:, None] * z)
    at = 0
    for block in precision:
        inner[at : at + len(block), at : at + len(block)] += block
        at += len(block)
    return z, np.linalg.inv(inner)


def test_standard_errors_by_dense_algebra(fits, data):
    res = fits["poisson"]
    z, inverse = brute_posterior(res)
    x, w = np.asarray(res.model.exog), np.asarray(res.fittedvalues)
    a = x - z @ (inverse @ (z.T @ (w[:, None] * x)))
    want = np.einsum("ni,ij,nj->n", z, inverse, z) + np.einsum("ni,ij,nj->n", a, res.cov_params(), a)
    got = res.get_prediction()
    assert_allclose(got.se_linear**2, want, rtol=1e-6)
    assert_allclose(got.se_mean, w * np.sqrt(want), rtol=1e-6)
    half = stats.norm.ppf(0.95) * got.se_linear
    assert_allclose(got.conf_int(0.1), np.exp(np.column_stack([got.linear - half, got.linear + half])), rtol=1e-9)
    effects, errors = res.ranef(conditional_se=True, given_beta=True)
    first = np.sqrt(np.diag(inverse))[: 2 * len(errors["who"])].reshape(-1, 2)
    assert_allclose(errors["who"], first, rtol=1e-6)
    assert (res.ranef(conditional_se=True)[1]["who"] > errors["who"] - 1e-12).all(axis=None)
    assert effects["who"].index.equals(errors["who"].index)


GLMM = json.loads((ROOT / "tests/reference/glmm.json").read_text())["fits"]


@pytest.mark.parametrize(
    ("name", "cls", "loader", "formula", "options"),
    [
        ("cbpp", smm.MixedGLM, cbpp, "incidence ~ period + (1 | herd)", {"family": "binomial", "n_trials": "size"}),
        ("epil_slope", smm.MixedGLM, epil, None, {"family": "poisson"}),
        ("epil_nb2", smm.MENegBin, epil, None, {}),
    ],
)
def test_conditional_errors_are_those_of_glmmtmb(name, cls, loader, formula, options):
    """Given all parameters, as the references have them."""
    fit = next(f for f in GLMM if f["id"] == name and f["nAGQ"] == 1)
    res = cls.from_formula(formula or fit["formula"], loader.load_pandas().data, **options).fit()
    effects, errors = res.ranef(conditional_se=True, given_beta=True)
    effects.index = errors.index = effects.index.astype(str)
    for row in fit["ranef"]:
        column = row["term"].replace("(Intercept)", "Intercept")
        assert effects.loc[row["level"], column] == pytest.approx(row["value"], rel=1e-4, abs=1e-5)
        assert errors.loc[row["level"], column] == pytest.approx(row["sd"], rel=1e-4)


def test_thresholds_are_part_of_the_uncertainty_of_ordinal_effects():
    """With K = 2 the ordinal model is the logistic one, whose intercept is minus the threshold."""
    df = contraception.load_pandas().data
    df["number"] = (df["use"] == "Y").astype(int)
    a = smm.MEOLogit.from_formula("number ~ age + (1 | district)", df).fit()
    b = smm.MixedGLM.from_formula("number ~ age + (1 | district)", df, family="binomial").fit()
    assert a.llf == pytest.approx(b.llf, abs=1e-8)
    for one, other in zip(a.ranef(conditional_se=True), b.ranef(conditional_se=True)):
        assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    for include_random in (True, False):
        got = a.get_prediction(include_random=include_random).summary_frame()
        want = b.get_prediction(include_random=include_random).summary_frame()
        assert_allclose(got.xs(1, level="category")["mean"], want["mean"], rtol=1e-5)
        assert_allclose(got.xs(1, level="category")["mean_se"], want["mean_se"], rtol=1e-4)
        assert_allclose(got.xs(0, level="category")["mean_se"], want["mean_se"], rtol=1e-4)
        same = b.get_prediction(include_random=include_random, which="prob").summary_frame()
        assert_allclose(same.xs(1, level="category")["mean_se"], want["mean_se"], rtol=1e-6)


COLUMNS = ["mean", "mean_se", "mean_ci_lower", "mean_ci_upper"]


def test_columns_and_order_of_intervals(name, fits, data):
    res = fits[name]
    new = data.head(8)
    for include_random in (True, False, "marginal"):
        out = res.get_prediction(new, include_random=include_random)
        table = out.summary_frame(alpha=0.1)
        assert list(table.columns) == (COLUMNS if name == "ordinal" else [*COLUMNS, "obs_ci_lower", "obs_ci_upper"])
        assert_allclose(table["mean"], np.ravel(res.predict(new, include_random=include_random)), rtol=1e-10)
        assert_allclose(table["mean"], np.ravel(out.predicted_mean), rtol=1e-12)
        assert (table["mean_ci_lower"] < table["mean"]).all()
        assert (table["mean"] < table["mean_ci_upper"]).all()
        assert (table["mean_se"] > 0).all()
        if name != "ordinal":
            assert (table["obs_ci_lower"] <= table["obs_ci_upper"]).all()
            assert table.index.equals(new.index)
        linear = res.get_prediction(new, include_random=include_random, which="linear").summary_frame(0.1)
        assert list(linear.columns) == COLUMNS
        q = stats.norm.ppf(0.95)
        assert_allclose(linear["mean_ci_upper"], linear["mean"] + q * linear["mean_se"])
        if include_random is not True:
            columns = np.column_stack([np.ones(8), new["x"]])[:, -res.model.k_fixed :]
            contrasts = np.hstack([columns, np.zeros((8, len(res.params) - res.model.k_fixed))])
            assert_allclose(linear["mean_se"], np.asarray(res.t_test(contrasts).sd).ravel(), rtol=1e-9)


def test_rows_of_any_index(fits, data):
    """Labels that repeat, several levels of labels, no rows at all."""
    res = fits["ordinal"]
    new = data.head(2).copy()
    want = res.get_prediction(new).summary_frame().to_numpy()
    new.index = [7, 7]
    assert_allclose(res.get_prediction(new).summary_frame(), want)
    new.index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["one", "two"])
    table = res.get_prediction(new).summary_frame()
    assert table.index.names == ["one", "two", "category"]
    assert_allclose(table.loc[("b", 2)], want[4:])
    for one in fits.values():
        for include_random in (True, False, "marginal"):
            assert len(one.predict(data.head(0), include_random=include_random)) == 0
            assert len(one.get_prediction(data.head(0), include_random=include_random).summary_frame()) == 0


def test_models_without_fixed_columns(data):
    res = smm.MixedGLM.from_formula("count ~ 0 + (1 | who)", data, family="poisson").fit()
    assert res.conf_int().shape == (0, 2)
    assert res.incidence_rate_ratios().shape == (0, 4)
    assert res.r_squared()["marginal"] == 0.0
    assert_allclose(res.predict(data, include_random=False), 1.0)
    res = smm.MEOLogit.from_formula("grade ~ 1 + (1 | who)", data).fit()
    assert res.odds_ratios().shape == (0, 4)
    assert res.get_prediction(data.head(2)).summary_frame()["mean"].groupby(level=0).sum().round(10).tolist() == [1, 1]


def test_errors_of_probabilities_by_differences(fits, data):
    res = fits["ordinal"]
    new = data.head(5)
    for include_random in (False, "marginal"):
        out = res.get_prediction(new, include_random=include_random)
        spread = spread_by_hand(res, new) if include_random else 0 * new["x"]
        z, w = np.polynomial.hermite_e.hermegauss(60)
        w = w / w.sum()

        def p(params, spread=spread, z=z, w=w):
            eta = new["log_time"].to_numpy() + params[0] * new["x"].to_numpy()
            nodes = eta[:, None] + np.sqrt(spread.to_numpy())[:, None] * z
            upto = EXPIT(params[1:] - nodes[..., None])
            pad = np.zeros((*nodes.shape, 1))
            return np.einsum("k,nkc->nc", w, np.diff(np.concatenate([pad, upto, pad + 1], -1), axis=-1))

        at, h = np.asarray(res.params), 1e-5
        jacobian = np.stack([(p(at + h * e) - p(at - h * e)) / (2 * h) for e in np.eye(4)], axis=-1)
        want = np.sqrt(np.einsum("nci,ij,ncj->nc", jacobian, res.cov_params(), jacobian))
        assert_allclose(out.se_mean, want, rtol=1e-4)
        interval = out.conf_int()
        assert (interval > 0).all()
        assert (interval < 1).all()


@pytest.mark.parametrize("name", ["binomial", "poisson", "gamma", "nb2"])
def test_intervals_of_observations_are_quantiles(name, fits, data):
    res = fits[name]
    new = data.sample(6, random_state=8)
    rng = np.random.default_rng(1)
    for include_random in (True, False):
        out = res.get_prediction(new, include_random=include_random)
        interval = out.conf_int(0.2, obs=True)
        extra = 0.0 if include_random else spread_by_hand(res, new).to_numpy()
        eta = out.linear + np.sqrt(out.se_linear**2 + extra) * rng.normal(size=(200_000, 6))
        if name == "binomial":
            y = rng.binomial(new["size"].to_numpy(), EXPIT(eta)) / new["size"].to_numpy()
        elif name == "poisson":
            y = rng.poisson(np.exp(eta))
        elif name == "gamma":
            k = 1 / res.params["dispersion"]
            y = rng.gamma(k, np.exp(eta) / k)
        else:
            k = 1 / res.params["alpha"]
            y = rng.poisson(rng.gamma(k, np.exp(eta) / k))
        want = np.quantile(y, [0.1, 0.9], axis=0).T
        if name == "gamma":
            assert_allclose(interval, want, rtol=0.03)
        else:  # whole numbers, that differ where a probability is just 0.1
            below = np.stack([(y < end).mean(axis=0) for end in interval.T], axis=-1)
            upto = np.stack([(y <= end).mean(axis=0) for end in interval.T], axis=-1)
            assert (below < np.array([0.1, 0.9]) + 0.005).all()
            assert (upto > np.array([0.1, 0.9]) - 0.005).all()


def test_gaussian_results_are_those_of_the_linear_model():
    rng = np.random.default_rng(7)
    g = rng.choice(15, 300)
    x = rng.normal(size=300)
    df = pd.DataFrame({"y": 1 + x + rng.normal(size=15)[g] + rng.normal(size=300), "x": x, "g": g})
    a = smm.MixedGLM.from_formula("y ~ x + (1 | g)", df, family="gaussian").fit()
    b = smm.MixedLM.from_formula("y ~ x + (1 | g)", df).fit(reml=False)
    assert_allclose(a.fittedvalues, b.fittedvalues, rtol=1e-6)
    for key, value in b.r_squared().items():
        assert a.r_squared()[key] == pytest.approx(value, rel=1e-5)
    assert a.icc() == pytest.approx(b.icc(), rel=1e-5)
    assert a.icc("observation") == pytest.approx(b.icc(), rel=1e-5)
    ours, theirs = (r.get_prediction(df.head(4)).summary_frame() for r in (a, b))
    assert_allclose(ours, theirs, rtol=2e-3)
    ours, theirs = (r.get_prediction(df.head(4), include_random=False).summary_frame() for r in (a, b))
    assert_allclose(ours, theirs, rtol=5e-3, atol=5e-3)


# -- ratios -------------------------------------------------------------------------------------


def test_ratios(fits):
    for name, method, column in [
        ("bernoulli", "odds_ratios", "OR"),
        ("binomial", "odds_ratios", "OR"),
        ("ordinal", "odds_ratios", "OR"),
        ("poisson", "incidence_rate_ratios", "IRR"),
        ("nb2", "incidence_rate_ratios", "IRR"),
        ("gamma", "exp_params", "exp(coef)"),
        ("ordinal", "exp_params", "exp(coef)"),
    ]:
        res = fits[name]
        table = getattr(res, method)(alpha=0.1)
        assert list(table.columns) == [column, "lower", "upper", "pvalue"]
        assert list(table.index) == res.model.exog_names
        q = stats.norm.ppf(0.95)
        assert_allclose(table[column], np.exp(res.fe_params))
        assert_allclose(table["lower"], np.exp(res.fe_params - q * res.bse_fe))
        assert_allclose(table["upper"], np.exp(res.fe_params + q * res.bse_fe))
        assert_allclose(table["pvalue"], res.pvalues[: len(table)])
    assert_allclose(fits["nb2"].incidence_rate_ratios()["lower"], np.exp(fits["nb2"].conf_int()[0][:2]))


@pytest.mark.parametrize(
    ("name", "method", "said"),
    [
        ("probit", "odds_ratios", "probit"),
        ("poisson", "odds_ratios", "incidence_rate_ratios"),
        ("gamma", "odds_ratios", "exp_params"),
        ("gamma", "incidence_rate_ratios", "exp_params"),
        ("bernoulli", "incidence_rate_ratios", "odds_ratios"),
        ("ordinal", "incidence_rate_ratios", "odds_ratios"),
        ("probit", "exp_params", "log or a logit"),
    ],
)
def test_ratios_that_make_no_sense(fits, name, method, said):
    with pytest.raises(ValueError, match=said):
        getattr(fits[name], method)()


# -- variance explained ---------------------------------------------------------------------------


def r2_fit(name):
    hospital = pd.read_csv(ROOT / "tests/data/hospital_costs.csv")
    use, ep = contraception.load_pandas().data, epil.load_pandas().data
    binomial = {"family": "binomial"}
    cls, formula, df, options = {
        "cbpp": (smm.MixedGLM, "incidence ~ period + (1 | herd)", cbpp.load_pandas().data,
                 {"n_trials": "size", **binomial}),
        "contraception_slope": (smm.MixedGLM, "use ~ urban + age + (urban | district)", use, binomial),
        "contraception_probit": (smm.MixedGLM, "use ~ urban + age + (1 | district)", use,
                                 {"link": "probit", **binomial}),
        "contraception_cloglog": (smm.MixedGLM, "use ~ urban + age + (1 | district)", use,
                                  {"link": "cloglog", **binomial}),
        "wine": (smm.MEOLogit, "rating ~ temp + contact + (1 | judge)", wine.load_pandas().data, {}),
        "epil": (smm.MixedGLM, "y ~ trt + age + (1 | subject)", ep, {"family": "poisson"}),
        "epil_slope": (smm.MixedGLM, "y ~ trt + period + (period | subject)", ep, {"family": "poisson"}),
        "epil_nb2": (smm.MENegBin, "y ~ trt + age + (1 | subject)", ep, {}),
        "hospital_gamma": (smm.MixedGLM, "cost ~ severity + (1 | hospital)", hospital,
                           {"family": "gamma", "link": "log"}),
    }[name]  # fmt: skip
    return cls.from_formula(formula, df, **options).fit()


R2 = json.loads((ROOT / "tests/reference/r2_glmm.json").read_text())


@pytest.mark.parametrize("name", list(R2["fits"]))
def test_r_squared_is_that_of_r(name):
    """Latent ones are performance's; of log links the paper's formulas on glmmTMB's fits (r2_glmm.R says why)."""
    res = r2_fit(name)
    for method, want in R2["fits"][name].items():
        if method == "performance":
            continue
        got = res.r_squared(method)
        for key, value in want.items():
            assert got[key] == pytest.approx(value, rel=2e-4 if name == "wine" else 1e-4), (method, key)
    auto = res.r_squared()
    assert auto == res.r_squared("latent" if res.family.latent_variance else "trigamma")
    if "performance" in R2["fits"][name]:
        # What depends on no definition.
        for key in ("var_fixed", "var_random"):
            assert auto[key] == pytest.approx(R2["fits"][name]["performance"][key], rel=1e-4)


def test_observation_level_variance_of_a_binomial(fits):
    """1 / (p (1 - p)) at the mean of the model with an intercept only."""
    res = r2_fit("contraception_probit")
    null = smm.MixedGLM.from_formula(
        "use ~ 1 + (1 | district)", contraception.load_pandas().data, family="binomial", link="probit"
    ).fit()
    v = null.cov_re.iloc[0, 0]
    p = stats.norm.cdf(null.params["Intercept"] / np.sqrt(1 + v))
    want = p * (1 - p) / stats.norm.pdf(stats.norm.ppf(p)) ** 2
    for method in ("delta", "observation"):
        assert res.r_squared(method)["var_residual"] == pytest.approx(want, rel=1e-6)
    assert res.r_squared("latent")["var_residual"] == 1.0


def test_icc(fits, data):
    res = fits["bernoulli"]
    who, item = res.cov_re["who"].iloc[0, 0], res.cov_re["item"].iloc[0, 0]
    total = who + item + np.pi**2 / 3
    assert res.icc() == pytest.approx({"who": who / total, "item": item / total})
    # On the scale of the response by simulation of pairs at the mean linear predictor.
    rng = np.random.default_rng(2)
    eta = res.predict(type="linear", include_random=False).mean()
    b = rng.normal(size=10**6) * np.sqrt(who)
    one, other = (EXPIT(eta + b + rng.normal(size=10**6) * np.sqrt(item)) for _ in range(2))
    p = res.icc(scale="observation")["who"]
    assert p == pytest.approx(np.cov(one, other)[0, 1] / (one.mean() * (1 - one.mean())), rel=0.02)
    # Closed for a log link.
    res = fits["nb2"]
    who, item = res.cov_re["who"].iloc[0, 0], res.cov_re["item"].iloc[0, 0]
    eta, v = res.predict(type="linear", include_random=False).mean(), who + item
    mean = np.exp(eta + v / 2)
    var = mean + (1 + res.params["alpha"]) * np.exp(2 * eta + 2 * v) - mean**2
    want = {"who": mean**2 * np.expm1(who) / var, "item": mean**2 * np.expm1(item) / var}
    assert res.icc(scale="observation") == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("ordinal", [True, False])
def test_cauchit_has_no_latent_variance(ordinal):
    df = wine.load_pandas().data
    if ordinal:
        res = smm.MEOLogit.from_formula("rating ~ temp + (1 | judge)", df, distr="cauchit").fit()
    else:
        df = df.assign(good=(df["rating"].astype(int) > 3).astype(int))
        res = smm.MixedGLM.from_formula("good ~ temp + (1 | judge)", df, family="binomial", link="cauchit").fit()
        assert res.r_squared("delta")["var_residual"] > 0
    for method in (res.r_squared, res.icc):
        with pytest.raises(ValueError, match="finite variance"):
            method()
    res.remove_data()  # what has no R-squared can be kept all the same


# -- inference ---------------------------------------------------------------------------------------


def test_intervals_of_positive_parameters(fits):
    for name, psi in (("gamma", "dispersion"), ("nb2", "alpha")):
        res = fits[name]
        value, se = res.params[psi], res.bse[psi]
        q = stats.norm.ppf(0.95)
        assert_allclose(res.conf_int(0.1).loc[psi], [value * np.exp(-q * se / value), value * np.exp(q * se / value)])
        half = q * res.bse["x"]
        assert_allclose(res.conf_int(0.1).loc["x"], [res.params["x"] - half, res.params["x"] + half])
        assert np.isnan(res.pvalues[psi])
        assert res.tvalues[psi] == pytest.approx(value / se)
    res = fits["ordinal"]
    assert list(res.thresholds.index) == ["low|mid", "mid|high", "high|top"]
    q = stats.norm.ppf(0.975)
    assert_allclose(res.conf_int()[1], res.params + q * res.bse)
    assert np.isfinite(res.pvalues).all()
    with pytest.raises(AttributeError, match="no thresholds"):
        _ = fits["gamma"].thresholds


def test_alpha_at_its_boundary(data):
    rng = np.random.default_rng(1)
    df = data.assign(count=rng.binomial(20, 0.3, len(data)))  # less spread than Poisson's
    res = smm.MENegBin.from_formula("count ~ x + (1 | who)", df).fit()
    assert res.is_singular
    assert res.params["alpha"] == pytest.approx(0, abs=1e-8)
    assert np.isnan(res.bse["alpha"])
    assert np.isnan(res.conf_int().loc["alpha"]).all()
    assert np.isfinite(res.bse[["Intercept", "x"]]).all()
    assert np.isfinite(res.get_prediction(df.head(3)).summary_frame()).all(axis=None)


def test_wald_tests(fits, data):
    res = fits["ordinal"]
    z = (res.params["x"] - 0.2) / res.bse["x"]
    assert float(np.squeeze(res.t_test("x = 0.2").tvalue)) == pytest.approx(z)
    test = res.wald_test({"x": 0.2}, scalar=True)
    assert float(test.statistic) == pytest.approx(z**2)
    table = res.wald_test_terms(scalar=True).table
    assert list(table.index) == ["x"]
    df = data.assign(part=np.array(["a", "b", "c"])[np.arange(len(data)) % 3])
    res = smm.MENegBin.from_formula("over ~ x + part + (1 | who)", df).fit()
    assert list(res.wald_test_terms(scalar=True).table.index) == ["Intercept", "part", "x"]
    pairs = res.t_test_pairwise("part").result_frame
    assert list(pairs.index) == ["b-a", "c-a", "c-b"]
    assert pairs.loc["b-a", "coef"] == pytest.approx(res.params["part[T.b]"])
    assert float(res.wald_test({"part": 0, "alpha": 0.4}, scalar=True).df_denom) == 3
    columns = np.column_stack([np.ones(len(df)), df["x"]])
    arrays = smm.MENegBin(df["over"].to_numpy(), columns, df["who"].to_numpy()).fit()
    assert len(arrays.wald_test_terms(scalar=True).table) == 2


def test_information_criteria(name, fits):
    res = fits[name]
    psi = {"gamma": 1, "nb2": 1, "ordinal": 3}.get(name, 0)
    count = res.model.k_fixed + psi + 3 + 1
    assert res.k_params == count
    assert res.aic == res.aic() == pytest.approx(-2 * res.llf + 2 * count)
    assert res.bic() == pytest.approx(-2 * res.llf + np.log(900) * count)


def test_bic_counts_frequency_weights(data):
    df = data.assign(n=np.arange(len(data)) % 3 + 1)
    a = smm.MixedGLM.from_formula("count ~ x + (1 | who)", df, family="poisson", freq_weights="n").fit()
    b = smm.MixedGLM.from_formula("count ~ x + (1 | who)", df.loc[df.index.repeat(df["n"])], family="poisson").fit()
    assert a.bic == pytest.approx(b.bic, rel=1e-8)
    assert a.r_squared() == pytest.approx(b.r_squared(), rel=1e-6)
    assert a.icc() == pytest.approx(b.icc(), rel=1e-6)
    assert a.icc("observation") == pytest.approx(b.icc("observation"), rel=1e-6)


# -- random effects, simulation, refits ------------------------------------------------------------------


def test_random_effects_of_users_words(data):
    a = smm.MixedGLM.from_formula("count ~ x", data, groups="who", re_formula="~x", family="poisson").fit()
    b = smm.MixedGLM.from_formula("count ~ x + (x | who)", data, family="poisson").fit()
    assert list(a.random_effects) == list(a.ranef().index)
    assert_allclose(a.random_effects["w3"], b.ranef().loc["w3"], rtol=1e-6)
    assert_allclose(a.cov_re, b.cov_re, rtol=1e-6)
    assert set(a.variance_components) == {"var(Intercept)", "var(x)", "cov(Intercept,x)"}
    assert_allclose(a.group_coef()["x"], b.ranef()["x"] + b.params["x"], rtol=1e-6)
    assert list(a.varcorr()["grp"]) == ["who"] * 3
    assert a.scale == 1.0
    assert a.random_effects_cov["w3"].shape == (2, 2)


def test_simulated_responses_have_the_model_moments(name, fits, data):
    res = fits[name]
    draws = res.simulate(300, seed=1)
    assert draws.shape == (300, len(data))
    assert_array_equal(draws, res.simulate(300, seed=1))
    marginal = res.predict(data, include_random="marginal", which="mean")
    assert abs(draws.mean() - marginal.mean()) < 0.1 * marginal.mean()
    for include_random in (True, False):
        draws = res.simulate(300, seed=2, include_random=include_random)
        mean = res.predict(data, which="mean", include_random=include_random)
        var = res.predict(data, which="var", include_random=include_random)
        if name == "binomial":
            assert_allclose(draws * data["size"].to_numpy(), np.round(draws * data["size"].to_numpy()), atol=1e-9)
            var = var / data["size"]
        z = (draws.mean(axis=0) - mean) / np.sqrt(var / 300)
        assert abs(z.mean()) < 5 / np.sqrt(len(z))
        assert z.std() == pytest.approx(1.0, abs=0.15)
    again = res.refit(draws[0])
    assert again.converged or name == "gamma"
    assert_array_equal(np.asarray(again.model.endog), draws[0])


def test_bootstrap(data):
    res = smm.MixedGLM.from_formula(
        "wins ~ x + (1 | item)", data, family="binomial", n_trials="size", offset="log_time"
    ).fit()
    out = res.bootstrap(20, seed=3)
    assert list(out.estimates.columns) == ["Intercept", "x", "var(Intercept)", "sd(Intercept)"]
    assert len(out.estimates) + out.failed == 20
    assert out.bse["x"] == pytest.approx(res.bse["x"], rel=0.6)
    assert_allclose(out.observed["x"], res.params["x"])


def test_refit_and_update(fits, data):
    for name, (_, response, _) in MODELS.items():
        res = fits[name]
        again = res.refit(res.model.endog)
        assert again.llf == pytest.approx(res.llf, abs=1e-6)
        smaller = res.update(". ~ . - (1 | item)", data)
        assert smaller.llf < res.llf
        assert type(smaller.model) is type(res.model)
        assert smaller.family == res.family
        assert response in smaller.model.formula


def test_after_remove_data(name, data):
    cls, response, options = MODELS[name]
    res = cls.from_formula(FORMULA.format(response), data, **options).fit()
    before = pickle.loads(pickle.dumps(res))
    new = data.head(4)
    res.remove_data()
    small = pickle.loads(pickle.dumps(res))
    assert len(pickle.dumps(res)) < 0.5 * len(pickle.dumps(before))
    for one in (res, small):
        for include_random in (True, False, "marginal"):
            got = one.predict(new, include_random=include_random)
            assert_allclose(got, before.predict(new, include_random=include_random), rtol=1e-12)
        got = one.get_prediction(new, include_random=False).summary_frame()
        assert_allclose(got, before.get_prediction(new, include_random=False).summary_frame(), rtol=1e-9)
        for a, b in zip(one.ranef(conditional_se=True), before.ranef(conditional_se=True)):
            assert_allclose(a["who"], b["who"], rtol=1e-9)
        assert one.r_squared() == pytest.approx(before.r_squared())
        assert one.icc() == pytest.approx(before.icc())
        assert_allclose(one.conf_int(), before.conf_int())
        with pytest.raises(ValueError, match="remove_data"):
            one.residuals("pearson")
        with pytest.raises(ValueError, match="remove_data"):
            one.get_prediction(new)
        with pytest.raises(ValueError, match="remove_data"):
            one.simulate()


@pytest.mark.parametrize("kind", ["caterpillar", "qq", "residuals", "fitted"])
def test_plots(name, fits, kind):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    figure = fits[name].plot(kind)
    figure.canvas.draw()
    plt.close("all")


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "call", "said"),
    [
        ("poisson", lambda r, d: r.predict(d, type="respons"), "Did you mean 'response'"),
        ("poisson", lambda r, d: r.predict(d, type=3), "type=3 is not known"),
        ("poisson", lambda r, d: r.predict(d, which="median"), "which='median' is not known"),
        ("poisson", lambda r, d: r.predict(d, type="linear", which="mean"), "different things"),
        ("ordinal", lambda r, d: r.predict(d, type="response", which="mean"), "different things"),
        ("poisson", lambda r, d: r.predict(d, type="prob"), "has no categories"),
        ("gamma", lambda r, d: r.predict(d, type="class"), "has no categories"),
        ("poisson", lambda r, d: r.predict(d, include_random="marginl"), "Choose True, False or 'marginal'"),
        ("poisson", lambda r, d: r.predict(d, include_random=2), "include_random"),
        ("poisson", lambda r, d: r.predict(np.ones((2, 2)), include_random="marginal"), "needs the random columns"),
        ("poisson", lambda r, d: r.predict(np.ones((2, 5))), "5 columns"),
        ("poisson", lambda r, d: r.predict(d, new_levels="drop"), "new_levels='drop'"),
        ("poisson", lambda r, d: r.predict(d, offset=[1.0]), "offset= has shape"),
        ("poisson", lambda r, d: r.predict(d, exposure=0.0), "exposure= must be positive"),
        ("poisson", lambda r, d: r.predict(d, offset="a"), "offset= must be numbers"),
        ("poisson", lambda r, d: r.residuals("anscombe"), "not a residual"),
        ("poisson", lambda r, d: r.residuals("pearsn"), "Did you mean 'pearson'"),
        ("poisson", lambda r, d: r.residuals("pearson", include_random="marginal"), "include_random"),
        ("ordinal", lambda r, d: r.residuals("deviance"), "ordinal"),
        ("ordinal", lambda r, d: r.resid_working, "ordinal"),
        ("poisson", lambda r, d: r.r_squared("lognorm"), "Did you mean 'lognormal'"),
        ("poisson", lambda r, d: r.r_squared("latent"), "no latent variable"),
        ("bernoulli", lambda r, d: r.r_squared("trigamma"), "for log links"),
        ("ordinal", lambda r, d: r.r_squared("delta"), "latent scale only"),
        ("poisson", lambda r, d: r.icc(scale="data"), "scale='data'"),
        ("ordinal", lambda r, d: r.icc(scale="observation"), "no scale"),
        ("poisson", lambda r, d: r.conf_int(1.5), "alpha"),
        ("poisson", lambda r, d: r.conf_int(0), "alpha"),
        ("bernoulli", lambda r, d: r.odds_ratios(alpha=95), "alpha"),
        ("poisson", lambda r, d: r.get_prediction(d).summary_frame(alpha=2), "alpha"),
        ("poisson", lambda r, d: r.get_prediction(d, which="var"), "no intervals of 'var'"),
        ("poisson", lambda r, d: r.get_prediction(d, weights=[-1.0]), "weights="),
        ("poisson", lambda r, d: r.get_prediction(d, which="linear").conf_int(obs=True), "obs=True"),
        ("ordinal", lambda r, d: r.get_prediction(d, which="mean"), "ordinal"),
        ("poisson", lambda r, d: r.simulate(0), "n=0"),
        ("poisson", lambda r, d: r.simulate(include_random="old"), "include_random='old'"),
        ("poisson", lambda r, d: r.wald_test({"y": 0}), "neither a coefficient nor a term"),
        ("poisson", lambda r, d: r.plot("scatter"), "not a plot"),
    ],
)  # fmt: skip
def test_bad_inputs(fits, data, name, call, said):
    with pytest.raises(ValueError, match=said):
        call(fits[name], data.head(3))


def test_means_that_do_not_exist():
    """With the inverse link the random effects leave its domain."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(30), 10)
    x = rng.uniform(0, 1, 300)
    mu = 1 / (1.5 + x + rng.normal(size=30)[g] * 0.3)
    df = pd.DataFrame({"y": rng.gamma(5, mu / 5), "x": x, "g": g})
    res = smm.MixedGLM.from_formula("y ~ x + (1 | g)", df, family="gamma", link="inverse").fit()
    assert np.isfinite(res.predict(df)).all()
    with pytest.raises(ValueError, match=r"leaves its domain.*log link"):
        res.predict(df, include_random="marginal")
    assert 0 < res.r_squared()["marginal"] < 1
