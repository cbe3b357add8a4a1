"""Likelihood ratio tests of nested models, with null distributions that know that variances cannot be negative."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import REFIT, users_level
from sm_multilevel.postestimation.comparison.boundary import NoNullError, asymptotic, cone_of, null_space
from sm_multilevel.postestimation.comparison.chibar import ChiBarSquare
from sm_multilevel.postestimation.comparison.exact import exact_draws, one_variance
from sm_multilevel.postestimation.comparison.nesting import (
    Nesting,
    NestingError,
    check_comparable,
    label_of,
    nest,
)
from sm_multilevel.postestimation.comparison.outside import has_likelihood, is_regression, regression_of
from sm_multilevel.postestimation.comparison.regression import Regression
from sm_multilevel.postestimation.resampling.refits import refits
from sm_multilevel.progress import Progress, in_parallel

__all__ = ["LRTestResult", "check_options", "compare_fits", "inner_result", "likelihood_ratio", "lrtest"]

METHODS = ("asymptotic", "exact", "bootstrap")
_DRAWS = {"asymptotic": 10_000, "exact": 10_000, "bootstrap": 1000}
_BATCH = 100  # replicates a batch of the bootstrap; the same for any number of jobs
_ROUNDING = 1e-6  # deviance by which the full model may be worse
_EQUAL = 1e-12  # differences of log-likelihoods that rounding makes, relative to them


@dataclass(frozen=True, eq=False)
class LRTestResult:
    """A likelihood ratio test.

    Attributes
    ----------
    chi2 : float
        Fall of the deviance from the restricted to the full model, never negative.
    df : int
        Number of parameters that the full model has more.
    p_value : float
    boundary_corrected : bool
        Whether the null distribution takes account of the boundary: variances or alpha that are zero in the
        restricted model. False where there are none.
    method : {"asymptotic", "exact", "bootstrap"}
    distribution : ChiBarSquare or None
        The asymptotic null distribution, with ``df`` and ``weights``; None for other methods.
    p_chi2 : float
        What ``chi2(df)``, without a correction, would give.
    mc_error : float
        Monte-Carlo standard error of `p_value`; 0 where nothing is simulated.
    n : int
        Draws or replicates, 0 where nothing is simulated.
    failed : int
        Replicates of a bootstrap that did not converge; `p_value` is of the others.
    restricted, full : str
        The models, in words.
    note : str
        What is approximate, if anything.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.api import lrtest
    >>> test = lrtest(smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit(), res)
    >>> print(f"{test.chi2:.2f} {test.df} {test.p_value:.1e}")
    42.84 2 2.8e-10
    >>> print(test.distribution)
    0.500 chi2(1) + 0.500 chi2(2)
    """

    chi2: float
    df: int
    p_value: float
    boundary_corrected: bool
    method: str
    distribution: ChiBarSquare | None
    p_chi2: float
    mc_error: float
    n: int
    failed: int
    restricted: str
    full: str
    note: str = ""

    def keys(self) -> list[str]:
        """Names of the main numbers, for ``dict(test)``.

        Returns
        -------
        list of str

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> from sm_multilevel.api import lrtest
        >>> test = lrtest(smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit(), res)
        >>> "p_value" in test.keys()
        True
        """
        return ["chi2", "df", "p_value", "boundary_corrected"]

    def __getitem__(self, key: str):
        if key not in self.keys():
            raise KeyError(f"{key!r}; there are {', '.join(self.keys())}.")
        return getattr(self, key)

    def summary(self) -> str:
        """The test in words.

        Returns
        -------
        str

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> from sm_multilevel.api import lrtest
        >>> print(lrtest(smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit(), res).summary())
        Likelihood ratio test, asymptotic
          restricted: 'Reaction ~ Days + (1 | Subject)'
          full:       'Reaction ~ Days + (Days | Subject)'
          chibar2(1:2) = 42.8368  df = 2  p = 2.793e-10
          null distribution: 0.500 chi2(1) + 0.500 chi2(2)
          without correction for the boundary, chi2(2): p = 4.99e-10
        """
        kind = "chibar2" if self.boundary_corrected and self.distribution is not None else "chi2"
        df = f"({self.df})"
        if kind == "chibar2" and self.distribution is not None:
            df = f"({self.distribution.df[0]}:{self.distribution.df[-1]})"
        error = f" (Monte-Carlo error {self.mc_error:.2g})" if self.mc_error else ""
        name = f"{kind}{df}" if self.method == "asymptotic" else "LR"
        lines = [
            f"Likelihood ratio test, {self.method}",
            f"  restricted: {self.restricted}",
            f"  full:       {self.full}",
            f"  {name} = {self.chi2:.4f}  df = {self.df}  {_p(self.p_value)}{error}",
        ]
        if self.boundary_corrected and self.distribution is not None:
            lines.append(f"  null distribution: {self.distribution}")
        if self.method == "exact":
            lines.append(f"  null distribution: {self.n} draws")
        if self.method == "bootstrap":
            lines.append(f"  null distribution: {self.n} replicates, {self.failed} of them failed")
        if self.boundary_corrected:
            lines.append(f"  without correction for the boundary, chi2({self.df}): {_p(self.p_chi2)}")
        if self.note:
            lines.append(f"  {self.note}")
        return "\n".join(lines)

    __str__ = summary


def lrtest(
    restricted: Any,
    full: Any,
    method: str = "asymptotic",
    n: int | None = None,
    seed: int | None = None,
    n_jobs: int | None = 1,
) -> LRTestResult:
    """Likelihood ratio test of two nested models.

    Parameters
    ----------
    restricted, full : result
        Fits of the same rows and response by the same method; in either order. The restricted one may also be a
        result of statsmodels' OLS, WLS, GLM or discrete models, the regression without random effects.
    method : {"asymptotic", "exact", "bootstrap"}
        Where the null distribution comes from. ``"asymptotic"``: the chi-bar-square mixture of large samples, 50:50
        of chi2(0) and chi2(1) for one variance. ``"exact"``: for one variance of a linear model, the finite-sample
        distribution by simulation (where the restricted model has other random effects, and REML, these are taken as
        known). ``"bootstrap"``: for any models, responses are drawn from the restricted one and both are refitted.
    n : int, optional
        Draws or replicates: 1000 of the bootstrap, else 10,000. The asymptotic mixture needs none for up to
        three variances, or the covariance matrix of two columns.
    seed : int, optional
        Of what is simulated.
    n_jobs : int
        Processes of the bootstrap; results do not depend on their number.

    Returns
    -------
    LRTestResult
        ``chi2, df, p_value, boundary_corrected`` and, where something is simulated, ``mc_error``.

    Raises
    ------
    ValueError
        If the models are of different rows or responses, are not nested, were fitted by REML with different fixed
        effects, or did not converge; if the restricted fit is singular (then ``"bootstrap"`` is possible); for an
        unknown method or ``n`` below one.

    Notes
    -----
    Self and Liang (1987), J. Am. Stat. Assoc. 82, 605-610; Stram and Lee (1994), Biometrics 50, 1171-1177 (a
    correlated slope beside q columns: the 50:50 mixture of chi2(q) and chi2(q + 1)); for several components at once
    the weights follow from their information matrix. Crainiceanu and Ruppert (2004), J. R. Stat. Soc. B 66, 165-185
    (``"exact"``); Greven et al. (2008), J. Comput. Graph. Stat. 17, 870-891 (with other random effects). The p-value
    of what is simulated is (1 + number of draws not below chi2) / (1 + n).

    Examples
    --------
    >>> import sm_multilevel.api as smm
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> intercepts = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit()
    >>> slopes = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> print(smm.lrtest(intercepts, slopes))
    Likelihood ratio test, asymptotic
      restricted: 'Reaction ~ Days + (1 | Subject)'
      full:       'Reaction ~ Days + (Days | Subject)'
      chibar2(1:2) = 42.8368  df = 2  p = 2.793e-10
      null distribution: 0.500 chi2(1) + 0.500 chi2(2)
      without correction for the boundary, chi2(2): p = 4.99e-10
    """
    first, second = inner_result(restricted, "restricted"), inner_result(full, "full")
    check_options(method, n, n_jobs)
    for fit in (first, second):
        if not isinstance(fit, tuple):
            fit.model.require_data("lrtest()")
            _check_converged(fit)
    if isinstance(first, tuple) and isinstance(second, tuple):
        raise ValueError("Neither model has random effects: use the compare_lr_test() of statsmodels' own results.")
    if isinstance(second, tuple):
        first, second = second, first
    with one_blas_thread():
        if isinstance(first, tuple):
            return compare_fits(regression_of(first[0], second), second, method, n, seed, n_jobs)
        check_comparable(first, second)
        if first.k_params > second.k_params:
            first, second = second, first
        return compare_fits(first, second, method, n, seed, n_jobs)


def compare_fits(restricted, full, method="asymptotic", n=None, seed=None, n_jobs=1) -> LRTestResult:
    """`lrtest` of fits that can be compared, the restricted one first; it may be a `Regression`."""
    try:
        nesting = nest(restricted, full)
    except NestingError as reason:
        if not isinstance(restricted, Regression) and restricted.k_params == full.k_params:
            nesting = _other_way(restricted, full, reason)
            restricted, full = full, restricted
        else:
            raise
    if nesting.df == 0:
        raise ValueError(
            f"{label_of(restricted)} and {label_of(full)} are the same model: there is nothing to test (df = 0)."
        )
    chi2 = likelihood_ratio(restricted, full)
    at_boundary = _has_boundary(nesting)
    count = _DRAWS[method] if n is None else int(n)
    distribution, p, error, failed, note = None, np.nan, 0.0, 0, ""
    if method == "asymptotic":
        distribution = _mixture(nesting, restricted, full, count, seed)
        p, error = distribution.sf(chi2), distribution.error(chi2)
        count = distribution.draws
    else:
        if method == "exact":
            draws, note = _exact(nesting, restricted, full, count, seed)
        else:
            draws = _bootstrap(restricted, full, count, seed, n_jobs)
        good = np.isfinite(draws)
        failed = int((~good).sum())
        if not good.any():
            raise ValueError(f"None of the {count} replicates could be fitted by both models. Simplify the larger one.")
        p, error = _share(draws[good], chi2)
        if failed:
            warnings.warn(
                f"{failed} of {count} replicates did not converge in one of the models; the p-value is of the others.",
                ConvergenceWarning,
                stacklevel=users_level(),
            )
    return LRTestResult(
        chi2, nesting.df, float(p), at_boundary, method, distribution, float(stats.chi2.sf(chi2, nesting.df)),
        float(error), count, failed, *_labels(restricted, full), note,
    )  # fmt: skip


def _labels(restricted, full) -> tuple[str, str]:
    """The models' names; with their families where the names do not tell them apart."""
    first, second = label_of(restricted), label_of(full)
    return (first, second) if first != second else (f"{first}, {restricted.family!r}", f"{second}, {full.family!r}")


