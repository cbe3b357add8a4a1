"""Chi-bar-square weights against closed forms, brute-force projections and dense information matrices."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import sm_multilevel.formula.api as smf
from sm_multilevel.postestimation.comparison import boundary
from sm_multilevel.postestimation.comparison.boundary import NoNullError, asymptotic, component_information, cone_of
from sm_multilevel.postestimation.comparison.chibar import ChiBarSquare, chi_bar_square, closed_weights, svec_basis
from sm_multilevel.postestimation.comparison.exact import exact_draws
from sm_multilevel.postestimation.comparison.nesting import nest
from sm_multilevel.postestimation.comparison.regression import regression


def random_cov(d, seed):
    a = np.random.default_rng(seed).standard_normal((d, d + 2))
    return a @ a.T


def simulated(cov, sizes, n=20_000, seed=0):
    from sm_multilevel.postestimation.comparison.chibar import _simulated

    draws = _simulated(np.asarray(cov), sizes, n, np.random.default_rng(seed))
    return draws.mean(axis=0), draws.std(axis=0) / np.sqrt(n)


# -- weights ----------------------------------------------------------------------------------------------


def test_one_variance_is_half_and_half():
    mix = chi_bar_square(None, [1])
    assert (mix.df, mix.weights, mix.error(3.0)) == ((0, 1), (0.5, 0.5), 0.0)
    assert mix.sf(2.705543) == pytest.approx(0.05, abs=1e-6)
    assert mix.sf(0.0) == 1.0


def test_stram_lee_shift():
    mix = chi_bar_square(None, [1], shift=1)
    assert mix.sf(4.0) == pytest.approx(0.5 * stats.chi2.sf(4, 1) + 0.5 * stats.chi2.sf(4, 2))
    assert chi_bar_square(None, [], shift=3).sf(4.0) == pytest.approx(stats.chi2.sf(4, 3))


@pytest.mark.parametrize("rho", [-0.9, -0.3, 0.0, 0.5, 0.95])
def test_two_variances_are_those_of_self_and_liang(rho):
    # Self and Liang (1987), case 7: the angle of the cone, arccos of the correlation in the information.
    weights = closed_weights(np.array([[1.0, rho], [rho, 1.0]]), [1, 1])
    angle = np.arccos(-rho)  # of the information, whose correlation is -rho
    assert weights == pytest.approx([0.5 - angle / (2 * np.pi), 0.5, angle / (2 * np.pi)], abs=1e-12)


@pytest.mark.parametrize(("sizes", "d"), [([1, 1], 2), ([1, 1, 1], 3), ([2], 3)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_closed_weights_are_those_simulated(sizes, d, seed):
    cov = random_cov(d, seed)
    weights = closed_weights(cov, sizes)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert weights[::2].sum() == pytest.approx(0.5, abs=1e-12)
    mean, error = simulated(cov, sizes, 6000 if sizes == [2] else 20_000)
    assert np.abs(mean - weights).max() < 4 * error.max()


def test_cone_of_two_by_two_matrices_is_circular():
    # Half angle of 45 degrees: solid angle (1 - 1 / sqrt 2) / 2 of the sphere, and the cone is its own dual.
    share = (1 - np.sqrt(0.5)) / 2
    assert closed_weights(np.eye(3), [2]) == pytest.approx([share, 0.5 - share, 0.5 - share, share], abs=1e-12)


def test_weights_do_not_depend_on_the_basis():
    cov = random_cov(3, 4)
    t = np.array([[1.3, 0.4], [-0.2, 0.7]])  # an automorphism of the cone
    basis = svec_basis(2)
    moved = np.array([[np.sum(a * (t @ b @ t.T)) for b in basis] for a in basis])
    assert closed_weights(moved @ cov @ moved.T, [2]) == pytest.approx(closed_weights(cov, [2]), abs=1e-10)


@pytest.mark.parametrize(("sizes", "d"), [([2, 1], 4), ([3], 6), ([1, 1, 1, 1], 4)])
def test_simulated_weights_give_the_length_of_projections(sizes, d):
    """The mean of the squared length, by brute-force minimisation over X = L L', is the mean of the mixture."""
    cov = random_cov(d, 7)
    metric, half = np.linalg.inv(cov), np.linalg.cholesky(cov)
    parts, at = [], 0
    for k in sizes:
        basis = svec_basis(k)
        parts.append((slice(at, at + len(basis)), np.tril_indices(k), basis.reshape(len(basis), -1), k))
        at += len(basis)

    def distance(theta, z):
        """Its square, and the gradient in the elements of L: X' = 2 <B, dL L'> for symmetric B."""
        lows, point = [], np.empty(d)
        for part, lower, basis, k in parts:
            low = np.zeros((k, k))
            low[lower] = theta[part]
            lows.append(low)
            point[part] = basis @ (low @ low.T).ravel()
        pull = metric @ (z - point)
        gradient = np.empty(d)
        for (part, lower, basis, k), low in zip(parts, lows, strict=True):
            gradient[part] = -4.0 * ((pull[part] @ basis).reshape(k, k) @ low)[lower]
        return (z - point) @ pull, gradient

    rng, lengths = np.random.default_rng(3), []
    for _ in range(60):
        z = half @ rng.standard_normal(d)
        best = min(
            optimize.minimize(distance, start, args=(z,), jac=True, method="BFGS").fun
            for start in (np.full(d, 0.7), rng.standard_normal(d))
        )
        lengths.append(z @ metric @ z - best)
    mean, _ = simulated(cov, sizes, 8000)
    assert mean[::2].sum() == pytest.approx(0.5, abs=0.02)  # Gauss and Bonnet
    expected = float(mean @ np.arange(d + 1))
    assert abs(np.mean(lengths) - expected) < 4 * np.std(lengths) / np.sqrt(60) + 0.01


