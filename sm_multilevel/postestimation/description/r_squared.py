"""Nakagawa and Schielzeth's R-squared, with Johnson's extension to random slopes."""

from __future__ import annotations

import numpy as np

__all__ = ["r_squared", "random_variance"]


def random_variance(random, terms) -> float:
    """Mean over rows of z'Gz, the variance that the random effects contribute.

    Johnson (2014), Methods Ecol. Evol. 5, 944-946, equation 10.

    Parameters
    ----------
    random : sequence of RandomTerm
        The columns.
    terms : sequence of TermSolution
        The covariances.
    """
    total = 0.0
    for term, solution in zip(random, terms, strict=True):
        z = term.exog
        # tr(G Z'Z) / n: no n x n or n x q product is kept.
        total += float(np.sum((z.T @ z) * solution.cov)) / z.shape[0]
    return total


def r_squared(linear, random, terms, residual, freq_weights=None) -> dict[str, float]:
    """Marginal and conditional R-squared.

    Nakagawa and Schielzeth (2013), Methods Ecol. Evol. 4, 133-142, equations 26 and 30.

    Parameters
    ----------
    linear : ndarray, shape (n,)
        X beta.
    residual : float
        Residual variance.

    Returns
    -------
    dict
        ``marginal, conditional, var_fixed, var_random, var_residual``.
    """
    if freq_weights is None:
        fixed = float(np.var(linear, ddof=1))
        spread = random_variance(random, terms)
    else:
        n = freq_weights.sum()
        mean = freq_weights @ linear / n
        fixed = float(freq_weights @ (linear - mean) ** 2 / (n - 1))
        spread = sum(
            float(np.sum(((t.exog * freq_weights[:, None]).T @ t.exog) * s.cov)) / n
            for t, s in zip(random, terms, strict=True)
        )
    total = fixed + spread + residual
    return {
        "marginal": float(fixed / total),
        "conditional": float((fixed + spread) / total),
        "var_fixed": fixed,
        "var_random": float(spread),
        "var_residual": float(residual),
    }
