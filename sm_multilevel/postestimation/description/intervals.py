"""Confidence intervals of variance components and intraclass correlations.

By the delta method variances on the scale of their logarithm, correlations on Fisher's z, covariances as they are, as
Stata's `mixed` and `meglm` make them: rough where a variance is not far from zero. At the boundary itself, and where
it is asked for, they are those of the profile likelihood; or percentiles of a parametric bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sm_multilevel.checks import check_alpha, check_count, check_option
from sm_multilevel.postestimation.components.component_map import ComponentMap, Components, joint_components
from sm_multilevel.postestimation.description.icc import icc_table
from sm_multilevel.postestimation.profiling.profile import component_intervals, function_bound
from sm_multilevel.postestimation.resampling.bootstrap import bootstrap
from sm_multilevel.wording import suggest

__all__ = [
    "ComponentTable",
    "check_no_interval",
    "component_table",
    "icc",
    "icc_intervals",
    "wald_intervals",
    "with_intervals",
]

METHODS = ("wald", "profile", "boot")
_OF_BOOT = ("n", "seed", "n_jobs")


@dataclass(frozen=True, eq=False)
class ComponentTable:
    """Standard errors of the variance components, in the order of `varcorr()`; nothing as long as the data.

    Attributes
    ----------
    values, se : ndarray, shape (c,)
        Variances and covariances.
    sdcor, sdcor_se : ndarray, shape (c,)
        Standard deviations and correlations.
    is_variance, at_zero, at_one : ndarray of bool, shape (c,)
        Which are variances; which stand at zero, or belong to a variance that does; whose
        correlation is +1 or -1.
    """

    values: np.ndarray
    se: np.ndarray
    sdcor: np.ndarray
    sdcor_se: np.ndarray
    is_variance: np.ndarray
    at_zero: np.ndarray
    at_one: np.ndarray


def component_table(result: Any) -> ComponentTable:
    """Standard errors of a fit's variance components; all NaN where there is no information matrix."""
    return _table(joint_components(result))


def _table(c: Components) -> ComponentTable:
    variance = np.array([e.is_variance for e in c.map.entries], dtype=bool)
    return ComponentTable(c.values, c.se, c.sdcor, c.sdcor_se, variance, c.at_zero, c.at_one)


