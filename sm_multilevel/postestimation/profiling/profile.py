"""Profile likelihood: zeta paths, and the confidence intervals that follow from them.

    zeta(v) = sign(v - estimate) sqrt(deviance with the parameter held at v - least deviance)

is compared with the normal distribution: the interval of level 1 - alpha is where |zeta| <= z_(1 - alpha/2), so it is
the set of values that the likelihood ratio test does not reject. Bates and Watts (1988), Nonlinear Regression
Analysis and Its Applications, section 6.1; Venzon and Moolgavkar (1988), Applied Statistics 37, 87-94; for mixed
models Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), section 5.1. The same normal quantile is
used where the interval meets a boundary, as in lme4: there it covers more often than its level says (Self and Liang
1987, J. Am. Stat. Assoc. 82, 605-610).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import check_alpha, check_disp, users_level
from sm_multilevel.postestimation.profiling.profile_path import Path
from sm_multilevel.postestimation.profiling.profiled import Problem, Solved, profile_problem
from sm_multilevel.postestimation.profiling.targets import ComponentTarget, Target
from sm_multilevel.progress import Progress, in_parallel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ComponentIntervals",
    "Interval",
    "ProfileResults",
    "component_intervals",
    "function_bound",
    "profile",
    "profile_bound",
    "profile_conf_int",
]

_BOOT = ("n", "seed", "kind", "interval")  # options of bootstrap intervals
_POINTS = 8  # steps from the estimate to the cutoff


@dataclass(frozen=True, eq=False)
class _Trace:
    """What was found of one parameter; `undefined` says why it has no profile."""

    points: list[Solved]
    failed: list[Solved]
    stops: dict[int, str]
    undefined: str = ""


@dataclass(frozen=True)
class Interval:
    """A profile interval.

    Attributes
    ----------
    lower, upper : float
        NaN where an end was not found.
    note : str
        What is to be said of the ends; empty for an ordinary interval.
    """

    lower: float
    upper: float
    note: str = ""


@dataclass(frozen=True, eq=False)
class ComponentIntervals:
    """Profile intervals of the variance components, in the order of `varcorr()`.

    Attributes
    ----------
    vcov : ndarray, shape (c, 2)
        Of variances (the squares of those below) and covariances.
    sdcor : ndarray, shape (c, 2)
        Of standard deviations and correlations; NaN for a correlation with a variance of zero.
    notes : tuple of str
        What is to be said of each row of `sdcor`.
    """

    vcov: np.ndarray
    sdcor: np.ndarray
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class ProfileResults:
    """Profile likelihoods of some parameters.

    Attributes
    ----------
    names : tuple of str
        What was profiled.
    estimate : Series
        Maximum-likelihood estimates of these.
    deviance : float
        -2 log-likelihood at them.
    alpha : float
        The profiles reach as far as the intervals of level 1 - alpha.
    is_refit : bool
        Whether the result was a REML fit: profiles are then those of the ML fit of the same model,
        and so are the estimates here.
    notes : dict
        By name what is to be said of it: a boundary, a deviance that levels off, points that failed.
    frame : DataFrame
        ``parameter, value, zeta, deviance``, then a column for every parameter of the model: the
        estimates given that value. Values increase within a parameter.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> profiles = res.profile("beta")
    >>> print(profiles)
    <ProfileResults: Intercept, Days; 38 points>
    """

    names: tuple[str, ...]
    estimate: pd.Series
    deviance: float
    alpha: float
    is_refit: bool
    notes: dict[str, str]
    frame: pd.DataFrame
    _result: Any
    _traces: dict[str, _Trace]

    @cached_property
    def _problem(self) -> Problem:
        return profile_problem(self._result)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_problem"}

    def __repr__(self) -> str:
        return f"<ProfileResults: {', '.join(self.names)}; {len(self.frame)} points>"

    def conf_int(self, alpha: float = 0.05, which: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Confidence intervals: where the size of zeta is at most the normal quantile.

        The ends are solved for, not interpolated: zeta is the quantile there to about 1e-10, or as far as
        the rounding of a large deviance allows (1e-8 at a million rows).

        Parameters
        ----------
        alpha : float
            The level is 1 - alpha. Smaller than the profile's it takes more points.
        which : str or sequence of str, optional
            Names; default all that were profiled.

        Returns
        -------
        DataFrame
            ``lower, upper``; NaN where an end was not found, with a warning.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> print(res.profile("beta").conf_int().round(2))
                    lower   upper
        Intercept  237.68  265.13
        Days         7.36   13.58
        """
        alpha = check_alpha(alpha)
        names = self.select(which)
        with one_blas_thread():
            rows, said = _intervals(self._problem, {name: self._traces[name] for name in names}, alpha)
        _warn(said)
        return pd.DataFrame([[row.lower, row.upper] for row in rows], index=names, columns=["lower", "upper"])

    def select(self, which: str | Sequence[str] | None = None) -> list[str]:
        """Profiled names of what is asked for; raises ValueError for others.

        Parameters
        ----------
        which : str or sequence of str, optional
            Names, or groups of them as in `profile`; default: all.

        Returns
        -------
        list of str

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.profile("beta").select("Days")
        ['Days']
        """
        if which is None:
            return list(self.names)
        wanted = self._problem.find(which)
        for name in wanted:
            if name not in self._traces:
                raise ValueError(f"which={name!r} was not profiled; there are {', '.join(map(repr, self.names))}.")
        return wanted

    def plot(
        self,
        which: str | Sequence[str] | None = None,
        ax: Axes | None = None,
        alpha: Sequence[float] = (0.5, 0.2, 0.1, 0.05, 0.01),
    ) -> Figure:
        """Zeta plots, a panel a parameter: a straight line where the deviance is quadratic.

        Parameters
        ----------
        which : str or sequence of str, optional
            Names; default all that were profiled.
        ax : Axes, optional
            Where to draw a single parameter.
        alpha : sequence of float
            The intervals of level 1 - alpha are drawn as vertical lines up to the curve.

        Returns
        -------
        Figure

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> figure = res.profile("beta").plot()
        >>> len(figure.axes)
        2
        """
        from sm_multilevel.postestimation.profiling.profile_plot import zeta_plot

        return zeta_plot(self, which, ax, alpha)


