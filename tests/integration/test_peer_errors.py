"""What other Python packages for these models were seen to get wrong, each as a test that this one does not."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import sm_multilevel.formula.api as smf

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))

import glmm_fits

FITS = {glmm_fits.fit_id(f): f for f in glmm_fits.fits()}


def test_the_likelihood_has_its_constants():
    """A likelihood without log y! or log C(n, y) makes AICs of different families incomparable."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(40), 10)
    y = rng.poisson(3.0, 400).astype(float)
    model = smf.mepoisson("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g}))
    glm = sm.GLM(y, np.ones(400), family=sm.families.Poisson()).fit()
    assert model.loglike([glm.params[0], 0.0]) == pytest.approx(glm.llf, rel=1e-10)


def test_more_points_change_the_fit():
    fit = FITS["toenail-glmmTMB-1"]
    model = glmm_fits.model(fit)
    laplace, more = model.fit(), model.fit(nAGQ=20)
    assert more.llf - laplace.llf == pytest.approx(-625.375270865426 - fit["llf"], rel=1e-5)
    assert abs(more.theta[0] / laplace.theta[0] - 1) > 0.05


@pytest.mark.parametrize("name", ["hospital_gamma-glmmTMB-1", "owls_nb2-glmmTMB-1", "owls_nb1-glmmTMB-1"])
def test_gamma_and_negative_binomial_end_at_the_optimum(name):
    fit = FITS[name]
    result = glmm_fits.model(fit).fit()
    assert result.llf == pytest.approx(fit["llf"], rel=1e-9)
    assert np.abs(result.model.score(result.params_packed) / np.sqrt(result.nobs)).max() < 1e-4


@pytest.mark.parametrize("kind", ["int", "str", "object", "category", "bool", "float"])
def test_groups_of_any_type(kind):
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(2 if kind == "bool" else 30), 8)
    values = {
        "int": codes * 7 - 3,
        "str": pd.Series([f"gruppe {c}" for c in codes], dtype="str"),
        "object": np.array([f"g{c}" for c in codes], dtype=object),
        "category": pd.Categorical([f"c{c}" for c in codes], categories=[f"c{c}" for c in range(40)]),
        "bool": codes == 1,
        "float": codes / 2,
    }[kind]
    y = rng.poisson(np.exp(rng.normal(size=30)[codes])).astype(float)
    base = smf.mepoisson("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": codes})).fit()
    order = rng.permutation(len(y))
    frame = pd.DataFrame({"y": y, "g": values}).iloc[order].reset_index(drop=True)
    result = smf.mepoisson("y ~ 1 + (1 | g)", frame).fit()
    assert result.llf == pytest.approx(base.llf, rel=1e-10)
    assert result.ngroups == {"g": len(set(codes))}


def test_unscaled_predictors_do_not_end_at_the_start():
    """StatsPAI 1.40 returns its start values for Contraception with age as it comes."""
    fit = FITS["contraception-glmmTMB-1"]
    result = glmm_fits.model(fit).fit()
    assert result.llf == pytest.approx(fit["llf"], rel=1e-9)
    assert result.record.iterations > 1


def test_trials_are_not_observations():
    """BIC counts rows, not trials."""
    result = glmm_fits.model(FITS["cbpp-glmmTMB-1"]).fit()
    assert result.bic == pytest.approx(-2 * result.llf + 5 * np.log(56), rel=1e-12)
