"""Parametric and cluster bootstrap: replicates of a statistic, their intervals, and how to get more of them.

References
----------
Davison and Hinkley (1997), Bootstrap methods and their application, chapters 2, 3 and 5.
Efron (1987), Better bootstrap confidence intervals, J. Am. Stat. Assoc. 82, 171-185.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from sm_multilevel._compat import CloudPickler
from sm_multilevel.checks import check_alpha, check_count, check_disp, users_level
from sm_multilevel.postestimation.prediction.simulate import simulate
from sm_multilevel.postestimation.resampling.replicates import Plan, check_statistic, compute, of_data
from sm_multilevel.postestimation.resampling.resample import top_level

__all__ = ["BootstrapResults", "boot_interval", "bootstrap", "simulate"]

_MANY = 0.05  # part of the replicates that may fail without a warning
_KINDS = ("parametric", "cluster")
_TAIL = "Leave the interval out, or use another method."


@dataclass(frozen=True, eq=False)
class BootstrapResults:
    """Replicates of a statistic.

    Attributes
    ----------
    estimates : DataFrame
        One row a replicate that has an estimate, named by the number of the replicate.
    observed : Series
        The statistic of the data.
    n : int
        Replicates, failed ones included.
    failures : Series
        How often each reason kept a replicate out of `estimates`.
    n_singular : int
        Replicates in `estimates` whose fit is at the boundary.
    seed : int
        With which the same replicates are drawn again; drawn from the system where none was given.
    kind : {"parametric", "cluster"}

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> boot = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit().bootstrap(200, seed=1)
    >>> boot.failed, boot.estimates.shape
    (0, (200, 10))
    >>> more = boot.extend(300)
    >>> more.n, bool((more.estimates[:200] == boot.estimates).all(axis=None))
    (500, True)
    """

    estimates: pd.DataFrame
    observed: pd.Series
    n: int
    failures: pd.Series
    n_singular: int
    plan: Plan

    @property
    def seed(self) -> int:
        """With which the same replicates are drawn again."""
        return self.plan.entropy

    @property
    def kind(self) -> str:
        """What was drawn: responses of the fitted model, or whole groups."""
        return self.plan.kind

    @property
    def failed(self) -> int:
        """Replicates that did not converge, whose data can have no fit, or whose statistic raised."""
        return int(self.failures.sum())

    @property
    def undefined(self) -> pd.Series:
        """Replicates in which an element has no value, as a correlation where a variance is zero."""
        return self.estimates.isna().sum()

    @property
    def bse(self) -> pd.Series:
        """Standard deviation of the replicates."""
        return self.estimates.std(ddof=1)

    @property
    def bias(self) -> pd.Series:
        """Mean of the replicates minus the statistic of the data."""
        return self.estimates.mean() - self.observed

    # -- intervals --------------------------------------------------------------------

    def conf_int(self, alpha: float = 0.05, method: str = "percentile") -> pd.DataFrame:
        """Confidence intervals at level 1 - alpha.

        Parameters
        ----------
        alpha : float
        method : {"percentile", "basic", "normal", "bca"}
            Quantiles of the replicates; these reflected in the estimate; estimate minus bias +- z
            times `bse`; quantiles corrected for bias and acceleration.

        Returns
        -------
        DataFrame
            ``lower, upper``. Replicates in which an element has no value (`undefined`) are no part
            of its interval.

        Raises
        ------
        ValueError
            For another method or alpha; where no replicate succeeded; "bca" where factors are
            crossed, so that there are no groups to leave out, or where a fit without one fails.

        Notes
        -----
        Davison and Hinkley (1997), sections 5.2 and 5.3. "bca" takes its acceleration from the
        jackknife: the statistic without each group of the top level (`acceleration`).

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> boot = res.bootstrap(200, seed=1)
        >>> print(boot.conf_int().loc[["Intercept", "Days"]].round(1))
                   lower  upper
        Intercept  237.4  262.9
        Days         7.5   13.7
        """
        alpha = check_alpha(alpha)
        if not isinstance(method, str) or method not in _METHODS:
            names = ", ".join(map(repr, _METHODS))
            raise ValueError(f"method={method!r} is not known. Choose one of {names}.")
        if len(self.estimates) == 0:
            raise ValueError(f"None of the {self.n} replicates succeeded: {'; '.join(self.failures.index)}.")
        if self.observed.empty:  # "params" of a model without fixed effects
            return pd.DataFrame(np.empty((0, 2)), index=self.observed.index, columns=["lower", "upper"])
        out = _METHODS[method](self, alpha)
        out.columns = ["lower", "upper"]
        return out

    def interval_error(self, alpha: float = 0.05) -> pd.DataFrame:
        """Monte-Carlo standard errors of the ends of percentile (and basic) intervals.

        From the order statistics around each quantile: a share p of n replicates has the standard
        error sqrt(p (1 - p) / n).

        Parameters
        ----------
        alpha : float
            Intervals cover ``1 - alpha``.

        Returns
        -------
        DataFrame
            ``lower, upper``. NaN where there are too few replicates for their tails.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> boot = res.bootstrap(200, seed=1)
        >>> print(boot.interval_error().loc[["Days"]].round(1))
              lower  upper
        Days    0.1    0.4
        """
        alpha = check_alpha(alpha)
        n = self.estimates.count().to_numpy()
        out = {}
        for name, p in (("lower", alpha / 2), ("upper", 1 - alpha / 2)):
            half = np.sqrt(p * (1 - p) / np.maximum(n, 1))
            column = []
            for label, width in zip(range(len(n)), half, strict=True):
                values = self.estimates.iloc[:, label].dropna().to_numpy()
                inside = p - width > 0 and p + width < 1 and len(values) > 1
                ends = np.quantile(values, [p - width, p + width]) if inside else [np.nan, np.nan]
                column.append(0.5 * (ends[1] - ends[0]))
            out[name] = column
        return pd.DataFrame(out, index=self.estimates.columns)

    @cached_property
    def acceleration(self) -> pd.Series:
        """Acceleration of BCa intervals, from the statistic without each group of the top level.

        Returns
        -------
        Series

        Raises
        ------
        ValueError
            Where factors are crossed, or a fit without a group fails.
        """
        what = "method='bca'"
        clusters = top_level(self.plan.result.model, what)
        plan = replace(self.plan, kind="jackknife", clusters=clusters)
        found = compute(plan, 0, clusters.size, None, False, None)
        bad = [(g, reason) for g, reason in enumerate(found.reasons) if reason]
        if bad:
            raise ValueError(
                f"{what} needs the fit without each group of {clusters.name!r}, and {len(bad)} of {clusters.size} "
                f"such fits failed, first that without group number {bad[0][0]}: {bad[0][1]}. Use another method."
            )
        gap = found.values.mean(axis=0) - found.values
        with np.errstate(invalid="ignore", divide="ignore"):
            value = (gap**3).sum(axis=0) / (6.0 * (gap**2).sum(axis=0) ** 1.5)
        return pd.Series(value, index=self.observed.index)

    def pvalue(self, name: Any, null: float = 0.0) -> float:
        """Two-sided p-value of an element: the smallest alpha whose percentile interval leaves `null` out.

        Parameters
        ----------
        name : label
            One of `observed`.
        null : float

        Returns
        -------
        float
            Never below 2 / (n + 1), with n the replicates that have a value.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> res.bootstrap(199, seed=1).pvalue("Days")
        0.01
        """
        if name not in self.observed.index:
            raise ValueError(f"{name!r} is no element of the statistic: {', '.join(map(str, self.observed.index))}.")
        values = self.estimates[name].dropna().to_numpy()
        tail = min((values <= null).sum(), (values >= null).sum())
        return float(min(1.0, 2.0 * (1 + tail) / (1 + len(values))))

    # -- more replicates --------------------------------------------------------------

    def extend(
        self, n_more: int, n_jobs: int | None = None, disp: bool | None = None, batch: int | None = None
    ) -> BootstrapResults:
        """More replicates, the same as if they had been asked for at once.

        Parameters
        ----------
        n_more : int
        n_jobs, disp, batch
            As in `bootstrap`.

        Returns
        -------
        BootstrapResults
            A new one; this one stays as it is.

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> boot = res.bootstrap(100, seed=1)
        >>> print(boot.extend(100))
        <BootstrapResults: parametric, 200 replicates, 0 failed, 3 at the boundary, seed 1>
        """
        n_more = check_count("n_more", n_more, "the number of replicates to add")
        return _extended(self, n_more, *_check_computing(n_jobs, disp, batch))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a file, with the fit, so that `extend` goes on where it was.

        Parameters
        ----------
        path : str or path-like

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> import os, tempfile
        >>> from sm_multilevel.postestimation.resampling.bootstrap import BootstrapResults
        >>> boot = res.bootstrap(100, seed=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     boot.save(os.path.join(folder, "boot.pkl"))
        ...     print(BootstrapResults.load(os.path.join(folder, "boot.pkl")))
        <BootstrapResults: parametric, 100 replicates, 0 failed, 1 at the boundary, seed 1>
        """
        with open(path, "wb") as file:
            CloudPickler(file).dump(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BootstrapResults:
        """Read what `save` has written. Only open files that you trust: they are pickles.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        BootstrapResults

        Examples
        --------
        >>> import sm_multilevel.formula.api as smf
        >>> from sm_multilevel.datasets import sleepstudy
        >>> df = sleepstudy.load_pandas().data
        >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
        >>> import os, tempfile
        >>> from sm_multilevel.postestimation.resampling.bootstrap import BootstrapResults
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     res.bootstrap(100, seed=1).save(os.path.join(folder, "boot.pkl"))
        ...     print(BootstrapResults.load(os.path.join(folder, "boot.pkl")))
        <BootstrapResults: parametric, 100 replicates, 0 failed, 1 at the boundary, seed 1>
        """
        with open(path, "rb") as file:
            out = pickle.load(file)
        if not isinstance(out, cls):
            raise ValueError(f"{str(path)!r} holds a {type(out).__name__}, not the replicates of a bootstrap.")
        return out

    def __repr__(self):
        return (
            f"<BootstrapResults: {self.kind}, {self.n} replicates, {self.failed} failed, {self.n_singular} at the "
            f"boundary, seed {self.seed}{self._told_undefined()}>"
        )

    def _told_undefined(self) -> str:
        lost = [f"{name} {count}" for name, count in self.undefined.items() if count]
        return f", undefined: {', '.join(lost[:5])}{', ...' if len(lost) > 5 else ''}" if lost else ""


def bootstrap(
    result, n=1000, seed=None, n_jobs=None, statistic=None, kind="parametric", disp=None, batch=None
) -> BootstrapResults:
    """Bootstrap of a fit; see `MultilevelResults.bootstrap`."""
    n = check_count("n", n, "the number of replicates")
    computing = _check_computing(n_jobs, disp, batch)
    entropy = _check_seed(seed)
    statistic = check_statistic(statistic)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"kind={kind!r} is not known. Choose one of {', '.join(map(repr, _KINDS))}.")
    result.model.require_data("bootstrap()")
    clusters = None
    if kind == "cluster":
        clusters = top_level(result.model, "kind='cluster'")
    elif result.model.freq_weights is not None:
        raise ValueError(
            "bootstrap() draws one response a row, and freq_weights make a row stand for several. "
            "Repeat the rows instead, or draw whole groups by kind='cluster'."
        )
    wrapped = result._wrapper(getattr(result, "_results", result))
    observed = of_data(statistic, wrapped)
    plan = Plan(wrapped, kind, statistic, observed.index, entropy, clusters)
    nothing = pd.DataFrame(np.empty((0, len(observed))), columns=observed.index, index=pd.RangeIndex(0))
    empty = BootstrapResults(nothing, observed, 0, pd.Series(dtype=int, name="replicates"), 0, plan)
    return _extended(empty, n, *computing)


