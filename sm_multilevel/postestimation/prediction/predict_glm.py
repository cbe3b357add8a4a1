"""Predictions of the generalised models, on the scale of the response and of the linear predictor."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sm_multilevel.families.response import ResponseData
from sm_multilevel.postestimation.prediction.integrate import expectation
from sm_multilevel.postestimation.prediction.predict import Rows, linear_predictor, random_spread, rows_of
from sm_multilevel.wording import suggest

__all__ = ["MARGINAL", "at_linear", "eta_of", "kind_of", "labels_of", "predict_glm", "rows_and_spread"]

MARGINAL = "marginal"
_TYPES = {"response": "response", "linear": "linear", "link": "linear", "prob": "prob", "class": "class"}
_WHICH = {"mean": "mean", "linear": "linear", "prob": "prob", "class": "class", "var": "var"}
_FAR = 9.0  # standard deviations of the random effects that must lie inside the link's domain


def kind_of(family, type=None, which=None) -> str:
    """What is asked for: ``"mean"``, ``"linear"``, ``"prob"``, ``"class"`` or ``"var"``.

    Parameters
    ----------
    family : ResponseFamily
    type, which : str, optional
        R's and statsmodels' words for the same.

    Raises
    ------
    ValueError
        For unknown words, words that contradict each other, and what the family does not have.
    """
    kinds = []
    for name, given, known in (("type", type, _TYPES), ("which", which, _WHICH)):
        if given is None:
            continue
        if not isinstance(given, str) or given not in known:
            hint = suggest(given, known) if isinstance(given, str) else ""
            raise ValueError(f"{name}={given!r} is not known.{hint} Choose {', '.join(map(repr, known))}.")
        kinds.append(known[given])
    kinds = [("mean" if family.has_intercept else "prob") if k == "response" else k for k in kinds]
    if len(set(kinds)) > 1:
        raise ValueError(f"type={type!r} and which={which!r} ask for different things. Give one of them.")
    kind = kinds[0] if kinds else ("mean" if family.has_intercept else "prob")
    if kind in ("prob", "class") and family.has_intercept and not family.has_trials:
        raise ValueError(
            f"{kind!r} is for binomial and ordinal models; a {family.name} response has no categories. Use 'mean'."
        )
    return kind


def rows_and_spread(result, data, include_random=True, transform=True, new_levels="zero", offset=None, exposure=None):
    """Rows to predict, and where random effects are to be averaged over their variance of each row.

    Returns
    -------
    rows : Rows
    spread : ndarray, shape (n,), or None
    """
    family = result.family
    if exposure is not None and not family.log_link:
        raise ValueError(
            f"exposure= needs a log link, but the model is {family!r}. Use offset= for a term of the linear predictor."
        )
    marginal = isinstance(include_random, str)
    if marginal and include_random != MARGINAL:
        raise ValueError(f"include_random={include_random!r} is not known. Choose True, False or 'marginal'.")
    rows = rows_of(result.model, data, False if marginal else include_random, transform, new_levels, offset, exposure)
    if not marginal:
        return rows, None
    if rows.columns is None:
        raise ValueError(
            "include_random='marginal' needs the random columns of the rows, which an array of fixed columns does not "
            "have. Give a DataFrame to a model made from a formula, or use include_random=False."
        )
    return rows, random_spread(rows, result.term_covariances)


def _check_domain(family, eta, sd) -> None:
    """Raise where a mean over the random effects does not exist, since they leave the link's domain."""
    response = family.bind(ResponseData(np.array([family.example])))
    psi = np.zeros(response.n_psi)

    def inside(x):
        x = np.asarray(x, dtype=float)
        y = response.take(np.zeros(len(x), dtype=int))
        with np.errstate(all="ignore"):
            return np.isfinite(y.at(x, psi).logf).all()

    if inside([-30.0, 30.0]):
        return
    known = np.isfinite(eta + sd) & (sd > 0)
    if not all(inside((eta + side * _FAR * sd)[known]) for side in (-1, 1)):
        raise ValueError(
            f"include_random='marginal': with the {family.link_name} link the linear predictor leaves its domain for "
            "some values of the random effects, so that the mean over them does not exist. Use include_random=True or "
            "False, or fit the model with a log link."
        )


def at_linear(family, psi, kind, eta, spread=None) -> np.ndarray:
    """Means, variances or probabilities at linear predictors.

    Parameters
    ----------
    family : ResponseFamily
    psi : ndarray
        Natural.
    kind : {"linear", "mean", "prob", "var"}
    eta : ndarray, shape (n,)
    spread : ndarray, shape (n,), optional
        Variance of the random effects, to average over. A log link's mean is
        exp(eta + spread / 2); others are integrated numerically.

    Returns
    -------
    ndarray, shape (n,), or (n, K) of probabilities
    """
    if kind == "linear":
        return eta
    if spread is None:
        return _value(family, psi, kind, eta)
    sd = np.sqrt(spread)
    _check_domain(family, eta, sd)
    if kind == "prob":
        return expectation(lambda x, _: _value(family, psi, "prob", x), eta, sd)
    if family.log_link:
        mean = family.mean(eta + 0.5 * spread, psi)
    else:
        mean = expectation(lambda x, _: family.mean(x, psi), eta, sd)
    if kind == "mean":
        return mean
    grows = 3.0 if family.log_link else 0.0

    def second(x, rows):
        with np.errstate(over="ignore", invalid="ignore"):
            return family.variance(x, psi) + (family.mean(x, psi) - mean[rows]) ** 2

    return expectation(second, eta, sd, grows)


def _value(family, psi, kind, eta):
    if kind == "var":
        return family.variance(eta, psi)
    if kind == "mean":
        return family.mean(eta, psi)
    missing = ~np.isfinite(eta)
    if family.has_intercept:
        p = family.mean(eta, psi)
        return np.stack([1.0 - p, p], axis=-1)
    out = family.probabilities(np.where(missing, 0.0, eta), psi)
    out[missing] = np.nan
    return out


def labels_of(result) -> list:
    """Labels of the categories; 0 and 1 where a binary response came as numbers."""
    return [0, 1] if result.categories is None else list(result.categories)


def predict_glm(result, data=None, kind="mean", **options):
    """Predicted values; see `MixedGLMResults.predict`.

    Parameters
    ----------
    result : MixedGLMResults
    data : frame or array_like, optional
    kind : str
        As `kind_of` gives it.
    **options
        As of `rows_and_spread`.
    """
    rows, spread = rows_and_spread(result, data, **options)
    eta = eta_of(result, rows)
    values = at_linear(result.family, result.psi.to_numpy(), "prob" if kind == "class" else kind, eta, spread)
    labels = labels_of(result)
    if kind == "class":
        values = _most_likely(values, labels)
    if rows.index is None:
        return values
    if values.ndim == 2:
        return pd.DataFrame(values, index=rows.index, columns=labels)
    return pd.Series(values, index=rows.index)


def eta_of(result, rows: Rows) -> np.ndarray:
    """The linear predictor."""
    return linear_predictor(np.asarray(result.fe_params), rows, result.term_solutions if rows.random else ())


def _most_likely(p, labels):
    """The label of the largest probability; where any is NaN none is."""
    missing = np.isnan(p).any(axis=1)
    values = np.array(labels, dtype=object)
    kinds = {type(v) for v in labels}
    if not missing.any() and len(kinds) == 1 and kinds <= {int, float, bool, np.int64, np.float64, np.bool_}:
        values = np.array(labels)
    out = values[np.argmax(np.where(missing[:, None], 0.0, p), axis=1)]
    if missing.any():
        out[missing] = np.nan
    return out
