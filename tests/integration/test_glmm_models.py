"""The generalised models as users meet them: hard data, limits, options and bad input."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from sm_multilevel.models.generalized import MENegBin, MEOLogit, MixedGLM


def groups(seed=0, m=60, low=3, high=9):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(m), rng.integers(low, high, m))
    g = g[rng.permutation(len(g))]
    x = np.column_stack([np.ones(len(g)), rng.normal(size=len(g))])
    return rng, g, x


def frame(seed=0):
    rng, g, x = groups(seed)
    d = pd.DataFrame({"g": [f"g{i:03d}" for i in g], "h": rng.integers(0, 8, len(g)), "x": x[:, 1]})
    b = rng.normal(size=(60, 2)) * [0.8, 0.3]
    eta = 0.2 + 0.5 * d.x + b[g, 0] + b[g, 1] * d.x + 0.4 * rng.normal(size=8)[d.h]
    d["y"] = (rng.random(len(d)) < 1 / (1 + np.exp(-eta))).astype(int)
    d["n"] = rng.integers(1, 9, len(d))
    d["s"] = rng.binomial(d.n, 1 / (1 + np.exp(-eta)))
    d["count"] = rng.poisson(np.exp(eta))
    d["cost"] = rng.gamma(2.0, np.exp(eta) / 2)
    d["rating"] = np.digitize(eta + rng.logistic(size=len(d)), [-1.0, 0.5, 2.0])
    d["label"] = pd.Categorical.from_codes(d.rating, ["none", "mild", "strong", "severe"])
    d["expo"] = rng.uniform(0.5, 3.0, len(d))
    d["off"] = rng.normal(size=len(d)) * 0.3
    return d


# -- no variance: statsmodels' models ------------------------------------------------------------


def _ml_dispersion(family, y, mu):
    """Dispersion that maximises statsmodels' log-likelihood at the means."""
    from scipy import optimize

    found = optimize.minimize_scalar(
        lambda s: -family.loglike(y, mu, scale=np.exp(s)), bounds=(-5, 5), method="bounded", options={"xatol": 1e-12}
    )
    return np.exp(found.x), -found.fun


@pytest.mark.parametrize("points", [1, 7])
@pytest.mark.parametrize("terms", ["(1 | g)", "(x | g) + (1 | h)"])
def test_zero_variance_is_the_model_without_random_effects(terms, points):
    if points > 1 and "h" in terms:
        return
    d = frame()
    k = 1 if "h" not in terms else 4
    zero = np.zeros(k)
    x = sm.add_constant(d.x.to_numpy())

    def ours(model, params):
        return model.loglike(np.concatenate([params, zero]), nAGQ=points)

    for family, y in ((sm.families.Poisson(), d["count"]), (sm.families.Binomial(), d.y)):
        glm = sm.GLM(y, x, family=family, offset=d.off).fit(tol=1e-12)
        name = y.name
        model = MixedGLM.from_formula(f"{name} ~ x + {terms}", d, family=family, offset="off")
        assert ours(model, glm.params.to_numpy()) == pytest.approx(glm.llf, rel=1e-8)
    both = np.column_stack([d.s, d.n - d.s])
    glm = sm.GLM(both, x, family=sm.families.Binomial(sm.families.links.Probit())).fit(tol=1e-12)
    model = MixedGLM.from_formula(f"s ~ x + {terms}", d, family="binomial", link="probit", n_trials="n")
    assert ours(model, glm.params) == pytest.approx(glm.llf, rel=1e-8)
    for family in (sm.families.Gamma(sm.families.links.Log()), sm.families.InverseGaussian(sm.families.links.Log())):
        glm = sm.GLM(d.cost, x, family=family).fit(tol=1e-12)
        scale, llf = _ml_dispersion(family, d.cost.to_numpy(), glm.mu)
        model = MixedGLM.from_formula(f"cost ~ x + {terms}", d, family=family)
        assert ours(model, [*glm.params, scale]) == pytest.approx(llf, rel=1e-8)
    ols = sm.OLS(d.cost, x).fit()
    model = MixedGLM.from_formula(f"cost ~ x + {terms}", d, family="gaussian")
    assert ours(model, [*ols.params, ols.ssr / len(d)]) == pytest.approx(ols.llf, rel=1e-8)
    for kind in ("nb2", "nb1"):
        nb = sm.NegativeBinomial(d["count"], x, loglike_method=kind).fit(disp=0, gtol=1e-9, maxiter=200)
        model = MENegBin.from_formula(f"count ~ x + {terms}", d, loglike_method=kind)
        assert ours(model, nb.params.to_numpy()) == pytest.approx(nb.llf, rel=1e-8)
    for distr in ("logit", "probit"):
        ordered = OrderedModel(d.rating, d[["x"]], distr=distr)
        found = ordered.fit(disp=0, method="bfgs", gtol=1e-8)
        cuts = ordered.transform_threshold_params(found.params.to_numpy())[1:-1]
        model = MEOLogit.from_formula(f"rating ~ x + {terms}", d, distr=distr)
        assert ours(model, [found.params.iloc[0], *cuts]) == pytest.approx(found.llf, rel=1e-8)


