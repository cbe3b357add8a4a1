"""Joint Wald tests do not depend on units, on how a hypothesis is written, or lose constraints."""

import functools
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import sm_multilevel.formula.api as smf
from sm_multilevel.postestimation.components.component_map import ComponentMap
from sm_multilevel.postestimation.profiling.targets import ComponentTarget, Coordinates
from sm_multilevel.postestimation.wald import joint

SCALES = (1e-6, 1e-3, 3e5, 1e8)
WAYS = {
    "normal": lambda result: result,
    "residual": lambda result: result.with_df("residual"),
    "satterthwaite": lambda result: result.with_df("satterthwaite"),
    "kenward-roger": lambda result: result.with_df("kenward-roger"),
    "CR1": lambda result: result.get_robustcov_results("CR1"),
    "CR2": lambda result: result.get_robustcov_results("CR2"),
}


@functools.cache
def data():
    rng = np.random.default_rng(11)
    n, m = 240, 24
    g = np.repeat(np.arange(m), n // m)
    x, z, t = rng.normal(size=(3, n))
    b = rng.normal(size=(m, 2))
    eta = 0.3 * x + 0.2 * z + b[g, 0] + 0.5 * b[g, 1] * x
    y = 1.0 + eta + 0.1 * t**2 + 0.1 * t**3 + rng.normal(size=n)
    count, yes = rng.poisson(np.exp(0.5 * eta)), (eta + rng.logistic(size=n) > 0).astype(int)
    grade = np.digitize(eta + rng.logistic(size=n), [-1.0, 1.0])
    return pd.DataFrame({"g": g, "x": x, "z": z, "t": t, "y": y, "count": count, "yes": yes, "grade": grade})


@functools.cache
def slopes(scale=1.0, shift=0.0):
    return smf.mixedlm("y ~ x + z + (x | g)", data().assign(x=data()["x"] * scale + shift)).fit()


@functools.cache
def polynomial(shift, degree=3):
    powers = "".join(f" + I(t**{k})" for k in range(2, degree + 1))
    return smf.mixedlm(f"y ~ t{powers} + (1 | g)", data().assign(t=data()["t"] + shift)).fit()


def figures(test):
    return [test.statistic, test.df_denom, getattr(test, "df_num", np.nan)]


# -- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("way", sorted(WAYS))
def test_units_of_a_column(way, scale):
    one, other = (WAYS[way](slopes(s)).wald_test("x = 0, z = 0") for s in (1.0, scale))
    a, b = figures(one), figures(other)
    if way == "satterthwaite":  # its degrees of freedom depend on how a hypothesis is written, those here on the units
        assert 10.0 < b[1] < 500.0
        a, b = a[::2], b[::2]
    assert_allclose(b, a, rtol=1e-6)
    assert (other.df_denom if other.distribution == "chi2" else other.df_num) == 2


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"normal", "CR1"}))
def test_f_test_has_the_same_figures(way):
    result = WAYS[way](slopes(3e5))
    assert_allclose(figures(result.f_test("x = 0, z = 0")), figures(result.wald_test("x = 0, z = 0")), rtol=1e-12)


@pytest.mark.parametrize("shift", [10.0, 1000.0])
@pytest.mark.parametrize("way", sorted(set(WAYS) - {"satterthwaite"}))
def test_shift_of_a_column(way, shift):
    tests = [WAYS[way](slopes(shift=s)).wald_test("x = 0, z = 0") for s in (0.0, shift)]
    assert_allclose(figures(tests[1]), figures(tests[0]), rtol=2e-6)


def test_all_coefficients_after_a_shift():
    """The intercept is at 0 then, 10^5 standard deviations away: from the standardised columns it is exact."""
    tests = [slopes(shift=s).wald_test(np.eye(3)) for s in (0.0, 1e5)]
    assert_allclose(tests[1].statistic, tests[0].statistic, rtol=1e-6)
    with pytest.raises(ValueError, match="depend on each other so closely"):
        slopes(shift=1e5).get_robustcov_results().wald_test(np.eye(3))


