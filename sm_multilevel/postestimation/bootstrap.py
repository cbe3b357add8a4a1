"""Parametric bootstrap: responses drawn from the fitted model, model refitted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from sm_multilevel.checks import check_alpha

__all__ = ["BootstrapResults", "bootstrap", "simulate"]


@dataclass(frozen=True, eq=False)
class BootstrapResults:
    """Replicates of a statistic.

    Attributes
    ----------
    estimates : DataFrame
        One row a replicate that converged.
    observed : Series
        The statistic of the data.
    failed : int
        Replicates that did not converge, or whose response can have no fit; they are not in
        `estimates`.
    """

    estimates: pd.DataFrame
    observed: pd.Series
    failed: int

    @property
    def bse(self) -> pd.Series:
        """Standard deviation of the replicates."""
        return self.estimates.std(ddof=1)

    def conf_int(self, alpha=0.05) -> pd.DataFrame:
        """Percentile intervals."""
        alpha = check_alpha(alpha)
        out = self.estimates.quantile([alpha / 2, 1 - alpha / 2]).T
        out.columns = ["lower", "upper"]
        return out


def _replicates(n) -> int:
    if isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1:
        return int(n)
    raise ValueError(f"n={n!r}: give the number of replicates, at least one.")


def simulate(result, n=1, seed=None, include_random="new") -> np.ndarray:
    """Responses drawn from the fitted model; see `MultilevelResults.simulate`."""
    n = _replicates(n)
    if not (include_random == "new" or isinstance(include_random, (bool, np.bool_))):
        raise ValueError(f"include_random={include_random!r} is not known. Choose 'new', True or False.")
    rng = np.random.default_rng(seed)
    model = result.model
    model.require_data("simulate()")
    fixed = model.design.exog @ np.asarray(result.fe_params)
    if model.offset is not None:
        fixed = fixed + model.offset
    halves = []
    if include_random == "new":
        for term, part in zip(model.random, model.effects.per_term(result.theta), strict=True):
            halves.append(np.sqrt(result.scale) * term.covariance.factor(part, term.q))
    elif include_random:
        for term, solution in zip(model.random, result.term_solutions, strict=True):
            fixed = fixed + np.einsum("nq,nq->n", term.exog, solution.effects[term.codes])
    out = np.empty((n, len(fixed)))
    for k in range(n):
        eta = fixed.copy()
        for term, half in zip(model.random, halves):
            b = rng.standard_normal((term.n_levels, term.q)) @ half.T
            eta += np.einsum("nq,nq->n", term.exog, b[term.codes])
        out[k] = result.draw(eta, rng)
    return out


def _default_statistic(result):
    vc = pd.Series(result.variance_components)
    params = pd.Series(np.asarray(result.params), index=result.model.data.param_names)
    return pd.concat([params, vc])  # psi is in params


def bootstrap(result, n=1000, seed=None, statistic=None) -> BootstrapResults:
    """Parametric bootstrap; see `MixedLMResults.bootstrap`."""
    n = _replicates(n)
    if result.model.freq_weights is not None:
        raise ValueError(
            "bootstrap() draws one response a row, and freq_weights make a row stand for several. "
            "Repeat the rows instead."
        )
    statistic = statistic or _default_statistic
    observed = pd.Series(statistic(result))
    seeds = np.random.SeedSequence(seed).spawn(n)
    rows, failed = [], 0
    for child in seeds:
        y = simulate(result, 1, child)[0]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                refitted = result.refit(y)
        except ValueError:  # a response that has no fit, as successes only
            refitted = None
        if refitted is not None and refitted.converged:
            rows.append(np.asarray(statistic(refitted), dtype=float))
        else:
            failed += 1
    estimates = pd.DataFrame(np.array(rows).reshape(-1, len(observed)), columns=observed.index)
    return BootstrapResults(estimates, observed, failed)