def test_simulation_is_reproducible_and_states_its_error():
    cov = random_cov(4, 5)
    first, again, other = (chi_bar_square(cov, [2, 1], seed=s) for s in (1, 1, 2))
    assert first.weights == again.weights != other.weights
    assert first.draws == 10_000
    assert 0 < first.error(5.0) < 0.003
    assert abs(first.sf(5.0) - other.sf(5.0)) < 5 * first.error(5.0)
    assert "10000 draws" in str(first)
    assert str(ChiBarSquare((2,), (1.0,))) == "chi2(2)"


# -- information and cones ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crossed():
    rng = np.random.default_rng(0)
    n = 60
    frame = pd.DataFrame({"a": rng.integers(0, 5, n), "b": np.arange(n) % 7, "x": rng.standard_normal(n)})
    frame["w"] = rng.uniform(0.5, 2.0, n)
    frame["f"] = rng.integers(1, 3, n)
    frame["y"] = (
        2 * rng.standard_normal(5)[frame["a"]] + (2 + frame["x"]) * rng.standard_normal(7)[frame["b"]]
        + rng.standard_normal(n)
    )  # fmt: skip
    return frame


def dense_information(nesting, result):
    """1/2 tr(P V_i P V_j) with sigma^2 profiled out, every matrix dense, rows repeated."""
    model = result.model
    times = np.ones(len(model.endog), int) if model.freq_weights is None else model.freq_weights.astype(int)
    rows = np.repeat(np.arange(len(times)), times)
    w = np.ones(len(rows)) if model.var_weights is None else model.var_weights[rows]
    effects = model.effects
    kernels = []
    v = np.diag(1.0 / w)
    for f, factor in enumerate(effects.factors):
        terms = [effects.terms[i] for i in factor.terms]
        z = (np.hstack([t.exog for t in terms]) @ effects.factor_standardizers[f])[rows]
        codes = terms[0].codes[rows]
        same = codes[:, None] == codes[None, :]
        kernels.append(lambda g, z=z, same=same: same * (z @ g @ z.T))
        v = v + kernels[f](nesting.null[f])
    p = np.linalg.inv(v)
    df = len(rows)
    if result.reml:
        x = model.design.exog[rows]
        px = p @ x
        p = p - px @ np.linalg.inv(x.T @ px) @ px.T
        df -= x.shape[1]
    slopes = [p @ kernels[f](g) for f, g in nesting.directions]
    pairs = np.array([[np.trace(s @ t) for t in slopes] for s in slopes])
    traces = np.array([np.trace(s) for s in slopes])
    return 0.5 * (pairs - np.outer(traces, traces) / df)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("options", [{}, {"var_weights": "w"}, {"freq_weights": "f"}])
@pytest.mark.parametrize("null", [None, "y ~ x + (1 | b)"])
def test_information_of_crossed_terms_is_the_dense_one(crossed, reml, options, null):
    full = smf.mixedlm("y ~ x + (1 | a) + (x | b)", crossed, **options).fit(reml=reml)._results
    if null is None:
        restricted = regression(full, reml=reml)
    else:
        restricted = smf.mixedlm(null, crossed, **options).fit(reml=reml)._results
    nesting = nest(restricted, full)
    found = component_information(nesting, restricted)
    assert found == pytest.approx(dense_information(nesting, full), rel=1e-8, abs=1e-8 * np.abs(found).max())


