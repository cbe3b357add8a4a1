"""Many refits of one model to new responses: the engine of bootstrap intervals and tests."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from statsmodels.tools.sm_exceptions import ConvergenceWarning

__all__ = ["Refits", "refits"]


@dataclass(frozen=True, eq=False)
class Refits:
    """What refits found, one element or row a response.

    Attributes
    ----------
    converged : ndarray of bool, shape (B,)
        False also where a response can have no fit; the other attributes are NaN there.
    llf : ndarray, shape (B,)
        Log-likelihood, restricted if the result's is.
    params : ndarray, shape (B, p)
    theta : ndarray, shape (B, k)
        In the user's columns.
    scale : ndarray, shape (B,)
        Residual variance; 1 in generalised models.
    """

    converged: np.ndarray
    llf: np.ndarray
    params: np.ndarray
    theta: np.ndarray
    scale: np.ndarray


def refits(result: Any, responses: np.ndarray) -> Refits:
    """Fit a result's model, with its options, to many responses.

    Parameters
    ----------
    result : MultilevelResults
    responses : ndarray, shape (B, n)
        As `simulate` gives them.

    Returns
    -------
    Refits
    """
    count, p, k = len(responses), len(np.asarray(result.params)), len(result.theta)
    out = Refits(
        np.zeros(count, dtype=bool), np.full(count, np.nan), np.full((count, p), np.nan),
        np.full((count, k), np.nan), np.full(count, np.nan),
    )  # fmt: skip
    for b, y in enumerate(responses):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                fitted = result.refit(y)
        except ValueError:  # a response that has no fit, as successes only
            continue
        if fitted.converged:
            out.converged[b], out.llf[b], out.scale[b] = True, fitted.llf, fitted.scale
            out.params[b], out.theta[b] = np.asarray(fitted.params), fitted.theta
    return out
