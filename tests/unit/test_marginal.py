"""The marginal likelihood's objectives: exact gradients of every family and structure, and values by brute force."""

import families_cases
import numpy as np
import oracle_glmm as oracle
import pandas as pd
import pytest

from sm_multilevel.covariance import STRUCTURES, get_covariance
from sm_multilevel.families.response import ResponseData
from sm_multilevel.objectives.crossprod import fixed_scaling
from sm_multilevel.objectives.laplace import laplace
from sm_multilevel.objectives.marginal import MarginalObjective
from sm_multilevel.objectives.modes import NoModeError, find_mode
from sm_multilevel.objectives.quadrature import Quadrature, hermite
from sm_multilevel.objectives.rows import bind_rows
from sm_multilevel.objectives.space import JointSpace
from sm_multilevel.random_effects import RandomEffects, RandomTerm

FAMILIES = {label: (family, make) for label, family, make in families_cases.cases()}
N = 150


def term(name, groups, z, covariance="unstructured"):
    codes, levels = pd.factorize(np.asarray(groups), sort=True)
    z = np.asarray(z, float).reshape(len(groups), -1)
    columns = tuple(f"c{j}" for j in range(z.shape[1]))
    return RandomTerm(name, codes, pd.Index(levels), z, columns, get_covariance(covariance), name)


def data(seed=0, n=N):
    """Unsorted, unbalanced rows of a finer factor g in a coarser a, crossed with h."""
    rng = np.random.default_rng(seed)
    g = (rng.random(n) ** 1.5 * 14).astype(int)
    h = rng.integers(0, 6, n)
    x = np.column_stack([np.ones(n), rng.normal(size=n)])
    return rng, g, g // 5, h, x


def structures(g, a, h, x):
    """Random parts by name; those without a crossed factor can be integrated by quadrature."""
    one = x[:, :1]
    labels = np.array([f"g{i}" for i in g])
    return {
        "intercept": [term("g", labels, one)],
        "slope": [term("g", labels, x)],
        "uncorrelated": [term("g", labels, one), term("g", labels, x[:, 1:])],
        "nested": [term("g", labels, x), term("a", a, one)],
        "crossed": [term("g", labels, x), term("h", h, one)],
        "three": [term("h", h, x, "diagonal"), term("g", labels, one), term("a", a, x)],
    }


def objective(family, response_data, x, terms, offset=None, integrate=None, joint=False):
    response = family.bind(response_data)
    effects = RandomEffects(terms, 1.0 / response.eta_scale**2, response_data.freq_weights)
    centre = None
    if not family.has_intercept:
        x = x[:, 1:]
        centre = x.mean(axis=0)
    change = fixed_scaling(response_data.endog, x if centre is None else x - centre).map * response.eta_scale
    rows, order = bind_rows(x, change, effects, offset, centre)
    if order is not None:
        response = response.take(order)
    space = JointSpace(effects, np.zeros((0, 0)) if joint else change, family, response.n_psi, centre)
    rule = laplace if integrate is None else Quadrature(rows, response, integrate)
    return MarginalObjective(rows, response, effects, space, rule, joint)


def differences(function, z, step=2e-6):
    out = []
    for j in range(len(z)):
        ends = []
        for k in (1, -1, 2, -2):
            moved = z.copy()
            moved[j] += k * step
            ends.append(function(moved))
        out.append((8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * step))
    return np.array(out)


def check_gradient(target, rng):
    """At fixed effects in the middle of the link's domain, and random effects that stay within."""
    family, rows = target.space.family, target.rows
    eta = families_cases.domain(family, 0.3 * np.sin(np.arange(rows.n)))
    psi = family.internal(families_cases.psi_for(family))
    beta = np.linalg.lstsq(rows.xt.T, eta, rcond=None)[0] if family.has_intercept else np.full(rows.p, 0.2)
    effects = target.effects
    unit = effects.map_terms(np.zeros(effects.n_params), lambda i, t, _: t.covariance.from_covariance(np.eye(t.q)))
    theta = 0.1 * unit + 0.02 * rng.normal(size=len(unit))
    z = np.concatenate([[] if target.joint else beta, psi, theta])
    target._start_beta = beta
    gradient = target.state(z).gradient
    numeric = differences(lambda v: target.state(v).value, z, 1e-4)
    assert np.abs(gradient - numeric).max() < 2e-6 * (1.0 + np.abs(gradient).max())


