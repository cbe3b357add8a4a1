"""The page "Multilevel / Mixed-Effects Models" of StatsPAI's documentation: every line of it, and every claim.

The page was published with two spellings of the options, `x_fixed=, x_random=` and `x=, re_formula=`; both stand here
as they stood there. Its columns are those of real data here. Side-by-side numbers are in test_sp_statspai.py.
"""

import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as their_smf
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from oracle_glmm import density_of, quadrature
from reference import glmm_fits, statspai
from scipy import optimize, stats
from scipy.special import expit, gammaln

from sm_multilevel import sp
from sm_multilevel.datasets import dietox, pastes

mpl.use("Agg")


def page_frames():
    """Real data under the page's names: df of its first example, one with classes, and those of the others."""
    women = statspai.women().assign(x=lambda d: d["x1"], g=lambda d: d["district"], school=lambda d: d["district"])
    children = women.assign(
        severity_cat=pd.Categorical(women["livch"], ["0", "1", "2", "3+"], ordered=True),
        sex=women["urban"],
        site=women["district"],
    )
    chemistry = statspai._csv("chem97").query("lea <= 40")
    names = {"score": "math_score", "gcsecnt": "ses", "lea": "school", "school": "class"}
    return {
        "schools": statspai.schools(),
        "classes": chemistry.rename(columns=names),  # authorities for schools, schools for classes
        "melogit": women,
        "mepoisson": statspai.regions(),
        "megamma": statspai.hospitals(),
        "menbreg": statspai.seizures(),
        "meologit": children,
        "meglm": women,
    }


FRAMES = page_frames()


def run(code, df):
    space = {"sp": sp, "df": df, "new_data": df.iloc[::97]}
    exec(code, space)
    plt.close("all")
    return space["r"]


# -- the page's linear part ------------------------------------------------------------------------

CURRENT = """
r = sp.mixed(
    df, y='math_score', x=['ses', 'gender'],
    group='school',                            # two-level
    # group=['school', 'class'],               # three-level nested
    re_formula='1 + ses',
    cov_type='unstructured',                   # also 'diagonal', 'identity'
    method='reml',                             # or 'ml'
)
r.summary()
r.variance_components                          # dict
r.ranef(conditional_se=True)
r.r_squared()                                  # marginal + conditional
r.predict(new_data, include_random=True)
r.wald_test({'ses': 0, 'gender': 0})
r.plot(kind='caterpillar')
"""
EARLIER = CURRENT.replace("x=['ses', 'gender']", "x_fixed=['ses', 'gender']")
EARLIER = EARLIER.replace("re_formula='1 + ses'", "x_random=['ses']")


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("cov_type", ["unstructured", "diagonal", "identity"])
@pytest.mark.parametrize("levels", [2, 3])
def test_linear_lines(cov_type, method, levels):
    df = FRAMES["schools" if levels == 2 else "classes"]
    fits = []
    for code in (CURRENT, EARLIER):
        code = code.replace("cov_type='unstructured'", f"cov_type='{cov_type}'")
        code = code.replace("method='reml'", f"method='{method}'")
        if levels == 3:
            code = code.replace("    group='school',", "").replace("# group=", "group=")
        fits.append(run(code, df))
    current, earlier = fits
    assert current.converged
    assert current.llf == pytest.approx(earlier.llf, abs=1e-9)
    assert current.method == method.upper()
    gender = next(c for c in current.params.index if c.startswith("gender"))
    assert list(current.params.index) == ["Intercept", gender, "ses"]
    assert ("class" in str(current.summary())) == (levels == 3)