def test_satterthwaite_is_that_of_the_rows_as_written():
    """Fai and Cornelius: along the eigenvectors of L C L', here by a method of other precision."""
    result = slopes().with_df("satterthwaite")
    rows = np.eye(3)[1:]
    vectors = np.linalg.eigh(rows @ result.reference.cov @ rows.T)[1]
    nu = result.reference.t_df(vectors.T @ rows)
    excess = np.sum(2.0 / (nu - 2.0))
    assert_allclose(result.f_test(rows).df_denom, 2.0 + 4.0 / excess, rtol=1e-9)


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_eigenvectors_far_apart(size):
    rng = np.random.default_rng(2)
    root = rng.normal(size=(4, 6))
    cov = root @ root.T * np.outer(units := np.array([1.0, size, 1.0, size**0.5]), units)
    moved = joint.orthogonal(np.eye(4), cov)
    got = moved @ cov @ moved.T
    error = np.sqrt(np.diag(got))
    assert_allclose(got / np.outer(error, error), np.eye(4), atol=1e-10)


# -- how a hypothesis is written -------------------------------------------------------------------


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"satterthwaite"}))
def test_reparametrised_hypothesis(way):
    result = WAYS[way](slopes(3e5))
    mix = np.array([[1e-3, 5.0], [2e4, 1.0]])
    rows = np.eye(3)[1:]
    assert_allclose(figures(result.wald_test(mix @ rows)), figures(result.wald_test(rows)), rtol=1e-7)
    values = np.array([1e-6, 0.1])
    one, other = result.wald_test((rows, values)), result.wald_test((mix @ rows, mix @ values))
    assert_allclose(figures(other), figures(one), rtol=1e-7)


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"satterthwaite"}))
def test_rows_that_share_an_uncertain_coefficient(way):
    """As cell means do: their correlations are near 1, and the test is the same."""
    frame = data().assign(y=data()["y"] + 3000.0 * np.sin(data()["g"]))
    result = WAYS[way](smf.mixedlm("y ~ x + z + (1 | g)", frame).fit())
    mix = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.3, 1.0]])
    assert_allclose(figures(result.wald_test(mix)), figures(result.wald_test(np.eye(3))), rtol=1e-6)


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("scale", [1.0, 3e5])
def test_redundant_constraints_do_not_count(way, scale):
    result = WAYS[way](slopes(scale))
    plain = result.wald_test("x = 0, z = 0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in ("x = 0, z = 0, x = z", "x = 0, x = 0, z = 0", "x = 0, 3 * x = 0, z = 0"):
            assert_allclose(figures(result.wald_test(text)), figures(plain), rtol=1e-9)
    assert_allclose(result.wald_test("x = 2, 3 * x = 6").statistic, result.wald_test("x = 2").statistic, rtol=1e-9)


@pytest.mark.parametrize("text", ["x = 1, x = 2", "x = 1, z = 2, x = z", "x = 0, z = 0, x + z = 1e-6"])
@pytest.mark.parametrize("way", ["normal", "kenward-roger", "CR2"])
def test_contradictory_constraints(way, text):
    with pytest.raises(ValueError, match="constraints contradict each other: the one numbered"):
        WAYS[way](slopes()).wald_test(text)


def test_a_hypothesis_about_nothing():
    with pytest.raises(ValueError, match="says nothing about the coefficients"):
        slopes().wald_test(np.zeros((2, 3)))


def test_statsmodels_shapes():
    result = slopes()
    chi2, f = result.wald_test("x = 0, z = 0"), result.wald_test("x = 0, z = 0", use_f=True)
    assert (chi2.distribution, chi2.df_denom) == ("chi2", 2)
    assert (f.distribution, f.df_num, f.df_denom) == ("F", 2, result.df_resid)
    assert_allclose(f.statistic, chi2.statistic / 2)
    assert isinstance(chi2.statistic, float)
    assert np.shape(result.wald_test("x = 0, z = 0", scalar=False).statistic) == (1, 1)
    assert result.wald_test("x = 0, z = 0", df_constraints=5).df_denom == 5
    rows, cov = np.eye(3)[1:], np.asarray(result.cov_params())
    given = result.wald_test(rows, cov_p=cov), result.wald_test(rows, invcov=np.linalg.inv(cov[1:, 1:]))
    assert_allclose([test.statistic for test in given], chi2.statistic, rtol=1e-9)
    params = np.asarray(result.params)[1:]
    assert_allclose(chi2.statistic, params @ np.linalg.solve(cov[1:, 1:], params), rtol=1e-9)


# -- collinear columns --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"satterthwaite"}))
@pytest.mark.parametrize("shift", [5.0, 20.0, 60.0, 130.0])
def test_raw_and_centred_polynomials(way, shift):
    """Columns t, t^2, t^3 far from zero: the same test, or none."""
    rows = np.eye(4)[1:]
    raw = WAYS[way](polynomial(shift))
    # Of a covariance that is known in these columns only.
    if shift > 20.0 and way not in ("normal", "residual"):
        with pytest.raises(joint.NoWaldTest, match=r"depend on each other so closely .* centre such columns"):
            raw.wald_test(rows)
        return
    if shift > 5.0 and way in ("kenward-roger", "CR2"):
        with pytest.raises(joint.NoWaldTest):
            raw.wald_test(rows)
        return
    # At 130 the fit itself has theta to some 5 digits.
    got, want = raw.wald_test(rows), WAYS[way](polynomial(0.0)).wald_test(rows)
    assert_allclose(figures(got), figures(want), rtol=1e-6 if shift < 100.0 else 1e-4)
    assert (got.df_denom if got.distribution == "chi2" else got.df_num) == 3


@pytest.mark.parametrize("shift", [20.0, 300.0])
@pytest.mark.parametrize("way", ["kenward-roger", "CR1", "CR2", "normal"])
def test_raw_and_centred_squares(way, shift):
    one, other = (WAYS[way](polynomial(s, 2)).wald_test(np.eye(3)[1:]) for s in (0.0, shift))
    assert_allclose(figures(other), figures(one), rtol=2e-5)


def test_a_term_without_a_test_leaves_the_others():
    result = polynomial(130.0).with_df("kenward-roger")
    with pytest.warns(RuntimeWarning, match="No test of powers. The estimates of the constraints depend"):
        table = result.wald_test_terms(extra_constraints=[("powers", np.eye(4)[1:])]).table
    assert table.loc["powers", ["statistic", "pvalue"]].isna().all()
    assert table.drop("powers").notna().all().all()


@pytest.mark.parametrize("scale", SCALES)
def test_terms_have_the_same_tests(scale):
    def table(s):
        frame = data().assign(x=data()["x"] * s)
        result = smf.mixedlm("y ~ x + z + C(g % 3) + (1 | g)", frame).fit().with_df("kenward-roger")
        return result.wald_test_terms(extra_constraints=[("both", np.eye(5)[3:])]).table.astype(float)

    assert_allclose(table(scale), table(1.0), rtol=1e-6)


# -- other models ------------------------------------------------------------------------------------------

MODELS = {
    "poisson": lambda frame: smf.mepoisson("count ~ x + z + (1 | g)", frame),
    "logit": lambda frame: smf.melogit("yes ~ x + z + (1 | g)", frame),
    "negative binomial": lambda frame: smf.menbreg("count ~ x + z + (1 | g)", frame),
    "ordinal": lambda frame: smf.meologit("grade ~ x + z + (1 | g)", frame),
    "weights": lambda frame: smf.mixedlm("y ~ x + z + (1 | g)", frame, var_weights=frame["w"]),
    "counts": lambda frame: smf.mixedlm("y ~ x + z + (1 | g)", frame, freq_weights=frame["n"]),
    "crossed": lambda frame: smf.mixedlm("y ~ x + z + (1 | g) + (1 | h)", frame),
    "singular": lambda frame: smf.mixedlm("x ~ count + z + (1 | h)", frame),
}


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_model(model):
    frame = data().assign(h=np.arange(240) % 8, w=1.0 + np.arange(240) % 3, n=1 + np.arange(240) % 2)
    moved = frame.assign(z=frame["z"] * 1e8, x=frame["x"] if model == "singular" else frame["x"] * 1e-6 + 1e-3)
    one, other = (MODELS[model](f).fit() for f in (frame, moved))
    names = [name for name in one.params.index if name in ("x", "z", "count")]
    for way in (WAYS["normal"], lambda result: result.get_robustcov_results(groups="g" if "h" in model else None)):
        if model in ("crossed", "singular") and way is not WAYS["normal"]:
            continue
        tests = [way(result).wald_test(", ".join(f"{name} = 0" for name in names)) for result in (one, other)]
        assert_allclose(figures(tests[1])[:2], figures(tests[0])[:2], rtol=1e-5)
        assert tests[1].df_denom == 2
    with pytest.raises(ValueError, match="contradict each other"):
        one.wald_test("z = 1, z = 2")
    assert other.wald_test("z = 0, 2 * z = 0").df_denom == 1


def test_the_root_is_of_the_covariance():
    for result in (slopes(), MODELS["poisson"](data()).fit(), MODELS["ordinal"](data()).fit()):
        found = joint.standard_root(result._results)
        whole = found.units @ found.half
        assert_allclose(whole @ whole.T, result.cov_params(), rtol=1e-8, atol=1e-12)
    assert joint.standard_root(slopes().get_robustcov_results()._results) is None
    assert joint.standard_root(slopes().with_df("kenward-roger")._results) is None
    assert joint.standard_root(slopes().with_df("satterthwaite")._results) is not None


# -- options of intervals, limits of correlations ------------------------------------------------------------


@pytest.mark.parametrize("method", ["wald", "profile", "boot"])
@pytest.mark.parametrize("model", ["poisson", "weights"])
def test_cols_is_refused(model, method):
    result = MODELS[model](data().assign(w=1.0)).fit()
    with pytest.raises(TypeError, match=r"conf_int\(\) has no cols, as statsmodels since 0.15. Take rows"):
        result.conf_int(method=method, cols=[0])
    with pytest.raises(TypeError, match=r"method='wald'.* has no option 'seed'"):
        result.conf_int(seed=1)


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5, 1e7])
def test_limits_of_a_correlation_in_any_units(scale):
    frame = data().assign(x=data()["x"] * scale, z=data()["z"] * scale)
    model = smf.mixedlm("y ~ x + z + (0 + x + z | g)", frame)
    target = ComponentTarget("cor", Coordinates(ComponentMap(model.effects, True), 0), 2)
    assert (target.lower, target.upper) == (-1.0, 1.0)


def test_predictions_of_a_raw_polynomial():
    """The coefficients cancel by many digits, and so would their covariances."""
    df = pd.read_csv(Path(__file__).parents[1] / "data" / "bodyweight.csv")
    df["year"] = 1960.0 + df["Time"]
    rows = np.array([[1.0, t, t * t] for t in (1961.0, 1990.0, 2024.0)])
    raw = smf.mixedlm("weight ~ year + I(year ** 2) + (1 | Rat)", df).fit()
    near = smf.mixedlm("weight ~ I(year - 1990) + I((year - 1990) ** 2) + (1 | Rat)", df).fit()
    centred = np.array([[1.0, t - 1990, (t - 1990) ** 2] for t in (1961.0, 1990.0, 2024.0)])
    assert_allclose(raw.t_test(rows).sd, near.t_test(centred).sd, rtol=1e-6)
