"""The frozen record of a fit: what was done and what was found at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Attempt", "FitRecord"]


@dataclass(frozen=True)
class Attempt:
    """One run of a minimiser.

    Attributes
    ----------
    method, start : str
    evaluations : int
    value : float
    kkt : float
    message : str
    """

    method: str
    start: str
    evaluations: int
    value: float
    kkt: float
    message: str


@dataclass(frozen=True, eq=False)
class FitRecord:
    """What estimation found, checked apart from the optimiser.

    Attributes
    ----------
    theta : ndarray
        In the user's columns, canonical signs.
    theta_standard : ndarray
        In standardised columns.
    value : float
        The objective at theta.
    converged : bool
        The KKT conditions hold: gradient, curvature, and at the boundary the derivative
        in the covariance.
    reason : str
        In words, empty if converged.
    gradient_norm : float
        Largest element of the gradient in standardised columns.
    kkt : float
        sqrt(g' H^-1 g / 2): how many standard errors of theta the optimum is away.
    min_curvature : float
        Least eigenvalue of the Hessian relative to its largest.
    boundary_slope : float
        Least derivative in the covariance along its null space (inf: no null space);
        negative would mean that the boundary is not the optimum.
    singular : tuple of str
        Terms whose covariance is singular, in words.
    hessian : ndarray
        Of the objective, standardised columns.
    method : str
    evaluations, iterations : int
    attempts : tuple of Attempt
    seconds : float

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> res.record.converged, res.record.method, bool(res.record.kkt < 1e-3), res.record.singular
    (True, 'newton', True, ())
    """

    theta: np.ndarray
    theta_standard: np.ndarray
    value: float
    converged: bool
    reason: str
    gradient_norm: float
    kkt: float
    min_curvature: float
    boundary_slope: float
    singular: tuple[str, ...]
    hessian: np.ndarray
    method: str
    evaluations: int
    iterations: int
    attempts: tuple[Attempt, ...] = field(default_factory=tuple)
    seconds: float = 0.0

    @property
    def message(self) -> str:
        return "converged" if self.converged else self.reason
