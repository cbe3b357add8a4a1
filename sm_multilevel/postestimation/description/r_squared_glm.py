"""R-squared and intraclass correlations of the generalised models (Nakagawa et al. 2017)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy import special
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from sm_multilevel.postestimation.components.component_map import component_values
from sm_multilevel.postestimation.description.icc import icc_form
from sm_multilevel.postestimation.description.r_squared import r_squared, random_variance
from sm_multilevel.postestimation.prediction.integrate import expectation
from sm_multilevel.postestimation.prediction.predict import linear_predictor, rows_of
from sm_multilevel.postestimation.prediction.predict_glm import at_linear
from sm_multilevel.wording import suggest

__all__ = ["METHODS", "NullPoint", "icc_function", "mean_random_variance", "null_point", "r_squared_glm"]

METHODS = ("auto", "latent", "delta", "lognormal", "trigamma", "observation")


@dataclass(frozen=True)
class NullPoint:
    """Where the observation-level variance is taken: the model with an intercept only.

    Attributes
    ----------
    eta : float
        Its intercept, with the mean of the offset where there is one.
    spread : float
        Sum of the variances of its random effects; of random slopes the mean over rows.
    psi : ndarray
        Natural, of the model itself.
    """

    eta: float
    spread: float
    psi: np.ndarray


def mean_random_variance(model, terms) -> float:
    """Mean over rows of z'Gz, frequency weights counted."""
    if model.freq_weights is None:
        return random_variance(model.random, terms)
    return r_squared(np.zeros(len(model.freq_weights)), model.random, terms, 1.0, model.freq_weights)["var_random"]


