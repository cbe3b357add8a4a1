"""The caterpillar plot: predicted random effects with their intervals, ordered by size."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import cbook, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats
from statsmodels.graphics.utils import create_mpl_ax

from sm_multilevel.checks import check_alpha
from sm_multilevel.drawing import cycle, font_points, inches, letter_inches, plain, reference, tighten
from sm_multilevel.graphics.panels import MAX_NAME, grid, names, room, select

__all__ = ["caterpillar"]

# Intervals closer than this many points are drawn as a band behind the curve of the effects.
DENSE = 3.0


def caterpillar(result: Any, group: str | None = None, column: str | None = None, ax: Axes | None = None,
                alpha: float = 0.05, max_labels: int = 40, **style: Any) -> Figure:  # fmt: skip
    """Predicted random effects with their intervals, ordered by size.

    The intervals are normal ones from the standard errors of ``result.ranef(conditional_se=True)``,
    which include the uncertainty of the fixed effects. Those that exclude zero have the second
    colour of the cycle and filled markers; the title counts them. Each is for one level by itself:
    whether two of them overlap is not a test of their difference.

    Parameters
    ----------
    result : MixedLMResults
    group : str, optional
        Grouping factor. Default: all of them.
    column : str, optional
        Random column, as ``"Intercept"`` or ``"Days"``. Default: all of them.
    ax : Axes, optional
        Where to draw. It holds one column: the first of those that `group` and `column` leave, in
        the formula's order. Default: a new figure with a panel for each column of each factor,
        each ordered by its own effects.
    alpha : float
        The intervals cover ``1 - alpha``.
    max_labels : int
        With more levels than this, or than have room in `ax`, the names of levels are left out.
        Their number is always stated.
    **style
        Options of ``Axes.errorbar`` for points and lines, as ``color``, ``marker``, ``elinewidth``.

    Returns
    -------
    Figure
        That of `ax`, where it is given.

    Raises
    ------
    ValueError
        If `group` or `column` is unknown, or `alpha` is not between 0 and 1.

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> from sm_multilevel.graphics import caterpillar
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> [ax.get_title() for ax in caterpillar(res).axes]
    ['Intercept by Subject\\n3 of 18 intervals exclude zero', 'Days by Subject\\n6 of 18 intervals exclude zero']
    """
    alpha = check_alpha(alpha)
    panels = select(result, group, column)
    if ax is not None:
        fig, ax = create_mpl_ax(ax)
        labels, letters = room(ax)
        _draw_caterpillar(ax, panels[0], alpha, min(max_labels, labels), letters, style)
        return fig
    labelled = [p if len(p.levels) <= max_labels else None for p in panels]
    heights = [font_points("ytick.labelsize") * 1.35 * (len(p.levels) + 1) / 72 if p else 0.0 for p in labelled]
    longest = max((len(name) for p in labelled if p for name in names(p.levels, MAX_NAME)), default=0)
    fig, axes = grid(heights, max(0, longest - 6) * letter_inches("ytick.labelsize"))
    for one, panel in zip(axes, panels):
        _draw_caterpillar(one, panel, alpha, max_labels, MAX_NAME, style)
    tighten(fig)
    return fig


def _draw_caterpillar(ax, panel, alpha, max_labels, letters, style):
    order = np.argsort(panel.effects, kind="stable")
    m = len(order)
    shown = 0.0 if panel.is_zero else 1.0  # an axis of rounding errors would tell nothing
    effects = shown * panel.effects[order]
    reach = shown * stats.norm.ppf(1 - alpha / 2) * panel.errors[order]
    at = np.arange(m)
    apart = np.abs(effects) > reach

    row = 72 * inches(ax)[1] / m
    dense = row < DENSE
    wanted = cbook.normalize_kwargs(style, Line2D)
    for which, place in ((~apart, 0), (apart, 1)):
        if not which.any():
            continue
        color = wanted.get("color", cycle(place))
        look: dict[str, Any]
        if dense:
            # A pale band of intervals, and on it the effects as a curve.
            look = {"markersize": 1.5, "markeredgewidth": 0.0, "elinewidth": max(row, 0.3)}
            look["ecolor"] = 0.4 * np.array(to_rgb(color)) + 0.6 * np.array(to_rgb(ax.get_facecolor()))
        else:
            look = {"markersize": min(rcParams["lines.markersize"], 0.6 * row),
                    "elinewidth": min(rcParams["lines.linewidth"], 0.3 * row)}  # fmt: skip
            if place == 0:  # hollow
                look["markerfacecolor"] = ax.get_facecolor()
                look["markeredgewidth"] = max(1.0, rcParams["lines.markeredgewidth"])
        look = {"marker": "o", "linestyle": "none", "color": color, **look, **wanted}
        drawn = ax.errorbar(effects[which], at[which], xerr=reach[which], **look)
        if dense:
            for lines in drawn.lines[2]:
                lines.set_snap(False)  # snapped to pixels, the rows would make stripes
    ax.axvline(0.0, **reference(ax), zorder=2.05 if dense else 0.9)

    pad = max(0.75, 0.01 * m)
    ax.set_ylim(-pad, m - 1 + pad)
    if m <= max_labels:
        ax.set_yticks(at)
        labels = names(panel.levels, letters)
        ax.set_yticklabels([labels[i] for i in order])
    else:
        ax.set_yticks([])
    note = f"{apart.sum():,} of {m:,} intervals exclude zero"
    ax.set_title(f"{panel.title}\n{'variance estimated as zero' if panel.is_zero else note}")
    ax.set_xlabel(f"predicted random effect ({100 * (1 - alpha):.10g}% interval)")
    ax.set_ylabel(f"{plain(panel.group)} ({m:,} levels)")
