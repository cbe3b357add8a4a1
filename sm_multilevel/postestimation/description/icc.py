"""Intraclass correlations of the levels of a model, with standard errors and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sm_multilevel.grouping import lies_within
from sm_multilevel.postestimation.components.component_map import ComponentMap, Components, component_values

__all__ = ["IccForm", "icc", "icc_form", "icc_function", "icc_table"]

_STEP = 1e-4  # difference step of the ICC's derivatives, in standard errors


@dataclass(frozen=True, eq=False)
class IccForm:
    """What levels share and the sum of all, as linear forms of the components of `ComponentMap`.

    Attributes
    ----------
    names : tuple of str
        Grouping factors.
    shared : ndarray, shape (G, c)
        Of rows that share a level of each: its variance, with those of the factors it is nested in.
    total : ndarray, shape (c,)
        Without a residual variance.
    """

    names: tuple[str, ...]
    shared: np.ndarray
    total: np.ndarray

    def __call__(self, values: np.ndarray, residual: float) -> np.ndarray:
        """The correlations."""
        return self.shared @ values / (self.total @ values + residual)


def icc_form(random, components, slopes: str = "zero", weights=None) -> IccForm:
    """Linear forms of the components of which an ICC is the ratio.

    Rows that share a level of a nested factor also share those above it, so variances
    add up along a nesting, as in Stata's ``estat icc``.

    Parameters
    ----------
    random : sequence of RandomTerm
    components : ComponentMap
    slopes : {"zero", "average"}
        Covariates of random slopes at zero (factors without an intercept are then left out), or
        the mean of z'Gz over the rows.
    weights : ndarray, shape (n,), optional
        How many rows each row stands for.

    Raises
    ------
    ValueError
        For another value of `slopes`.
    """
    if slopes not in ("zero", "average"):
        raise ValueError(f"slopes={slopes!r} is not known. Choose 'zero' or 'average'.")
    forms: dict[str, np.ndarray] = {}
    codes: dict[str, np.ndarray] = {}
    for i, term in enumerate(random):
        name = term.name or term.group
        form = np.zeros(len(components.entries))
        if slopes == "average":
            gram = (term.exog.T if weights is None else term.exog.T * weights) @ term.exog
            gram = gram / (len(term.exog) if weights is None else weights.sum())
            for n, e in enumerate(components.entries):
                if e.term == i:
                    form[n] = gram[e.j, e.k] * (1.0 if e.is_variance else 2.0)
        else:
            for j in range(term.q):
                column = term.exog[:, j]
                if column[0] != 0 and np.all(column == column[0]):
                    form[components.find(i, j, j)] += float(column[0]) ** 2
        if form.any():
            forms[name] = forms.get(name, 0.0) + form
            codes[name] = term.codes
    nothing = np.zeros(len(components.entries))
    shared = [
        sum((v for other, v in forms.items() if lies_within(codes[name], codes[other])), nothing) for name in forms
    ]
    return IccForm(tuple(forms), np.array(shared).reshape(len(forms), len(nothing)), sum(forms.values(), nothing))


def icc_function(result: Any, components, scale: str = "latent", slopes: str = "zero"):
    """Intraclass correlations of a linear model as a function of the components and `params`.

    Returns
    -------
    names : tuple of str
    function : callable
        (components, params) -> ndarray, shape (G,).
    """
    if scale not in ("latent", "observation"):
        raise ValueError(f"scale={scale!r} is not known. Choose 'latent' or 'observation': in a linear model the same.")
    result.model.require_data("icc()")
    form = icc_form(result.model.random, components, slopes, result.model.freq_weights)
    return form.names, lambda values, params: form(values, values[-1])


def icc(result: Any, scale: str = "latent", slopes: str = "zero") -> dict[str, float]:
    """Estimates by grouping factor; see `MultilevelResults.icc`."""
    result.model.require_data("icc()")
    components = ComponentMap(result.model.effects, result.residual_variance is not None)
    names, function = result.icc_function(components, scale, slopes)
    values = component_values(components, result.term_covariances, result.residual_variance)
    return dict(zip(names, map(float, function(values, np.asarray(result.params, dtype=float))), strict=True))


def icc_table(names, function, c: Components, params: np.ndarray, alpha: float) -> pd.DataFrame:
    """Standard errors by the delta method, and intervals made on the logit scale.

    Parameters
    ----------
    names : sequence of str
    function : callable
        As `icc_function` gives both.
    c : Components
    params : ndarray, shape (p,)
    alpha : float

    Returns
    -------
    DataFrame
        ``estimate, se, ci_lower, ci_upper``. At the boundary `se` is NaN and so are the ends.
    """
    at = np.concatenate([c.values, params])
    size = len(c.values)

    def correlations(x):
        return np.asarray(function(x[:size], x[size:]))

    estimate = correlations(at)
    cov = np.block([[c.cov, c.with_params], [c.with_params.T, c.cov_params]])
    steps = _STEP * np.sqrt(np.maximum(np.diag(cov), 0.0))  # parts of standard errors: units do not matter
    variances = np.flatnonzero([e.is_variance for e in c.map.entries])
    steps[variances] = np.minimum(steps[variances], _STEP * c.values[variances])
    gradient = np.zeros((len(estimate), len(at)))
    for j in np.flatnonzero(steps > 0):
        ahead, behind = at.copy(), at.copy()
        ahead[j] += steps[j]
        behind[j] -= steps[j]
        gradient[:, j] = (correlations(ahead) - correlations(behind)) / (2.0 * steps[j])
    variance = np.einsum("gi,ij,gj->g", gradient, cov, gradient)
    inside = (estimate > 0) & (estimate < 1) & (variance > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.where(inside, np.sqrt(np.maximum(variance, 0.0)), np.nan)
        half = stats.norm.ppf(1.0 - alpha / 2.0) * se / (estimate * (1.0 - estimate))
        logit = np.log(estimate) - np.log1p(-estimate)
        ends = [1.0 / (1.0 + np.exp(-(logit + sign * half))) for sign in (-1.0, 1.0)]
    return pd.DataFrame(
        {"estimate": estimate, "se": se, "ci_lower": ends[0], "ci_upper": ends[1]}, index=pd.Index(names, name="group")
    )
