"""Tables of likelihood ratio tests: of a sequence of models, and of each random term of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sm_multilevel._compat import one_blas_thread
from sm_multilevel.checks import REFIT, check_flag
from sm_multilevel.postestimation.comparison.boundary import NoNullError
from sm_multilevel.postestimation.comparison.compare import check_options, compare_fits, inner_result, likelihood_ratio
from sm_multilevel.postestimation.comparison.nesting import (
    NestingError,
    check_comparable,
    check_same_rows,
    nest,
    outside,
)
from sm_multilevel.postestimation.comparison.outside import regression_of
from sm_multilevel.postestimation.comparison.regression import Regression, regression
from sm_multilevel.random_effects import constant_column

__all__ = ["anova", "ranova"]


def anova(*models: Any, refit: bool = True, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Likelihood ratio tests of a sequence of models, each against the one before.

    Parameters
    ----------
    *models : result
        Two or more fits of the same rows and response, among them at most one of statsmodels' regressions.
    refit : bool
        Fit models that were fitted by REML again by ML, as lme4's ``anova`` does. With False they are compared as
        they are, which needs the same fixed effects.
    names : list of str, optional
        Of the rows; default the formulas, or ``m1, m2, ...``.

    Returns
    -------
    DataFrame
        By number of parameters: ``npar, AIC, BIC, logLik, deviance, Chisq, Df, Pr(>Chisq), p_value``.
        ``Pr(>Chisq)`` is from chi2(Df), as lme4 gives it: too large where variances are tested. ``p_value`` takes
        account of the boundary, as `lrtest` does; it is NaN where the smaller fit is singular. Both are NaN where the
        smaller model is no special case of the larger one. ``attrs["note"]`` says whether models were refitted.

    Raises
    ------
    ValueError
        If the likelihoods cannot be compared; see `lrtest`.

    Examples
    --------
    >>> import sm_multilevel.api as smm
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> fits = [smf.mixedlm(f"Reaction ~ Days + ({x} | Subject)", df).fit() for x in ("1", "Days")]
    >>> table = smm.anova(*fits, names=["intercepts", "slopes"])
    >>> table[["npar", "deviance", "Chisq", "Df"]].round(2)
                npar  deviance  Chisq   Df
    intercepts     4   1794.08    NaN  NaN
    slopes         6   1751.94  42.14  2.0
    """
    refit = check_flag("refit", refit)
    if len(models) < 2:
        raise ValueError(
            "anova() compares two or more fitted models. For the terms of one there are wald_test_terms() and ranova()."
        )
    labels = _names(models, names)
    fits = [inner_result(m, f"model {k + 1}") for k, m in enumerate(models)]
    mixed = [f for f in fits if not isinstance(f, tuple)]
    if len(fits) - len(mixed) > 1 or not mixed:
        raise ValueError(
            "anova() takes one regression of statsmodels beside models with random effects. Leave the others out."
        )
    note = ""
    with one_blas_thread():
        for fit in mixed:
            fit.model.require_data("anova()")
            check_same_rows(mixed[0].model, fit.model)
        if refit and any(_is_reml(fit) for fit in mixed):
            fits = [_by_ml(fit) if not isinstance(fit, tuple) and _is_reml(fit) else fit for fit in fits]
            note = "Models fitted by REML were fitted again by ML."
            mixed = [f for f in fits if not isinstance(f, tuple)]
        for fit in mixed[1:]:
            check_comparable(mixed[0], fit)
        sources = fits
        fits = [_in_any(f[0], mixed) if isinstance(f, tuple) else f for f in fits]
        order = sorted(range(len(fits)), key=lambda k: fits[k].k_params)
        rows = []
        for place, k in enumerate(order):
            test = [np.nan] * 4
            if place:
                before = order[place - 1]
                test = _step(fits[before], fits[k], sources[before])
            nobs = mixed[0].nobs
            dev, npar = -2.0 * float(fits[k].llf), fits[k].k_params
            rows.append([npar, dev + 2 * npar, dev + np.log(nobs) * npar, -0.5 * dev, dev, *test])
    columns = ["npar", "AIC", "BIC", "logLik", "deviance", "Chisq", "Df", "Pr(>Chisq)", "p_value"]
    table = pd.DataFrame(rows, columns=columns, index=[labels[k] for k in order])
    table.attrs["note"] = note
    return table


