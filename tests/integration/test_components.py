"""Standard errors and intervals of variance components, and intraclass correlations with theirs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from oracle_glmm import gradient_of, hessian_of
from scipy import stats
from scipy.special import polygamma
from statsmodels.tools.sm_exceptions import ConvergenceWarning

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel import sp
from sm_multilevel.datasets import cbpp, contraception, epil, penicillin, sleepstudy, wine

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def sleep():
    df = sleepstudy.load_pandas().data
    rng = np.random.default_rng(3)
    return df.assign(w=rng.uniform(0.5, 2.0, len(df)), n=rng.integers(1, 4, len(df)), half=df["Days"] >= 5)


def dense_deviance(y, x, blocks, weights, reml):
    """-2 log L as a function of the variance parameters (those of `blocks`, then sigma^2), beta at its optimum.

    Written from the normal density alone.
    """

    def value(phi):
        v = phi[-1] * np.diag(1.0 / weights)
        for z, cov in blocks:
            v = v + z @ cov(phi) @ z.T
        vi_x, vi_y = np.linalg.solve(v, x), np.linalg.solve(v, y)
        xvx = x.T @ vi_x
        beta = np.linalg.solve(xvx, x.T @ vi_y)
        r = y - x @ beta
        out = np.linalg.slogdet(v)[1] + r @ np.linalg.solve(v, r)
        return out + np.linalg.slogdet(xvx)[1] if reml else out

    return value


def indicator(codes):
    return (np.asarray(codes)[:, None] == np.unique(codes)[None]).astype(float)


def spread(columns, groups):
    """Z of columns that vary by group, level by level."""
    return np.hstack([(columns * g[:, None]) for g in indicator(groups).T])


def repeat(cov, levels):
    return np.kron(np.eye(levels), cov)


def check(result, frame, blocks, x, rtol=2e-5, weights=None):
    """Standard errors of all components against the dense likelihood's Hessian."""
    vc = result.varcorr(conf_int=True)
    phi = vc["vcov"].to_numpy(float)
    y = frame[result.model.endog_names].to_numpy(float)
    weights = np.ones(len(y)) if weights is None else weights
    deviance = dense_deviance(y, x, blocks, weights, result.reml)
    hessian = hessian_of(deviance, phi, 1e-3 * np.maximum(np.abs(phi), 0.05 * phi.max()))
    assert_allclose(vc["vcov_se"].to_numpy(), np.sqrt(np.diag(np.linalg.inv(0.5 * hessian))), rtol=rtol)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("weights", [None, "w"])
def test_slopes_against_the_dense_likelihood(sleep, reml, weights):
    result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep, var_weights=weights).fit(reml=reml)
    x = np.column_stack([np.ones(180), sleep["Days"]])
    z = spread(x, sleep["Subject"])
    blocks = [(z, lambda phi: repeat(np.array([[phi[0], phi[2]], [phi[2], phi[1]]]), 18))]
    check(result, sleep, blocks, x, weights=None if weights is None else sleep[weights].to_numpy())


def test_crossed_against_the_dense_likelihood():
    df = penicillin.load_pandas().data
    result = smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", df).fit()
    blocks = [
        (indicator(df["plate"]), lambda p: p[0] * np.eye(24)),
        (indicator(df["sample"]), lambda p: p[1] * np.eye(6)),
    ]
    check(result, df, blocks, np.ones((len(df), 1)))


def test_exchangeable_against_the_dense_likelihood():
    df = pd.read_csv(DATA / "machines.csv")
    result = smf.mixedlm("score ~ 1 + (0 + Machine | Worker)", df, covariance="exchangeable").fit()
    vc = result.varcorr(conf_int=True)
    z = spread(indicator(df["Machine"]), df["Worker"])
    # One variance and one covariance for all columns.
    blocks = [(z, lambda phi: repeat((phi[0] - phi[1]) * np.eye(3) + phi[1], 6))]
    phi = np.array([vc.loc[0, "vcov"], vc.loc[3, "vcov"], result.scale])
    deviance = dense_deviance(df["score"].to_numpy(), np.ones((54, 1)), blocks, np.ones(54), True)
    cov = np.linalg.inv(0.5 * hessian_of(deviance, phi, 1e-3 * phi))
    assert_allclose(vc["vcov_se"].iloc[[0, 3, 6]], np.sqrt(np.diag(cov)), rtol=2e-5)


