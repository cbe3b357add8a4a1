"""Cluster-robust covariance: clubSandwich's figures, dense matrices, statsmodels where nothing varies, and words."""

import json
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from scipy import linalg
from statsmodels.tools.sm_exceptions import ConvergenceWarning, ValueWarning

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

import oracle_glmm as oracle
from test_group_scores import linear_case, linear_model

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, contraception, epil, penicillin, sleepstudy, wine
from sm_multilevel.objectives.scores import marginal_scores
from sm_multilevel.postestimation.robust.bias_reduced import ClusterSatterthwaite

ROOT = Path(__file__).parents[2]
REFERENCE = json.loads((ROOT / "tests" / "reference" / "inference_robust.json").read_text())
PLAIN = [f for f in REFERENCE["fits"] if "CR0" in f]


def quiet(model, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(**kwargs)


@pytest.fixture(scope="module")
def sleep():
    return sleepstudy.load_pandas().data


@pytest.fixture(scope="module")
def slopes(sleep):
    return smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit()


# -- clubSandwich --------------------------------------------------------------------------------


def reference_frame(fit):
    entry = REFERENCE["data"][fit["data"]]
    df = pd.read_csv(ROOT / entry["file"])
    if fit.get("rows"):
        df = df.query(fit["rows"])
    for column, levels in (entry.get("factors") or {}).items():
        df[column] = pd.Categorical(df[column], categories=levels)
    return df


@pytest.mark.parametrize("fit", PLAIN, ids=lambda f: f"{f['id']}-{'REML' if f['reml'] else 'ML'}")
def test_as_clubsandwich(fit):
    """Standard errors to 1e-6, degrees of freedom of t and HTZ tests to 1e-3; they agree to 1e-7."""
    weights = {"var_weights": fit["weights"]} if fit.get("weights") else {}
    result = quiet(smf.mixedlm(fit["formula"], reference_frame(fit), **weights), reml=fit["reml"])
    order = [result.model.exog_names.index(name) for name in fit["python_names"]]
    eye = np.eye(len(order))[order]
    for correction in ("CR0", "CR1", "CR1S", "CR2"):
        there = fit[correction]
        alone = {} if fit["reml"] or correction == "CR2" else {"joint": False}
        ours = result.get_robustcov_results(correction, groups=fit["cluster"], df="satterthwaite", **alone)
        test = ours.t_test(eye)
        cov = np.asarray(ours.cov_params())[np.ix_(order, order)]
        size = np.array(there["se"])
        assert np.abs((cov - np.array(there["vcov"])) / np.outer(size, size)).max() < 1e-6
        assert_allclose(test.sd.ravel(), size, rtol=1e-6)
        assert_allclose(test.df_denom, there["df"], rtol=1e-5)
        assert_allclose(test.pvalue, there["p"], rtol=1e-4)
        assert_allclose(np.asarray(ours.df_coef)[order], there["df"], rtol=1e-5)
        for hypothesis, wald in zip(fit["tests"], there["wald"], strict=True):
            joint = ours.wald_test(eye[hypothesis["columns"]], scalar=True)
            assert_allclose(joint.statistic, wald["F"], rtol=1e-6)
            assert_allclose(joint.df_denom, wald["den_df"], rtol=1e-5)
            assert_allclose(joint.pvalue, wald["p"], rtol=1e-4)
    assert len(PLAIN) >= 19


# -- dense matrices ------------------------------------------------------------------------------


def dense(model, result):
    """Rows repeated by their frequency: X, y, block of each row, relative V, from theta alone."""
    freq = np.ones(len(model.endog), int) if model.freq_weights is None else model.freq_weights.astype(int)
    rows = np.repeat(np.arange(len(freq)), freq)
    var = np.ones(len(freq)) if model.var_weights is None else model.var_weights
    v = np.diag(1.0 / var[rows])
    for term, part in zip(model.random, model.effects.per_term(result.theta), strict=True):
        lam = term.covariance.factor(part, term.q)
        z = term.exog[rows]
        same = term.codes[rows][:, None] == term.codes[rows][None, :]
        v += (z @ lam @ lam.T @ z.T) * same
    return model.design.exog[rows], model.endog[rows], model.data.frame["block"].to_numpy()[rows], v


def dense_sandwich(x, y, blocks, v, adjust):
    """Covariance of beta and the matrix of the parts p_i of Pustejovsky and Tipton (2018), everything n x n."""
    w = np.linalg.inv(v)
    bread = np.linalg.inv(x.T @ w @ x)
    whole = np.eye(len(y)) - x @ bread @ x.T @ w
    r = whole @ y
    meat, parts = np.zeros((x.shape[1],) * 2), []
    for b in np.unique(blocks):
        here = blocks == b
        vi, xi, wi = v[np.ix_(here, here)], x[here], w[np.ix_(here, here)]
        a = np.eye(here.sum())
        if adjust:
            d = linalg.cholesky(vi)
            values, vectors = np.linalg.eigh(d @ (vi - xi @ bread @ xi.T) @ d.T)
            power = np.where(values > 1e-10 * values.max(), np.abs(values) ** -0.5, 0.0)
            a = d.T @ (vectors * power) @ vectors.T @ d
        s = xi.T @ wi @ a @ r[here]
        meat += np.outer(s, s)
        parts.append(whole[here].T @ a.T @ wi @ xi @ bread)
    return bread @ meat @ bread, parts


def dense_df(parts, v, c):
    p = np.column_stack([part @ c for part in parts])
    omega = p.T @ v @ p
    return np.trace(omega) ** 2 / np.sum(omega**2)


@pytest.mark.parametrize("adjust", [False, True])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("reml", [False, True])
def test_crossed_in_blocks_against_dense_matrices(adjust, weights, reml):
    """Two factors crossed within blocks, with precision and frequency weights; a slope."""
    frame = linear_case(7, weights)
    model = linear_model(frame)
    result = model.fit(reml=reml)
    x, y, blocks, v = dense(model, result)
    cov, parts = dense_sandwich(x, y, blocks, v, adjust)
    ours = result.get_robustcov_results("CR2" if adjust else "CR0", groups="block", joint=False, df="satterthwaite")
    size = np.sqrt(np.diag(cov))
    assert np.abs((np.asarray(ours.cov_params()) - cov) / np.outer(size, size)).max() < 1e-9
    contrasts = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -2.0]])
    assert_allclose(ours.t_test(contrasts).df_denom, [dense_df(parts, v, c) for c in contrasts], rtol=1e-8)


