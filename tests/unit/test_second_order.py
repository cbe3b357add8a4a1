"""Second-order quantities of the linear mixed model and the degrees of freedom made of them, against dense algebra."""

from unittest import mock

import numpy as np
import pytest
from designs import (
    WEIGHTS,
    N,
    apart,
    crossed,
    crossed_and_nested,
    nested,
    random_terms,
    random_weights,
    slopes,
    split,
    three_columns,
)
from numpy.testing import assert_allclose
from oracle import Term
from oracle_df import DenseInference, kr_test

from sm_multilevel.covariance import STRUCTURES
from sm_multilevel.objectives.crossprod import cross_products
from sm_multilevel.objectives.gaussian import GaussianDeviance
from sm_multilevel.postestimation.components import second_order as so
from sm_multilevel.postestimation.wald.df import kenward_roger, satterthwaite
from sm_multilevel.random_effects import RandomEffects

P = 4
LAYOUTS = [slopes, three_columns, split, nested, crossed, apart, crossed_and_nested]


class Problem:
    """Random data, the package's solution at some theta (standardised columns), and the dense one."""

    def __init__(self, seed, layout, structure, weights="none", reml=True, theta=None, p=P):
        rng = self.rng = np.random.default_rng(seed)
        x = np.column_stack([np.ones(N), rng.normal(size=(N, p - 1)) * 3 + 10])[:, :p]
        terms = random_terms(rng, layout, STRUCTURES[structure]())
        var, freq = random_weights(rng, WEIGHTS[weights])
        y = 20 + x.sum(axis=1) + rng.normal(size=8)[terms[0].codes % 8] + rng.normal(size=N)
        self.effects = RandomEffects(terms, counts=freq)
        data = cross_products(y, x, self.effects, var, freq)
        k = self.effects.n_params
        self.theta = rng.uniform(0.3, 1.5, k) * rng.choice([-1, 1], k) if theta is None else theta(rng, k)
        self.state = GaussianDeviance(data, reml).at(self.effects.lambdas(self.theta))
        self.sigma = np.sqrt(self.state.sigma2)
        used = [Term(t.codes, t.exog @ w) for t, w in zip(terms, self.effects.standardizers, strict=True)]
        self.dense = DenseInference(y, x, used, [structure] * len(terms), var, freq, reml)
        self.beta = data.scaling.beta(self.state.beta)


def close(ours, dense, rtol):
    """Equal, judged by the size of the whole."""
    assert_allclose(ours, dense, atol=rtol * np.abs(dense).max(), rtol=0)


