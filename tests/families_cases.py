"""Every registered family with every link, with data for it; tests parametrise over `cases()`."""

import warnings

import numpy as np
import statsmodels.api as sm
from statsmodels.genmod.families import links

from sm_multilevel.families.negbin import NegBin
from sm_multilevel.families.ordinal import Cumulative
from sm_multilevel.families.registry import get_family
from sm_multilevel.families.response import ResponseData

# Where a linear predictor made for log-like links (mean 0, spread of 1 or less) has to go.
_INTO_DOMAIN = {
    "identity": lambda eta: 3 + eta,
    "sqrt": lambda eta: 3 + eta,
    "inverse": lambda eta: 3 + eta,
    "inverse_squared": lambda eta: 3 + eta,
    "power(0.3)": lambda eta: 3 + eta,
}
_INTO_UNIT = {
    "identity": lambda eta: 0.5 + 0.1 * eta,
    "log": lambda eta: -1.5 + 0.3 * eta,
    "logc": lambda eta: -1.5 + 0.3 * eta,
    "power(0.3)": lambda eta: 0.7 + 0.05 * eta,
}


def domain(family, eta):
    """eta moved into the domain of the family's link, for |eta| up to about 2.5."""
    if type(family).__name__ == "BinomialFamily":
        return _INTO_UNIT.get(family.link_name, lambda e: e)(eta)
    return _INTO_DOMAIN.get(family.link_name, lambda e: e)(eta)


def psi_for(family):
    """Natural psi to test at."""
    if family.name == "Cumulative":
        return np.cumsum([-1.1, *np.linspace(0.8, 1.3, len(family.psi_names) - 1)])
    return np.full(len(family.psi_names), 0.6)


def _maker(family, trials=False, var=False, freq=False):
    def make(rng, eta):
        n = np.asarray(eta).shape[-1]
        data = ResponseData(
            endog=np.zeros(n),
            trials=rng.integers(1, 12, n).astype(float) if trials else None,
            var_weights=rng.uniform(0.5, 2, n) if var else None,
            freq_weights=rng.integers(1, 4, n).astype(float) if freq else None,
            categories=getattr(family, "categories", None),
        )
        y = family.simulate(data, eta, psi_for(family), rng)
        if family.name == "Cumulative":  # every category is seen
            y[: len(family.categories)] = np.arange(len(family.categories))
        return ResponseData(y, data.trials, data.var_weights, data.freq_weights, data.categories)

    return make


class OwnLink(links.Link):
    """A user's own link, with no second derivatives: asinh."""

    def __call__(self, p):
        return np.arcsinh(p)

    def inverse(self, z):
        return np.sinh(z)

    def deriv(self, p):
        return 1 / np.sqrt(1 + p**2)


class OwnFamily(sm.families.Poisson):
    """A user's own family: a Poisson of another name and loglike_obs."""

    is_discrete = True

    def loglike_obs(self, endog, mu, var_weights=1.0, scale=1.0):
        return super().loglike_obs(endog, mu, var_weights, scale)


def _families():
    for link in ("logit", "probit", "cloglog", "loglog", "cauchit", "log", "identity"):
        yield get_family("binomial", link)
    for link in ("log", "identity", "sqrt"):
        yield get_family("poisson", link)
    for link in ("log", "inverse", "identity"):
        yield get_family("gamma", link)
    for link in ("inverse_squared", "inverse", "identity", "log"):
        yield get_family("inverse_gaussian", link)
    for link in ("identity", "log", "inverse"):
        yield get_family("gaussian", link)
    yield NegBin("nb2")
    yield NegBin("nb1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DomainWarning
        yield get_family(sm.families.NegativeBinomial(alpha=0.7))
        yield get_family(sm.families.NegativeBinomial(link=links.Identity(), alpha=0.7))
        yield get_family(sm.families.Binomial(link=links.LogC()))
        yield get_family(sm.families.Gaussian(link=OwnLink(), check_link=False))
        yield get_family(sm.families.Gamma(link=links.Power(0.3), check_link=False))
        yield get_family(OwnFamily())
    for distr in ("logit", "probit", "cloglog", "loglog", "cauchit"):
        yield Cumulative(distr, ("low", "mid", "high", "top"))
    yield Cumulative("logit", ("no", "yes"))


def cases():
    """Yield (label, ResponseFamily, make), make(rng, eta) -> ResponseData; eta as `domain` gives it."""
    for family in _families():
        label = f"{family.name}-{family.link_name}"
        if family.name == "Cumulative":
            label += f"-{len(family.categories)}"
        yield label, family, _maker(family)
        yield f"{label}-weighted", family, _maker(family, var=True, freq=True)
        if family.has_trials:
            yield f"{label}-trials", family, _maker(family, trials=True)
            yield f"{label}-trials-weighted", family, _maker(family, trials=True, freq=True)
