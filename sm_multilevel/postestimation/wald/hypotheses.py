"""Wald tests of terms and of constraints written as a dict."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from patsy import DesignInfo, PatsyError
from statsmodels.stats.contrast import MultiCompResult, WaldTestResults
from statsmodels.stats.multitest import multipletests
from statsmodels.tools.sm_exceptions import ValueWarning

from sm_multilevel.checks import users_level
from sm_multilevel.postestimation.wald.joint import FACTORED, GIVEN, NoWaldTest, independent, standard_root, whitened
from sm_multilevel.wording import suggest

__all__ = [
    "check_hypothesis",
    "check_testable",
    "constraints",
    "constraints_from_dict",
    "contrast_covariance",
    "independent_constraints",
    "lost_parameters",
    "too_many",
]
__all__ += ["term_columns", "touches", "wald_test_terms", "whitened_hypothesis", "zero_tests"]


def term_columns(model) -> dict[str, list[int]]:
    """Positions in params of the columns of each term of the fixed part."""
    names = list(model.data.xnames)
    if model.recipe is None:
        return {name: [j] for j, name in enumerate(names)}
    info = model.recipe.fixed.info
    full = list(info.column_names)
    out = {}
    for term, part in info.term_name_slices.items():
        columns = [names.index(c) for c in full[part] if c in names]
        if columns:
            out[term] = columns
    return out


def constraints_from_dict(model, hypothesis: Mapping):
    """(R, q) of ``{"x": 0, "gender": 0}``, whose keys are coefficients or whole terms.

    Raises
    ------
    ValueError
        If a key is neither a coefficient nor a term.
    """
    names = list(model.data.param_names)
    terms = term_columns(model)
    rows, values = [], []
    for key, value in hypothesis.items():
        if key in names:
            columns = [names.index(key)]
        elif key in terms:
            columns = terms[key]
        else:
            columns = [j for term, part in terms.items() if _column_of(term) == key for j in part]
        if not columns:
            known = list(dict.fromkeys([*names, *terms]))
            raise ValueError(
                f"{key!r} is neither a coefficient nor a term of the model.{suggest(key, known)} "
                f"There are {', '.join(map(repr, known))}."
            )
        if not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
            raise ValueError(f"The hypothesis {{{key!r}: {value!r}}} must give a number, as {{{key!r}: 0}}.")
        for j in columns:
            rows.append(np.eye(len(names))[j])
            values.append(float(value))
    if not rows:
        raise ValueError("The hypothesis is empty; give at least one coefficient or term.")
    return np.array(rows), np.array(values)


def _column_of(term: str) -> str | None:
    """The column that ``C(x, Sum)``, ``Q("x")`` or ``C(Q("x"))`` codes."""
    try:
        node = ast.parse(term, mode="eval").body
    except SyntaxError:
        return None
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in "CQ" and node.args:
        node = node.args[0]
    return node.id if isinstance(node, ast.Name) else getattr(node, "value", None)


def check_hypothesis(model, hypothesis) -> None:
    """Raise, with the coefficients' names, for what is no hypothesis about them."""
    names = list(model.data.cov_names)
    known = f"The coefficients are {', '.join(map(repr, names))}."
    if isinstance(hypothesis, str):
        try:
            DesignInfo(names).linear_constraint(hypothesis)
        except PatsyError as error:
            raise ValueError(
                f"The hypothesis {hypothesis!r} cannot be read ({str(error).splitlines()[0]}). {known} Write for "
                f"example '{names[-1]} = 0'."
            ) from None
    elif not isinstance(hypothesis, (tuple, list, Mapping)) and np.shape(hypothesis)[-1:] != (len(names),):
        raise ValueError(
            f"The hypothesis has the shape {np.shape(hypothesis)}; it needs a column for each coefficient. {known}"
        )


def constraints(model, hypothesis):
    """(R, q) of any form of a hypothesis."""
    form = DesignInfo(list(model.data.cov_names)).linear_constraint(hypothesis)
    return np.asarray(form.coefs, dtype=float), np.asarray(form.constants, dtype=float).ravel()


def independent_constraints(result, hypothesis, cov=None):
    """(R, q) without constraints that follow from others; see `joint.independent`."""
    cov = np.asarray(result.cov_params() if cov is None else cov, dtype=float)
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.diag(cov))
    rows, values = constraints(result.model, hypothesis)
    return independent(rows, values, errors)


def whitened_hypothesis(result, hypothesis, cov=None):
    """Independent constraints as they were written, and (R, q) of the same whose estimates have the covariance I.

    Parameters
    ----------
    result : MultilevelResults
    hypothesis : str, array_like or tuple
    cov : ndarray, optional
        Covariance of the parameters; default the result's.
    """
    rows, values = independent_constraints(result, hypothesis, cov)
    standard = standard_root(result) if cov is None else None
    limit = GIVEN if cov is None else FACTORED
    cov = np.nan_to_num(np.asarray(result.cov_params() if cov is None else cov, dtype=float))
    change = whitened(rows, cov, limit, standard)
    return rows, (change @ rows, change @ values)