def null_point(result) -> NullPoint:
    """Fit the model without its predictors: the same random terms, offset and weights.

    Raises
    ------
    ValueError
        If the fit does not converge.
    """
    model = result.model
    model.require_data("The model with an intercept only")
    design, fitted = model.design, result
    one = np.ones((len(design.endog), 1))
    if design.exog.shape != one.shape or not np.array_equal(design.exog, one):
        design = replace(design, exog=one, exog_names=("Intercept",), recipe=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = model.on_design(design).fit(**result.fit_options())._results
        if not fitted.converged:
            raise ValueError(
                "R-squared and ICC need the model with an intercept only, whose fit did not converge "
                f"({fitted.record.reason})."
            )
    eta = float(np.asarray(fitted.params)[0])
    if model.offset is not None:
        eta += float(np.average(model.offset, weights=model.freq_weights))
    return NullPoint(eta, mean_random_variance(fitted.model, fitted.term_covariances), result.psi.to_numpy())


def _method(family, method):
    """The variance's definition, by the link where it is "auto"."""
    if method not in METHODS:
        hint = suggest(method, METHODS) if isinstance(method, str) else ""
        raise ValueError(f"method={method!r} is not known.{hint} Choose {', '.join(map(repr, METHODS))}.")
    latent = family.latent_variance is not None
    ordinal = not family.has_intercept
    if ordinal and method not in ("auto", "latent"):
        raise ValueError(f"method={method!r}: an ordinal model has R-squared and ICC on the latent scale only.")
    threshold = ordinal or (family.has_trials and not family.log_link)
    if not latent and (method == "latent" or (method == "auto" and threshold)):
        more = "" if ordinal else " Use method='delta'."
        raise ValueError(
            f"{family.name} with the {family.link_name} link has no latent variable with a finite variance, so there "
            f"is no R-squared nor ICC on the latent scale.{more}"
        )
    if method == "auto":
        return "latent" if latent else "trigamma" if family.log_link else "delta"
    if method == "observation":
        return "trigamma" if family.log_link else "delta"
    if method in ("lognormal", "trigamma") and not family.log_link:
        raise ValueError(f"method={method!r} is for log links; this is {family.link_name}. Use 'delta' or 'auto'.")
    return method


def residual_variance(result, method, psi=None, shift=0.0) -> float:
    """Variance of the response on the scale of the linear predictor.

    With m and V the mean and the variance of the response at the null model (of one trial,
    of unit weight): the delta method's V / (dm/d eta)^2, log(1 + V/m^2) or, of a gamma
    variable of shape m^2/V, trigamma(m^2/V).

    Parameters
    ----------
    result : MixedGLMResults
    method : str
    psi : ndarray, optional
        Natural; with other values than the estimates the mean of the null model stays.
    shift : float
        Added to the logarithm of that mean.
    """
    family, kind = result.family, _method(result.family, method)
    if kind == "latent":
        return float(family.latent_variance)
    at = result.null_point()
    eta, spread = np.array([at.eta]), np.array([at.spread])
    psi = at.psi if psi is None else psi
    try:
        mean = at_linear(family, at.psi, "mean", eta, spread) * np.exp(shift)
        eta = _linear_at(family, at.psi, mean, eta)
    except ValueError:  # the random effects leave the link's domain
        mean = family.mean(eta, at.psi)
    variance = family.variance(eta, psi)
    if kind == "delta":
        return float((variance / family.mean_slope(eta, psi) ** 2)[0])
    ratio = float((variance / mean**2)[0])
    return float(np.log1p(ratio)) if kind == "lognormal" else float(special.polygamma(1, 1.0 / ratio))


def _linear_at(family, psi, mean, eta):
    """The linear predictor of a mean, by Newton's method."""
    for _ in range(100):
        with np.errstate(all="ignore"):
            step = (family.mean(eta, psi) - mean) / family.mean_slope(eta, psi)
        step = np.clip(step, -1.0, 1.0) if family.log_link or family.has_trials else step
        eta = eta - step
        if np.all(np.abs(step) <= 1e-13 * (1.0 + np.abs(eta))):
            break
    return eta


def r_squared_glm(result, method="auto") -> dict[str, float]:
    """Marginal and conditional R-squared; see `MixedGLMResults.r_squared`."""
    residual = residual_variance(result, method)
    _refuse_separated(result, "R-squared")
    model = result.model
    model.require_data("r_squared()")
    linear = model.design.exog @ np.asarray(result.fe_params)
    return r_squared(linear, model.random, result.term_covariances, residual, model.freq_weights)


def _refuse_separated(result, what):
    if result.separated:
        raise ValueError(
            f"There is no {what}: the data are separated, and the estimates of {', '.join(result.separated)} are "
            "infinite. Leave these predictors out."
        )


def icc_function(result, components, scale="latent", slopes="zero"):
    """Intraclass correlations as a function of the components and `params`; see `MixedGLMResults.icc`.

    Returns
    -------
    names : tuple of str
    function : callable
        (components, params) -> ndarray, shape (G,).
    """
    if scale not in ("latent", "observation"):
        raise ValueError(f"scale={scale!r} is not known. Choose 'latent' or 'observation'.")
    family, model, p = result.family, result.model, result.model.k_fixed
    if scale == "latent":
        residual_variance(result, "auto")  # raises where there is none
        model.require_data("icc()")
        form = icc_form(model.random, components, slopes, model.freq_weights)
        if not family.log_link or family.latent_variance is not None:
            return form.names, lambda values, params: form(values, residual_variance(result, "auto", params[p:]))
        mean = _log_mean(model, components)
        here = mean(component_values(components, result.term_covariances, None), np.asarray(result.params, dtype=float))

        def observed(values, params):
            return form(values, residual_variance(result, "auto", params[p:], mean(values, params) - here))

        return form.names, observed
    if not family.has_intercept:
        raise ValueError("icc(scale='observation'): an ordinal response has no scale. Use scale='latent'.")
    model.require_data("icc()")
    _refuse_separated(result, "ICC on the scale of the response")
    form = icc_form(model.random, components, slopes, model.freq_weights)
    rows = rows_of(model, None, False)

    def function(values, params):
        linear = linear_predictor(params[:p], rows, ())
        eta = np.array([np.average(linear, weights=model.freq_weights)])
        return _icc_observed(family, params[p:], eta, form.shared @ values, float(form.total @ values))

    return form.names, function


def _log_mean(model, components):
    """Logarithm of the mean response over the rows, random effects averaged over, as a function; for log links.

    The mean of the null model, at which the residual variance is taken, moves with it.
    """
    rows, weights = rows_of(model, None, False), model.freq_weights
    forms = np.zeros((len(model.design.endog), len(components.entries)))
    for n, e in enumerate(components.entries):
        exog = model.random[e.term].exog
        forms[:, n] = exog[:, e.j] * exog[:, e.k] * (0.5 if e.is_variance else 1.0)

    def function(values, params):
        eta = linear_predictor(params[: model.k_fixed], rows, ()) + forms @ values
        return float(special.logsumexp(eta, b=weights) - np.log(len(eta) if weights is None else weights.sum()))

    return function


def _icc_observed(family, psi, eta, shared, total) -> np.ndarray:
    """Correlations of two responses at a linear predictor, random effects integrated over."""
    mean = at_linear(family, psi, "mean", eta, np.array([total]))
    whole = at_linear(family, psi, "var", eta, np.array([total]))[0]

    def between(part):
        """Variance of the mean given what is shared, the rest averaged over."""
        rest = max(total - part, 0.0)

        def squared(x, _):
            inner = at_linear(family, psi, "mean", x.ravel(), np.full(x.size, rest)).reshape(x.shape)
            return (inner - mean) ** 2

        return float(expectation(squared, eta, np.sqrt([part]), 2.0 if family.log_link else 0.0)[0])

    return np.array([between(part) for part in shared]) / float(whole)
