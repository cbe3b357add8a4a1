"""Families by name, or from statsmodels' own."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from statsmodels.genmod import families as smf
from statsmodels.genmod.families import links

from sm_multilevel.families.binomial import BinomialFamily
from sm_multilevel.families.exponential import ExponentialFamily
from sm_multilevel.families.kernels import GammaKernel, GaussianKernel, InverseGaussianKernel, Kernel, PoissonKernel
from sm_multilevel.families.links import inverse_link
from sm_multilevel.families.negbin import NegBin, fixed_negbin
from sm_multilevel.families.response import ResponseFamily
from sm_multilevel.families.stable import bound_class

__all__ = ["FAMILIES", "LINKS", "get_family"]

LINKS: dict[str, Callable] = {
    "logit": links.Logit,
    "probit": links.Probit,
    "cloglog": links.CLogLog,
    "loglog": links.LogLog,
    "cauchy": links.Cauchy,
    "cauchit": links.Cauchy,
    "log": links.Log,
    "identity": links.Identity,
    "sqrt": links.Sqrt,
    "inverse": links.InversePower,
    "inverse_squared": links.InverseSquared,
}
_DEFAULTS = {
    "binomial": smf.Binomial,
    "poisson": smf.Poisson,
    "gamma": smf.Gamma,
    "gaussian": smf.Gaussian,
    "inverse_gaussian": smf.InverseGaussian,
    "inversegaussian": smf.InverseGaussian,
}
_NEGBIN = {
    "negbin": "nb2",
    "nb2": "nb2",
    "nb1": "nb1",
    "negativebinomial": "nb2",
    "negative_binomial": "nb2",
    "nbinomial": "nb2",
}
FAMILIES = ("binomial", "poisson", "gamma", "gaussian", "inverse_gaussian", "negbin", "nb1")  # synonyms left out
_REFUSED = {
    "zero": "zero-inflated",
    "zip": "zero-inflated",
    "zinb": "zero-inflated",
    "beta": "beta",
    "tweedie": "Tweedie",
    "hurdle": "hurdle",
}
_ZEROS = "For many zeros use 'negbin', or model zero or not by 'binomial' and the positive values by another model."
# Names of R's and Stata's families, and of links, that another one here stands for.
_R_FAMILIES = {
    "normal": "gaussian",
    "igaussian": "inverse_gaussian",
    "nbreg": "negbin",
    "logit": "binomial",
    "logistic": "binomial",
    "probit": "binomial",
    "nbinom2": "negbin",
    "nbinom1": "nb1",
    "quasipoisson": "nb1",  # a variance proportional to the mean
    "bernoulli": "binomial",
}
_INSTEAD = {
    "zero-inflated": _ZEROS,
    "hurdle": _ZEROS,
    "beta": "For proportions of counts use 'binomial' with n_trials=; for others a linear model of their logits.",
}


class _CustomKernel(Kernel):
    """A user's family: its log-density and variance; its scale is 1."""

    def __init__(self, family):
        self.family = family
        self.name = type(family).__name__
        self.positive = getattr(family, "valid", [-np.inf])[0] >= 0
        self.discrete = bool(getattr(family, "is_discrete", False))

    def check(self, data, what):
        low, high = getattr(self.family, "valid", [-np.inf, np.inf])
        y = data.endog
        if np.any((y < low) | (y > high)):
            row = int(np.argmax((y < low) | (y > high)))
            raise ValueError(
                f"{what} has values outside of [{low}, {high}], where {self.name} is defined: row {row} "
                f"(counted from 0) is {y[row]:.10g}. Leave these rows out or choose another family."
            )
        self._agrees(y, what)

    def _agrees(self, y, what):
        """The density's derivative by the mean must be (y - mu) / V(mu)."""
        try:
            mu = np.linspace(0.4, 0.6, 5) * np.mean(y) + 0.5 * np.mean(y)
            h = 1e-5 * np.maximum(np.abs(mu), 1e-3)
            some = y[np.linspace(0, len(y) - 1, 5).astype(int)]
            slope = (self.q(some, mu + h) - self.q(some, mu - h)) / (2 * h)
        except NotImplementedError:
            raise ValueError(
                f"{self.name} has no log-likelihood (loglike_obs), which a multilevel model maximises. "
                "Write that method in the family."
            ) from None
        want = (some - mu) / self.variance(mu)[0]
        fine = np.isfinite(slope) & np.isfinite(want)
        if not np.allclose(slope[fine], want[fine], rtol=1e-3, atol=1e-5 * np.max(np.abs(want), initial=0.0)):
            raise ValueError(
                f"The log-likelihood of {self.name} does not fit its variance function: by the mean it must have "
                "the derivative (endog - mu) / variance(mu) at scale 1. A family whose scale is estimated, or "
                "that has other parameters, is to be a sm_multilevel.families.ResponseFamily."
            )

    def q(self, y, mu):
        return np.asarray(self.family.loglike_obs(y, mu, 1.0, scale=1.0), dtype=float)

    def constant(self, y):
        return np.zeros_like(y)

    def variance(self, mu):
        v = self.family.variance

        def slope(m):
            if hasattr(v, "deriv"):
                return np.asarray(v.deriv(m), dtype=float)
            h = 1e-5 * np.maximum(np.abs(m), 1e-8)
            return (v(m + h) - v(m - h)) / (2 * h)

        h = 1e-4 * np.maximum(np.abs(mu), 1e-8)
        return np.asarray(v(mu), dtype=float), slope(mu), (slope(mu + h) - slope(mu - h)) / (2 * h)

    def unit_deviance(self, y, mu):
        return np.square(self.family.resid_dev(y, mu))

    def cdf(self, data, mu, scale):
        below = self._distribution(mu).cdf(data.endog - 1 if self.discrete else data.endog)
        return below, self._distribution(mu).cdf(data.endog)

    def simulate(self, data, mu, scale, rng):
        return np.asarray(self._distribution(mu).rvs(size=np.shape(mu), random_state=rng), dtype=float)

    def _distribution(self, mu):
        if not hasattr(self.family, "get_distribution"):
            raise ValueError(f"{self.name} has no get_distribution, so it can give no probabilities nor simulate.")
        return self.family.get_distribution(mu, 1.0)


