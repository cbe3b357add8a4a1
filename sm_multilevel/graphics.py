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
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from scipy import stats
from statsmodels.graphics.utils import create_mpl_ax, create_mpl_fig
from statsmodels.nonparametric.smoothers_lowess import lowess

from sm_multilevel.postestimation.components.ranef import by_group
from sm_multilevel.wording import suggest

__all__ = ["KINDS", "caterpillar", "fitted", "plot", "qq", "residuals"]

# Up to here every row is drawn; beyond it rows are counted in hexagons.
MAX_POINTS = 10_000
# A level's name is cut to this many characters, or to what has room.
MAX_NAME = 28
# Intervals closer than this many points are drawn as a band behind the curve of the effects.
DENSE = 3.0
# A Q-Q plot of more values than this leaves out some from the middle.
MAX_QUANTILES = 2_000
_QUANTITY = {True: "standardised residual", False: "quantile residual"}
PANELS_A_ROW = 3


def plot(result: Any, kind: str = "caterpillar", **kwargs: Any) -> Figure:
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

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.graphics import plot
    >>> len(plot(res, kind="caterpillar").axes)
    2
    """
    if kind not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise ValueError(f"kind={kind!r} is not a plot.{suggest(kind, KINDS)} There are {known}.")
    return KINDS[kind](result, **kwargs)


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
    _check_alpha(alpha)
    panels = _select(result, group, column)
    if ax is not None:
        fig, ax = create_mpl_ax(ax)
        labels, letters = _room(ax)
        _draw_caterpillar(ax, panels[0], alpha, min(max_labels, labels), letters, style)
        return fig
    labelled = [p if len(p.levels) <= max_labels else None for p in panels]
    heights = [_size("ytick.labelsize") * 1.35 * (len(p.levels) + 1) / 72 if p else 0.0 for p in labelled]
    longest = max((len(name) for p in labelled if p for name in _names(p.levels, MAX_NAME)), default=0)
    fig, axes = _grid(heights, max(0, longest - 6) * _letter())
    for one, panel in zip(axes, panels):
        _draw_caterpillar(one, panel, alpha, max_labels, MAX_NAME, style)
    _tighten(fig)
    return fig


def qq(result: Any, which: str = "ranef", group: str | None = None, column: str | None = None,
       ax: Axes | None = None, alpha: float = 0.05, **style: Any) -> Figure:  # fmt: skip
    """Normal quantile-quantile plot of the predicted random effects or of the residuals.

    Predicted effects are divided by their own standard deviations, sqrt(var(b) - se^2) with the
    standard errors of ``result.ranef(conditional_se=True)``, so that levels of different sizes are
    comparable (Lange and Ryan 1989, Annals of Statistics 17, 624-642). Levels on which the data
    say nothing are left out. Residuals are conditional ones, multiplied by the square roots of
    precision weights and divided by their standard deviation; of generalised models quantile
    residuals as they are. The band is pointwise, for as many independent standard normal values; of
    more than 2,000 values, some in the middle are not drawn.

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

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.graphics import qq
    >>> [ax.get_xlabel() for ax in qq(res, which="ranef").axes]
    ['standard normal quantile', 'standard normal quantile']
    """
    _check_alpha(alpha)
    if which == "ranef":
        panels = _select(result, group, column)
        samples = [(p.standardized(), p.title, "standardised random effect") for p in panels]
    elif which == "resid":
        if group is not None or column is not None:
            raise ValueError("group= and column= choose random effects; which='resid' has none of them.")
        resid = _residuals(result)
        spread = np.std(resid) if result.family is None else 1.0
        samples = [(resid / spread if spread > 0 else resid, "Residuals", _QUANTITY[result.family is None])]
    else:
        raise ValueError(f"which={which!r} is neither 'ranef' nor 'resid'.")
    if ax is not None:
        fig, ax = create_mpl_ax(ax)
        _draw_qq(ax, *samples[0], alpha, style)
        return fig
    fig, axes = _grid([0.0] * len(samples))
    for one, sample in zip(axes, samples):
        _draw_qq(one, *sample, alpha, style)
    _tighten(fig)
    return fig


def residuals(result: Any, ax: Axes | None = None) -> Figure:
    """Residuals against conditional fitted values, with a smoother.

    Up to 10,000 rows are drawn as points with their lowess curve; more are counted in hexagons,
    with the lowess curve of their means in 200 classes of fitted values. Rows with precision weights have
    their residuals multiplied by the weights' square roots. Of generalised models they are quantile
    residuals, standard normal if the model holds, against the linear predictor; where the response is
    discrete they are randomised, with a fixed seed.

    Parameters
    ----------
    result : MixedLMResults
    ax : Axes, optional

    Returns
    -------
    Figure

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.graphics import residuals
    >>> residuals(res).axes[0].get_ylabel()
    'residual'
    """
    y = _residuals(result)
    x = np.asarray(result.fittedvalues if result.family is None else result.predict(type="linear"), dtype=float)
    fig, ours = create_mpl_ax(ax)
    _draw_cloud(ours, x, y)
    ours.axhline(0.0, **_reference(ours))
    smooth = _smooth(x, y)
    if smooth is not None:
        (curve,) = ours.plot(smooth[:, 0], smooth[:, 1], color=_cycle(1), label="lowess")
        if len(x) > MAX_POINTS:
            # A rim in the background's colour: hexagons may have the curve's own.
            rim = withStroke(linewidth=curve.get_linewidth() + 2, foreground=ours.get_facecolor())
            curve.set_path_effects([rim])
    if result.family is not None:
        ours.set_xlabel(f"linear predictor of {_plain(result.model.endog_names)} (conditional)")
        ours.set_ylabel("quantile residual")
    else:
        ours.set_xlabel(f"fitted {_plain(result.model.endog_names)} (conditional)")
        ours.set_ylabel("residual" if _weights(result) is None else "weighted residual")
    ours.set_title(f"Residuals{'' if smooth is None else ' and lowess'} (n = {len(x):,})")
    if ax is None:
        _tighten(fig)
    return fig


def fitted(result: Any, ax: Axes | None = None) -> Figure:
    """Response against conditional fitted values, with the line of equality.

    Parameters
    ----------
    result : MixedLMResults
    ax : Axes, optional

    Returns
    -------
    Figure

    Examples
    --------
    >>> import sm_multilevel.formula.api as smf
    >>> from sm_multilevel.datasets import sleepstudy
    >>> df = sleepstudy.load_pandas().data
    >>> res = smf.mixedlm("Reaction ~ Days + (Days | Subject)", df).fit()
    >>> from sm_multilevel.graphics import fitted
    >>> fitted(res).axes[0].get_ylabel()
    'observed Reaction'
    """
    _check_rows(result)
    x = np.asarray(result.fittedvalues, dtype=float)
    y = np.asarray(result.model.endog, dtype=float)
    fig, ours = create_mpl_ax(ax)
    _draw_cloud(ours, x, y)
    ours.axline((x.mean(), x.mean()), slope=1.0, **_reference(ours))
    name = _plain(result.model.endog_names)
    ours.set_xlabel(f"fitted {name} (conditional)")
    ours.set_ylabel(f"observed {name}")
    ours.set_title(f"Observed and fitted (n = {len(x):,})")
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
                panels.append(_Panel(name, label, term.levels, term.effects[:, j], errors[:, j], float(term.cov[j, j])))
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
        raise ValueError(f"alpha={alpha!r} must lie between 0 and 1, as 0.05 for intervals of 95 %.")


def _check_rows(result):
    if result.model.endog is None:
        raise ValueError("This plot needs the rows of the fit, and remove_data() dropped them.")


def _weights(result):
    return getattr(result.model, "var_weights", None)


def _residuals(result) -> np.ndarray:
    _check_rows(result)
    if result.family is not None:
        return np.asarray(result.residuals("quantile", seed=0), dtype=float)
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


def _draw_caterpillar(ax, panel, alpha, max_labels, letters, style):
    order = np.argsort(panel.effects, kind="stable")
    m = len(order)
    shown = 0.0 if panel.is_zero else 1.0  # an axis of rounding errors would tell nothing
    effects = shown * panel.effects[order]
    reach = shown * stats.norm.ppf(1 - alpha / 2) * panel.errors[order]
    at = np.arange(m)
    apart = np.abs(effects) > reach

    row = 72 * _inches(ax)[1] / m
    dense = row < DENSE
    wanted = cbook.normalize_kwargs(style, Line2D)
    for which, place in ((~apart, 0), (apart, 1)):
        if not which.any():
            continue
        color = wanted.get("color", _cycle(place))
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
    ax.axvline(0.0, **_reference(ax), zorder=2.05 if dense else 0.9)

    pad = max(0.75, 0.01 * m)
    ax.set_ylim(-pad, m - 1 + pad)
    if m <= max_labels:
        ax.set_yticks(at)
        names = _names(panel.levels, letters)
        ax.set_yticklabels([names[i] for i in order])
    else:
        ax.set_yticks([])
    note = f"{apart.sum():,} of {m:,} intervals exclude zero"
    ax.set_title(f"{panel.title}\n{'variance estimated as zero' if panel.is_zero else note}")
    ax.set_xlabel(f"predicted random effect ({100 * (1 - alpha):.10g}% interval)")
    ax.set_ylabel(f"{_plain(panel.group)} ({m:,} levels)")


def _draw_qq(ax, values, title, name, alpha, style):
    n = len(values)
    values = np.sort(values)
    rank = _ranks(n)
    x = stats.norm.ppf((rank - 0.5) / n)
    lower, upper = (stats.norm.ppf(stats.beta.ppf(tail, rank, n + 1 - rank)) for tail in (alpha / 2, 1 - alpha / 2))
    ax.fill_between(x, lower, upper, color=_ink(ax), alpha=0.15, linewidth=0,
                    label=f"{100 * (1 - alpha):.10g}% band")  # fmt: skip
    ax.plot(x, x, **_reference(ax))
    size = rcParams["lines.markersize"] * min(1.0, max(0.4, (100 / n) ** 0.25))
    look = {"color": _cycle(0), "marker": "o", "markersize": size, "linestyle": "none"}
    look.update(cbook.normalize_kwargs(style, Line2D))
    ax.plot(x, values[rank - 1], **look)
    ax.legend(loc="upper left")
    ax.set_xlabel("standard normal quantile")
    ax.set_ylabel(name)
    ax.set_title(f"{title} (n = {n:,})" if values.any() else f"{title}\nvariance estimated as zero")


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
    if np.ptp(x) <= 1e-6 * np.ptp(y):
        # All fitted values are the same but for rounding.
        ax.set_xlim(x.mean() - np.ptp(y) / 2, x.mean() + np.ptp(y) / 2)
    if n > MAX_POINTS:
        cells = ax.hexbin(x, y, gridsize=60, bins="log", mincnt=1, linewidths=0.2)
        ax.figure.colorbar(cells, ax=ax, label="rows in a hexagon")
        return
    ax.plot(x, y, color=_cycle(0), marker="o", linestyle="none", markeredgewidth=0,
            markersize=rcParams["lines.markersize"] * min(1.0, max(0.5, (200 / n) ** 0.25)),
            alpha=min(0.8, max(0.25, (500 / n) ** 0.5)))  # fmt: skip


# -- sizes, colours, names -------------------------------------------------------------------


def _grid(heights, names=0.0):
    """A new figure with an Axes for each panel, in rows of three.

    `heights` are the inches that panels need, 0 for the usual; `names` the inches that names of
    levels take beside a panel.
    """
    width, height = rcParams["figure.figsize"]
    columns = min(len(heights), PANELS_A_ROW)
    rows = [heights[i : i + columns] for i in range(0, len(heights), columns)]
    body = [max([0.75 * height, *row]) for row in rows]
    text = 0.55 * max(_size("axes.titlesize"), _size("axes.labelsize")) * 38 / 72
    wide = max({1: 1.0, 2: 0.75}.get(columns, 0.65) * width, text + 1)
    size = (columns * (wide + names), sum(body) + 0.25 * height * len(rows))
    fig = create_mpl_fig(figsize=size)
    spec = fig.add_gridspec(len(rows), columns, height_ratios=body)
    return fig, [fig.add_subplot(spec[divmod(i, columns)]) for i in range(len(heights))]


def _tighten(fig):
    """Tight layout, unless the user's settings ask for another one."""
    if not fig.get_constrained_layout():
        fig.tight_layout()


