"""The 36 fits by R's nlme and lme4 that statsmodels ships for its own mixed models, all reproduced.

R printed seven digits, so a log-likelihood of hundreds is known to 5e-5. Where estimates differ by more than
rounding, R stopped before the optimum; that ours is the better point is shown on our own log-likelihood, which
agrees with R's at R's parameters.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from statsmodels.regression.tests.results import lme_r_results

import sm_multilevel.api as smm

DATA = Path(lme_r_results.__file__).parent

# "irf" (independent random effects) exists where there are several columns.
CASES = [
    (number, structure, method)
    for number in range(12)
    for structure in ("drf", "irf")
    for method in ("ml", "reml")
    if hasattr(lme_r_results, f"coef_{method}_{structure}_{number}")
]


def reference(name, case):
    number, structure, method = case
    return np.asarray(getattr(lme_r_results, f"{name}_{method}_{structure}_{number}"), dtype=float)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def fitted(request):
    number, structure, method = request.param
    data = pd.read_csv(DATA / f"lme{number:02d}.csv")
    model = smm.MixedLM(
        data["endog"].to_numpy(),
        data.filter(like="exog_fe").to_numpy(),
        data["groups"].to_numpy(),
        data.filter(like="exog_re").to_numpy(),
        covariance="diagonal" if structure == "irf" else "unstructured",
    )
    return request.param, model.fit(reml=method == "reml")


def test_there_are_36():
    assert len(CASES) == 36
    assert sum(case[1] == "irf" for case in CASES) == 12


def test_fixed_effects(fitted):
    case, result = fitted
    assert result.converged
    distance = np.abs(np.asarray(result.params) - reference("coef", case)) / np.asarray(result.bse)
    assert distance.max() < 2e-5
    theirs = reference("vcov", case)
    assert_allclose(np.asarray(result.cov_params()), theirs, rtol=0, atol=6e-7 * np.abs(theirs).max())


def test_components(fitted):
    case, result = fitted
    scale = float(reference("scale", case)[0])
    assert_allclose(result.scale, scale, rtol=4e-7)
    assert_allclose(np.asarray(result.cov_re), reference("cov_re", case), rtol=0, atol=3e-6 * scale)
    assert result.is_singular == (np.linalg.matrix_rank(reference("cov_re", case), tol=1e-9) == 0)


def test_log_likelihood(fitted):
    case, result = fitted
    theirs = float(reference("loglike", case)[0])
    rounding = 5.1e-5  # all lie between 100 and 1000 in size, with seven digits
    assert 100 < abs(theirs) < 1000
    assert abs(result.llf - theirs) < rounding
    model, reml = result.model, result.reml
    at_theirs = model.loglike(packed(model, case), reml=reml)
    assert abs(at_theirs - theirs) < rounding
    # Ours is the optimum: R's point is never better, rounding of the sum apart.
    assert result.llf >= at_theirs - 1e-10


def packed(model, case):
    """R's beta, sigma^2 and theta."""
    scale = reference("scale", case)
    relative = np.atleast_2d(reference("cov_re", case)) / scale
    theta = model.random[0].covariance.from_covariance(relative)
    return np.concatenate([reference("coef", case), scale, theta])


def test_random_effects_of_the_first_group(fitted):
    case, result = fitted
    sd = np.sqrt(result.scale)
    first = result.model.random[0].levels[0]
    modes, cov = result.random_effects[first], result.random_effects_cov[first]
    # The textbook's formulas, on the group's own rows.
    here = result.model.random[0].codes == 0
    x, z = result.model.exog[here], result.model.random[0].exog[here]
    g = np.asarray(result.cov_re)
    gain = g @ z.T @ np.linalg.inv(z @ g @ z.T + result.scale * np.eye(len(z)))
    assert_allclose(modes, gain @ (result.model.endog[here] - x @ result.params), rtol=0, atol=1e-10 * sd)
    assert_allclose(cov, g - gain @ z @ g, rtol=0, atol=1e-10 * sd**2)
    if case[1] == "drf":  # R has no others
        assert_allclose(modes, reference("ranef_mean", case), rtol=0, atol=2e-7 * sd)
        theirs = np.atleast_2d(reference("ranef_condvar", case))
        assert_allclose(cov, theirs, rtol=0, atol=3e-7 * sd**2)
