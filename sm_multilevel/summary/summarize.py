"""Summaries: records in, statsmodels' tables out. Nothing here is computed, only worded and set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pandas import DataFrame
from statsmodels.iolib import summary2 as _summary2
from statsmodels.iolib.summary import Summary
from statsmodels.iolib.table import SimpleTable

from sm_multilevel.checks import check_alpha, check_flag
from sm_multilevel.summary import words
from sm_multilevel.summary.layout import (
    NO_NUMBER,
    WIDTH,
    MixedSummary,
    coefficient_table,
    count,
    degrees,
    halves,
    overview_table,
    set_halves,
    set_widths,
    shortened,
    table_of,
    total_width,
)

__all__ = ["brief", "summarize", "summarize2"]


def summarize(
    result: Any,
    yname: str | None = None,
    xname: Sequence[str] | None = None,
    title: str | None = None,
    alpha: float = 0.05,
    eform: bool = False,
) -> Summary:
    """
    Summary of a mixed model.

    Parameters
    ----------
    result : MultilevelResults
    yname : str, optional
        Name of the response.
    xname : list of str, optional
        Names of the fixed effects, and of a response's own parameters after them if these are
        to be renamed too.
    title : str, optional
    alpha : float
        1 minus the level of the confidence intervals.
    eform : bool
        Exponentiated fixed effects: odds ratios, incidence-rate ratios or ratios of means.

    Returns
    -------
    statsmodels.iolib.summary.Summary
        With ``as_text``, ``as_html``, ``as_latex`` and ``as_csv``.
    """
    parts = _Parts(result, xname, alpha, eform)
    facts = result.facts
    overview = overview_table(*words.overview(result, facts, yname))
    estimates = parts.tables(bool(result.use_t))
    of_groups = table_of("Groups", *words.groups(facts))
    of_effects = table_of("Random effects", *words.random_part(result, facts, parts.alpha), texts=2)
    width = max(WIDTH, *map(total_width, ([overview], estimates, [of_groups], [of_effects])))
    set_halves(overview, width)
    set_widths(estimates, width, 1)
    set_widths([of_groups], width, 1)
    set_widths([of_effects], width, 2)
    overview.title = words.title(result) if title is None else title
    tables = [overview, *estimates, of_groups, of_effects]
    return MixedSummary(words.head(result), tables, words.notes(result, facts, parts.eform), width)


def brief(result: Any) -> Summary:
    """
    The part of a summary that needs no pass over the rows.

    Parameters
    ----------
    result : MultilevelResults

    Returns
    -------
    statsmodels.iolib.summary.Summary
        Coefficients and variance components, these without standard errors, and only where
        remove_data() of another result of the model has left what they are computed from.
    """
    tables = _Parts(result, None, result.default_alpha, False).tables(bool(result.use_t))
    if result.model.effects is not None or result._terms is not None:
        tables.append(table_of("Random effects", *words.components(result), texts=3))
    tables[0].title = words.title(result)
    said = f"{result.method}, {count(result.nobs)} observations, log-likelihood {result.llf:.3f}."
    note = "summary() adds standard errors of the variance components, R-squared, intraclass correlations and a test."
    if result.model.design is None:
        note = "The data are gone, by remove_data() of another result of the same model, and with them the rest."
    return MixedSummary([*words.head(result), said], tables, [note], WIDTH)


def summarize2(
    result: Any,
    yname: str | None = None,
    xname: Sequence[str] | None = None,
    title: str | None = None,
    alpha: float = 0.05,
    float_format: str = "%.4f",
    eform: bool = False,
) -> _summary2.Summary:
    """
    Summary in statsmodels' second format.

    Parameters
    ----------
    result, yname, xname, title, alpha, eform
        As in `summarize`.
    float_format : str
        Format of the fixed effects.

    Returns
    -------
    statsmodels.iolib.summary2.Summary
    """
    parts = _Parts(result, xname, alpha, eform)
    facts = result.facts
    left, right = halves(*words.overview(result, facts, yname))
    out = _summary2.Summary()
    out.add_array(np.array([[*a, *b] for a, b in zip(left, right, strict=True)]), align="l")
    out.settings[0]["float_format"] = float_format  # statsmodels takes the first table's for all
    for part in parts:
        if not part.names:
            continue
        out.add_df(part.frame(parts.alpha, bool(result.use_t), float_format), float_format=float_format)
    for corner, (header, rows), texts in (
        ("Groups", words.groups(facts), 1),
        ("Random effects", words.random_part(result, facts, parts.alpha), 2),
    ):
        align = "l" * texts + "r" * (len(header) - texts + 1)
        out.add_df(DataFrame(rows, columns=[corner, *header]), index=False, align=align)
    heading = words.title(result) if title is None else title
    out.add_title(heading if result.converged else f"{heading} (NOT CONVERGED)")
    for text in (*words.head(result), *words.notes(result, facts, parts.eform)):
        out.add_text(text)
    return out


class _Part:
    """Estimates of one table.

    Attributes
    ----------
    corner, label : str
        Headers of the names and of the estimates.
    numbers : tuple
        As statsmodels' ``summary_params`` takes it: result, estimates, standard errors,
        statistics, p-values, intervals.
    tested : bool
        Whether zero is a hypothesis.
    df : ndarray or None
        Degrees of freedom, where each coefficient has its own.
    """

    def __init__(self, corner, label, names, numbers, tested, df=None):
        self.corner, self.label, self.names, self.numbers, self.tested = corner, label, names, numbers, tested
        self.df = df

    def frame(self, alpha, use_t, float_format) -> DataFrame:
        """A table for statsmodels' second format."""
        frame = _summary2.summary_params(
            self.numbers, xname=self.names, alpha=alpha, use_t=use_t, float_format=float_format
        )
        frame.index = self.names
        if not self.tested:
            texts = [[float_format % v if np.isfinite(v) else NO_NUMBER for v in row] for row in frame.to_numpy(float)]
            frame = DataFrame(texts, index=frame.index, columns=frame.columns)
            frame[frame.columns[2:4]] = ""
        if self.df is not None:
            frame.insert(3, "df", degrees(self.df) if self.tested else "")
        if self.label != "coef":
            frame = frame.rename(columns={"Coef.": self.label})
        return frame


