"""The profiled deviance, its gradient and the unprofiled likelihood against dense algebra, and their invariances."""

from unittest import mock

import numpy as np
import pytest
import statsmodels.api as sm
from designs import (
    WEIGHTS,
    N,
    crossed,
    crossed_and_nested,
    nested,
    one_intercept,
    random_terms,
    random_weights,
    slopes,
    split,
    three_columns,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracle import FACTORS, DenseMixedModel, Term

import sm_multilevel.api as smm
from sm_multilevel.covariance import STRUCTURES, Diagonal, Unstructured
from sm_multilevel.objectives import crossprod
from sm_multilevel.objectives.crossprod import cross_products, fixed_scaling
from sm_multilevel.objectives.linear import LinearObjective
from sm_multilevel.random_effects import RandomEffects, RandomTerm

LAYOUTS = [one_intercept, slopes, three_columns, split, nested, crossed, crossed_and_nested]


class Problem:
    """Random data, the package's model of it, and the dense one."""

    def __init__(self, seed, layout, structure, weights=(), p=3):
        rng = self.rng = np.random.default_rng(seed)
        self.covariance = STRUCTURES[structure]() if isinstance(structure, str) else structure
        self.terms = random_terms(rng, layout, self.covariance)
        self.x = np.column_stack([np.ones(N), rng.normal(size=(N, max(p - 1, 0))) + 1.0])[:, :p]
        self.y = rng.normal(size=N) + 2.0
        self.kwargs = {"offset": rng.normal(size=N)}
        var, freq = random_weights(rng, weights)
        given = {"var_weights": var, "freq_weights": freq}
        self.kwargs |= {name: w for name, w in given.items() if w is not None}
        self.k = sum(t.n_params for t in self.terms)

    def model(self):
        return smm.MixedLM(self.y, self.x, random=self.terms, **self.kwargs)

    def dense(self, reml):
        terms = [Term(t.codes, t.exog) for t in self.terms]
        return DenseMixedModel(self.y, self.x, terms, reml=reml, **self.kwargs)

    def lams(self, theta):
        """theta to Lambda by the oracle's own definitions (a structure it does not know: by the package's)."""
        out, at = [], 0
        for term in self.terms:
            factor = FACTORS.get(self.covariance.name, self.covariance.factor)
            out.append(factor(theta[at : at + term.n_params], term.q))
            at += term.n_params
        return out

    def thetas(self):
        """Random values of any sign; some exact zeros; all zero."""
        theta = self.rng.normal(size=self.k)
        zeros = theta * self.rng.integers(0, 2, self.k)
        return [theta, zeros, np.zeros(self.k)]


def agree(problem, reml, thetas=None):
    objective, dense = problem.model().objective(reml=reml), problem.dense(reml)
    for theta in problem.thetas() if thetas is None else thetas:
        value, gradient = objective.value_and_gradient(theta)
        assert_allclose(value, float(dense.deviance(problem.lams(theta))), rtol=1e-11, atol=1e-9)
        assert value == objective(theta)
        want = dense.gradient(problem.lams, theta)
        assert_allclose(gradient, want, rtol=1e-8, atol=1e-9 * max(1.0, np.abs(want).max()))


# -- against the oracle ------------------------------------------------------------------------


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_deviance_and_gradient(structure, layout, weights, reml):
    agree(Problem(1, layout, structure, weights), reml)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    seed=st.integers(0, 2**20),
    layout=st.sampled_from(LAYOUTS),
    structure=st.sampled_from(list(STRUCTURES)),
    weights=st.sampled_from(list(WEIGHTS.values())),
    p=st.integers(0, 3),
    reml=st.booleans(),
)
def test_deviance_and_gradient_of_random_designs(seed, layout, structure, weights, p, reml):
    agree(Problem(seed, layout, structure, weights, p), reml)


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("layout", [slopes, split, crossed_and_nested])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_likelihood_at_any_parameters(structure, layout, reml):
    """loglike, score and hessian of the packed parameters; elements of theta at zero included."""
    problem = Problem(2, layout, structure, ("var", "freq"))
    model, dense = problem.model(), problem.dense(reml)
    for theta in problem.thetas()[:2]:
        params = np.concatenate([problem.rng.normal(size=3), [1.7], theta])

        def loglike(v):
            return dense.loglike(v[:3], v[3], problem.lams(v[4:]))

        assert_allclose(model.loglike(params, reml=reml), float(loglike(params)), rtol=1e-11)
        step = 1e-5
        eye = np.eye(len(params))
        want = [float((loglike(params + step * e) - loglike(params - step * e)) / (2 * step)) for e in eye]
        score = model.score(params, reml=reml)
        assert_allclose(score, want, rtol=1e-6, atol=1e-6 * np.abs(want).max())
        step = 1e-4
        rows = [(model.score(params + step * e, reml) - model.score(params - step * e, reml)) / (2 * step) for e in eye]
        hessian = model.hessian(params, reml=reml)
        assert_allclose(hessian, rows, rtol=1e-5, atol=1e-5 * np.abs(rows).max())
        assert_array_equal(hessian, hessian.T)


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_optimum(structure, reml):
    """The fit is at the least deviance that a multi-start search on dense matrices finds, or lower."""
    problem = Problem(3, slopes, structure)
    codes, rng = problem.terms[0].codes, problem.rng
    b = rng.normal(size=(codes.max() + 1, 2)) @ [[1.5, 0.0], [0.3, 0.8]]
    problem.y = problem.y + np.einsum("nq,nq->n", problem.terms[0].exog, b[codes])
    result = problem.model().fit(reml=reml)
    dense = problem.dense(reml)
    best = dense.minimise(problem.lams, problem.k)
    least = float(dense.deviance(problem.lams(best)))
    assert result.converged
    assert result.deviance <= least + 1e-7
    assert_allclose(result.deviance, float(dense.deviance(problem.lams(result.theta))), rtol=1e-11)
    assert_allclose(np.abs(dense.gradient(problem.lams, result.theta)).max(), 0, atol=1e-3)


