"""What an adversarial review of the generalised models found, kept from coming back."""

import numpy as np
import pandas as pd
import pytest

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import contraception, wine
from sm_multilevel.models.generalized import MixedGLM


@pytest.mark.parametrize("counts", [1e2, 1e4, 1e5, 1e6, 1e7, 1e9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_standard_errors_of_very_informative_rows(counts, seed):
    """A group's own mean is known there: the intercept's standard error is that of a mean of ten."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(10), 100)
    x = rng.normal(size=1000)
    y = rng.poisson(counts * np.exp(0.2 * x + 0.1 * rng.normal(size=10)[g])).astype(float)
    result = smf.mepoisson("y ~ x + (1 | g)", pd.DataFrame({"g": g, "x": x, "y": y})).fit()
    assert result.converged
    tolerance = 0.02 if counts < 1e3 else 2e-3
    assert result.bse["Intercept"] == pytest.approx(result.theta[0] / np.sqrt(10), rel=tolerance)


def test_very_many_trials():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(10), 30)
    d = pd.DataFrame({"g": g, "n": 10**8})
    d["s"] = rng.binomial(d.n, 1 / (1 + np.exp(-0.3 * rng.normal(size=10)[g])))
    result = smf.melogit("s ~ 1 + (1 | g)", d, n_trials="n").fit()
    assert result.converged
    assert result.bse["Intercept"] == pytest.approx(result.theta[0] / np.sqrt(10), rel=2e-3)


def test_no_fixed_effects_and_crossed_factors():
    d = pd.DataFrame({"g": np.arange(60) % 6, "h": np.arange(60) // 10})
    d["y"] = np.random.default_rng(0).integers(0, 3, 60)
    for result in (
        smf.meologit("y ~ 1 + (1 | g) + (1 | h)", d).fit(),
        smf.mepoisson("y ~ 0 + (1 | g) + (1 | h)", d).fit(),
    ):
        assert result.converged
        assert "No fixed effects" in result.summary().as_text()
    frame = wine.load_pandas().data
    assert smf.meologit("rating ~ 1 + (1 | judge) + (1 | bottle)", frame).fit().converged


@pytest.mark.parametrize("points", [3, 7])
def test_the_likelihood_of_the_fit_is_that_of_the_model(points):
    df = contraception.load_pandas().data
    result = smf.melogit("use ~ urban + age + (urban | district)", df).fit(nAGQ=points)
    model, packed = result.model, result.params_packed
    assert model.loglike(packed, nAGQ=points) == pytest.approx(result.llf, rel=1e-12)
    assert np.abs(model.score(packed, nAGQ=points)).max() < 1e-4
    away = packed * 1.05
    score = model.score(away, nAGQ=points)
    for j, step in enumerate(1e-5 * np.maximum(1.0, np.abs(away))):
        ends = [model.loglike(away + sign * step * (np.arange(len(away)) == j), nAGQ=points) for sign in (1, -1)]
        assert score[j] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-4)


def test_quadrature_does_not_depend_on_units_and_origins():
    df = contraception.load_pandas().data
    df["other"] = 10 * df.age + 100
    llf = [smf.melogit(f"use ~ urban + {x} + ({x} | district)", df).fit(nAGQ=3).llf for x in ("age", "other")]
    assert llf[0] == pytest.approx(llf[1], rel=1e-11)


@pytest.mark.parametrize("mean", [1.0, 1e3, 1e4, 1e6])
@pytest.mark.parametrize("alpha", [1e-3, 1e-2, 1.0])
def test_negative_binomial_of_any_size_takes_few_steps(mean, alpha):
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20), 15)
    x = rng.normal(size=300)
    noise = rng.gamma(1 / alpha, alpha, 300)
    y = rng.poisson(mean * np.exp(0.2 * x + 0.3 * rng.normal(size=20)[g]) * noise)
    result = smf.menbreg("y ~ x + (1 | g)", pd.DataFrame({"g": g, "x": x, "y": y})).fit()
    assert result.converged
    assert result.record.evaluations < 60
    if mean * alpha >= 1:
        assert result.params["alpha"] == pytest.approx(alpha, rel=0.5)


def test_a_singular_fit_is_looked_at_again_from_elsewhere():
    """Inverse Gaussian data with a second optimum at a variance of zero."""
    worse = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        g = np.repeat(np.arange(10), rng.integers(3, 7, 10))
        x = np.column_stack([np.ones(len(g)), rng.normal(size=len(g))])
        y = rng.wald(np.exp(-0.4 + 0.6 * x[:, 1] + 0.7 * rng.normal(size=10)[g]), 2.0)
        model = MixedGLM(y, x, g, family="inverse_gaussian", link="log")
        result = model.fit()
        if not (result.converged and result.is_singular):
            continue
        other = model.fit(start_params=np.array([-0.4, 0.6, 0.5, 0.7]))
        worse += other.converged and other.llf > result.llf + 1e-6
    assert worse == 0


def test_a_likelihood_that_does_not_exist_is_minus_infinity():
    rng = np.random.default_rng(0)
    d = pd.DataFrame({"g": np.repeat(np.arange(10), 6), "y": rng.poisson(3.0, 60), "z": rng.gamma(2.0, 1.0, 60)})
    assert smf.menbreg("y ~ 1 + (1 | g)", d).loglike([0.0, -1.0, 0.1]) == -np.inf
    assert smf.megamma("z ~ 1 + (1 | g)", d).loglike([0.0, 0.0, 0.1]) == -np.inf
    identity = smf.meglm("y ~ 1 + (1 | g)", d, family="poisson", link="identity")
    assert identity.loglike([-1.0, 0.1]) == -np.inf
    with pytest.raises(ValueError, match=r"start_params.*alpha"):
        smf.menbreg("y ~ 1 + (1 | g)", d).fit(start_params=[0.5, -1.0, 0.1])