def lost_parameters(cov) -> np.ndarray:
    """Which parameters have no standard error: at their boundary, or infinite."""
    return np.isnan(np.diag(cov))


def touches(columns, matrix) -> np.ndarray:
    """Which rows of the matrix have anything in some columns (a mask)."""
    return (np.asarray(matrix)[..., columns] != 0).any(axis=-1)


def contrast_covariance(cov, left, right=None) -> np.ndarray:
    """L cov R', R = L by default, NaN only where a row has a parameter without a standard error."""
    left = np.asarray(left, dtype=float)
    right = left if right is None else np.asarray(right, dtype=float)
    lost = lost_parameters(cov)
    out = np.array(left @ np.nan_to_num(cov) @ right.T)
    rows, columns = touches(lost, left), touches(lost, right)
    if left.ndim > 1:
        rows = rows[:, None] if right.ndim > 1 else rows
    return np.where(rows | columns, np.nan, out)


def zero_tests(result, hypothesis) -> np.ndarray:
    """Which rows of a hypothesis say that a parameter that is never negative is zero (or less).

    The Wald test does not hold at the boundary of what a parameter can be.
    """
    matrix, values = constraints(result.model, hypothesis)
    alone = (matrix != 0).sum(axis=1) == 1
    out = np.zeros(len(matrix), dtype=bool)
    for k in np.flatnonzero(alone):
        j = int(np.flatnonzero(matrix[k])[0])
        out[k] = result.positive[j] and values[k] / matrix[k, j] <= 0
    return out


def check_testable(result, hypothesis, cov=None) -> None:
    """Raise, naming the parameter, where a hypothesis has no Wald test.

    Parameters
    ----------
    result : MultilevelResults
    hypothesis : str, array_like or tuple
    cov : ndarray, optional
        Covariance of the parameters; without it only the hypothesis itself is looked at.
    """
    names = list(result.model.data.param_names)
    matrix, _ = constraints(result.model, hypothesis)
    zero = zero_tests(result, hypothesis)
    if zero.any():
        name = names[int(np.flatnonzero(matrix[zero][0])[0])]
        limit = result.family.zero_limit
        raise ValueError(
            f"A Wald test of {name} = 0 has no meaning: zero is the boundary of what {name} can be, and the test does "
            f"not hold there. Compare the log-likelihood (llf) with that of a model without {name}"
            + (f", {limit}." if limit else ".")
        )
    if cov is None:
        return
    if too_many(result, matrix):
        raise ValueError(
            f"The hypothesis has {len(matrix)} constraints, and a robust covariance from {result.cov_kwds['n_groups']} "
            "clusters has a rank below that number: there is no Wald test of so many at once. Test fewer."
        )
    lost = lost_parameters(np.asarray(cov)) & (matrix != 0).any(axis=0)
    if lost.any():
        j = int(np.flatnonzero(lost)[0])
        raise ValueError(
            f"The hypothesis has {names[j]!r} in it, which has no standard error ({_reason(result, j, names[j])}), so "
            "that there is no Wald test of it."
        )


def too_many(result, matrix) -> bool:
    """Whether a cluster-robust covariance, of rank m - 1 from m clusters, is singular for these constraints."""
    clusters = result.cov_kwds.get("n_groups")
    if clusters is None:
        return False
    rows = np.atleast_2d(matrix)
    return len(independent(rows, np.zeros(len(rows)), np.asarray(result.bse))[0]) >= clusters


def _reason(result, j, name) -> str:
    if name in getattr(result, "separated", ()):
        return "its estimate is infinite, since the data are separated"
    if result.positive[j] and abs(float(np.asarray(result.params)[j])) < 1e-6:
        return "its estimate is at its boundary, zero"
    return "the information matrix does not give one"


