"""Wald tests of terms and of constraints written as a dict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from statsmodels.stats.contrast import WaldTestResults

from sm_multilevel.formula.frame import suggest

__all__ = ["constraints_from_dict", "term_columns", "wald_test_terms"]


def term_columns(model) -> dict[str, list[int]]:
    """Positions in params of the columns of each term of the fixed part."""
    names = list(model.data.param_names)
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
            # A factor's name stands for C(name), and for all its coefficients.
            columns = [
                j
                for j, name in enumerate(names)
                if ":" not in name and (name.startswith(f"{key}[") or name.startswith(f"C({key})["))
            ]
        if not columns:
            known = list(dict.fromkeys([*names, *terms]))
            raise ValueError(
                f"{key!r} is neither a coefficient nor a term of the model.{suggest(key, known)} "
                f"There are {', '.join(map(repr, known))}."
            )
        for j in columns:
            rows.append(np.eye(len(names))[j])
            values.append(float(value))
    if not rows:
        raise ValueError("The hypothesis is empty; give at least one coefficient or term.")
    return np.array(rows), np.array(values)


def wald_test_terms(
    result, skip_single=False, extra_constraints=None, combine_terms=None, scalar=True
):
    """A joint Wald test of every term, as statsmodels' method of this name."""
    eye = np.eye(len(result.params))
    terms = term_columns(result.model)
    constraints = [
        (name, eye[columns])
        for name, columns in terms.items()
        if not (skip_single and len(columns) == 1)
    ]
    for wanted in combine_terms or []:
        columns = [j for name, cols in terms.items() if wanted in name for j in cols]
        if not columns:
            raise ValueError(f"combine_terms: no term's name has {wanted!r} in it.")
        constraints.append((wanted, eye[columns]))
    constraints += list(extra_constraints or [])
    rows, index = [], []
    for name, matrix in constraints:
        test = result.wald_test(matrix, scalar=scalar)
        df = test.df_num if result.use_t else test.df_denom
        row = [test.statistic, test.pvalue, int(df)]
        rows.append([*row, test.df_denom] if result.use_t else row)
        index.append(name)
    columns = ["statistic", "pvalue", "df_constraint"] + (["df_denom"] if result.use_t else [])
    table = pd.DataFrame(rows, index=index, columns=columns)
    out = WaldTestResults(None, "F" if result.use_t else "chi2", None, table=table)
    out.temp = constraints
    return out