def htz(parts, v, rows):
    """eta by the sum over all elements of the covariance of R V R', none left out."""
    p = np.stack([part @ rows.T for part in parts])  # m, n, q
    omega = sum(a.T @ v @ a for a in p)
    values, vectors = np.linalg.eigh(omega)
    p = p @ (vectors / np.sqrt(values)) @ vectors.T
    both = np.einsum("ins,nk,jkt->ijst", p, v, p)
    q = len(rows)
    total = sum(
        np.sum(both[:, :, s, s] * both[:, :, t, t] + both[:, :, s, t] * both[:, :, t, s])
        for s in range(q)
        for t in range(q)
    )
    return q * (q + 1) / total


def test_joint_test_against_all_elements():
    rng = np.random.default_rng(4)
    frame = linear_case(9)
    frame["block"] = frame["g"]
    frame["z"], frame["u"] = rng.normal(size=(2, len(frame)))
    model = smm.MixedLM.from_formula("y ~ x + z + u + (x | g)", frame, var_weights="v", freq_weights="f")
    result = model.fit()
    ours = result.get_robustcov_results("CR2")
    x, y, blocks, v = dense(model, result)
    _, parts = dense_sandwich(x, y, blocks, v, True)
    rows = np.eye(4)[1:]
    rows[0, 2] = -1.0
    eta = htz(parts, v, rows)
    factor, df = ours.reference.f_df(rows)
    assert_allclose([factor, df], [(eta - 2) / eta, eta - 2], rtol=1e-8)
    assert_allclose(ours.reference.f_df(rows[:1]), [1.0, ours.reference.t_df(rows[:1])[0]], rtol=1e-10)


def dense_loglike(x, y, z, codes, structure, params):
    """Full log-likelihood of some rows; params are beta, sigma^2 and theta."""
    p = x.shape[1]
    beta, s2, theta = params[:p], params[p], params[p + 1 :]
    lam = structure(theta)
    v = s2 * (np.eye(len(y)) + (z @ lam @ lam.T @ z.T) * (codes[:, None] == codes))
    r = y - x @ beta
    return -0.5 * (len(y) * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + r @ np.linalg.solve(v, r))


def fourth_order(function, at, step):
    out = []
    for j in range(len(at)):
        d = step[j] * np.eye(len(at))[j]
        out.append(8 * (function(at + d) - function(at - d)) - (function(at + 2 * d) - function(at - 2 * d)))
    return np.array(out) / (12 * step.reshape(-1, *[1] * (np.ndim(out[0]))))


def test_joint_sandwich_against_a_dense_likelihood(sleep):
    """Scores and Hessian by differences of dense log-likelihoods, cluster by cluster."""
    df = sleep.iloc[np.random.default_rng(0).permutation(180)[:150]]
    result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit(reml=False)
    robust = result.get_robustcov_results("CR0")
    x = result.model.design.exog
    y, codes = result.model.endog, result.model.random[0].codes

    def structure(t):
        return np.array([[t[0], 0.0], [t[1], t[2]]])

    at = np.asarray(result.params_packed)
    step = np.array([1e-2, 1e-3, 1e-1, 1e-4, 1e-4, 1e-4])

    def score(params, keep):
        return fourth_order(lambda v: dense_loglike(x[keep], y[keep], x[keep], codes[keep], structure, v), params, step)

    scores = np.array([score(at, codes == g) for g in range(codes.max() + 1)])
    whole = np.ones(len(y), bool)
    hessian = fourth_order(lambda v: score(v, whole), at, 10 * step)
    inverse = np.linalg.inv(0.5 * (hessian + hessian.T))
    cov = (inverse @ scores.T @ scores @ inverse)[:2, :2]
    assert_allclose(np.asarray(robust.cov_params()), cov, rtol=2e-5)
    alone = np.asarray(result.get_robustcov_results("CR0", joint=False).cov_params())
    assert np.abs(alone / cov - 1).max() > 1e-3  # beta and theta are not independent in the observed information


def oracle_case(kind):
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(14), 7)
    df = pd.DataFrame({"g": g, "x": rng.normal(size=98), "f": rng.integers(1, 3, 98)})
    latent = 0.8 * df["x"] + rng.normal(size=14)[g] + rng.logistic(size=98)
    df["y"] = np.digitize(latent, [-0.5, 1.0]) if kind == "ordinal" else (latent > 0).astype(int)
    return df


