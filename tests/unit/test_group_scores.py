"""Scores of clusters: they add up to the gradient, and each is that of a model of its rows alone."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import families_cases
import test_marginal as marginal

import sm_multilevel.api as smm
from sm_multilevel.covariance import STRUCTURES, get_covariance
from sm_multilevel.families.response import ResponseData
from sm_multilevel.objectives.modes import NoModeError
from sm_multilevel.objectives.scores import linear_information, linear_scores, marginal_scores
from sm_multilevel.objectives.unprofiled import hessian, score
from sm_multilevel.random_effects import RandomTerm


def families(weighted=True):
    return [name for name in marginal.FAMILIES if weighted or "weighted" not in name]


def clusters_of(effects):
    """The coarsest clusters there are: connected rows, by brute force."""
    codes = [t.codes for t in effects.terms]
    label = codes[0].copy()
    while True:
        old = label.copy()
        for c in codes:
            lowest = np.full(c.max() + 1, label.max() + 1)
            np.minimum.at(lowest, c, label)
            label = lowest[c]
        if np.array_equal(old, label):
            return np.unique(label, return_inverse=True)[1]


def block_crossed(seed=2):
    """A factor g crossed with h inside each of four blocks, rows unsorted."""
    rng = np.random.default_rng(seed)
    n = 120
    block = rng.integers(0, 4, n)
    g, h = block * 3 + rng.integers(0, 3, n), block * 4 + rng.integers(0, 4, n)
    x = np.column_stack([np.ones(n), rng.normal(size=n)])
    return rng, block, g, h, x


def target_point(target, rng):
    family, rows, effects = target.space.family, target.rows, target.effects
    eta = families_cases.domain(family, 0.3 * np.sin(np.arange(rows.n)))
    beta = np.linalg.lstsq(rows.xt.T, eta, rcond=None)[0] if family.has_intercept else np.full(rows.p, 0.2)
    unit = effects.map_terms(np.zeros(effects.n_params), lambda i, t, _: t.covariance.from_covariance(np.eye(t.q)))
    theta = 0.1 * unit + 0.02 * rng.normal(size=len(unit))
    return np.concatenate([beta, family.internal(families_cases.psi_for(family)), theta])


def added_up(target, rng):
    """Scores of the clusters in the order of the caller's rows, and the gradient they must add up to."""
    state = target.state(target_point(target, rng))
    codes = clusters_of(target.effects)
    order = marginal.bind_rows(np.zeros((len(codes), 0)), np.zeros((0, 0)), target.effects)[1]
    codes = codes if order is None else codes[order]
    parts = marginal_scores(state, target.effects.basis, codes, codes.max() + 1)
    whole = -0.5 * state.gradient
    assert np.abs(parts.sum(axis=0) - whole).max() < 1e-10 * (1.0 + np.abs(parts).sum(axis=0).max())
    return parts


@pytest.mark.parametrize("structure", ["slope", "crossed"])
@pytest.mark.parametrize("label", families())
def test_laplace_scores_add_up(label, structure):
    rng, family, response, x, terms = marginal.prepared(label, structure)
    parts = added_up(marginal.objective(family, response, x, terms, 0.02 * rng.normal(size=len(x))), rng)
    assert (len(parts) > 1) == (structure == "slope")


@pytest.mark.parametrize("structure", ["intercept", "nested"])
@pytest.mark.parametrize("label", [name for name in families() if "trials" not in name])
def test_quadrature_scores_add_up(label, structure):
    rng, family, response, x, terms = marginal.prepared(label, structure)
    try:
        added_up(marginal.objective(family, response, x, terms, integrate=3), rng)
    except (NoModeError, AssertionError):  # models refuse quadrature there
        far = family.bind(response).at(np.array([-30.0, 30.0])[:, None] + np.zeros(len(x)), marginal._psi(family))
        assert not np.isfinite(far.logf).all()