def prepared(label, structure, seed=0):
    rng, g, a, h, x = data(seed)
    family, make = FAMILIES[label]
    effect = 0.3 * rng.normal(size=g.max() + 1)[g] + 0.2 * rng.normal(size=6)[h]
    eta = families_cases.domain(family, np.clip(0.3 * x[:, 1] + effect, -2.0, 2.0))
    return rng, family, make(rng, eta), x, structures(g, a, h, x)[structure]


@pytest.mark.parametrize("structure", ["slope", "crossed"])
@pytest.mark.parametrize("label", FAMILIES)
def test_laplace_gradient(label, structure):
    rng, family, response, x, terms = prepared(label, structure)
    offset = 0.02 * rng.normal(size=len(x))
    check_gradient(objective(family, response, x, terms, offset), rng)


@pytest.mark.parametrize("structure", ["intercept", "nested"])
@pytest.mark.parametrize("label", [name for name in FAMILIES if "trials" not in name])
def test_quadrature_gradient(label, structure):
    rng, family, response, x, terms = prepared(label, structure)
    try:
        check_gradient(objective(family, response, x, terms, integrate=3), rng)
    except (NoModeError, AssertionError):
        # Nodes outside of the link's domain: models refuse quadrature there.
        far = family.bind(response).at(np.array([-30.0, 30.0])[:, None] + np.zeros(len(x)), _psi(family))
        assert not np.isfinite(far.logf).all()


def _psi(family):
    return family.internal(families_cases.psi_for(family))


@pytest.mark.parametrize("structure", ["intercept", "crossed"])
@pytest.mark.parametrize("label", ["Binomial-logit-trials", "Poisson-log", "Gamma-log", "Cumulative-probit-4"])
def test_joint_gradient(label, structure):
    rng, family, response, x, terms = prepared(label, structure)
    check_gradient(objective(family, response, x, terms, joint=True), rng)


@pytest.mark.parametrize("covariance", STRUCTURES)
@pytest.mark.parametrize("structure", ["slope", "uncorrelated", "nested", "crossed", "three"])
def test_gradient_of_every_covariance(structure, covariance):
    rng, g, a, h, x = data(1)
    terms = [
        RandomTerm(t.group, t.codes, t.levels, t.exog, t.columns, get_covariance(covariance), t.name)
        for t in structures(g, a, h, x)[structure]
    ]
    y = (rng.random(len(x)) < 0.4).astype(float)
    family = FAMILIES["Binomial-logit"][0]
    check_gradient(objective(family, ResponseData(y), x, terms), rng)
    if structure in ("slope", "uncorrelated", "nested"):
        check_gradient(objective(family, ResponseData(y), x, terms, integrate=3), rng)


# -- values ---------------------------------------------------------------------------------


ORACLE = {
    "Binomial-logit": ("binomial", "logit"),
    "Binomial-probit": ("binomial", "probit"),
    "Binomial-cloglog": ("binomial", "cloglog"),
    "Binomial-loglog": ("binomial", "loglog"),
    "Poisson-log": ("poisson", "log"),
    "Gamma-log": ("gamma", "log"),
    "InverseGaussian-log": ("inverse_gaussian", "log"),
    "Gaussian-identity": ("gaussian", "identity"),
    "NegativeBinomial(nb2)-log": ("nb2", "log"),
    "NegativeBinomial(nb1)-log": ("nb1", "log"),
    "Cumulative-logit-4": ("ordinal", "logit"),
    "Cumulative-probit-4": ("ordinal", "probit"),
    "Cumulative-cloglog-4": ("ordinal", "cloglog"),
    "Cumulative-cauchit-4": ("ordinal", "cauchit"),
}


def _oracle_label(label):
    if label in FAMILIES:
        return label
    kind = label.split("(")[1].split(")")[0]
    return next(
        name for name, (f, _) in FAMILIES.items() if getattr(f, "kind", None) == kind and "weighted" not in name
    )