def test_frequency_weights_are_rows(sleep):
    formula = "Reaction ~ Days + (Days | Subject)"
    weighted = smf.mixedlm(formula, sleep, freq_weights="n").fit()
    rows = smf.mixedlm(formula, sleep.loc[sleep.index.repeat(sleep["n"])].reset_index(drop=True)).fit()
    assert_allclose(weighted.varcorr(conf_int=True).iloc[:, 3:], rows.varcorr(conf_int=True).iloc[:, 3:], rtol=1e-6)


def test_units_and_origins(sleep):
    plain = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit().varcorr(conf_int=True)
    hours = sleep.assign(Days=sleep["Days"] * 24.0)
    scaled = smf.mixedlm("Reaction ~ Days + (Days | Subject)", hours).fit().varcorr(conf_int=True)
    assert_allclose(scaled.loc[1, "vcov_se"] * 24.0**2, plain.loc[1, "vcov_se"], rtol=1e-6)
    assert_allclose(
        scaled.loc[2, ["sdcor_se", "sdcor_lower"]].tolist(),
        plain.loc[2, ["sdcor_se", "sdcor_lower"]].tolist(),
        rtol=1e-6,
    )
    # The model does not change with the origin of a slope's covariate, nor do the slope's variance and the residual's.
    moved = smf.mixedlm("Reaction ~ Days + (I(Days - 4) | Subject)", sleep).fit().varcorr(conf_int=True)
    for row in (1, 3):
        assert_allclose(
            moved.loc[row, ["vcov_se", "vcov_upper"]].tolist(),
            plain.loc[row, ["vcov_se", "vcov_upper"]].tolist(),
            rtol=1e-6,
        )


def test_scales_of_the_intervals(sleep):
    vc = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit().varcorr(conf_int=True, alpha=0.1)
    z = stats.norm.ppf(0.95)
    variance, covariance = vc.loc[0], vc.loc[2]
    assert_allclose(variance["vcov_upper"], variance["vcov"] * np.exp(z * variance["vcov_se"] / variance["vcov"]))
    assert_allclose(variance["sdcor_upper"] ** 2, variance["vcov_upper"])
    assert_allclose(variance["sdcor_se"], variance["vcov_se"] / (2 * variance["sdcor"]))
    assert_allclose(covariance["vcov_lower"], covariance["vcov"] - z * covariance["vcov_se"])
    fisher = np.arctanh(covariance["sdcor"]) - z * covariance["sdcor_se"] / (1 - covariance["sdcor"] ** 2)
    assert_allclose(covariance["sdcor_lower"], np.tanh(fisher))


MODELS = {
    "binomial": lambda: smf.meglm(
        "incidence ~ period + (1 | herd)", cbpp.load_pandas().data, family="binomial", n_trials="size"
    ).fit(),
    "quadrature": lambda: smf.meglm(
        "incidence ~ period + (1 | herd)", cbpp.load_pandas().data, family="binomial", n_trials="size"
    ).fit(nAGQ=7),
    "negbin": lambda: smf.menbreg("y ~ trt + lbase + (1 | subject)", epil.load_pandas().data).fit(),
    "ordinal": lambda: smf.meologit("rating ~ temp + contact + (1 | judge)", wine.load_pandas().data).fit(),
}


@pytest.mark.parametrize("name", MODELS)
def test_generalised_models_against_the_hessian(name):
    """theta^2 is the variance: its standard error from model.hessian in (beta, psi, theta)."""
    result = MODELS[name]()
    nagq = {"nAGQ": result.nAGQ}
    cov = np.linalg.inv(-result.model.hessian(result.params_packed, **nagq))
    theta = result.theta[0]
    vc = result.varcorr(conf_int=True)
    assert_allclose(vc.loc[0, "vcov_se"], 2 * theta * np.sqrt(cov[-1, -1]), rtol=1e-4)
    assert_allclose(vc.loc[0, "sdcor_se"], np.sqrt(cov[-1, -1]), rtol=1e-4)
    if name in ("binomial", "ordinal"):
        icc = result.icc(conf_int=True).iloc[0]
        residual = np.pi**2 / 3
        assert_allclose(icc["estimate"], theta**2 / (theta**2 + residual))
        slope = residual / (theta**2 + residual) ** 2
        assert_allclose(icc["se"], slope * vc.loc[0, "vcov_se"], rtol=1e-6)