@pytest.mark.parametrize("kind", ["binomial", "ordinal"])
def test_joint_sandwich_against_brute_force_integrals(kind):
    """Scores and Hessian by differences of integrals of each cluster's likelihood on a fine grid."""
    df = oracle_case(kind)
    if kind == "ordinal":
        result = smf.meologit("y ~ x + (1 | g)", df, freq_weights="f").fit(nAGQ=41, cov_type="CR0")
    else:
        result = smf.melogit("y ~ x + (1 | g)", df, freq_weights="f").fit(nAGQ=41, cov_type="CR0")
    at = np.asarray(result.params_packed)
    p = result.model.k_fixed
    x = df[["x"]].to_numpy() if kind == "ordinal" else np.column_stack([np.ones(98), df["x"]])
    y = df["y"].to_numpy()
    y = y if kind == "ordinal" else np.column_stack([y, np.ones(98)])
    weights, g = df["f"].to_numpy(float), df["g"].to_numpy()
    density = oracle.density_of(kind, "logit")

    def problem(params):
        terms = [(g, np.ones((98, 1)), [[params[-1] ** 2]])]
        return y, x, params[:p], np.zeros(98), terms, density, tuple(params[p:-1]), weights

    def loglikes(params):
        return oracle.SingleFactor(*problem(params)).trapezoid(129)  # of each cluster

    assert loglikes(at).sum() == pytest.approx(oracle.integrate(*problem(at)), abs=1e-9)
    step = np.full(len(at), 2e-3)
    scores = fourth_order(loglikes, at, step).T
    hessian = fourth_order(lambda v: fourth_order(lambda u: loglikes(u).sum(), v, step), at, 5 * step)
    inverse = np.linalg.inv(0.5 * (hessian + hessian.T))
    cov = inverse @ scores.T @ scores @ inverse
    size = np.sqrt(np.diag(cov)[:-1])
    ours = np.asarray(result.cov_params())
    assert np.abs((ours - cov[:-1, :-1]) / np.outer(size, size)).max() < 1e-4
    # theta in the user's column: an intercept, of which only the scale differs.
    theta = np.sqrt(result.cov_kwds["cov_joint"][-1, -1])
    assert_allclose(theta * result.model.effects.standardizers[0][0, 0], np.sqrt(cov[-1, -1]), rtol=1e-4)


def test_gaussian_glmm_has_the_joint_sandwich_of_the_linear_model(sleep):
    df = sleep.iloc[np.random.default_rng(1).permutation(180)[:140]]
    formula = "Reaction ~ Days + (1 | Subject)"
    linear = smf.mixedlm(formula, df).fit(reml=False, cov_type="robust")
    other = smf.meglm(formula, df, family=sm.families.Gaussian()).fit(cov_type="robust")
    assert_allclose(np.asarray(other.bse)[:2], np.asarray(linear.bse), rtol=1e-4)
    # sigma^2 is a parameter of both.
    assert_allclose(other.bse["dispersion"] ** 2, linear.cov_kwds["cov_joint"][-1, -1], rtol=1e-3)


# -- statsmodels, where no variance is left ---------------------------------------------------------


def unclustered(family, n=600, seed=0):
    rng = np.random.default_rng(seed)
    df = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n), "g": rng.integers(0, 30, n)})
    eta = 0.3 + 0.5 * df["x"] - 0.2 * df["z"]
    draws = {
        "binomial": lambda: (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float),
        "poisson": lambda: rng.poisson(np.exp(eta)).astype(float),
        "gaussian": lambda: eta + rng.normal(size=n),
    }
    df["y"] = draws[family]()
    # Within groups as equal as a regression can tell, so that the variance is estimated as zero.
    return df


FAMILIES = {"binomial": sm.families.Binomial(), "poisson": sm.families.Poisson()}


@pytest.mark.parametrize("nAGQ", [1, 5])
@pytest.mark.parametrize("name", FAMILIES)
def test_scores_without_variance_are_those_of_a_glm(name, nAGQ):
    df = unclustered(name)
    glm = sm.GLM.from_formula("y ~ x + z", df, family=FAMILIES[name]).fit(tol=1e-12)
    model = smf.meglm("y ~ x + z + (1 | g)", df, family=FAMILIES[name])
    objective = model.objective(nAGQ)
    state = objective.user_state(glm.params.to_numpy(), [], np.zeros(1))
    order = model.bound().order
    codes = model.random[0].codes
    scores = marginal_scores(state, model.effects.basis, codes if order is None else codes[order], 30)
    ours = np.linalg.solve(model.space().change.T, scores[:, :3].T).T
    theirs = pd.DataFrame(glm.model.score_obs(glm.params)).groupby(codes).sum().to_numpy()
    assert np.abs(ours - theirs).max() < 1e-8
    assert np.abs(scores[:, 3]).max() < 1e-10  # zero is a stationary point of theta


def seed_without_variance(family):
    for seed in range(20):
        df = unclustered(family, seed=seed)
        options = {"family": FAMILIES[family]} if family in FAMILIES else {}
        result = quiet((smf.meglm if options else smf.mixedlm)("y ~ x + z + (1 | g)", df, **options))
        if result.is_singular:
            return df, result
    raise AssertionError("no singular fit")


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("name", ["binomial", "poisson", "gaussian"])
def test_singular_fit_has_the_cluster_covariance_of_statsmodels(name, correction):
    df, result = seed_without_variance(name)
    codes = df["g"].to_numpy()
    kwds = {"groups": codes, "use_correction": correction}
    if name == "gaussian":
        plain = sm.OLS.from_formula("y ~ x + z", df)
    else:
        plain = sm.GLM.from_formula("y ~ x + z", df, family=FAMILIES[name])
    theirs = plain.fit(cov_type="cluster", cov_kwds=kwds)
    ours = result.get_robustcov_results("cluster", groups="g", use_correction=correction)
    # Of GLMs the observed information comes from differences of the exact gradient.
    tol = 1e-8 if name == "gaussian" else 2e-5
    size = np.outer(theirs.bse, theirs.bse)
    assert_allclose(np.asarray(ours.cov_params())[:3, :3] / size, theirs.cov_params() / size, rtol=0, atol=tol)
    if name == "gaussian":
        by_ml = quiet(result.model, reml=False).get_robustcov_results("cluster", groups="g", use_correction=correction)
        assert_allclose(np.asarray(by_ml.cov_params()), theirs.cov_params().to_numpy(), rtol=1e-7)


# -- jackknife -----------------------------------------------------------------------------------------


def jackknife(df, group, fit):
    estimates = np.array([fit(df[df[group] != level]) for level in df[group].unique()])
    m = len(estimates)
    return np.sqrt((m - 1) / m * ((estimates - estimates.mean(axis=0)) ** 2).sum(axis=0))


