"""Computing the replicates of a bootstrap: in tasks, each of which any worker can do.

Replicate k takes its random numbers from ``SeedSequence(entropy, spawn_key=(k,))``, so that it
is the same whichever worker computes it, in whichever task and run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import joblib
import numpy as np
import pandas as pd
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from sm_multilevel.covariance import SINGULAR_TOLERANCE
from sm_multilevel.postestimation.prediction.simulate import Simulator
from sm_multilevel.postestimation.resampling.linear_refits import Refitted
from sm_multilevel.postestimation.resampling.refits import Refits, collected, refits
from sm_multilevel.postestimation.resampling.resample import TopLevel, group_refits, refit_to, top_level
from sm_multilevel.progress import Progress, in_parallel

__all__ = ["KINDS", "Plan", "Replicated", "check_statistic", "compute", "named_statistic", "of_data"]

Statistic = Callable[[Any], Any]

_ENTRIES = 2**23  # numbers of the responses, and of their products with Z, of one task
_TOGETHER, _APART = 512, 32  # replicates of a task, of models that are refitted together or one at a time


@dataclass(frozen=True, eq=False)
class Replicated:
    """Some replicates of a statistic.

    Attributes
    ----------
    values : ndarray, shape (B, s)
        NaN where a replicate failed.
    reasons : tuple of str
        Why it did; empty where it did not.
    singular : ndarray of bool, shape (B,)
    """

    values: np.ndarray
    reasons: tuple[str, ...]
    singular: np.ndarray


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a worker needs to know to compute any of the replicates.

    Attributes
    ----------
    result : MultilevelResults
        With its wrapper, as a statistic takes it.
    kind : str
        A key of `KINDS`.
    statistic : str or callable
        A key of `STATISTICS`, or result -> numbers.
    labels : Index
        Of these numbers.
    entropy : int
    clusters : TopLevel or None
    """

    result: Any
    kind: str
    statistic: str | Statistic
    labels: pd.Index
    entropy: int
    clusters: TopLevel | None = None

    def run(self, first: int, last: int) -> Replicated:
        """Replicates first, ..., last - 1."""
        return KINDS[self.kind](self, range(first, last))

    def rngs(self, numbers: Iterable[int]) -> list[np.random.Generator]:
        """The replicates' generators."""
        return [np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=(k,))) for k in numbers]

    def of_estimates(self, found: Refits) -> Replicated:
        """A named statistic of many refits."""
        values = named_statistic(self.result, str(self.statistic), found.params, found.theta, found.scale)
        return Replicated(values, found.reasons, found.singular)

    def of_results(self, fits: Iterator[Callable[[], Any]]) -> Replicated:
        """A callable statistic of results, each made by a call."""
        values, reasons, singular = [], [], []
        for fit in fits:
            value, reason, at_boundary = self._one(fit)
            values.append(value)
            reasons.append(reason)
            singular.append(at_boundary)
        return Replicated(
            np.array(values).reshape(-1, len(self.labels)), tuple(reasons), np.array(singular, dtype=bool)
        )

    def _one(self, fit) -> tuple[np.ndarray, str, bool]:
        lost = np.full(len(self.labels), np.nan)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                fitted = fit()
        except (ValueError, np.linalg.LinAlgError) as error:  # a response that has no fit, as successes only
            return lost, str(error), False
        if not fitted.converged:
            return lost, fitted.record.reason, False
        try:
            raw = self.statistic(fitted)  # type: ignore[operator]
        except Exception as error:  # the user's code: whatever it raises is counted, with its message
            return lost, f"the statistic raised {type(error).__name__}: {error}", False
        try:
            value = _in_order(_as_numbers(self.statistic, raw), self.labels)
        except ValueError as error:
            return lost, f"the statistic {error}", False
        return value, "", bool(fitted.is_singular)


def _parametric(plan: Plan, numbers: range) -> Replicated:
    responses = Simulator(plan.result).draw(plan.rngs(numbers))
    if callable(plan.statistic):
        return plan.of_results(partial(plan.result.refit, y) for y in responses)
    return plan.of_estimates(refits(plan.result, responses))


def _cluster(plan: Plan, numbers: range) -> Replicated:
    size = _clusters(plan).size
    return _of_groups(plan, [rng.integers(0, size, size) for rng in plan.rngs(numbers)])