def test_what_the_lines_return():
    df = FRAMES["schools"]
    r = run(CURRENT, df)
    new = df.iloc[::97]
    components = r.variance_components
    assert isinstance(components, dict)
    assert list(components) == ["var(Intercept)", "cov(Intercept,ses)", "var(ses)", "var(Residual)"]
    effects, errors = r.ranef(conditional_se=True)
    for frame in (effects, errors):
        assert list(frame.columns) == ["Intercept", "ses"]
        assert frame.index.name == "school"
        assert len(frame) == df["school"].nunique()
    assert list(r.r_squared()) == ["marginal", "conditional", "var_fixed", "var_random", "var_residual"]
    conditional, population = r.predict(new, include_random=True), r.predict(new, include_random=False)
    assert conditional.index.equals(new.index)
    groups = new["school"].to_numpy()
    random = effects["Intercept"].loc[groups].to_numpy() + effects["ses"].loc[groups].to_numpy() * new["ses"].to_numpy()
    assert_allclose(conditional - population, random, atol=1e-10)
    test = r.wald_test({"ses": 0, "gender": 0})
    beta, cov = r.params[1:].to_numpy(), r.cov_params().iloc[1:, 1:].to_numpy()
    assert float(np.squeeze(test.statistic)) == pytest.approx(beta @ np.linalg.solve(cov, beta))
    assert isinstance(r.plot(kind="caterpillar"), Figure)


# -- the page's generalised part -------------------------------------------------------------------

LINES = {
    "melogit": "sp.melogit(df, 'y', ['x1','x2'], group='school', nAGQ=7)",
    "mepoisson": "sp.mepoisson(df, 'count', ['x1'], group='region', offset='log_pop', nAGQ=11)",
    "megamma": "sp.megamma(df, 'cost', ['severity'], group='hospital', nAGQ=15)",
    "menbreg": "sp.menbreg(df, 'events', ['exposure'], group='county', nAGQ=7)     # alias family='negbin'; NB-2",
    "meologit": "sp.meologit(df, 'severity_cat', ['age','sex'], group='site', nAGQ=7)",
    "meglm": "sp.meglm(df, 'y', ['x'], group='g', family='binomial', link='logit', nAGQ=7)",
}
# Response, columns (the intercept first), trials' like: how the model is written without the package.
PARTS = {
    "melogit": ("binomial", "y", ["x1", "x2"], "school", None),
    "mepoisson": ("poisson", "count", ["x1"], "region", "log_pop"),
    "megamma": ("gamma", "cost", ["severity"], "hospital", None),
    "menbreg": ("nb2", "events", ["exposure"], "county", None),
    "meologit": ("ordinal", "severity_cat", ["age", "sex"], "site", None),
    "meglm": ("binomial", "y", ["x"], "g", None),
}
POINTS = {"melogit": 7, "mepoisson": 11, "megamma": 15, "menbreg": 7, "meologit": 7, "meglm": 7}


@pytest.fixture(scope="module", params=LINES)
def line(request):
    """A line's name, its frame and its result."""
    df = FRAMES[request.param]
    return request.param, df, run(f"r = {LINES[request.param]}", df)


def pieces(name, df, r):
    """y, the linear predictor without random effects, group codes, the standard deviation, psi."""
    family, response, columns, group, offset = PARTS[name]
    y = df[response].cat.codes if family == "ordinal" else df[response]
    x = [(df[c] == "Y") * 1.0 if df[c].dtype.kind not in "if" else df[c] for c in columns]
    names = [next(p for p in r.params.index if p.split("[")[0] == c) for c in columns]
    eta = sum(r.params[p] * column for p, column in zip(names, x, strict=True))
    if family != "ordinal":
        eta = eta + r.params["Intercept"]
    if offset:
        eta = eta + df[offset]
    psi = r.params.drop(["Intercept", *names], errors="ignore").to_numpy()
    codes = pd.factorize(df[group])[0]
    return y.to_numpy(float), eta.to_numpy(float), codes, np.sqrt(r.cov_re.iloc[0, 0]), psi