def test_jackknife_of_a_logistic_model():
    """Every district left out once, the model fitted again: variances and all."""
    df = contraception.load_pandas().data

    def fit(part):
        return smf.melogit("use ~ urban + age + (1 | district)", part).fit()

    result = fit(df).get_robustcov_results()
    assert result.cov_kwds["n_groups"] == 60
    ratio = np.asarray(result.bse) / jackknife(df, "district", lambda part: np.asarray(fit(part).params))
    assert np.abs(ratio - 1).max() < 0.04


def test_jackknife_of_an_ordinal_model():
    df = wine.load_pandas().data
    formula = "rating ~ temp + contact + (1 | judge)"
    result = smf.meologit(formula, df).fit(cov_type="robust")
    spread = jackknife(df, "judge", lambda part: np.asarray(smf.meologit(formula, part).fit().params))
    assert np.abs(np.asarray(result.bse) / spread - 1).max() < 0.35  # nine judges
    assert (np.abs(np.asarray(result.bse) / spread - 1)[:2] < 0.25).all()


def test_jackknife_of_a_linear_model(sleep):
    result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit()
    spread = jackknife(
        sleep, "Subject", lambda part: np.asarray(smf.mixedlm("Reaction ~ Days + (1 | Subject)", part).fit().params)
    )
    assert_allclose(np.asarray(result.get_robustcov_results("CR2").bse), spread, rtol=0.05)


# -- invariances -----------------------------------------------------------------------------------------


def changed(frame, how):
    rng = np.random.default_rng(0)
    out = frame.copy()
    if how == "order":
        return out.iloc[rng.permutation(len(out))]
    if how == "labels":
        out["g"] = "level " + (97 - out["g"]).astype(str)
        out["block"] = out["block"].map(lambda b: ("w", "a", "q", "b")[b])
    if how == "scale":
        out["x"] = 1e4 + 0.01 * out["x"]
    if how == "weights":
        out["v"] *= 50.0
    if how == "offset":
        out["o"] = out["x"] ** 2
        out["y"] += out["o"]
    if how == "split":
        out = out.loc[out.index.repeat(out["f"])].assign(f=1).reset_index(drop=True)
    return out


@pytest.mark.parametrize("how", ["order", "labels", "scale", "weights", "split", "offset"])
@pytest.mark.parametrize(("cov_type", "reml"), [("CR1", True), ("CR1S", False), ("CR2", True)])
def test_invariances_of_linear_models(how, cov_type, reml):
    def robust(frame):
        model = linear_model(frame, offset="o" if "o" in frame else None)
        return model.fit(reml=reml, cov_type=cov_type, cov_kwds={"groups": "block"})

    frame = linear_case(5)
    ours, other = robust(frame), robust(changed(frame, how))
    scale = 0.01 if how == "scale" else 1.0
    assert_allclose(other.bse["x"] * scale, ours.bse["x"], rtol=2e-6)
    if cov_type == "CR2":
        assert_allclose(other.df_coef["x"], ours.df_coef["x"], rtol=1e-5)
    if how != "scale":
        assert_allclose(other.bse["Intercept"], ours.bse["Intercept"], rtol=2e-6)


@pytest.mark.parametrize("how", ["order", "labels", "scale", "split"])
@pytest.mark.parametrize("nAGQ", [1, 5])
def test_invariances_of_generalised_models(how, nAGQ):
    def robust(frame):
        model = smf.mepoisson("count ~ x + (1 | g)", frame, freq_weights="f")
        return model.fit(nAGQ=nAGQ, cov_type="cluster", cov_kwds={"groups": "block"})

    frame = linear_case(6)
    rng = np.random.default_rng(3)
    frame["count"] = rng.poisson(np.exp(0.05 * frame["x"] + 0.5 * rng.normal(size=12)[frame["g"]]))
    ours, other = robust(frame), robust(changed(frame, how))
    scale = 0.01 if how == "scale" else 1.0
    assert_allclose(other.bse["x"] * scale, ours.bse["x"], rtol=1e-4)


def test_misspecification(sleep):
    """The slope varies and the model does not know: only the robust standard error is that of the estimates."""
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(40), 6)
    t = np.tile(np.arange(6.0), 40)
    slopes, plain, robust = [], [], []
    for _ in range(200):
        y = rng.normal(size=40)[g] + (0.5 + 0.5 * rng.normal(size=40)[g]) * t + rng.normal(size=240)
        result = smm.MixedLM(y, np.column_stack([np.ones(240), t]), g).fit()
        slopes.append(result.params[1])
        plain.append(result.bse[1])
        robust.append(result.get_robustcov_results("CR2").bse[1])
    spread = np.std(slopes, ddof=1)
    assert np.mean(robust) == pytest.approx(spread, rel=0.12)  # 2.4 Monte-Carlo errors
    assert np.mean(plain) < 0.75 * spread


# -- what a result is afterwards -------------------------------------------------------------------------


def test_fit_and_method_are_the_same_and_change_nothing(sleep, slopes):
    before = np.asarray(slopes.bse).copy()
    ours = slopes.get_robustcov_results("cluster", groups="Subject", correction="CR2")
    by_fit = slopes.model.fit(cov_type="cluster", cov_kwds={"groups": "Subject", "correction": "CR2"})
    assert_allclose(by_fit.bse, ours.bse, rtol=1e-12)
    assert_allclose(np.asarray(slopes.bse), before)
    assert slopes.cov_type == "nonrobust"
    assert ours.cov_type == "cluster"
    assert isinstance(ours.reference, ClusterSatterthwaite)
    back = ours.get_robustcov_results("nonrobust")
    assert_allclose(np.asarray(back.bse), before)
    assert_allclose(np.asarray(back.pvalues), np.asarray(slopes.pvalues))
    assert back.reference is None
    assert not back.use_t


def test_default_is_the_top_level_and_cr1(sleep, slopes):
    robust = slopes.get_robustcov_results()
    zero = slopes.get_robustcov_results("CR0")
    assert_allclose(np.asarray(robust.bse) / np.asarray(zero.bse), np.sqrt(18 / 17))
    assert robust.cov_kwds["n_groups"] == 18
    text = str(robust.summary())
    assert "robust (CR1)" in text
    assert "18 clusters by Subject" in text
    assert "few" not in text
    assert "those of variances are model-based" in " ".join(text.split())