def _p(value: float) -> str:
    return "p < 1e-300" if value == 0.0 else f"p = {value:.4g}"


def likelihood_ratio(restricted, full) -> float:
    """Fall of the deviance.

    Raises
    ------
    ValueError
        If it rises: then one of the fits has not reached its optimum.
    """
    if not np.isfinite(restricted.llf):
        raise ValueError(f"{label_of(restricted)} could not be fitted.")
    chi2 = 2.0 * float(full.llf - restricted.llf)
    if chi2 < -_ROUNDING * max(1.0, 1e-3 * abs(full.llf)):
        raise ValueError(
            f"The full model {label_of(full)} has a lower log-likelihood ({full.llf:.6f}) than the restricted one "
            f"{label_of(restricted)} ({restricted.llf:.6f}), so that one of the fits has not reached its optimum. Fit "
            "the full model again from other start_params, or by another method=."
        )
    # A tail of the mixture jumps at zero: what rounding leaves of equal likelihoods is not above it.
    return chi2 if chi2 > _EQUAL * max(1.0, abs(full.llf)) else 0.0


# -- checks ---------------------------------------------------------------------------------------------


def inner_result(fit, name):
    """A result of this package without its wrapper, or a statsmodels regression in a tuple."""
    inner = getattr(fit, "_results", fit)
    if hasattr(inner, "record") and hasattr(inner, "theta"):
        return inner
    if is_regression(inner):
        if not has_likelihood(inner):
            raise ValueError(
                f"{name}= is a {type(inner).__name__} of {type(inner.model).__name__}, which has no log-likelihood, so "
                "that there is no likelihood ratio. Give a result of OLS, WLS, GLM or a discrete model."
            )
        return (inner,)
    raise ValueError(
        f"{name}= is a {type(fit).__name__}, not a fitted model. Give results of fit(), the restricted model first."
    )