def _jackknife(plan: Plan, numbers: range) -> Replicated:
    """Replicate k is without group k."""
    everyone = np.arange(_clusters(plan).size)
    return _of_groups(plan, [np.delete(everyone, k) for k in numbers])


def _of_groups(plan, draws) -> Replicated:
    clusters = _clusters(plan)
    if callable(plan.statistic):
        return plan.of_results(partial(refit_to, plan.result, clusters, drawn) for drawn in draws)
    found: Iterator[Refitted] = group_refits(plan.result, clusters, draws)
    p, k = len(np.asarray(plan.result.params)), len(plan.result.theta)
    return plan.of_estimates(collected(found, len(draws), p, k))


def _clusters(plan) -> TopLevel:
    return plan.clusters or top_level(plan.result.model, "Resampling of groups")


_CALLED = {"parametric": "parametric bootstrap", "cluster": "cluster bootstrap", "jackknife": "jackknife"}
KINDS: dict[str, Callable[[Plan, range], Replicated]] = {
    "parametric": _parametric, "cluster": _cluster, "jackknife": _jackknife,
}  # fmt: skip


# -- statistics -------------------------------------------------------------------------------


def named_statistic(result, name: str, params, theta, scale) -> np.ndarray:
    """A named statistic of many estimates: params (B, p), theta (B, k), scale (B,) -> (B, s)."""
    return np.hstack([PARTS[part][1](result, params, theta, scale) for part in STATISTICS[name]])


def _components(result, params, theta, scale):
    """Variances and covariances in the order of `variance_components`."""
    columns = [g[:, j, k] for term, g, _ in _covariances(result, theta, scale) for j, k in _entries(term, g)]
    if result.residual_variance is not None:
        columns.append(scale)
    return np.column_stack(columns)


def _sdcor(result, params, theta, scale):
    """Standard deviations and correlations; a correlation is NaN where a variance is zero but for rounding."""
    columns = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for term, g, zero in _covariances(result, theta, scale):
            sd = np.sqrt(np.einsum("bjj->bj", g))
            size = np.where(zero, np.nan, sd)
            cor = np.clip(g / (size[:, :, None] * size[:, None, :]), -1.0, 1.0)
            columns += [sd[:, j] if j == k else cor[:, j, k] for j, k in _entries(term, g)]
    if result.residual_variance is not None:
        columns.append(np.sqrt(scale))
    return np.column_stack(columns)


def _covariances(result, theta, scale):
    """Each term with its covariances (B, q, q), and which of its variances are zero (B, q), as `is_singular` has it."""
    effects = result.model.effects
    for term, part, w in zip(effects.terms, effects.slices, effects.standardizers, strict=True):
        lam = np.einsum("kij,bk->bij", term.covariance.basis(term.q), theta[:, part])
        zero = np.linalg.norm(lam, axis=2) < SINGULAR_TOLERANCE * np.linalg.norm(w, axis=1)
        yield term, scale[:, None, None] * np.einsum("bik,bjk->bij", lam, lam), zero


def _entries(term, g):
    q = g.shape[1]
    return [(j, k) for j in range(q) for k in range(j, q if term.covariance.correlated else j + 1)]


def _component_names(result):
    return list(result.variance_components)


def _sdcor_names(result):
    words = {"var(": "sd(", "cov(": "cor("}
    return [words[name[:4]] + name[4:] for name in result.variance_components]


# What statistics are made of: (names, values).
PARTS: dict[str, tuple[Callable, Callable]] = {
    "params": (lambda r: list(r.model.data.param_names), lambda result, params, theta, scale: params),
    "components": (_component_names, _components),
    "sdcor": (_sdcor_names, _sdcor),
}
STATISTICS: dict[str, tuple[str, ...]] = {
    "estimates": ("params", "components", "sdcor"),
    "params": ("params",),
    "components": ("components", "sdcor"),
}


def check_statistic(statistic) -> str | Statistic:
    """A named or callable statistic; None is all estimates."""
    if statistic is None:
        return "estimates"
    if callable(statistic) or (isinstance(statistic, str) and statistic in STATISTICS):
        return statistic
    names = ", ".join(map(repr, STATISTICS))
    raise ValueError(
        f"statistic={statistic!r} is not known. Choose one of {names}, or give a function of a result that returns "
        "numbers."
    )


