"""Conditional distributions: every derivative of every family, values against SciPy and statsmodels."""

import pickle
import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from families_cases import OwnFamily, cases, domain, psi_for
from scipy import stats
from statsmodels.genmod.families import links
from statsmodels.miscmodels.ordinal_model import OrderedModel

from sm_multilevel.families.negbin import NegBin
from sm_multilevel.families.ordinal import Cumulative
from sm_multilevel.families.registry import get_family
from sm_multilevel.families.response import ResponseData

CASES = list(cases())
UNWEIGHTED = [case for case in CASES if "weighted" not in case[0]]
ATTRIBUTES = ("logf", "score", "info", "info_slope", "expected_info", "psi_score", "score_psi", "info_psi")


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES, ids=[c[0] for c in CASES])
    if "simple" in metafunc.fixturenames:
        metafunc.parametrize("simple", UNWEIGHTED, ids=[c[0] for c in UNWEIGHTED])


def prepared(case, n=40, seed=0):
    _, family, make = case
    rng = np.random.default_rng(seed)
    eta = domain(family, np.clip(rng.normal(size=n), -2.2, 2.2))
    data = make(rng, eta)
    family.check(data, "y")
    return family, data, family.bind(data), eta, family.internal(psi_for(family))


def close(found, expected, rtol=2e-7):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * max(1.0, np.max(np.abs(expected), initial=0.0)))