# -- one pass over the data ----------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_of_rows_add_up(layout, weights):
    problem = Problem(4, layout, "unstructured", weights)
    model = problem.model()
    theta = problem.thetas()[0]
    y = problem.y - problem.kwargs["offset"]
    scaling = fixed_scaling(y, problem.x)
    arguments = (y, problem.x, model.effects, model.var_weights, model.freq_weights)
    whole = cross_products(*arguments)
    parts = [cross_products(*arguments, scaling=scaling, rows=slice(a, b)) for a, b in ((0, 17), (17, 20), (20, N))]
    total = parts[2] + parts[0] + parts[1]
    with mock.patch.object(crossprod, "BATCH_ROWS", 5):
        small = cross_products(*arguments)
    for reml in (True, False):
        want = model.objective(reml).value_and_gradient(theta)
        for data in (whole, total, small):
            got = LinearObjective(data, model.effects, reml).value_and_gradient(theta)
            assert_allclose(got[0], want[0], rtol=1e-12)
            assert_allclose(got[1], want[1], rtol=1e-8, atol=1e-9)
    assert total.nobs == whole.nobs
    assert_allclose(total.log_weights, whole.log_weights, atol=1e-12)


# -- invariances -----------------------------------------------------------------------------------


def moved(problem, *, x=None, terms=None, y=None, **kwargs):
    """A copy of a problem with other data."""
    other = object.__new__(Problem)
    other.__dict__.update(problem.__dict__)
    other.x = problem.x if x is None else x
    other.y = problem.y if y is None else y
    other.terms = problem.terms if terms is None else terms
    other.kwargs = {**problem.kwargs, **kwargs}
    return other