def _extended(boot, n_more, n_jobs, disp, batch) -> BootstrapResults:
    boot.plan.result.model.require_data("bootstrap()")
    found = compute(boot.plan, boot.n, boot.n + n_more, n_jobs, disp, batch)
    good = np.array([not reason for reason in found.reasons], dtype=bool)
    numbers = boot.n + np.flatnonzero(good)
    new = pd.DataFrame(found.values[good], columns=boot.observed.index, index=numbers)
    counts = boot.failures.to_dict()
    for reason in found.reasons:
        if reason:
            counts[_in_short(reason)] = counts.get(_in_short(reason), 0) + 1
    out = BootstrapResults(
        new if boot.n == 0 else pd.concat([boot.estimates, new]), boot.observed, boot.n + n_more,
        pd.Series(counts, dtype=int, name="replicates"), boot.n_singular + int(found.singular[good].sum()), boot.plan,
    )  # fmt: skip
    if out.failed > _MANY * out.n:
        listed = "; ".join(f"{reason} ({count})" for reason, count in out.failures.items())
        warnings.warn(
            f"{out.failed} of {out.n} replicates failed: {listed}. The others are not a sample of all that could "
            "have been observed: intervals from them may be too short.",
            ConvergenceWarning,
            stacklevel=users_level(),
        )
    undefined = out.undefined[(out.undefined > _MANY * len(out.estimates)).to_numpy()]
    if callable(boot.plan.statistic) and len(undefined):
        listed = "; ".join(f"{name} ({count})" for name, count in undefined.items())
        warnings.warn(
            f"The statistic is undefined (NaN) in more than {_MANY:.0%} of the {len(out.estimates)} replicates that "
            f"succeeded: {listed}. These are no part of its standard errors and intervals, which may be too short.",
            ConvergenceWarning,
            stacklevel=users_level(),
        )
    return out


