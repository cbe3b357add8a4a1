"""statsmodels' regressions as the restricted side of a comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
from statsmodels.base.model import LikelihoodModelResults

from sm_multilevel.postestimation.comparison.nesting import NestingError, outside
from sm_multilevel.postestimation.comparison.regression import Regression, regression

__all__ = ["has_likelihood", "is_regression", "regression_of"]

_SAME = 1e-5  # difference of two log-likelihoods of the same fit
_LIKE = 1e-4  # and of two linear predictors, in their standard deviations


def is_regression(fit: Any) -> bool:
    """Whether it is a statsmodels result with a response and columns."""
    columns: Any = getattr(getattr(fit, "model", None), "exog", None)
    return isinstance(fit, LikelihoodModelResults) and np.ndim(columns) == 2


def has_likelihood(fit: Any) -> bool:
    """Whether a statsmodels result has a log-likelihood; those of robust methods have none."""
    try:
        return bool(np.ndim(fit.llf) == 0 and np.isfinite(fit.llf))
    except (AttributeError, NotImplementedError, TypeError):
        return False


def regression_of(fit: Any, full: Any) -> Regression:
    """The same regression in the likelihood of a mixed model.

    Parameters
    ----------
    fit : statsmodels result
    full : MultilevelResults

    Returns
    -------
    Regression

    Raises
    ------
    ValueError
        If it is not of the mixed model's rows, response, weights, offset, family and link, or if its columns are no
        part of the mixed model's.
    """
    design, model = full.model.design, fit.model
    kind = type(model).__name__
    y = np.asarray(model.endog, dtype=float)
    if full.family is None and full.reml:
        raise ValueError(
            f"The log-likelihood of {kind} cannot be compared with a restricted one (REML). Fit the mixed model with "
            "reml=False, or use its ranova()."
        )
    if y.shape[0] != design.endog.shape[0]:
        raise ValueError(
            f"The models are on different rows: {kind} on {y.shape[0]}, the other on {len(design.endog)}. Fit both "
            "to the same data."
        )
    if y.shape != design.endog.shape or not np.allclose(y, design.endog, rtol=1e-12, atol=0):
        raise ValueError(
            f"The models have different responses: the values of {kind} are not equal row by row. Fit both to one."
        )
    x = np.asarray(model.exog, dtype=float)
    thresholds = full.family is not None and not full.family.has_intercept
    outer = np.column_stack([np.ones(len(y)), design.exog]) if thresholds else design.exog
    lost = outside(outer, x)
    if lost:
        raise NestingError(
            f"The models are not nested: {model.exog_names[lost[0]]!r} of {kind} is no part, nor a combination, of the "
            "fixed effects of the mixed model."
        )
    own = regression(full, exog=x)
    if not (abs(own.llf - fit.llf) <= _SAME * max(1.0, abs(fit.llf) * 1e-3) or _same_fit(fit, own, full)):
        raise ValueError(
            f"{kind} has the log-likelihood {fit.llf:.4f}; in the likelihood of the mixed model, a regression on its "
            f"columns has {own.llf:.4f}. They differ in family, link, weights or offset, or it is no maximum "
            "likelihood fit."
        )
    return own


def _same_fit(fit, own, full) -> bool:
    """Whether a GLM differs only by how its dispersion, and so the constant of its log-likelihood, is estimated."""
    family = getattr(fit.model, "family", None)
    if full.family is None or family is None or "dispersion" not in full.family.psi_names:
        return False
    eta, mine = np.asarray(fit.predict(which="linear")), own.linear()
    link = type(family.link).__name__.lower() == full.family.link_name.replace("_", "").lower()
    return bool(link and np.abs(eta - mine).max() <= _LIKE * max(1.0, float(np.std(mine))))
