"""Plots: each kind is rendered, at few levels and at many, and what it shows is what the fit found."""

import io
import pickle
import time
import warnings
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure

import sm_multilevel.formula.api as smf
from sm_multilevel import graphics
from sm_multilevel.datasets import insteval, penicillin, sleepstudy

DATA = Path(__file__).parents[1] / "data"
KINDS = ["caterpillar", "qq", "residuals", "fitted"]


@pytest.fixture(autouse=True)
def _clean():
    """The default style, no figure left open, and no warning from anywhere while plotting."""
    with plt.rc_context(), warnings.catch_warnings():
        plt.switch_backend("Agg")
        plt.style.use("default")
        warnings.simplefilter("error")
        # Of the oldest supported matplotlib with newer companions; nothing that we call.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="(matplotlib|pyparsing|dateutil)")
        yield
    plt.close("all")


@pytest.fixture(scope="module")
def sleep():
    return smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data).fit()


@pytest.fixture(scope="module")
def crossed():
    return smf.mixedlm("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin.load_pandas().data).fit()


@pytest.fixture(scope="module")
def students():
    return smf.mixedlm("y ~ 1 + (1 | s)", insteval.load_pandas().data).fit()


@pytest.fixture(scope="module")
def singular():
    return smf.mixedlm("Yield ~ 1 + (1 | Batch)", pd.read_csv(DATA / "dyestuff2.csv")).fit()


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(1)
    n, m = 200_000, 2_000
    g, x = rng.integers(0, m, n), rng.normal(size=n)
    y = 1 + x + 0.3 * x**2 + rng.normal(size=m)[g] + rng.normal(size=n)
    return smf.mixedlm("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g})).fit()


def grouped(names, rows=12, seed=1):
    rng = np.random.default_rng(seed)
    m = len(names)
    y = np.repeat(rng.normal(size=m), rows) + rng.normal(size=m * rows)
    return smf.mixedlm("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": np.repeat(names, rows)})).fit()


def render(fig):
    """The picture, as an array of pixels; drawing it is a part of every test."""
    assert isinstance(fig, Figure)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    buffer.seek(0)
    return plt.imread(buffer)


def intervals(ax):
    """Centres and half-widths that a caterpillar shows, from the bottom up."""
    rows = []
    for container in ax.containers:
        points, _, (lines,) = container.lines
        for y, x, segment in zip(points.get_ydata(), points.get_xdata(), lines.get_segments()):
            assert segment[:, 1] == pytest.approx(y)
            rows.append((y, x, np.ptp(segment[:, 0]) / 2))
    rows.sort()
    assert [row[0] for row in rows] == list(range(len(rows)))
    return np.array(rows)[:, 1:].T


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def texts_overlap(ax):
    """Whether names of neighbouring levels, as drawn, cover each other or leave the figure."""
    boxes = [label.get_window_extent() for label in ax.get_yticklabels() if label.get_text()]
    outside = any(box.x0 < 0 for box in boxes)
    return outside or any(low.y1 > high.y0 + 1 for low, high in pairwise(boxes))


# -- every kind ------------------------------------------------------------------------------


