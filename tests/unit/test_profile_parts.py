"""The pieces of profile likelihoods: the constrained minimiser, the joint deviance, targets and their names."""

import numpy as np
import pandas as pd
import pytest
from oracle import FACTORS, DenseMixedModel, Term
from scipy import optimize

import sm_multilevel.formula.api as smf
from sm_multilevel.estimation.constrained import SurfacePoint, minimize_on
from sm_multilevel.objectives.crossprod import cross_products
from sm_multilevel.objectives.joint_gaussian import JointGaussian
from sm_multilevel.objectives.linear import LinearObjective
from sm_multilevel.objectives.point import Point
from sm_multilevel.postestimation.profiling.profiled import _without, profile_problem
from sm_multilevel.postestimation.profiling.targets import ComponentTarget, find_targets


def differences(function, x, h=1e-6):
    """Central differences, one row an element of x."""
    return np.array([(function(x + step) - function(x - step)) / (2 * h) for step in h * np.eye(len(x))])


def frame(n_groups=6, size=4, seed=0):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), size)
    x = np.tile(np.arange(size) - 1.0, n_groups)
    z = rng.standard_normal(len(g))
    effects = rng.standard_normal((n_groups, 2)) * [1.0, 0.6]
    y = 2 + 0.5 * x + effects[g, 0] + effects[g, 1] * x + rng.standard_normal(len(g))
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": g, "f": np.resize(list("abc"), len(g))})


# -- the minimiser -----------------------------------------------------------------------------


def quartic(z):
    """A function that is not quadratic, with its derivatives."""
    a = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
    value = 0.5 * z @ a @ z + 0.25 * np.sum(z**4) - z[0]
    return Point(float(value), lambda: a @ z + z**3 - np.array([1.0, 0, 0]), lambda: a + np.diag(3 * z**2))


def sphere(radius):
    def surface(z):
        size = np.linalg.norm(z[:2])
        jacobian = np.append(z[:2] / size, 0.0)[None]
        hessian = np.zeros((3, 3))
        hessian[:2, :2] = (np.eye(2) - np.outer(z[:2], z[:2]) / size**2) / size
        return SurfacePoint(np.array([size - radius]), jacobian, lambda w: w[0] * hessian)

    return surface


@pytest.mark.parametrize("radius", [1e-3, 0.3, 1.0, 1.5])
def test_minimum_on_a_circle(radius):
    found = minimize_on(quartic, sphere(radius), np.array([1.0, 0.3, 0.2]))
    assert found.converged

    def by_angle(p):
        return quartic(np.array([radius * np.cos(p[0]), radius * np.sin(p[0]), p[1]])).value

    brute = min(
        optimize.minimize(by_angle, [angle, 0.0], method="BFGS", options={"gtol": 1e-9}).fun for angle in range(6)
    )
    assert found.value == pytest.approx(brute, abs=1e-9)
    assert np.linalg.norm(found.z[:2]) == pytest.approx(radius, abs=1e-12)


def test_multiplier_and_tangent_are_derivatives_of_the_minimum():
    h = 1e-4
    mid, up, down = (minimize_on(quartic, sphere(r), np.ones(3), tol=1e-15) for r in (1.0, 1 + h, 1 - h))
    assert mid.multiplier[0] == pytest.approx((up.value - down.value) / (2 * h), abs=1e-6)
    # From a learnt Hessian, and only where the next search starts.
    np.testing.assert_allclose(mid.tangent[:, 0], (up.z - down.z) / (2 * h), atol=5e-3)


def test_several_constraints():
    a = np.array([[1.0, 1, 0], [0, 1, -1]])
    b = np.array([0.5, 0.2])
    found = minimize_on(quartic, lambda z: SurfacePoint(a @ z - b, a, lambda w: np.zeros((3, 3))), np.zeros(3))
    brute = optimize.minimize(
        lambda z: quartic(z).value, np.zeros(3), method="SLSQP", constraints={"type": "eq", "fun": lambda z: a @ z - b},
        options={"ftol": 1e-14},
    )  # fmt: skip
    assert found.value == pytest.approx(brute.fun, abs=1e-9)
    np.testing.assert_allclose(a @ found.z, b, atol=1e-13)


