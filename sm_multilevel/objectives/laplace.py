"""Laplace's approximation of the integral over the random effects.

log L = sum log f(y | eta, psi) - u'u/2 - log|H|/2 at the mode u, with
H = I + Lambda'Z'DZ Lambda and D the *observed* information, for only with it is this the
Laplace approximation of the likelihood (Breslow and Clayton 1993, J. Am. Stat. Assoc. 88,
9-25, equation 4, where the expected one stands in).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sm_multilevel.linalg.cholesky import BlockMatrix
from sm_multilevel.objectives.modes import Mode

__all__ = ["Integral", "Parts", "laplace"]


@dataclass(frozen=True, eq=False)
class Parts:
    """Derivatives of log L in what it is a function of, the mode and H among them.

    Attributes
    ----------
    h : BlockMatrix
        In H, as a symmetric matrix: d log L = sum over all its elements.
    u : list of ndarray, shape (q, m), or None
        In the modes, other than through H; None where it is zero.
    eta : ndarray, shape (n,)
        In the rows' X beta.
    lams : list of ndarray, shape (q, q) or (q, q, m)
        In Lambda, other than through the modes and H; or the share of each level.
    psi : ndarray, shape (r,) or (r, n)
        In psi, other than through the modes and H; or the share of each row.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> parts = res.model.objective().state(res.record.theta_standard).integral.parts()
    >>> parts.eta.shape, len(parts.lams)
    ((56,), 1)
    """

    h: BlockMatrix
    u: list[np.ndarray] | None
    eta: np.ndarray
    lams: list[np.ndarray]
    psi: np.ndarray


class Integral:
    """The integral at one mode.

    Attributes
    ----------
    value : float
        log L.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> integral = res.model.objective().state(res.record.theta_standard).integral
    >>> round(integral.value, 4)
    -92.0263
    """

    value: float

    def parts(self, apart: bool = False) -> Parts:
        """Its derivatives; `apart`: in Lambda for each level, in psi for each row, instead of their sums."""
        raise NotImplementedError


class _Laplace(Integral):
    def __init__(self, mode: Mode):
        self.mode = mode
        self.value = mode.value - 0.5 * mode.chol.logdet

    def parts(self, apart=False):
        mode = self.mode
        inverse = mode.inverse
        h = BlockMatrix(
            inverse.layout, [-0.5 * d for d in inverse.diag], {key: -0.5 * o for key, o in inverse.off.items()}
        )
        if apart:
            lams = [s[:, None] * u[None] for s, u in zip(mode.score_sums, mode.u, strict=True)]
            psi = mode.local.psi_score if mode.psi.size else np.empty((0, mode.rows.n))
            return Parts(h, None, mode.local.score, lams, psi)
        lams = [s @ u.T for s, u in zip(mode.score_sums, mode.u, strict=True)]
        # The mode maximises the penalised likelihood: nothing through it but through H.
        psi = mode.local.psi_pull(np.ones(mode.rows.n)) if mode.psi.size else np.empty(0)
        return Parts(h, None, mode.local.score, lams, psi)


def laplace(mode: Mode) -> Integral:
    """log L by Laplace's approximation, at a mode.

    Parameters
    ----------
    mode : Mode

    Returns
    -------
    Integral

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import cbpp
    >>> cows = cbpp.load_pandas().data
    >>> res = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    >>> from sm_multilevel.objectives.laplace import laplace
    >>> mode = res.model.objective().state(res.record.theta_standard).mode
    >>> round(laplace(mode).value, 4)
    -92.0263
    """
    return _Laplace(mode)