def test_information_by_probes(crossed, monkeypatch):
    full = smf.mixedlm("y ~ x + (1 | a) + (x | b)", crossed).fit()._results
    restricted = regression(full, reml=True)
    nesting = nest(restricted, full)
    exact = component_information(nesting, restricted)
    monkeypatch.setattr(boundary, "_EXACT", 1)
    monkeypatch.setattr(boundary, "_PROBES", 4000)
    assert np.abs(component_information(nesting, restricted) - exact).max() < 0.1 * np.abs(exact).max()


def sizes_of(frame, formula, null=None, **options):
    full = smf.mixedlm(formula, frame, **options).fit(reml=False)._results
    restricted = regression(full) if null is None else smf.mixedlm(null, frame).fit(reml=False)._results
    nesting = nest(restricted, full)
    return cone_of(nesting)[0], nesting.df


def test_cones(crossed):
    assert sizes_of(crossed, "y ~ x + (x | b)") == ([2], 3)
    assert sizes_of(crossed, "y ~ x + (x || b)") == ([1, 1], 2)
    assert sizes_of(crossed, "y ~ x + (x | b) + (1 | a)") == ([1, 2], 4)
    assert sizes_of(crossed, "y ~ x + (x | b)", "y ~ x + (1 | b)") == ([1], 2)
    assert sizes_of(crossed, "y ~ x + (x | b)", "y ~ x + (x || b)") == ([], 1)
    assert sizes_of(crossed, "y ~ x", groups="b", re_formula="x", covariance="identity") == ([1], 1)
    assert sizes_of(crossed, "y ~ x", groups="b", re_formula="x", covariance="exchangeable") == ([1, 1], 2)


def test_weights_do_not_depend_on_origin_and_unit_of_a_predictor(crossed):
    def weights(frame):
        full = smf.mixedlm("y ~ x + (x | b)", frame).fit()._results
        null = regression(full, reml=True)
        return asymptotic(nest(null, full), null, 1, None).weights

    assert weights(crossed.assign(x=100 * crossed["x"] + 300)) == pytest.approx(weights(crossed), abs=1e-8)


def test_singular_information_is_refused(crossed, monkeypatch):
    full = smf.mixedlm("y ~ x + (x | b)", crossed).fit()._results
    null = regression(full, reml=True)
    monkeypatch.setattr(boundary, "component_information", lambda *_: np.zeros((3, 3)))
    with pytest.raises(NoNullError, match="singular"):
        asymptotic(nest(null, full), null, 1, None)


# -- finite samples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reml", [True, False])
def test_exact_draws_are_ratios_of_simulated_data(reml):
    """Against likelihoods of simulated responses, maximised over a fine grid by dense matrices."""
    rng = np.random.default_rng(1)
    groups, size = 6, 4
    z = np.kron(np.eye(groups), np.ones((size, 1)))
    n, lams = len(z), np.concatenate([[0.0], np.logspace(-4, 2, 300)])
    y = rng.standard_normal((2000, n))
    values = []
    for lam in lams:
        v = np.eye(n) + lam * z @ z.T
        inverse = np.linalg.inv(v)
        ones = np.ones((n, 1))
        xvx = float((ones.T @ inverse @ ones).item())
        p = inverse - inverse @ ones @ ones.T @ inverse / xvx
        rss = ((y @ p) * y).sum(axis=1)
        df = n - 1 if reml else n
        values.append(df * np.log(rss) + np.linalg.slogdet(v)[1] + (np.log(xvx) if reml else 0.0))
    brute = values[0] - np.min(values, axis=0)
    mu = np.linalg.eigvalsh(z.T @ (np.eye(n) - 1.0 / n) @ z)
    draws = exact_draws(mu, np.full(groups, float(size)), n, 1, 0, reml, 20_000, rng)
    for q in (0.7, 0.9, 0.95):
        cut = np.quantile(draws, q)
        assert abs(np.mean(brute > cut) - (1 - q)) < 4 * np.sqrt(q * (1 - q) / 2000)
    assert abs(np.mean(brute < 1e-9) - np.mean(draws < 1e-9)) < 0.05


def test_exact_needs_a_column_outside_of_the_fixed_effects():
    with pytest.raises(ValueError, match="contain the columns of the random effect"):
        exact_draws(np.zeros(3), np.ones(3), 20, 3, 0, True, 10, np.random.default_rng(0))
