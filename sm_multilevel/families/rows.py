"""What all bound responses share: arrays of one entry a row, their weights and their checks."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from sm_multilevel.families.response import Local, Response, ResponseData

__all__ = [
    "PlainLocal",
    "RowResponse",
    "UnitLocal",
    "check_common",
    "refuse",
    "refuse_trials",
    "total_weight",
    "within",
]


def _take_rows(data: ResponseData, rows) -> ResponseData:
    """Some rows of a response's data."""
    arrays = ("endog", "trials", "var_weights", "freq_weights")
    taken: dict[str, Any] = {k: None if (v := getattr(data, k)) is None else v[rows] for k in arrays}
    return replace(data, **taken)


def total_weight(data: ResponseData) -> np.ndarray | None:
    """What multiplies log f in a family without a dispersion."""
    if data.var_weights is None:
        return data.freq_weights
    return data.var_weights if data.freq_weights is None else data.var_weights * data.freq_weights


def within(eta: np.ndarray, limit: float = 700.0) -> np.ndarray:
    """eta, clipped to +-limit if it must be, so that exp of it and of its negative are finite and not zero."""
    if eta.size and eta.min() > -limit and eta.max() < limit:
        return eta
    return np.clip(eta, -limit, limit)


def refuse(bad: np.ndarray, values: np.ndarray, what: str, problem: str, advice: str) -> None:
    """Raise ValueError naming the first bad row, if there is one."""
    if np.any(bad):
        row = int(np.argmax(bad))
        many = int(np.count_nonzero(bad))
        others = f", one of {many} such rows" if many > 1 else ""
        raise ValueError(f"{what} {problem}: row {row} (counted from 0) is {values[row]:.10g}{others}. {advice}")


def check_common(data: ResponseData, what: str) -> None:
    """Refuse what no response can have: no rows, NaN, infinity, unusable weights."""
    y = data.endog
    if not len(y):
        raise ValueError(f"{what} has no rows. Check for missing values and for what subset= leaves.")
    refuse(~np.isfinite(y), y, what, "has values that are missing or infinite", "Drop these rows or fill them in.")
    for name, weights in (("var_weights", data.var_weights), ("freq_weights", data.freq_weights)):
        if weights is not None:
            bad = ~(np.isfinite(weights) & (weights > 0 if name == "var_weights" else weights >= 0))
            refuse(bad, weights, f"{name} of {what}", "must be finite and positive", "Drop these rows instead.")


def refuse_trials(data: ResponseData, what: str, kind: str) -> None:
    """Refuse numbers of trials, which a response of this kind does not have."""
    if data.trials is not None:
        raise ValueError(f"{what}: {kind} response takes no numbers of trials. Leave out n_trials=.")


class UnitLocal(Local):
    """A `Local` of unit derivatives times weights. Subclasses set ``_unit``, which has them, and ``_weight``."""

    _unit: Any
    _weight: np.ndarray | float | None

    def _times(self, values):
        return values if self._weight is None else self._weight * values

    @cached_property
    def score(self) -> np.ndarray:
        return self._times(self._unit.score)

    @cached_property
    def info(self) -> np.ndarray:
        return self._times(self._unit.info)

    @cached_property
    def info_slope(self) -> np.ndarray:
        return self._times(self._unit.info_slope)

    @cached_property
    def expected_info(self) -> np.ndarray:
        return self._times(self._unit.expected_info)


class PlainLocal(Local):
    """A `Local` of a response that has no psi. Subclasses set ``_eta``."""

    _eta: np.ndarray

    @cached_property
    def psi_score(self) -> np.ndarray:
        return np.empty((0, *self._eta.shape))

    @cached_property
    def score_psi(self) -> np.ndarray:
        return np.empty((0, *self._eta.shape))

    @cached_property
    def info_psi(self) -> np.ndarray:
        return np.empty((0, *self._eta.shape))

    @cached_property
    def psi_info(self) -> np.ndarray:
        return np.empty((0, 0))


class RowResponse(Response):
    """A response whose arrays, named in ``_rows``, have one entry a row (or are None).

    ``_derived`` names those that are made from them when asked for.
    """

    _rows: tuple[str, ...] = ()
    _derived: tuple[str, ...] = ()
    data: ResponseData

    @property
    def nobs(self) -> float:  # type: ignore[override]
        freq = self.data.freq_weights
        return float(len(self.data.endog)) if freq is None else float(np.sum(freq))

    def take(self, rows) -> RowResponse:
        """The same response for some rows, a slice or an array of positions."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.data = _take_rows(self.data, rows)
        for name in self._derived:
            new.__dict__.pop(name, None)
        for name in self._rows:
            value = getattr(self, name)
            if value is not None:
                setattr(new, name, value[rows])
        return new
