"""Progress is shown after five seconds, where somebody watches; with a clock that the tests move."""

import io
import sys
import types

import numpy as np
import pytest

import sm_multilevel.formula.api as smf
from sm_multilevel import progress as module
from sm_multilevel.datasets import cbpp, sleepstudy
from sm_multilevel.progress import Progress, in_parallel


class Clock:
    """Goes on by itself with every look, by `tick`."""

    def __init__(self):
        self.now, self.tick = 0.0, 0.0

    def __call__(self):
        self.now += self.tick
        return self.now


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def _as_stderr(stream, monkeypatch):
    """Pytest sets sys.stderr itself, between fixtures and tests."""
    monkeypatch.setattr(module, "sys", types.SimpleNamespace(stderr=stream, modules=sys.modules))
    return stream


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "_clock", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch):
    return _as_stderr(Stream(True), monkeypatch)


@pytest.fixture
def file(monkeypatch):
    return _as_stderr(Stream(False), monkeypatch)


def _lines(stream):
    return [line.rstrip() for line in stream.getvalue().replace("\r", "\n").split("\n") if line]


def test_nothing_is_said_before_five_seconds(clock, terminal):
    with Progress("fit", unit="evaluations") as progress:
        for clock.now in (0.0, 1.0, 4.9):
            progress.evaluated(10.0)
    assert terminal.getvalue() == ""


def test_after_five_seconds_twice_a_second(clock, terminal):
    with Progress("fit", unit="evaluations") as progress:
        for clock.now in (4.9, 5.0, 5.2, 5.4, 5.5, 61.0):
            progress.evaluated(1743.6283)
    assert _lines(terminal) == [
        "fit: 2 evaluations, deviance 1743.63, 0:05",
        "fit: 5 evaluations, deviance 1743.63, 0:05",
        "fit: 6 evaluations, deviance 1743.63, 1:01",
        "fit: 6 evaluations, deviance 1743.63, 1:01",
    ]
    assert terminal.getvalue().count("\n") == 1  # overwritten until the end


def test_a_deviance_that_does_not_exist_is_left_out(clock, terminal):
    with Progress("fit", unit="evaluations") as progress:
        clock.now = 6.0
        progress.evaluated(np.inf)
    assert _lines(terminal)[0] == "fit: 1 evaluations, 0:06"


def test_what_is_counted_says_how_long_it_will_take(clock, terminal):
    with Progress("profile", total=4, unit="parameters") as progress:
        clock.now = 3600.0
        progress.step("now sd(x|g)")
    assert _lines(terminal)[0] == "profile: 1 of 4 parameters, now sd(x|g), 1:00:00, about 3:00:00 left"


@pytest.mark.parametrize(("disp", "expected"), [(None, 0), (False, 0), (True, 3)])
def test_a_file_gets_lines_only_if_asked_for(clock, file, disp, expected):
    with Progress("fit", disp, unit="evaluations") as progress:
        for clock.now in np.arange(0.0, 8.0, 0.1):
            progress.evaluated(1.0)
    assert len(_lines(file)) == expected  # from the start, every five seconds, and at the end
    assert "\r" not in file.getvalue()


def test_disp_false_on_a_terminal(clock, terminal):
    with Progress("fit", False) as progress:
        clock.now = 100.0
        progress.step()
    assert terminal.getvalue() == ""


def test_a_notebook_is_watched(clock, file, monkeypatch):
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    with Progress("fit") as progress:
        clock.now = 6.0
        progress.step()
    assert _lines(file)[0] == "fit: 1 steps, 0:06"


def test_what_is_called_on_the_way_is_silent(clock, terminal):
    with Progress("bootstrap", total=2) as outer:
        for _ in range(2):
            with Progress("fit", True) as inner:
                clock.now += 10.0
                inner.step()
            outer.step()
    assert all(line.startswith("bootstrap") for line in _lines(terminal))
    with Progress("fit", True) as alone:  # and afterwards not
        clock.now += 10.0
        alone.step()
    assert _lines(terminal)[-1].startswith("fit")


@pytest.mark.parametrize("stream", [None, types.SimpleNamespace(write=print)])
def test_a_stream_that_is_none_or_broken_stops_nothing(clock, monkeypatch, stream):
    _as_stderr(stream, monkeypatch)
    with Progress("fit") as progress:
        clock.now = 6.0
        progress.step()


def test_a_closed_stream_stops_nothing(clock, terminal):
    with Progress("fit") as progress:
        clock.now = 6.0
        terminal.close()
        progress.step()


def test_tasks_are_counted(clock, file):
    with Progress("bootstrap", True, 6, "replicates") as progress:
        assert in_parallel([(pow, 2, k) for k in range(3)], 1, progress, size=2) == [1, 2, 4]
    assert _lines(file) == ["bootstrap: 6 of 6 replicates, 0:00"]


LINEAR = ("Reaction ~ Days + (Days | Subject)", sleepstudy)


@pytest.mark.parametrize("n_agq", [1, 3, "auto"])
def test_generalised_fits(clock, terminal, n_agq):
    model = smf.melogit("incidence ~ period + (1 | herd)", cbpp.load_pandas().data, n_trials="size")
    model.fit(nAGQ=n_agq)
    assert terminal.getvalue() == ""
    clock.tick = 1.0
    slow = model.fit(nAGQ=n_agq)
    lines = _lines(terminal)
    assert lines[0].startswith("fit: 5 evaluations, deviance ")
    assert lines[-1].startswith(f"fit: {len(lines) + 3} evaluations, deviance ")
    shown = float(lines[-1].split("deviance ")[1].split(",")[0])
    assert shown == pytest.approx(-2 * slow.llf, abs=0.01)  # beside it, for differences


def test_linear_fits(clock, terminal, capsys):
    formula, data = LINEAR
    model = smf.mixedlm(formula, data.load_pandas().data)
    quick = model.fit()
    assert terminal.getvalue() == ""
    clock.tick = 1.0
    slow = model.fit()
    assert _lines(terminal)[-1].startswith("fit: ")
    assert slow.llf == quick.llf
    said = terminal.getvalue()
    model.fit(disp=False)
    assert terminal.getvalue() == said
    assert capsys.readouterr().out == ""
    model.fit(disp=True)
    assert capsys.readouterr().out.startswith("converged: deviance 1743.628")


def test_profiles_and_bootstraps(clock, terminal):
    formula, data = LINEAR
    result = smf.mixedlm(formula, data.load_pandas().data).fit()
    clock.tick = 3.0
    result.profile("beta")
    assert _lines(terminal)[-1].startswith("profile: 2 of 2 parameters, 0:")
    result.bootstrap(60, seed=1, batch=10, statistic=lambda r: r.llf)
    assert _lines(terminal)[-1].startswith("parametric bootstrap: 60 of 60 replicates")
    assert not any(line.startswith("fit") for line in _lines(terminal))
    said = terminal.getvalue()
    result.profile("beta", disp=False)
    result.bootstrap(60, seed=1, batch=10, disp=False)
    assert terminal.getvalue() == said


@pytest.mark.parametrize("call", ["fit", "profile", "bootstrap"])
def test_disp_must_be_true_or_false(call):
    formula, data = LINEAR
    model = smf.mixedlm(formula, data.load_pandas().data)
    with pytest.raises(ValueError, match="disp='no' must be True or False"):
        getattr(model if call == "fit" else model.fit(), call)(disp="no")