def check_options(method, n, n_jobs) -> None:
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known. Choose one of {', '.join(map(repr, METHODS))}.")
    for name, value in (("n", n), ("n_jobs", n_jobs)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if value is not None and not (whole and (value >= 1 or (name == "n_jobs" and value <= -1))):
            least = "the number of draws or replicates, at least one" if name == "n" else "a number of processes, or -1"
            raise ValueError(f"{name}={value!r}: give {least}.")


def _check_converged(result) -> None:
    if not result.converged:
        raise ValueError(
            f"The fit of {label_of(result)} did not converge ({result.record.reason}), so that its likelihood is not a "
            f"maximum and the ratio means nothing. {REFIT}"
        )


def _other_way(restricted, full, reason):
    """The nesting of two models of as many parameters, where the first one may contain the second."""
    try:
        return nest(full, restricted)
    except NestingError:
        raise reason from None


def _has_boundary(nesting: Nesting) -> bool:
    try:
        return bool(nesting.psi or cone_of(replace(nesting, null=nesting.interior))[0])
    except NoNullError:
        return True


def _is_singular(fit) -> bool:
    return not isinstance(fit, Regression) and fit.is_singular


def _mixture(nesting, restricted, full, n, seed) -> ChiBarSquare:
    free = nesting.df == nesting.fixed  # only fixed effects: orthogonal to variances in a linear model
    if _is_singular(restricted):
        if free and full.family is None:
            return ChiBarSquare((nesting.df,), (1.0,))
        raise NoNullError(
            f"The restricted fit, {label_of(restricted)}, is singular ({'; '.join(restricted.record.singular)}), so "
            "that the asymptotic distribution of the likelihood ratio is not known. Use method='bootstrap'."
        )
    try:
        return asymptotic(nesting, restricted, n, seed)
    except NoNullError as error:
        raise NoNullError(f"{error} Use method='bootstrap'.") from None


# -- simulated distributions ------------------------------------------------------------------------------


def _share(draws, chi2) -> tuple[float, float]:
    """(1 + number of draws not below the statistic) / (1 + n), and its standard error."""
    count = len(draws)
    p = (1.0 + float((draws >= chi2 - 1e-9 * max(1.0, chi2)).sum())) / (1.0 + count)
    return p, float(np.sqrt(p * (1.0 - p) / count))


def _exact(nesting, restricted, full, n, seed) -> tuple[np.ndarray, str]:
    if full.family is not None:
        raise NoNullError(
            f"method='exact' is for linear models; {label_of(full)} is a {type(full.model).__name__}. Use "
            "method='bootstrap'."
        )
    if _is_singular(restricted):
        raise NoNullError(
            f"The restricted fit, {label_of(restricted)}, is singular ({'; '.join(restricted.record.singular)}): "
            "method='exact' would take its variances as known. Use method='bootstrap'."
        )
    found = _single_variance(nesting)
    if found is None:
        raise NoNullError(
            "method='exact' is for one variance that the full model adds, without correlations; these models differ "
            f"by {nesting.df} parameters, or not by a variance. Use method='asymptotic' or 'bootstrap'."
        )
    alone, note = nesting.inside.shape[1] == 0, ""
    if not alone:
        if not full.reml:
            raise NoNullError(
                "method='exact' with other random effects in the restricted model is for REML fits (Greven et al. "
                "2008). Fit both with reml=True, or use method='bootstrap'."
            )
        note = "Approximate: the other random effects are taken as known (Greven et al. 2008)."
    factor, direction = found
    data = full.model.cross_products()
    mu, xi = one_variance(data, factor, direction)
    if data.nobs - data.p < 1:
        raise ValueError("There are no degrees of freedom left for the residual.")
    draws = exact_draws(
        mu, xi, int(data.nobs), data.p, nesting.fixed, full.reml, n, np.random.default_rng(seed)
    )  # fmt: skip
    return draws, note


def _single_variance(nesting: Nesting) -> tuple[int, np.ndarray] | None:
    """Factor and direction of the only variance that the full model adds, or None."""
    if nesting.psi or len(nesting.directions) - nesting.inside.shape[1] != 1:
        return None
    nesting = replace(nesting, null=nesting.interior)
    try:
        if cone_of(nesting)[0] != [1]:
            return None
    except NoNullError:
        return None
    effects = nesting.full.model.effects
    for term, (f, start) in zip(effects.terms, effects.home, strict=True):
        part = slice(start, start + term.q)
        null = null_space(nesting.null[f][part, part])
        if null.shape[1]:
            wanted = np.zeros_like(nesting.null[f])
            wanted[part, part] = null @ null.T
            own = np.stack([g.ravel() for home, g in nesting.directions if home == f], axis=1)
            left = wanted.ravel() - own @ np.linalg.lstsq(own, wanted.ravel(), rcond=None)[0]
            return (f, wanted) if np.abs(left).max() < 1e-9 else None
    return None


def _bootstrap(restricted, full, n, seed, n_jobs) -> np.ndarray:
    """Likelihood ratios of responses drawn from the restricted fit; NaN where a fit failed."""
    if full.model.freq_weights is not None:
        raise ValueError(
            "method='bootstrap' draws one response a row, and freq_weights make a row stand for several. Repeat the "
            "rows instead."
        )
    sizes = [min(_BATCH, n - start) for start in range(0, n, _BATCH)]
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))
    tasks = [(_replicates, restricted, full, *task) for task in zip(sizes, seeds, strict=True)]
    with Progress("bootstrap test", total=n, unit="replicates") as progress:
        return np.concatenate(in_parallel(tasks, n_jobs, progress, _BATCH))


def _replicates(restricted, full, count, seed) -> np.ndarray:
    rng = np.random.default_rng(seed)
    with one_blas_thread():
        if isinstance(restricted, Regression):
            responses = restricted.simulate(count, rng)
            null = restricted.deviances(responses)
        else:
            responses = restricted.simulate(count, seed=rng)
            null = _deviances(restricted, responses)
        ratio = null - _deviances(full, responses)
    return np.where(ratio < -1e-3, np.nan, np.maximum(ratio, 0.0))  # the full fit missed its optimum


def _deviances(result, responses):
    found = refits(result, responses)
    return np.where(found.converged, -2.0 * found.llf, np.nan)