def test_few_clusters_are_said_to_be_few():
    df = wine.load_pandas().data
    result = smf.meologit("rating ~ temp + (1 | judge)", df).fit(cov_type="robust")
    assert "few" in " ".join(str(result.summary()).split())


def test_nested_levels_are_clustered_at_the_coarsest():
    df = pd.read_csv(ROOT / "tests" / "data" / "oats.csv")
    result = smf.mixedlm('Q("yield") ~ nitro + (1 | Block/Variety)', df).fit(cov_type="robust")
    assert result.cov_kwds["group_name"] == "Block"
    assert result.cov_kwds["n_groups"] == 6
    components = smf.mixedlm(
        'Q("yield") ~ nitro', df, groups="Block", vc_formula={"v": "0 + C(Variety)"}, re_formula="1"
    ).fit(cov_type="robust")
    assert_allclose(components.bse, result.bse, rtol=1e-5)
    only = smf.mixedlm('Q("yield") ~ nitro', df, groups="Block", vc_formula={"v": "0 + C(Variety)"})
    assert only.fit(cov_type="robust").cov_kwds["n_groups"] == 6


@pytest.mark.parametrize(
    ("options", "name", "df"),
    [
        ({"use_t": True}, "clusters", 17),
        ({"df": "clusters"}, "clusters", 17),
        ({"df_correction": True}, "clusters", 17),
        ({"use_t": True, "df_correction": False}, "residual", 178),
        ({"df": "residual"}, "residual", 178),
        ({"correction": "CR2", "df": "normal"}, None, np.inf),
        ({"df_correction": False}, None, np.inf),
    ],
)
def test_degrees_of_freedom(slopes, options, name, df):
    robust = slopes.get_robustcov_results("robust", **options)
    assert (robust.reference.name if robust.reference else None) == name
    assert_allclose(robust.df_coef, df)


def test_use_t_of_fit_means_clusters(sleep):
    model = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep)
    assert_allclose(model.fit(cov_type="robust", use_t=True).df_coef, 17)
    assert_allclose(model.fit(cov_type="robust", df="residual").df_coef, 178)
    assert_allclose(model.fit(cov_type="CR2", df="normal").df_coef, np.inf)


def test_everything_follows(slopes):
    robust = slopes.get_robustcov_results("CR2")
    half = np.asarray(robust.conf_int()).T - np.asarray(robust.params)
    from scipy import stats

    assert_allclose(half[1], stats.t.ppf(0.975, robust.df_coef) * robust.bse, rtol=1e-10)
    test = robust.t_test("Days = 0")
    assert_allclose(test.sd.item(), robust.bse["Days"])
    assert_allclose(robust.wald_test("Days = 0", scalar=True).statistic, test.tvalue.item() ** 2)
    assert_allclose(robust.pvalues["Days"], test.pvalue)
    prediction = robust.get_prediction(pd.DataFrame({"Days": [0.0]}), include_random=False)
    assert_allclose(prediction.summary_frame()["mean_se"].iloc[0], robust.bse["Intercept"])


def test_odds_ratios_follow():
    df = contraception.load_pandas().data
    result = smf.melogit("use ~ urban + age + (1 | district)", df).fit(cov_type="CR1")
    interval = result.odds_ratios().loc["age", ["lower", "upper"]]
    assert_allclose(np.log(interval.to_numpy(float)), np.asarray(result.conf_int())[2], rtol=1e-10)


@pytest.mark.parametrize("by_array", [False, True])
def test_refit_update_pickle_and_remove_data(sleep, by_array):
    groups = sleep["Subject"].to_numpy() if by_array else "Subject"
    model = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep)
    result = model.fit(cov_type="cluster", cov_kwds={"groups": groups})
    again = result.refit(sleep["Reaction"])
    assert again.cov_type == "cluster"
    assert_allclose(again.bse, result.bse, rtol=1e-6)
    smaller = result.update(". ~ . - (Days | Subject) + (1 | Subject)")
    assert smaller.cov_kwds["n_groups"] == 18
    copy = pickle.loads(pickle.dumps(result))
    assert_allclose(copy.bse, result.bse)
    copy.remove_data()
    assert_allclose(copy.bse, result.bse)
    assert "robust" not in copy.cov_kwds["options"]
    assert copy.cov_kwds["options"]["groups"] == (None if by_array else "Subject")
    with pytest.raises(ValueError, match="A robust covariance needs the data"):
        copy.get_robustcov_results()


def test_series_is_aligned_by_its_index(sleep):
    df = sleep.set_index(np.arange(180) + 1000)
    df.loc[1003, "Days"] = np.nan
    model = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df)
    by_name = model.fit(cov_type="cluster", cov_kwds={"groups": "Subject"})
    shuffled = df["Subject"].sample(frac=1, random_state=1)
    assert_allclose(model.fit(cov_type="cluster", cov_kwds={"groups": shuffled}).bse, by_name.bse, rtol=1e-12)
    kept = df["Subject"].drop(1003).to_numpy()
    assert_allclose(model.fit(cov_type="cluster", cov_kwds={"groups": kept}).bse, by_name.bse, rtol=1e-12)
    assert_allclose(model.fit(cov_type="cluster", cov_kwds={"groups": kept[:, None]}).bse, by_name.bse, rtol=1e-12)


def test_arrays(sleep):
    x = np.column_stack([np.ones(180), sleep["Days"]])
    model = smm.MixedLM(sleep["Reaction"].to_numpy(), x, sleep["Subject"].to_numpy())
    ours = model.fit(cov_type="cluster", cov_kwds={"groups": sleep["Subject"].to_numpy()})
    assert isinstance(ours.bse, np.ndarray)
    assert_allclose(ours.bse, model.fit(cov_type="robust").bse)


