"""Summaries: records in, statsmodels' tables out. Nothing here is computed, only worded and set."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from pandas import DataFrame
from statsmodels.iolib import summary2 as _summary2
from statsmodels.iolib.summary import Summary, summary_params, summary_return
from statsmodels.iolib.table import SimpleTable
from statsmodels.iolib.tableformatting import fmt_base

from sm_multilevel.checks import check_alpha
from sm_multilevel.postestimation.facts import Facts
from sm_multilevel.postestimation.no_random import NoRandomTest
from sm_multilevel.postestimation.varcorr import component_rows, display_order

__all__ = ["summarize", "summarize2"]

Pairs = list[tuple[str, str]]  # labels and values
Rows = tuple[list[str], list[list[str]]]  # header without its first column, and rows with it

TITLE = "Mixed Linear Model Regression Results"
WIDTH = 78  # of statsmodels' summaries; long names make a table wider, and all the others with it
LONGEST_NAME = 44
NO_NUMBER = "."  # a number that does not exist, as Stata prints it


class MixedSummary(Summary):
    """statsmodels' Summary with lines above the tables, in every format.

    ``tables[0]`` is the overview and ``tables[1]`` that of the fixed effects, as scripts expect.

    Attributes
    ----------
    head : list of str
        What must be read before the numbers, and the formula.
    width : int
        Columns of the text.
    """

    def __init__(self, head: list[str], tables: list[SimpleTable], notes: list[str], width: int):
        super().__init__()
        self.head, self.tables, self.width = head, tables, width
        self.add_extra_txt([line for note in notes for line in _wrap(note, max(width, 80))])

    def as_text(self) -> str:
        """Tables and notes as text."""
        lines = super().as_text().split("\n")
        if self.head:
            at = len(self.tables[0].title.split("\n")) if self.tables[0].title else 0
            lines[at:at] = ["=" * self.width, *(x for text in self.head for x in _wrap(text, self.width))]
        return "\n".join(line.rstrip() for line in lines)

    def as_html(self) -> str:
        """Tables and notes as HTML."""
        return "".join(f"<p>{html.escape(text)}</p>\n" for text in self.head) + super().as_html()

    def as_latex(self) -> str:
        """Tables and notes as LaTeX."""
        notes = " \\newline\n ".join(_latex(line) for line in self.extra_txt.split("\n"))
        return "\n\n".join([*map(_latex, self.head), summary_return(self.tables, return_fmt="latex"), notes])

    def as_csv(self) -> str:
        """Tables and notes as comma-separated values."""
        return "".join(f"{text}\n" for text in self.head) + super().as_csv()


def summarize(
    result: Any,
    yname: str | None = None,
    xname: Sequence[str] | None = None,
    title: str | None = None,
    alpha: float = 0.05,
) -> Summary:
    """
    Summary of a linear mixed model.

    Parameters
    ----------
    result : MixedLMResults
    yname : str, optional
        Name of the response.
    xname : list of str, optional
        Names of the fixed effects.
    title : str, optional
    alpha : float
        1 minus the level of the confidence intervals.

    Returns
    -------
    statsmodels.iolib.summary.Summary
        With ``as_text``, ``as_html``, ``as_latex`` and ``as_csv``.
    """
    names, alpha = _names(result, xname), check_alpha(alpha)
    facts = result.facts
    tables = [
        _overview_table(*_overview(result, facts, yname)),
        _fixed_table(result, names, alpha),
        _table("Groups", *_groups(facts)),
        _table("Random effects", *_random(result, facts), texts=2),
    ]
    width = max(WIDTH, *(sum(_natural(t)) + len(_natural(t)) - 1 for t in tables))
    _set_halves(tables[0], width)
    for table, texts in zip(tables[1:], (1, 1, 2), strict=True):
        _set_width(table, width, texts)
    tables[0].title = TITLE if title is None else title
    return MixedSummary(_head(result), tables, _notes(result, facts), width)


def summarize2(
    result: Any,
    yname: str | None = None,
    xname: Sequence[str] | None = None,
    title: str | None = None,
    alpha: float = 0.05,
    float_format: str = "%.4f",
) -> _summary2.Summary:
    """
    Summary in statsmodels' second format.

    Parameters
    ----------
    result, yname, xname, title, alpha
        As in `summarize`.
    float_format : str
        Format of the fixed effects.

    Returns
    -------
    statsmodels.iolib.summary2.Summary
    """
    names, alpha = _names(result, xname), check_alpha(alpha)
    facts = result.facts
    left, right = _halves(*_overview(result, facts, yname))
    params = _summary2.summary_params(result, alpha=alpha, use_t=bool(result.use_t))
    params.index = names
    out = _summary2.Summary()
    out.add_array(np.array([[*a, *b] for a, b in zip(left, right, strict=True)]), align="l")
    out.settings[0]["float_format"] = float_format  # statsmodels takes the first table's for all
    out.add_df(params, float_format=float_format)
    for corner, (header, rows), texts in (
        ("Groups", _groups(facts), 1),
        ("Random effects", _random(result, facts), 2),
    ):
        align = "l" * texts + "r" * (len(header) - texts + 1)
        out.add_df(DataFrame(rows, columns=[corner, *header]), index=False, align=align)
    heading = TITLE if title is None else title
    out.add_title(heading if result.converged else f"{heading} (NOT CONVERGED)")
    for text in (*_head(result), *_notes(result, facts)):
        out.add_text(text)
    return out


# -- words and numbers ----------------------------------------------------------------------


def _names(result: Any, xname: Sequence[str] | None) -> list[str]:
    own = list(result.model.data.param_names or [])
    if xname is None:
        return _shortened(own)
    if isinstance(xname, str) or len(xname) != len(own):
        raise ValueError(f"xname must be a list of {len(own)} names, one for each of {', '.join(own)}.")
    return _shortened([str(name) for name in xname])


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": "$|$"}
    special.update({c: f"\\{c}" for c in "#$%&_{}"}, **{c: f"${c}$" for c in "<>"})
    return "".join(special.get(c, c) for c in text)


def _short(name: str) -> str:
    if len(name) <= LONGEST_NAME:
        return name
    tail = LONGEST_NAME // 2 - 3
    return f"{name[: LONGEST_NAME - tail - 3]}...{name[-tail:]}"


def _shortened(names: list[str]) -> list[str]:
    """Names with the middle of long ones left out, unless they would become equal."""
    short = [_short(name) for name in names]
    return short if len(set(short)) == len(set(names)) else names


def _count(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def _column(values: Sequence[float]) -> list[str]:
    """Numbers with common decimals, so that the smallest has five significant digits."""
    sizes = [abs(v) for v in values if v and np.isfinite(v)]
    decimals = int(np.clip(4 - np.floor(np.log10(min(sizes))), 1, 6)) if sizes else 4

    def one(value: float) -> str:
        if not np.isfinite(value):
            return NO_NUMBER
        if value == 0:
            return "0"
        return f"{value:.{decimals}f}" if 1e-4 <= abs(value) < 1e9 else f"{value:.4g}"

    return [one(v) for v in values]


def _overview(result: Any, facts: Facts, yname: str | None) -> tuple[Pairs, Pairs]:
    """Labels and values of the left and of the right half."""
    restricted = "Restricted " if result.reml else ""
    left = [
        ("Dep. Variable:", _short(str(result.model.endog_names if yname is None else yname))),
        ("Model:", type(result.model).__name__),
        ("Method:", result.method),
        ("Converged:", "Yes" if result.converged else "NO"),
        ("Singular fit:", "Yes" if result.is_singular else "No"),
        ("Covariance Type:", result.cov_type),
    ]
    right = [
        ("No. Observations:", _count(result.nobs)),
        (f"{restricted}Log-Likelihood:", f"{result.llf:.3f}"),
        ("AIC:", f"{result.aic:.3f}"),
        ("BIC:", f"{result.bic:.3f}"),
        ("R2 marginal:", f"{facts.r_squared['marginal']:.4f}"),
        ("R2 conditional:", f"{facts.r_squared['conditional']:.4f}"),
    ]
    more = [(_WEIGHT_WORDS[kind], _short(name) or "yes") for kind, name in facts.weights]
    if result.use_t:
        more.append(("Df Residuals:", _count(result.df_resid)))
    if facts.n_dropped:
        more.append(("Rows dropped (NaN):", str(facts.n_dropped)))
    for item in more:
        (left if len(left) <= len(right) else right).append(item)
    return left, right


def _halves(left: Pairs, right: Pairs) -> tuple[Pairs, Pairs]:
    """Both of the same length."""
    size = max(len(left), len(right))
    return [*left, *[("", "")] * (size - len(left))], [*right, *[("", "")] * (size - len(right))]


_WEIGHT_WORDS = {
    "var_weights": "Precision weights:",
    "freq_weights": "Frequency weights:",
    "offset": "Offset:",
}


def _head(result: Any) -> list[str]:
    """What must be read before the numbers, and the formula."""
    out: list[str] = []
    if not result.converged:
        out.append(f"NOT CONVERGED: {result.record.reason}. Do not use these estimates.")
    out += [f"Singular fit: {text}." for text in result.record.singular]
    if result.model.dropped_exog:
        dropped = ", ".join(result.model.dropped_exog)
        out.append(f"Dropped, because the columns before contain them: {dropped}.")
    if result.model.formula:
        out.append(f"Formula: {' '.join(result.model.formula.split())}")
    return out


def _groups(facts: Facts) -> Rows:
    header = ["Levels", "Rows: min", "mean", "max", "ICC"]
    rows = [
        [
            _short(g.name), str(g.levels), _count(g.smallest), f"{g.mean:.1f}", _count(g.largest),
            NO_NUMBER if g.icc is None else f"{g.icc:.4f}",
        ]
        for g in facts.groups
    ]  # fmt: skip
    return header, rows


def _random(result: Any, facts: Facts) -> Rows:
    """Variances, standard deviations and correlations, lower triangle, as lme4 prints them."""
    terms = result.term_covariances
    rows = component_rows(terms, result.scale)  # those of result.varcorr(), without its frame
    lines: list[tuple] = []  # group, column, row of varcorr(), correlations with the columns before
    for i in display_order(terms):
        q = len(terms[i].columns)
        variances, rows = rows[:q], rows[q:]
        covariances = list(takewhile(lambda row: row[2] is not None, rows))
        rows = rows[len(covariances) :]
        corr = np.zeros((q, q))
        if covariances:
            corr[np.triu_indices(q, 1)] = [row[4] for row in covariances]
        group, corr = variances[0][0], corr.T
        if facts.term_parameters[i] <= 2 < q:  # one variance and at most one correlation for all
            lines.append((group, f"each of {q} columns", variances[0], corr[1, :1] if covariances else []))
            continue
        for j, row in enumerate(variances):
            lines.append((group if j == 0 else "", row[1], row, corr[j, :j] if covariances else []))
    lines += [(row[0], "", row, []) for row in rows]  # the residual
    names = _shortened([line[1] for line in lines])
    var = _column([line[2][3] for line in lines])
    sd = _column([line[2][4] for line in lines])
    width = max(len(line[3]) for line in lines)
    header = ["", "Variance", "Std.Dev.", *["Corr", *[""] * width][:width]]
    table = []
    for k, (group, _, _, before) in enumerate(lines):
        corr_text = [f"{c:.3f}" if np.isfinite(c) else NO_NUMBER for c in before]
        table.append([_short(group), names[k], var[k], sd[k], *corr_text, *[""] * (width - len(before))])
    return header, table


def _notes(result: Any, facts: Facts) -> list[str]:
    out: list[str] = []
    if result.converged:
        out += _lr_test(facts.no_random)
    if facts.slopes and facts.icc:
        out.append("ICC: for rows where the covariates of random slopes are zero.")
    return out


def _lr_test(test: NoRandomTest) -> list[str]:
    words, p = "LR test vs. linear regression:", f"{test.p_value:.4f}"
    if test.kind == "chibar2":
        return [f"{words} chibar2(01) = {test.statistic:.2f}  Prob >= chibar2 = {p}"]
    return [
        f"{words} chi2({test.df}) = {test.statistic:.2f}  Prob > chi2 = {p}",
        "The LR test is conservative, since variances cannot be negative.",
    ]


# -- statsmodels' tables ----------------------------------------------------------------------


def _table(corner: str, header: list[str], rows: list[list[str]], texts: int = 1) -> SimpleTable:
    """A table of texts, its first column the stubs."""
    aligns = "l" * (texts - 1) + "r" * (len(header) - texts + 1)
    table = SimpleTable(
        [row[1:] for row in rows], header, [row[0] for row in rows],
        txt_fmt=dict(fmt_base, colwidths=None, data_fmts=["%s"], data_aligns=aligns),
    )  # fmt: skip
    _set_corner(table, corner)
    return table


def _set_corner(table: SimpleTable, text: str) -> None:
    cell = table[0][0]
    cell.data, cell.datatype = text, "stub"


def _overview_table(left: Pairs, right: Pairs) -> SimpleTable:
    left, right = _halves(left, right)
    fmt = dict(fmt_base, colwidths=None, data_fmts=["%s"])
    table, other = (
        SimpleTable([[value] for _, value in side], None, [label for label, _ in side], txt_fmt=fmt)
        for side in (left, [(f"  {label}", value) for label, value in right])
    )
    table.extend_right(other)
    return table


def _fixed_table(result: Any, names: list[str], alpha: float) -> SimpleTable:
    table = summary_params(result, xname=names, alpha=alpha, use_t=bool(result.use_t))
    table.output_formats["txt"].update(data_fmts=["%s"], colwidths=None)
    if len(names):
        _set_corner(table, "Fixed effects")
    return table


def _natural(table: SimpleTable) -> list[int]:
    """Widths of a table's columns."""
    return [max(len(str(cell.data)) for cell in column) for column in zip(*table, strict=True)]


def _set_width(table: SimpleTable, width: int, texts: int) -> None:
    """Widen the columns to a total width: numbers a little, the last text column by the rest."""
    widths = _natural(table)
    slack = width - sum(widths) - len(widths) + 1
    numbers = len(widths) - texts
    share = min(3, slack // max(1, numbers))
    widths[texts:] = [w + share for w in widths[texts:]]
    widths[texts - 1] += slack - share * numbers
    table.output_formats["txt"]["colwidths"] = widths


def _set_halves(table: SimpleTable, width: int) -> None:
    """Widen the value columns of the overview, so that its halves are equal where they can be."""
    label, value, right_label, right_value = _natural(table)
    slack = width - (label + value + right_label + right_value) - 3
    left = min(slack, max(0, width // 2 - 1 - label - value))
    widths = [label, value + left, right_label, right_value + slack - left]
    table.output_formats["txt"]["colwidths"] = widths