def replaced(term, exog, covariance=None):
    return RandomTerm(term.group, term.codes, term.levels, exog, term.columns, covariance or term.covariance, term.name)


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_a_shift_of_y_by_1e5_changes_the_intercept_alone(reml):
    problem = Problem(5, crossed, "unstructured", ("var",))
    far = moved(problem, y=problem.y + 1e5)
    theta = problem.thetas()[0]
    a, b = problem.model().objective(reml), far.model().objective(reml)
    assert_allclose(a(theta), b(theta), rtol=1e-10)
    assert_allclose(a.value_and_gradient(theta)[1], b.value_and_gradient(theta)[1], rtol=1e-7, atol=1e-8)
    # Against the dense model of the very same rounded numbers there is no loss at all.
    assert_allclose(b(theta), float(far.dense(reml).deviance(far.lams(theta))), rtol=1e-11)
    first, second = problem.model().fit(reml=reml), far.model().fit(reml=reml)
    assert_allclose(second.params - first.params, [1e5, 0, 0], rtol=1e-10, atol=1e-6)
    assert_allclose(second.bse, first.bse, rtol=1e-6)
    assert_allclose(second.llf, first.llf, rtol=1e-10)


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_a_shift_of_x_by_1e5(reml):
    """The slope's and the intercept's effects mix, in fixed and in unstructured random parts; the fit is the same."""
    problem = Problem(6, slopes, "unstructured")
    shift = 1e5
    x = problem.x.copy()
    x[:, 1] += shift
    z = problem.terms[0].exog.copy()
    z[:, 1] += shift
    far = moved(problem, x=x, terms=[replaced(problem.terms[0], z)])
    theta = problem.thetas()[0]
    back = np.array([[1.0, -shift], [0.0, 1.0]])
    there = Unstructured().transform(theta, back)
    a, b = problem.model().objective(reml), far.model().objective(reml)
    assert_allclose(b(there), a(theta), rtol=1e-9)
    first, second = problem.model().fit(reml=reml), far.model().fit(reml=reml)
    assert second.converged
    assert_allclose(second.llf, first.llf, rtol=1e-9)
    assert_allclose(second.params[1:], first.params[1:], rtol=1e-6)
    assert_allclose(second.bse[1:], first.bse[1:], rtol=1e-6)
    assert_allclose(second.fittedvalues, first.fittedvalues, atol=1e-6)


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_the_scale_of_predictors(reml):
    """Columns of size 1e5: theta and beta shrink; ML's value stays, REML's moves by the determinant of the change."""
    problem = Problem(7, slopes, "unstructured")
    size = 1e5
    x, z = problem.x.copy(), problem.terms[0].exog.copy()
    x[:, 1:] *= size
    z[:, 1] *= size
    big = moved(problem, x=x, terms=[replaced(problem.terms[0], z)])
    theta = problem.thetas()[0]
    a, b = problem.model().objective(reml), big.model().objective(reml)
    added = 4 * np.log(size) if reml else 0.0
    assert_allclose(b(theta / [1, size, size]), a(theta) + added, rtol=1e-11)
    ga, gb = a.value_and_gradient(theta)[1], b.value_and_gradient(theta / [1, size, size])[1]
    assert_allclose(gb, ga * [1, size, size], rtol=1e-8)
    first, second = problem.model().fit(reml=reml), big.model().fit(reml=reml)
    assert_allclose(second.llf, first.llf - added / 2, rtol=1e-10)
    assert_allclose(second.params * [1, size, size], first.params, rtol=1e-5, atol=1e-7)
    assert_allclose(second.bse * [1, size, size], first.bse, rtol=1e-6)


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_the_scale_of_y(size, reml):
    problem = Problem(7, crossed, "unstructured")
    big = moved(problem, y=size * problem.y, offset=size * problem.kwargs["offset"])
    first, second = problem.model().fit(reml=reml), big.model().fit(reml=reml)
    rows = N - 3 if reml else N
    assert_allclose(second.llf, first.llf - rows * np.log(size), rtol=1e-10)
    assert_allclose(second.theta, first.theta, atol=1e-5)
    assert_allclose(second.params, size * first.params, rtol=1e-6)
    scaled = np.concatenate([np.full(3, size), [size**2], np.ones(problem.k)])
    want = first.model.hessian(first.params_packed, reml=reml)
    hessian = second.model.hessian(first.params_packed * scaled, reml=reml) * np.outer(scaled, scaled)
    assert_allclose(hessian, want, rtol=1e-4, atol=1e-6 * np.abs(want).max())