def test_kinds():
    assert list(graphics.KINDS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fit", ["sleep", "crossed", "students", "singular", "large"])
def test_renders(kind, fit, request):
    result = request.getfixturevalue(fit)
    fig = result.plot(kind=kind)
    picture = render(fig)
    assert picture[..., :3].std() > 0.01
    for ax in fig.axes:
        if ax.get_label() != "<colorbar>":
            assert ax.get_xlabel()
            assert ax.get_ylabel()
            assert ax.get_title()


@pytest.mark.parametrize("kind", KINDS)
def test_draws_into_a_given_axes(sleep, kind):
    fig, axes = plt.subplots(1, 2)
    assert sleep.plot(kind=kind, ax=axes[1]) is fig
    assert len(fig.axes) == 2
    assert axes[0].get_title() == ""
    assert axes[1].get_title() != ""
    assert len(plt.get_fignums()) == 1
    render(fig)


@pytest.mark.parametrize("kind", KINDS)
def test_function_of_the_same_name(sleep, kind):
    by_name, direct = sleep.plot(kind=kind), getattr(graphics, kind)(sleep)
    assert [ax.get_title() for ax in by_name.axes] == [ax.get_title() for ax in direct.axes]


def test_default_is_a_caterpillar(sleep):
    assert len(sleep.plot().axes) == len(sleep.plot("caterpillar").axes) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", ["dark_background", "ggplot", "grayscale", "fivethirtyeight", "classic"])
def test_styles(sleep, kind, style):
    with plt.style.context(style):
        fig = sleep.plot(kind=kind)
        cycle = [to_rgb(c) for c in plt.rcParams["axes.prop_cycle"].by_key()["color"]]
        ink = to_rgb(plt.rcParams["axes.labelcolor"])
    render(fig)  # colours are those of the style even when it is drawn without
    for line in fig.axes[0].lines:
        assert to_rgb(line.get_color()) in [*cycle[:2], ink]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", ["figure.constrained_layout.use", "figure.autolayout"])
def test_layouts_of_the_user(sleep, kind, setting):
    plt.rcParams[setting] = True
    render(sleep.plot(kind=kind))


def test_unknown_kind(sleep):
    with pytest.raises(ValueError, match=r"'caterpilar' is not a plot. Did you mean 'caterpillar'.*'qq'.*'fitted'"):
        sleep.plot(kind="caterpilar")


@pytest.mark.parametrize("kind", ["caterpillar", "qq"])
def test_unknown_group_and_column(crossed, kind):
    with pytest.raises(ValueError, match=r"group='plates' .* mean 'plate'.* There are 'plate', 'sample'"):
        crossed.plot(kind=kind, group="plates")
    with pytest.raises(ValueError, match=r"column='Days' is not a random column of the model.* There are 'Intercept'"):
        crossed.plot(kind=kind, column="Days")
    with pytest.raises(ValueError, match="column='Days' is not a random column of 'plate'"):
        crossed.plot(kind=kind, group="plate", column="Days")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("alpha", [0, 1, 5, -0.1, np.nan])
@pytest.mark.parametrize("kind", ["caterpillar", "qq"])
def test_alpha_out_of_range(sleep, kind, alpha):
    with pytest.raises(ValueError, match=r"alpha=.* between 0 and 1"):
        sleep.plot(kind=kind, alpha=alpha)


def test_without_data(sleep):
    bare = pickle.loads(pickle.dumps(sleep))
    bare.remove_data()
    for kind in ("caterpillar", "qq"):
        assert len(bare.plot(kind=kind).axes) == 2
    for kwargs in ({"kind": "residuals"}, {"kind": "fitted"}, {"kind": "qq", "which": "resid"}):
        with pytest.raises(ValueError, match="remove_data"):
            bare.plot(**kwargs)


# -- caterpillar -----------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_shows_effects_and_intervals_in_order(sleep, alpha):
    effects, errors = sleep.ranef(conditional_se=True)
    fig = sleep.plot(alpha=alpha)
    z = {0.05: 1.959963984540054, 0.2: 1.2815515655446004}[alpha]
    assert len(fig.axes) == 2
    for ax, column in zip(fig.axes, effects.columns):
        wanted = effects[column].sort_values()
        centres, reach = intervals(ax)
        np.testing.assert_allclose(centres, wanted)
        np.testing.assert_allclose(reach, z * errors.loc[wanted.index, column])
        assert labels(ax) == [str(level) for level in wanted.index]
        clear = (np.abs(centres) > reach).sum()
        assert ax.get_title() == f"{column} by Subject\n{clear} of 18 intervals exclude zero"
        assert ax.get_xlabel() == f"predicted random effect ({95 if alpha == 0.05 else 80}% interval)"
        assert ax.get_ylabel() == "Subject (18 levels)"
    render(fig)
    assert not any(texts_overlap(ax) for ax in fig.axes)


def test_intervals_that_exclude_zero_stand_out(sleep):
    (ax,) = sleep.plot(column="Days").axes
    includes, excludes = ax.containers
    effects, errors = sleep.ranef(conditional_se=True)
    clear = (effects["Days"].abs() > 1.96 * errors["Days"]).sum()
    assert len(excludes.lines[0].get_xdata()) == clear == 6
    assert includes.lines[0].get_color() == to_rgb("C0")
    assert excludes.lines[0].get_color() == to_rgb("C1")
    # Told apart without colours too.
    assert to_rgba(includes.lines[0].get_markerfacecolor()) == to_rgba(ax.get_facecolor())
    assert to_rgba(excludes.lines[0].get_markerfacecolor()) == to_rgba("C1")
    # A line at zero.
    assert any(np.all(np.asarray(line.get_xdata()) == 0) and line.get_linestyle() == "--" for line in ax.lines)


def test_column_and_group_choose(sleep, crossed):
    assert [ax.get_title().split("\n")[0] for ax in sleep.plot(column="Days").axes] == ["Days by Subject"]
    fig = crossed.plot()
    assert [ax.get_ylabel() for ax in fig.axes] == ["plate (24 levels)", "sample (6 levels)"]
    (ax,) = crossed.plot(group="sample").axes
    assert labels(ax) == list(crossed.ranef()["sample"]["Intercept"].sort_values().index)


def test_given_axes_hold_the_first_column_or_the_chosen_one(sleep, crossed):
    _, ax = plt.subplots()
    sleep.plot(ax=ax)
    assert ax.get_title().startswith("Intercept by Subject")
    _, ax = plt.subplots()
    sleep.plot(ax=ax, column="Days")
    assert ax.get_title().startswith("Days by Subject")
    _, ax = plt.subplots()
    crossed.plot(ax=ax)
    assert ax.get_ylabel() == "plate (24 levels)"


def test_few_groups():
    fig = grouped(list("abcdefghij")).plot()
    render(fig)
    (ax,) = fig.axes
    assert sorted(labels(ax)) == list("abcdefghij")
    assert tuple(fig.get_size_inches()) == tuple(plt.rcParams["figure.figsize"])


def test_a_thousand_groups(students):
    fig = students.plot()
    render(fig)
    (ax,) = fig.axes
    assert labels(ax) == []
    assert ax.get_ylabel() == "s (2,972 levels)"
    centres, reach = intervals(ax)
    assert len(centres) == 2972
    assert np.all(np.diff(centres) >= 0)
    assert f"{(np.abs(centres) > reach).sum()} of 2,972 intervals" in ax.get_title()
    # The curve of the effects is seen on its band; lines are thin, and the figure is not grown.
    for container in ax.containers:
        points, _, (lines,) = container.lines
        assert lines.get_linewidth()[0] < 0.5
        assert to_rgb(lines.get_color()[0]) != to_rgb(points.get_color())
    assert len(ax.lines) + len(ax.collections) == 5  # two sets of points and of intervals, zero
    assert tuple(fig.get_size_inches()) == tuple(plt.rcParams["figure.figsize"])


def test_max_labels(sleep):
    assert labels(sleep.plot(column="Days", max_labels=17).axes[0]) == []
    res = grouped([f"g{i}" for i in range(80)])
    assert labels(res.plot().axes[0]) == []
    fig = res.plot(max_labels=80)
    render(fig)
    assert len(labels(fig.axes[0])) == 80
    assert not texts_overlap(fig.axes[0])


def test_no_labels_where_they_have_no_room(sleep):
    fig, axes = plt.subplots(3, 1)
    sleep.plot(ax=axes[0])
    render(fig)
    assert labels(axes[0]) == []
    assert axes[0].get_ylabel() == "Subject (18 levels)"


@pytest.mark.parametrize(
    "names",
    [
        [f"The Administrative Region number {i} of the Northern Province" for i in range(10)],
        [f"{i} is the number of this region, which has a long name" for i in range(10)],
        [f"This is a region with a long name and the number {i}" for i in range(10)],
        [f"${i}$ to ${i + 1}_x, \\frac$ and \n more of ${i}" for i in range(10)],
    ],
    ids=["middle", "start", "end", "dollars"],
)
def test_long_names_stay_distinct_and_inside(names):
    res = grouped(names)
    fig = res.plot()
    render(fig)
    assert len(set(labels(fig.axes[0]))) == 10
    assert not texts_overlap(fig.axes[0])
    width = fig.axes[0].get_window_extent().width / fig.dpi
    assert width > 4

    fig, ax = plt.subplots(figsize=(4, 3))
    res.plot(ax=ax)
    fig.tight_layout()
    render(fig)
    assert len(set(labels(ax))) == 10
    assert ax.get_window_extent().width / fig.dpi > 2


def test_dollar_signs_are_not_formulas():
    fig = grouped([f"${i}$" for i in range(10)]).plot()
    render(fig)
    assert labels(fig.axes[0])[0].startswith(r"\$")


def test_style_options(sleep):
    fig = sleep.plot(column="Days", color="green", marker="s", ms=3, lw=4, capsize=2, linestyle="none")
    render(fig)
    for container in fig.axes[0].containers:
        points, caps, _ = container.lines
        assert points.get_color() == "green"
        assert points.get_marker() == "s"
        assert points.get_markersize() == 3
        assert len(caps) == 2


def test_many_columns_and_factors():
    rng = np.random.default_rng(2)
    n = 900
    df = pd.DataFrame({"f": rng.choice(list("abcd"), n), "g": rng.integers(0, 30, n), "h": rng.integers(0, 8, n)})
    effect = rng.normal(size=(4, 30))[df["f"].map("abcd".index), df["g"]]
    df["y"] = effect + rng.normal(size=8)[df["h"]] + rng.normal(size=n)
    fig = smf.mixedlm("y ~ f + (f | g) + (1 | h)", df).fit().plot()
    render(fig)
    assert [ax.get_title().split("\n")[0] for ax in fig.axes] == [
        "Intercept by g", "f[T.b] by g", "f[T.c] by g", "f[T.d] by g", "Intercept by h",
    ]  # fmt: skip
    boxes = [ax.get_tightbbox(fig.canvas.get_renderer()) for ax in fig.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not any(texts_overlap(ax) for ax in fig.axes)


# -- zero variances --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["caterpillar", "qq"])
def test_zero_variance_is_said(singular, kind):
    assert singular.is_singular
    fig = singular.plot(kind=kind)
    render(fig)
    (ax,) = fig.axes
    assert ax.get_title() == "Intercept by Batch\nvariance estimated as zero"
    if kind == "caterpillar":
        centres, reach = intervals(ax)
        assert not centres.any()
        assert not reach.any()
        assert labels(ax) == list("ABCDEF")


def test_constant_fitted_values_keep_a_readable_axis(singular):
    for kind in ("residuals", "fitted"):
        (ax,) = singular.plot(kind=kind).axes
        assert np.ptp(ax.get_xlim()) == pytest.approx(np.ptp(singular.model.endog))
    assert [line.get_label() for line in singular.plot("residuals").axes[0].lines].count("lowess") == 0


@pytest.mark.parametrize("seed", [5, 7])
def test_one_zero_variance_of_two(seed):
    """A variance that is zero but for rounding counts as zero: no axis of 1e-23."""
    rng = np.random.default_rng(seed)
    m, n = 30, 600
    g, x = rng.integers(0, m, n), rng.normal(size=n)
    y = 1 + x + rng.normal(size=m)[g] + rng.normal(size=n)
    res = smf.mixedlm("y ~ x + (x || g)", pd.DataFrame({"y": y, "x": x, "g": g})).fit()
    assert res.is_singular
    for kind in ("caterpillar", "qq"):
        fig = res.plot(kind=kind)
        render(fig)
        assert "zero" not in fig.axes[0].get_title().replace("exclude zero", "")
        assert fig.axes[1].get_title() == "x by g\nvariance estimated as zero"
        assert np.ptp(fig.axes[1].get_xlim()) > 1e-3


# -- Q-Q ---------------------------------------------------------------------------------------


def test_qq_of_effects(sleep):
    effects, errors = sleep.ranef(conditional_se=True)
    fig = sleep.plot(kind="qq")
    assert [ax.get_title() for ax in fig.axes] == ["Intercept by Subject (n = 18)", "Days by Subject (n = 18)"]
    for ax, column in zip(fig.axes, effects.columns):
        own = np.sqrt(sleep.cov_re.loc[column, column] - errors[column] ** 2)
        line = ax.lines[-1]
        np.testing.assert_allclose(line.get_ydata(), np.sort(effects[column] / own))
        assert line.get_xdata()[0] == pytest.approx(-line.get_xdata()[-1])
        assert ax.get_xlabel() == "standard normal quantile"
        assert ax.get_ylabel() == "standardised random effect"
        assert ax.get_legend().get_texts()[0].get_text() == "95% band"


def test_qq_of_effects_of_unequal_groups_is_standard_normal():
    """Raw effects of small groups are shrunk to nearly nothing; standardised ones have variance 1."""
    rng = np.random.default_rng(4)
    sizes = rng.choice([1, 2, 5, 50], 1500)
    g = np.repeat(np.arange(1500), sizes)
    y = rng.normal(size=1500)[g] + 2 * rng.normal(size=len(g))
    res = smf.mixedlm("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g})).fit()
    shown = res.plot(kind="qq").axes[0].lines[-1].get_ydata()
    assert np.std(shown) == pytest.approx(1, abs=0.06)
    assert np.std(res.ranef()["Intercept"]) < 0.8


def test_qq_of_residuals(sleep):
    fig = sleep.plot(kind="qq", which="resid")
    render(fig)
    (ax,) = fig.axes
    assert ax.get_title() == "Residuals (n = 180)"
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), np.sort(sleep.resid / np.std(sleep.resid)))


def test_qq_of_many_values_keeps_the_extremes(large):
    line = large.plot(kind="qq", which="resid").axes[0].lines[-1]
    shown = line.get_ydata()
    resid = np.sort(large.resid) / np.std(large.resid)
    assert len(shown) < 2500
    np.testing.assert_allclose(shown[:50], resid[:50])
    np.testing.assert_allclose(shown[-50:], resid[-50:])


def test_qq_arguments(sleep):
    with pytest.raises(ValueError, match="which='residuals' is neither 'ranef' nor 'resid'"):
        sleep.plot(kind="qq", which="residuals")
    with pytest.raises(ValueError, match="which='resid' has none"):
        sleep.plot(kind="qq", which="resid", group="Subject")
    fig = sleep.plot(kind="qq", column="Days", color="red", ms=2)
    assert fig.axes[0].lines[-1].get_color() == "red"


# -- rows --------------------------------------------------------------------------------------


def test_residuals(sleep):
    (ax,) = sleep.plot(kind="residuals").axes
    points, zero, smooth = ax.lines
    np.testing.assert_allclose(points.get_xdata(), sleep.fittedvalues)
    np.testing.assert_allclose(points.get_ydata(), sleep.resid)
    assert list(zero.get_ydata()) == [0, 0]
    assert smooth.get_label() == "lowess"
    assert np.all(np.abs(smooth.get_ydata()) < 15)
    assert ax.get_xlabel() == "fitted Reaction (conditional)"
    assert ax.get_ylabel() == "residual"
    assert ax.get_title() == "Residuals and lowess (n = 180)"


def test_residuals_with_weights():
    df = sleepstudy.load_pandas().data
    df["w"] = np.linspace(0.5, 2, len(df))
    res = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df, var_weights="w").fit()
    (ax,) = res.plot(kind="residuals").axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), res.resid * np.sqrt(df["w"]))
    assert ax.get_ylabel() == "weighted residual"


