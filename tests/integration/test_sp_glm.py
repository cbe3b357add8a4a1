"""StatsPAI's spelling of the generalised models: each line of the issue's example, and errors that name the culprit."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose

import sm_multilevel.formula.api as smf
from sm_multilevel import sp


@pytest.fixture(scope="module")
def df():
    rng = np.random.default_rng(11)
    n, m = 600, 30
    g = np.repeat(np.arange(m), n // m)
    u = 0.6 * rng.normal(size=m)[g]
    data = pd.DataFrame({"x1": rng.normal(size=n), "x2": rng.normal(size=n)})
    for name in ("school", "region", "hospital", "county", "site", "g"):
        data[name] = [f"{name}{k}" for k in g]
    data["class"] = rng.integers(0, 3, n)
    data["log_pop"] = rng.normal(size=n)
    data["pop"] = np.exp(data["log_pop"])
    data["severity"], data["exposure"], data["age"] = data["x1"], data["x2"], 40 + 10 * data["x2"]
    data["sex"] = rng.choice(["F", "M"], n)
    eta = 0.5 * data["x1"] - 0.3 * data["x2"] + u
    data["y"] = rng.binomial(1, 1 / (1 + np.exp(-eta)))
    data["x"], data["size"] = data["x1"], rng.integers(2, 9, n)
    data["won"] = rng.binomial(data["size"], 1 / (1 + np.exp(-eta)))
    data["count"] = rng.poisson(np.exp(eta + data["log_pop"]))
    data["events"] = rng.negative_binomial(2, 2 / (2 + np.exp(eta)))
    data["cost"] = rng.gamma(2, np.exp(eta) / 2)
    data["severity_cat"] = np.digitize(eta + rng.logistic(size=n), [-1, 0, 1])
    return data


CALLS = """
from sm_multilevel import sp
a = sp.melogit(df, 'y', ['x1','x2'], group='school', nAGQ=7)
b = sp.mepoisson(df, 'count', ['x1'], group='region', offset='log_pop', nAGQ=11)
c = sp.megamma(df, 'cost', ['severity'], group='hospital', nAGQ=15)
d = sp.menbreg(df, 'events', ['exposure'], group='county', nAGQ=7)   # alias: meglm(family='negbin')
e = sp.meologit(df, 'severity_cat', ['age','sex'], group='site', nAGQ=7)
r = sp.meglm(df, 'y', ['x'], group='g', family='binomial', link='logit', nAGQ=7)
r.odds_ratios(); b.incidence_rate_ratios(); r.predict(new_data, type='response'); r.predict(new_data, type='linear'); r.aic(); r.bic()
"""  # noqa: E501


@pytest.fixture(scope="module")
def calls(df):
    names = {"df": df, "new_data": df.iloc[::50]}
    exec(CALLS, names)
    return names


FORMULAS = {
    "a": ("melogit", "y ~ x1 + x2 + (1 | school)", {}, 7),
    "b": ("mepoisson", "count ~ x1 + (1 | region)", {"offset": "log_pop"}, 11),
    "c": ("megamma", "cost ~ severity + (1 | hospital)", {}, 15),
    "d": ("menbreg", "events ~ exposure + (1 | county)", {}, 7),
    "e": ("meologit", "severity_cat ~ age + sex + (1 | site)", {}, 7),
    "r": ("melogit", "y ~ x + (1 | g)", {}, 7),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_examples_as_written(df, calls, name):
    function, formula, options, points = FORMULAS[name]
    expected = getattr(smf, function)(formula, df, **options).fit(nAGQ=points)
    result = calls[name]
    assert result.converged
    assert result.nAGQ == points
    assert result.llf == pytest.approx(expected.llf, abs=1e-8)
    assert sorted(result.params.index) == sorted(expected.params.index)
    assert_allclose(result.params[expected.params.index], expected.params, rtol=1e-5, atol=1e-6)
    assert f"Adaptive Gauss-Hermite, {points} points" in str(result.summary())


def test_what_the_examples_ask(df, calls):
    r, new = calls["r"], df.iloc[::50]
    ratios = r.odds_ratios()
    assert list(ratios.columns) == ["OR", "lower", "upper", "pvalue"]
    assert_allclose(ratios["OR"], np.exp(r.params))
    assert list(calls["b"].incidence_rate_ratios().columns) == ["IRR", "lower", "upper", "pvalue"]
    linear = r.predict(new, type="linear")
    assert_allclose(r.predict(new, type="response"), 1 / (1 + np.exp(-linear)))
    assert linear.index.equals(new.index)
    assert r.aic() == r.aic == pytest.approx(-2 * r.llf + 2 * 3)
    assert r.bic() == r.bic == pytest.approx(-2 * r.llf + np.log(len(df)) * 3)
    with_offset = calls["b"].predict(new, type="linear") - new["log_pop"]
    assert with_offset.std() < 2


def test_aliases_of_meglm(df, calls):
    same = [
        ("d", sp.meglm(df, "events", ["exposure"], group="county", family="negbin", nAGQ=7)),
        ("d", sp.meglm(df, "events", ["exposure"], "county", "nbinomial", nAGQ=7)),
        ("b", sp.meglm(df, "count", ["x1"], "region", "poisson", offset="log_pop", nAGQ=11)),
        ("b", sp.mepoisson(df, "count", x_fixed=["x1"], group="region", exposure="pop", nAGQ=11)),
        ("c", sp.meglm(df, "cost", ["severity"], "hospital", "gamma", nAGQ=15)),
        ("c", sp.meglm(df, "cost", ["severity"], "hospital", sm.families.Gamma, link="log", nAGQ=15)),
        ("r", sp.meglm(df, "y", ["x"], "g", sm.families.Binomial(), nAGQ=7)),
        ("r", sp.melogit(df, "y", ["x"], "g", None, None, 7)),  # StatsPAI's order
    ]
    for name, result in same:
        assert result.llf == pytest.approx(calls[name].llf, abs=1e-7), name


def test_trials_slopes_and_levels(df):
    trials = sp.melogit(df, "won", ["x1"], "g", trials="size")
    assert trials.llf == pytest.approx(smf.melogit("won ~ x1 + (1 | g)", df, n_trials="size").fit().llf, abs=1e-8)
    slope = sp.melogit(df, "y", ["x1"], "g", ["x1"], nAGQ=5)
    expected = smf.melogit("y ~ x1 + (x1 | g)", df).fit(nAGQ=5)
    assert slope.llf == pytest.approx(expected.llf, abs=1e-7)
    diagonal = sp.melogit(df, "y", ["x1"], "g", re_formula="1 + x1", cov_type="Diagonal")
    assert diagonal.llf == pytest.approx(smf.melogit("y ~ x1 + (x1 || g)", df).fit().llf, abs=1e-7)
    nested = sp.mepoisson(df, "count", ["x1"], ["g", "class"], offset="log_pop")
    expected = smf.mepoisson("count ~ x1 + (1 | g/class)", df, offset="log_pop").fit()
    assert nested.llf == pytest.approx(expected.llf, abs=1e-7)
    assert list(nested.ngroups) == ["class:g", "g"] or set(nested.ngroups) == {"class:g", "g"}


def test_order_of_categories(df):
    labels = ["none", "mild", "bad", "worst"]
    expected = sp.meologit(df, "severity_cat", ["age"], group="site")
    data = df.assign(text=df["severity_cat"].map(dict(enumerate(labels))))
    data["ordered"] = pd.Categorical(data["text"], labels, ordered=True)
    text = sp.meologit(data, "text", ["age"], group="site", order=labels)
    ordered = sp.meologit(data, "ordered", ["age"], group="site")
    assert text.llf == pytest.approx(expected.llf, abs=1e-8)
    assert ordered.llf == pytest.approx(expected.llf, abs=1e-8)
    assert list(ordered.thresholds.index) == ["none|mild", "mild|bad", "bad|worst"]
    probit = sp.meologit(data, "ordered", ["age"], group="site", distr="probit")
    assert probit.link == "probit"


@pytest.mark.parametrize("name", ["exposure", "offset", "n_trials", "groups", "family", "link", "alpha", "trials"])
def test_columns_named_as_options(df, name):
    """A predictor may have the name of an option, of psi, or of anything else."""
    data = df.drop(columns="exposure").rename(columns={"x1": name})
    expected = smf.menbreg("events ~ x1 + x2 + (1 | g)", df).fit()
    result = sp.menbreg(data, "events", [name, "x2"], group="g", x_random=None)
    assert result.llf == pytest.approx(expected.llf, abs=1e-8)
    assert list(result.params.index) == ["Intercept", name, "x2", "alpha"]


def test_names_that_are_no_python_names(df):
    names = {"count": "number of events", "x1": "S.E.S.", "g": "my group", "log_pop": "log pop"}
    result = sp.mepoisson(
        df.rename(columns=names), "number of events", ["S.E.S."], "my group", ["S.E.S."], offset="log pop"
    )
    expected = smf.mepoisson("count ~ x1 + (x1 | g)", df, offset="log_pop").fit()
    assert result.llf == pytest.approx(expected.llf, abs=1e-7)


def test_alpha_and_maxiter(df):
    result = sp.melogit(df, "y", ["x1"], "g", alpha=0.1)
    assert "0.95]" in str(result.summary())
    assert_allclose(result.conf_int(), result.conf_int(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether one step is enough does not matter here
        assert sp.melogit(df, "y", ["x1"], "g", maxiter=1).record.evaluations < result.record.evaluations


def test_local_names_in_re_formula(df):
    def half(v):
        return v / 2

    result = sp.melogit(df, "y", ["x1"], "g", re_formula="1 + half(x1)")
    expected = smf.melogit("y ~ x1 + (x1 | g)", df).fit()
    assert result.llf == pytest.approx(expected.llf, abs=1e-6)


# -- errors ----------------------------------------------------------------------------------------

BASE = {"y": "y", "x": ["x1"], "group": "g"}
COUNT = {"y": "count", "x": ["x1"], "group": "g"}
ORDINAL = {"y": "sex", "x": ["x1"], "group": "g"}
ERRORS = [
    ("melogit", BASE, {"y": "yy"}, r"y= names 'yy', which is no column of the data"),
    ("melogit", BASE, {"x": ["x1", "x3"]}, r"x= names 'x3'.*mean 'x"),
    ("melogit", BASE, {"group": "scool"}, r"group= names 'scool'.*mean 'school'"),
    ("melogit", BASE, {"group": None}, "group= is needed"),
    ("melogit", BASE, {"x_random": ["x9"]}, "x_random= names 'x9'"),
    ("melogit", BASE, {"x_random": ["x1"], "re_formula": "1"}, "re_formula= and x_random= are two spellings"),
    ("melogit", BASE, {"x_fixed": ["x1"]}, "x= and x_fixed= are two spellings"),
    ("melogit", BASE, {"cov_type": "cs"}, "cov_type='cs' is not known. Choose one of 'unstructured'"),
    ("melogit", BASE, {"trials": "sise"}, r"trials= names 'sise'.*mean 'size'"),
    ("melogit", BASE, {"trials": 5}, "trials= must be the name of a column"),
    ("melogit", BASE, {"offset": "log_pob"}, r"offset= names 'log_pob'.*mean 'log_pop'"),
    ("melogit", BASE, {"y": "count"}, "an outcome is 0 or 1"),
    ("melogit", BASE, {"y": "won", "trials": "y"}, "n_trials must be whole numbers of 1 or more"),
    ("melogit", BASE, {"nAGQ": -1}, "nAGQ=-1 must be a whole number"),
    ("melogit", BASE, {"nAGQ": 1.5}, "nAGQ=1.5 must be a whole number"),
    ("melogit", BASE, {"nAGQ": 99999}, "nAGQ=99999 .*budget"),
    ("melogit", BASE, {"nAGQ": 60, "x_random": ["x1", "x2"]}, "nAGQ=60 with 3 random columns"),
    ("melogit", BASE, {"tol": 0}, "tol=0 must be a positive number"),
    ("meologit", ORDINAL, {"curvature": "expected"}, "curvature='expected' is not available"),
    ("menbreg", COUNT, {"curvature": "expected"}, "curvature='expected' is not available"),
    ("melogit", BASE, {"alpha": 5}, "alpha=5 must lie between 0 and 1"),
    ("melogit", BASE, {"maxiter": -1}, "maxiter=-1"),
    ("mepoisson", COUNT, {"exposure": "popp"}, r"exposure= names 'popp'.*mean 'pop'"),
    ("mepoisson", COUNT, {"exposure": "x1"}, "exposure must be positive"),
    ("mepoisson", COUNT, {"offset": np.zeros(600)}, "offset= must be the name of a column .*ndarray"),
    ("mepoisson", COUNT, {"y": "sex"}, "sex.*holds text"),
    ("mepoisson", COUNT, {"y": "cost"}, "counts that are not whole numbers"),
    ("megamma", COUNT, {}, "zero or negative"),
    ("megamma", COUNT, {"y": "cost", "link": "lgo"}, "No link is called 'lgo'. Did you mean 'log'"),
    ("meglm", BASE, {"family": "binomail"}, "No family is called 'binomail'. Did you mean 'binomial'"),
    ("meglm", BASE, {"family": "zip"}, "zero-inflated family is not available"),
    ("meglm", COUNT, {"family": "poisson", "trials": "size"}, "n_trials= is for a binomial response"),
    ("menbreg", COUNT, {"y": "x1"}, "negative counts"),
    ("meologit", ORDINAL, {}, "holds text, whose order is not known. Give order="),
    ("meologit", ORDINAL, {"order": ["F"]}, "'M'.*not in order="),
    ("meologit", ORDINAL, {"order": "FM"}, "order='FM' must be a list"),
    ("meologit", ORDINAL, {"y": "cost"}, "must hold categories"),
    ("meologit", ORDINAL, {"y": "severity_cat", "distr": "logti"}, "distr='logti'"),
]


@pytest.mark.parametrize(
    ("name", "base", "changes", "message"),
    ERRORS,
    ids=[f"{name}-{'-'.join(changes)}-{i}" for i, (name, _, changes, _) in enumerate(ERRORS)],
)
def test_errors_name_the_culprit(df, name, base, changes, message):
    with pytest.raises(ValueError, match=message):
        getattr(sp, name)(df, **{**base, **changes})


@pytest.mark.parametrize(("name", "option"), [
    ("melogit", "family"), ("melogit", "exposure"), ("mepoisson", "trials"), ("menbreg", "link"),
    ("meologit", "trials"), ("meglm", "nagq"), ("meglm", "groups"),
])  # fmt: skip
def test_unknown_options(df, name, option):
    with pytest.raises(TypeError, match=option):
        getattr(sp, name)(df, "y", ["x1"], "g", **{option: "x1"})
    with pytest.raises(TypeError, match="data is of type list"):
        getattr(sp, name)([1, 2], "y", ["x1"], "g")