# -- boundaries and other models -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "logit"])
def test_a_component_at_zero_takes_no_part(kind):
    """The joint sandwich is that of the model without it."""
    fit, options = (smf.mixedlm, {"reml": False}) if kind == "linear" else (smf.melogit, {})
    for seed in range(20):
        rng = np.random.default_rng(seed)
        df = pd.DataFrame({"g": np.repeat(np.arange(25), 8), "x": rng.normal(size=200)})
        eta = 0.5 * df["x"] + rng.normal(size=25)[df["g"]]
        df["y"] = eta + rng.normal(size=200) if kind == "linear" else (eta + rng.logistic(size=200) > 0).astype(int)
        result = fit("y ~ x + (1 | g) + (0 + x | g)", df).fit(cov_type="CR1", **options)
        if result.is_singular:
            break
    assert result.theta[1] < 1e-6 < result.theta[0]
    without = fit("y ~ x + (1 | g)", df).fit(cov_type="CR1", **options)
    assert_allclose(result.bse, without.bse, rtol=2e-5)


def test_jackknife_where_a_correlation_is_one():
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"g": np.repeat(np.arange(40), 6), "x": rng.normal(size=240)})
    df["y"] = 1 + 0.5 * df["x"] + rng.normal(size=40)[df["g"]] * (1 + 0.5 * df["x"]) + rng.normal(size=240)
    result = smf.mixedlm("y ~ x + (x | g)", df).fit(reml=False, cov_type="robust")
    assert result.is_singular
    spread = jackknife(df, "g", lambda part: np.asarray(quiet(smf.mixedlm("y ~ x + (x | g)", part), reml=False).params))
    assert_allclose(result.bse, spread, rtol=0.02)


def test_alpha_at_zero_stays_without_an_error():
    rng = np.random.default_rng(2)
    df = pd.DataFrame({"g": np.repeat(np.arange(25), 8), "x": rng.normal(size=200)})
    for _ in range(20):
        df["y"] = rng.poisson(np.exp(0.4 * df["x"] + 0.5 * rng.normal(size=25)[df["g"]]))
        result = smf.menbreg("y ~ x + (1 | g)", df).fit(cov_type="robust")
        if result.params["alpha"] < 1e-8:
            break
    assert np.isnan(result.bse["alpha"])
    assert np.isfinite(result.bse[["Intercept", "x"]]).all()
    poisson = smf.mepoisson("y ~ x + (1 | g)", df).fit(cov_type="robust")
    assert_allclose(result.bse["x"], poisson.bse["x"], rtol=1e-4)


def test_separated_estimates_stay_without_an_error():
    rng = np.random.default_rng(5)
    df = pd.DataFrame({"g": np.repeat(np.arange(20), 10), "x": rng.normal(size=200)})
    df["d"] = (np.arange(200) % 4 == 0).astype(float)
    p = 1 / (1 + np.exp(-0.5 * df["x"] - rng.normal(size=20)[df["g"]]))
    df["y"] = np.where(df["d"] == 1, 1.0, rng.random(200) < p)
    result = quiet(smf.melogit("y ~ x + d + (1 | g)", df), cov_type="robust")
    assert np.isnan(result.bse["d"])
    others = smf.melogit("y ~ x + (1 | g)", df[df["d"] == 0]).fit(cov_type="robust")
    assert_allclose(result.bse["x"], others.bse["x"], rtol=1e-3)


@pytest.mark.parametrize("cov_type", ["CR0", "CR1", "CR2"])
def test_a_coefficient_of_one_cluster_has_no_robust_error(sleep, cov_type):
    """One treated cluster: the others' part of its variance alone would look like a standard error."""
    df = sleep.assign(one=(sleep["Subject"] == 309).astype(float))
    model = smf.mixedlm("Reaction ~ Days + one + (1 | Subject)", df)
    with pytest.warns(ValueWarning, match="Without the cluster 309 of 'Subject' the data do not determine one"):
        result = model.fit(cov_type=cov_type)
    assert np.isnan(result.bse["one"])
    assert np.isfinite(result.bse[["Intercept", "Days"]]).all()
    df["part"] = df["one"] * df["Days"]  # a slope of its own
    with pytest.warns(ValueWarning, match="determine one, part"):
        result = smf.mixedlm("Reaction ~ Days + one + part + (1 | Subject)", df).fit(cov_type=cov_type)
    assert np.isnan(result.bse[["one", "part"]]).all()
    # A factor whose reference level is a single cluster loses the intercept and all its contrasts.
    df["third"] = np.where(df["Subject"] == 309, "a", np.where(df["Subject"].astype(int) < 350, "b", "c"))
    with pytest.warns(ValueWarning, match=r"determine Intercept, third\[T.b\], third\[T.c\]"):
        result = smf.mixedlm("Reaction ~ third + Days + (1 | Subject)", df).fit(cov_type=cov_type)
    assert np.isfinite(result.bse["Days"])


def test_thresholds_of_one_cluster():
    df = wine.load_pandas().data
    judges = df["judge"].astype(int)
    df["kind"] = np.where(judges == 2, "a", np.where(judges < 6, "b", "c"))
    with pytest.warns(ValueWarning, match=r"determine kind\[T.b\], kind\[T.c\], 1\|2, 2\|3"):
        result = smf.meologit("rating ~ kind + temp + (1 | judge)", df).fit(cov_type="robust")
    assert np.isfinite(result.bse["temp[T.warm]"])
    df["kind"] = np.where(judges == 2, "z", "b")
    with pytest.warns(ValueWarning, match=r"determine kind\[T.z\]\. A single"):
        result = smf.meologit("rating ~ kind + temp + (1 | judge)", df).fit(cov_type="robust")
    assert np.isfinite(result.thresholds).all()
    assert np.isfinite(result.bse[["temp[T.warm]", "1|2"]]).all()