def test_fitted(sleep):
    fig = sleep.plot(kind="fitted")
    render(fig)
    (ax,) = fig.axes
    points, equal = ax.lines
    np.testing.assert_allclose(points.get_xdata(), sleep.fittedvalues)
    np.testing.assert_allclose(points.get_ydata(), sleep.model.endog)
    ends = ax.transData.inverted().transform(equal.get_transform().transform([[0, 0], [1, 1]]))
    np.testing.assert_allclose(ends[:, 0], ends[:, 1])
    assert np.ptp(ends[:, 0]) > 100
    assert ax.get_xlabel() == "fitted Reaction (conditional)"
    assert ax.get_ylabel() == "observed Reaction"


@pytest.mark.parametrize("kind", ["residuals", "fitted"])
def test_many_rows_are_counted(large, kind):
    start = time.perf_counter()
    fig = large.plot(kind=kind)
    render(fig)
    assert time.perf_counter() - start < 10  # half a second; points would take many
    ax, colorbar = fig.axes
    (cells,) = (c for c in ax.collections if isinstance(c, PolyCollection))
    assert cells.get_array().sum() == 200_000
    assert colorbar.get_ylabel() == "rows in a hexagon"
    assert len(ax.lines) == (2 if kind == "residuals" else 1)
    if kind == "residuals":  # the curvature that the model leaves out is seen
        curve = ax.lines[-1].get_ydata()
        assert curve[0] > 0.2
        assert curve[-1] > 0.2
        assert curve.min() < -0.05