def _inches(ax) -> tuple[float, float]:
    """Width and height."""
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def _size(setting) -> float:
    """Points of a font size of the user's settings."""
    return FontProperties(size=rcParams[setting]).get_size_in_points()


def _letter() -> float:
    """Inches that a letter of the labels of ticks is wide."""
    return 0.6 * _size("ytick.labelsize") / 72


def _room(ax) -> tuple[int, int]:
    """How many names of levels fit beside a given Axes, and of how many letters."""
    width, height = _inches(ax)
    return int(72 * height / _size("ytick.labelsize")), int(np.clip(width / 3 / _letter(), 8, MAX_NAME))


def _names(levels, letters) -> list[str]:
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
    return [_plain(name) for name in cut]


def _plain(text) -> str:
    """Text whose dollar signs are no formulas."""
    return str(text).replace("$", r"\$")


def _cycle(place):
    """A colour of the cycle that is set now, whatever is set when the figure is drawn."""
    return to_rgb(f"C{place}")


def _ink(ax):
    """Colour of the Axes' own text: seen on its background."""
    return ax.xaxis.label.get_color()


def _reference(ax) -> dict[str, Any]:
    """How the line is drawn that data are compared with."""
    return {"color": _ink(ax), "linestyle": "--", "linewidth": 0.6 * rcParams["lines.linewidth"]}
