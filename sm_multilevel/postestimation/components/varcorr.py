"""Variance components as tables: lme4's VarCorr and statsmodels' cov_re."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import linalg

from sm_multilevel.postestimation.components.ranef import by_group

__all__ = ["component_labels", "component_rows", "cov_re", "display_order", "varcorr", "variance_components", "vcomp"]


def display_order(terms):
    """Terms by number of levels, largest first, as lme4 prints them."""
    return sorted(range(len(terms)), key=lambda i: -len(terms[i].levels))


def _labels(terms):
    """Names of the groups; a group's second term is ``g.1`` as in lme4."""
    seen: dict[str, int] = {}
    labels = {}
    for i in display_order(terms):
        label = terms[i].name or terms[i].group
        count = seen.get(label, 0)
        seen[label] = count + 1
        labels[i] = label if count == 0 else f"{label}.{count}"
    return labels


def component_labels(terms) -> list[tuple[str, int, int, int]]:
    """(label of the group, term, column, column) of each row of `varcorr` but for the residual.

    Of each term in `display_order` its variances, then its covariances.

    Parameters
    ----------
    terms : sequence of TermCovariance or RandomTerm
    """
    labels, out = _labels(terms), []
    for i in display_order(terms):
        q = len(terms[i].columns)
        out += [(labels[i], i, j, j) for j in range(q)]
        if _correlated(terms[i]):
            out += [(labels[i], i, j, k) for j in range(q) for k in range(j + 1, q)]
    return out


def _correlated(term) -> bool:
    structure = getattr(term, "covariance", None)
    return term.correlated if structure is None else structure.correlated


def component_rows(terms, scale) -> list[tuple]:
    """Rows of `varcorr`."""
    rows: list[tuple] = []
    for label, i, j, k in component_labels(terms):
        cov, columns = terms[i].cov, terms[i].columns
        if j == k:
            rows.append((label, columns[j], None, cov[j, j], np.sqrt(cov[j, j])))
            continue
        denominator = np.sqrt(cov[j, j]) * np.sqrt(cov[k, k])
        corr = cov[j, k] / denominator if denominator > 0 else np.nan
        rows.append((label, columns[j], columns[k], cov[j, k], corr))
    if scale is not None:
        rows.append(("Residual", None, None, scale, float(np.sqrt(scale))))
    return rows


def varcorr(terms, scale) -> pd.DataFrame:
    """Variances, covariances, standard deviations and correlations.

    Parameters
    ----------
    terms : sequence of TermSolution
    scale : float or None
        Residual variance; None where the model has none.

    Returns
    -------
    DataFrame
        Columns ``grp, var1, var2, vcov, sdcor``; `var2` is None for variances, whose
        `sdcor` is a standard deviation, and a column for covariances, whose `sdcor` is a
        correlation. The residual comes last.
    """
    frame = pd.DataFrame(component_rows(terms, scale), columns=["grp", "var1", "var2", "vcov", "sdcor"])
    for column in ("grp", "var1", "var2"):
        values = frame[column].astype(object)
        frame[column] = values.where(values.notna(), None)
    return frame


def variance_components(terms, scale) -> dict[str, float]:
    """Variances and covariances by name: ``var(x)``, ``cov(Intercept,x)``, ``var(Residual)``.

    Where there are several grouping factors names carry the group: ``var(x|g)``; of a
    nested one, ``class:school``, its own name, ``var(x|class)``.
    """
    groups = {t.name or t.group for t in terms}
    inners = [group.partition(":")[0] for group in groups]
    out: dict[str, float] = {}
    for term in terms:
        group = term.name or term.group
        inner, _, outer = group.partition(":")
        own = inner if outer in groups and inners.count(inner) == 1 else group
        where = f"|{own}" if len(groups) > 1 else ""
        for j, name in enumerate(term.columns):
            out[f"var({name}{where})"] = float(term.cov[j, j])
            for k in range(j + 1, len(term.columns) if term.correlated else 0):
                out[f"cov({name},{term.columns[k]}{where})"] = float(term.cov[j, k])
    if scale is not None:
        out["var(Residual)"] = float(scale)
    return out


def cov_re(terms, is_component):
    """Covariance of the random effects: a frame, or a dict of them by grouping factor."""
    blocks = {}
    for group, members in by_group(terms).items():
        if not all(is_component[i] for i in members):
            names = [c for i in members for c in terms[i].columns]
            cov = linalg.block_diag(*[terms[i].cov for i in members])
            blocks[group] = pd.DataFrame(cov, index=names, columns=names)
    if not blocks:
        return pd.DataFrame(np.zeros((0, 0)))
    return next(iter(blocks.values())) if len(blocks) == 1 else blocks


def vcomp(terms, is_component) -> np.ndarray:
    """Variances of the variance components, sorted by their names."""
    variances = {t.name: t.cov[0, 0] for t, c in zip(terms, is_component, strict=True) if c}
    return np.array([variances[name] for name in sorted(variances)])
