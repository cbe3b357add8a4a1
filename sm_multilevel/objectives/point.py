"""What minimisers ask of an objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Point"]


@dataclass(frozen=True, eq=False)
class Point:
    """What an objective gives at one theta.

    Attributes
    ----------
    value : float
        inf where the objective does not exist.
    gradient : callable () -> ndarray
    curvature : callable () -> ndarray
        Model Hessian.
    """

    value: float
    gradient: Callable[[], np.ndarray]
    curvature: Callable[[], np.ndarray]
