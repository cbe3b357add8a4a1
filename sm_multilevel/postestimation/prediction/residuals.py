"""Residuals of the generalised models."""

from __future__ import annotations

import numpy as np
from scipy import special

from sm_multilevel.checks import check_flag
from sm_multilevel.postestimation.prediction.predict import rows_of
from sm_multilevel.postestimation.prediction.predict_glm import eta_of
from sm_multilevel.wording import suggest

__all__ = ["KINDS", "residuals"]

KINDS = ("response", "pearson", "deviance", "working", "quantile")


def residuals(result, kind="response", include_random=True, seed=None) -> np.ndarray:
    """Residuals of each row; see `MixedGLMResults.residuals`.

    Parameters
    ----------
    result : MixedGLMResults
    kind : str
    include_random : bool
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    ndarray, shape (n,)
    """
    if kind not in KINDS:
        hint = suggest(kind, KINDS) if isinstance(kind, str) else ""
        raise ValueError(f"kind={kind!r} is not a residual.{hint} There are {', '.join(map(repr, KINDS))}.")
    family, model = result.family, result.model
    if not family.has_intercept and kind in ("deviance", "working"):
        raise ValueError(
            f"kind={kind!r}: an ordinal response has no single mean that its categories deviate from. Use 'quantile', "
            "or 'response' and 'pearson' of the categories' numbers."
        )
    check_flag("include_random", include_random)
    model.require_data(f"Residuals ({kind})")
    data, psi = model.design.response_data(), result.psi.to_numpy()
    eta = eta_of(result, rows_of(model, None, include_random))
    if kind == "quantile":
        return _quantile(family, data, eta, psi, seed)
    y, mean = data.endog, family.mean(eta, psi)
    if kind == "response":
        return y - mean
    if kind == "working":
        return (y - mean) / family.mean_slope(eta, psi)
    weight = 1.0 if data.var_weights is None else data.var_weights
    if kind == "deviance":
        return np.sign(y - mean) * np.sqrt(weight * family.unit_deviance(data, eta, psi))
    if data.trials is not None:
        weight = weight * data.trials
    unit = family.variance(eta, psi) / family.dispersion(psi)
    return (y - mean) * np.sqrt(weight / unit)


def _quantile(family, data, eta, psi, seed):
    """Standard normal under the model: Phi^-1 of the distribution function, randomised at its jumps."""
    below, upto = family.cdf(data, eta, psi)
    if family.is_discrete:
        below = below + (upto - below) * np.random.default_rng(seed).random(len(below))
    return special.ndtri(np.clip(below, np.finfo(float).tiny, 1.0 - 0.5 * np.finfo(float).eps))