def _in_short(reason: str) -> str:
    """A reason without its numbers, so that equal ones can be counted."""
    if reason.startswith("the statistic"):
        return reason
    return re.split(r" \(|: |\. |: about", reason)[0].rstrip(".")


def _check_computing(n_jobs, disp, batch):
    whole = isinstance(n_jobs, (int, np.integer)) and not isinstance(n_jobs, bool)
    if n_jobs is not None and not (whole and n_jobs != 0):
        raise ValueError(
            f"n_jobs={n_jobs!r}: give the number of processes, -1 for one a core, or None for what joblib's "
            "parallel_backend says (one without it)."
        )
    return n_jobs, check_disp(disp), None if batch is None else check_count("batch", batch, "the replicates of a task")


def _check_seed(seed) -> int:
    if seed is None:
        return int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool) and seed >= 0:
        return int(seed)
    raise ValueError(f"seed={seed!r}: give a whole number from 0, or None for one from the system.")


# -- intervals ------------------------------------------------------------------------------------


def _percentile(boot, alpha):
    return boot.estimates.quantile([alpha / 2, 1 - alpha / 2]).T


def _basic(boot, alpha):
    ends = _percentile(boot, alpha).to_numpy()
    return pd.DataFrame(2.0 * boot.observed.to_numpy()[:, None] - ends[:, ::-1], index=boot.observed.index)


