"""Panels of random effects: what is drawn, where, and the names of levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rcParams
from statsmodels.graphics.utils import create_mpl_fig

from sm_multilevel.drawing import font_points, inches, letter_inches, plain
from sm_multilevel.postestimation.components.ranef import by_group
from sm_multilevel.wording import suggest

__all__ = ["MAX_NAME", "Panel", "grid", "names", "room", "select"]

# A level's name is cut to this many characters, or to what has room.
MAX_NAME = 28
PANELS_A_ROW = 3


@dataclass(frozen=True, eq=False)
class Panel:
    """One column of one grouping factor."""

    group: str
    column: str
    levels: Sequence[Any]
    effects: np.ndarray
    errors: np.ndarray
    variance: float

    @property
    def title(self) -> str:
        return f"{plain(self.column)} by {plain(self.group)}"

    @property
    def own_variance(self) -> np.ndarray:
        """Variances of the predicted effects themselves."""
        return self.variance - self.errors**2

    @property
    def is_zero(self) -> bool:
        """Whether the variance is zero but for rounding: then nothing is left of any effect."""
        return bool(np.all(self.own_variance <= 1e-8 * self.variance))

    def standardized(self) -> np.ndarray:
        """Effects over their own standard deviations; those that must be zero left out."""
        told = self.own_variance > 1e-8 * self.variance
        return self.effects[told] / np.sqrt(self.own_variance[told]) if told.any() else 0 * self.effects


def select(result, group, column) -> list[Panel]:
    """Panels of the groups and columns that are asked for, in the formula's order."""
    solutions = result.term_solutions
    groups = by_group(solutions)
    if group is not None and group not in groups:
        raise ValueError(
            f"group={group!r} is not a grouping factor of the model.{suggest(group, groups)} "
            f"There are {', '.join(map(repr, groups))}."
        )
    panels = []
    for name in groups if group is None else [group]:
        for term in (solutions[i] for i in groups[name]):
            errors = np.sqrt(np.maximum(np.einsum("mjj->mj", term.cov_posterior), 0.0))
            for j, label in enumerate(term.columns):
                panels.append(Panel(name, label, term.levels, term.effects[:, j], errors[:, j], float(term.cov[j, j])))
    if column is not None:
        known = list(dict.fromkeys(p.column for p in panels))
        panels = [p for p in panels if p.column == column]
        if not panels:
            where = "of the model" if group is None else f"of {group!r}"
            raise ValueError(
                f"column={column!r} is not a random column {where}.{suggest(column, known)} "
                f"There are {', '.join(map(repr, known))}."
            )
    return panels


def grid(heights, names=0.0):
    """A new figure with an Axes for each panel, in rows of three.

    `heights` are the inches that panels need, 0 for the usual; `names` the inches that names of
    levels take beside a panel.
    """
    width, height = rcParams["figure.figsize"]
    columns = min(len(heights), PANELS_A_ROW)
    rows = [heights[i : i + columns] for i in range(0, len(heights), columns)]
    body = [max([0.75 * height, *row]) for row in rows]
    text = 0.55 * max(font_points("axes.titlesize"), font_points("axes.labelsize")) * 38 / 72
    wide = max({1: 1.0, 2: 0.75}.get(columns, 0.65) * width, text + 1)
    size = (columns * (wide + names), sum(body) + 0.25 * height * len(rows))
    fig = create_mpl_fig(figsize=size)
    spec = fig.add_gridspec(len(rows), columns, height_ratios=body)
    return fig, [fig.add_subplot(spec[divmod(i, columns)]) for i in range(len(heights))]


def room(ax) -> tuple[int, int]:
    """How many names of levels fit beside a given Axes, and of how many letters."""
    width, height = inches(ax)
    return int(72 * height / font_points("ytick.labelsize")), int(
        np.clip(width / 3 / letter_inches("ytick.labelsize"), 8, MAX_NAME)
    )


def names(levels, letters) -> list[str]:
    """Names of levels, each on one line, cut where that leaves them distinct."""
    whole = [" ".join(str(level).split()) for level in levels]
    common = next((i for i, seen in enumerate(zip(*whole)) if len(set(seen)) > 1), 0)
    half = letters // 2

    def from_difference(name):
        rest = name[common:]
        return f"…{rest}" if len(rest) < letters else f"…{rest[: letters - 2]}…"

    ways = [
        lambda name: f"{name[: letters - 1]}…",
        lambda name: f"…{name[1 - letters :]}",
        lambda name: f"{name[: letters - half - 1]}…{name[-half:]}",
        from_difference,
    ]
    cut = whole
    for way in ways if max(map(len, whole)) > letters else []:
        cut = [name if len(name) <= letters else way(name) for name in whole]
        if len(set(cut)) == len(set(whole)):
            break
    return [plain(name) for name in cut]
