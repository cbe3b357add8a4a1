"""The zeta plot of profile likelihoods: ``ax=None`` in, Figure out."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.lines import Line2D
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm
from statsmodels.graphics.utils import create_mpl_ax, create_mpl_fig

from sm_multilevel.checks import check_alpha
from sm_multilevel.drawing import cycle, font_points, ink, letter_inches, plain, thin, tighten

__all__ = ["zeta_plot"]

_COLUMNS = 3  # panels a row


def zeta_plot(profiles: Any, which=None, ax=None, alpha=(0.5, 0.2, 0.1, 0.05, 0.01)):
    """Zeta against a parameter's values; see `ProfileResults.plot`.

    Parameters
    ----------
    profiles : ProfileResults
    which : str or sequence of str, optional
    ax : Axes, optional
    alpha : sequence of float

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a name was not profiled, or `ax` is given for more than one parameter.
    """
    levels = [check_alpha(a) for a in (alpha if np.ndim(alpha) else [alpha])]
    names = profiles.select(which)
    if ax is not None:
        if len(names) != 1:
            raise ValueError(f"ax= holds one parameter, but which= leaves {len(names)}: {', '.join(map(repr, names))}.")
        fig, ours = create_mpl_ax(ax)
        _draw(ours, profiles, names[0], levels)
        _explain(ours, levels)
        return fig
    columns = min(len(names), _COLUMNS)
    rows = -(-len(names) // columns)
    width, height = rcParams["figure.figsize"]
    share = {1: 1.0, 2: 0.7}.get(columns, 0.55)
    text = max(max(map(len, names)) * letter_inches("axes.titlesize"), 28 * letter_inches("legend.fontsize"))
    wide, high = (
        max(share * width, text + 0.6),
        max(0.65 * height, len(_WORDS) * letter_inches("axes.labelsize") + 0.8),
    )
    fig = create_mpl_fig(figsize=(wide * columns, high * rows))
    for i, name in enumerate(names):
        panel = fig.add_subplot(rows, columns, i + 1)
        _draw(panel, profiles, name, levels)
        if i == 0:
            _explain(panel, levels)
        elif i % columns == 0:
            panel.set_ylabel(_LABEL)
    tighten(fig)
    return fig


_WORDS = "signed root of the deviance"
_LABEL = rf"$\zeta$, {_WORDS}"


def _draw(ax, profiles, name, levels):
    """One panel: the profile, the straight line that it would be, and intervals."""
    rows = profiles.frame[profiles.frame["parameter"] == name]
    dark, color = ink(ax), cycle(0)
    ax.set_title(plain(name))
    reach = 1.1 * norm.ppf(1.0 - min(profiles.alpha, min(levels)) / 2.0)
    ax.set_ylim(-reach, reach)
    narrow = thin()
    ax.axhline(0.0, color=dark, linewidth=narrow, zorder=0.9)
    if len(rows) < 2:
        ax.text(0.5, 0.75, "no profile", ha="center", transform=ax.transAxes)
        return
    value, zeta = _increasing(rows["value"].to_numpy(), rows["zeta"].to_numpy())
    curve = PchipInterpolator(zeta, value)
    fine = np.linspace(max(zeta[0], -reach), min(zeta[-1], reach), 400)
    estimate = float(profiles.estimate[name])
    both = zeta[0] < 0 < zeta[-1]
    ax.plot(curve(fine), fine, color=color, zorder=2.2)
    left, right = float(curve(fine[0])), float(curve(fine[-1]))
    if both:  # the tangent at the estimate
        ax.plot(estimate + fine * float(curve(0.0, 1)), fine, color=dark, linestyle="--", linewidth=narrow, zorder=2.0)
    for a in levels:
        cut = norm.ppf(1.0 - a / 2.0)
        for side in (-1, 1):
            if zeta[0] <= side * cut <= zeta[-1]:
                ax.vlines(float(curve(side * cut)), 0.0, side * cut, color=cycle(1), linewidth=narrow, zorder=2.1)
    dot = {"marker": "o", "linestyle": "none", "color": color, "zorder": 2.3, "clip_on": False}
    ax.plot(estimate, 0.0, **dot)
    for end in (0, -1):  # where values end before a cutoff
        if 0 < abs(zeta[end]) < norm.ppf(1.0 - profiles.alpha / 2.0) - 1e-6:
            ax.plot(value[end], zeta[end], markerfacecolor=ax.get_facecolor(), **dot)
    pad = 0.06 * (right - left)
    ax.set_xlim(left - pad, right + pad)


def _explain(ax, levels):
    """Label and legend; the upper left corner is empty, since zeta increases."""
    ax.set_ylabel(_LABEL)
    dark, narrow = ink(ax), thin()
    percent = ", ".join(f"{100 * (1 - a):.10g}" for a in sorted(levels, reverse=True))
    words = [
        Line2D([], [], color=dark, linestyle="--", linewidth=narrow, label="if the deviance were quadratic"),
        Line2D([], [], color=cycle(1), linewidth=narrow, label=f"intervals of {percent} %"),
    ]
    ax.legend(
        handles=words, loc="upper left", fontsize=0.75 * font_points("legend.fontsize"), handlelength=1.5, frameon=False
    )


def _increasing(value, zeta):
    """Points whose zeta increases, as a curve of values needs."""
    keep = [0]
    for i in range(1, len(zeta)):
        if zeta[i] > zeta[keep[-1]] + 1e-6:
            keep.append(i)
    return value[keep], zeta[keep]