def test_a_surface_without_points_is_reported():
    def nowhere(z):
        return SurfacePoint(np.array([1.0 + z[0] ** 2]), np.array([[2 * z[0], 0, 0]]), lambda w: np.zeros((3, 3)))

    found = minimize_on(quartic, nowhere, np.ones(3))
    assert not found.converged
    assert "no point" in found.reason


def test_where_the_objective_does_not_exist_is_reported():
    nothing = Point(np.inf, lambda: np.zeros(3), lambda: np.eye(3))
    found = minimize_on(lambda z: nothing, sphere(1.0), np.ones(3))
    assert not found.converged
    assert "does not exist" in found.reason


def test_too_few_evaluations_are_no_convergence():
    assert not minimize_on(quartic, sphere(4.0), np.array([-1.0, 3.0, 2.0]), maxiter=2).converged


# -- the joint deviance ----------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["unstructured", "diagonal"])
def test_joint_deviance_is_the_dense_one(structure):
    df = frame()
    model = smf.mixedlm("y ~ x + (x | g)", df, covariance=structure)
    joint = JointGaussian(model.objective(reml=False))
    k = model.effects.n_params
    theta, log_sigma = np.array([0.8, 0.3, 0.5])[:k], 0.3
    user = model.effects.to_user(theta)
    x = np.column_stack([np.ones(len(df)), df["x"]])
    dense = DenseMixedModel(df["y"], x, [Term(df["g"].to_numpy(), x)], reml=False, dtype=float)
    lam = FACTORS[structure](user, 2)
    state = dense.at([lam])
    expected = -2 * dense.loglike(state.beta, np.exp(2 * log_sigma), [lam])
    assert joint.point(np.append(theta, log_sigma)).value == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ z + (1 | g) + (1 | f)"])