def test_more_constraints_than_clusters_allow():
    df = wine.load_pandas().data
    df["z"] = np.random.default_rng(0).integers(0, 5, len(df)).astype(str)
    df["half"] = (df["judge"].cat.codes if hasattr(df["judge"], "cat") else pd.factorize(df["judge"])[0]) // 3
    result = smf.meologit("rating ~ temp + z + (1 | judge)", df).fit(cov_type="cluster", cov_kwds={"groups": "half"})
    assert result.cov_kwds["n_groups"] == 3
    with pytest.raises(ValueError, match="4 constraints, and a robust covariance from 3 clusters"):
        result.wald_test({"z": 0})
    table = result.wald_test_terms(scalar=True).table
    assert np.isnan(table.loc["z", "pvalue"])
    assert np.isfinite(table.loc["temp", "pvalue"])


def test_models_of_every_kind():
    herd = cbpp.load_pandas().data
    binomial = smf.melogit("incidence ~ period + (1 | herd)", herd, n_trials="size").fit(cov_type="robust", nAGQ=7)
    assert binomial.cov_kwds["n_groups"] == 15
    assert np.isfinite(binomial.bse).all()
    seizures = epil.load_pandas().data
    negbin = smf.menbreg("y ~ trt + (1 | subject)", seizures).fit(cov_type="CR1", nAGQ=5)
    assert negbin.cov_kwds["cov_joint"].shape == (4, 4)
    assert_allclose(negbin.cov_kwds["cov_joint"][:3, :3], negbin.cov_params())


# -- shifted and nearly collinear predictors ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shifted(sleep):
    df = sleep.assign(trt=sleep["Subject"].astype(int) % 2, high=(sleep["Reaction"] > 300).astype(int))
    df["near"] = df["Days"] + 1e-4 * np.random.default_rng(0).normal(size=180)
    df["noise"] = 1e4 * (df["near"] - df["Days"])
    return df.assign(far=df["Days"] + 1e4, mega=df["Days"] + 1e6, jd=df["Days"] + 2459000)


@pytest.mark.parametrize(("column", "rtol"), [("far", 1e-7), ("jd", 1e-6)])
@pytest.mark.parametrize("joint", [True, False])
def test_slopes_keep_their_errors_when_the_predictor_is_shifted(shifted, column, rtol, joint):
    fits = [
        smf.mixedlm(f"Reaction ~ trt * {x} + (1 | Subject)", shifted).fit(
            reml=False, cov_type="robust", cov_kwds={"joint": joint}
        )
        for x in ("Days", column)
    ]
    assert_allclose(np.asarray(fits[1].bse)[2:], np.asarray(fits[0].bse)[2:], rtol=rtol)


@pytest.mark.parametrize("formula", ["Reaction ~ trt * jd + (1 | Subject)", "Reaction ~ Days + near + (1 | Subject)"])
def test_near_collinear_columns_with_and_without_the_components(shifted, formula):
    result = smf.mixedlm(formula, shifted).fit(reml=False)
    joint, alone = (result.get_robustcov_results("CR1", joint=j).bse for j in (True, False))
    assert_allclose(joint, alone, rtol=0.02)


def test_near_collinear_columns_are_those_of_their_difference(shifted):
    near = smf.mixedlm("Reaction ~ Days + near + (1 | Subject)", shifted).fit(reml=False, cov_type="robust")
    apart = smf.mixedlm("Reaction ~ Days + noise + (1 | Subject)", shifted).fit(reml=False, cov_type="robust")
    assert_allclose(near.bse["near"] * 1e-4, apart.bse["noise"], rtol=1e-5)


def test_shifted_predictors_of_generalised_models(shifted):
    def errors(formula):
        return quiet(smf.melogit(formula, shifted), cov_type="robust").bse

    alone = errors("high ~ Days + (1 | Subject)")
    assert_allclose(errors("high ~ mega + (1 | Subject)")["mega"], alone["Days"], rtol=1e-6)
    product = errors("high ~ trt * Days + (1 | Subject)")
    for far in ("far", "mega"):
        assert_allclose(
            np.asarray(errors(f"high ~ trt * {far} + (1 | Subject)"))[2:], np.asarray(product)[2:], rtol=1e-5
        )
    near, apart = (errors(f"high ~ Days + {x} + (1 | Subject)")[x] for x in ("near", "noise"))
    assert_allclose(near * 1e-4, apart, rtol=1e-5)


# -- refused in words ---------------------------------------------------------------------------------------------


def test_crossed_factors_without_a_coarser_cluster():
    df = penicillin.load_pandas().data
    model = smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", df)
    with pytest.raises(ValueError, match=r"plate, sample are crossed.*bootstrap"):
        model.fit(cov_type="robust")
    with pytest.raises(ValueError, match="'plate' are finer than the grouping factor 'sample', or crossed"):
        model.fit(cov_type="cluster", cov_kwds={"groups": "plate"})


def test_finer_clusters_name_a_level():
    df = pd.read_csv(ROOT / "tests" / "data" / "oats.csv")
    model = smf.mixedlm('Q("yield") ~ nitro + (1 | Block/Variety)', df)
    with pytest.raises(ValueError, match=r"'Variety:Block' are finer than the grouping factor 'Block'.*level 'I"):
        model.fit(cov_type="cluster", cov_kwds={"groups": "Variety:Block"})


