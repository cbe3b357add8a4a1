"""Likelihood-ratio test against the regression without random effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, stats

from sm_multilevel.estimation.minimize import newton
from sm_multilevel.families.response import Response
from sm_multilevel.objectives.crossprod import GaussianData
from sm_multilevel.objectives.point import Point
from sm_multilevel.objectives.rows import Rows

__all__ = ["NoRandomTest", "regression_deviance", "response_deviance", "test_no_random"]


@dataclass(frozen=True)
class NoRandomTest:
    """Test that all variances of the random effects are zero.

    Attributes
    ----------
    statistic : float
        Fall of the deviance, never negative; NaN where the regression without random
        effects could not be fitted.
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


def response_deviance(rows: Rows, response: Response, starts) -> float:
    """-2 times the log-likelihood of a generalised regression without random effects.

    The deviance of `objectives.marginal` at Lambda = 0, whatever the integration, at its
    minimum over beta and psi.

    Parameters
    ----------
    rows : Rows
    response : Response
        Of these rows.
    starts : iterable of ndarray, shape (p,)
        Values of beta, tried in turn until Newton's method converges from one.

    Returns
    -------
    float
        NaN if it converges from none.
    """
    p, x = rows.p, rows.xt

    def at(z: np.ndarray) -> Point:
        local = response.at(rows.fixed(z[:p]), z[p:])
        value = -2.0 * float(np.sum(local.logf))

        def gradient():
            return -2.0 * np.concatenate([x @ local.score, local.psi_score.sum(axis=1)])

        def curvature():
            cross = -x @ local.score_psi.T
            return 2.0 * np.block([[(x * local.info) @ x.T, cross], [cross.T, local.psi_info]])

        return Point(value if np.isfinite(value) else np.inf, gradient, curvature)

    for beta in starts:
        # Never from the mixed model's psi: an alpha of zero is stationary whether or not it is optimal.
        found = newton(at, np.concatenate([beta, response.start_psi(rows.fixed(beta))]))
        if found.success:
            return found.value
    return np.nan


def test_no_random(result: Any) -> NoRandomTest:
    """Test a model against the regression with the same fixed part and the same response.

    Weights and offset are the same, a response's own parameters are estimated in both, and
    under REML both likelihoods are restricted.

    Parameters
    ----------
    result : MultilevelResults

    Returns
    -------
    NoRandomTest
    """
    df, model = len(result.theta), result.model
    if result.family is None:
        null = regression_deviance(model.cross_products(), result.reml)
    else:
        bound = model.bound()
        null = response_deviance(bound.rows, bound.response, _starts(result, bound.rows.p))
    kind = "chibar2" if df == 1 else "chi2"
    if not np.isfinite(null):
        return NoRandomTest(np.nan, df, np.nan, kind)
    statistic = max(0.0, float(null + 2.0 * result.llf))
    if df == 1:
        p_value = 0.5 * float(stats.chi2.sf(statistic, 1)) if statistic > 0 else 1.0
    else:
        p_value = float(stats.chi2.sf(statistic, df))
    return NoRandomTest(statistic, df, p_value, kind)


def _starts(result, p):
    """The mixed model's beta, and where its own fit starts."""
    yield result.z_standard[:p]
    yield result.model.objective().start()[:p]