def difference(f, h=1e-3):
    """Fourth-order central difference."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


# -- derivatives ------------------------------------------------------------------------


def test_derivatives_by_eta(case):
    _, _, response, eta, psi = prepared(case)
    local = response.at(eta, psi)
    close(local.score, difference(lambda h: response.at(eta + h, psi).logf))
    close(local.info, -difference(lambda h: response.at(eta + h, psi).score))
    close(local.info_slope, difference(lambda h: response.at(eta + h, psi).info))
    assert np.all(local.expected_info >= 0)


def test_derivatives_by_psi(case):
    _, _, response, eta, psi = prepared(case)
    local = response.at(eta, psi)
    r = response.n_psi
    assert len(psi) == r
    for name in ("psi_score", "score_psi", "info_psi"):
        assert getattr(local, name).shape == (r, *eta.shape)
    assert local.psi_info.shape == (r, r)
    for i in range(r):

        def at(h, i=i):
            return response.at(eta, psi + h * (np.arange(r) == i))

        close(local.psi_score[i], difference(lambda h: at(h).logf))
        close(local.score_psi[i], difference(lambda h: at(h).score))
        close(local.info_psi[i], difference(lambda h: at(h).info))
        close(local.psi_info[i], -difference(lambda h: at(h).psi_score.sum(1)))


def test_jacobian_and_internal(case):
    family, _, _, _, psi = prepared(case, n=8)
    natural = family.natural(psi)
    np.testing.assert_allclose(family.internal(natural), psi, rtol=1e-12, atol=1e-12)
    for i in range(len(psi)):
        one = np.arange(len(psi)) == i
        close(family.jacobian(psi)[:, i], difference(lambda h, one=one: family.natural(psi + h * one)))
    assert family.at_zero(psi).shape == psi.shape


def test_nodes_are_rows_one_by_one(case):
    _, _, response, eta, psi = prepared(case)
    nodes = eta + np.array([[-0.02], [0.0], [0.03]])
    local = response.at(nodes, psi)
    each = [response.at(node, psi) for node in nodes]
    for name in ATTRIBUTES:
        stacked = np.stack([getattr(one, name) for one in each], axis=-2)
        np.testing.assert_allclose(getattr(local, name), stacked, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("rows", [slice(5, 20), np.array([3, 1, 30])], ids=["slice", "positions"])
def test_take(case, rows):
    _, _, response, eta, psi = prepared(case)
    response.at(eta, psi).psi_info  # noqa: B018 (fills what is kept)
    part, whole = response.take(rows).at(eta[rows], psi), response.at(eta, psi)
    for name in ATTRIBUTES:
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[..., rows], rtol=1e-13, err_msg=name)
    freq = response.data.freq_weights
    assert response.take(rows).nobs == (len(eta[rows]) if freq is None else freq[rows].sum())


def test_start(case):
    _, _, response, eta, psi = prepared(case)
    start = response.start_eta()
    assert start.shape == eta.shape
    assert np.all(np.isfinite(response.at(start, psi).logf))
    found = response.start_psi(eta)
    assert found.shape == psi.shape
    assert np.all(np.isfinite(response.at(eta, found).logf))
    assert response.eta_scale > 0


# -- values -----------------------------------------------------------------------------


def numbers(family, data, eta, psi):
    """The SciPy distribution."""
    mu = family.mean(eta, psi)
    w = 1.0 if data.var_weights is None else data.var_weights
    if family.name == "Gamma":
        return stats.gamma(w / psi[0], scale=mu * psi[0] / w)
    if family.name == "Gaussian":
        return stats.norm(mu, np.sqrt(psi[0] / w))
    if family.name == "InverseGaussian":
        return stats.invgauss(mu * psi[0] / w, scale=w / psi[0])
    if family.name == "Binomial":
        return stats.binom(np.ones_like(mu) if data.trials is None else data.trials, mu)
    if family.name in ("Poisson", "OwnFamily"):
        return stats.poisson(mu)
    if family.name == "NegativeBinomial1":
        return stats.nbinom(mu / psi[0], 1 / (1 + psi[0]))
    alpha = psi[0] if len(psi) else 0.7
    return stats.nbinom(1 / alpha, 1 / (1 + alpha * mu))


@pytest.mark.parametrize("one", [c for c in CASES if c[1].name != "Cumulative"], ids=lambda c: c[0])  # those are below
def test_scipy(one):
    family, data, response, eta, psi = prepared(one)
    natural = family.natural(psi)
    dist = numbers(family, data, eta, natural)
    y = data.endog if data.trials is None else np.rint(data.endog * data.trials)
    logf = dist.logpmf(y) if family.is_discrete else dist.logpdf(y)
    for weights in (data.var_weights if not family.psi_names or family.is_discrete else None, data.freq_weights):
        logf = logf if weights is None else logf * weights
    np.testing.assert_allclose(response.at(eta, psi).logf, logf, rtol=1e-9, atol=1e-10)
    if family.name == "OwnFamily":
        return
    below, upto = family.cdf(data, eta, natural)
    np.testing.assert_allclose(upto, dist.cdf(y), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(below, dist.cdf(y - 1) if family.is_discrete else upto, rtol=1e-9, atol=1e-12)


def test_mean_and_variance(simple):
    family, data, _, eta, psi = prepared(simple)
    natural = family.natural(psi)
    close(family.mean_slope(eta, natural), difference(lambda h: family.mean(eta + h, natural)))
    if family.name != "Cumulative" and data.trials is None:
        dist = numbers(family, data, eta, natural)
        np.testing.assert_allclose(family.mean(eta, natural), dist.mean(), rtol=1e-9)
        np.testing.assert_allclose(family.variance(eta, natural), dist.var(), rtol=1e-9)


def test_simulate(simple):
    family, data, _, eta, psi = prepared(simple)
    natural = family.natural(psi)
    rng = np.random.default_rng(3)
    many = np.broadcast_to(eta, (4000, len(eta)))
    draws = family.simulate(data, many, natural, rng)
    assert draws.shape == many.shape
    n = 1.0 if data.trials is None else data.trials
    z = (draws.mean(0) - family.mean(eta, natural)) / np.sqrt(family.variance(eta, natural) / n / len(draws))
    assert np.max(np.abs(z)) < 4.5


def test_unit_deviance(simple):
    family, data, response, eta, psi = prepared(simple)
    natural = family.natural(psi)
    deviance = family.unit_deviance(data, eta, natural)
    assert deviance.shape == eta.shape
    assert np.all(deviance >= 0)
    scale = natural[0] if family.psi_names == ("dispersion",) else 1.0
    shift = 1e-3 * np.sign(response.at(eta, psi).score)
    logf, moved = response.at(eta, psi).logf, response.at(eta + shift, psi).logf
    np.testing.assert_allclose(
        family.unit_deviance(data, eta + shift, natural) - deviance,
        -2 * scale * (moved - logf), rtol=1e-6, atol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize("alpha", [0.01, 3.0, 10.0, 300.0])
def test_unit_deviance_of_nb1_starts_from_the_best_mean(alpha):
    """Its saturated mean is not y, and has no formula."""
    family, y, psi = NegBin("nb1"), np.array([0.0, 1.0, 2.0, 5.0, 50.0, 5000.0]), np.array([alpha])
    grid = np.linspace(-20, 12, 64001)[:, None]
    logf = family.bind(ResponseData(y)).at(np.broadcast_to(grid, (len(grid), len(y))), np.sqrt(psi)).logf
    here = family.bind(ResponseData(y)).at(np.ones(len(y)), np.sqrt(psi)).logf
    deviance = family.unit_deviance(ResponseData(y), np.ones(len(y)), psi)
    np.testing.assert_allclose(deviance, 2 * (logf.max(axis=0) - here), rtol=1e-4, atol=1e-6)


# That of nb1 is a lower bound: below.
@pytest.mark.parametrize("one", [c for c in UNWEIGHTED if c[1].name != "NegativeBinomial1"], ids=lambda c: c[0])
def test_expected_info_is_the_variance_of_the_score(one):
    family, data, _, eta, psi = prepared(one, n=12)
    rng = np.random.default_rng(4)
    total = []
    for _ in range(1500):
        y = family.simulate(data, eta, family.natural(psi), rng)
        response = family.bind(ResponseData(y, data.trials, categories=data.categories))
        total.append(response.at(eta, psi).score ** 2)
    expected = family.bind(data).at(eta, psi).expected_info
    error = np.std(total, axis=0) / np.sqrt(len(total))
    assert np.max(np.abs(np.mean(total, axis=0) - expected) / (error + 1e-12)) < 5


def test_expected_info_of_nb1_is_a_lower_bound():
    family, eta, psi = NegBin("nb1"), np.linspace(-3, 3, 9), np.array([0.8])
    y = np.arange(2000.0)[:, None]
    exact = 0.0
    for i, one in enumerate(eta):
        local = family.bind(ResponseData(y[:, 0])).at(np.full(len(y), one), psi)
        exact = np.sum(np.exp(local.logf) * local.score**2)
        found = family.bind(ResponseData(np.zeros(1))).at(eta[i : i + 1], psi).expected_info[0]
        assert 0.5 * exact < found < exact * (1 + 1e-9)


def test_weights():
    rng = np.random.default_rng(0)
    for label, family, make in UNWEIGHTED:
        eta = domain(family, np.clip(rng.normal(size=10), -2, 2))
        data, psi = make(rng, eta), family.internal(psi_for(family))
        twice = family.bind(ResponseData(data.endog, data.trials, freq_weights=np.full(10, 2.0)))
        one = family.bind(data)
        assert twice.nobs == 20
        for name in ATTRIBUTES:
            got, want = getattr(twice.at(eta, psi), name), 2 * getattr(one.at(eta, psi), name)
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14, err_msg=label + name)
        var = family.bind(ResponseData(data.endog, data.trials, var_weights=np.full(10, 2.0))).at(eta, psi)
        if family.psi_names == ("dispersion",):
            np.testing.assert_allclose(var.logf, one.at(eta, psi - np.log(2)).logf, rtol=1e-12)
        else:
            np.testing.assert_allclose(var.logf, 2 * one.at(eta, psi).logf, rtol=1e-12)


# -- against statsmodels ----------------------------------------------------------------


@pytest.fixture(scope="module")
def xy():
    rng = np.random.default_rng(8)
    x = sm.add_constant(rng.normal(size=(200, 2)))
    return rng, x, x @ [0.3, 0.5, -0.4]


def test_statsmodels_glm(xy):
    rng, x, eta = xy
    y = rng.poisson(np.exp(eta))
    fit = sm.GLM(y, x, sm.families.Poisson()).fit()
    total = get_family("poisson").bind(ResponseData(y * 1.0)).at(x @ fit.params, np.empty(0)).logf.sum()
    assert total == pytest.approx(fit.llf, rel=1e-12)
    n = rng.integers(1, 9, len(y))
    s = rng.binomial(n, 1 / (1 + np.exp(-eta)))
    fit = sm.GLM(np.column_stack([s, n - s]), x, sm.families.Binomial()).fit()
    data = ResponseData(s / n, n * 1.0)
    total = get_family("binomial").bind(data).at(x @ fit.params, np.empty(0)).logf.sum()
    assert total == pytest.approx(fit.llf, rel=1e-10)


@pytest.mark.parametrize("kind", ["nb2", "nb1"])
def test_statsmodels_negative_binomial(xy, kind):
    rng, x, eta = xy
    y = NegBin(kind).simulate(ResponseData(eta), eta, np.array([0.8]), rng)
    fit = sm.NegativeBinomial(y, x, loglike_method=kind).fit(disp=0)
    total = NegBin(kind).bind(ResponseData(y)).at(x @ fit.params[:3], np.sqrt(fit.params[3:])).logf.sum()
    assert total == pytest.approx(fit.llf, rel=1e-10)


@pytest.mark.parametrize("distr", ["logit", "probit"])
def test_statsmodels_ordered_model(xy, distr):
    rng, x, eta = xy
    family, kappa = Cumulative(distr, (1, 2, 3, 4)), np.array([-1.0, 0.2, 1.5])
    eta = eta - 0.3
    y = family.simulate(ResponseData(eta), eta, kappa, rng)
    assert set(y) == {0, 1, 2, 3}
    model = OrderedModel(y, x[:, 1:], distr=distr)
    psi = family.internal(kappa)
    got = family.bind(ResponseData(y)).at(eta, psi).logf.sum()
    assert got == pytest.approx(model.loglike(np.concatenate([[0.5, -0.4], psi])), rel=1e-10)


# -- ordinal ------------------------------------------------------------------------------

DISTR = {
    "logit": stats.logistic,
    "probit": stats.norm,
    "cloglog": stats.gumbel_l,
    "loglog": stats.gumbel_r,
    "cauchit": stats.cauchy,
}


@pytest.mark.parametrize("distr", DISTR)
def test_ordinal_probabilities(distr):
    family, kappa, eta = Cumulative(distr, "abcd"), np.array([-1.0, 0.3, 0.9]), np.linspace(-3, 3, 7)
    upto = DISTR[distr].cdf(kappa - eta[:, None])
    expected = np.diff(np.column_stack([np.zeros(7), upto, np.ones(7)]), axis=1)
    p = family.probabilities(eta, kappa)
    np.testing.assert_allclose(p, expected, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(family.probabilities(np.stack([eta, eta + 1]), kappa)[0], p)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-14)
    np.testing.assert_allclose(family.mean(eta, kappa), p @ np.arange(4))
    below, at = family.cdf(ResponseData(np.full(7, 1.0)), eta, kappa)
    np.testing.assert_allclose(at - below, p[:, 1], rtol=1e-10)
    assert family.psi_names == ("a|b", "b|c", "c|d")


@pytest.mark.parametrize(("distr", "link"), [("logit",) * 2, ("probit",) * 2, ("cauchit",) * 2, ("cloglog", "loglog")])
def test_ordinal_with_two_categories_is_binomial(distr, link):
    eta, kappa = np.linspace(-5, 5, 12), 0.4
    y = np.arange(12.0) % 2
    ordinal = Cumulative(distr, "ab").bind(ResponseData(y)).at(eta, np.array([kappa]))
    binomial = get_family("binomial", link).bind(ResponseData(y)).at(eta - kappa, np.empty(0))
    for name in ("logf", "score", "info", "info_slope", "expected_info"):
        np.testing.assert_allclose(getattr(ordinal, name), getattr(binomial, name), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("step", [1e-3, 1e-7, 1e-12])
@pytest.mark.parametrize("distr", DISTR)
def test_ordinal_narrow(distr, step):
    """A narrow category is density times width; the width's parameter has derivative one."""
    eta = np.array([-3.0, -1, 0, 0.4, 2, 3])
    family = Cumulative(distr, "abc")
    psi = np.array([0.3, np.log(step)])
    local = family.bind(ResponseData(np.ones(6))).at(eta, psi)
    density = DISTR[distr].logpdf(0.3 + step / 2 - eta)
    np.testing.assert_allclose(local.logf, density + np.log(step), rtol=1e-12, atol=30 * step**2)
    np.testing.assert_allclose(local.psi_score[1], 1, atol=max(30 * step, 1e-6))
    binary = family.bind(ResponseData(np.ones(6)))
    np.testing.assert_allclose(local.score, difference(lambda d: binary.at(eta + d, psi).logf), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(local.info, -difference(lambda d: binary.at(eta + d, psi).score), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(local.info_slope, difference(lambda d: binary.at(eta + d, psi).info), atol=1e-8)


# -- the tails ----------------------------------------------------------------------------

# log F by arbitrary precision (mpmath)
TAILS = {
    "probit": {-40.0: -804.60844201375379, -8.0: -35.01343715991455},
    "cauchit": {-40.0: -4.833817616894664},
}


def test_tails():
    y = np.ones(1)
    for link, table in TAILS.items():
        response = get_family("binomial", link).bind(ResponseData(y))
        for eta, logf in table.items():
            assert response.at(np.array([eta]), np.empty(0)).logf[0] == pytest.approx(logf, rel=1e-13)
    logit = get_family("binomial").bind(ResponseData(np.array([1.0, 1, 0, 0])))
    eta = np.array([-40.0, 40, -40, 40])
    expected = -np.log1p(np.exp(-np.array([-40.0, 40, 40, -40])))
    np.testing.assert_allclose(logit.at(eta, np.empty(0)).logf, expected, rtol=1e-15)


def test_extreme_eta(case):
    family, _, response, eta, psi = prepared(case)
    always = family.name == "Cumulative" or family.link_name in ("logit", "probit", "cloglog", "loglog", "cauchit")
    for size in (40.0, 300.0, 1e3):
        for sign in (-1, 1):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                local = response.at(np.full(len(eta), sign * size), psi)
                found = [getattr(local, name) for name in (*ATTRIBUTES, "psi_info")]
            if always:
                for name, values in zip(ATTRIBUTES, found):
                    assert not np.any(np.isnan(values)), name
            elif family.link_name == "log" and family.name != "Binomial":
                for values in found[:3]:
                    assert not np.any(np.isnan(values))


@pytest.mark.parametrize("eta", [-40.0, -12.0, 3.0, 12.0, 40.0])
@pytest.mark.parametrize("distr", DISTR)
def test_extreme_ordinal_is_consistent(distr, eta):
    psi, eta = np.array([-1.0, 0.2, -0.5]), np.full(4, eta)
    response = Cumulative(distr, "abcd").bind(ResponseData(np.arange(4.0)))
    local = response.at(eta, psi)
    slope = difference(lambda h: response.at(eta + h, psi).logf)
    ok = np.abs(slope) < 1e9  # in the double-exponential tail differences are of no use
    np.testing.assert_allclose(local.score[ok], slope[ok], rtol=1e-7, atol=1e-8)
    slope = -difference(lambda h: response.at(eta + h, psi).score)
    np.testing.assert_allclose(local.info[ok], slope[ok], rtol=1e-6, atol=1e-8)


def test_outside_of_the_domain():
    eta = np.array([-0.5, 0.7])
    table = [("gamma", "inverse"), ("gamma", "identity"), ("poisson", "identity"), ("inverse_gaussian", "inverse")]
    table += [("inverse_gaussian", "identity"), ("binomial", "identity"), ("inverse_gaussian", "inverse_squared")]
    for name, link in table:
        family = get_family(name, link)
        response = family.bind(ResponseData(np.ones(2)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            local = response.at(eta, np.zeros(response.n_psi))
            assert np.isnan(local.logf[0]) or local.logf[0] == -np.inf, (name, link)
            assert np.isfinite(local.logf[1])
            for attribute in ATTRIBUTES:
                getattr(local, attribute)
    log = get_family("binomial", "log").bind(ResponseData(np.array([1.0, 0.0])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not np.any(np.isfinite(log.at(np.array([0.5, 0.5]), np.empty(0)).logf))


# -- negative binomial near zero ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nb2", "nb1"])
def test_alpha_zero_is_poisson(kind):
    y = np.array([0.0, 1, 3, 17, 1000, 1e5])
    for shift in (-18.0, -2.0, 0.0, 3.0, 13.8):
        eta = np.full(6, shift)
        local = NegBin(kind).bind(ResponseData(y)).at(eta, np.zeros(1))
        poisson = get_family("poisson").bind(ResponseData(y)).at(eta, np.empty(0))
        for name in ("logf", "score", "info", "info_slope", "expected_info"):
            np.testing.assert_allclose(getattr(local, name), getattr(poisson, name), rtol=1e-10)
        assert np.all(local.psi_score == 0)
    assert NegBin().at_zero(np.array([9e-5])).all()
    assert not NegBin().at_zero(np.array([-2e-4])).any()


# (kind, y, eta, alpha): logf, score, info, info_slope, psi_score, score_psi, info_psi at tau = sqrt(alpha),
# by mpmath with 90 digits
# fmt: off
SMALL_ALPHA = {
    ("nb2", 0, -18.0, 1e-14): (
        -1.522997974471e-08, -1.522997974471e-08, 1.522997974471e-08, 1.522997974471e-08,
        2.319522830244e-23, 4.639045660487e-23, -9.278091320974e-23),
    ("nb2", 1, -18.0, 1e-06): (
        -18.00000001523, 0.99999998477, 1.522999497469e-08, 1.522999497469e-08,
        -3.045995925747e-11, -3.045995902552e-11, 3.045995856161e-11),
    ("nb2", 3, 0.5, 1e-14): (
        -1.940480739928, 1.3512787293, 1.6487212707, 1.6487212707,
        -1.174045795742e-07, -4.455763967283e-07, -9.807996896355e-08),
    ("nb2", 3, 0.5, 1e-10): (
        -1.940480739987, 1.351278729077, 1.648721270651, 1.648721270107,
        -1.174045795708e-05, -4.455763965813e-05, -9.807996907813e-06),
    ("nb2", 3, 0.5, 1e-06): (
        -1.940481326951, 1.351276501422, 1.648720780297, 1.648715343744,
        -0.001174045461634, -0.004455749274693, -0.0009808111480658),
    ("nb2", 7, 2.5, 0.001): (
        -3.19785351536, -5.120118152236, 11.97424202113, 11.68600125037,
        0.6119573301259, 3.897511107518, -12.96557468323),
    ("nb2", 40, 3.0, 0.04): (
        -7.021771899325, 11.04260059647, 16.05692278483, 1.750254284156,
        15.8642447627, -49.1946147578, -44.25485248471),
    ("nb2", 1000, 7.0, 1e-08): (
        -8.761295227257, -96.63209872882, 1096.620072829, 1096.596021295,
        0.8337778516825, 21.19376030911, -261.7088771354),
    ("nb2", 100000, 11.4, 1e-06): (
        -568.8252131291, 9802.684009871, 82801.3561612, 69222.33782287,
        95378.30864054, -1607592.340345, -12103244.64736),
    ("nb2", 100000, 13.8, 1e-14): (
        -655908.3292155, -884609.1025191, 984609.0928245, 984609.0734354,
        78253.31688745, 174198.8347281, -368089.8478627),
    ("nb2", 17, 1.0, 2.5): (
        -5.658903278812, 1.831998383366, 1.945687073978, -1.446518062064,
        0.6297865092473, -2.020059657325, -1.886294197792),
    ("nb1", 0, -18.0, 1e-14): (
        -1.522997974471e-08, -1.522997974471e-08, 1.522997974471e-08, 1.522997974471e-08,
        1.522997974471e-15, 1.522997974471e-15, -1.522997974471e-15),
    ("nb1", 1, -18.0, 1e-06): (
        -18.00000101523, 0.99999998477, 1.522997212973e-08, 1.522997212973e-08,
        -0.001999997984772, 1.52299594381e-11, -1.52299594381e-11),
    ("nb1", 3, 0.5, 1e-14): (
        -1.940480739928, 1.3512787293, 1.6487212707, 1.6487212707,
        -7.120947710241e-08, -1.990462687576e-07, -5.287905228976e-07),
    ("nb1", 3, 0.5, 1e-10): (
        -1.940480739964, 1.3512787292, 1.648721270436, 1.6487212708,
        -7.120947710118e-06, -1.99046268706e-05, -5.287905227285e-05),
    ("nb1", 3, 0.5, 1e-06): (
        -1.940481095976, 1.35127773407, 1.648718626752, 1.648722265925,
        -0.000712094648113, -0.001990457528291, -0.005287888315542),
    ("nb1", 7, 2.5, 0.001): (
        -3.206841156432, -5.178129943573, 12.17468421212, 12.17812810606,
        0.05143757765582, 0.2757869812449, -0.4935979591599),
    ("nb1", 40, 3.0, 0.04): (
        -10.06953968934, 18.8293566138, 18.29049579245, 20.9605982917,
        3.191655754466, -10.22520479849, -16.47582019406),
    ("nb1", 1000, 7.0, 1e-08): (
        -8.761336878606, -96.63315750014, 1096.63314839, 1096.6331575,
        0.0007603241860433, 0.01856630712881, -0.2007603205255),
    ("nb1", 100000, 11.4, 1e-06): (
        -620.944622202, 10678.2653232, 89321.62272319, 89321.73467667,
        1.275449584603, -22.63195749633, -201.2749989114),
    ("nb1", 100000, 13.8, 1e-14): (
        -655908.3331282, -884609.111229, 984609.111229, 984609.111229,
        0.07947653243759, 0.09744528980821, -0.09947653243759),
    ("nb1", 17, 1.0, 2.5): (
        -6.787657150795, 2.236211288741, -0.580541715012, 0.2668474499372,
        2.3328496933, -1.716729284206, 0.6448573538909),
}
# fmt: on


@pytest.mark.parametrize("key", SMALL_ALPHA, ids=str)
def test_small_alpha(key):
    kind, y, eta, alpha = key
    local = NegBin(kind).bind(ResponseData(np.array([float(y)]))).at(np.array([eta]), np.sqrt([alpha]))
    names = ("logf", "score", "info", "info_slope", "psi_score", "score_psi", "info_psi")
    found = [float(getattr(local, name).item()) for name in names]
    np.testing.assert_allclose(found, SMALL_ALPHA[key], rtol=1e-9)


@pytest.mark.parametrize("kind", ["nb2", "nb1"])
def test_either_sign_of_tau(kind):
    response, eta = NegBin(kind).bind(ResponseData(np.arange(9.0))), np.linspace(-1, 2, 9)
    plus, minus = (response.at(eta, np.array([t])) for t in (0.6, -0.6))
    np.testing.assert_array_equal(plus.info, minus.info)
    np.testing.assert_array_equal(plus.psi_score, -minus.psi_score)


@pytest.mark.parametrize("tau", [0.0, 1e-9, 1e-4, 0.5, 30.0, 1e3])
@pytest.mark.parametrize("kind", ["nb2", "nb1"])
def test_negbin_anywhere(kind, tau):
    response = NegBin(kind).bind(ResponseData(np.array([0.0, 1, 5, 1e5])))
    for eta in (-1e3, -700.0, -30.0, 30.0, 700.0, 1e3):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            local = response.at(np.full(4, eta), np.array([tau]))
            for name in (*ATTRIBUTES, "psi_info"):
                assert name == "psi_info" or not np.any(np.isnan(getattr(local, name))), (name, eta)


def test_gamma_with_hardly_any_dispersion():
    """log f at its mode is that of the normal limit: nothing is lost at shape 1e13."""
    local = get_family("gamma", "log").bind(ResponseData(np.ones(1))).at(np.zeros(1), np.array([-30.0]))
    assert local.logf[0] == pytest.approx(0.5 * (30 - np.log(2 * np.pi)), rel=1e-12)
    assert local.psi_score[0, 0] == pytest.approx(-0.5, rel=1e-10)


# -- bad input ------------------------------------------------------------------------------

BAD = [
    ("poisson", None, [0, 2, -1], {}, "y has negative counts: row 2 "),
    ("nb2", None, [0, 2.5, 1], {}, "not whole numbers: row 1 .* is 2.5"),
    ("poisson", None, [0, np.nan, 1], {}, "missing or infinite: row 1"),
    ("poisson", None, [0, 2, 1], {"trials": np.ones(3)}, "no numbers of trials"),
    ("gaussian", None, [0, np.inf, 1], {}, "missing or infinite: row 1"),
    ("gaussian", None, [0, 2, 1], {"var_weights": np.array([1, 1, 0.0])}, "var_weights of y must be .*: row 2"),
    ("gaussian", None, [], {}, "no rows"),
    ("gamma", "log", [1, 0, 0], {}, "zero or negative: row 1 .*, one of 2 such rows"),
    ("inverse_gaussian", None, [1, 2, -3], {}, "zero or negative: row 2"),
    ("binomial", None, [1, 2, 0], {}, "above one: row 1 .*Code the response as 0 and 1"),
    ("binomial", None, [1, -1, 0], {}, "negative values: row 1"),
    ("binomial", None, [1, 0.25, 0], {}, "between zero and one: row 1 .*n_trials="),
    ("binomial", None, [0.5, 1, 0], {"trials": np.array([2, 0, 3.0])}, "n_trials of y must be positive whole.*row 1"),
    ("binomial", None, [0.5, 1, 0], {"trials": np.array([2, 1, 3.5])}, "n_trials of y must be positive whole.*row 2"),
    ("binomial", None, [0.5, 1.5, 0], {"trials": np.full(3, 2.0)}, "more successes than trials: row 1"),
    ("binomial", None, [0.5, 0.3, 0], {"trials": np.full(3, 2.0)}, "not whole: row 1"),
]


@pytest.mark.parametrize(("name", "link", "y", "other", "message"), BAD)
def test_bad_data(name, link, y, other, message):
    with pytest.raises(ValueError, match=message):
        get_family(name, link).check(ResponseData(np.array(y, dtype=float), **other), "y")


def test_bad_ordinal():
    family = Cumulative("logit", ("low", "mid", "high"))
    with pytest.raises(ValueError, match="single category, 'mid'"):
        family.check(ResponseData(np.ones(4)), "y")
    with pytest.raises(ValueError, match="not categories 0 to 2: row 3"):
        family.check(ResponseData(np.arange(5.0)), "y")
    with pytest.raises(ValueError, match="two categories at least"):
        Cumulative("logit", ("only",))
    with pytest.raises(ValueError, match="there are logit, probit"):
        Cumulative("tobit", "ab")
    with pytest.raises(ValueError, match="must increase"):
        family.internal(np.array([1.0, 0.5]))
    with pytest.raises(ValueError, match="has no categories"):
        get_family("poisson").probabilities(np.zeros(2), np.empty(0))


# -- the registry ---------------------------------------------------------------------------


def test_names():
    assert repr(get_family("binomial", "cauchy")) == "Binomial(cauchit)"
    assert repr(get_family("Inverse-Gaussian")) == "InverseGaussian(inverse_squared)"
    assert repr(get_family(sm.families.Gamma)) == "Gamma(inverse)"
    assert repr(get_family(sm.families.Poisson(links.Sqrt()))) == "Poisson(sqrt)"
    assert repr(get_family("gaussian", links.Log)) == "Gaussian(log)"
    assert get_family("negativebinomial") == NegBin("nb2")
    assert get_family("nb1") == NegBin("nb1") != NegBin("nb2")
    assert get_family("poisson") == get_family(sm.families.Poisson())
    assert get_family("poisson") != get_family("poisson", "sqrt")
    family = get_family("binomial", "probit")
    assert get_family(family) is family
    assert (family.latent_variance, family.logit_link, family.log_link) == (1.0, False, False)
    assert get_family("binomial").latent_variance == pytest.approx(np.pi**2 / 3)
    assert get_family("binomial", "cauchit").latent_variance is None
    assert get_family("binomial").logit_link
    assert get_family("poisson").log_link
    assert Cumulative("logit", "ab").logit_link


@pytest.mark.parametrize(
    ("family", "link", "message"),
    [
        ("poison", None, "Did you mean 'poisson'"),
        ("binomial", "probyt", "Did you mean 'probit'"),
        ("zero-inflated poisson", None, "zero-inflated family is not available yet"),
        ("zip", None, "not available yet"),
        ("beta", None, "beta family is not available yet"),
        ("tweedie", None, "Tweedie family is not available yet.*Gamma"),
        (sm.families.Tweedie(), None, "Tweedie family is not available yet.*Gamma"),
        ("nb2", "identity", "log link only"),
        (sm.families.Poisson(), "sqrt", "has its link already"),
        (NegBin(), "identity", "has its link already"),
        (3, None, "must be a name"),
        ("poisson", 3, "link must be a name"),
    ],
)
def test_refused(family, link, message):
    with pytest.raises(ValueError, match=message):
        get_family(family, link)


def test_own_families():
    class NoLikelihood(sm.families.Family):
        pass

    class Wrong(OwnFamily):
        def loglike_obs(self, endog, mu, var_weights=1.0, scale=1.0):
            return -((endog - mu) ** 2)

    with pytest.raises(ValueError, match="has no log-likelihood"):
        get_family(NoLikelihood(links.Log(), sm.families.varfuncs.mu, check_link=False))
    with pytest.raises(ValueError, match="does not fit its variance function"):
        get_family(Wrong()).check(ResponseData(np.arange(9.0)), "y")
    eta, y = np.linspace(-1, 1, 9), ResponseData(np.arange(9.0))
    own, known = (f.bind(y).at(eta, np.empty(0)) for f in (get_family(OwnFamily()), get_family("poisson")))
    for name in ("logf", "score", "info", "info_slope", "expected_info"):
        np.testing.assert_allclose(getattr(own, name), getattr(known, name), rtol=1e-6)


def test_pickle(case):
    family, _, response, eta, psi = prepared(case)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(response)).at(eta, psi).logf, response.at(eta, psi).logf)
    assert pickle.loads(pickle.dumps(family)) == family
