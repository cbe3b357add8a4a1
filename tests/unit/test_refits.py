"""Refits to many responses: the same as single ones, whatever else is in the batch."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from statsmodels.tools.sm_exceptions import ConvergenceWarning

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.objectives.batched import BatchedDeviance
from sm_multilevel.postestimation.resampling import linear_refits
from sm_multilevel.postestimation.resampling.refits import refits


def _data(seed, groups=12, rows=90):
    rng = np.random.default_rng(seed)
    g = np.sort(rng.integers(0, groups, rows))
    data = pd.DataFrame(
        {
            "g": g,
            "h": rng.integers(0, 7, rows),
            "k": g * 10 + rng.integers(0, 3, rows),
            "x": rng.normal(size=rows) * 20 + 100,
            "z": rng.normal(size=rows),
            "f": rng.choice(list("abc"), rows),
            "w": rng.uniform(0.2, 4.0, rows),
            "t": rng.integers(1, 4, rows),
            "o": rng.normal(size=rows),
        }
    )
    b, c = rng.normal(size=groups), rng.normal(size=groups)
    data["y"] = 5 + 0.1 * data.x + 0.7 * b[g] + 0.4 * c[g] * data.z + rng.normal(size=rows)
    return data


LINEAR = {
    "intercept": ("y ~ x + f + (1 | g)", {}),
    "slope": ("y ~ x + (z | g)", {}),
    "slope, raw units": ("y ~ x + (x | g)", {}),
    "three columns": ("y ~ x + z + (z + o | g)", {}),
    "uncorrelated": ("y ~ x + (z || g)", {}),
    "two structures": ("y ~ x + (1 | g) + (0 + z | g)", {}),
    "exchangeable": ("y ~ x + (0 + f | g)", {"covariance": "exchangeable"}),
    "identity": ("y ~ x + (0 + f | g)", {"covariance": "identity"}),
    "diagonal": ("y ~ x + (z | g)", {"covariance": "diagonal"}),
    "no fixed part": ("y ~ 0 + (z | g)", {}),
    "var_weights": ("y ~ x + (z | g)", {"var_weights": "w"}),
    "freq_weights": ("y ~ x + (z | g)", {"freq_weights": "t"}),
    "offset": ("y ~ x + (1 | g)", {"offset": "o"}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {}),
    "nested": ("y ~ x + (z | g) + (1 | k)", {}),
}


def _same(result, found, responses, rtol=1e-6, rows=None):
    """Every refit, or some, against `refit`, which reads the response and builds the model again."""
    for b in range(len(responses)) if rows is None else rows:
        y = responses[b]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            single = result.refit(y)
        assert found.converged[b] == single.converged
        assert (found.reasons[b] == "") == single.converged
        if not single.converged:
            assert np.isnan(found.llf[b])
            assert np.isnan(found.params[b]).all()
            continue
        assert found.llf[b] == pytest.approx(single.llf, rel=rtol)
        error = np.abs(np.asarray(single.bse))
        error = np.where(np.isfinite(error), error, 1.0)
        assert_allclose(found.params[b], np.asarray(single.params), rtol=rtol, atol=1e-5 * error.max(initial=0.0))
        # What is left to a single fit's optimum may be some 1e-5 standard errors.
        assert found.scale[b] == pytest.approx(single.scale, rel=1e-4)
        one = result.model.effects
        for term, mine, theirs in zip(one.terms, one.per_term(found.theta[b]), one.per_term(single.theta), strict=True):
            size = np.sqrt(term.exog.std(axis=0) ** 2 + term.exog.mean(axis=0) ** 2)
            lam, other = (term.covariance.factor(part, term.q) for part in (mine, theirs))
            scale = np.outer(size, size)
            assert_allclose(lam @ lam.T * scale, other @ other.T * scale, rtol=1e-4, atol=2e-5)
        assert found.singular[b] == single.is_singular


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_refits_are_single_refits(name, reml):
    formula, options = LINEAR[name]
    result = smf.mixedlm(formula, _data(1), **options).fit(reml=reml)
    responses = result.simulate(5, seed=4)
    _same(result, refits(result, responses), responses)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 | g)",
        "y ~ x + (z | g)",
        "y ~ x + (z || g)",
        "y ~ x + (z + o | g)",
        "y ~ x + (z | g) + (1 | k)",
        "y ~ x + (1 | g) + (1 | h)",
    ],
)
def test_replicates_at_the_boundary_are_certified_together(formula, monkeypatch):
    """Without random effects in the responses most optima are singular; few need a fit of their own."""
    data = _data(2)
    result = smf.mixedlm(formula, data).fit()
    responses = result.simulate(40, seed=1, include_random=False)
    count = []
    one = linear_refits.LinearRefits._single
    monkeypatch.setattr(linear_refits.LinearRefits, "_single", lambda self, *a: count.append(1) or one(self, *a))
    found = refits(result, responses)
    assert found.singular.sum() >= 10
    assert len(count) <= 8
    rows = np.concatenate([np.flatnonzero(kind)[:8] for kind in (found.singular, ~found.singular)])
    _same(result, found, responses, rows=rows)


def test_a_singular_fit_does_not_hold_its_replicates_at_the_boundary():
    data = _data(3)
    data["y"] = 5 + np.random.default_rng(1).normal(size=len(data))
    result = smf.mixedlm("y ~ x + (1 | g)", data).fit()
    assert result.is_singular
    responses = result.simulate(30, seed=1)
    found = refits(result, responses)
    assert 3 < found.singular.sum() < 27
    _same(result, found, responses)


@pytest.mark.parametrize("formula", ["y ~ x + f + (1 | g)", "y ~ x + (z | g)", "y ~ x + (z | g) + (1 | k)"])
def test_numbers_do_not_depend_on_the_batch(formula):
    """To the last bit, so that a bootstrap is the same however it is cut."""
    result = smf.mixedlm(formula, _data(5)).fit()
    responses = result.simulate(200, seed=1)
    whole = refits(result, responses)
    for rows in (np.arange(1), np.arange(3, 70), np.random.default_rng(0).permutation(200)):
        part = refits(result, responses[rows])
        for name in ("llf", "params", "theta", "scale", "singular"):
            assert_array_equal(getattr(part, name), getattr(whole, name)[rows])


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    "name", ["intercept", "slope", "exchangeable", "no fixed part", "var_weights", "nested", "crossed"]
)
def test_derivatives_of_the_batched_deviance(name, reml):
    """Against the deviance and gradient of a single fit, and the Hessian against differences of that gradient."""
    formula, options = LINEAR[name]
    result = smf.mixedlm(formula, _data(6), **options).fit(reml=reml)
    engine = linear_refits.LinearRefits(result)
    seen = {}

    class Spy(BatchedDeviance):
        def __init__(self, *args):
            super().__init__(*args)
            seen["deviance"] = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_refits, "BatchedDeviance", Spy)
        list(engine.to_responses(np.asarray(result.model.endog)[None]))
    objective = result.model.objective(reml)
    rng = np.random.default_rng(0)
    k = len(result.theta)
    for theta in (rng.normal(size=k), 0.1 * rng.normal(size=k), 30 * rng.normal(size=k)):
        point = seen["deviance"].at(theta[None], np.zeros(1, dtype=int))
        single = objective.point(theta)
        assert point.value[0] == pytest.approx(single.value, rel=1e-11)
        assert_allclose(point.gradient[0], single.gradient(), rtol=1e-7, atol=1e-7)
        differences = np.empty((k, k))
        for j, step in enumerate(1e-4 * np.eye(k)):
            differences[j] = (
                objective.point(theta + step).gradient() - objective.point(theta - step).gradient()
            ) / 2e-4
        size = np.abs(differences).max()
        assert_allclose(point.hessian[0], differences, rtol=1e-5, atol=1e-6 * size)


def test_the_slope_holds_at_zero():
    """The derivative in G where Lambda is zero, against a small variance."""
    result = smf.mixedlm("y ~ x + (1 | g)", _data(7)).fit()
    objective = result.model.objective(True)
    engine = linear_refits.LinearRefits(result)
    seen = {}

    class Spy(BatchedDeviance):
        def __init__(self, *args):
            super().__init__(*args)
            seen["deviance"] = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_refits, "BatchedDeviance", Spy)
        list(engine.to_responses(np.asarray(result.model.endog)[None]))
    point = seen["deviance"].at(np.zeros((1, 1)), np.zeros(1, dtype=int))
    near = objective.point(np.array([1e-4])).value - objective.point(np.zeros(1)).value
    assert point.slope[0, 0, 0] == pytest.approx(near / 1e-8, rel=1e-3)


def test_large_units_go_one_at_a_time(monkeypatch):
    """Many levels that all meet would be one large dense unit."""
    result = smf.mixedlm("y ~ x + (1 | g) + (1 | h)", _data(12)).fit()
    responses = result.simulate(3, seed=1)
    together = refits(result, responses)
    monkeypatch.setattr(linear_refits, "_WORK", 1)
    assert not linear_refits.LinearRefits(result).is_batched
    apart = refits(result, responses)
    assert_allclose(apart.llf, together.llf, rtol=1e-9)
    assert_allclose(apart.params, together.params, rtol=1e-5)
    assert_array_equal(apart.singular, together.singular)


def test_responses_far_from_zero():
    """Each response is a residual from its own regression before any product is formed."""
    result = smf.mixedlm("y ~ x + (z | g)", _data(8)).fit()
    responses = result.simulate(5, seed=1)
    plain, shifted = refits(result, responses), refits(result, responses + 1e7)
    assert_allclose(shifted.llf, plain.llf, rtol=1e-7)
    assert_allclose(shifted.params[:, 0] - 1e7, plain.params[:, 0], rtol=1e-5)
    assert_allclose(shifted.params[:, 1], plain.params[:, 1], rtol=1e-6, atol=1e-8)


def test_a_response_without_a_fit_is_named():
    data = _data(9)
    result = smf.mixedlm("y ~ x + (1 | g)", data).fit()
    responses = result.simulate(4, seed=1)
    responses[1] = 3.0
    responses[2] = 1 + 2 * data.x
    found = refits(result, responses)
    assert_array_equal(found.converged, [True, False, False, True])
    assert "fit the response exactly" in found.reasons[1]
    assert "fit the response exactly" in found.reasons[2]


GENERALISED = {
    "binomial": (lambda d: smf.melogit("one ~ z + (1 | g)", d), {}),
    "trials, offset": (lambda d: smf.melogit("wins ~ z + (1 | g)", d, n_trials="t", offset="o"), {}),
    "quadrature": (lambda d: smf.melogit("one ~ z + (1 | g)", d), {"nAGQ": 5}),
    "nAGQ=0": (lambda d: smf.mepoisson("count ~ z + (1 | g)", d), {"nAGQ": 0}),
    "slopes": (lambda d: smf.mepoisson("count ~ z + (z | g)", d), {}),
    "exposure": (lambda d: smf.mepoisson("count ~ z + (1 | g)", d, exposure="w"), {}),
    "crossed": (lambda d: smf.mepoisson("count ~ z + (1 | g) + (1 | h)", d), {}),
    "negbin": (lambda d: smf.menbreg("count ~ z + (1 | g)", d), {}),
    "ordinal": (lambda d: smf.meologit("grade ~ z + (1 | g)", d), {}),
    "gaussian": (lambda d: smf.meglm("y ~ z + (1 | g)", d, family="gaussian", var_weights="w"), {}),
    "gamma": (lambda d: smf.megamma("cost ~ z + (1 | g)", d), {}),
    "freq_weights": (lambda d: smf.mepoisson("count ~ z + (1 | g)", d, freq_weights="t"), {}),
}


def _responses(seed):
    data = _data(seed, rows=150)
    rng = np.random.default_rng(seed + 100)
    eta = 0.3 * data.z + 0.6 * rng.normal(size=12)[data.g]
    data["one"] = (rng.random(150) < 1 / (1 + np.exp(-eta))).astype(int)
    data["wins"] = rng.binomial(data.t, 1 / (1 + np.exp(-eta)))
    data["count"] = rng.negative_binomial(3, 3 / (3 + np.exp(1 + eta)))
    data["grade"] = pd.Categorical.from_codes(
        np.searchsorted([-1.0, 0.5], eta + rng.logistic(size=150)), ["low", "mid", "high"], ordered=True
    )
    data["cost"] = rng.gamma(3.0, np.exp(eta) / 3.0)
    return data


@pytest.mark.parametrize("name", GENERALISED)
def test_generalised_refits_are_single_refits(name):
    build, options = GENERALISED[name]
    result = build(_responses(1).sample(frac=1.0, random_state=3)).fit(**options)
    before = np.array(result.model.endog)
    responses = result.simulate(3, seed=1)
    # Two optimisations end within some 1e-5 standard errors of each other.
    _same(result, refits(result, responses), responses, rtol=1e-5)
    assert_array_equal(np.asarray(result.model.endog), before)
    assert result.model.fit(**options).llf == pytest.approx(result.llf, rel=1e-9)


def test_the_same_model_from_arrays():
    data = _data(10)
    model = smm.MixedLM(data.y.to_numpy(), np.column_stack([np.ones(90), data.x]), groups=data.g.to_numpy())
    result = model.fit()
    responses = result.simulate(3, seed=2)
    _same(result, refits(result, responses), responses)


def test_bad_responses():
    result = smf.mixedlm("y ~ x + (1 | g)", _data(11)).fit()
    with pytest.raises(ValueError, match=r"\(90,\).*\(B, 90\)"):
        refits(result, np.ones(90))
    with pytest.raises(ValueError, match=r"\(2, 7\).*\(B, 90\)"):
        refits(result, np.ones((2, 7)))
    with pytest.raises(ValueError, match="not finite"):
        refits(result, np.full((2, 90), np.nan))
    result.remove_data()
    with pytest.raises(ValueError, match="remove_data"):
        refits(result, np.ones((2, 90)))