def test_negative_binomial_icc_has_the_uncertainty_of_all_parameters():
    """By hand: of theta, of alpha, and of the mean response at which the residual variance is taken."""
    result = MODELS["negbin"]()
    at = result.params_packed
    cov = np.linalg.inv(-result.model.hessian(at))
    x, null = result.model.exog, result.null_point()
    p = x.shape[1]

    def log_mean(v):
        return np.log(np.mean(np.exp(x @ v[:p] + 0.5 * v[-1] ** 2)))

    def icc(v):
        mean = np.exp(null.eta + 0.5 * null.spread + log_mean(v) - log_mean(at))
        residual = polygamma(1, 1.0 / (1.0 / mean + v[p]))
        return v[-1] ** 2 / (v[-1] ** 2 + residual)

    frame = result.icc(conf_int=True)
    assert_allclose(frame.loc["subject", "estimate"], icc(at), rtol=1e-10)
    assert frame.loc["subject", "estimate"] == pytest.approx(result.icc()["subject"])
    gradient = gradient_of(icc, at, np.full(len(at), 1e-4))
    assert_allclose(frame.loc["subject", "se"], np.sqrt(gradient @ cov @ gradient), rtol=1e-4)


def test_zero_variance_has_no_standard_error():
    df = pd.read_csv(DATA / "dyestuff2.csv")
    result = smf.mixedlm("Yield ~ 1 + (1 | Batch)", df).fit()
    vc = result.varcorr(conf_int=True)
    assert np.isnan(vc.loc[0, ["vcov_se", "sdcor_se"]].astype(float)).all()
    # The residual's is that of the regression.
    assert_allclose(vc.loc[1, "vcov_se"], result.scale * np.sqrt(2 / 29), rtol=1e-6)
    icc = result.icc(conf_int=True)
    assert icc.loc["Batch", "estimate"] == 0
    assert np.isnan(icc.loc["Batch", "se"])


def test_one_of_two_variances_is_zero(sleep):
    """The others have what the model without it gives them."""
    rng = np.random.default_rng(0)
    df = sleep.assign(g=rng.permutation(np.arange(180) % 12))
    df["Reaction"] = df["Reaction"] - df.groupby("g")["Reaction"].transform("mean")
    both = smf.mixedlm("Reaction ~ Days + (1 | Subject) + (1 | g)", df).fit()
    assert both.is_singular
    one = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit()
    a, b = both.varcorr(conf_int=True).set_index("grp"), one.varcorr(conf_int=True).set_index("grp")
    assert np.isnan(a.loc["g", "vcov_se"])
    for row in ("Subject", "Residual"):
        assert_allclose(a.loc[row].iloc[2:].astype(float), b.loc[row].iloc[2:].astype(float), rtol=1e-4)


# [ME] estat icc, example 1, https://www.stata.com/features/overview/intraclass-correlations-for-multilevel-models
STATA = {
    "Intercept": (2.128823, 0.1543854),
    "np.log(pc)": (0.2671484, 0.0212591),
    "np.log(emp)": (0.754072, 0.0261868),
    "np.log(hwy)": (0.0709767, 0.0230410),
    "np.log(water)": (0.0761187, 0.0139248),
    "np.log(util)": (-0.0999955, 0.0169366),
    "unemp": (-0.0058983, 0.0009031),
}
STATA_COMPONENTS = {
    "region": (0.0014506, 0.0012995, 0.0002506, 0.0083957),
    "state:region": (0.0062757, 0.0014871, 0.0039442, 0.0099855),
    "Residual": (0.0013461, 0.0000689, 0.0012176, 0.0014882),
}
STATA_ICC = {"region": (0.159893, 0.127627, 0.0287143, 0.5506202)}