def profile(result: Any, which=None, alpha: float = 0.01, n_jobs: int = 1, disp: bool | None = None) -> ProfileResults:
    """Profile likelihoods of a fit; see `LikelihoodMethods.profile`.

    Parameters
    ----------
    result : MultilevelResults
    which : str or sequence of str, optional
    alpha : float
    n_jobs : int
    disp : bool, optional

    Returns
    -------
    ProfileResults
    """
    alpha, n_jobs, disp = check_alpha(alpha), _check_jobs(n_jobs), check_disp(disp)
    problem = profile_problem(result)
    names = problem.find(which)
    with Progress("profile", disp, len(names), "parameters") as progress:
        if n_jobs == 1:
            traces: list[_Trace] = []
            for name in names:
                progress.at(len(traces), f"now {name}")
                traces.append(_trace(problem, name, alpha))
            progress.at(len(names))
        else:
            traces = in_parallel([(_trace_of_result, result, name, alpha) for name in names], n_jobs, progress)
    found = dict(zip(names, traces, strict=True))
    notes, parts, said = {}, [], []
    for name, trace in found.items():
        path = _path(problem, name, trace)
        said += _complaints(path, trace)
        note = trace.undefined or "; ".join(path.notes(_cutoff(alpha)))
        if note:
            notes[name] = note
        parts.append(_table(problem, path, trace))
    _warn(said)
    estimate = pd.Series([problem.estimate(name) for name in names], index=names)
    out = ProfileResults(
        tuple(names), estimate, problem.deviance, alpha, bool(getattr(result, "reml", False)), notes,
        pd.concat(parts, ignore_index=True), result, found,
    )  # fmt: skip
    out.__dict__["_problem"] = problem
    return out