@pytest.mark.parametrize("weights", ["none", "both"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_traces_and_quadratic_forms(layout, weights):
    """In every direction that G of any factor can take, V in units of sigma^2 and columns as they are used."""
    problem = Problem(1, layout, "unstructured", weights)
    state, dense, rng = problem.state, problem.dense, np.random.default_rng(2)
    directions, moves = [], []
    for k, (term, (f, start)) in enumerate(zip(problem.effects.terms, problem.effects.home, strict=True)):
        for _ in range(2):
            d = rng.normal(size=(term.q, term.q))
            full = np.zeros((problem.effects.factors[f].q,) * 2)
            full[start : start + term.q, start : start + term.q] = d + d.T
            directions.append((f, full))
            moves.append(dense.along(k, d + d.T))
    parts = so.second_order(state, directions, so.level_pairs(so.Equations.of(state)))
    inverse = np.linalg.inv(dense.variance(problem.theta, 1.0))
    r = dense.yy - dense.xx @ problem.beta
    border = np.column_stack([dense.xx @ state.data.scaling.map, r])
    close(parts.traces, [np.trace(inverse @ m) for m in moves], 1e-10)
    close(parts.pair_traces, [[np.trace(inverse @ a @ inverse @ b) for b in moves] for a in moves], 1e-10)
    close(parts.first, [border.T @ inverse @ m @ inverse @ border for m in moves], 1e-10)
    want = [[border.T @ inverse @ a @ inverse @ b @ inverse @ border for b in moves] for a in moves]
    close(parts.second, want, 1e-10)


@pytest.mark.parametrize("chunk", [1, 500])
def test_chunks_change_nothing(chunk):
    problem = Problem(3, apart, "unstructured")
    whole = so.level_pairs(so.Equations.of(problem.state))
    with mock.patch.object(so, "_CHUNK", chunk):
        parts = so.level_pairs(so.Equations.of(problem.state))
    for f, total in enumerate(whole.sums):
        assert_allclose(parts.sums[f], total, rtol=1e-12)
    for key, product in whole.products.items():
        assert_allclose(parts.products[key], product, rtol=1e-12, atol=1e-12)


def test_independent_sets_of_levels_share_solves():
    """One factor: as many columns as a level has; three sets of crossed levels: those of the largest."""
    one_factor = Problem(3, slopes, "unstructured").effects.layout
    assert so.pair_elements(one_factor) == one_factor.n_columns * 2
    layout = Problem(3, apart, "unstructured").effects.layout
    assert so.pair_elements(layout) == layout.n_columns * (4 * 2 + 3 * 2)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_hessian_and_slopes(layout, structure, reml):
    weights = list(WEIGHTS)[(LAYOUTS.index(layout) + list(STRUCTURES).index(structure)) % 4]
    problem = Problem(4, layout, structure, weights, reml)
    cov, slopes, hessian = problem.dense.satterthwaite(problem.theta, problem.sigma)
    state, effects, theta = problem.state, problem.effects, problem.theta
    close(so.theta_hessian(state, effects, theta, so.level_pairs(so.Equations.of(state))), hessian, 1e-7)
    close(so.theta_hessian(state, effects, theta, None), hessian, 1e-6)  # as good as its differences
    close(state.cov_beta(), cov, 1e-9)
    first = so.first_order(state, so.theta_directions(state, effects))
    close(so.cov_slopes(state, first), slopes[:-1], 1e-7)
    close(2.0 * state.cov_beta(), slopes[-1], 1e-7)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("reml", [True, False])
def test_hessian_at_zero(weights, reml):
    """Where Lambda is singular the derivatives are exact too."""

    def theta(rng, k):
        out = rng.uniform(0.3, 1.5, k)
        out[::2] = 0.0
        return out

    for layout in (three_columns, crossed):
        problem = Problem(5, layout, "unstructured", weights, reml, theta)
        want = problem.dense.satterthwaite(problem.theta, problem.sigma)[2]
        got = so.theta_hessian(
            problem.state, problem.effects, problem.theta, so.level_pairs(so.Equations.of(problem.state))
        )
        close(got, want, 1e-7)


def compare_kr(problem, rtol=1e-8):
    reference, adjusted = kenward_roger(problem.state, problem.effects, problem.theta)
    phi, want, p, w = problem.dense.kenward_roger(problem.theta, problem.sigma)
    close(reference.cov, phi, rtol)
    close(adjusted, want, rtol)
    rng = np.random.default_rng(0)
    for size in (1, 2, 3):
        rows = rng.normal(size=(size, P))
        value, factor, m = kr_test(rows, problem.beta, phi, want, p, w)
        got_factor, got_m = reference.f_df(rows)
        assert_allclose(got_factor, factor, rtol=rtol)
        assert_allclose(got_m, m, rtol=10 * rtol)
        ours = (rows @ problem.beta) @ np.linalg.solve(rows @ adjusted @ rows.T, rows @ problem.beta) / size
        assert_allclose(got_factor * ours, value, rtol=10 * rtol)
        if size == 1:
            assert_allclose(reference.t_df(rows), [m], rtol=10 * rtol)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_kenward_roger(layout, structure):
    weights = list(WEIGHTS)[(LAYOUTS.index(layout) + list(STRUCTURES).index(structure)) % 4]
    compare_kr(Problem(6, layout, structure, weights))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("layout", [slopes, crossed])
def test_kenward_roger_with_weights_and_zero_components(layout, weights):
    """Variances of zero keep their part in the information."""

    def theta(rng, k):
        out = np.zeros(k)
        out[0] = 0.7
        return out

    compare_kr(Problem(7, layout, "unstructured", weights, theta=theta))
    compare_kr(Problem(8, layout, "diagonal", weights, theta=lambda rng, k: np.zeros(k)))


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_kenward_roger_of_small_and_of_large_components(size):
    """What belongs to sigma^2 is a difference: 1,000 times the residual SD costs digits, not the result."""
    compare_kr(Problem(9, slopes, "unstructured", theta=lambda rng, k: size * rng.uniform(0.5, 1.5, k)), rtol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_satterthwaite_from_the_dense_hessian(structure):
    problem = Problem(10, crossed, structure, "both")
    with mock.patch("sm_multilevel.postestimation.wald.df._pseudo_inverse", np.linalg.inv):
        reference = satterthwaite(problem.state, problem.effects, problem.theta)
    cov, slopes, hessian = problem.dense.satterthwaite(problem.theta, problem.sigma)
    for row in np.eye(P):
        gradient = np.array([row @ s @ row for s in slopes])
        want = 2 * (row @ cov @ row) ** 2 / (gradient @ (2 * np.linalg.inv(hessian)) @ gradient)
        assert_allclose(reference.t_df(row[None]), [want], rtol=1e-5)
