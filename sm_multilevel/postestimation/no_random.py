"""Likelihood-ratio test against the linear regression without random effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, stats

from sm_multilevel.objectives.crossprod import GaussianData

__all__ = ["NoRandomTest", "regression_deviance", "test_no_random"]


@dataclass(frozen=True)
class NoRandomTest:
    """Test that all variances of the random effects are zero.

    Attributes
    ----------
    statistic : float
        Fall of the deviance, never negative.
    df : int
        Number of variance and covariance parameters.
    p_value : float
    kind : {"chibar2", "chi2"}
        The reference distribution: ``"chibar2"`` is the equal mixture of zero and a
        chi-squared with one degree of freedom, which is exact in large samples for a
        single variance (Self and Liang 1987, J. Am. Stat. Assoc. 82, 605-610, case 5);
        ``"chi2"``, for several parameters, ignores the boundary, so that the p-value
        is too large, never too small.
    """

    statistic: float
    df: int
    p_value: float
    kind: str


def regression_deviance(data: GaussianData, reml: bool) -> float:
    """-2 times the (restricted) log-likelihood of the regression without random effects.

    The deviance of `objectives.gaussian` at Lambda = 0, all constants included, without
    its factorisation.

    Parameters
    ----------
    data : GaussianData
        Cross-products of the mixed model.
    reml : bool

    Returns
    -------
    float
    """
    p = data.p
    xx, xy = data.xxy[:p, :p], data.xxy[:p, p]
    df = data.nobs - p if reml else data.nobs
    rss, logdet = float(data.xxy[p, p]), 0.0
    if p:
        chol = linalg.cholesky(xx, lower=True)
        half = linalg.solve_triangular(chol, xy, lower=True)
        rss -= float(half @ half)
        if reml:
            logdet = 2.0 * float(np.log(np.diag(chol)).sum()) - 2.0 * data.scaling.logdet
    return df * (1.0 + np.log(2.0 * np.pi * rss / df)) + logdet - data.log_weights


def test_no_random(result: Any) -> NoRandomTest:
    """Test a linear mixed model against the regression with the same fixed part.

    Weights and offset are the same, and under REML both likelihoods are restricted.

    Parameters
    ----------
    result : MixedLMResults

    Returns
    -------
    NoRandomTest
    """
    df = len(result.theta)
    fall = regression_deviance(result.model.cross_products(), result.reml) + 2.0 * result.llf
    statistic = max(0.0, float(fall))
    if df == 1:
        p_value = 0.5 * float(stats.chi2.sf(statistic, 1)) if statistic > 0 else 1.0
        return NoRandomTest(statistic, df, p_value, "chibar2")
    return NoRandomTest(statistic, df, float(stats.chi2.sf(statistic, df)), "chi2")