def test_joint_gradient_and_curvature(formula):
    model = smf.mixedlm(formula, frame())
    joint = JointGaussian(model.objective(reml=False))
    z = np.append(np.array([0.9, 0.4, 0.6])[: model.effects.n_params], 0.2)
    gradient = joint.point(z).gradient()
    np.testing.assert_allclose(gradient, differences(lambda v: joint.point(v).value, z), atol=1e-6)
    exact = differences(lambda v: joint.point(v).gradient(), z)
    curvature = joint.point(z).curvature()
    # Exact where sigma is involved; a model of the rest.
    np.testing.assert_allclose(curvature[-1], exact[-1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(curvature, curvature.T, atol=1e-12)


def test_joint_deviance_does_not_exist_everywhere():
    joint = JointGaussian(smf.mixedlm("y ~ x + (1 | g)", frame()).objective(reml=False))
    for z in ([np.nan, 0.0], [1.0, np.inf], [1.0, 1e6]):
        assert joint.point(np.array(z)).value == np.inf


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_coefficient_is_held_by_the_cross_products_alone(index):
    """As the model of y minus the column times the value, made anew from the rows."""
    df = frame().assign(x=lambda d: d["x"] + 50)
    model = smf.mixedlm("y ~ x + z + (x | g)", df)
    value = 0.7
    held = LinearObjective(_without(model.cross_products(), index, value), model.effects, False)
    x = model.design.exog
    rest = np.delete(x, index, axis=1)
    anew = LinearObjective(
        cross_products(df["y"].to_numpy() - value * x[:, index], rest, model.effects), model.effects, False
    )
    theta = np.array([0.8, 0.2, 0.5])
    assert held.standard_state(theta).value == pytest.approx(anew.standard_state(theta).value, abs=1e-7)
    state = held.standard_state(theta)
    beta = state.data.scaling.beta(state.beta)
    assert beta[index] == pytest.approx(value, abs=1e-9)
    there = anew.standard_state(theta)
    np.testing.assert_allclose(np.delete(beta, index), there.data.scaling.beta(there.beta), rtol=1e-6)


# -- targets ---------------------------------------------------------------------------------


def problems():
    df = frame(8, 6, seed=3)
    df["count"] = np.random.default_rng(1).poisson(np.exp(0.3 + 0.2 * df["x"])) + 1
    df["grade"] = pd.Categorical(np.clip(df["count"], 1, 4), ordered=True)
    yield "linear", smf.mixedlm("y ~ x + (x | g)", df).fit()
    yield "crossed", smf.mixedlm("y ~ x + (1 | g) + (1 | f)", df).fit()
    yield "exchangeable", smf.mixedlm("y ~ 1 + (0 + f | g)", df, covariance="exchangeable").fit()
    yield "ordinal", smf.meologit("grade ~ x + (1 | g)", df).fit()
    yield "gamma", smf.megamma("count ~ x + (1 + x | g)", df).fit()
    yield "negative binomial", smf.menbreg("count ~ x + (1 | g)", df).fit()


@pytest.fixture(scope="module", params=list(problems()), ids=lambda p: p[0])
def problem(request):
    return profile_problem(request.param[1]._results)


def test_derivatives_of_targets(problem):
    z = problem.z + 0.05 * np.random.default_rng(0).standard_normal(len(problem.z)) + 0.02
    targets = [t for t in map(problem.target, problem.names) if not (t.is_fixed and len(problem.psi) == 0)]
    targets += [
        ComponentTarget(problem.components[n], problem.coordinates, n, covariance=True)
        for n, e in enumerate(problem.coordinates.components.entries)
        if not e.is_variance
    ]
    icc = problem.function_target("icc", lambda v, params: v[0] / (v[0] + 1.5), 0.0, 1.0)
    for target in [*targets, icc]:
        t, gradient = target.at(z)
        near = 1e-5 if target is icc else 1e-7
        np.testing.assert_allclose(gradient, differences(lambda v: target.at(v)[0], z), atol=10 * near, rtol=1e-5)  # noqa: B023
        if target is not icc:
            hessian = differences(lambda v: target.at(v)[1], z)  # noqa: B023
            np.testing.assert_allclose(target.hessian(z), hessian, atol=1e-5, rtol=1e-4)
        value = target.to_value(t)
        assert target.lower <= value <= target.upper
        assert target.to_t(value) == pytest.approx(t, abs=1e-9)


def test_estimates_carry_their_names(problem):
    for name in problem.names:
        target = problem.target(name)
        best = problem.best(target)
        assert target.to_value(best.t) == pytest.approx(problem.estimate(name), rel=1e-8)


def test_limits_of_correlations():
    result = smf.mixedlm("y ~ 1 + (0 + f | g)", frame(10, 6), covariance="exchangeable").fit()
    problem = profile_problem(result._results)
    target = problem.target("cor(f[a],f[b]|g)")
    assert (target.lower, target.upper) == (pytest.approx(-0.5), pytest.approx(1.0))
    problem = profile_problem(smf.mixedlm("y ~ x + (x | g)", frame()).fit()._results)
    target = problem.target("cor(Intercept,x|g)")
    assert (target.lower, target.upper) == (-1.0, 1.0)


# -- names -------------------------------------------------------------------------------------


def test_names():
    known = (["Intercept", "x"], ["alpha"], ["sd(Intercept|g)", "cor(Intercept,x|g)"])
    assert find_targets(None, *known) == [*known[0], *known[1], *known[2]]
    assert find_targets("beta", *known) == known[0]
    assert find_targets(["components", "x"], *known) == [*known[2], "x"]
    assert find_targets("cor(Intercept, x | g)", *known) == ["cor(Intercept,x|g)"]
    assert find_targets(["x", "beta"], *known) == ["x", "Intercept"]
    assert find_targets("beta", ["beta"], [], []) == ["beta"]


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("sd(Intercept|h)", r"which='sd\(Intercept\|h\)' is not a parameter.*Did you mean 'sd\(Intercept\|g\)'"),
        (["x", "zz"], "which='zz'"),
        ([], "asks for nothing"),
        (3, "which=3 is no name"),
        ([3], "which=3 is not the name"),
        ("psi", "no such parameters"),
    ],
)
def test_bad_names(which, words):
    with pytest.raises(ValueError, match=words):
        find_targets(which, ["Intercept", "x"], [], ["sd(Intercept|g)"])


def test_names_of_several_terms_of_a_factor():
    df = frame(10, 5)
    problem = profile_problem(smf.mixedlm("y ~ x + (x || g)", df).fit()._results)
    assert problem.components == ["sd(Intercept|g)", "sd(x|g)", "sd(Residual)"]