class _Parts:
    """The estimates of a result, by table: fixed effects, then a response's own parameters."""

    def __init__(self, result, xname, alpha, eform):
        self.alpha, self.eform = check_alpha(alpha), check_flag("eform", eform)
        label = words.ratios(result.family).label if self.eform else "coef"
        names, p = _names(result, xname), result.model.k_fixed
        params, bse = np.asarray(result.params), np.asarray(result.bse)
        interval = np.asarray(result.conf_int(self.alpha))
        tests = np.asarray(result.tvalues), np.asarray(result.pvalues)
        first = params[:p], bse[:p], tests[0][:p], tests[1][:p], interval[:p]
        if self.eform:
            with np.errstate(over="ignore"):
                ratio = np.exp(params[:p])
                first = ratio, ratio * bse[:p], *first[2:4], np.exp(interval[:p])
        df = None if result.reference is None else np.asarray(result.df_coef)
        own = None if df is None else df[:p]
        self._parts = [_Part("Fixed effects", label, names[:p], (result, *first), True, own)]
        if len(params) > p:
            corner = "Response parameters" if result.family.has_intercept else "Cut-points"
            none = np.full(len(params) - p, np.nan)
            rest = (result, params[p:], bse[p:], none, none, interval[p:])
            self._parts.append(_Part(corner, "coef", names[p:], rest, False, None if df is None else df[p:]))

    def __iter__(self):
        return iter(self._parts)

    def tables(self, use_t: bool) -> list[SimpleTable]:
        """Tables for statsmodels' first format."""
        return [
            coefficient_table(
                part.corner, part.label, part.numbers, part.names, self.alpha, use_t, part.tested, part.df
            )
            for part in self
        ]


def _names(result: Any, xname: Sequence[str] | None) -> list[str]:
    own = list(result.model.data.param_names or [])
    if xname is None:
        return shortened(own)
    p = result.model.k_fixed
    if isinstance(xname, str) or len(xname) not in (p, len(own)):
        raise ValueError(f"xname must be a list of {p} names, one for each of {', '.join(own[:p])}.")
    return shortened([*map(str, xname), *own[len(xname) :]])
