"""Summaries: records in, statsmodels' tables out. Nothing here is computed, only worded and set."""

from __future__ import annotations

import textwrap
from itertools import groupby

import numpy as np
from pandas import DataFrame
from statsmodels.iolib import summary2 as _summary2
from statsmodels.iolib.summary import Summary, summary_params
from statsmodels.iolib.table import SimpleTable
from statsmodels.iolib.tableformatting import fmt_base

from sm_multilevel.postestimation.facts import Facts
from sm_multilevel.postestimation.no_random import NoRandomTest
from sm_multilevel.postestimation.varcorr import display_order

__all__ = ["summarize", "summarize2"]

TITLE = "Mixed Linear Model Regression Results"
WIDTH = 78  # of statsmodels' summaries; long names make a table wider, and all the others with it
LONGEST_NAME = 44
NO_NUMBER = "."  # a number that does not exist, as Stata prints it


def summarize(result, yname=None, xname=None, title=None, alpha=0.05) -> Summary:
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
    names = _names(result, xname, alpha)
    facts = result.facts
    left, right = _overview(result, facts, yname)
    tables = [
        _overview_table(left, right),
        _table("Groups", *_groups(facts)),
        _fixed_table(result, names, alpha),
        _table("Random effects", *_random(result, facts), texts=2),
    ]
    width = max(WIDTH, *(sum(_natural(t)) + len(_natural(t)) - 1 for t in tables))
    for table, texts in zip(tables, (0, 1, 1, 2), strict=True):
        _set_width(table, width, texts)
    tables.insert(0, _notice_table(_notices(result), width))
    tables[0].title = title if title is not None else TITLE
    out = Summary()
    out.tables = tables
    out.add_extra_txt([line for note in _notes(result, facts) for line in textwrap.wrap(note, width)])
    return out


def summarize2(
    result, yname=None, xname=None, title=None, alpha=0.05, float_format="%.4f"
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
    names = _names(result, xname, alpha)
    facts = result.facts
    out = _summary2.Summary()
    left, right = _overview(result, facts, yname)
    size = max(len(left), len(right))
    left, right = ([*x, *[("", "")] * (size - len(x))] for x in (left, right))
    out.add_array(np.array([[*a, *b] for a, b in zip(left, right, strict=True)]), align="l")
    out.settings[0]["float_format"] = float_format  # statsmodels takes the first table's for all
    out.add_df(_frame("Groups", *_groups(facts)))
    params = _summary2.summary_params(result, alpha=alpha, use_t=bool(result.use_t))
    params.index = names
    out.add_df(params, float_format=float_format)
    out.add_df(_frame("Random effects", *_random(result, facts)))
    out.add_title(title if title is not None else TITLE)
    for text in (*_notices(result), *_notes(result, facts)):
        out.add_text(text)
    return out


# -- words and numbers ----------------------------------------------------------------------


def _names(result, xname, alpha) -> list[str]:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha!r} must lie between 0 and 1.")
    own = list(result.model.data.param_names)
    if xname is None:
        return _shortened(own)
    if isinstance(xname, str) or len(xname) != len(own):
        raise ValueError(f"xname must be a list of {len(own)} names, one for each of {', '.join(own)}.")
    return _shortened([str(name) for name in xname])


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


def _column(values) -> list[str]:
    """Numbers with common decimals, so that the smallest has five significant digits."""
    sizes = [abs(v) for v in values if v and np.isfinite(v)]
    decimals = int(np.clip(4 - np.floor(np.log10(min(sizes))), 1, 6)) if sizes else 4

    def one(value):
        if not np.isfinite(value):
            return NO_NUMBER
        if value == 0:
            return "0"
        return f"{value:.{decimals}f}" if 1e-4 <= abs(value) < 1e9 else f"{value:.4g}"

    return [one(v) for v in values]


def _p_value(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 or value == 0 else f"{value:.2e}"


def _overview(result, facts: Facts, yname):
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
        ("R2 marginal (fixed):", f"{facts.r_squared['marginal']:.4f}"),
        ("R2 conditional (fixed + random):", f"{facts.r_squared['conditional']:.4f}"),
    ]
    more = [(_WEIGHT_WORDS[kind], _short(name) or "yes") for kind, name in facts.weights]
    if result.use_t:
        more.append(("Df Residuals:", _count(result.df_resid)))
    if facts.n_dropped:
        more.append(("Rows dropped (missing):", str(facts.n_dropped)))
    for item in more:
        (left if len(left) <= len(right) else right).append(item)
    return left, right


_WEIGHT_WORDS = {
    "var_weights": "Precision weights:",
    "freq_weights": "Frequency weights:",
    "offset": "Offset:",
}


def _notices(result) -> list[str]:
    """What must be read before the numbers."""
    out = []
    if not result.converged:
        out.append(f"NOT CONVERGED: {result.record.reason}. Do not use these estimates.")
    out += [f"Singular fit: {text}." for text in result.record.singular]
    if result.model.dropped_exog:
        dropped = ", ".join(result.model.dropped_exog)
        out.append(f"Dropped, because the columns before contain them: {dropped}.")
    if result.model.formula:
        out.append(f"Formula: {' '.join(result.model.formula.split())}")
    return out