def test_generalised_lines(line):
    name, df, r = line
    assert r.converged
    assert r.nAGQ == POINTS[name]
    new = df.iloc[::97]
    assert r.predict(new, type="linear").index.equals(new.index)
    response, linear = r.predict(new, type="response"), r.predict(new, type="linear")
    if name in ("mepoisson", "megamma", "menbreg"):
        assert_allclose(response, np.exp(linear))
    elif name != "meologit":
        assert_allclose(response, expit(linear))
    else:
        assert_allclose(response.sum(axis=1), 1)
        assert list(response.columns) == ["0", "1", "2", "3+"]
    ratio = {"mepoisson": "IRR", "menbreg": "IRR"}.get(name, "OR")
    if name != "megamma":
        frame = r.incidence_rate_ratios() if ratio == "IRR" else r.odds_ratios()
        assert list(frame.columns) == [ratio, "lower", "upper", "pvalue"]
        assert_allclose(frame[ratio], np.exp(r.params[frame.index]))
    else:
        with pytest.raises(ValueError, match="odds"):
            r.odds_ratios()


def test_earlier_lines():
    """Before there was link= and x=."""
    df = FRAMES["meglm"]
    expected = run(f"r = {LINES['meglm']}", df)
    for code in (
        "sp.meglm(df, 'y', ['x'], group='g', family='binomial', nAGQ=7)",
        "sp.meglm(df, y='y', x_fixed=['x'], group='g', family='binomial', nAGQ=7)",
        "sp.melogit(df, y='y', x_fixed=['x'], group='g', x_random=None, trials=None, nAGQ=7, tol=1e-8)",
    ):
        assert run(f"r = {code}", df).llf == pytest.approx(expected.llf, abs=1e-9)
    df = FRAMES["menbreg"]
    alias = run("r = sp.meglm(df, 'events', ['exposure'], group='county', family='negbin', nAGQ=7)", df)
    assert alias.llf == pytest.approx(run(f"r = {LINES['menbreg']}", df).llf, abs=1e-9)


# -- claim: nAGQ=1 is Laplace's formula ------------------------------------------------------------


def nbinom(y, mu, alpha):
    return stats.nbinom.logpmf(y, 1 / alpha, 1 / (1 + alpha * mu))


def ordered(y, eta, cuts):
    """log P, its first and minus its second derivative in eta, of the cumulative logit model."""
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    high, low = (expit(edges[y.astype(int) + k] - eta) for k in (1, 0))
    return np.log(high - low), high + low - 1, high * (1 - high) + low * (1 - low)


FAMILIES = {  # (y, eta, psi) -> log f, d log f, -d2 log f
    "binomial": lambda y, e, psi: (stats.bernoulli.logpmf(y, expit(e)), y - expit(e), expit(e) * expit(-e)),
    "poisson": lambda y, e, psi: (stats.poisson.logpmf(y, np.exp(e)), y - np.exp(e), np.exp(e)),
    "gamma": lambda y, e, psi: (
        stats.gamma.logpdf(y, 1 / psi[0], scale=psi[0] * np.exp(e)),
        (y * np.exp(-e) - 1) / psi[0],
        y * np.exp(-e) / psi[0],
    ),
    "nb2": lambda y, e, psi: (
        nbinom(y, np.exp(e), psi[0]),
        (y - np.exp(e)) / (1 + psi[0] * np.exp(e)),
        np.exp(e) * (1 + psi[0] * y) / (1 + psi[0] * np.exp(e)) ** 2,
    ),
    "ordinal": ordered,
}


def laplace(y, eta, codes, sd, psi, family):
    """Laplace's formula: modes by scipy's root finder, one determinant of all levels."""
    parts = FAMILIES[family]

    def slope(u, rows):
        return sd * parts(y[rows], eta[rows] + sd * u, psi)[1].sum() - u

    members = [np.flatnonzero(codes == k) for k in range(codes.max() + 1)]
    modes = np.array([optimize.brentq(slope, -30, 30, args=(rows,), xtol=1e-14, rtol=1e-15) for rows in members])
    value, _, curvature = parts(y, eta + sd * modes[codes], psi)
    z = sd * np.equal.outer(codes, np.arange(len(members)))
    hessian = np.eye(len(members)) + z.T @ (curvature[:, None] * z)
    return value.sum() - 0.5 * modes @ modes - 0.5 * np.linalg.slogdet(hessian)[1]


