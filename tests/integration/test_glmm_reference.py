"""Every generalised model of the references: glmmTMB (Laplace), clmm, glmer (Bernoulli, nAGQ > 1), brute force.

clmm's Laplace approximation with a single random intercept, and all that it does with the
cauchit link, are off by up to 3e-4 in log-likelihood: there the brute-force fits serve.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))

import glmm_fits

SE_TOLERANCE = {"glmmTMB": 1e-3, "glmer": 1e-3, "clmm": 1e-3}


def _rough(fit):
    """clmm where it is known to be wrong: see the module's text and reference/README.md."""
    if fit["engine"] != "clmm":
        return False
    single = len(fit["terms"]) == 1 and len(fit["terms"][0]["names"]) == 1
    return (single and fit["nAGQ"] == 1) or fit["link"] == "cauchit"


def _interior(fit):
    return not fit["is_singular"] and fit["id"] != "counts_crossed_nb2"


FITS = [f for f in glmm_fits.fits() if not _rough(f)]


@pytest.fixture(scope="module", params=FITS, ids=glmm_fits.fit_id)
def pair(request):
    fit = request.param
    return fit, glmm_fits.model(fit).fit(nAGQ=fit["nAGQ"])


@pytest.fixture(scope="module", params=glmm_fits.brute_fits(), ids=lambda f: f"{f['id']}-{f['method']}")
def exact_pair(request):
    """Our fit with as many points as the integral takes, or by Laplace's approximation, and the brute-force one."""
    fit = request.param
    model = glmm_fits.model(fit)
    points = 1
    if fit["method"] != "laplace":
        points = {"toenail": 99, "respiratory": 99, "guimmun_31": 61, "wine_cauchit": 99, "cbpp_cauchit": 99}.get(
            fit["id"], 25
        )  # more for large variances with few rows a group, and for cauchit's heavy tails
    return fit, model.fit(nAGQ=points)


def _order(fit, result):
    """Places of the reference's coefficients in ours."""
    names = list(result.model.exog_names)
    theirs = fit.get("python_names") if "engine" in fit else None  # brute force has patsy's order
    theirs = theirs or fit["fixef"]["names"]
    return [names.index(n) if n in names else names.index(_patsy(n, names)) for n in theirs]


def _patsy(name, known):
    """R's ``tempwarm`` is patsy's ``temp[T.warm]``."""

    def plain(text):
        return text.replace("[T.", "").replace("]", "").replace("(Intercept)", "Intercept").replace(" ", "")

    return next(k for k in known if plain(k) == name.replace("(Intercept)", "Intercept").replace(" ", ""))


def _errors(fit):
    return np.array([*fit["se"], *fit["psi"].get("se", [])], dtype=float)


def _both(fit, result, ours):
    p = result.model.k_fixed
    return np.concatenate([ours[:p][_order(fit, result)], ours[p:]])


def _cov(result, group):
    blocks = [t for t in result.term_covariances if t.group == group]
    out = np.zeros((sum(len(t.columns) for t in blocks),) * 2)
    at = 0
    for t in blocks:
        q = len(t.columns)
        out[at : at + q, at : at + q] = t.cov
        at += q
    return out


def check_variances(fit, result, tolerance):
    for term in fit["terms"]:
        theirs = np.array(term["cov"], dtype=float)
        assert np.abs(_cov(result, term["group"]) - theirs).max() <= tolerance * np.abs(theirs).max() + 1e-9


def test_converged(pair):
    fit, result = pair
    assert result.converged, result.record.reason
    if not fit.get("weights"):
        assert result.nobs == fit["nobs"]
    assert dict(result.ngroups) == fit["ngroups"]


def test_log_likelihood(pair):
    fit, result = pair
    assert result.llf == pytest.approx(fit["llf"], rel=1e-6)
    if fit["id"] != "counts_crossed_nb2":  # where glmmTMB's formula loses digits near alpha = 0
        assert result.llf > fit["llf"] - 1e-7 * abs(fit["llf"])


def test_estimates(pair):
    fit, result = pair
    if not _interior(fit):
        assert result.is_singular
        return
    ours = _both(fit, result, np.asarray(result.params))
    theirs = np.array([*fit["fixef"]["values"], *fit["psi"].get("values", [])], dtype=float)
    assert np.abs((ours - theirs) / _errors(fit)).max() < 1e-3


def test_standard_errors(pair):
    fit, result = pair
    if not _interior(fit):
        return
    ours = _both(fit, result, np.asarray(result.bse))
    assert np.abs(ours / _errors(fit) - 1.0).max() < SE_TOLERANCE[fit["engine"]]


def test_variances(pair):
    fit, result = pair
    if _interior(fit):
        check_variances(fit, result, 1e-3)


def test_brute_force(exact_pair):
    fit, result = exact_pair
    assert result.converged, result.record.reason
    assert result.llf == pytest.approx(fit["llf"], rel=1e-7)
    ours = _both(fit, result, np.asarray(result.params))
    theirs = np.array([*fit["fixef"]["values"], *fit["psi"].get("values", [])], dtype=float)
    assert np.abs((ours - theirs) / _errors(fit)).max() < 1e-4
    assert np.abs(_both(fit, result, np.asarray(result.bse)) / _errors(fit) - 1.0).max() < 1e-4
    check_variances(fit, result, 1e-4)


def test_gaussian_identity_is_the_linear_model():
    import sm_multilevel.formula.api as smf
    from sm_multilevel.datasets import sleepstudy
    from sm_multilevel.models.generalized import MixedGLM

    df = sleepstudy.load_pandas().data
    formula = "Reaction ~ Days + (Days | Subject)"
    linear = smf.mixedlm(formula, df).fit(reml=False)
    for points in (1, 3):
        result = MixedGLM.from_formula(formula, df, family="gaussian").fit(nAGQ=points)
        assert result.llf == pytest.approx(linear.llf, rel=1e-9)
        assert np.asarray(result.fe_params) == pytest.approx(np.asarray(linear.params), rel=1e-6)
        assert result.params["dispersion"] == pytest.approx(linear.scale, rel=1e-5)
        assert result.cov_re.to_numpy() == pytest.approx(linear.cov_re.to_numpy(), rel=1e-4)
