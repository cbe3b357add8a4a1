"""The brute-force oracle itself: densities, integrals and the Laplace approximation against other ways to get them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

sys.path.insert(0, str(Path(__file__).parents[1]))
import oracle_glmm as oracle
from reference import brute

ETA = np.array([-2.5, -0.7, 0.0, 0.4, 1.9])


@pytest.mark.parametrize("link", sorted(oracle.LINKS))
class TestLinks:
    def test_distribution(self, link):
        known = {
            "logit": stats.logistic, "probit": stats.norm, "cloglog": stats.gumbel_l, "loglog": stats.gumbel_r,
            "cauchit": stats.cauchy,
        }[link]  # fmt: skip
        low, high, density, _ = oracle.LINKS[link](ETA)
        np.testing.assert_allclose(low, known.cdf(ETA), rtol=1e-13)
        np.testing.assert_allclose(high, known.sf(ETA), rtol=1e-13)
        np.testing.assert_allclose(density, known.pdf(ETA), rtol=1e-13)

    def test_binomial(self, link):
        y = np.array([[0, 3], [1, 1], [2, 5], [0, 1], [4, 4]])
        value = oracle.binomial(link)(y, ETA)[0]
        p = oracle.LINKS[link](ETA)[0]
        np.testing.assert_allclose(value, stats.binom.logpmf(y[:, 0], y[:, 1], p), rtol=1e-11)

    def test_ordinal_sums_to_one(self, link):
        cuts = np.array([-1.2, 0.1, 1.4])
        total = sum(np.exp(oracle.ordinal(link)(np.full(5, k), ETA, cuts)[0]) for k in range(4))
        np.testing.assert_allclose(total, 1, rtol=1e-13)


def test_densities_of_scipy():
    mu = np.exp(ETA)
    y, counts = np.array([0.3, 1.1, 0.8, 4.0, 2.2]), np.array([0, 1, 3, 2, 9])
    phi = 0.7
    pairs = [
        (oracle.poisson(counts, ETA)[0], stats.poisson.logpmf(counts, mu)),
        (oracle.gaussian(y, ETA, [phi])[0], stats.norm.logpdf(y, ETA, np.sqrt(phi))),
        (oracle.gamma(y, ETA, [phi])[0], stats.gamma.logpdf(y, 1 / phi, scale=mu * phi)),
        (oracle.inverse_gaussian(y, ETA, [phi])[0], stats.invgauss.logpdf(y, mu * phi, scale=1 / phi)),
        (oracle.nb2(counts, ETA, [phi])[0], stats.nbinom.logpmf(counts, 1 / phi, 1 / (1 + phi * mu))),
        (oracle.nb1(counts, ETA, [phi])[0], stats.nbinom.logpmf(counts, mu / phi, 1 / (1 + phi))),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-11)


DENSITIES = {
    **{f"binomial-{k}": (oracle.binomial(k), [[0, 3], [1, 1], [2, 5], [0, 1], [4, 4]], ()) for k in oracle.LINKS},
    **{f"ordinal-{k}": (oracle.ordinal(k), [0, 1, 2, 3, 1], (-1.2, 0.1, 1.4)) for k in oracle.LINKS},
    "poisson": (oracle.poisson, [0, 1, 3, 2, 9], ()),
    "gamma": (oracle.gamma, [0.3, 1.1, 0.8, 4.0, 2.2], (0.7,)),
    "inverse_gaussian": (oracle.inverse_gaussian, [0.3, 1.1, 0.8, 4.0, 2.2], (0.7,)),
    "gaussian": (oracle.gaussian, [0.3, 1.1, 0.8, 4.0, 2.2], (0.7,)),
    "nb2": (oracle.nb2, [0, 1, 3, 2, 9], (0.7,)),
    "nb1": (oracle.nb1, [0, 1, 3, 2, 9], (0.7,)),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_derivatives(name):
    density, y, psi = DENSITIES[name]
    y, psi = np.array(y), np.array(psi)
    _, first, second = density(y, ETA, psi)
    h = 1e-3

    def difference(part):
        d = [density(y, ETA + k * h, psi)[part] - density(y, ETA - k * h, psi)[part] for k in (1, 2, 3)]
        return (45 * d[0] - 9 * d[1] + d[2]) / (60 * h)

    np.testing.assert_allclose(first, difference(0), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(second, difference(1), rtol=1e-9, atol=1e-10)


# ---------------------------------------------------------------- integrals
def _data(seed=3, levels=5, rows=30):
    rng = np.random.default_rng(seed)
    codes = np.r_[np.arange(levels), rng.integers(levels, size=rows - levels)]
    x = np.column_stack([np.ones(rows), rng.normal(size=rows)])
    return codes, x, rng


def test_one_column_by_quad():
    codes, x, rng = _data()
    beta, sd = np.array([0.2, -0.5]), 1.3
    y = rng.binomial(1, 0.5, size=len(x))
    density = oracle.binomial("probit")

    def integrand(b, level):
        own = codes == level
        return np.exp(density(y[own], x[own] @ beta + b)[0].sum()) * stats.norm.pdf(b, scale=sd)

    want = sum(np.log(integrate.quad(integrand, -14, 14, args=(k,), epsabs=0, epsrel=1e-12)[0]) for k in range(5))
    terms = [(codes, np.ones((30, 1)), [[sd**2]])]
    assert oracle.integrate(y, x, beta, None, terms, density) == pytest.approx(want, abs=1e-10)
    assert oracle.quadrature(y, x, beta, None, terms, density, points=40) == pytest.approx(want, abs=1e-8)
    laplace = oracle.dense_laplace(y, x, beta, None, terms, density)
    assert oracle.quadrature(y, x, beta, None, terms, density, points=1) == pytest.approx(laplace, abs=1e-12)


def test_two_columns_by_quad():
    codes, x, rng = _data(levels=2, rows=12)
    beta, g = np.array([0.2, -0.5]), np.array([[0.8, -0.3], [-0.3, 0.5]])
    y = rng.poisson(1.5, size=12)
    prior = stats.multivariate_normal(cov=g)
    want = 0.0
    for level in range(2):
        own = codes == level

        def integrand(b1, b0, own=own):
            b = np.array([b0, b1])
            return np.exp(oracle.poisson(y[own], x[own] @ (beta + b))[0].sum() + prior.logpdf(b))

        want += np.log(integrate.dblquad(integrand, -7, 7, -6, 6, epsabs=0, epsrel=1e-9)[0])
    terms = [(codes, x, g)]
    assert oracle.integrate(y, x, beta, None, terms, oracle.poisson) == pytest.approx(want, abs=1e-8)
    finer = oracle.integrate(y, x, beta, None, terms, oracle.poisson, n_points=401)
    assert oracle.integrate(y, x, beta, None, terms, oracle.poisson) == pytest.approx(finer, abs=1e-10)


@pytest.mark.parametrize("crossed", [False, True])
def test_gaussian_laplace_is_exact(crossed):
    """With an offset, weights of one and any structure."""
    codes, x, rng = _data()
    beta, g, sigma2 = np.array([0.2, -0.5]), np.array([[0.8, -0.3], [-0.3, 0.5]]), 0.6
    offset, y = rng.normal(size=30), rng.normal(size=30)
    terms = [(codes, x, g)]
    v = sigma2 * np.eye(30) + np.where(codes[:, None] == codes, x @ g @ x.T, 0)
    if crossed:
        other = np.arange(30) % 4
        terms.append((other, np.ones((30, 1)), [[1.7]]))
        v += 1.7 * (other[:, None] == other)
    want = stats.multivariate_normal(x @ beta + offset, v).logpdf(y)
    args = (y, x, beta, offset, terms, oracle.gaussian, [sigma2], np.ones(30))
    assert oracle.dense_laplace(*args) == pytest.approx(want, abs=1e-11)
    if not crossed:
        assert oracle.integrate(*args) == pytest.approx(want, abs=1e-10)


def test_nested():
    """No inner variance: one factor. Gaussian: the normal likelihood. Half the step changes nothing."""
    codes, x, rng = _data()
    inner = codes * 3 + rng.integers(3, size=30)
    inner = np.unique(inner, return_inverse=True)[1]
    one = np.ones((30, 1))
    beta = np.array([0.2, -0.5])
    y = rng.binomial(1, 0.5, size=30)
    density = oracle.binomial("logit")
    alone = oracle.integrate(y, x, beta, None, [(codes, one, [[1.2]])], density)
    terms = [(codes, one, [[1.2]]), (inner, one, [[0.0]])]
    assert oracle.integrate_nested(y, x, beta, None, terms, density) == pytest.approx(alone, abs=1e-10)
    terms = [(codes, one, [[1.2]]), (inner, one, [[0.7]])]
    both = [oracle.integrate_nested(y, x, beta, None, terms, density, step=h) for h in (0.25, 0.125)]
    assert both[0] == pytest.approx(both[1], abs=1e-10)
    v = 2 * np.eye(30) + 1.2 * (codes[:, None] == codes) + 0.7 * (inner[:, None] == inner)
    want = stats.multivariate_normal(x @ beta, v).logpdf(y)
    assert oracle.integrate_nested(y, x, beta, None, terms, oracle.gaussian, [2.0]) == pytest.approx(want, abs=1e-10)


def test_weights_repeat_rows():
    codes, x, rng = _data()
    beta, terms_of = np.array([0.2, -0.5]), lambda c: [(c, np.ones((len(c), 1)), [[0.9]])]
    y, w = rng.poisson(1.5, size=30), rng.integers(1, 4, size=30)
    again = np.repeat(np.arange(30), w)
    for method in (oracle.dense_laplace, oracle.integrate):
        weighted = method(y, x, beta, None, terms_of(codes), oracle.poisson, (), w)
        repeated = method(y[again], x[again], beta, None, terms_of(codes[again]), oracle.poisson)
        assert weighted == pytest.approx(repeated, abs=1e-9)


# ---------------------------------------------------------------- against R, and the stored fits
def _stored(file):
    return json.loads((brute.HERE / file).read_text())["fits"]


def test_laplace_of_glmmtmb():
    (reference,) = [f for f in _stored("glmm.json") if f["id"] == "cbpp" and f["engine"] == "glmmTMB"]
    model, names, _, _ = brute.model_of(brute.case_of("cbpp"))
    assert len(names) == len(reference["fixef"]["values"])
    packed = np.r_[reference["fixef"]["values"], np.sqrt(reference["terms"][0]["cov"][0][0])]
    assert model.loglike(packed, oracle.dense_laplace) == pytest.approx(reference["llf"], abs=1e-10)
    fit = oracle.brute_fit(model, brute.start_of(model), oracle.dense_laplace)
    np.testing.assert_allclose(fit.params[:4], reference["fixef"]["values"], rtol=1e-6)
    np.testing.assert_allclose(fit.se[:4], reference["se"], rtol=1e-6)
    np.testing.assert_allclose(fit.se[4], reference["terms"][0]["se"][0], rtol=1e-6)
    mode = oracle.dense_mode(
        model.y, model.x, packed[:4], None, [(*model.terms[0], [[packed[4] ** 2]])], model.density
    )  # fmt: skip
    np.testing.assert_allclose(mode.b[:5], [r["value"] for r in reference["ranef"]], rtol=1e-8)
    np.testing.assert_allclose(mode.sd[:5], [r["sd"] for r in reference["ranef"]], rtol=1e-8)


def test_stored_fits():
    """All are there, at an optimum, and the grids were fine enough."""
    fits = _stored("brute.json")
    assert {f["id"] for f in fits} == set(brute.WANTED)
    for fit in fits:
        assert fit["step"] < 1e-6, fit["id"]
        assert abs(fit["finer_grid"] or 0) < 1e-9, fit["id"]
        assert np.all(np.linalg.eigvalsh(fit["joint"]["cov"]) > 0), fit["id"]