def profile_conf_int(result: Any, alpha: float, n_jobs: int = 1, disp: bool | None = None, **options) -> np.ndarray:
    """Profile intervals of all of `params`; shape (p, 2).

    Raises
    ------
    ValueError
        Of a result with a cluster-robust covariance, of which a likelihood knows nothing.
    TypeError
        For any other option.
    """
    for name in options:
        raise TypeError(
            f"conf_int(method='profile') has no option {name!r}"
            + (f": {name} belongs to method='boot'." if name in _BOOT else "; it has n_jobs and disp.")
        )
    if result.cov_type != "nonrobust":
        raise ValueError(
            f"method='profile': profile intervals come from the likelihood and take no account of "
            f"cov_type={result.cov_type!r}. Ask the fit with the model-based covariance, or use method='wald'."
        )
    problem, n_jobs = profile_problem(result), _check_jobs(n_jobs)
    names = [*problem.fixed, *problem.psi]
    with Progress("profile", check_disp(disp), len(names), "parameters") as progress:
        if n_jobs == 1:
            with one_blas_thread():
                rows, said = _intervals(problem, dict.fromkeys(names), alpha, progress)
        else:
            found = in_parallel([(_interval_of_result, result, name, alpha) for name in names], n_jobs, progress)
            rows, said = [row for row, _ in found], [text for _, words in found for text in words]
    _warn(said)
    return np.array([[row.lower, row.upper] for row in rows]).reshape(-1, 2)


def component_intervals(result: Any, alpha: float, rows=None) -> ComponentIntervals:
    """Profile intervals of the rows of `varcorr()`.

    Parameters
    ----------
    result : MultilevelResults
    alpha : float
    rows : sequence of int, optional
        Only these; the others are NaN.

    Returns
    -------
    ComponentIntervals
    """
    alpha = check_alpha(alpha)
    problem = profile_problem(result)
    entries = problem.coordinates.components.entries
    vcov, sdcor, notes, said = np.full((len(entries), 2), np.nan), np.full((len(entries), 2), np.nan), [], []
    known: dict[tuple, Interval] = {}

    def interval(target: ComponentTarget) -> Interval:
        if target.key not in known:
            known[target.key], words = _interval(problem, target, None, alpha)
            said.extend(words)
        return known[target.key]

    with one_blas_thread():
        for n, entry in enumerate(entries):
            if rows is not None and n not in rows:
                notes.append("")
                continue
            own = interval(ComponentTarget(problem.components[n], problem.coordinates, n))
            sdcor[n] = own.lower, own.upper
            notes.append(own.note)
            if entry.is_variance:
                vcov[n] = np.square(sdcor[n])
            else:
                both = interval(ComponentTarget(problem.components[n], problem.coordinates, n, covariance=True))
                vcov[n] = both.lower, both.upper
    _warn(said)
    return ComponentIntervals(vcov, sdcor, tuple(notes))


def profile_bound(result: Any, target: str, alpha: float) -> Interval:
    """The profile interval of one parameter, by its name.

    Parameters
    ----------
    result : MultilevelResults
    target : str
    alpha : float

    Returns
    -------
    Interval
    """
    alpha = check_alpha(alpha)
    problem = profile_problem(result)
    names = problem.find(target)
    if len(names) != 1:
        raise ValueError(f"target={target!r} is not a single parameter but {', '.join(map(repr, names))}.")
    with one_blas_thread():
        out, said = _interval(problem, problem.target(names[0]), None, alpha)
    _warn(said)
    return out


def function_bound(
    result: Any,
    function: Callable[[np.ndarray, np.ndarray], float],
    alpha: float,
    *,
    name: str = "function",
    lower: float = -np.inf,
    upper: float = np.inf,
) -> Interval:
    """The profile interval of any smooth function of the parameters, as an intraclass correlation.

    Parameters
    ----------
    result : MultilevelResults
    function : callable
        (variances and covariances in the order of `varcorr()`, params) -> float. In linear models, whose
        fixed effects are profiled out, params are NaN.
    alpha : float
    name : str
        What warnings call it.
    lower, upper : float
        Limits of the function.

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        Where the function is not finite at the estimates.
    """
    alpha = check_alpha(alpha)
    problem = profile_problem(result)
    target = problem.function_target(name, function, lower, upper)
    if not np.isfinite(target.value(problem.z)):
        raise ValueError(f"{name} is not finite at the maximum-likelihood estimates.")
    with one_blas_thread():
        out, said = _interval(problem, target, None, alpha)
    _warn(said)
    return out