def test_one_point_is_the_laplace_formula(line):
    name, df, _ = line
    r = run(f"r = {LINES[name]}".replace(f"nAGQ={POINTS[name]}", "nAGQ=1"), df)
    y, eta, codes, sd, psi = pieces(name, df, r)
    assert sd > 0.1
    assert r.llf == pytest.approx(laplace(y, eta, codes, sd, psi, PARTS[name][0]), abs=1e-10 * abs(r.llf))


# -- claim: nAGQ > 1 is glmer's adaptive quadrature ------------------------------------------------


def test_more_points_are_the_quadrature_rule(line):
    name, df, r = line
    y, eta, codes, sd, psi = pieces(name, df, r)
    family = PARTS[name][0]
    density = density_of(family, "logit" if family in ("binomial", "ordinal") else "log")
    terms = [(codes, np.ones((len(y), 1)), np.array([[sd**2]]))]
    rule = quadrature(y, np.zeros((len(y), 1)), [0.0], eta, terms, density, psi, points=POINTS[name])
    assert r.llf == pytest.approx(rule, abs=1e-9 * abs(rule))


GLMER = {  # the columns of glmer's formula
    "cbpp": (["period"], "herd", "size"),
    "contraception": (["urban", "age", "age2", "livch"], "district", None),
    "guprenat": (["childAge", "motherAge", "indig", "pcInd81"], "cluster", None),
    "bacteria": (["trt", "late"], "ID", None),
}


@pytest.mark.parametrize("name", GLMER)
def test_seven_points_as_glmer(name):
    """Estimates and standard errors of glmer(nAGQ = 7); of its log-likelihood the constants, which it drops, added."""
    fit = next(f for f in glmm_fits.fits() if (f["id"], f["engine"], f["nAGQ"]) == (name, "glmer", 7))
    x, group, trials = GLMER[name]
    df = glmm_fits.frame(fit)
    df = df.assign(age2=df["age"] ** 2) if "age2" in x else df
    r = sp.melogit(df, fit["formula"].split(" ~ ")[0], x, group=group, trials=trials, nAGQ=7)
    names = [n.replace("I(age ** 2)", "age2") for n in fit.get("python_names") or glmm_fits.model(fit).exog_names]
    assert r.llf == pytest.approx(fit["llf"], abs=1e-6)
    assert_allclose(r.params[names], fit["fixef"]["values"], rtol=1e-5, atol=1e-7)
    assert_allclose(r.bse[names], fit["se"], rtol=1e-4)
    assert r.cov_re.iloc[0, 0] == pytest.approx(np.squeeze(fit["terms"][0]["cov"]), rel=1e-5)


# -- claims: diagnostics ---------------------------------------------------------------------------


def test_icc_is_a_delta_method_on_the_logit_scale():
    r = sp.melogit(FRAMES["melogit"], "y", ["x1", "x2"], group="school", nAGQ=7)
    variance = r.cov_re.iloc[0, 0]
    latent = np.pi**2 / 3
    rho = sp.icc(r)
    assert rho.estimate == float(rho) == pytest.approx(variance / (variance + latent))
    error = r.varcorr(conf_int=True)["vcov_se"].iloc[0]
    assert rho.se == pytest.approx(error * latent / (variance + latent) ** 2, rel=1e-9)
    half = 1.959964 * rho.se / (rho.estimate * (1 - rho.estimate))
    logit = np.log(rho.estimate / (1 - rho.estimate))
    assert_allclose([rho.ci_lower, rho.ci_upper], expit([logit - half, logit + half]), rtol=1e-6)