@pytest.mark.parametrize("structure", [s for s in STRUCTURES if STRUCTURES[s]().maps != "linear"])
def test_columns_of_other_structures_are_never_shifted(structure):
    """Centring the columns of independent effects would be another model; the value follows the data as given."""
    problem = Problem(8, slopes, structure)
    z = problem.terms[0].exog.copy()
    z[:, 1] += 5.0
    far = moved(problem, terms=[replaced(problem.terms[0], z)])
    agree(far, True)
    theta = np.abs(problem.thetas()[0]) + 0.5
    assert abs(far.model().objective()(theta) - problem.model().objective()(theta)) > 1e-3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_order_of_rows_and_the_labels_of_groups(layout):
    problem = Problem(9, layout, "unstructured", ("var", "freq"))
    theta = problem.thetas()[0]
    want = problem.model().objective().value_and_gradient(theta)
    order = problem.rng.permutation(N)
    relabelled = {}
    terms = []
    for t in problem.terms:
        new = relabelled.setdefault(t.group, problem.rng.permutation(t.n_levels))
        terms.append(RandomTerm(t.group, new[t.codes][order], t.levels, t.exog[order], t.columns, t.covariance, t.name))
    kwargs = {name: v[order] for name, v in problem.kwargs.items()}
    got = moved(problem, x=problem.x[order], y=problem.y[order], terms=terms, **kwargs).model().objective()
    assert_allclose(got(theta), want[0], rtol=1e-12)
    assert_allclose(got.value_and_gradient(theta)[1], want[1], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", ["int", "string", "negative", "large", "float"])
def test_kinds_of_group_labels(dtype):
    problem = Problem(10, one_intercept, "unstructured")
    codes = problem.terms[0].codes
    labels = {
        "int": np.array([40, 3, 17, 5, 999, 6, 1]),
        "string": np.array(["z", "a", "Q", "éa", "10", "9", ""]),
        "negative": np.arange(7) - 3,
        "large": np.arange(7) * 10**15,
        "float": np.arange(7) / 3,
    }[dtype]
    model = smm.MixedLM(problem.y, problem.x, labels[codes], **problem.kwargs)
    direct = smm.MixedLM(problem.y, problem.x, codes, **problem.kwargs)
    assert_allclose(model.objective()([0.9]), direct.objective()([0.9]), rtol=1e-13)
    assert sorted(model.levels[0]) == sorted(labels)
    effects, want = model.fit().ranef(), direct.fit().ranef()
    for level, label in enumerate(labels):
        assert_allclose(effects.loc[label], want.loc[level], atol=1e-10)


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_frequency_weights_are_repeated_rows(layout, reml):
    problem = Problem(11, layout, "unstructured", ("var", "freq"))
    times = problem.kwargs["freq_weights"].astype(int)
    rows = np.repeat(np.arange(N), times)
    terms = [RandomTerm(t.group, t.codes[rows], t.levels, t.exog[rows], t.columns, t.covariance) for t in problem.terms]
    repeated = smm.MixedLM(
        problem.y[rows], problem.x[rows], random=terms,
        offset=problem.kwargs["offset"][rows], var_weights=problem.kwargs["var_weights"][rows],
    )  # fmt: skip
    theta = problem.thetas()[0]
    weighted = problem.model()
    a, b = weighted.objective(reml), repeated.objective(reml)
    assert_allclose(a(theta), b(theta), rtol=1e-12)
    first, second = weighted.fit(reml=reml), repeated.fit(reml=reml)
    assert first.nobs == second.nobs == times.sum()
    assert first.df_resid == second.df_resid
    assert_allclose(first.params, second.params, rtol=0, atol=1e-5 * first.bse.min())
    for name in ("bse", "llf", "aic", "bic", "scale"):
        assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-6)
    for key, value in first.r_squared().items():
        assert_allclose(value, second.r_squared()[key], rtol=1e-6)


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("c", [9.0, 1e10, 1e-10])
def test_the_scale_of_precision_weights(c, reml):
    """Weights times c with theta / sqrt(c) are the same model with sigma^2 times c, however large c is."""
    problem = Problem(12, crossed, "unstructured", ("var",))
    theta = problem.thetas()[0]
    heavy = moved(problem, var_weights=c * problem.kwargs["var_weights"])
    a, b = problem.model().objective(reml), heavy.model().objective(reml)
    assert_allclose(b(theta / np.sqrt(c)), a(theta), rtol=1e-12)
    first, second = problem.model().fit(reml=reml), heavy.model().fit(reml=reml)
    assert second.converged
    assert second.is_singular == first.is_singular
    assert_allclose(second.scale, c * first.scale, rtol=1e-6)
    assert_allclose(second.llf, first.llf, rtol=1e-10)
    assert_allclose(second.params, first.params, rtol=1e-6)
    assert_allclose(second.bse, first.bse, rtol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_variance_is_least_squares(layout, structure):
    problem = Problem(13, layout, structure, ("var",))
    model = problem.model()
    ols = sm.WLS(problem.y - problem.kwargs["offset"], problem.x, weights=problem.kwargs["var_weights"]).fit()
    zero = np.zeros(problem.k)
    assert_allclose(model.objective(reml=False)(zero), -2 * ols.llf, rtol=1e-12)
    state = model.objective(reml=True).state(zero)
    assert_allclose(state.data.scaling.beta(state.beta), ols.params, rtol=1e-10)
    assert_allclose(state.cov_beta(), ols.cov_params(), rtol=1e-9)
    assert_allclose(state.sigma2, ols.scale, rtol=1e-11)
    for b in state.effects():
        assert_array_equal(b, 0.0)


def test_signs_of_lambda_do_not_matter():
    problem = Problem(14, slopes, "unstructured")
    objective = problem.model().objective()
    assert_allclose(objective([-1.0, -0.4, 0.7]), objective([1.0, 0.4, 0.7]), rtol=1e-14)
    assert_allclose(objective([1.0, 0.4, -0.7]), objective([1.0, 0.4, 0.7]), rtol=1e-14)


def test_terms_of_one_factor_are_merged():
    """(1 | g) + (0 + x | g) is a diagonal covariance."""
    problem = Problem(15, slopes, Diagonal())
    term = problem.terms[0]
    halves = [
        RandomTerm("g", term.codes, term.levels, term.exog[:, [j]], (term.columns[j],), Unstructured(), "g")
        for j in range(2)
    ]
    effects = RandomEffects(halves)
    assert len(effects.factors) == 1
    apart = smm.MixedLM(problem.y, problem.x, random=halves, **problem.kwargs)
    theta = [0.8, 1.3]
    assert_allclose(apart.objective()(theta), problem.model().objective()(theta), rtol=1e-13)