def _by_kernel(kernel: type[Kernel]):
    def build(family):
        inverse, new = inverse_link(family.link), kernel()
        return ExponentialFamily(new, inverse, bound_class(new, inverse))

    return build


def _tweedie(family):
    raise ValueError(
        "The Tweedie family is not available yet. For positive responses use Gamma or InverseGaussian; for "
        "amounts with zeros, a binomial model of zero or not and a Gamma model of the positive amounts."
    )


_BUILDERS: dict[type, Callable] = {
    smf.Binomial: lambda family: BinomialFamily(inverse_link(family.link)),
    smf.Poisson: _by_kernel(PoissonKernel),
    smf.Gaussian: _by_kernel(GaussianKernel),
    smf.Gamma: _by_kernel(GammaKernel),
    smf.InverseGaussian: _by_kernel(InverseGaussianKernel),
    smf.NegativeBinomial: lambda family: fixed_negbin(family.alpha, inverse_link(family.link)),
    smf.Tweedie: _tweedie,
}


def _adapt(family) -> ResponseFamily:
    own: Any = type(family)
    for cls in own.__mro__:
        if cls in _BUILDERS and (own is cls or own.loglike_obs is cls.loglike_obs):
            return _BUILDERS[cls](family)
    kernel = _CustomKernel(family)
    if own.loglike_obs is smf.Family.loglike_obs:
        raise ValueError(
            f"{kernel.name} has no log-likelihood (loglike_obs), which a multilevel model maximises. "
            "Write that method in the family."
        )
    return ExponentialFamily(kernel, inverse_link(family.link))


def _get_link(link):
    if isinstance(link, str):
        key = link.lower().replace("-", "_")
        if key not in LINKS:
            raise ValueError(f"No link is called {link!r}.{_guess(key, LINKS)} There are {', '.join(LINKS)}.")
        return LINKS[key]()
    if inspect.isclass(link):
        link = link()
    if not isinstance(link, links.Link):
        raise ValueError(f"link must be a name or a statsmodels link, not {link!r}. Names are {', '.join(LINKS)}.")
    return link


def _guess(name, known):
    found = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _named(name: str, link) -> ResponseFamily:
    key = name.lower().strip().replace("-", "_").replace(" ", "_")
    for start, label in _REFUSED.items():
        if key.startswith(start):
            if label == "Tweedie":
                _tweedie(None)
            raise ValueError(
                f"The {label} family is not available yet. {_INSTEAD[label]} There are {', '.join(FAMILIES)}."
            )
    if key in _NEGBIN:
        if link is not None and not isinstance(link, links.Log):
            raise ValueError(f"{name!r} with alpha estimated has the log link only.")
        return NegBin(_NEGBIN[key])
    if key not in _DEFAULTS:
        guess = f" Write {_R_FAMILIES[key]!r}." if key in _R_FAMILIES else _guess(key, FAMILIES)
        raise ValueError(f"No family is called {name!r}.{guess} There are {', '.join(FAMILIES)}.")
    return _adapt(_make(_DEFAULTS[key], link))


def _make(cls, link):
    with warnings.catch_warnings():  # unsafe links are accepted: leaving the domain is dealt with
        warnings.simplefilter("ignore")
        try:
            return cls() if link is None else cls(link=link)
        except ValueError:  # a link that statsmodels does not list for the family
            return cls(link=link, check_link=False)


def get_family(family, link=None) -> ResponseFamily:
    """The family of a model.

    Parameters
    ----------
    family : str, statsmodels Family (instance or class), or ResponseFamily
    link : str or statsmodels Link (instance or class), optional
        Default: the family's own.

    Returns
    -------
    ResponseFamily

    Examples
    --------
    >>> import statsmodels.api as sm
    >>> from sm_multilevel.families.registry import get_family
    >>> get_family("gamma", "log")
    Gamma(log)
    >>> get_family(sm.families.Poisson())
    Poisson(log)
    """
    link = None if link is None else _get_link(link)
    if isinstance(family, ResponseFamily):
        if link is not None and inverse_link(link).name != family.link_name:
            raise ValueError(f"The family {family!r} has its link already; leave out link=.")
        return family
    if isinstance(family, str):
        return _named(family, link)
    if inspect.isclass(family) and issubclass(family, smf.Family):
        return _adapt(_make(family, link))
    if isinstance(family, smf.Family):
        if link is not None and type(link) is not type(family.link):
            raise ValueError("The family has its link already; leave out link=, or give the family by name or class.")
        return _adapt(family)
    raise ValueError(f"family must be a name or a statsmodels family, not {family!r}. Names: {', '.join(FAMILIES)}.")
