"""Plots of a fit: ``ax=None`` in, Figure out, as in statsmodels.graphics.

A plot is a function with its entry in `KINDS`. Colours are the first two of the user's colour cycle,
sizes and fonts the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import cbook, rcParams
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from scipy import stats
from statsmodels.graphics.utils import create_mpl_ax, create_mpl_fig
from statsmodels.nonparametric.smoothers_lowess import lowess

from sm_multilevel.formula.frame import suggest
from sm_multilevel.postestimation.ranef import by_group

__all__ = ["KINDS", "caterpillar", "fitted", "plot", "qq", "residuals"]

# Up to here every row is drawn; beyond it rows are counted in hexagons.
MAX_POINTS = 10_000
# A level's name is cut to this many characters.
MAX_NAME = 28
# A Q-Q plot of more values than this leaves out some from the middle.
MAX_QUANTILES = 2_000
PANELS_A_ROW = 3


def plot(result, kind="caterpillar", **kwargs):
    """Plot of a fit by its name.

    Parameters
    ----------
    result : MixedLMResults
    kind : {"caterpillar", "qq", "residuals", "fitted"}
        A key of `KINDS`.
    **kwargs
        Options of the function of that name in this module.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If `kind` is unknown.
    """
    if kind not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise ValueError(f"kind={kind!r} is not a plot.{suggest(kind, KINDS)} There are {known}.")
    return KINDS[kind](result, **kwargs)


def caterpillar(result, group=None, column=None, ax=None, alpha=0.05, max_labels=40, **style):
    """Predicted random effects with their intervals, ordered by size.

    The intervals are normal ones from the standard errors of ``result.ranef(conditional_se=True)``,
    which include the uncertainty of the fixed effects. Intervals that exclude zero have the second
    colour of the cycle and filled markers. They are for one level at a time: two of them that
    overlap are not a test of a difference.

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
    ['Intercept by Subject', 'Days by Subject']
    """
    _check_alpha(alpha)
    panels = _select(result, group, column)
    if ax is not None:
        fig, ax = create_mpl_ax(ax)
        _draw_caterpillar(ax, panels[0], alpha, max_labels, style)
        return fig
    heights = [_height_of_labels(len(p.levels)) if len(p.levels) <= max_labels else 0.0 for p in panels]
    fig, axes = _grid(panels, heights, _width_of_names(panels, max_labels))
    for one, panel in zip(axes, panels):
        _draw_caterpillar(one, panel, alpha, max_labels, style)
    _tighten(fig)
    return fig


def qq(result, which="ranef", group=None, column=None, ax=None, alpha=0.05, **style):
    """Normal quantile-quantile plot of the predicted random effects or of the residuals.

    Predicted effects are divided by their own standard deviations, sqrt(var(b) - se^2) with the
    standard errors of ``result.ranef(conditional_se=True)``, so that levels of different sizes are
    comparable (Lange and Ryan 1989, Annals of Statistics 17, 624-642). Levels on which the data
    say nothing are left out. Residuals are conditional ones, with precision weights multiplied by
    their square roots, and divided by their standard deviation. The band is pointwise, for as many independent
    standard normal values.

    Parameters
    ----------
    result : MixedLMResults
    which : {"ranef", "resid"}
    group, column, ax
        As in `caterpillar`, for ``which="ranef"``.
    alpha : float
        The band covers ``1 - alpha``.
    **style
        Options of ``Axes.plot`` for the points.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If `which`, `group` or `column` is unknown, or if `group` or `column` is given with residuals.
    """
    _check_alpha(alpha)
    if which == "ranef":
        panels = _select(result, group, column)
        samples = [
            (p.standardized(), f"{p.title}{p.note}", "standardised random effect") for p in panels
        ]
    elif which == "resid":
        if group is not None or column is not None:
            raise ValueError("group= and column= choose random effects; which='resid' has none of them.")
        resid = _residuals(result)
        spread = np.std(resid)
        samples = [(resid / spread if spread > 0 else resid, "Residuals", "standardised residual")]
    else:
        raise ValueError(f"which={which!r} is neither 'ranef' nor 'resid'.")
    if ax is not None:
        fig, ax = create_mpl_ax(ax)
        _draw_qq(ax, *samples[0], alpha, style)
        return fig
    fig, axes = _grid(samples, [0.0] * len(samples), 0.0)
    for one, sample in zip(axes, samples):
        _draw_qq(one, *sample, alpha, style)
    _tighten(fig)
    return fig


def residuals(result, ax=None):
    """Residuals against conditional fitted values, with a smoother.

    Up to 10,000 rows are drawn as points with their lowess curve; more are counted in hexagons,
    with the lowess curve of their means in 200 classes of fitted values. Rows with precision weights have
    their residuals multiplied by the weights' square roots.

    Parameters
    ----------
    result : MixedLMResults
    ax : Axes, optional

    Returns
    -------
    Figure
    """
    y = _residuals(result)
    x = np.asarray(result.fittedvalues, dtype=float)
    fig, ours = create_mpl_ax(ax)
    _draw_cloud(ours, x, y)
    ours.axhline(0.0, color=_ink(ours), linestyle="--", linewidth=_thin())
    smooth = _smooth(x, y)
    if smooth is not None:
        ours.plot(smooth[:, 0], smooth[:, 1], color="C1", label="lowess")
        ours.legend(loc="best" if len(x) <= MAX_POINTS else "upper right")
    weighted = "weighted residual" if _weights(result) is not None else "residual"
    ours.set_xlabel(f"fitted value of {_plain(result.model.endog_names)}, random effects included")
    ours.set_ylabel(weighted)
    ours.set_title(f"Residuals against fitted values ({len(x):,} rows)")
    if ax is None:
        _tighten(fig)
    return fig


def fitted(result, ax=None):
    """Response against conditional fitted values, with the line of equality.

    Parameters
    ----------
    result : MixedLMResults
    ax : Axes, optional

    Returns
    -------
    Figure
    """
    _check_rows(result)
    x = np.asarray(result.fittedvalues, dtype=float)
    y = np.asarray(result.model.endog, dtype=float)
    fig, ours = create_mpl_ax(ax)
    _draw_cloud(ours, x, y)
    ours.axline((x.mean(), x.mean()), slope=1.0, color=_ink(ours), linestyle="--", linewidth=_thin(),
                label="equal")  # fmt: skip
    ours.legend(loc="upper left")
    name = _plain(result.model.endog_names)
    ours.set_xlabel(f"fitted value of {name}, random effects included")
    ours.set_ylabel(f"observed {name}")
    ours.set_title(f"Response against fitted values ({len(x):,} rows)")
    if ax is None:
        _tighten(fig)
    return fig


KINDS: dict[str, Callable] = {
    "caterpillar": caterpillar,
    "qq": qq,
    "residuals": residuals,
    "fitted": fitted,
}


# -- what is drawn ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Panel:
    """One column of one grouping factor."""

    group: str
    column: str
    levels: Sequence[Any]
    effects: np.ndarray
    errors: np.ndarray
    variance: float

    @property
    def title(self) -> str:
        return f"{_plain(self.column)} by {_plain(self.group)}"

    @property
    def note(self) -> str:
        return "" if self.variance > 0 else "\n(variance estimated as zero)"

    def standardized(self) -> np.ndarray:
        """Effects over their own standard deviations; those that are known to be zero left out."""
        own = self.variance - self.errors**2
        told = own > 1e-10 * self.variance
        return self.effects[told] / np.sqrt(own[told]) if told.any() else self.effects


def _select(result, group, column) -> list[_Panel]:
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
                panels.append(
                    _Panel(name, label, term.levels, term.effects[:, j], errors[:, j], float(term.cov[j, j]))
                )
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


def _check_alpha(alpha):
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha!r} must lie between 0 and 1: 0.05 gives 95% intervals.")


def _check_rows(result):
    if result.model.endog is None:
        raise ValueError("This plot needs the rows of the fit, and remove_data() dropped them.")


def _weights(result):
    return getattr(result.model, "var_weights", None)


def _residuals(result) -> np.ndarray:
    _check_rows(result)
    resid = np.asarray(result.resid, dtype=float)
    weights = _weights(result)
    return resid if weights is None else resid * np.sqrt(np.asarray(weights, dtype=float))


def _smooth(x, y):
    """Lowess curve of y on x as an array of two columns; None where x has too few values."""
    if len(x) > MAX_POINTS:
        cuts = np.unique(np.quantile(x, np.linspace(0, 1, 201)[1:-1]))
        cell = np.searchsorted(cuts, x)
        count = np.bincount(cell)
        kept = count > 0
        x, y = (np.bincount(cell, v)[kept] / count[kept] for v in (x, y))
    if len(np.unique(x)) < 5:
        return None
    return lowess(y, x, delta=0.01 * np.ptp(x))


# -- drawing ---------------------------------------------------------------------------------


def _draw_caterpillar(ax, panel, alpha, max_labels, style):
    order = np.argsort(panel.effects, kind="stable")
    m = len(order)
    effects = panel.effects[order]
    reach = stats.norm.ppf(1 - alpha / 2) * panel.errors[order]
    at = np.arange(m)
    apart = np.abs(effects) > reach

    points = _axes_height(ax) * 72 / m
    dense = points < 3
    if dense:
        # The points are a curve, and the intervals a band behind it.
        look = {"marker": "o", "markersize": 1.5, "markeredgewidth": 0.0, "elinewidth": max(0.3, 0.6 * points)}
    else:
        look = {
            "marker": "o",
            "markersize": min(rcParams["lines.markersize"], 0.6 * points),
            "elinewidth": min(rcParams["lines.linewidth"], 0.3 * points),
        }
    look.update(cbook.normalize_kwargs(style, Line2D))
    for which, color in ((~apart, "C0"), (apart, "C1")):
        if not which.any():
            continue
        mine = {"color": color, **look}
        if not dense and color == "C0":
            mine.setdefault("markerfacecolor", ax.get_facecolor())
        drawn = ax.errorbar(effects[which], at[which], xerr=reach[which], linestyle="none", **mine)
        if dense:
            for lines in drawn.lines[2]:
                lines.set_alpha(0.5)
        if color == "C1":
            drawn.set_label(f"excludes zero ({which.sum():,})")
            # An ordered plot has its empty corner beside the ends that exclude zero.
            above = (effects[which] > 0).sum() >= which.sum() / 2
            ax.legend(handles=[drawn], loc="upper left" if above else "lower right")
    ax.axvline(0.0, color=_ink(ax), linestyle="--", linewidth=_thin(), zorder=0.9)

    pad = max(0.75, 0.01 * m)
    ax.set_ylim(-pad, m - 1 + pad)
    if m <= max_labels and m * _label_size() <= _axes_height(ax) * 72:
        ax.set_yticks(at)
        ax.set_yticklabels([_name(panel.levels[i]) for i in order])
    else:
        ax.set_yticks([])
    ax.set_xlabel(f"predicted random effect ({100 * (1 - alpha):.10g}% interval)")
    ax.set_ylabel(f"{_plain(panel.group)} ({m:,} levels)")
    ax.set_title(f"{panel.title}{panel.note}")


def _draw_qq(ax, values, title, name, alpha, style):
    n = len(values)
    values = np.sort(values)
    rank = _ranks(n)
    x = stats.norm.ppf((rank - 0.5) / n)
    lower, upper = (
        stats.norm.ppf(stats.beta.ppf(tail, rank, n + 1 - rank)) for tail in (alpha / 2, 1 - alpha / 2)
    )
    ax.fill_between(x, lower, upper, color=_ink(ax), alpha=0.15, linewidth=0,
                    label=f"{100 * (1 - alpha):.10g}% band")  # fmt: skip
    ax.plot(x, x, color=_ink(ax), linestyle="--", linewidth=_thin())
    size = rcParams["lines.markersize"] * min(1.0, max(0.4, (100 / n) ** 0.25))
    look = {"color": "C0", "marker": "o", "markersize": size, "linestyle": "none"}
    look.update(cbook.normalize_kwargs(style, Line2D))
    ax.plot(x, values[rank - 1], **look)
    ax.legend(loc="upper left")
    ax.set_xlabel("standard normal quantile")
    ax.set_ylabel(name)
    ax.set_title(f"{title} (n = {n:,})" if "\n" not in title else title)


def _ranks(n) -> np.ndarray:
    """All ranks, or of many those that are evenly spaced on the normal scale, and the extremes."""
    if n <= MAX_QUANTILES:
        return np.arange(1, n + 1)
    end = stats.norm.ppf(0.5 / n)
    even = np.rint(stats.norm.cdf(np.linspace(end, -end, MAX_QUANTILES)) * n + 0.5).astype(int)
    tail = np.arange(1, 101)
    return np.unique(np.clip(np.concatenate([tail, even, n + 1 - tail]), 1, n))


def _draw_cloud(ax, x, y):
    """Points, or of many rows their counts in hexagons."""
    n = len(x)
    if n > MAX_POINTS:
        cells = ax.hexbin(x, y, gridsize=60, bins="log", mincnt=1, linewidths=0.2)
        ax.figure.colorbar(cells, ax=ax, label="rows in a hexagon")
        return
    ax.plot(x, y, color="C0", marker="o", linestyle="none", markeredgewidth=0,
            markersize=rcParams["lines.markersize"] * min(1.0, max(0.5, (200 / n) ** 0.25)),
            alpha=min(0.8, max(0.25, (500 / n) ** 0.5)))  # fmt: skip


# -- sizes, colours, names -------------------------------------------------------------------


def _grid(panels, heights, names):
    """A new figure with an Axes for each panel, in rows of three.

    `heights` are the inches that panels need, 0 for the usual; `names` the inches that each
    panel's names of levels take in width.
    """
    width, height = rcParams["figure.figsize"]
    columns = min(len(panels), PANELS_A_ROW)
    rows = [heights[i : i + columns] for i in range(0, len(panels), columns)]
    body = [max([0.75 * height, *row]) for row in rows]
    share = {1: 1.0, 2: 0.75}.get(columns, 0.65)
    size = (columns * (share * width + names), sum(body) + 0.25 * height * len(rows))
    fig = create_mpl_fig(figsize=size)
    spec = fig.add_gridspec(len(rows), columns, height_ratios=body)
    return fig, [fig.add_subplot(spec[divmod(i, columns)]) for i in range(len(panels))]


def _tighten(fig):
    """Tight layout, unless the user's settings ask for another one."""
    if not fig.get_constrained_layout():
        fig.tight_layout()