def wald_test_terms(result, skip_single=False, extra_constraints=None, combine_terms=None, scalar=True):
    """A joint Wald test of every term, as statsmodels' method of this name."""
    eye = np.eye(len(result.params))
    terms = term_columns(result.model)
    constraints = [(name, eye[columns]) for name, columns in terms.items() if not (skip_single and len(columns) == 1)]
    for wanted in combine_terms or []:
        columns = [j for name, cols in terms.items() if wanted in name for j in cols]
        if not columns:
            known = ", ".join(map(repr, terms))
            raise ValueError(f"combine_terms: no term's name has {wanted!r} in it. There are {known}.")
        constraints.append((wanted, eye[columns]))
    constraints += list(extra_constraints or [])
    rows, index = [], []
    lost = lost_parameters(np.asarray(result.cov_params()))
    for name, matrix in constraints:
        # The other terms have their tests.
        if isinstance(matrix, np.ndarray) and (touches(lost, matrix).any() or too_many(result, matrix)):
            rows.append([np.nan, np.nan, len(np.atleast_2d(matrix)), *([result.df_resid] if result.use_t else [])])
            index.append(name)
            continue
        try:
            test = result.wald_test(matrix, scalar=scalar)
        except NoWaldTest as error:
            warnings.warn(f"No test of {name}. {error}", RuntimeWarning, stacklevel=users_level())
            rows.append([np.nan, np.nan, len(np.atleast_2d(matrix)), *([result.df_resid] if result.use_t else [])])
            index.append(name)
            continue
        df = test.df_num if result.use_t else test.df_denom
        row = [test.statistic, test.pvalue, int(df)]
        rows.append([*row, test.df_denom] if result.use_t else row)
        index.append(name)
    header = ["statistic", "pvalue", "df_constraint"] + (["df_denom"] if result.use_t else [])
    table = pd.DataFrame(rows, index=index, columns=header)
    out = WaldTestResults(None, "F" if result.use_t else "chi2", None, table=table)
    out.temp = constraints
    return out


def _held(info, term) -> list[str]:
    """Where the differences of a factor hold that interacts with others: at their reference levels, or at zero."""
    held: set[str] = set()
    for other in info.terms:
        if not set(term.factors) < set(other.factors):
            continue
        for coding in info.term_codings[other]:
            for factor in set(coding.factors) - set(term.factors):
                contrast = coding.contrast_matrices.get(factor)
                if contrast is None:
                    if not factor.code.startswith(("center(", "scale(", "standardize(")):
                        held.add(f"{factor.code} = 0")
                elif np.abs(contrast.matrix.sum(axis=0)).max() > 1e-8:  # no mean over the levels
                    base = np.flatnonzero(~contrast.matrix.any(axis=1))
                    levels = info.factor_infos[factor].categories
                    held.add(f"{factor.code} = {levels[base[0]]!r}" if len(base) else f"one level of {factor.code}")
    return sorted(held)


def t_test_pairwise(result, term_name, method="hs", alpha=0.05, factor_labels=None):
    """Tests of all pairs of levels of a factor; see `MixedLMResults.t_test_pairwise`.

    Raises
    ------
    ValueError
        If the term is not a single factor with all its coefficients in the model.
    """
    terms = term_columns(result.model)
    recipe = result.model.recipe
    info = None if recipe is None else recipe.fixed.info
    names = {} if info is None else dict(zip(info.term_names, info.terms, strict=True))
    if info is None or term_name not in names:
        raise ValueError(
            f"{term_name!r} is no term of the formula.{suggest(term_name, names)} There are "
            f"{', '.join(map(repr, names))}."
        )
    term = names[term_name]
    coding = info.term_codings[term]
    factor = term.factors[0] if len(term.factors) == 1 else None
    if factor is None or not coding[0].contrast_matrices:
        raise ValueError(f"{term_name!r} is not a single factor, so it has no pairs of levels.")
    matrix = coding[0].contrast_matrices[factor].matrix
    if len(terms.get(term_name, ())) != matrix.shape[1]:
        raise ValueError(f"Coefficients of {term_name!r} were dropped, so its levels cannot be compared.")
    levels = info.factor_infos[factor].categories if factor_labels is None else factor_labels
    if len(levels) != matrix.shape[0]:
        raise ValueError(f"factor_labels has {len(levels)} labels; {term_name!r} has {matrix.shape[0]} levels.")
    if held := _held(info, term):
        warnings.warn(
            f"{term_name!r} is in interactions, so the differences of its levels depend on other predictors. These are "
            f"the differences at {', '.join(held)}. To average over levels as emmeans does, code the others as "
            "C(x, Sum), and numbers as center(x).",
            ValueWarning,
            stacklevel=users_level(),
        )
    pairs = list(combinations(range(len(levels)), 2))
    contrasts = np.zeros((len(pairs), len(result.params)))
    contrasts[:, terms[term_name]] = [matrix[b] - matrix[a] for a, b in pairs]
    labels = [f"{levels[b]}-{levels[a]}" for a, b in pairs]
    tests = result.t_test(contrasts)
    frame = tests.summary_frame(xname=labels)
    pvalues = np.atleast_1d(tests.pvalue)
    known = np.isfinite(pvalues)  # the others involve a coefficient without a standard error
    for each in method if isinstance(method, list) else [method]:
        corrected, reject = np.full(len(pvalues), np.nan), np.zeros(len(pvalues), dtype=bool)
        if known.any():
            reject[known], corrected[known] = multipletests(pvalues[known], method=each, alpha=alpha)[:2]
        frame[f"pvalue-{each}"], frame[f"reject-{each}"] = corrected, reject
    return MultiCompResult(
        result_frame=frame, contrasts=contrasts, term=term, contrast_labels=labels, term_encoding_matrix=matrix
    )
