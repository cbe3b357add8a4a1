"""Many refits of one model to new responses: the engine of bootstrap intervals and tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.estimation.integration import fit_marginal
from sm_multilevel.postestimation.resampling.linear_refits import LinearRefits, Refitted

__all__ = ["Refits", "collected", "open_start", "refits"]


@dataclass(frozen=True, eq=False)
class Refits:
    """What refits found, one element or row a response.

    Attributes
    ----------
    converged : ndarray of bool, shape (B,)
        False also where a response can have no fit; the numbers are NaN there.
    llf : ndarray, shape (B,)
        Log-likelihood, restricted if the result's is.
    params : ndarray, shape (B, p)
    theta : ndarray, shape (B, k)
        In the user's columns.
    scale : ndarray, shape (B,)
        Residual variance; 1 in generalised models.
    singular : ndarray of bool, shape (B,)
        Whether the estimates are at the boundary.
    reasons : tuple of str
        Why a refit did not converge; empty where it did.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.postestimation.resampling.refits import refits
    >>> found = refits(res, res.simulate(2, seed=1))
    >>> found.converged.tolist(), found.params.shape
    ([True, True], (2, 2))
    """

    converged: np.ndarray
    llf: np.ndarray
    params: np.ndarray
    theta: np.ndarray
    scale: np.ndarray
    singular: np.ndarray
    reasons: tuple[str, ...]


def refits(result: Any, responses: np.ndarray) -> Refits:
    """Fit a result's model, with its options, to many responses.

    Linear models are refitted from new cross-products only, all replicates at once where there
    is one grouping factor; generalised ones on the rows as they are sorted and standardised
    already. Every refit must pass the checks of `fit`. Its standard errors, predicted effects
    and tests are not computed.

    Parameters
    ----------
    result : MultilevelResults
    responses : ndarray, shape (B, n)
        As `simulate` gives them.

    Returns
    -------
    Refits

    Raises
    ------
    ValueError
        If responses have another shape, or values that are not finite.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> from sm_multilevel.postestimation.resampling.refits import refits
    >>> df = sleepstudy.load_pandas().data
    >>> result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> found = refits(result, result.simulate(100, seed=1))
    >>> int(found.converged.sum()), found.params.shape
    (100, (100, 2))
    """
    model = result.model
    model.require_data("Refits")
    responses = np.asarray(responses, dtype=float)
    n = len(model.design.endog)
    if responses.ndim != 2 or responses.shape[1] != n:
        raise ValueError(f"responses has shape {responses.shape}; the model needs (B, {n}), one row a response.")
    if not np.isfinite(responses).all():
        raise ValueError("responses has values that are not finite.")
    linear = result.residual_variance is not None
    found = LinearRefits(result).to_responses(responses) if linear else _generalised(result, responses)
    return collected(found, len(responses), len(np.asarray(result.params)), len(result.theta))


def collected(found: Iterable[Refitted], count: int, p: int, k: int) -> Refits:
    """Single fits as arrays; `count` of them, of p parameters and k elements of theta."""
    converged, singular = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    llf, scale = np.full(count, np.nan), np.full(count, np.nan)
    params, theta = np.full((count, p), np.nan), np.full((count, k), np.nan)
    reasons = []
    for b, one in enumerate(found):
        reasons.append(one.reason)
        if one.reason == "":
            converged[b], singular[b], llf[b], scale[b] = True, one.singular, one.llf, one.scale
            params[b], theta[b] = one.params, one.theta
    return Refits(converged, llf, params, theta, scale, singular, tuple(reasons))


def open_start(result: Any) -> np.ndarray:
    """The packed parameters of a generalised fit, moved off the boundary.

    At the boundary the derivatives in theta, and in the root of alpha, are zero and lead nowhere.
    """
    space, z = result.model.space(), result.z_standard.copy()
    head = space.head
    singular = space.is_singular(z)
    z[head:] = space.effects.map_terms(
        z[head:], lambda i, t, part: t.covariance.open(part, t.q, 0.1) if singular[i] else part
    )
    psi = z[space.p : head]
    psi[space.psi_at_zero(z)] = 0.3
    return space.to_user(z)


def _generalised(result, responses) -> Iterator[Refitted]:
    """Fits from the result's parameters, on the same sorted and standardised rows."""
    model, start = result.model, open_start(result)
    options: dict[str, Any] = {"method": result.record.method, "maxiter": 100, "callback": None}
    head = model.space().head
    for y in responses:
        try:
            with one_blas_thread():
                fitted = fit_marginal(model.rebound(y), result.nAGQ, start=start, **options)
        except (ValueError, np.linalg.LinAlgError) as error:  # a response that has no fit, as successes only
            yield Refitted(str(error))
            continue
        record = fitted.record
        if not record.converged:
            yield Refitted(record.reason)
            continue
        yield Refitted("", -0.5 * record.value, record.theta[:head], record.theta[head:], 1.0, bool(record.singular))
