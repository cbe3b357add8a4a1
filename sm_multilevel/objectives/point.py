"""What minimisers ask of an objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["NOWHERE", "Point", "unwatched"]


def unwatched(value: float) -> None:
    """What an objective's `watch`, called with each deviance that it has worked out, does unless it is set."""


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


def _nothing() -> np.ndarray:
    raise RuntimeError("no derivatives where the objective does not exist")


# Where the objective does not exist.
NOWHERE = Point(np.inf, _nothing, _nothing)