def _normal(boot, alpha):
    half = stats.norm.ppf(1 - alpha / 2) * boot.bse
    centre = boot.observed - boot.bias
    return pd.DataFrame({"lower": centre - half, "upper": centre + half})


def _bca(boot, alpha):
    """Quantiles at Phi(z0 + (z0 + z) / (1 - a (z0 + z))) (Efron 1987, equation 2.3); ties count half."""
    values, observed = boot.estimates.to_numpy(), boot.observed.to_numpy()
    a = boot.acceleration.to_numpy()
    out = np.full((len(observed), 2), np.nan)
    z = stats.norm.ppf([alpha / 2, 1 - alpha / 2])
    lost = []
    for j, name in enumerate(boot.observed.index):
        column = values[:, j][np.isfinite(values[:, j])]
        below = np.mean((column < observed[j]) + 0.5 * (column == observed[j])) if column.size else np.nan
        if not (0 < below < 1 and np.isfinite(a[j]) and np.isfinite(observed[j])):
            lost.append(str(name))
            continue
        z0 = stats.norm.ppf(below)
        out[j] = np.quantile(column, stats.norm.cdf(z0 + (z0 + z) / (1 - a[j] * (z0 + z))))
    if lost:
        warnings.warn(
            f"BCa intervals of {', '.join(lost)} do not exist: all replicates are on one side of the estimate, or it "
            f"does not vary. {_TAIL}",
            ConvergenceWarning,
            stacklevel=users_level(),
        )
    return pd.DataFrame(out, index=boot.observed.index)


_METHODS = {"percentile": _percentile, "basic": _basic, "normal": _normal, "bca": _bca}


def boot_interval(result, alpha, n=1000, seed=None, n_jobs=None, kind="parametric", interval="percentile", disp=None):
    """Bootstrap intervals of `params`; see `MultilevelResults.conf_int`."""
    boot = bootstrap(result, n=n, seed=seed, n_jobs=n_jobs, statistic="params", kind=kind, disp=disp)
    return boot.conf_int(alpha, method=interval).to_numpy()
