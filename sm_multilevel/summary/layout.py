"""How summaries are set: statsmodels' tables, their widths, and texts in every format."""

from __future__ import annotations

import copy
import html
import re
import textwrap
from collections.abc import Sequence

import numpy as np
from statsmodels.iolib.summary import Summary, summary_params, summary_return
from statsmodels.iolib.table import Cell, SimpleTable
from statsmodels.iolib.tableformatting import fmt_base

__all__ = [
    "NO_NUMBER",
    "WIDTH",
    "MixedSummary",
    "Pairs",
    "Rows",
    "coefficient_table",
    "count",
    "degrees",
    "halves",
    "natural_widths",
    "number_column",
    "overview_table",
    "set_halves",
    "set_widths",
    "short",
    "shortened",
    "table_of",
    "total_width",
]

Pairs = list[tuple[str, str]]  # labels and values
Rows = tuple[list[str], list[list[str]]]  # header without its first column, and rows with it

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
        return "\n".join(line.rstrip() for line in lines).rstrip("\n")

    def as_html(self) -> str:
        """Tables and notes as HTML."""
        shown = copy.deepcopy(self)  # statsmodels takes a level such as "<lod" for a tag
        for table in shown.tables:
            table.title = html.escape(table.title or "")
            for cell in (cell for row in table for cell in row):
                cell.data = html.escape(str(cell.data), quote=False)
        shown.extra_txt = html.escape(self.extra_txt, quote=False)
        return "".join(f"<p>{html.escape(text)}</p>\n" for text in self.head) + Summary.as_html(shown)

    def as_latex(self) -> str:
        """Tables and notes as LaTeX."""
        notes = " \\newline\n ".join(_latex(line) for line in self.extra_txt.split("\n"))
        return "\n\n".join([*map(_latex, self.head), summary_return(self.tables, return_fmt="latex"), notes])

    def as_markdown(self) -> str:
        """Tables and notes as GitHub-flavoured Markdown."""
        title = [f"**{_markdown(table.title)}**" for table in self.tables[:1] if table.title]
        notes = "\\\n".join(_markdown(line) for line in self.extra_txt.split("\n"))
        parts = [*title, *map(_markdown, self.head), *map(_markdown_table, self.tables), notes]
        return "\n\n".join(part for part in parts if part)

    def as_csv(self) -> str:
        """Tables and notes as comma-separated values."""
        return "".join(f"{text}\n" for text in self.head) + super().as_csv()


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": "$|$"}
    special.update({c: f"\\{c}" for c in "#$%&_{}"}, **{c: f"${c}$" for c in "<>"})
    return "".join(special.get(c, c) for c in text)


def _markdown(text: str) -> str:
    """Text in which nothing means emphasis, code, formulas, HTML or the end of a cell."""
    text = re.sub(r"([\\`*|<$])", r"\\\1", text)
    # Within a word, and between blanks, these mean nothing.
    return re.sub(r"(?<!\w)_|_(?!\w)|(?<=\S)~|~(?=\S)", lambda found: f"\\{found[0]}", text)