def _groups(facts: Facts):
    header = ["Levels", "Rows: min", "mean", "max", "ICC"]
    rows = [
        [
            _short(g.name), str(g.levels), _count(g.smallest), f"{g.mean:.1f}", _count(g.largest),
            NO_NUMBER if g.icc is None else f"{g.icc:.4f}",
        ]
        for g in facts.groups
    ]  # fmt: skip
    return header, rows


def _random(result, facts: Facts):
    """Variances, standard deviations and correlations, lower triangle, as lme4 prints them."""
    table = result.varcorr()
    blocks = [(grp, list(rows)) for grp, rows in groupby(table.itertuples(index=False), lambda r: r.grp)]
    parameters = [facts.term_parameters[i] for i in display_order(result.term_solutions)]
    lines: list[tuple] = []  # group, column, variance, standard deviation, correlations
    for (group, rows), count in zip(blocks, [*parameters, 1], strict=True):
        variances = [r for r in rows if r.var2 is None]
        corr = {(r.var1, r.var2): r.sdcor for r in rows if r.var2 is not None}
        q = len(variances)
        if count <= 2 < q:  # one variance and at most one correlation for all columns
            first = next(iter(corr.values()))
            lines.append((group, f"each of {q}", variances[0], [] if first == 0 else [first]))
            continue
        shown = any(c != 0 for c in corr.values())
        for j, row in enumerate(variances):
            before = [corr[variances[k].var1, row.var1] for k in range(j)] if shown else []
            lines.append((group if j == 0 else "", row.var1 or "", row, before))
    width = max(len(line[3]) for line in lines)
    names = [_short(line[1]) for line in lines]
    var = _column([line[2].vcov for line in lines])
    sd = _column([line[2].sdcor for line in lines])
    header = ["", "Variance", "Std.Dev.", *(["Corr", *[""] * (width - 1)] if width else [])]
    out = []
    for k, (group, _, _, before) in enumerate(lines):
        corr_text = [f"{c:.3f}" if np.isfinite(c) else NO_NUMBER for c in before]
        out.append([_short(group), names[k], var[k], sd[k], *corr_text, *[""] * (width - len(before))])
    return header, out


def _notes(result, facts: Facts) -> list[str]:
    out = []
    if result.converged:
        out += _lr_test(facts.no_random)
    if facts.slopes and facts.icc:
        out.append("ICC: for rows where the covariates of random slopes are zero.")
    return out


def _lr_test(test: NoRandomTest) -> list[str]:
    words, p = "LR test vs. linear regression:", _p_value(test.p_value)
    if test.kind == "chibar2":
        return [f"{words} chibar2(01) = {test.statistic:.2f}  Prob >= chibar2 = {p}"]
    return [
        f"{words} chi2({test.df}) = {test.statistic:.2f}  Prob > chi2 = {p}",
        "The LR test is conservative, since variances cannot be negative.",
    ]


def _frame(corner, header, rows):
    """For statsmodels' second format, which has no header above the row names."""
    return DataFrame([row[1:] for row in rows], columns=header, index=[row[0] for row in rows])


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


def _set_corner(table, text):
    cell = table[0][0]
    cell.data, cell.datatype = text, "stub"


def _overview_table(left, right):
    size = max(len(left), len(right))
    left, right = ([*x, *[("", "")] * (size - len(x))] for x in (left, right))
    fmt = dict(fmt_base, colwidths=None, data_fmts=["%s"])
    table, other = (
        SimpleTable([[value] for _, value in side], None, [label for label, _ in side], txt_fmt=fmt)
        for side in (left, [(f"  {label}", value) for label, value in right])
    )
    table.extend_right(other)
    return table


def _fixed_table(result, names, alpha):
    table = summary_params(result, xname=names, alpha=alpha, use_t=bool(result.use_t))
    table.output_formats["txt"].update(data_fmts=["%s"], colwidths=None)
    if len(names):
        _set_corner(table, "Fixed effects")
    return table


def _notice_table(notices, width):
    lines = [line for text in notices for line in textwrap.wrap(text, width)]
    fmt = dict(fmt_base, colwidths=width, data_fmts=["%s"], data_aligns="l")
    return SimpleTable([[line] for line in lines] or [[""]], txt_fmt=fmt)


def _natural(table) -> list[int]:
    """Widths of a table's columns."""
    return [max(len(str(cell.data)) for cell in column) for column in zip(*table, strict=True)]


def _set_width(table, width, texts):
    """Widen the columns to a total width: numbers a little, the last text column by the rest."""
    widths = _natural(table)
    slack = width - sum(widths) - len(widths) + 1
    numbers = range(texts, len(widths)) if texts else (1, 3)
    share = min(3, slack // max(1, len(numbers)))
    for j in numbers:
        widths[j] += share
    widths[max(0, texts - 1)] += slack - share * len(numbers)
    table.output_formats["txt"]["colwidths"] = widths