def against_oracle(label, structure, compute, integrate=None, freq=False):
    """Our deviance and the oracle's, at the same parameters of the user's columns."""
    name = _oracle_label(label)
    rng, family, response, x, terms = prepared(name, structure, seed=3)
    weights = rng.integers(1, 3, len(x)).astype(float) if freq else None
    response = ResponseData(response.endog, None, None, weights, response.categories)
    offset = 0.1 * rng.normal(size=len(x))
    target = objective(family, response, x, terms, offset, integrate)
    beta = np.array([0.2, 0.3]) if family.has_intercept else np.array([0.3])
    theta = 0.3 + 0.4 * rng.random(target.effects.n_params)
    natural = families_cases.psi_for(family)
    if family.name == "Gaussian":
        natural = np.array([0.6])
    ours = -0.5 * target.user_state(beta, natural, theta).value
    density = oracle.density_of(*ORACLE[label])
    y = response.endog.astype(int) if ORACLE[label][0] == "ordinal" else response.endog
    if ORACLE[label][0] == "binomial":
        y = np.column_stack([y, np.ones_like(y)])
    dense_terms = []
    for t, part in zip(terms, target.effects.per_term(theta), strict=True):
        lam = t.covariance.factor(part, t.q)
        dense_terms.append((t.codes, t.exog, lam @ lam.T))
    return ours, compute(y, x[:, -len(beta) :], beta, offset, dense_terms, density, tuple(natural), weights)


@pytest.mark.parametrize("structure", ["slope", "crossed", "three"])
@pytest.mark.parametrize("label", ORACLE)
def test_laplace_value(label, structure):
    ours, dense = against_oracle(label, structure, oracle.dense_laplace, freq=structure == "crossed")
    assert ours == pytest.approx(dense, rel=1e-10)


@pytest.mark.parametrize("label", ORACLE)
def test_quadrature_converges_to_the_integral(label):
    points = 41 if "cauchit" not in label else 101
    ours, exact = against_oracle(label, "intercept", oracle.integrate, integrate=points)
    assert ours == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("label", ["Binomial-logit", "Poisson-log", "Cumulative-logit-4"])
def test_quadrature_of_two_columns_converges(label):
    ours, exact = against_oracle(label, "slope", oracle.integrate, integrate=25)
    assert ours == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("order", [1, 2, 3, 7])
def test_quadrature_of_any_order(order):
    def compute(*args):
        return oracle.quadrature(*args, points=order)

    ours, theirs = against_oracle("Binomial-logit", "intercept", compute, integrate=order)
    assert ours == pytest.approx(theirs, rel=1e-10)


def test_nested_quadrature_converges():
    rng, g, a, _, x = data(5)
    y = (rng.random(len(x)) < 0.4).astype(float)
    one = x[:, :1]
    terms = [term("g", g, one), term("a", a, one)]
    family = FAMILIES["Binomial-logit"][0]
    beta, theta = np.array([0.2, 0.3]), np.array([0.8, 0.6])
    exact = oracle.integrate_nested(
        np.column_stack([y, np.ones_like(y)]), x, beta, None,
        [(terms[1].codes, one, [[0.36]]), (terms[0].codes, one, [[0.64]])], oracle.binomial("logit"), step=0.125,
    )  # fmt: skip
    values = {
        k: -0.5 * objective(family, ResponseData(y), x, terms, integrate=k).user_state(beta, [], theta).value
        for k in (1, 7, 25)
    }
    assert values[25] == pytest.approx(exact, rel=1e-8)
    assert abs(values[7] - exact) < 0.1 * abs(values[1] - exact)
    dense = objective(family, ResponseData(y), x, terms).user_state(beta, [], theta).value
    assert values[1] == pytest.approx(-0.5 * dense, rel=1e-10)


