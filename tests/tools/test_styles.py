"""Plots under styles of seaborn and matplotlib: their colours and sizes, nothing that vanishes, nothing cut off."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import seaborn as sns
from matplotlib.colors import to_rgb, to_rgba

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import contraception, sleepstudy

LINEAR = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit()
LOGISTIC = smf.melogit("use ~ urban + (1 | district)", contraception.load_pandas().data).fit()
PROFILE = LINEAR.profile("components")

STYLES = {
    "seaborn": lambda: sns.set_theme(),
    "large": lambda: sns.set_theme(style="ticks", context="talk", palette="colorblind"),
    "poster": lambda: sns.set_theme(context="poster", font_scale=0.8),
    "dark": lambda: plt.style.use("dark_background"),
    "grey": lambda: plt.style.use("grayscale"),
    "own": lambda: plt.rcParams.update({"figure.facecolor": "navy", "axes.facecolor": "navy", "axes.labelcolor": "w"}),
}
DRAWN = {
    **{kind: (lambda k=kind, **o: LINEAR.plot(k, **o)) for kind in ("caterpillar", "qq", "residuals", "fitted")},
    "logistic": lambda **o: LOGISTIC.plot("residuals", **o),
    "profile": lambda **o: PROFILE.plot(**({"which": "sd(Residual)"} | o if o else o)),
}


@pytest.fixture(params=STYLES)
def style(request):
    with plt.rc_context():
        STYLES[request.param]()
        yield request.param
    plt.close("all")


def _colours(ax):
    for line in ax.lines:
        yield line.get_color()
    for collection in ax.collections:
        yield from collection.get_edgecolor()
        yield from collection.get_facecolor()
    yield ax.xaxis.label.get_color()


@pytest.mark.parametrize("kind", DRAWN)
def test_everything_is_seen(kind, style):
    figure = DRAWN[kind]()
    for ax in figure.axes:
        ground = np.array(to_rgb(ax.get_facecolor()))
        for colour in _colours(ax):
            *rgb, alpha = to_rgba(colour)
            if alpha:
                assert np.abs(alpha * (np.array(rgb) - ground)).max() > 0.1, (kind, style, colour)


@pytest.mark.parametrize("kind", DRAWN)
def test_nothing_is_cut_off(kind, style):
    figure = DRAWN[kind]()
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    for ax in figure.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_yticklabels()):
            box = text.get_window_extent()
            if text.get_text() and text.get_visible():
                assert box.x0 >= -2, (kind, style, text.get_text())
                assert box.x1 <= width + 2, (kind, style, text.get_text())
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            box = text.get_window_extent()
            assert box.y0 >= -2, (kind, style, text.get_text())
            assert box.y1 <= height + 2, (kind, style, text.get_text())


def test_first_colours_of_the_cycle(style):
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    line = LINEAR.plot("fitted").axes[0].lines[0]
    assert to_rgb(line.get_color()) == to_rgb(cycle[0])


@pytest.mark.parametrize("kind", DRAWN)
def test_axes_of_the_user(kind, style):
    figure, axes = plt.subplots(1, 2)
    assert DRAWN[kind](ax=axes[1]) is figure
    assert not axes[0].has_data()
    assert axes[1].has_data()
    assert len(figure.axes) == 2


def test_facets_of_seaborn_take_our_plots():
    grid = sns.FacetGrid(sleepstudy.load_pandas().data.head(20), col="Subject")
    for ax, kind in zip(grid.axes.flat, ("residuals", "fitted"), strict=False):
        assert LINEAR.plot(kind, ax=ax) is grid.figure
    plt.close("all")