def wald_intervals(table: ComponentTable, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of variances and covariances, and of standard deviations and correlations.

    Parameters
    ----------
    table : ComponentTable
    alpha : float

    Returns
    -------
    vcov, sdcor : ndarray, shape (c, 2)
        NaN at the boundary, where the delta method has nothing to say.
    """
    z = stats.norm.ppf(1.0 - alpha / 2.0) * np.array([-1.0, 1.0])
    value, se = table.values[:, None], table.se[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        by_log = value * np.exp(z * se / value)
        by_fisher = np.tanh(np.arctanh(table.sdcor[:, None]) + z * (table.sdcor_se / (1.0 - table.sdcor**2))[:, None])
        vcov = np.where(table.is_variance[:, None], by_log, value + z * se)
        sdcor = np.where(table.is_variance[:, None], np.sqrt(by_log), by_fisher)
    vcov[table.at_zero] = np.nan
    sdcor[table.at_zero | table.at_one] = np.nan
    return vcov, sdcor


def with_intervals(result: Any, frame: pd.DataFrame, method: str, alpha: float, options: dict) -> pd.DataFrame:
    """`varcorr()` with standard errors and intervals; see `MultilevelResults.varcorr`."""
    alpha = check_alpha(alpha)
    _check_method("varcorr", method, alpha, options)
    table = result.component_table()
    if method == "profile":
        found = component_intervals(result, alpha)
        vcov, sdcor = found.vcov, found.sdcor
    elif method == "boot":
        values = _replicates(result, options)[0]
        components = ComponentMap(result.model.effects, result.residual_variance is not None)
        with np.errstate(all="ignore"):
            sdcors = np.array([components.sdcor(v)[0] for v in values])
        vcov, sdcor = (_percentiles(x, alpha) for x in (values, sdcors))
    else:
        vcov, sdcor = _with_boundary(result, table, alpha, *wald_intervals(table, alpha))
    out = frame.assign(vcov_se=table.se, sdcor_se=table.sdcor_se)
    for name, ends in (("vcov", vcov), ("sdcor", sdcor)):
        out[f"{name}_lower"], out[f"{name}_upper"] = ends.T
    order = [f"{name}_{what}" for name in ("vcov", "sdcor") for what in ("se", "lower", "upper")]
    return out[[*frame.columns, *order]]


def _with_boundary(result, table, alpha, vcov, sdcor):
    """The profile's intervals where an estimate stands at its boundary: the delta method has none there."""
    zero = table.is_variance & table.at_zero
    vcov[zero, 0] = sdcor[zero, 0] = 0.0
    rows = np.flatnonzero(zero | table.at_one)
    if rows.size and result.converged and result.model.design is not None:
        found = component_intervals(result, alpha, rows)
        vcov[zero], sdcor[rows] = found.vcov[zero], found.sdcor[rows]
    return vcov, sdcor


def _replicates(result, options) -> tuple[np.ndarray, np.ndarray]:
    """Components in the order of `varcorr()`, and `params`, of bootstrap replicates."""
    boot = bootstrap(result, **options)
    p, effects = len(np.asarray(result.params)), result.model.effects
    order = [
        (i, j, k)
        for i, term in enumerate(effects.terms)
        for j in range(term.q)
        for k in range(j, term.q if term.covariance.correlated else j + 1)
    ]
    place = {key: p + n for n, key in enumerate(order)}
    place[-1, 0, 0] = p + len(order)
    entries = ComponentMap(effects, result.residual_variance is not None).entries
    estimates = boot.estimates.to_numpy(dtype=float)
    return estimates[:, [place[e.term, e.j, e.k] for e in entries]], estimates[:, :p]


def _percentiles(values: np.ndarray, alpha: float) -> np.ndarray:
    """Of each column; NaN where any replicate has no value."""
    return np.quantile(values, [alpha / 2.0, 1.0 - alpha / 2.0], axis=0).T


def icc_intervals(result: Any, scale: str, slopes: str, method: str, alpha: float, options: dict) -> pd.DataFrame:
    """Intraclass correlations with intervals; see `MultilevelResults.icc`."""
    alpha = check_alpha(alpha)
    _check_method("icc", method, alpha, options)
    result.model.require_data("icc()")
    components = joint_components(result)
    names, function = result.icc_function(components.map, scale, slopes)
    if not names:
        raise ValueError(
            "No grouping factor has a random intercept, so there is no intraclass correlation where the covariates of "
            "random slopes are zero. Use slopes='average'."
        )
    out = icc_table(names, function, components, np.asarray(result.params, dtype=float), alpha)
    ends = out[["ci_lower", "ci_upper"]].to_numpy(copy=True)
    if method == "boot":
        values, params = _replicates(result, options)
        ends = _percentiles(np.array([function(v, b) for v, b in zip(values, params, strict=True)]), alpha)
    else:
        rows = [g for g in range(len(names)) if method == "profile" or out["estimate"].iloc[g] == 0.0]
        for g in rows if method == "profile" or result.converged else ():
            bound = function_bound(result, _one(function, g), alpha, name=f"icc({names[g]})", lower=0.0, upper=1.0)
            ends[g] = bound.lower, bound.upper
    out["ci_lower"], out["ci_upper"] = ends.T
    return out


def _one(function, g: int):
    """One of several correlations."""
    return lambda values, params: float(function(values, params)[g])


def check_no_interval(where: str, method, alpha, options) -> None:
    """Raise where options of intervals are given, but no intervals are asked for."""
    given = [f"method={method!r}"] * (method != "wald") + [f"alpha={alpha!r}"] * (alpha is not None)
    given += [f"{name}=" for name in options]
    if given:
        raise ValueError(f"{where}: {given[0]} is about intervals. Ask for them with conf_int=True, or leave it out.")


def _check_method(where, method, alpha, options):
    if method not in METHODS:
        hint = suggest(method, METHODS) if isinstance(method, str) else ""
        raise ValueError(f"method={method!r} is not known.{hint} Choose {', '.join(map(repr, METHODS))}.")
    check_option(where, options, _OF_BOOT)
    if options and method != "boot":
        raise ValueError(f"{where}(): {next(iter(options))}= belongs to method='boot', not to method={method!r}.")
    if method == "boot":
        n = check_count("n", options.get("n", 1000), "the number of replicates")
        least = int(np.ceil(2.0 / alpha)) - 1
        if n < least:
            raise ValueError(f"n={n}: an interval with alpha={alpha:g} needs at least {least} replicates, better 1000.")


def icc(
    result: Any,
    scale: str = "latent",
    method: str = "wald",
    alpha: float | None = None,
    slopes: str = "zero",
    **kwargs: Any,
) -> pd.DataFrame:
    """Intraclass correlations of all levels with standard errors and intervals.

    Parameters
    ----------
    result : MultilevelResults
    scale, method, alpha, slopes, **kwargs
        As in ``result.icc``.

    Returns
    -------
    DataFrame
        ``estimate, se, ci_lower, ci_upper``, one row a grouping factor.

    Examples
    --------
    >>> import sm_multilevel.api as smm
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import pastes
    >>> res = smf.mixedlm("strength ~ 1 + (1 | batch/cask)", pastes.load_pandas().data).fit()
    >>> smm.icc(res)["estimate"].round(3).to_dict()
    {'cask:batch': 0.937, 'batch': 0.154}
    """
    return result.icc(scale, conf_int=True, method=method, alpha=alpha, slopes=slopes, **kwargs)
