"""The formula functions and `register`: what each fits, where it finds names, what it refuses."""

import inspect
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose

import sm_multilevel
import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, contraception, epil, wine

FUNCTIONS = {
    "melogit": (smm.MixedGLM, {"family": "binomial", "link": "logit"}),
    "meprobit": (smm.MixedGLM, {"family": "binomial", "link": "probit"}),
    "mecloglog": (smm.MixedGLM, {"family": "binomial", "link": "cloglog"}),
    "mepoisson": (smm.MixedGLM, {"family": "poisson"}),
    "megamma": (smm.MixedGLM, {"family": "gamma", "link": "log"}),
    "menbreg": (smm.MENegBin, {}),
    "meologit": (smm.MEOLogit, {"distr": "logit"}),
    "meoprobit": (smm.MEOLogit, {"distr": "probit"}),
    "meglm": (smm.MixedGLM, {}),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(25), 12)
    x = rng.normal(size=300)
    eta = 0.4 * x + 0.6 * rng.normal(size=25)[g]
    frame = pd.DataFrame({"g": g, "h": np.arange(300) % 2, "x": x, "month": rng.uniform(1, 3, 300)})
    frame["binary"] = rng.binomial(1, 1 / (1 + np.exp(-eta)))
    frame["trials"] = 5
    frame["successes"] = rng.binomial(5, 1 / (1 + np.exp(-eta)))
    frame["count"] = rng.poisson(np.exp(eta))
    frame["events"] = rng.negative_binomial(2, 2 / (2 + np.exp(eta)))
    frame["cost"] = rng.gamma(3, np.exp(eta) / 3)
    frame["grade"] = np.digitize(eta + rng.logistic(size=300), [-1, 0, 1])
    frame["text"] = frame["grade"].map(lambda k: ["bad", "fair", "good", "best"][k])
    return frame


def response(name):
    if "olog" in name or "oprob" in name:
        return "grade"
    return {"mepoisson": "count", "menbreg": "events", "megamma": "cost", "meglm": "x"}.get(name, "binary")


# -- what they fit ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_model_of_the_class(data, name):
    cls, options = FUNCTIONS[name]
    right = "1" if name == "meglm" else "x"
    model = getattr(smf, name)(f"{response(name)} ~ {right} + (1 | g)", data)
    assert type(model) is cls
    expected = cls.from_formula(f"{response(name)} ~ {right} + (1 | g)", data, **options).fit()
    result = model.fit()
    assert result.llf == pytest.approx(expected.llf, abs=1e-9)
    assert (result.family.name, result.link) == (expected.family.name, expected.link)
    words = getattr(smf, name)(f"{response(name)} ~ {right}", data, groups="g", re_formula="1").fit()
    assert words.llf == pytest.approx(expected.llf, abs=1e-9)
    positional = getattr(smf, name)(f"{response(name)} ~ {right}", data, "g").fit()
    assert positional.llf == pytest.approx(expected.llf, abs=1e-9)


@pytest.mark.parametrize("name", [*FUNCTIONS, "mixedlm", "mixed"])
def test_local_names_in_formulas(data, name):
    """Functions and variables of the function that calls, and of the one around it."""
    function, outer = getattr(smf, name), 2.0
    shift = np.arange(300) % 3

    def double(v):
        return outer * v

    y = "x" if name.startswith("mixed") else response(name)
    column = "month" if y == "x" else "x"
    model = function(f"{y} ~ double({column}) + shift + (1 | g)", data)
    assert model.exog_names[-2:] == [f"double({column})", "shift"]
    assert_allclose(np.asarray(model.exog)[:, -1], shift)
    slopes = function(f"{y} ~ 1", data, groups="g", re_formula="~ double(month)")
    assert_allclose(slopes.random[0].exog[:, 1], 2 * data["month"])


@pytest.mark.parametrize("function", [smf.melogit, smf.meglm])
def test_evaluation_environments(data, function):
    options = {"family": "binomial"} if function is smf.meglm else {}
    twice = 3.0  # noqa: F841

    def call(depth):
        twice = 2.0  # noqa: F841
        return np.asarray(function("binary ~ I(twice * x) + (1 | g)", data, eval_env=depth, **options).exog)[:, 1]

    assert_allclose(call(0), 2 * data["x"])
    assert_allclose(call(None), 2 * data["x"])
    assert_allclose(call(1), 3 * data["x"])
    with pytest.raises(ValueError, match="twice"):
        call(-1)


