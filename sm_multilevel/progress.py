"""Progress of long computations: one line on stderr.

The rule is the same for everything that takes a `disp`: None shows progress after five seconds,
where somebody watches (a terminal or a notebook); True always; False never. What a computation calls
on its way, as a bootstrap its fits, is silent.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import joblib

__all__ = ["Progress", "in_parallel"]

_DELAY = 5.0  # seconds before which nothing is said unless it is asked for
_PAUSE = 0.5  # seconds between lines that overwrite each other
_PAUSE_IN_FILE = 5.0  # and between lines that stay

_clock = time.monotonic
_somebody_tells: ContextVar[bool] = ContextVar("somebody_tells", default=False)


class Progress:
    """Says how far a computation is; a context manager, which closes the line however it is left.

    Parameters
    ----------
    what : str
        The computation.
    disp : bool, optional
        None: after five seconds and where somebody watches. True: always. False: never, nor does what is called.
    total : int, optional
        How many steps there are, where that is known.
    unit : str
        What the steps are.

    Examples
    --------
    >>> from sm_multilevel.progress import Progress
    >>> with Progress("fit", disp=False, unit="evaluations") as progress:
    ...     progress.step("deviance 1743.63")
    """

    def __init__(self, what: str, disp: bool | None = None, total: int | None = None, unit: str = "steps"):
        self.what, self.disp, self.total, self.unit = what, disp, total, unit
        self._done, self._detail, self._written = 0, "", ""
        self._due = math.inf

    def __enter__(self) -> Progress:
        self._began = _clock()
        self._stream: Any = sys.stderr
        self._overwrites = _is_watched(self._stream)
        silent = _somebody_tells.get() or self._stream is None
        if not silent and (self.disp or (self.disp is None and self._overwrites)):
            self._due = self._began + (_PAUSE if self.disp else _DELAY)
        self._token = _somebody_tells.set(True)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        _somebody_tells.reset(self._token)
        # What was counted to an end is told to the end; a fit that is asked to tells its own.
        if self._written or (self._due < math.inf and self.disp and self.total is not None and kind is None):
            self._write()
            if self._overwrites:
                self._put("\n")
        self._due = math.inf

    def step(self, detail: str = "", count: int = 1) -> None:
        """Some steps are done; `detail` stands beside their number."""
        self.at(self._done + count, detail)

    def evaluated(self, deviance: float) -> None:
        """An objective was evaluated."""
        self._done += 1
        if _clock() >= self._due:
            self.at(self._done, f"deviance {deviance:.2f}" if math.isfinite(deviance) else "")

    def at(self, done: int, detail: str = "") -> None:
        """So many steps are done."""
        self._done, self._detail = done, detail
        now = _clock()
        if now >= self._due:
            self._due = now + (_PAUSE if self._overwrites else _PAUSE_IN_FILE)
            self._write()

    def _write(self) -> None:
        seconds = _clock() - self._began
        done = self._done if self.total is None else min(self._done, self.total)
        parts = [f"{done} {self.unit}" if self.total is None else f"{done} of {self.total} {self.unit}"]
        if self._detail:
            parts.append(self._detail)
        parts.append(_minutes(seconds))
        if self.total is not None and 0 < done < self.total:
            parts.append(f"about {_minutes(seconds * (self.total - done) / done)} left")
        line = f"{self.what}: {', '.join(parts)}"
        self._put(f"\r{line:<{len(self._written)}}" if self._overwrites else f"{line}\n")
        self._written = line

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a stream that is gone stops no fit
            self._stream.write(text)
            self._stream.flush()


def in_parallel(tasks: Sequence[tuple], n_jobs: int | None, progress: Progress, size: int = 1) -> list:
    """What tasks give, in their order, computed by joblib.

    Parameters
    ----------
    tasks : sequence of tuple
        A function and its arguments.
    n_jobs : int or None
        As joblib takes it.
    progress : Progress
        Moved on whenever a task is done.
    size : int
        Steps of a task.

    Returns
    -------
    list
    """

    class Counting(joblib.Parallel):
        def print_progress(self):
            """Called by joblib whenever a task is done."""
            progress.at(self.n_completed_tasks * size)

    return Counting(n_jobs=n_jobs, batch_size=1)(joblib.delayed(_silently)(*task) for task in tasks)


def _silently(function, *arguments):
    """A task in a worker, which tells nothing of its own."""
    with Progress("", disp=False):
        return function(*arguments)


def _is_watched(stream: Any) -> bool:
    """Whether a stream is a terminal, or shown by a notebook."""
    with contextlib.suppress(AttributeError, ValueError):
        if stream.isatty():
            return True
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