def _names(models, names) -> list[str]:
    if names is not None:
        names = [names] if isinstance(names, str) else list(names)
        if len(names) != len(models):
            raise ValueError(f"names= has {len(names)} names for {len(models)} models. Give one for each.")
        return [str(name) for name in names]
    sources = [getattr(m, "model", None) for m in models]
    formulas = [getattr(source, "full_formula", getattr(source, "formula", None)) for source in sources]
    if all(isinstance(f, str) for f in formulas) and len(set(formulas)) == len(formulas):
        return [" ".join(str(f).split()) for f in formulas]
    return [f"m{k + 1}" for k in range(len(models))]


def _is_reml(fit) -> bool:
    return fit.family is None and fit.reml


def _options(fit) -> dict:
    """Options of another fit: degrees of freedom are no part of its likelihood."""
    return {name: value for name, value in fit.fit_options().items() if name not in ("df", "use_t")}


def _by_ml(fit):
    fitted = fit.model.fit(**{**_options(fit), "reml": False})
    return getattr(fitted, "_results", fitted)


def _in_any(fit, mixed) -> Regression:
    """A statsmodels regression in the likelihood of the smallest of some models that contains it."""
    for full in sorted(mixed, key=lambda m: m.k_params):
        try:
            return regression_of(fit, full)
        except ValueError as error:
            reason = error
    raise reason


def _step(smaller, larger, source) -> list[float]:
    """Chisq, Df and both p-values; `source` is the smaller fit as it was given."""
    try:
        if isinstance(larger, Regression):
            raise NestingError(
                "A regression without random effects contains no model with them. Put the regression first."
            )
        if isinstance(smaller, Regression) and smaller.model is not larger.model:
            smaller = regression_of(source[0], larger)
        df = nest(smaller, larger).df
    except ValueError:  # not nested, or a regression of another likelihood
        return [max(0.0, 2.0 * float(larger.llf - smaller.llf)), larger.k_params - smaller.k_params, np.nan, np.nan]
    if df == 0:
        return [0.0, 0, np.nan, np.nan]
    chi2 = likelihood_ratio(smaller, larger)
    return [chi2, df, float(stats.chi2.sf(chi2, df)), _corrected(smaller, larger)]


def _corrected(smaller, larger, **options) -> float:
    """The p-value of `lrtest`, NaN where there is none."""
    if not all(isinstance(fit, Regression) or fit.converged for fit in (smaller, larger)):
        return np.nan
    try:
        return compare_fits(smaller, larger, **options).p_value
    except NoNullError:
        return np.nan


# -- random terms --------------------------------------------------------------------------------------


def ranova(result, reduce_terms=True, method="asymptotic", n=None, seed=None, n_jobs=1) -> pd.DataFrame:
    """A likelihood ratio test of each random term; see `MultilevelResults.ranova`."""
    reduce_terms = check_flag("reduce_terms", reduce_terms)
    check_options(method, n, n_jobs)
    result.model.require_data("ranova()")
    if not result.converged:
        raise ValueError(
            f"The fit did not converge ({result.record.reason}), so that its terms cannot be tested. {REFIT}"
        )
    rows: list[list[Any]] = [[result.k_params, result.llf, -2.0 * result.llf + 2 * result.k_params, *[np.nan] * 4]]
    labels = ["<none>"]
    options = {"method": method, "n": n, "seed": seed, "n_jobs": n_jobs}
    with one_blas_thread():
        for label, terms in _reductions(result, reduce_terms):
            smaller = _without(result, terms)
            npar, llf = smaller.k_params, float(smaller.llf)
            chi2, df = 2.0 * (float(result.llf) - llf), result.k_params - npar
            p = [np.nan, np.nan]
            if isinstance(smaller, Regression) or smaller.converged:
                chi2 = likelihood_ratio(smaller, result)
                p = [float(stats.chi2.sf(chi2, df)), _corrected(smaller, result, **options)]
            rows.append([npar, llf, -2.0 * llf + 2 * npar, chi2, df, *p])
            labels.append(label)
    columns = ["npar", "logLik", "AIC", "LRT", "Df", "Pr(>Chisq)", "p_value"]
    return pd.DataFrame(rows, columns=columns, index=labels)