def _markdown_table(table: SimpleTable) -> str:
    """A table whose columns of numbers are set to the right."""
    rows = [[_markdown(str(cell.data).strip()) for cell in row] for row in table]
    header = rows.pop(0) if table[0].datatype == "header" else [""] * len(rows[0])
    right = [j > 0 and all(_is_number(row[j]) for row in rows) for j in range(len(header))]
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = [f"{'-' * (w - 1)}:" if r else f":{'-' * (w - 1)}" for w, r in zip(widths, right, strict=True)]
    lines = [
        [text.rjust(w) if r else text.ljust(w) for text, w, r in zip(row, widths, right, strict=True)]
        for row in (header, *rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _is_number(text: str) -> bool:
    if text in ("", NO_NUMBER):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


# -- names and numbers ------------------------------------------------------------------------


def short(name: str) -> str:
    """A name with the middle left out where it is long."""
    if len(name) <= LONGEST_NAME:
        return name
    tail = LONGEST_NAME // 2 - 3
    return f"{name[: LONGEST_NAME - tail - 3]}...{name[-tail:]}"


def shortened(names: list[str]) -> list[str]:
    """Names with the middle of long ones left out, unless they would become equal."""
    out = [short(name) for name in names]
    return out if len(set(out)) == len(set(names)) else names


def count(value: float) -> str:
    """A number of rows."""
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def number_column(values: Sequence[float], like: Sequence[float] | None = None) -> list[str]:
    """Numbers with common decimals, so that the smallest (of `like`) has five significant digits."""
    sizes = [abs(v) for v in (values if like is None else like) if v and np.isfinite(v)]
    decimals = int(np.clip(4 - np.floor(np.log10(min(sizes))), 1, 6)) if sizes else 4

    def one(value: float) -> str:
        if not np.isfinite(value):
            return NO_NUMBER
        if value == 0:
            return "0"
        return f"{value:.{decimals}f}" if 1e-4 <= abs(value) < 1e9 else f"{value:.4g}"

    return [one(v) for v in values]


def degrees(values: Sequence[float]) -> list[str]:
    """Degrees of freedom."""
    return [NO_NUMBER if np.isnan(v) else f"{v:.2f}" if abs(v) < 1e4 else f"{v:.0f}" for v in values]


# -- statsmodels' tables ----------------------------------------------------------------------


def table_of(corner: str, header: list[str], rows: list[list[str]], texts: int = 1) -> SimpleTable:
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


def halves(left: Pairs, right: Pairs) -> tuple[Pairs, Pairs]:
    """Both of the same length."""
    size = max(len(left), len(right))
    return [*left, *[("", "")] * (size - len(left))], [*right, *[("", "")] * (size - len(right))]


def overview_table(left: Pairs, right: Pairs) -> SimpleTable:
    """Labels and values side by side."""
    left, right = halves(left, right)
    fmt = dict(fmt_base, colwidths=None, data_fmts=["%s"])
    table, other = (
        SimpleTable([[value] for _, value in side], None, [label for label, _ in side], txt_fmt=fmt)
        for side in (left, [(f"  {label}", value) for label, value in right])
    )
    table.extend_right(other)
    return table


def coefficient_table(
    corner: str, label: str, numbers: tuple, names: list[str], alpha: float, use_t: bool, tested: bool = True,
    df: Sequence[float] | None = None,
) -> SimpleTable:  # fmt: skip
    """Estimates as statsmodels sets them.

    Parameters
    ----------
    corner, label : str
        Headers of the names and of the estimates.
    numbers : tuple
        As `statsmodels.iolib.summary.summary_params` takes it.
    tested : bool
        False: the columns of the test are empty.
    df : sequence of float, optional
        Degrees of freedom, in a column after the statistics.
    """
    if not names:
        # As many columns as the tables it stands with: LaTeX joins them.
        empty = [[""] * (6 if df is None else 7)]
        return SimpleTable(
            empty, None, [f"No {corner.lower()}"], txt_fmt=dict(fmt_base, colwidths=None, data_fmts=["%s"])
        )
    table = summary_params(numbers, xname=names, alpha=alpha, use_t=use_t)
    table.output_formats["txt"].update(data_fmts=["%s"], colwidths=None)
    _set_corner(table, corner)
    table[0][1].data = label
    for row in table:
        for j, cell in enumerate(row):
            if j in (3, 4) and not tested:
                cell.data = ""
            elif str(cell.data).strip() == "nan":
                cell.data = NO_NUMBER
    if df is not None:
        column = ["df", *(degrees(df) if tested else [""] * len(names))]
        for row, text in zip(table, column, strict=True):
            row.insert(4, Cell(text, datatype=row[3].datatype, row=row))
    return table


def natural_widths(table: SimpleTable) -> list[int]:
    """Widths of a table's columns."""
    return [max(len(str(cell.data)) for cell in column) for column in zip(*table, strict=True)]


def set_widths(tables: Sequence[SimpleTable], width: int, texts: int) -> None:
    """Widen the columns to a total width: numbers a little, the last text column by the rest.

    Tables with the same number of columns get the same widths.
    """
    for size in {len(table[0]) for table in tables}:
        same = [table for table in tables if len(table[0]) == size]
        widths = [max(column) for column in zip(*map(natural_widths, same), strict=True)]
        slack = width - sum(widths) - size + 1
        numbers = size - texts
        share = min(3, slack // max(1, numbers))
        widths[texts:] = [w + share for w in widths[texts:]]
        widths[texts - 1] += slack - share * numbers
        for table in same:
            table.output_formats["txt"]["colwidths"] = widths


def set_halves(table: SimpleTable, width: int) -> None:
    """Widen the value columns of the overview, so that its halves are equal where they can be."""
    label, value, right_label, right_value = natural_widths(table)
    slack = width - (label + value + right_label + right_value) - 3
    left = min(slack, max(0, width // 2 - 1 - label - value))
    widths = [label, value + left, right_label, right_value + slack - left]
    table.output_formats["txt"]["colwidths"] = widths


def total_width(tables: Sequence[SimpleTable]) -> int:
    """What tables with common widths of columns need."""
    out = 0
    for size in {len(table[0]) for table in tables}:
        same = [natural_widths(table) for table in tables if len(table[0]) == size]
        out = max(out, sum(max(column) for column in zip(*same, strict=True)) + size - 1)
    return out