HALF = np.arange(180) // 90
BAD = [
    ({"cov_type": "HC3"}, "cov_type='HC3'.*not independent.*'CR2'"),
    ({"cov_type": "HAC"}, "cov_type='HAC'.*not available"),
    ({"cov_type": "CR3"}, "cov_type='CR3'.*not available"),
    ({"cov_type": "sandwich"}, "cov_type='sandwich'.*not known"),
    ({"cov_type": None}, "cov_type=None.*not known"),
    ({"cov_type": "cluster"}, "needs cov_kwds={'groups'"),
    ({"cov_kwds": {"groups": "Subject"}}, "'groups', which cov_type='nonrobust' does not use"),
    ({"cov_type": "robust", "cov_kwds": "Subject"}, "cov_kwds='Subject' must be a dict"),
    ({"cov_type": "robust", "cov_kwds": {"group": "Subject"}}, "no option 'group'.*groups"),
    ({"cov_type": "robust", "cov_kwds": {"correction": "HC1"}}, "correction='HC1' is not known"),
    ({"cov_type": "CR1", "cov_kwds": {"correction": "CR0"}}, "given twice, as CR0 and CR1"),
    ({"cov_type": "CR1", "cov_kwds": {"use_correction": True}}, "given twice, as CR1 and CR1S"),
    ({"cov_type": "robust", "cov_kwds": {"use_correction": "yes"}}, "use_correction='yes' must be True or False"),
    ({"cov_type": "robust", "cov_kwds": {"joint": True}}, r"joint=True needs fit\(reml=False\)"),
    ({"cov_type": "CR2", "reml": False, "cov_kwds": {"joint": True}}, "joint=True has no CR2"),
    ({"cov_type": "robust", "cov_kwds": {"df": "kr"}}, "df='kr' is not known"),
    ({"cov_type": "robust", "reml": False, "cov_kwds": {"df": "satterthwaite"}}, "joint=False"),
    ({"cov_type": "robust", "cov_kwds": {"df": "normal", "df_correction": True}}, "contradict"),
    ({"cov_type": "robust", "df": "satterthwaite"}, "df='satterthwaite' belongs to the model-based"),
    ({"cov_type": "robust", "df": "kenward-roger"}, "df='kenward-roger' belongs to the model-based"),
    ({"cov_type": "cluster", "cov_kwds": {"groups": "Subjct"}}, "groups='Subjct' is neither.*Subject"),
    ({"cov_type": "cluster", "cov_kwds": {"groups": "Days"}}, "'Days' are finer.*'Subject'.*its level 308"),
    ({"cov_type": "cluster", "cov_kwds": {"groups": np.zeros(180)}}, "at least two clusters"),
    ({"cov_type": "cluster", "cov_kwds": {"groups": np.zeros(7)}}, "has 7 values, and the fit used 180 rows"),
    ({"cov_type": "cluster", "cov_kwds": {"groups": np.where(HALF, np.nan, 1.0)}}, "90 missing values.*row 90"),
    ({"cov_type": "cluster", "cov_kwds": {"groups": np.column_stack([HALF, HALF])}}, "several ways at once"),
    ({"cov_type": "cluster", "cov_kwds": {"groups": 3}}, "groups=3 must be a name"),
    (
        {"cov_type": "cluster", "cov_kwds": {"groups": pd.Series(HALF, index=np.arange(180) + 5)}},
        "without a value for the row 0",
    ),
    (
        {"cov_type": "cluster", "cov_kwds": {"groups": pd.Series(np.r_[HALF, 0], index=np.r_[np.arange(180), 7])}},
        "has 7 twice",
    ),
]


def test_a_near_name_is_suggested_once(sleep):
    with pytest.raises(ValueError, match=r"Did you mean 'Subject'\?"):
        smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit(cov_type="cluster", cov_kwds={"groups": "Subjct"})


@pytest.mark.parametrize(("options", "match"), BAD, ids=lambda v: "" if isinstance(v, dict) else v[:40])
def test_bad_input(sleep, options, match):
    model = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep)
    with pytest.raises(ValueError, match=match):
        model.fit(**options)


BAD_GENERALISED = [
    ({"cov_type": "CR2"}, "CR2 is for linear mixed models"),
    ({"cov_type": "robust", "nAGQ": 0}, "nAGQ=1 or more"),
    ({"cov_type": "robust", "cov_kwds": {"joint": False}}, "joint=False is for linear models"),
    ({"cov_type": "robust", "cov_kwds": {"df": "satterthwaite"}}, "df='satterthwaite' is for linear models"),
    ({"cov_type": "HC0"}, "cov_type='HC0'"),
]


@pytest.mark.parametrize(("options", "match"), BAD_GENERALISED)
def test_bad_input_of_generalised_models(options, match):
    model = smf.melogit("incidence ~ period + (1 | herd)", cbpp.load_pandas().data, n_trials="size")
    with pytest.raises(ValueError, match=match):
        model.fit(**options)


def test_robust_after_other_degrees_of_freedom(slopes):
    with pytest.raises(ValueError, match="df='kenward-roger', which belong"):
        slopes.with_df("kenward-roger").get_robustcov_results()
    with pytest.raises(ValueError, match="df='satterthwaite'"):
        slopes.get_robustcov_results().with_df("satterthwaite")
    assert_allclose(slopes.with_df("residual").get_robustcov_results().df_coef, 17)


def test_a_fit_with_coefficients_held_is_refused(sleep):
    model = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep)
    with pytest.raises(ValueError, match="a fit with constraints does not keep"):
        model._fit_zeros([0]).get_robustcov_results()


def test_without_fixed_effects_nothing_is_robust(sleep):
    for kind in ("CR1", "CR2"):
        assert len(smf.mixedlm("Reaction ~ 0 + (1 | Subject)", sleep).fit(cov_type=kind).bse) == 0
    rating = smf.meologit("rating ~ 1 + (1 | judge)", wine.load_pandas().data).fit(cov_type="robust")
    assert np.isfinite(rating.bse).all()


def test_clusters_beyond_the_budget_are_refused():
    rng = np.random.default_rng(0)
    n = 6000
    df = pd.DataFrame({"g": np.repeat([0, 1], n // 2), "x": rng.normal(size=n), "w": rng.uniform(1, 2, n)})
    df["y"] = df["x"] + rng.normal(size=n) + df["g"]
    with pytest.raises(ValueError, match=r"Cluster 0 of 'g' has 3000 rows.*Use CR1"):
        smf.mixedlm("y ~ x + (1 | g)", df, var_weights="w").fit(cov_type="CR2")
    equal = smf.mixedlm("y ~ x + (1 | g)", df).fit(cov_type="CR2")  # matrices of three columns
    assert np.isfinite(equal.bse["x"])