# -- one parameter ----------------------------------------------------------------------------


def _cutoff(alpha: float) -> float:
    return float(stats.norm.ppf(1.0 - alpha / 2.0))


def _check_jobs(n_jobs) -> int:
    if isinstance(n_jobs, (int, np.integer)) and not isinstance(n_jobs, bool) and n_jobs != 0:
        return int(n_jobs)
    raise ValueError(f"n_jobs={n_jobs!r} must be a whole number of processes, or -1 for all processors.")


def _trace_of_result(result, name, alpha) -> _Trace:
    return _trace(profile_problem(result), name, alpha)


def _interval_of_result(result, name, alpha):
    problem = profile_problem(result)
    with one_blas_thread():
        return _interval(problem, problem.target(name), None, alpha)


def _trace(problem: Problem, name: str, alpha: float) -> _Trace:
    target = problem.target(name)
    why = problem.undefined(target)
    if why:
        return _Trace([], [], {}, why)
    path, cutoff = Path(problem, target), _cutoff(alpha)
    with one_blas_thread():
        for side in (-1, 1):
            path.march(side, cutoff, cutoff / _POINTS)
    return _Trace(path.points, path.failed, path.stops)


def _path(problem: Problem, name: str, trace: _Trace) -> Path:
    return Path(problem, problem.target(name), trace.points, trace.stops)


def _table(problem: Problem, path: Path, trace: _Trace) -> pd.DataFrame:
    points = trace.points
    out = pd.DataFrame(np.array([p.estimates for p in points]).reshape(-1, len(problem.names)), columns=problem.names)
    front = {
        "parameter": path.target.name,
        "value": [path.value(p) for p in points],
        "zeta": [path.zeta(p) for p in points],
        "deviance": [p.deviance for p in points],
    }
    return pd.concat([pd.DataFrame(front, index=out.index), out], axis=1)


def _intervals(problem: Problem, traces: dict[str, _Trace | None], alpha: float, progress: Progress | None = None):
    """Intervals by name, and what is to be warned of."""
    rows: list[Interval] = []
    said: list[str] = []
    for name, trace in traces.items():
        if progress is not None:
            progress.at(len(rows), f"now {name}")
        row, words = _interval(problem, problem.target(name), trace, alpha)
        rows.append(row)
        said += words
    if progress is not None:
        progress.at(len(rows))
    return rows, said


def _interval(problem: Problem, target: Target, trace: _Trace | None, alpha: float) -> tuple[Interval, list[str]]:
    why = problem.undefined(target)
    if why:
        return Interval(np.nan, np.nan, why), []
    path = Path(problem, target) if trace is None else Path(problem, target, trace.points, trace.stops)
    ends = [path.end(side, _cutoff(alpha)) for side in (-1, 1)]
    found = _Trace(path.points, path.failed, path.stops)
    if path.lower is not None:
        return Interval(np.nan, np.nan, "the fit is not at the optimum"), _complaints(path, found)
    words = _complaints(path, found) + [f"The profile of {target.name}: {end.note}." for end in ends if end.failed]
    return Interval(ends[0].value, ends[1].value, "; ".join(path.notes(_cutoff(alpha)))), words


def _complaints(path: Path, trace: _Trace) -> list[str]:
    """What a user must know of a profile."""
    name, low, out = path.target.name, path.lower if trace.points else None, []
    if low is not None:
        out.append(
            f"The profile of {name} found a lower deviance than the fit's, {low.deviance:.6f} instead of "
            f"{path.problem.deviance:.6f}, at {name} = {path.value(low):.6g}: the fit is not at its optimum, and no "
            "interval that rests on it is given. Fit again from other starting values (start_params=)."
        )
    if trace.failed:
        first = trace.failed[0]
        out.append(
            f"The profile of {name} at {path.value(first):.6g}"
            + (f" and {len(trace.failed) - 1} other values" if len(trace.failed) > 1 else "")
            + f" did not converge ({first.reason}); not used."
        )
    return out


def _warn(texts: list[str]) -> None:
    for text in dict.fromkeys(texts):
        warnings.warn(text, ConvergenceWarning, stacklevel=users_level())
