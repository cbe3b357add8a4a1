"""Ctrl-C at any moment leaves models and results as they were: the same call gives the same numbers afterwards."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

import sm_multilevel
import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, sleepstudy, wine
from sm_multilevel.progress import _somebody_tells

PACKAGE = str(Path(sm_multilevel.__file__).parent)
THREADS = 2  # of BLAS, as a user has it


@contextlib.contextmanager
def interrupted_at(number):
    """KeyboardInterrupt when the package's so many-th function is called."""
    count = 0

    def look(frame, event, _):
        nonlocal count
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            count += 1
            if count == number:
                sys.settrace(None)
                raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)


def _linear():
    return smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleepstudy.load_pandas().data)


def _binomial():
    return smf.melogit("incidence ~ period + (1 | herd)", cbpp.load_pandas().data, n_trials="size")


def _ordinal():
    return smf.meologit("rating ~ temp + (1 | judge)", wine.load_pandas().data)


def _numbers(result):
    return np.concatenate([result.params_packed, np.asarray(result.bse), [result.llf]])


def _profile(result):
    return result.profile("beta").frame[["value", "zeta"]].to_numpy()


# What is made once, and what is done with it, as numbers.
CALLS = {
    "fit": (_linear, lambda model: _numbers(model.fit())),
    "fit, Kenward-Roger": (_linear, lambda model: model.fit(df="kenward-roger").bse.to_numpy()),
    "fit, Laplace": (_binomial, lambda model: _numbers(model.fit())),
    "fit, quadrature": (_binomial, lambda model: _numbers(model.fit(nAGQ=5))),
    "fit, ordinal": (_ordinal, lambda model: _numbers(model.fit())),
    "summary": (lambda: _linear().fit(), lambda res: np.array([ord(c) for c in str(res.summary())])),
    "components": (lambda: _binomial().fit(), lambda res: res.varcorr(conf_int=True)["sdcor_upper"].to_numpy()),
    "R-squared": (lambda: _binomial().fit(), lambda res: np.array(list(res.r_squared("observation").values()))),
    "random effects": (lambda: _binomial().fit(), lambda res: res.ranef(conditional_se=True)[1].to_numpy()),
    "robust": (lambda: _linear().fit(), lambda res: res.get_robustcov_results("CR2").bse.to_numpy()),
    "profile": (lambda: _linear().fit(), _profile),
    "profile, binomial": (lambda: _binomial().fit(), lambda res: res.conf_int(method="profile").to_numpy()),
    "bootstrap": (lambda: _linear().fit(), lambda res: res.bootstrap(40, seed=1).estimates.to_numpy()),
    "bootstrap, one at a time": (lambda: _binomial().fit(), lambda res: res.bootstrap(3, seed=1).estimates.to_numpy()),
    "bootstrap, results": (
        lambda: _linear().fit(),
        lambda res: res.bootstrap(3, seed=1, kind="cluster", statistic=lambda r: r.llf).estimates.to_numpy(),
    ),
    "update": (lambda: _linear().fit(), lambda res: _numbers(res.update(". ~ 1 + (1 | Subject)"))),
    "refit": (lambda: _linear().fit(), lambda res: _numbers(res.refit(res.model.endog[::-1]))),
    "bootstrap test": (
        lambda: (_linear().fit(), _linear().fit().update(". ~ Days + (1 | Subject)")),
        lambda fits: np.array([smm.lrtest(*fits, method="bootstrap", n=20, seed=1).p_value]),
    ),
}


# With Python 3.10 and the NumPy of its time tracing itself sets names of NumPy's modules to None.
traceable = pytest.mark.skipif(sys.version_info < (3, 11), reason="tracing breaks NumPy 1.22 on Python 3.10")


@traceable
@pytest.mark.parametrize("name", CALLS)
def test_the_same_numbers_after_an_interrupt(name):
    make, call = CALLS[name]
    expected = call(make())
    thing, number, times = make(), 1, 0
    with threadpoolctl.threadpool_limits(THREADS, user_api="blas"):
        threads = _blas_threads()
        while True:
            try:
                with interrupted_at(number):
                    found = call(thing)
                break
            except KeyboardInterrupt:
                times += 1
            assert _blas_threads() == threads
            assert not _somebody_tells.get()
            number = int(number * 2.7) + 1
        assert times >= 4
        np.testing.assert_array_equal(found, expected)


def _blas_threads():
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("make", [_linear, _binomial])
@pytest.mark.parametrize("moment", [1, 3])
def test_an_interrupt_in_a_callback(make, moment):
    model, calls = make(), []
    expected = _numbers(make().fit())

    def callback(parameters):
        calls.append(parameters)
        if len(calls) == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(callback=callback)
    np.testing.assert_array_equal(_numbers(model.fit()), expected)


@traceable
def test_results_from_before_are_unchanged():
    model = _binomial()
    result = model.fit()
    before = _numbers(result), result.ranef().to_numpy(), result.predict().to_numpy()
    for number in (30, 300, 3000):
        with pytest.raises(KeyboardInterrupt), interrupted_at(number):
            model.fit(nAGQ=7)
    after = _numbers(result), result.ranef().to_numpy(), result.predict().to_numpy()
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


SCRIPT = """
    import time
    import sm_multilevel.formula.api as smf
    from sm_multilevel.datasets import sleepstudy

    def slow(result):
        time.sleep(0.2)
        return result.llf

    if __name__ == "__main__":
        df = sleepstudy.load_pandas().data
        result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", df).fit()
        try:
            result.bootstrap(10_000, seed=1, statistic=slow, n_jobs=2, batch=1, disp=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        again = result.bootstrap(4, seed=1, statistic=slow, n_jobs=1)
        print(again.failed, len(again.estimates), result.model.fit().llf == result.llf, flush=True)
        from joblib.externals.loky import get_reusable_executor
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs signals of POSIX")
def test_ctrl_c_stops_the_workers(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    process = subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        for line in process.stderr:  # the first line of progress: the workers are at work
            if line.startswith("parametric bootstrap:"):
                break
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, _ = process.communicate()
        assert out.split() == ["interrupted", "0", "4", "True"]
        assert process.returncode == 0
        with pytest.raises(ProcessLookupError):  # nobody of the session is left
            _wait_for_the_group_to_end(process.pid)
    finally:
        watchdog.cancel()


def _wait_for_the_group_to_end(group, seconds=10.0):
    waited = threading.Event()
    for _ in range(int(seconds / 0.1)):
        os.killpg(group, 0)
        waited.wait(0.1)
