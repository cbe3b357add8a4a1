"""Plots of the rows: residuals and observed values against fitted ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from statsmodels.graphics.utils import create_mpl_ax
from statsmodels.nonparametric.smoothers_lowess import lowess

from sm_multilevel.drawing import cycle, plain, reference, tighten

__all__ = ["drawn_residuals", "fitted", "residuals"]

# Up to here every row is drawn; beyond it rows are counted in hexagons.
MAX_POINTS = 10_000


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
    y = drawn_residuals(result)
    x = np.asarray(result.fittedvalues if result.family is None else result.predict(type="linear"), dtype=float)
    fig, ours = create_mpl_ax(ax)
    _draw_cloud(ours, x, y)
    ours.axhline(0.0, **reference(ours))
    smooth = _smooth(x, y)
    if smooth is not None:
        (curve,) = ours.plot(smooth[:, 0], smooth[:, 1], color=cycle(1), label="lowess")
        if len(x) > MAX_POINTS:
            # A rim in the background's colour: hexagons may have the curve's own.
            rim = withStroke(linewidth=curve.get_linewidth() + 2, foreground=ours.get_facecolor())
            curve.set_path_effects([rim])
    if result.family is not None:
        ours.set_xlabel(f"linear predictor of {plain(result.model.endog_names)} (conditional)")
        ours.set_ylabel("quantile residual")
    else:
        ours.set_xlabel(f"fitted {plain(result.model.endog_names)} (conditional)")
        ours.set_ylabel("residual" if precision_weights(result) is None else "weighted residual")
    ours.set_title(f"Residuals{'' if smooth is None else ' and lowess'} (n = {len(x):,})")
    if ax is None:
        tighten(fig)
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
    check_rows(result)
    x = np.asarray(result.fittedvalues, dtype=float)
    y = np.asarray(result.model.endog, dtype=float)
    fig, ours = create_mpl_ax(ax)
    _draw_cloud(ours, x, y)
    ours.axline((x.mean(), x.mean()), slope=1.0, **reference(ours))
    name = plain(result.model.endog_names)
    ours.set_xlabel(f"fitted {name} (conditional)")
    ours.set_ylabel(f"observed {name}")
    ours.set_title(f"Observed and fitted (n = {len(x):,})")
    if ax is None:
        tighten(fig)
    return fig


def check_rows(result):
    if result.model.endog is None:
        raise ValueError("This plot needs the rows of the fit, and remove_data() dropped them.")


def precision_weights(result):
    return getattr(result.model, "var_weights", None)


def drawn_residuals(result) -> np.ndarray:
    check_rows(result)
    if result.family is not None:
        return np.asarray(result.residuals("quantile", seed=0), dtype=float)
    resid = np.asarray(result.resid, dtype=float)
    weights = precision_weights(result)
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
    ax.plot(x, y, color=cycle(0), marker="o", linestyle="none", markeredgewidth=0,
            markersize=rcParams["lines.markersize"] * min(1.0, max(0.5, (200 / n) ** 0.25)),
            alpha=min(0.8, max(0.25, (500 / n) ** 0.5)))  # fmt: skip
