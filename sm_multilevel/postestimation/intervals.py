"""Confidence intervals of variance components by the delta method.

Variances on the scale of their logarithm, correlations on Fisher's z, covariances as they are, as Stata's `mixed`
and `meglm` make them. They are rough where a variance is not far from zero: a profile or a bootstrap is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sm_multilevel.checks import check_alpha, check_option
from sm_multilevel.formula.frame import suggest
from sm_multilevel.postestimation.components import Components, joint_components
from sm_multilevel.postestimation.icc import icc_table

__all__ = ["ComponentTable", "component_table", "icc", "icc_intervals", "wald_intervals", "with_intervals"]

METHODS = ("wald", "profile", "boot")


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
    _check_method(method, options)
    table = result.component_table()
    vcov, sdcor = wald_intervals(table, alpha)
    out = frame.assign(vcov_se=table.se, sdcor_se=table.sdcor_se)
    for name, ends in (("vcov", vcov), ("sdcor", sdcor)):
        out[f"{name}_lower"], out[f"{name}_upper"] = ends.T
    order = [f"{name}_{what}" for name in ("vcov", "sdcor") for what in ("se", "lower", "upper")]
    return out[[*frame.columns, *order]]


def icc_intervals(result: Any, scale: str, slopes: str, method: str, alpha: float, options: dict) -> pd.DataFrame:
    """Intraclass correlations with intervals; see `MultilevelResults.icc`."""
    alpha = check_alpha(alpha)
    _check_method(method, options)
    return icc_table(result, scale, slopes, alpha)


def _check_method(method, options):
    if method not in METHODS:
        hint = suggest(method, METHODS) if isinstance(method, str) else ""
        raise ValueError(f"method={method!r} is not known.{hint} Choose {', '.join(map(repr, METHODS))}.")
    check_option("conf_int", options, ("n", "seed", "n_jobs") if method == "boot" else ())


def icc(result: Any, scale="latent", method="wald", alpha=None, slopes="zero", **kwargs) -> pd.DataFrame:
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
