"""The profile likelihood of a variance on a grid, as statsmodels' MixedLM gives it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from statsmodels.tools.sm_exceptions import ConvergenceWarning

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import check_count, users_level
from sm_multilevel.postestimation.profiling.profiled import profile_problem
from sm_multilevel.postestimation.profiling.targets import ComponentTarget

__all__ = ["profile_re"]


def profile_re(result: Any, re_ix, vtype: str, num_low=5, dist_low=1.0, num_high=5, dist_high=1.0) -> np.ndarray:
    """Log-likelihood, maximised over everything else, at values of one variance.

    Parameters
    ----------
    result : MixedLMResults
    re_ix, vtype, num_low, dist_low, num_high, dist_high
        As in `MixedLMResults.profile_re`.

    Returns
    -------
    ndarray, shape (num_low + 1 + num_high, 2)
        Values of the variance, ascending, and the log-likelihood; restricted after REML.
    """
    result.model.require_data("profile_re()")
    num_low, num_high = (
        check_count(name, value, "a number of points") for name, value in (("num_low", num_low), ("num_high", num_high))
    )
    for name, value in (("dist_low", dist_low), ("dist_high", dist_high)):
        if not (np.isreal(value) and np.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value!r} must be a positive distance from the estimate.")
    term, column = _which(result, re_ix, vtype)
    problem = profile_problem(result, restricted=result.reml)
    entry = problem.coordinates.components.find(term, column, column)
    target = ComponentTarget(problem.components[entry], problem.coordinates, entry)
    centre = target.at(problem.z)[0] ** 2
    if centre - dist_low <= 0:
        raise ValueError(
            f"dist_low={dist_low!r} is too large: the estimate is {centre:.6g}, and a variance below it by this is "
            "not positive. For intervals that start at zero use profile()."
        )
    below = np.linspace(centre, centre - dist_low, num_low + 1)[1:]
    above = np.linspace(centre, centre + dist_high, num_high + 1)[1:]
    best = problem.best(target)
    rows = [(centre, -0.5 * best.deviance)]
    with one_blas_thread():
        for values in (below, above):
            near = best
            for value in values:
                found = problem.solve(target, target.to_t(float(np.sqrt(value))), [near, best])
                rows.append((value, -0.5 * found.deviance if found.converged else np.nan))
                near = found if found.converged else near
    out = np.array(sorted(rows))
    if np.isnan(out).any():
        lost = ", ".join(f"{value:.6g}" for value, llf in out if np.isnan(llf))
        warnings.warn(
            f"No optimum was found with the variance at {lost}: the log-likelihood there is NaN.",
            ConvergenceWarning,
            stacklevel=users_level(),
        )
    return out


def _which(result, re_ix, vtype) -> tuple[int, int]:
    """The term and the column of a variance that is asked for in statsmodels' words."""
    terms = result.model.random
    if vtype == "re":
        own = [i for i, t in enumerate(terms) if not t.is_component]
        if len({terms[i].group for i in own}) > 1:
            raise ValueError("profile_re() is for models with one grouping factor; use profile().")
        places = [(i, j) for i in own for j in range(terms[i].q)]
        if isinstance(re_ix, (int, np.integer)) and not isinstance(re_ix, bool) and 0 <= re_ix < len(places):
            return places[re_ix]
        raise ValueError(
            f"re_ix={re_ix!r} is no column of the random effects; with vtype='re' it is a place in cov_re, "
            f"{'0' if len(places) == 1 else f'0 to {len(places) - 1}' if places else 'which has none'}."
        )
    if vtype == "vc":
        names = {t.name: i for i, t in enumerate(terms) if t.is_component}
        if re_ix in names:
            return names[re_ix], 0
        known = f"there are {', '.join(map(repr, names))}" if names else "the model has none"
        raise ValueError(f"re_ix={re_ix!r} is no variance component; {known}.")
    raise ValueError(f"vtype={vtype!r} is not known. Choose 're' or 'vc'.")