def test_stata_productivity():
    df = pd.read_csv(DATA / "produc.csv")
    fixed = " + ".join(list(STATA)[1:])
    result = smf.mixedlm(f"np.log(gsp) ~ {fixed} + (1 | region/state)", df).fit(reml=False)
    assert round(result.llf, 4) == pytest.approx(1430.5017, abs=1.5e-4)
    for name, (coef, se) in STATA.items():
        assert_allclose([result.params[name], result.bse[name]], [coef, se], atol=2e-6)
    vc = result.varcorr(conf_int=True).set_index("grp")
    for name, want in STATA_COMPONENTS.items():
        assert_allclose(vc.loc[name, ["vcov", "vcov_se", "vcov_lower", "vcov_upper"]].astype(float), want, atol=1.01e-7)
    icc = result.icc(conf_int=True)
    for name, want in STATA_ICC.items():
        assert_allclose(icc.loc[name], want, atol=2e-6)


def test_icc_of_slopes(sleep):
    result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit()
    vc = result.varcorr()["vcov"].to_numpy(float)
    assert result.icc()["Subject"] == pytest.approx(vc[0] / (vc[0] + vc[3]))
    mean, square = sleep["Days"].mean(), (sleep["Days"] ** 2).mean()
    part = vc[0] + 2 * mean * vc[2] + square * vc[1]
    assert result.icc(slopes="average")["Subject"] == pytest.approx(part / (part + vc[3]))
    r2 = result.r_squared()
    assert part == pytest.approx(r2["var_random"])
    frame = result.icc(conf_int=True, slopes="average")
    assert frame.loc["Subject", "estimate"] == pytest.approx(part / (part + vc[3]))
    assert (
        0 < frame.loc["Subject", "ci_lower"] < frame.loc["Subject", "estimate"] < frame.loc["Subject", "ci_upper"] < 1
    )


@pytest.mark.parametrize("method", ["wald", "profile"])
@pytest.mark.parametrize("slopes", ["zero", "average"])
def test_icc_intervals_do_not_depend_on_units(sleep, method, slopes):
    options = {"conf_int": True, "method": method, "slopes": slopes}
    plain = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit().icc(**options)
    for size, time in ((1e-5, 86400.0), (1e6, 1e-4)):
        other = sleep.assign(Reaction=sleep["Reaction"] * size, Days=sleep["Days"] * time)
        got = smf.mixedlm("Reaction ~ Days + (Days | Subject)", other).fit().icc(**options)
        assert_allclose(got, plain, rtol=1e-5)


def test_icc_of_a_generalised_model_does_not_depend_on_units():
    df = contraception.load_pandas().data
    results = [smf.melogit("use ~ age + (age | district)", df.assign(age=df["age"] * c)).fit() for c in (1.0, 1e4)]
    for scale in ("latent", "observation"):
        one, other = (r.icc(scale, conf_int=True) for r in results)
        assert_allclose(other, one, rtol=1e-4)


@pytest.mark.parametrize("ratio", [1e2, 1e4])
def test_large_variance_ratios(ratio):
    """Balanced data: the exact standard errors of analysis of variance, to what is promised of standard errors."""
    rng = np.random.default_rng(1)
    groups, rows = 30, 6
    codes = np.repeat(np.arange(groups), rows)
    y = ratio * rng.normal(size=groups)[codes] + rng.normal(size=codes.size)
    vc = smf.mixedlm("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": codes})).fit().varcorr(conf_int=True)
    between, within = groups - 1, groups * (rows - 1)
    variance, residual = vc["vcov"].to_numpy(float)
    exact = np.sqrt(2 * (residual + rows * variance) ** 2 / between + 2 * residual**2 / within) / rows
    assert_allclose(vc["vcov_se"], [exact, residual * np.sqrt(2 / within)], rtol=1e-4)


def test_noise_with_a_slope_is_exactly_zero():
    """All variances end at zero: not at rounding, of which correlations and intervals would be made."""
    rng = np.random.default_rng(1)
    df = pd.DataFrame({"g": np.repeat(np.arange(30), 6), "z": rng.normal(size=180), "x": rng.normal(size=180)})
    result = smf.mixedlm("z ~ x + (x | g)", df).fit()
    assert result.is_singular
    vc = result.varcorr(conf_int=True)
    assert vc.loc[[0, 1], "vcov"].tolist() == [0.0, 0.0]
    assert np.isnan(vc.loc[2, "sdcor"])
    icc = result.icc(conf_int=True).loc["g"]
    assert icc["estimate"] == 0.0
    assert icc["ci_lower"] == 0.0
    assert np.isnan(icc["se"])
    assert 0.0 < icc["ci_upper"] < 0.2


