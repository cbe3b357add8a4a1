"""Normal quantile-quantile plots of random effects and residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import cbook, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats
from statsmodels.graphics.utils import create_mpl_ax

from sm_multilevel.checks import check_alpha
from sm_multilevel.drawing import cycle, ink, reference, tighten
from sm_multilevel.graphics.panels import grid, select
from sm_multilevel.graphics.rows import drawn_residuals

__all__ = ["qq"]

# A plot of more values than this leaves out some from the middle.
MAX_QUANTILES = 2_000
_QUANTITY = {True: "standardised residual", False: "quantile residual"}


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
    alpha = check_alpha(alpha)
    if which == "ranef":
        panels = select(result, group, column)
        samples = [(p.standardized(), p.title, "standardised random effect") for p in panels]
    elif which == "resid":
        if group is not None or column is not None:
            raise ValueError("group= and column= choose random effects; which='resid' has none of them.")
        resid = drawn_residuals(result)
        spread = np.std(resid) if result.family is None else 1.0
        samples = [(resid / spread if spread > 0 else resid, "Residuals", _QUANTITY[result.family is None])]
    else:
        raise ValueError(f"which={which!r} is neither 'ranef' nor 'resid'.")
    if ax is not None:
        fig, ax = create_mpl_ax(ax)
        _draw_qq(ax, *samples[0], alpha, style)
        return fig
    fig, axes = grid([0.0] * len(samples))
    for one, sample in zip(axes, samples):
        _draw_qq(one, *sample, alpha, style)
    tighten(fig)
    return fig


def _draw_qq(ax, values, title, name, alpha, style):
    n = len(values)
    values = np.sort(values)
    rank = _ranks(n)
    x = stats.norm.ppf((rank - 0.5) / n)
    lower, upper = (stats.norm.ppf(stats.beta.ppf(tail, rank, n + 1 - rank)) for tail in (alpha / 2, 1 - alpha / 2))
    ax.fill_between(x, lower, upper, color=ink(ax), alpha=0.15, linewidth=0,
                    label=f"{100 * (1 - alpha):.10g}% band")  # fmt: skip
    ax.plot(x, x, **reference(ax))
    size = rcParams["lines.markersize"] * min(1.0, max(0.4, (100 / n) ** 0.25))
    look = {"color": cycle(0), "marker": "o", "markersize": size, "linestyle": "none"}
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