def test_poisson_limit_of_the_negative_binomial():
    rng, g, x = groups(4, 80)
    y = np.round(np.exp(0.8 + 0.2 * x[:, 1] + 0.4 * rng.normal(size=80)[g]))  # less spread than a Poisson count
    poisson = MixedGLM(y, x, g, family="poisson").fit()
    for kind in ("nb2", "nb1"):
        result = MENegBin(y, x, g, loglike_method=kind).fit()
        assert result.converged
        assert result.llf == pytest.approx(poisson.llf, rel=1e-10)
        assert result.params[-1] == 0.0
        assert np.isnan(result.bse[-1])
        assert result.bse[:2] == pytest.approx(poisson.bse, rel=1e-4)
        assert result.is_singular
        assert any("alpha" in text for text in result.record.singular)


def test_two_categories_are_the_binomial_model():
    d = frame()
    binary = MixedGLM.from_formula("y ~ x + (x | g)", d, family="binomial").fit()
    ordinal = MEOLogit.from_formula("y ~ x + (x | g)", d).fit()
    assert ordinal.llf == pytest.approx(binary.llf, rel=1e-10)
    assert ordinal.params["x"] == pytest.approx(binary.params["x"], rel=1e-5)
    assert ordinal.thresholds.iloc[0] == pytest.approx(-binary.params["Intercept"], rel=1e-4)
    assert np.asarray(ordinal.bse) == pytest.approx(np.asarray(binary.bse)[::-1], rel=1e-4)


# -- the same model said in several ways ------------------------------------------------------------


def test_forms_of_a_binomial_response():
    d = frame()
    d["f"] = d.n - d.s
    d["p"] = d.s / d.n
    forms = [
        MixedGLM.from_formula("s + f ~ x + (1 | g)", d, family=sm.families.Binomial()),
        MixedGLM.from_formula("s ~ x + (1 | g)", d, family="binomial", n_trials="n"),
        MixedGLM.from_formula("p ~ x + (1 | g)", d, family=sm.families.Binomial, n_trials=d.n),
        MixedGLM(d[["s", "f"]], sm.add_constant(d[["x"]]), d.g, family="binomial", link="logit"),
        MixedGLM.from_formula("s ~ x", d, groups="g", family="binomial", n_trials="n"),
        MixedGLM.from_formula("p ~ x + (1 | g)", d, family="binomial", var_weights="n"),
        MixedGLM(d.p, sm.add_constant(d[["x"]]), d.g, family="binomial", var_weights=d.n),
    ]
    values = [model.fit().llf for model in forms]
    assert all(model.var_weights is None for model in forms)
    with pytest.raises(ValueError, match="n_trials"):  # weights that are no numbers of trials
        MixedGLM.from_formula("p ~ x + (1 | g)", d, family="binomial", var_weights="expo")
    assert values == pytest.approx([values[0]] * len(values), rel=1e-10)
    rows = d.loc[d.index.repeat(d.n)].copy()
    rows["one"] = (rows.groupby(level=0).cumcount() < rows.s).astype(int)
    split = MixedGLM.from_formula("one ~ x + (1 | g)", rows.reset_index(drop=True), family="binomial").fit()
    whole = forms[0].fit()
    assert np.asarray(split.params) == pytest.approx(np.asarray(whole.params), rel=1e-6)
    assert np.asarray(split.bse) == pytest.approx(np.asarray(whole.bse), rel=1e-5)


def test_exposure_is_an_offset():
    d = frame()
    d["log_expo"] = np.log(d.expo)
    values = [
        MixedGLM.from_formula("count ~ x + (1 | g)", d, family="poisson", **options).fit().llf
        for options in ({"exposure": "expo"}, {"offset": "log_expo"}, {"offset": "np.log(expo)"})
    ]
    values.append(MixedGLM.from_formula("count ~ x + offset(log_expo) + (1 | g)", d, family="poisson").fit().llf)
    assert values == pytest.approx([values[0]] * 4, rel=1e-12)