def test_families_of_meglm(data):
    formula = "successes ~ x + (1 | g)"
    models = [
        smf.meglm(formula, data, n_trials="trials", **options)
        for options in (
            {"family": "binomial", "link": "logit"},
            {"family": "Binomial"},
            {"family": sm.families.Binomial},
            {"family": sm.families.Binomial()},
            {"family": sm.families.Binomial, "link": sm.families.links.Logit},
            {"family": sm.families.Binomial, "link": "logit"},
        )
    ]
    assert {round(model.fit().llf, 8) for model in models} == {round(models[0].fit().llf, 8)}
    nb, direct = smf.meglm("events ~ x + (1 | g)", data, family="negbin"), smf.menbreg("events ~ x + (1 | g)", data)
    assert nb.fit().llf == pytest.approx(direct.fit().llf, abs=1e-9)
    assert "alpha" in nb.fit().params.index
    assert smf.meglm("cost ~ x + (1 | g)", data, family=sm.families.Gamma()).family.link_name == "inverse"
    assert smf.megamma("cost ~ x + (1 | g)", data, link="identity").family.link_name == "identity"


def test_options(data):
    bare = smf.mepoisson("count ~ x + (1 | g)", data, offset=np.log(data["month"])).fit()
    assert smf.mepoisson("count ~ x + (1 | g)", data, exposure="month").fit().llf == pytest.approx(bare.llf)
    assert smf.menbreg("events ~ x + (1 | g)", data, loglike_method="nb1").fit().family.name != "NegativeBinomial"
    order = ["bad", "fair", "good", "best"]
    text = smf.meologit("text ~ x + (1 | g)", data, order=order).fit()
    assert text.llf == pytest.approx(smf.meologit("grade ~ x + (1 | g)", data).fit().llf)
    assert list(text.thresholds.index) == ["bad|fair", "fair|good", "good|best"]
    assert len(smf.melogit("binary ~ x + (1 | g)", data, subset=data["h"] == 0).endog) == 150


def test_signatures_and_documentation():
    for name in FUNCTIONS:
        function = getattr(smf, name)
        assert list(inspect.signature(function).parameters)[:3] == ["formula", "data", "groups"]
        assert function.__doc__
        assert name in smf.__all__


def test_classes_are_exported():
    assert {"MixedLM", "MixedGLM", "MENegBin", "MEOLogit"} <= set(smm.__all__)


# -- register -----------------------------------------------------------------------------------

REGISTER = """
import statsmodels.formula.api as smf
theirs = smf.mixedlm
import sm_multilevel
added = sm_multilevel.register()
print(*added)
assert smf.mixedlm is theirs and sm_multilevel.register() == []
from sm_multilevel.datasets import sleepstudy
def fit():
    local = lambda v: v / 10
    return smf.megamma("Reaction ~ local(Days)", sleepstudy.load_pandas().data, groups="Subject").fit(nAGQ=15)
assert fit().converged
assert sm_multilevel.register(override=True) == ["mixedlm"]
import sm_multilevel.formula.api as ours
assert smf.mixedlm == ours.mixedlm and smf.ols is not None
assert sm_multilevel.register(override=True) == []
"""