def of_data(statistic: str | Statistic, result) -> pd.Series:
    """A statistic of the fit to the data, with its names.

    Raises
    ------
    ValueError
        Where a callable raises, or gives no real numbers, none at all, or none that is finite.
    """
    if not callable(statistic):
        names = [name for part in STATISTICS[statistic] for name in PARTS[part][0](result)]
        one = (np.asarray(result.params)[None], np.asarray(result.theta)[None], np.array([result.scale], dtype=float))
        return pd.Series(named_statistic(result, statistic, *one)[0], index=names)
    told = f"statistic={_name(statistic)}"
    advice = "Give a function of a result that returns real numbers."
    try:
        raw = statistic(result)
    except Exception as error:  # the user's code
        raise ValueError(f"{told} raised {type(error).__name__} on the data: {error}. {advice}") from error
    try:
        value = _as_numbers(statistic, raw)
    except ValueError as error:
        raise ValueError(f"{told} {error} on the data. {advice}") from error
    if value.empty:
        raise ValueError(f"{told} gave no values on the data. {advice}")
    if not np.isfinite(value).any():
        raise ValueError(f"{told} gave {_listed(value)} on the data, where nothing is finite. {advice}")
    return value


def _name(statistic) -> str:
    return str(getattr(statistic, "__name__", "statistic"))


def _as_numbers(statistic, value) -> pd.Series:
    """What a callable statistic returned, with its labels."""
    try:
        if isinstance(value, (dict, pd.Series)):
            parts = np.asarray(list(value.values()) if isinstance(value, dict) else value)
            real, made = not np.iscomplexobj(parts), partial(pd.Series, value)
        elif np.ndim(value) == 0:
            real, made = not np.iscomplexobj(value), partial(pd.Series, [value], index=[_name(statistic)])
        else:
            real, made = not np.iscomplexobj(np.asarray(value)), partial(pd.Series, np.ravel(value))
        if real:
            return made(dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"gave a {type(value).__name__} that is no real numbers ({error})") from error
    raise ValueError("gave complex numbers")


def _in_order(value: pd.Series, labels: pd.Index) -> np.ndarray:
    """The numbers in the order of the labels; ValueError where they have others."""
    if len(value) != len(labels):
        raise ValueError(f"gave {len(value)} values where the data give {len(labels)}")
    if not value.index.equals(labels):
        if not (value.index.is_unique and labels.is_unique and value.index.isin(labels).all()):
            raise ValueError(f"gave the labels {_listed(value.index)} where the data give {_listed(labels)}")
        value = value.reindex(labels)
    return value.to_numpy(dtype=float)


def _listed(values, most=5) -> str:
    return ", ".join(map(str, list(values)[:most])) + (", ..." if len(values) > most else "")


# -- tasks ------------------------------------------------------------------------------------------


def compute(plan: Plan, first: int, last: int, n_jobs, disp, batch) -> Replicated:
    """Replicates first, ..., last - 1, computed in parallel.

    Parameters
    ----------
    plan : Plan
    first, last : int
    n_jobs : int or None
        As joblib takes it.
    disp : bool or None
        Whether progress is shown; see `Progress`.
    batch : int or None
        Replicates of a task.
    """
    count = last - first
    task = batch or _task_size(plan, count, joblib.effective_n_jobs(n_jobs))
    starts = range(first, last, task)
    with Progress(_CALLED[plan.kind], disp, count, "replicates") as progress:
        tasks = [(plan.run, start, min(start + task, last)) for start in starts]
        parts = in_parallel(tasks, n_jobs, progress, task)
    return Replicated(
        np.concatenate([part.values for part in parts]),
        tuple(reason for part in parts for reason in part.reasons),
        np.concatenate([part.singular for part in parts]),
    )


def _task_size(plan, count, jobs) -> int:
    """Large where replicates are minimised together, small where a bar should move."""
    model = plan.result.model
    together = plan.result.residual_variance is not None and not callable(plan.statistic)
    most = _TOGETHER if together else _APART
    share = -(-count // (jobs if together else 4 * jobs))
    layout = model.effects.layout
    entries = max(len(model.design.endog), sum(m * q * q for m, q in zip(layout.m, layout.q, strict=True)))
    return max(1, min(most, share, _ENTRIES // entries))