def test_three_nested_factors_with_one_point_are_laplace():
    rng, g, a, _, x = data(6)
    y = rng.poisson(2.0, len(x)).astype(float)
    terms = [term("g", g, x), term("a", a, x[:, :1]), term("b", a // 2, x[:, :1])]
    family = FAMILIES["Poisson-log"][0]
    theta = np.array([0.5, 0.1, 0.3, 0.4, 0.3])
    beta = np.array([0.5, 0.1])
    one = objective(family, ResponseData(y), x, terms, integrate=1).user_state(beta, [], theta).value
    assert one == pytest.approx(objective(family, ResponseData(y), x, terms).user_state(beta, [], theta).value, 1e-10)


def test_hermite_integrates_polynomials():
    nodes, log_weights = hermite(5, 2)
    w = np.exp(log_weights - 0.5 * (nodes**2).sum(axis=0))
    assert w.sum() == pytest.approx(1.0, abs=1e-13)
    assert (w * nodes[0] ** 4 * nodes[1] ** 2).sum() == pytest.approx(3.0, abs=1e-12)
    assert np.isfinite(hermite(400, 1)[1]).all()


# -- invariances -----------------------------------------------------------------------------


@pytest.mark.parametrize("integrate", [None, 5])
@pytest.mark.parametrize("label", ["Binomial-logit", "Poisson-log", "Gamma-log", "Cumulative-logit-4"])
def test_row_order_labels_and_weights(label, integrate):
    rng, family, response, x, terms = prepared(label, "slope")
    n = len(x)
    beta = np.array([0.2, 0.3]) if family.has_intercept else np.array([0.3])
    point = beta, families_cases.psi_for(family), np.array([0.5, 0.1, 0.4])
    base = objective(family, response, x, terms, integrate=integrate).user_state(*point).value
    order = rng.permutation(n)
    t = terms[0]
    relabelled = np.array([f"z{97 - c}" for c in t.codes[order]])
    shuffled = objective(
        family, ResponseData(response.endog[order], categories=response.categories), x[order],
        [term("g", relabelled, t.exog[order])], integrate=integrate,
    )  # fmt: skip
    assert shuffled.user_state(*point).value == pytest.approx(base, rel=1e-12)
    counts = rng.integers(1, 4, n)
    weighted = ResponseData(response.endog, freq_weights=counts.astype(float), categories=response.categories)
    split = np.repeat(np.arange(n), counts)
    rows = objective(
        family, ResponseData(response.endog[split], categories=response.categories), x[split],
        [term("g", t.codes[split], t.exog[split])], integrate=integrate,
    )  # fmt: skip
    ours = objective(family, weighted, x, terms, integrate=integrate).user_state(*point).value
    assert ours == pytest.approx(rows.user_state(*point).value, rel=1e-12)


def test_user_gradient_is_that_of_the_users_columns():
    _, family, response, x, terms = prepared("Cumulative-logit-4", "crossed")
    x = np.column_stack([x[:, 0], 3.0 + 20.0 * x[:, 1]])
    target = objective(family, response, x, terms)
    psi = families_cases.psi_for(family)
    z = np.concatenate([[0.02], psi, [0.5, 0.1, 0.4, 0.3]])

    def value(v):
        return target.user_state(v[:1], v[1:4], v[4:]).value

    assert target.user_gradient(z[:1], z[1:4], z[4:]) == pytest.approx(differences(value, z, 1e-5), rel=1e-5, abs=1e-4)


# -- hard modes --------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [-30.0, 0.0, 30.0])
@pytest.mark.parametrize("counts", [np.array([0, 1, 1e5, 3, 0, 2e7]), np.array([0.0] * 6)])
def test_modes_of_huge_counts_from_far_starts(counts, start):
    family = FAMILIES["Poisson-log"][0]
    g = np.repeat(np.arange(6), 2)
    x = np.ones((12, 1))
    target = objective(family, ResponseData(np.repeat(counts, 2)), x, [term("g", g, x)])
    lams = [np.array([[3.0]])]
    mode = find_mode(target.rows, target.response, np.zeros(1), np.empty(0), lams, [np.full((1, 6), start)])
    gradient = 3.0 * mode.score_sums[0] - mode.u[0]
    # Relative to the size of its terms, which the counts are.
    assert np.abs(gradient / (1.0 + 3.0 * np.repeat(counts, 1))).max() < 1e-9


def test_modes_where_the_information_is_negative():
    rng, g, _, _, x = data(7)
    y = (rng.random(len(x)) < 0.5).astype(float)
    target = objective(FAMILIES["Binomial-cauchit"][0], ResponseData(y), x, [term("g", g, x[:, :1])])
    mode = find_mode(target.rows, target.response, np.array([4.0, 0.0]), np.empty(0), [np.array([[2.0]])])
    assert (mode.local.info < 0).any()
    assert np.abs(2.0 * mode.score_sums[0] - mode.u[0]).max() < 1e-8