def _without(result, terms):
    """The fit with other random terms; the rows, the response and all options are the same."""
    model = result.model
    if not terms:
        return regression(result, reml=_is_reml(result))
    fitted = model.on_design(replace(model.design, terms=tuple(terms))).fit(**_options(result))
    return getattr(fitted, "_results", fitted)


def _reductions(result, reduce_terms):
    """Label of each row, and the random terms that are left."""
    model = result.model
    formulas = _term_formulas(model)
    for i, term in enumerate(model.random):
        text = f"({_right_hand_side(term, formulas[i])} | {term.name or term.group})"
        others = [*model.random[:i], *model.random[i + 1 :]]
        parts = _droppable(term, formulas[i]) if reduce_terms else []
        if not parts:
            single = term.q == 1 and constant_column(term.exog) is None
            yield (f"{term.columns[0]} in {text}" if single and reduce_terms else text), others
        for name, columns in parts:
            kept = [j for j in range(term.q) if j not in columns]
            left = replace(term, exog=term.exog[:, kept], columns=tuple(term.columns[j] for j in kept))
            if _codes_constant(term, formulas[i], columns, kept):
                one = np.ones((len(term.exog), 1))
                left = replace(left, exog=np.hstack([one, left.exog]), columns=("Intercept", *left.columns))
            yield f"{name} in {text}", [*model.random[:i], left, *model.random[i + 1 :]]


def _term_formulas(model) -> list:
    """The patsy formula of each random term, None where columns were split or given as arrays."""
    formulas: list = []
    if model.recipe is not None:
        for recipe, matrix in model.recipe.random:
            whole = not recipe.split and not recipe.is_component
            formulas += [matrix if whole else None] * (len(matrix.columns) if recipe.split else 1)
    return formulas if len(formulas) == len(model.random) else [None] * len(model.random)


def _right_hand_side(term, formula) -> str:
    """What stands left of the bar, as lme4 writes it."""
    one = constant_column(term.exog)
    names = [c for j, c in enumerate(term.columns) if j != one]
    if formula is not None:
        names = [name for name in formula.info.term_names if name != "Intercept"]
    if one is None:
        return " + ".join(["0", *names])
    return " + ".join(names) if names else "1"


def _droppable(term, formula) -> list[tuple[str, list[int]]]:
    """Parts of a term that can be left out of it: (name, columns).

    Of ``0 + factor`` what is left is the intercept, which lies in the factor's columns.
    """
    if term.q == 1 or term.covariance.maps == "common":  # one variance for all columns
        return []
    one = constant_column(term.exog)
    if formula is None:
        return [(name, [j]) for j, name in enumerate(term.columns) if j != one]
    parts = [
        (name, list(range(term.q))[columns])
        for name, columns in formula.info.term_name_slices.items()
        if name != "Intercept"
    ]
    if one is None and len(parts) == 1 and not _codes_constant(term, formula, parts[0][1], []):
        return []
    return parts


def _codes_constant(term, formula, columns, kept) -> bool:
    """Whether a term without an intercept has it in the columns that it loses, and keeps it.

    It does where nothing else is left, or where another factor has a column less because of it.
    """
    if formula is None or term.covariance.maps != "linear" or constant_column(term.exog) is not None:
        return False
    one = np.ones((len(term.exog), 1))
    if outside(term.exog[:, columns], one) or not outside(term.exog[:, kept], one):
        return False
    info = formula.info
    factors = [
        range(term.q)[slices]
        for part, slices in info.term_slices.items()
        if part.factors and all(info.factor_infos[f].type == "categorical" for f in part.factors)
    ]
    return not kept or any(set(places) <= set(kept) for places in factors)