@pytest.mark.parametrize("covariance", STRUCTURES)
@pytest.mark.parametrize("integrate", [None, 3])
def test_scores_of_every_covariance_add_up(covariance, integrate):
    rng, g, a, h, x = marginal.data(1)
    terms = [
        RandomTerm(t.group, t.codes, t.levels, t.exog, t.columns, get_covariance(covariance), t.name)
        for t in marginal.structures(g, a, h, x)["nested"]
    ]
    y = (rng.random(len(x)) < 0.4).astype(float)
    parts = added_up(marginal.objective(marginal.FAMILIES["Binomial-logit"][0], ResponseData(y), x, terms,
                                        integrate=integrate), rng)  # fmt: skip
    assert len(parts) == a.max() + 1


# -- each is the gradient of a model of the cluster's rows alone ---------------------------------


def subset(family, response, x, terms, target, beta, natural, theta, keep):
    """d log L / d (beta, natural psi, theta) of the rows kept."""
    data = {
        name: None if (v := getattr(response, name)) is None else v[keep]
        for name in ("endog", "trials", "var_weights", "freq_weights")
    }
    mine = [marginal.term(t.group, t.codes[keep], t.exog[keep], t.covariance.name) for t in terms]
    alone = marginal.objective(family, ResponseData(**data, categories=response.categories), x[keep], mine,
                               integrate=target)  # fmt: skip
    return -0.5 * alone.user_gradient(beta, natural, theta)


@pytest.mark.parametrize("integrate", [None, 5])
@pytest.mark.parametrize(
    "label",
    ["Binomial-logit", "Binomial-probit-weighted", "Poisson-log", "Gamma-log", "NegativeBinomial(nb2)-log",
     "Cumulative-logit-4", "Cumulative-cloglog-4-weighted"],
)  # fmt: skip
def test_a_clusters_score_is_that_of_its_rows_alone(label, integrate):
    rng, block, g, h, x = block_crossed()
    family, make = marginal.FAMILIES[marginal._oracle_label(label)]
    response = make(rng, families_cases.domain(family, 0.3 * x[:, 1] + 0.2 * rng.normal(size=4)[block]))
    one = x[:, :1]
    if integrate is None:
        terms = [marginal.term("g", g, x), marginal.term("h", h, one)]
        theta = np.array([0.5, 0.1, 0.4, 0.3])
    else:  # a grid of nodes has directions, which follow the columns' standardisation: one column each
        terms = [marginal.term("g", g, one), marginal.term("b", block, one)]
        theta = np.array([0.5, 0.3])
    whole = marginal.objective(family, response, x, terms, integrate=integrate)
    beta = np.array([0.2, 0.3]) if family.has_intercept else np.array([0.3])
    natural = families_cases.psi_for(family)
    state = whole.user_state(beta, natural, theta)
    order = marginal.bind_rows(np.zeros((len(g), 0)), np.zeros((0, 0)), whole.effects)[1]
    scores = marginal_scores(state, whole.effects.basis, block[order], 4)
    head = whole.space.head
    z = whole.space.from_user(np.concatenate([beta, natural, theta]))
    users = np.linalg.solve(whole.space.head_jacobian(z).T, scores[:, :head].T).T
    for b in range(4):
        alone = subset(family, response, x, terms, integrate, beta, natural, theta, block == b)
        close = {"rel": 1e-8, "abs": 1e-8}
        assert users[b] == pytest.approx(alone[:head], **close)
        # Of one column theta's scale is all that differs.
        assert scores[b, -1] / whole.effects.factor_standardizers[-1][0, 0] == pytest.approx(alone[-1], **close)
        if integrate is not None:
            assert scores[b, -2] / whole.effects.factor_standardizers[0][0, 0] == pytest.approx(alone[-2], **close)


# -- the linear model -----------------------------------------------------------------------------


