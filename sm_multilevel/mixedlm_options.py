"""Options of statsmodels' MixedLM in this package's terms: masks of what is estimated, and starting values.

Objects of statsmodels are known by what they hold, so that nothing of it is imported for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sm_multilevel.covariance import Diagonal
from sm_multilevel.design.record import Design

__all__ = ["SEARCH_OPTIONS", "check_host_options", "free_pattern", "start_values"]

# Settings of statsmodels' optimisers. Here a fit ends where no search improves it, whatever they say.
_TOLERANCES = ("eps", "ftol", "gtol", "maxcor", "maxls", "tol")
SEARCH_OPTIONS = ("method", "maxiter", "disp", "do_cg", "full_output", "niter_sa", *_TOLERANCES)
_PENALTY = "penalised estimates are not available"


def check_host_options(given: dict) -> dict:
    """Take out what statsmodels' MixedLM.fit has and this fit does not need.

    Parameters
    ----------
    given : dict
        Further keywords of `fit`.

    Returns
    -------
    dict
        What is left of them.

    Raises
    ------
    ValueError
        For an option that asks for another estimate.
    """
    left = {name: value for name, value in given.items() if name not in _TOLERANCES}
    for name in ("fe_pen", "cov_pen"):
        if left.pop(name, None) is not None:
            raise ValueError(f"{name}=: {_PENALTY}. Leave it out.")
    if not left.pop("do_cg", True):
        raise ValueError(
            "do_cg=False: a result at starting values that were not fitted is not available. For the likelihood at any "
            "parameters use model.loglike()."
        )
    if left.pop("niter_sa", 0):
        raise ValueError(
            "niter_sa=: there is no simulated annealing, and statsmodels ignores the option. Leave it out."
        )
    return left


def free_pattern(design: Design, free: Any, start: Any = None) -> Design:
    """The design with the covariances at zero that statsmodels' mask `free` has as 0.

    Parameters
    ----------
    design : Design
    free : MixedLMParams
        Ones for what is estimated, in ``fe_params``, ``cov_re`` and ``vcomp``.
    start : object, optional
        Starting values, at which statsmodels holds what is not free.

    Returns
    -------
    Design
        The same one where all is free.

    Raises
    ------
    ValueError
        For a mask of another size, or one that holds anything but all covariances.
    """
    if not _is_params(free):
        raise ValueError("free= is statsmodels' mask: MixedLMParams.from_components(fe_params=..., cov_re=np.eye(k)).")
    at, term = _random_part(design, "free=")
    fixed, cov, vcomp = _masks(free)
    sizes = {
        "cov_re": (len(cov), 0 if term is None else term.q),
        "vcomp": (len(vcomp), sum(t.is_component for t in design.terms)),
    }
    for name, (has, needs) in sizes.items():
        if has != needs:
            raise ValueError(f"free= has {has} rows in {name}; the model has {needs}.")
    if not fixed.all():
        numbers = ", ".join(map(str, np.flatnonzero(~fixed)))
        raise ValueError(f"free= holds fixed effects (number {numbers}). Leave the columns out, or use offset=.")
    if not vcomp.all():
        raise ValueError("free= holds a variance component at its starting value. For zero leave it out.")
    if term is None:
        return design
    if not np.diag(cov).all():
        held = [name for name, one in zip(term.columns, np.diag(cov)) if not one]
        raise ValueError(f"free= holds the variance of {', '.join(held)}. For zero leave the column out.")
    off = ~np.eye(term.q, dtype=bool)
    if cov[off].all():
        return design
    if cov[off].any():
        raise ValueError(
            "free= holds some covariances of the random effects and estimates others. Write a term for each set of "
            "columns that vary together, as in (x | g) + (0 + z | g)."
        )
    if start is not None and _is_params(start) and np.any(np.asarray(start.cov_re, dtype=float)[off]):
        raise ValueError("free= would hold covariances where start_params= has them; they can be held at zero only.")
    if term.covariance.maps != "linear":
        raise ValueError(f"free= and covariance={term.covariance.name!r} both say how columns vary. Leave one out.")
    terms = tuple(replace(t, covariance=Diagonal()) if i == at else t for i, t in enumerate(design.terms))
    return replace(design, terms=terms)


def start_values(start: Any, terms) -> Any:
    """Starting values as theta, where they are statsmodels' MixedLMParams; others as they are.

    Parameters
    ----------
    start : object
    terms : sequence of RandomTerm

    Raises
    ------
    ValueError
        If they are of another size, or no covariance matrix.
    """
    if not _is_params(start):
        return start
    cov = np.atleast_2d(np.asarray(start.cov_re, dtype=float))
    vcomp = np.asarray(start.vcomp, dtype=float)
    columns = sum(t.q for t in terms if not t.is_component)
    names = sorted(t.name for t in terms if t.is_component)
    if columns and len(terms) - len(names) > 1:
        raise ValueError("start_params= of statsmodels' kind are of models with one random term. Give theta.")
    if cov.shape[0] * bool(cov.size) != columns or len(vcomp) != len(names):
        raise ValueError(
            f"start_params= has cov_re of shape {cov.shape} and {len(vcomp)} variance components; the model has "
            f"{columns} random columns and {len(names)} components."
        )
    if not (np.isfinite(cov).all() and np.isfinite(vcomp).all() and (vcomp >= 0).all()):
        raise ValueError("start_params= has variances that are negative or not finite.")
    if cov.size and np.linalg.eigvalsh(cov)[0] < -1e-8 * np.abs(cov).max():
        raise ValueError("start_params= has a cov_re that is no covariance matrix: it has a negative eigenvalue.")
    parts = [
        t.covariance.from_covariance(vcomp[names.index(t.name)] * np.eye(t.q) if t.is_component else cov) for t in terms
    ]
    return np.concatenate(parts)


def _is_params(value) -> bool:
    """Whether it is statsmodels' MixedLMParams; results have these attributes too, and theta."""
    return all(hasattr(value, name) for name in ("cov_re", "vcomp", "fe_params")) and not hasattr(value, "theta")


def _masks(free):
    cov = np.asarray(free.cov_re, dtype=float)
    parts = [np.asarray(free.fe_params, dtype=float), cov, np.asarray(free.vcomp, dtype=float)]
    for part in parts:
        if not np.isin(part, (0.0, 1.0)).all():
            raise ValueError("free= must hold ones (estimated) and zeros (held) only.")
    if not np.array_equal(cov, cov.T):
        raise ValueError("free= has a cov_re that is not symmetric.")
    return [part.astype(bool) for part in parts]


def _random_part(design, what):
    """Place and term of the random effects that are no components; (None, None) where all are."""
    found = [(i, t) for i, t in enumerate(design.terms) if not t.is_component]
    if len(found) > 1:
        raise ValueError(f"{what} is for models with one random term. Say it in the formula, as in (x || g).")
    return found[0] if found else (None, None)