def test_register():
    done = subprocess.run([sys.executable, "-c", REGISTER], capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {*FUNCTIONS, "mixed"}


def test_nothing_is_registered_unasked():
    code = "import sm_multilevel.formula.api, statsmodels.formula.api as f; assert not hasattr(f, 'megamma')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_other_peoples_functions_stay(monkeypatch):
    import statsmodels.formula.api as host

    for name in ("mixedlm", *sm_multilevel.register()):
        monkeypatch.setattr(host, name, len, raising=False)
    assert sm_multilevel.register() == []
    assert host.mixedlm is len


# -- what they refuse ------------------------------------------------------------------------------

X = "binary ~ x + (1 | g)"
ERRORS = [
    ("melogit", X, {"family": "poisson"}, TypeError, r"melogit\(\) has no option 'family'.*logistic.*meglm"),
    ("melogit", X, {"link": "probit"}, TypeError, r"melogit\(\) has no option 'link'"),
    ("mepoisson", X, {"family": sm.families.Gamma()}, TypeError, r"mepoisson\(\) has no option 'family'"),
    ("meologit", X, {"distr": "probit"}, TypeError, r"meologit\(\) has no option 'distr'.*MEOLogit"),
    ("meglm", X, {"family": "binomail"}, ValueError, "No family is called 'binomail'. Did you mean 'binomial'"),
    ("meglm", X, {"family": 3}, ValueError, "family must be a name or a statsmodels family, not 3"),
    ("meglm", X, {"family": "binomial", "link": "logti"}, ValueError, "No link is called 'logti'. Did.* mean 'logit'"),
    ("meglm", X, {"family": "negbin", "link": "identity"}, ValueError, "log link only"),
    ("meglm", X, {"family": "beta"}, ValueError, "beta family is not available.*n_trials="),
    ("meglm", X, {"family": "zero_inflated_poisson"}, ValueError, "zero-inflated family is not available.*negbin"),
    ("meglm", X, {"family": "hurdle"}, ValueError, "hurdle family is not available.*negbin"),
    ("meglm", X, {"family": "poisson", "ziformula": "~ 1"}, TypeError, "no option 'ziformula': zero-inflated models"),
    ("mepoisson", X, {"zi_formula": "~ 1"}, TypeError, "no option 'zi_formula': zero-inflated models.*menbreg"),
    ("menbreg", X, {"dispformula": "~ x"}, TypeError, "no option 'dispformula': the dispersion is one number"),
    ("megamma", X, {"dispersion_formula": "~ x"}, TypeError, "'dispersion_formula': the dispersion is one number"),
    ("melogit", X, {"nAGQ": 7}, TypeError, r"no option 'nAGQ': it is an option of fit\(\)"),
    ("melogit", X, {"famly": "binomial"}, TypeError, "no option 'famly'. Did you mean 'family'"),
    ("melogit", X, {"trials": "trials"}, TypeError, "no option 'trials'. Did you mean 'n_trials'"),
    ("menbreg", X, {"family": "poisson"}, TypeError, "MENegBin has no option 'family'"),
    ("menbreg", X, {"loglike_method": "nb3"}, ValueError, "loglike_method='nb3'"),
    ("mepoisson", "count ~ x + (1 | g)", {"n_trials": "trials"}, ValueError, "n_trials= is for a binomial response"),
    ("mepoisson", "month ~ x + (1 | g)", {}, ValueError, "month has counts that are not whole numbers.*exposure"),
    ("mepoisson", "text ~ x + (1 | g)", {}, ValueError, "text.*holds text"),
    ("mepoisson", "x ~ month + (1 | g)", {}, ValueError, "negative counts"),
    ("mepoisson", "count ~ x + (1 | g)", {"exposure": "x"}, ValueError, "exposure must be positive"),
    ("megamma", "count ~ x + (1 | g)", {}, ValueError, "zero or negative"),
    ("melogit", "grade ~ x + (1 | g)", {}, ValueError, "an outcome is 0 or 1"),
    ("melogit", "text ~ x + (1 | g)", {}, ValueError, "4 labels.*a binary response has two.*MEOLogit"),
    ("melogit", "successes ~ x + (1 | g)", {"n_trials": "h"}, ValueError, "n_trials must be whole numbers of 1 or"),
    ("meologit", "text ~ x + (1 | g)", {}, ValueError, "holds text, whose order is not known. Give order="),
    ("meologit", "pd.Categorical(text) ~ x + (1 | g)", {}, ValueError, "have no order. Give order="),
    ("meologit", "month ~ x + (1 | g)", {}, ValueError, "must hold categories"),
    ("meologit", "text ~ x + (1 | g)", {"order": ["bad", "good"]}, ValueError, "'(fair|best)'.*not in order="),
    ("meologit", "grade ~ x", {}, ValueError, "no random term"),
    ("melogit", "binary ~ x + (1 | gg)", {}, ValueError, "'gg'"),
]


@pytest.mark.parametrize(
    ("name", "formula", "options", "error", "message"),
    ERRORS,
    ids=[f"{e[0]}-{e[1].split()[0]}-{''.join(e[2])}-{i}" for i, e in enumerate(ERRORS)],
)
def test_errors(data, name, formula, options, error, message):
    with pytest.raises(error, match=message):
        getattr(smf, name)(formula, data, **options)


FIT_ERRORS = [
    (-1, "(1 | g)", "nAGQ=-1 must be a whole number from 0, or 'auto'"),
    (2.5, "(1 | g)", "nAGQ=2.5 must be a whole number"),
    ("many", "(1 | g)", "nAGQ='many' must be a whole number"),
    (None, "(1 | g)", "nAGQ=None must be a whole number"),
    (True, "(1 | g)", "nAGQ=True must be a whole number"),
    ([7], "(1 | g)", r"nAGQ=\[7\] must be a whole number"),
    (99999, "(1 | g)", "nAGQ=99999 .*budget.*at most nAGQ="),
    (200, "(x + month | g)", r"nAGQ=200 with 3 random columns would need 200\^3 nodes.*at most nAGQ="),
    (7, "(1 | g) + (1 | h)", r"nAGQ=7: quadrature needs one grouping factor.*\(.*g, h.*\) are crossed.*nAGQ=1"),
]


@pytest.mark.parametrize(("points", "random", "message"), FIT_ERRORS)
def test_points_that_are_refused(data, points, random, message):
    model = smf.melogit(f"binary ~ x + {random}", data)
    with pytest.raises(ValueError, match=message):
        model.fit(nAGQ=points)


def test_bundled_data():
    assert smf.melogit(
        "incidence ~ period + (1 | herd)", cbpp.load_pandas().data, n_trials="size"
    ).fit().llf == pytest.approx(-92.02628, abs=1e-5)
    use = smf.meprobit("use ~ urban + (urban | district)", contraception.load_pandas().data).fit()
    assert use.converged
    counts = smf.menbreg("y ~ trt + (1 | subject)", epil.load_pandas().data).fit()
    assert counts.llf == pytest.approx(-656.62707, abs=1e-4)
    rating = smf.meologit("rating ~ temp + contact + (1 | judge)", wine.load_pandas().data).fit()
    assert rating.llf == pytest.approx(-81.56541, abs=1e-5)
