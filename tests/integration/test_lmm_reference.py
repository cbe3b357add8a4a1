"""The test matrix: every fit against R's (tests/reference), each in all its spellings.

Tolerances are the issue's: log-likelihood 1e-7 relative, fixed effects 1e-4 of their
standard error, standard errors 1e-4 relative, variances 1e-4 relative or 1e-6 of the
residual variance at the boundary.
"""

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import sm_multilevel.formula.api as smf

sys.path.insert(0, str(Path(__file__).parents[1]))
from reference.cases import fit_id, fits, frame

FITS = fits()


def _fit(reference, spelling=None):
    data = frame(reference["data"])
    options = dict(spelling or {"formula": reference["formula"]})
    formula = options.pop("formula")
    if options.get("groups") == 1:
        options["groups"] = np.ones(len(data))
    if reference.get("weights"):
        options["var_weights"] = reference["weights"]
    if reference.get("covariance"):
        options["covariance"] = reference["covariance"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return smf.mixedlm(formula, data, **options).fit(reml=reference["reml"])


@pytest.fixture(scope="module")
def cache():
    return {}


def _cached(cache, reference):
    key = fit_id(reference)
    if key not in cache:
        cache.clear()  # the large ones are not kept longer than needed
        cache[key] = _fit(reference)
    return cache[key]


@pytest.mark.parametrize("reference", FITS, ids=fit_id)
class TestAgainstR:
    def test_converged(self, cache, reference):
        result = _cached(cache, reference)
        assert result.converged
        assert result.is_singular == reference["is_singular"]
        assert result.nobs == reference["nobs"]

    def test_likelihood(self, cache, reference):
        result = _cached(cache, reference)
        assert result.llf == pytest.approx(reference["llf"], rel=1e-7)
        # Nothing that R found may be better than ours.
        best = max(run["llf"] for run in reference["runs"].values())
        assert result.llf >= best - 1e-9 * abs(best)
        assert result.aic == pytest.approx(reference["aic"], rel=1e-7)
        assert result.bic() == pytest.approx(reference["bic"], rel=1e-7)

    def test_fixed_effects(self, cache, reference):
        result = _cached(cache, reference)
        se = np.array(_list(reference["se"]))
        order = _order(result, reference)
        error = np.abs(result.params[order].to_numpy() - _list(reference["fixef"]["values"])) / se
        assert error.max() < 1e-4
        np.testing.assert_allclose(result.bse[order], se, rtol=1e-4)
        vcov = np.array(reference["vcov"]).reshape(len(se), len(se))
        ours = result.cov_params().loc[order, order].to_numpy()
        assert np.max(np.abs(ours - vcov) / np.outer(se, se)) < 2e-4

    def test_variances(self, cache, reference):
        result = _cached(cache, reference)
        dummies = {
            name: "".join(re.search(r"(\w+) == '(\w+)'", code).groups())
            for name, code in (reference.get("r_columns") or {}).items()
        }
        want = {
            _row(r["grp"], *(dummies.get(r.get(v), r.get(v)) for v in ("var1", "var2"))): r["vcov"]
            for r in reference["varcorr"]
        }
        got = {_row(r.grp, r.var1, r.var2): r.vcov for r in result.varcorr().itertuples()}
        assert set(got) == set(want)
        residual = reference["sigma"] ** 2
        for (group, names), target in want.items():
            # A covariance is judged by the product of its standard deviations.
            scale = np.sqrt(np.prod([want[group, (n,)] for n in names])) if len(names) == 2 else target
            off = abs(got[group, names] - target)
            assert off <= max(1e-4 * abs(scale), 1e-6 * residual), (group, names, got[group, names], target)

    def test_random_effects(self, cache, reference):
        result = _cached(cache, reference)
        fitted = np.array(reference["fitted"])
        scale = reference["sigma"]
        np.testing.assert_allclose(result.fittedvalues.iloc[:5], fitted, atol=2e-4 * scale)


def _list(value):
    """R writes a vector of one as a single value."""
    return value if isinstance(value, list) else [value]


def _order(result, reference):
    """Our names of the coefficients in R's order."""
    if reference.get("python_names"):
        return _list(reference["python_names"])
    assert len(result.params) == len(_list(reference["fixef"]["names"]))
    return list(result.params.index)


def _plain(name):
    """A column's name without what R and patsy spell differently."""
    for old, new in (("(Intercept)", "Intercept"), ("[T.", ""), ("[", ""), ("]", ""), ("**", "^"), (" ", "")):
        name = name.replace(old, new)
    return name


def _row(group, *names):
    """Key of a row of VarCorr: R's order of terms with equally many levels is its own."""
    group = re.sub(r"\.\d+$|[()]", "", group).replace(".", ":")
    return group, tuple(sorted(_plain(n) for n in names if isinstance(n, str)))


SPELLINGS = [
    pytest.param(reference, spelling, id=f"{fit_id(reference)}-{k}")
    for reference in FITS
    for k, spelling in enumerate(reference.get("spellings") or [])
]


@pytest.mark.parametrize(("reference", "spelling"), SPELLINGS)
def test_other_spellings(reference, spelling):
    result = _fit(reference, spelling)
    assert result.converged
    assert result.llf == pytest.approx(reference["llf"], rel=1e-7)
    error = result.params[_order(result, reference)].to_numpy() - _list(reference["fixef"]["values"])
    assert np.max(np.abs(error) / _list(reference["se"])) < 1e-4