def test_lrtest_is_self_and_liangs():
    df = statspai.sleep()
    restricted = sp.mixed(df, "Reaction", ["Days"], "Subject", method="ml")
    full = sp.mixed(df, "Reaction", ["Days"], "Subject", x_random=["Days"], method="ml")
    test = sp.lrtest(restricted, full)
    assert test.chi2 == pytest.approx(2 * (full.llf - restricted.llf))
    assert test.p_value == pytest.approx(stats.chi2.sf(test.chi2, [1, 2]).mean())
    assert test.boundary_corrected
    diagonal = sp.mixed(df, "Reaction", ["Days"], "Subject", x_random=["Days"], cov_type="diagonal", method="ml")
    one = sp.lrtest(restricted, diagonal)
    assert one.p_value == pytest.approx(0.5 * stats.chi2.sf(one.chi2, 1))
    naive = sp.lrtest(restricted=restricted, full=full, boundary=False)
    assert not naive.boundary_corrected
    assert naive.p_value == pytest.approx(stats.chi2.sf(test.chi2, 2))
    assert "chi2(2)" in naive.summary()
    fixed = sp.lrtest(sp.mixed(df, "Reaction", [], "Subject", method="ml"), restricted)
    assert not fixed.boundary_corrected
    assert fixed.p_value == pytest.approx(stats.chi2.sf(fixed.chi2, 1))


def test_criteria_compare_across_families():
    counts = statspai.poisson_counts()  # no overdispersion: alpha is zero
    poisson, nb = (f(counts, "y", ["x"], group="g") for f in (sp.mepoisson, sp.menbreg))
    assert nb.llf == pytest.approx(poisson.llf, abs=1e-9)
    assert nb.aic() == nb.aic == pytest.approx(poisson.aic + 2)
    assert nb.bic() == nb.bic == pytest.approx(poisson.bic + np.log(len(counts)))
    assert poisson.aic == pytest.approx(-2 * poisson.llf + 2 * 3)
    # A likelihood of trials is that of the animals one by one, times the number of their orders.
    herds, animals = statspai.cows(), statspai.cows_one_by_one()
    x = ["p2", "p3", "p4"]
    trials = sp.melogit(herds, "incidence", x, group="herd", trials="size", nAGQ=7)
    single = sp.melogit(animals, "incidence", x, group="herd", nAGQ=7)
    n, k = herds["size"], herds["incidence"]
    orders = (gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)).sum()
    assert trials.llf - single.llf == pytest.approx(orders, abs=1e-8)
    assert_allclose(trials.params, single.params, rtol=1e-6)
    # Without a variance it is statsmodels' GLM.
    glm = sm.GLM(counts["y"], sm.add_constant(counts["x"]), family=sm.families.Poisson()).fit()
    assert poisson.model.loglike([*glm.params, 0.0]) == pytest.approx(glm.llf, abs=1e-9)


# -- claims: agreement with MixedLM ----------------------------------------------------------------

PAIRS = {
    "sleep": (statspai.sleep, "Reaction", ["Days"], "Subject"),
    "schools": (lambda: statspai.schools().query("school < 3000"), "math_score", ["ses", "female"], "school"),
    "exam": (statspai.exam, "normexam", ["standLRT"], "school"),
    "oxboys": (lambda: statspai._csv("oxboys"), "height", ["age"], "Subject"),
    "orthodont": (lambda: statspai._csv("orthodont"), "distance", ["age"], "Subject"),
    "dietox": (lambda: dietox.load_pandas().data, "Weight", ["Time"], "Pig"),
}


def best(model):
    """MixedLM's searches end in different places, some where no variance is left: the highest of the others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [model.fit(method=[method], maxiter=500) for method in ("bfgs", "lbfgs", "powell")]
    return max((fit for fit in fits if np.diag(fit.cov_re).min() > 1e-10), key=lambda fit: fit.llf)


@pytest.mark.parametrize("slope", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_mixedlm_to_four_decimals(name, slope):
    """Fixed effects and components, in units of the response's standard deviation."""
    load, y, x, group = PAIRS[name]
    df = load()
    sd = df[y].std()
    df = df.assign(**{y: df[y] / sd})
    r = sp.mixed(df, y=y, x=x, group=group, re_formula=f"1 + {x[0]}" if slope else None)
    theirs = their_smf.mixedlm(f"{y} ~ {' + '.join(x)}", df, groups=group, re_formula=f"~{x[0]}" if slope else "1")
    fit = best(theirs)
    assert_allclose(r.fe_params[fit.fe_params.index], fit.fe_params, atol=5e-5)
    assert_allclose(r.cov_re, fit.cov_re, atol=5e-5)
    assert r.scale == pytest.approx(fit.scale, abs=5e-5)
    assert r.llf >= fit.llf - 1e-8