def linear_case(seed=0, weights=True):
    rng, block, g, h, x = block_crossed(seed)
    n = len(g)
    frame = pd.DataFrame({"x": 5 + 3 * x[:, 1], "g": g, "h": h, "block": block})
    frame["y"] = 3 + frame["x"] + 8 * rng.normal(size=12)[g] + rng.normal(size=12)[g] * frame["x"]
    frame["y"] += rng.normal(size=16)[h] + rng.normal(size=n)
    frame["v"] = rng.uniform(0.5, 2.0, n) if weights else 1.0
    frame["f"] = rng.integers(1, 4, n) if weights else 1
    return frame


def linear_model(frame, **options):
    return smm.MixedLM.from_formula("y ~ x + (x | g) + (1 | h)", frame, var_weights="v", freq_weights="f", **options)


def parts_of(model, theta, sigma2):
    """Scores of the blocks at any sigma^2 and theta, and the best beta there."""
    objective = model.objective(reml=False)
    effects = model.effects
    state = objective.standard_state(effects.from_user(theta))
    b = [w @ lam @ u for w, lam, u in zip(state.data.maps, state.lams, state.modes, strict=True)]
    x, y = model.design.exog, model.endog
    beta = state.data.scaling.beta(state.beta)
    resid = y - x @ beta
    fitted = sum(np.einsum("nq,qn->n", t.exog, b[f][:, t.codes]) for f, t in enumerate(effects.terms))
    codes = model.data.frame["block"].to_numpy()
    scores = linear_scores(
        state, effects.basis, [t.codes for t in effects.terms], codes, 4, exog=x, resid=resid,
        conditional=resid - fitted, weights=model.var_weights * model.freq_weights, counts=model.freq_weights,
        sigma2=sigma2,
    )  # fmt: skip
    return objective, beta, scores


def test_linear_scores_add_up_and_are_those_of_the_rows_alone():
    frame = linear_case()
    model = linear_model(frame)
    theta = np.array([0.9, 0.2, 0.7, 0.5])
    objective, beta, scores = parts_of(model, theta, 1.3)
    whole = score(objective, beta, 1.3, theta)
    p, k = 2, 4
    assert scores[:, :p].sum(axis=0) == pytest.approx(whole[:p], abs=1e-8)
    assert scores[:, -1].sum() == pytest.approx(whole[p], rel=1e-10)
    ours = scores[:, p : p + k].sum(axis=0)
    # theta of the user's columns: by the derivative of the standardised one.
    change = marginal.differences(model.effects.from_user, theta, 1e-3)
    assert change @ ours == pytest.approx(whole[p + 1 :], rel=1e-9)
    for b in range(4):
        alone = linear_model(frame[frame["block"] == b])
        there = score(alone.objective(False), beta, 1.3, theta)
        assert scores[b, :p] == pytest.approx(there[:p], rel=1e-9, abs=1e-9)
        assert scores[b, -1] == pytest.approx(there[p], rel=1e-9)
        assert change @ scores[b, p : p + k] == pytest.approx(there[p + 1 :], rel=1e-8, abs=1e-9)


def test_linear_information_is_the_hessian():
    model = linear_model(linear_case(3))
    result = model.fit(reml=False)._results
    objective = model.objective(False)
    state = objective.standard_state(result.record.theta_standard)
    steps = 1e-4 * np.eye(4)
    profiled = np.array([
        (objective.point(state_theta + s).gradient() - objective.point(state_theta - s).gradient()) / 2e-4
        for state_theta, s in ((result.record.theta_standard, s) for s in steps)
    ])  # fmt: skip
    ours = linear_information(state, model.effects.basis, profiled)
    back = np.zeros((7, 7))
    back[:2, :2] = np.linalg.inv(state.data.scaling.map)
    back[2:6, 2:6] = marginal.differences(model.effects.from_user, result.theta, 1e-3).T
    back[6, 6] = 1.0
    users = back.T @ ours @ back
    order = [0, 1, 6, 2, 3, 4, 5]
    numeric = -hessian(objective, np.asarray(result.params), result.scale, result.theta)
    size = np.sqrt(np.diag(numeric))
    assert np.abs((users[np.ix_(order, order)] - numeric) / np.outer(size, size)).max() < 1e-6
