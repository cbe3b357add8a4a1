"""Coefficients as ratios: of odds, of rates, of means."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sm_multilevel.checks import check_alpha

__all__ = ["exp_params", "incidence_rate_ratios", "odds_ratios"]


def odds_ratios(result, alpha) -> pd.DataFrame:
    """exp(coefficient) of a logit link; see `MixedGLMResults.odds_ratios`."""
    if not result.family.logit_link:
        raise ValueError(f"odds_ratios() needs a logit link; {_what(result)}.{_instead(result)}")
    return _exponentiated(result, "OR", alpha)


def incidence_rate_ratios(result, alpha) -> pd.DataFrame:
    """exp(coefficient) of a count model with a log link; see `MixedGLMResults.incidence_rate_ratios`."""
    if not _counts(result.family):
        raise ValueError(
            f"incidence_rate_ratios() needs a count response (Poisson, negative binomial) with a log link; "
            f"{_what(result)}.{_instead(result)}"
        )
    return _exponentiated(result, "IRR", alpha)


def exp_params(result, alpha) -> pd.DataFrame:
    """exp(coefficient) of a log or logit link; see `MixedGLMResults.exp_params`."""
    if not (result.family.log_link or result.family.logit_link):
        raise ValueError(
            f"exp_params() needs a log or a logit link; {_what(result)}, so exp(coefficient) is no ratio. "
            "predict(type='response') gives effects on the scale of the response."
        )
    return _exponentiated(result, "exp(coef)", alpha)


def _counts(family):
    return family.is_discrete and family.log_link and not family.has_trials


def _what(result):
    return f"this model is {result.family.name} with the {result.link} link"


def _instead(result):
    if result.family.logit_link:
        return " Use odds_ratios()."
    if _counts(result.family):
        return " Use incidence_rate_ratios()."
    if result.family.log_link:
        return " Use exp_params(): exp(coefficient) is a ratio of means."
    return " exp(coefficient) is no ratio here; predict(type='response') gives effects on the scale of the response."


def _exponentiated(result, name, alpha):
    p = result.model.k_fixed
    beta = np.asarray(result.params, dtype=float)[:p]
    interval = np.asarray(result.conf_int(check_alpha(alpha)))[:p]
    with np.errstate(over="ignore"):
        columns = {name: np.exp(beta), "lower": np.exp(interval[:, 0]), "upper": np.exp(interval[:, 1])}
    return pd.DataFrame({**columns, "pvalue": np.asarray(result.pvalues)[:p]}, index=list(result.model.data.xnames))
