"""The contract of covariance structures, for every one that is registered."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracle import FACTORS

from sm_multilevel.covariance import STRUCTURES, Covariance, Exchangeable, Unstructured, get_covariance

NAMES = list(STRUCTURES)
EXAMPLES = settings(max_examples=40, derandomize=True, deadline=None, database=None)
every = pytest.mark.parametrize("name", NAMES)
SEED, WIDTH = st.integers(0, 2**20), st.integers(1, 5)


def draw(name, q, seed, zeros=False):
    """A structure, theta of any sign (with exact zeros), and G."""
    structure, rng = STRUCTURES[name](), np.random.default_rng(seed)
    theta = rng.normal(size=structure.n_params(q))
    if zeros:
        theta *= rng.integers(0, 2, theta.shape)
    lam = structure.factor(theta, q)
    return structure, theta, lam @ lam.T, rng


def covariance(structure, theta, q):
    lam = structure.factor(theta, q)
    return lam @ lam.T


def maps_of(structure, q, rng):
    """A change of basis under which the family is said to be closed."""
    return {
        "linear": rng.normal(size=(q, q)) + 2 * np.eye(q),
        "columns": np.diag(rng.uniform(0.2, 3.0, q)),
        "common": rng.uniform(0.2, 3.0) * np.eye(q),
    }[structure.maps]


@every
@EXAMPLES
@given(q=WIDTH, seed=SEED)
def test_lambda_is_what_the_documentation_says(name, q, seed):
    structure, theta, _, _ = draw(name, q, seed)
    basis = structure.basis(q)
    assert basis.shape == (structure.n_params(q), q, q)
    assert_allclose(structure.factor(theta, q), sum(t * b for t, b in zip(theta, basis, strict=True)), atol=1e-14)
    if name in FACTORS:
        assert_allclose(structure.factor(theta, q), FACTORS[name](theta, q), atol=1e-14)


def test_the_known_structures_have_a_definition_of_their_own():
    assert set(FACTORS) <= set(STRUCTURES)
    assert [STRUCTURES[n]().n_params(3) for n in FACTORS] == [6, 3, 1, 2]
    assert [STRUCTURES[n]().n_params(1) for n in FACTORS] == [1, 1, 1, 1]


@every
@EXAMPLES
@given(q=WIDTH, seed=SEED, zeros=st.booleans())
def test_from_covariance_and_back(name, q, seed, zeros):
    structure, _, g, _ = draw(name, q, seed, zeros)
    theta = structure.from_covariance(g)
    assert theta.shape == (structure.n_params(q),)
    assert_allclose(covariance(structure, theta, q), g, atol=1e-7 * max(1.0, np.abs(g).max()))


@every
@EXAMPLES
@given(q=WIDTH, seed=SEED, zeros=st.booleans())
def test_span_holds_every_covariance_and_no_more(name, q, seed, zeros):
    structure, _, g, rng = draw(name, q, seed, zeros)
    span = structure.span(q)
    flat = span.reshape(len(span), -1)
    assert_allclose(flat @ flat.T, np.eye(len(span)), atol=1e-12)
    assert_allclose(span, span.transpose(0, 2, 1), atol=1e-12)
    assert_allclose((flat @ g.ravel()) @ flat, g.ravel(), atol=1e-12 * max(1.0, np.abs(g).max()))
    # As many as independent covariances of the family.
    many = [covariance(structure, rng.normal(size=structure.n_params(q)), q).ravel() for _ in range(q * q + 2)]
    assert np.linalg.matrix_rank(np.array(many), tol=1e-8) == len(span)


@every
@EXAMPLES
@given(q=WIDTH, seed=SEED, zeros=st.booleans())
def test_canonical_has_the_same_covariance_and_no_negative_scale(name, q, seed, zeros):
    structure, theta, g, _ = draw(name, q, seed, zeros)
    canonical = structure.canonical(theta, q)
    assert_allclose(covariance(structure, canonical, q), g, atol=1e-12)
    assert (np.diag(structure.factor(canonical, q)) >= 0).all()
    if not structure.is_singular(theta, q):  # a singular G has several factors
        assert_allclose(structure.canonical(canonical, q), canonical, atol=1e-7)
        assert_allclose(structure.canonical(-theta, q), canonical, atol=1e-7)


@every
@EXAMPLES
@given(q=WIDTH, seed=SEED, zeros=st.booleans())
def test_transform(name, q, seed, zeros):
    structure, theta, g, rng = draw(name, q, seed, zeros)
    w = maps_of(structure, q, rng)
    there = structure.transform(theta, w)
    assert_allclose(covariance(structure, there, q), w @ g @ w.T, atol=1e-12 * np.abs(w).max() ** 2 * 10)
    back = structure.transform(there, np.linalg.inv(w))
    assert_allclose(covariance(structure, back, q), g, atol=1e-9)


@every
@EXAMPLES
@given(q=WIDTH, seed=SEED, zeros=st.booleans(), eps=st.sampled_from([1e-3, 0.1, 1.0]))
def test_open_raises_the_null_space_alone(name, q, seed, zeros, eps):
    structure, theta, g, _ = draw(name, q, seed, zeros)
    null = structure.null_projector(theta, q)
    assert_allclose(null @ null, null, atol=1e-10)
    assert_allclose(null, null.T, atol=1e-12)
    assert_allclose(g @ null, 0.0, atol=1e-9)
    assert round(np.trace(null)) == q - np.linalg.matrix_rank(g, tol=1e-13)
    opened = structure.open(theta, q, eps)
    assert not structure.is_singular(opened, q)
    assert_allclose(covariance(structure, opened, q), g + eps**2 * null, atol=1e-9)


@every
@EXAMPLES
@given(q=WIDTH, seed=SEED)
def test_singular_means_less_than_full_rank(name, q, seed):
    structure, theta, *_ = draw(name, q, seed, zeros=True)
    assert structure.is_singular(theta, q) == (np.linalg.svd(structure.factor(theta, q))[1].min() < 1e-4)
    assert structure.is_singular(np.zeros_like(theta), q)
    ones = structure.from_covariance(np.eye(q))
    assert not structure.is_singular(ones, q)
    assert structure.is_singular(ones * 0.9e-4, q)
    assert not structure.is_singular(ones * 1.1e-4, q)


@every
@EXAMPLES
@given(q=WIDTH, seed=SEED)
def test_escape_finds_a_way_down_if_there_is_one(name, q, seed):
    structure, theta, g, rng = draw(name, q, seed, zeros=True)
    slope = rng.normal(size=(q, q))
    slope = slope + slope.T
    rate, direction = structure.escape(theta, q, slope)
    null = structure.null_projector(theta, q)
    if not null.any():
        assert rate == np.inf
        assert_array_equal(direction, 0.0)
        return
    assert_allclose(np.linalg.norm(direction), 1.0, rtol=1e-10)
    assert np.linalg.eigvalsh(direction).min() > -1e-10
    assert_allclose(null @ direction @ null, direction, atol=1e-8)
    assert_allclose(rate, np.sum(slope * direction), rtol=1e-8, atol=1e-10)
    for t in (0.01, 1.0):
        there = structure.from_covariance(g + t * direction)
        assert_allclose(covariance(structure, there, q), g + t * direction, atol=1e-7)
    # Where it finds none, no direction of the family's in the null space goes down.
    for _ in range(20):
        other = covariance(structure, rng.normal(size=theta.shape) * (rng.random(theta.shape) < 0.6), q)
        other = null @ other @ null
        size = np.linalg.norm(other)
        inside = structure.from_covariance(g + other)
        if size > 1e-6 and np.allclose(covariance(structure, inside, q), g + other, atol=1e-7):
            assert rate < 0 or np.sum(slope * other) / size >= -1e-8


@every
def test_escape_from_nothing_finds_a_way_down(name):
    """At Lambda = 0 with a deviance that falls where any variance is raised."""
    structure = STRUCTURES[name]()
    rate, direction = structure.escape(np.zeros(structure.n_params(3)), 3, -np.eye(3))
    assert rate < 0
    assert np.trace(direction) > 0


def test_unstructured_loses_no_digits_by_squaring():
    """Through G = Lambda Lambda' a standard deviation below 1e-8 of the others would be rounding."""
    structure = Unstructured()
    theta = np.array([1.0, 1.0, 1e-12])
    assert_allclose(structure.canonical(theta, 2), theta, rtol=1e-12)
    w = np.array([[1.0, -1e5], [0.0, 1.0]])
    back = structure.transform(structure.transform(theta, w), np.linalg.inv(w))
    assert_allclose(back, theta, atol=1e-5 * 1e-5)


@pytest.mark.parametrize("rho", [-0.499, -0.2, 0.0, 0.5, 0.99])
def test_exchangeable_reaches_every_correlation(rho):
    g = 2.0 * (rho * np.ones((3, 3)) + (1 - rho) * np.eye(3))
    theta = Exchangeable().from_covariance(g)
    assert (theta >= 0).all()
    assert_allclose(covariance(Exchangeable(), theta, 3), g, atol=1e-12)


@every
def test_names_classes_and_instances(name):
    structure = STRUCTURES[name]()
    assert isinstance(structure, Covariance)
    assert structure.name == name
    assert get_covariance(name) == get_covariance(name.upper()) == get_covariance(STRUCTURES[name]) == structure
    assert get_covariance(structure) is structure
    assert hash(structure) == hash(STRUCTURES[name]())
    assert [get_covariance(other) == structure for other in NAMES].count(True) == 1


@pytest.mark.parametrize("bad", ["diag", "", None, 3, dict, object()])
def test_unknown_structures(bad):
    with pytest.raises(ValueError, match=r"covariance=.* is not known\. Choose one of 'unstructured'"):
        get_covariance(bad)