@pytest.mark.parametrize("response", ["rating", "label", "text", "float"])
def test_forms_of_an_ordinal_response(response):
    d = frame()
    base = MEOLogit.from_formula("rating ~ x + (1 | g)", d).fit()
    d["label"] = d.label.cat.as_ordered()
    d["text"] = d.label.astype(str)
    d["float"] = d.rating * 2.0
    order = {"order": ["none", "mild", "strong", "severe"]} if response == "text" else {}
    result = MEOLogit.from_formula(f"{response} ~ 0 + x + (1 | g)", d, **order).fit()
    assert result.llf == pytest.approx(base.llf, rel=1e-10)
    assert np.asarray(result.params) == pytest.approx(np.asarray(base.params), rel=1e-6)
    names = {"rating": "0|1", "label": "none|mild", "text": "none|mild", "float": "0.0|2.0"}
    assert result.params.index[1].replace("0|2", "0.0|2.0") == names[response]


# -- hard data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [1, 9, "auto"])
def test_few_rows_and_a_large_variance(points):
    rng, g, x = groups(1, 200, 3, 8)
    eta = x @ [0.3, 1.0] + 4 * rng.normal(size=200)[g]
    y = (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(float)
    result = MixedGLM(y, x, g, family="binomial").fit(nAGQ=points)
    assert result.converged
    assert 2.5 < result.theta[0] < 6.0
    if points == "auto":
        assert result.nAGQ >= 25
        assert result.quadrature_error < 1e-4
        finer = MixedGLM(y, x, g, family="binomial").fit(nAGQ=result.nAGQ + 20)
        assert abs(finer.llf - result.llf) < 1e-3
        assert np.abs((finer.params - result.params) / finer.bse).max() < 2e-3


def test_auto_of_easy_data_needs_few_points():
    d = frame()
    result = MixedGLM.from_formula("s ~ x + (1 | g)", d, family="binomial", n_trials="n").fit(nAGQ="auto")
    assert result.converged
    assert result.nAGQ <= 17
    assert result.quadrature_error < 1e-5


def test_predictors_of_any_size():
    d = frame()
    d["big"] = 1e5 * d.x + 3e5
    for model, response, options in (
        (MixedGLM, "y", {"family": "binomial"}),
        (MENegBin, "count", {}),
        (MEOLogit, "rating", {}),
    ):
        small = model.from_formula(f"{response} ~ x + (x | g) + (1 | h)", d, **options).fit()
        big = model.from_formula(f"{response} ~ big + (big | g) + (1 | h)", d, **options).fit()
        assert big.converged
        assert big.llf == pytest.approx(small.llf, rel=1e-9)
        assert big.params["big"] * 1e5 == pytest.approx(small.params["x"], rel=1e-4)
        assert big.bse["big"] * 1e5 == pytest.approx(small.bse["x"], rel=1e-4)


def test_groups_of_one_outcome_and_empty_categories():
    d = frame()
    d.loc[d.g == "g001", "y"] = 1
    d.loc[d.g == "g002", "y"] = 0
    d.loc[d.g == "g003", "rating"] = 3
    assert MixedGLM.from_formula("y ~ x + (x | g)", d, family="binomial").fit(nAGQ=5).converged
    assert MEOLogit.from_formula("rating ~ x + (1 | g)", d).fit(nAGQ=5).converged


def test_outcomes_that_do_not_vary_within_groups():
    rng, g, x = groups(2)
    y = (rng.random(60) < 0.5)[g].astype(float)
    for points in (1, 5):
        with pytest.warns(ConvergenceWarning, match="does not vary within the levels of group"):
            result = MixedGLM(y, x, g, family="binomial").fit(nAGQ=points)
        assert not result.converged


def test_very_large_counts():
    rng, g, x = groups(3)
    y = rng.poisson(np.exp(10 + 0.2 * x[:, 1] + 0.5 * rng.normal(size=60)[g])).astype(float)
    result = MixedGLM(y, x, g, family="poisson").fit()
    assert result.converged
    assert result.theta[0] == pytest.approx(0.5, abs=0.2)


def test_many_small_groups():
    rng = np.random.default_rng(0)
    m = 30_000
    g = np.repeat(np.arange(m), 2)
    x = np.column_stack([np.ones(2 * m), rng.normal(size=2 * m)])
    eta = x @ [0.0, 0.5] + rng.normal(size=m)[g]
    y = (rng.random(2 * m) < 1 / (1 + np.exp(-eta))).astype(float)
    result = MixedGLM(y, x, g, family="binomial").fit(nAGQ=7)
    assert result.converged
    assert result.theta[0] == pytest.approx(1.0, abs=0.08)
    assert result.params[1] == pytest.approx(0.5, abs=4 * result.bse[1])


def test_the_links_domain():
    rng, g, x = groups(5)
    y = rng.gamma(2.0, np.exp(1 + 0.5 * rng.normal(size=60)[g]) / 2)
    model = MixedGLM(y, x, g, family="gamma", link="inverse")
    with pytest.warns(ConvergenceWarning, match="domain of the link"):
        assert model.fit().converged
    with pytest.raises(ValueError, match=r"nAGQ > 1 is not possible.*domain"):
        model.fit(nAGQ=5)


# -- options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lbfgs", "bfgs"])
def test_other_methods_reach_the_same_optimum(method):
    d = frame()
    for model, formula, options in (
        (MixedGLM, "y ~ x + (x | g)", {"family": "binomial"}),
        (MEOLogit, "rating ~ x + (1 | g)", {}),
        (MENegBin, "count ~ x + (1 | g)", {}),
    ):
        built = model.from_formula(formula, d, **options)
        ours, other = built.fit(), built.fit(method=method)
        assert other.llf == pytest.approx(ours.llf, abs=1e-6)
        assert np.asarray(other.params) == pytest.approx(np.asarray(ours.params), rel=1e-3, abs=1e-4)


def test_start_params_and_packed_parameters():
    d = frame()
    for model, formula, options in (
        (MixedGLM, "y ~ x + (x | g) + (1 | h)", {"family": "binomial", "offset": "off"}),
        (MEOLogit, "rating ~ x + (1 | g)", {}),
        (MENegBin, "count ~ x + (1 | g)", {"exposure": "expo"}),
        (MixedGLM, "cost ~ x + (1 | g)", {"family": "gamma", "link": "log"}),
    ):
        built = model.from_formula(formula, d, **options)
        result = built.fit()
        again = built.fit(start_params=result.params_packed)
        assert again.record.evaluations <= result.record.evaluations
        assert again.llf == pytest.approx(result.llf, rel=1e-10)
        packed = result.params_packed
        assert built.loglike(packed) == pytest.approx(result.llf, rel=1e-10)
        assert np.abs(built.score(packed)).max() < 1e-2
        hessian = built.hessian(packed)
        step = 1e-5 * np.maximum(1.0, np.abs(packed))
        rows = [(built.score(packed + s) - built.score(packed - s)) / (2 * s.sum()) for s in np.diag(step)]
        assert hessian == pytest.approx(np.array(rows), rel=1e-3, abs=1e-2 * np.abs(hessian).max())
        cov = np.linalg.inv(-hessian)[: len(result.params), : len(result.params)]
        if not result.is_singular:
            assert np.sqrt(np.diag(cov)) == pytest.approx(np.asarray(result.bse), rel=1e-3)


def test_a_fit_changes_nothing():
    d = frame()
    model = MixedGLM.from_formula("y ~ x + (1 | g)", d, family="binomial")
    first = model.fit()
    llf, params = first.llf, np.array(first.params)
    model.fit(nAGQ=9)
    model.fit(nAGQ=0)
    assert first.llf == llf
    assert np.array_equal(params, np.asarray(first.params))
    assert model.fit().llf == pytest.approx(llf, rel=1e-12)


def test_the_fast_approximation():
    d = frame()
    model = MixedGLM.from_formula("s ~ x + (1 | g)", d, family="binomial", n_trials="n")
    fast, laplace = model.fit(nAGQ=0), model.fit()
    assert fast.converged
    assert fast.llf < laplace.llf
    assert fast.llf == pytest.approx(laplace.llf, abs=1.0)
    assert np.abs((fast.params - laplace.params) / laplace.bse).max() < 0.5
    assert np.asarray(fast.bse) == pytest.approx(np.asarray(laplace.bse), rel=0.1)


# -- bad input --------------------------------------------------------------------------------------------

GLM = MixedGLM.from_formula
BAD_DATA = [
    (GLM, "neg ~ x + (1 | g)", {"family": "poisson"}, "neg"),
    (GLM, "frac ~ x + (1 | g)", {"family": "poisson"}, "frac"),
    (MENegBin.from_formula, "neg ~ x + (1 | g)", {}, "neg"),
    (MENegBin.from_formula, "frac ~ x + (1 | g)", {}, "frac"),
    (GLM, "above ~ x + (1 | g)", {"family": "binomial"}, "above"),
    (GLM, "frac ~ x + (1 | g)", {"family": "binomial"}, "n_trials"),
    (GLM, "s ~ x + (1 | g)", {"family": "binomial", "n_trials": "few"}, "trials"),
    (GLM, "s ~ x + (1 | g)", {"family": "binomial", "n_trials": "nowhere"}, "nowhere"),
    (GLM, "s ~ x + (1 | g)", {"family": "binomial", "n_trials": "gap"}, None),
    (GLM, "neg ~ x + (1 | g)", {"family": "gamma", "link": "log"}, "neg"),
    (GLM, "count ~ x + (1 | g)", {"family": "gamma", "link": "log"}, "count"),
    (GLM, "count ~ x + (1 | g)", {"family": "inverse_gaussian", "link": "log"}, "count"),
    (GLM, "s + n ~ x + (1 | g)", {"family": "poisson"}, "two columns"),
    (MENegBin.from_formula, "s + n ~ x + (1 | g)", {}, "two columns"),
    (MEOLogit.from_formula, "word ~ x + (1 | g)", {}, "order"),
    (MEOLogit.from_formula, "unordered ~ x + (1 | g)", {}, "order"),
    (MEOLogit.from_formula, "word ~ x + (1 | g)", {"order": ["a", "b"]}, "c"),
    (MEOLogit.from_formula, "one ~ x + (1 | g)", {}, "one"),
    (MEOLogit.from_formula, "cost ~ x + (1 | g)", {}, "cost"),
    (MEOLogit.from_formula, "rating ~ x + (1 | g)", {"distr": "normal"}, "normal"),
    (GLM, "one ~ x + (1 | g)", {"family": "binomial"}, "one"),
    (GLM, "count ~ x + (1 | g)", {"family": "poisson", "exposure": "zero"}, "exposure"),
    (GLM, "y ~ x + (1 | g)", {"family": "binomial", "exposure": "expo"}, "log link"),
    (GLM, "y ~ x + (1 | g)", {"family": "binomal"}, "binomial"),
    (GLM, "y ~ x + (1 | g)", {"family": "binomial", "link": "probitt"}, "probit"),
    (GLM, "y ~ x + (1 | g)", {"family": 3}, "family"),
    (GLM, "cost ~ x + (1 | g)", {"family": "beta"}, "beta"),
    (GLM, "cost ~ x + (1 | g)", {"family": "tweedie"}, "Tweedie"),
    (GLM, "cost ~ x + (1 | g)", {"family": sm.families.Tweedie()}, "Tweedie"),
    (GLM, "count ~ x + (1 | g)", {"family": "zip"}, "zero-inflated"),
    (MENegBin.from_formula, "count ~ x + (1 | g)", {"loglike_method": "nb3"}, "nb2"),
    (GLM, "y ~ x + (1 | row)", {"family": "binomial"}, "row"),
    (GLM, "word ~ x + (1 | g)", {"family": "binomial"}, "word"),
    (GLM, "word ~ x + (1 | g)", {"family": "poisson"}, "word"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "formula", "options", "said"), BAD_DATA)
def test_bad_data(make, formula, options, said):
    d = frame()
    d["neg"] = d["count"] - 3.0
    d["frac"] = d["count"].clip(upper=1) * 0.5
    d["above"] = d.y * 3.0
    d["few"] = np.maximum(d.s - 1, 1)
    d["gap"] = d.n.where(d.index > 3)
    d["word"] = np.array(["a", "b", "c"])[d.rating % 3]
    d["unordered"] = pd.Categorical(d.word)
    d["one"] = 1
    d["zero"] = d.expo.where(d.index != 5, 0.0)
    d["row"] = d.index
    if said is None:  # missing trials drop the row
        assert make(formula, d, **options).fit().nobs == len(d) - 4
        return
    with pytest.raises((ValueError, TypeError), match=said):
        make(formula, d, **options).fit()


@pytest.mark.parametrize("points", [-1, 2.5, "seven", None, True, [3], np.nan, 10**9, 1 + 2j])
def test_bad_points(points):
    model = MixedGLM.from_formula("y ~ x + (1 | g)", frame(), family="binomial")
    with pytest.raises(ValueError, match="nAGQ="):
        model.fit(nAGQ=points)


def test_points_that_the_random_effects_do_not_allow():
    d = frame()
    crossed = MixedGLM.from_formula("y ~ x + (1 | g) + (1 | h)", d, family="binomial")
    for points in (2, 7, "auto"):
        with pytest.raises(ValueError, match=r"g, h.*crossed.*nAGQ=1"):
            crossed.fit(nAGQ=points)
    d["x2"], d["x3"] = d.x**2, d.x**3
    wide = MixedGLM.from_formula("count ~ x + (x + x2 + x3 | g)", d, family="poisson")
    with pytest.raises(ValueError, match=r"budget of 10000 nodes.*at most nAGQ=10"):
        wide.fit(nAGQ=11)


def test_even_orders_and_whole_floats():
    model = MixedGLM.from_formula("y ~ x + (1 | g)", frame(), family="binomial")
    assert model.fit(nAGQ=8).nAGQ == 8
    assert model.fit(nAGQ=np.int64(4)).nAGQ == 4
    assert model.fit(nAGQ=5.0).nAGQ == 5


def test_offset_with_nan_in_arrays():
    rng, g, x = groups()
    y = rng.poisson(2.0, len(g)).astype(float)
    offset = np.zeros(len(g))
    offset[3] = np.nan
    with pytest.raises(ValueError, match="offset"):
        MixedGLM(y, x, g, family="poisson", offset=offset)


def test_a_family_class_and_a_users_own_link():
    class Own(sm.families.links.Logit):
        """A user's link."""

    d = frame()
    base = MixedGLM.from_formula("y ~ x + (1 | g)", d, family="binomial").fit()
    for family in (sm.families.Binomial, sm.families.Binomial(Own())):
        result = MixedGLM.from_formula("y ~ x + (1 | g)", d, family=family).fit()
        assert result.llf == pytest.approx(base.llf, rel=1e-9)


def test_fixed_alpha():
    d = frame()
    free = MENegBin.from_formula("count ~ x + (1 | g)", d).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        family = sm.families.NegativeBinomial(alpha=max(float(free.params["alpha"]), 0.05))
    fixed = MixedGLM.from_formula("count ~ x + (1 | g)", d, family=family).fit()
    assert "alpha" not in fixed.params
    assert fixed.llf <= free.llf + 1e-9
    by_name = MixedGLM.from_formula("count ~ x + (1 | g)", d, family="negbin").fit()
    assert by_name.llf == pytest.approx(free.llf, rel=1e-10)


def test_a_pickled_model_fits_the_same():
    import copy
    import pickle

    d = frame()
    for model, formula, options in (
        (MixedGLM, "y ~ x + (x | g) + (1 | h)", {"family": "binomial"}),
        (MEOLogit, "rating ~ x + (1 | g)", {}),
    ):
        built = model.from_formula(formula, d, **options)
        llf = built.fit().llf
        for other in (pickle.loads(pickle.dumps(built)), copy.deepcopy(built)):
            assert other.fit().llf == pytest.approx(llf, rel=1e-12)
            assert pickle.loads(pickle.dumps(other)).fit().llf == pytest.approx(llf, rel=1e-12)


# -- links with an edge --------------------------------------------------------------------------


def edge_frame(seed):
    rng = np.random.default_rng(seed)
    g = rng.integers(0, 8, 80)
    x = rng.normal(size=80)
    b = rng.normal(size=8)
    d = pd.DataFrame({"g": g, "x": x, "y": rng.gamma(1.0, np.exp(b[g])), "c": rng.poisson(np.exp(b[g] + 0.5 * x))})
    d["z"] = (rng.random(80) < np.exp(-np.abs(1 + b[g] + x))).astype(int)
    return d


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")
@pytest.mark.parametrize("points", [1, 3, "auto"])
@pytest.mark.parametrize(
    ("family", "link", "y"),
    [("inverse_gaussian", "inverse_squared", "y"), ("poisson", "identity", "c"), ("binomial", "log", "z")],
)
def test_at_the_edge_of_a_domain_a_fit_ends_or_says_why_not(family, link, y, points):
    """Derivatives that are not finite at a start, or modes that do not exist, are no errors of NumPy's."""
    for seed in range(6):
        model = MixedGLM.from_formula(f"{y} ~ x + (1 | g)", edge_frame(seed), family=family, link=link)
        try:
            result, said = model.fit(nAGQ=points), ""
        except ValueError as error:
            result, said = None, str(error)
        assert "link" in said if result is None else result.converged or result.record.reason
