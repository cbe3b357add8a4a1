"""Likelihood-ratio test against the regression without random effects, as summaries show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from sm_multilevel.postestimation.comparison.boundary import NoNullError, asymptotic, cone_of
from sm_multilevel.postestimation.comparison.chibar import ChiBarSquare, has_closed_weights
from sm_multilevel.postestimation.comparison.nesting import nest
from sm_multilevel.postestimation.comparison.regression import Regression, regression, regression_deviance

__all__ = ["NoRandomTest", "regression_deviance", "test_no_random"]


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
        The reference distribution. ``"chibar2"``: the mixture of chi-squared distributions
        with 0 to `df` degrees of freedom of large samples, of one variance half and half (Self
        and Liang 1987, J. Am. Stat. Assoc. 82, 605-610, case 5). ``"chi2"``, where weights
        would have to be simulated (see `lrtest`): it ignores the boundary, so that the p-value
        is too large, never too small.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.postestimation.comparison.no_random import test_no_random
    >>> test = test_no_random(res)
    >>> print(f"{test.kind}: {test.statistic:.2f}, {test.df}")
    chibar2: 150.04, 3
    """

    statistic: float
    df: int
    p_value: float
    kind: str


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
    df = len(result.theta)
    null = regression(result, reml=result.family is None and result.reml)
    mixture = _mixture(result, null)
    kind = "chi2" if mixture is None else "chibar2"
    if not np.isfinite(null.deviance):
        return NoRandomTest(np.nan, df, np.nan, kind)
    statistic = max(0.0, float(null.deviance + 2.0 * result.llf))
    p_value = float(stats.chi2.sf(statistic, df)) if mixture is None else mixture.sf(statistic)
    return NoRandomTest(statistic, df, p_value, kind)


def _mixture(result: Any, null: Regression) -> ChiBarSquare | None:
    """The null distribution, where it takes no simulation."""
    nesting = nest(null, result)
    try:
        sizes, _ = cone_of(nesting)
        if has_closed_weights(sizes) and (nesting.df == 1 or np.isfinite(null.deviance)):
            return asymptotic(nesting, null, 1, None)
    except NoNullError:
        pass
    return None