def _axes_height(ax) -> float:
    """Inches."""
    return ax.get_window_extent().height / ax.figure.dpi


def _label_size() -> float:
    """Size of the tick labels in points."""
    return FontProperties(size=rcParams["ytick.labelsize"]).get_size_in_points()


def _height_of_labels(n) -> float:
    return 1.35 * _label_size() * (n + 1) / 72


def _width_of_names(panels, max_labels) -> float:
    """Inches that names of levels take beyond the few characters that have room anyway."""
    lengths = [len(_name(level)) for p in panels if len(p.levels) <= max_labels for level in p.levels]
    return max(0, max(lengths, default=0) - 6) * 0.6 * _label_size() / 72


def _name(level) -> str:
    """Name of a level on one line, cut in its middle if long."""
    text = " ".join(str(level).split())
    if len(text) > MAX_NAME:
        half = (MAX_NAME - 1) // 2
        text = f"{text[: MAX_NAME - 1 - half]}…{text[-half:]}"
    return _plain(text)


def _plain(text) -> str:
    """Text whose dollar signs are no formulas."""
    return str(text).replace("$", r"\$")


def _ink(ax):
    """Colour of the Axes' own text: seen on any background."""
    return ax.xaxis.label.get_color()


def _thin() -> float:
    return 0.6 * rcParams["lines.linewidth"]