def test_no_random_intercept(sleep):
    result = smf.mixedlm("Reaction ~ Days + (0 + Days | Subject)", sleep).fit()
    assert result.icc() == {}
    with pytest.raises(ValueError, match="slopes='average'"):
        result.icc(conf_int=True)
    assert 0 < result.icc(slopes="average")["Subject"] < 1


def test_no_intervals_without_convergence(sleep):
    with pytest.warns(ConvergenceWarning):
        result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit(maxiter=1, start_params=[9.0, 1.0, 9.0])
    for call in (result.varcorr, result.icc):
        with pytest.raises(ValueError, match="converge"):
            call(conf_int=True, method="profile")


def test_observation_scale_of_the_normal_family(sleep):
    linear = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit(reml=False)
    glm = smf.meglm("Reaction ~ Days + (1 | Subject)", sleep, family="gaussian").fit()
    assert_allclose(glm.icc(conf_int=True), linear.icc(conf_int=True), rtol=1e-4)
    assert_allclose(glm.icc("observation", conf_int=True), linear.icc(conf_int=True), rtol=1e-3)


BAD = {
    "method": (lambda r: r.varcorr(conf_int=True, method="bayes"), ValueError, "method='bayes'"),
    "alpha": (lambda r: r.varcorr(conf_int=True, alpha=1.5), ValueError, "alpha=1.5"),
    "flag": (lambda r: r.varcorr(conf_int="yes"), ValueError, "conf_int='yes'"),
    "option": (lambda r: r.varcorr(conf_int=True, seed=3), ValueError, r"varcorr\(\): seed= belongs to method='boot'"),
    "unknown option": (lambda r: r.varcorr(conf_int=True, method="boot", seeds=3), TypeError, "Did you mean 'seed'"),
    "few replicates": (lambda r: r.varcorr(conf_int=True, method="boot", n=10), ValueError, "at least 39"),
    "no intervals": (lambda r: r.varcorr(method="profile"), ValueError, "conf_int=True"),
    "icc no intervals": (lambda r: r.icc(alpha=0.1), ValueError, "conf_int=True"),
    "icc alpha": (lambda r: r.icc(conf_int=True, alpha=0), ValueError, "alpha=0"),
    "icc scale": (lambda r: r.icc(scale="logit"), ValueError, "scale='logit'"),
    "icc slopes": (lambda r: r.icc(slopes="mean"), ValueError, "slopes='mean'"),
    "icc method": (lambda r: r.icc(conf_int=True, method="profil"), ValueError, "Did you mean 'profile'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_inputs(sleep, name):
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call(smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit())


def test_after_remove_data(sleep):
    result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit()
    before = result.varcorr(conf_int=True)
    result.remove_data()
    pd.testing.assert_frame_equal(result.varcorr(conf_int=True), before)
    with pytest.raises(ValueError, match="remove_data"):
        result.icc(conf_int=True)


def test_statspai_and_array_spellings():
    df = sleepstudy.load_pandas().data
    result = sp.mixed(df, y="Reaction", x_fixed=["Days"], group="Subject")
    want = result.icc(conf_int=True, alpha=0.1).loc["Subject"]
    got = sp.icc(result, alpha=0.1)
    assert [float(got), got.se, got.ci_lower, got.ci_upper] == want.tolist()
    assert sp.icc(result, "Subject", alpha=0.1) == got
    pd.testing.assert_frame_equal(smm.icc(result), result.icc(conf_int=True))
    crossed = smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin.load_pandas().data).fit()
    assert float(sp.icc(crossed, "plate")) == crossed.icc()["plate"]
    with pytest.raises(ValueError, match=r"component=None.*'plate'"):
        sp.icc(crossed)
    with pytest.raises(ValueError, match=r"component='plates'.*Did you mean 'plate'"):
        sp.icc(crossed, "plates")
    with pytest.raises(ValueError, match="n_boot=-1"):
        sp.icc(crossed, "plate", n_boot=-1)