NESTED = {
    "pastes": (lambda: pastes.load_pandas().data, "strength", [], "batch", "cask"),
    "oxide": (lambda: statspai._csv("oxide"), "Thickness", [], "Lot", "Wafer"),
    "oats": (
        lambda: statspai._csv("oats").rename(columns={"yield": "harvest"}),
        "harvest",
        ["nitro"],
        "Block",
        "Variety",
    ),
    "machines": (lambda: statspai._csv("machines"), "score", [], "Worker", "Machine"),
}


@pytest.mark.parametrize("name", NESTED)
def test_three_levels_as_mixedlm_to_two_decimals(name):
    load, y, x, outer, inner = NESTED[name]
    df = load()
    r = sp.mixed(df, y=y, x=x, group=[outer, inner])
    formula = f"{y} ~ {' + '.join(['1', *x])}"
    theirs = their_smf.mixedlm(formula, df, groups=outer, re_formula="1", vc_formula={inner: f"0 + C({inner})"})
    fit = best(theirs)
    components = r.variance_components
    got = [components[f"var(Intercept|{outer})"], components[f"var(Intercept|{inner})"], components["var(Residual)"]]
    want = [fit.cov_re.iloc[0, 0], fit.vcomp[0], fit.scale]
    assert_allclose(got, want, rtol=5e-4, atol=5e-3)
    assert_allclose(r.fe_params, fit.fe_params, atol=5e-3)


# -- claim: recovery -------------------------------------------------------------------------------

SLOPE, SD, LEVELS, ROWS = 0.5, 0.7, 150, 12


def drawn(name, seed=20240601):
    """A response of the named function with slope 0.5 and random intercepts of standard deviation 0.7."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(LEVELS), ROWS)
    x = rng.normal(size=len(g))
    eta = 0.3 + SLOPE * x + SD * rng.normal(size=LEVELS)[g]
    mu = np.exp(eta)
    y = {
        "mixed": lambda: eta + rng.normal(size=len(g)),
        "melogit": lambda: rng.binomial(1, expit(eta)),
        "mepoisson": lambda: rng.poisson(mu),
        "megamma": lambda: rng.gamma(2.0, mu / 2.0),
        "menbreg": lambda: rng.poisson(mu * rng.gamma(2.0, 0.5, size=len(g))),
        "meologit": lambda: np.digitize(eta + rng.logistic(size=len(g)), [-1.0, 0.3, 1.5]),
    }[name]()
    return pd.DataFrame({"y": y, "x": x, "g": g})


@pytest.mark.parametrize("name", ["mixed", "melogit", "mepoisson", "megamma", "menbreg", "meologit"])
def test_recovery(name):
    """Within 3.3 standard errors, which an estimate leaves once in a thousand draws; the variance on the log scale."""
    options = {} if name == "mixed" else {"nAGQ": 7}
    r = getattr(sp, name)(drawn(name), "y", ["x"], group="g", **options)
    assert abs(r.params["x"] - SLOPE) < 3.3 * r.bse["x"]
    assert r.bse["x"] < 0.1
    row = r.varcorr(conf_int=True).iloc[0]
    error = row["vcov_se"] / row["vcov"]
    assert abs(np.log(row["vcov"] / SD**2)) < 3.3 * error
    assert error < 0.3
    psi = {"megamma": ("dispersion", 0.5), "menbreg": ("alpha", 0.5)}.get(name)
    if psi:
        assert abs(r.params[psi[0]] - psi[1]) < 3.3 * r.bse[psi[0]]
