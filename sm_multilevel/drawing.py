"""Sizes, colours and lines of plots, from the settings that the user has now."""

from __future__ import annotations

from typing import Any

from matplotlib import rcParams
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties

__all__ = ["cycle", "font_points", "inches", "ink", "letter_inches", "plain", "reference", "thin", "tighten"]


def tighten(fig):
    """Tight layout, unless the user's settings ask for another one."""
    if not fig.get_constrained_layout():
        fig.tight_layout()


def inches(ax) -> tuple[float, float]:
    """Width and height."""
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def font_points(setting) -> float:
    """Points of a font size of the user's settings."""
    return FontProperties(size=rcParams[setting]).get_size_in_points()


def letter_inches(setting) -> float:
    """Inches that a letter of a text of the user's settings is wide."""
    return 0.6 * font_points(setting) / 72


def plain(text) -> str:
    """Text whose dollar signs are no formulas."""
    return str(text).replace("$", r"\$")


def cycle(place):
    """A colour of the cycle that is set now, whatever is set when the figure is drawn."""
    return to_rgb(f"C{place}")


def ink(ax):
    """Colour of the Axes' own text: seen on its background."""
    return ax.xaxis.label.get_color()


def thin() -> float:
    """Width of lines that help to read the others."""
    return 0.6 * rcParams["lines.linewidth"]


def reference(ax) -> dict[str, Any]:
    """How the line is drawn that data are compared with."""
    return {"color": ink(ax), "linestyle": "--", "linewidth": thin()}
