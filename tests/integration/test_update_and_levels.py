"""Changed formulas on the same data, and levels of new data."""

import numpy as np
import pytest

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import sleepstudy


@pytest.fixture(scope="module")
def data():
    frame = sleepstudy.load_pandas().data
    return frame.assign(Subject=frame["Subject"].astype(int), w=1.0 + np.arange(len(frame)) % 3)


@pytest.fixture(scope="module")
def fit(data):
    return smf.mixedlm("Reaction ~ Days + (1 | Subject)", data).fit()


def test_update_swaps_a_random_term(data, fit):
    swapped = fit.update(". ~ . - (1|Subject) + (Days | Subject)")
    direct = smf.mixedlm("Reaction ~ Days + (Days | Subject)", data).fit()
    assert swapped.llf == pytest.approx(direct.llf, rel=1e-12)


def test_update_of_the_response(data, fit):
    direct = smf.mixedlm("np.log(Reaction) ~ Days + (1 | Subject)", data).fit()
    assert fit.update("np.log(.) ~ .").llf == pytest.approx(direct.llf, rel=1e-12)


def test_update_after_subset_keeps_array_options(data):
    rows = data["Days"] > 1
    first = smf.mixedlm("Reaction ~ Days + (1 | Subject)", data, subset=rows, var_weights=data["w"].to_numpy()).fit()
    direct = smf.mixedlm("Reaction ~ Days + I(Days**2) + (1 | Subject)", data[rows], var_weights="w").fit()
    assert first.update(". ~ . + I(Days**2)").llf == pytest.approx(direct.llf, rel=1e-12)


def test_update_names_a_term_that_is_not_there(fit):
    with pytest.raises(ValueError, match=r"no term \(1\|g\)"):
        fit.update(". ~ . - (1|g)")


def test_collinear_columns_of_a_random_term(data):
    with pytest.raises(ValueError, match=r"'I\(2 \* Days\)' .* combination of the columns before it"):
        smf.mixedlm("Reaction ~ Days + (Days + I(2*Days) | Subject)", data)


def test_levels_of_another_type(data, fit):
    with pytest.raises(ValueError, match=r"'308', \.\.\. of the new data and 308, \.\.\. of the fit"):
        fit.predict(data.assign(Subject=data["Subject"].astype(str)))


def test_a_start_at_a_stationary_zero_is_left(data):
    """theta = 0 is stationary but no optimum; so is a zero column."""
    model = smf.mixedlm("Reaction ~ Days + (Days | Subject)", data)
    best = model.fit().llf
    for start in ([0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]):
        for method in ("newton", "lbfgs", "bfgs"):
            result = model.fit(start_params=start, method=method)
            assert result.converged
            assert result.llf == pytest.approx(best, rel=1e-10)


def test_a_fit_that_is_stopped_says_so(data):
    with pytest.warns(match="did not converge"):
        result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", data).fit(start_params=[9, 0, 9], maxiter=1)
    assert not result.converged
    assert result.record.reason
    assert "NOT CONVERGED" in str(result.summary())
