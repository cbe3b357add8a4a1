"""Writes docs/messages.md, all messages as users read them: ``python tests/messages.py`` (it runs most tests).

A message is shown with the words that a test provoked. With tests named, the others keep the words that the page has;
with ``--quick`` all do. One that nothing has provoked is shown with dots where something is filled in.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
from message_sites import ROOT, Site, is_internal, sites

from sm_multilevel.__main__ import CommandError

PAGE = Path(__file__).parents[1] / "docs" / "messages.md"
TESTS = ("unit", "integration")

# Subjects, in the order of a user's way, with the beginnings of the paths whose messages they are.
SUBJECTS = {
    "Formulas": ("design/terms", "design/random_part", "formula/"),
    "Data, columns and options of one value a row": ("design/", "grouping", "linalg/layout"),
    "Models and their random terms": ("models/", "covariance", "random_effects"),
    "Responses, families and links": ("families/",),
    "Options of `fit`, and what is checked before it": ("checks", "mixedlm_options", "objectives/", "linalg/"),
    "Estimation": ("estimation/",),
    "Wald tests and degrees of freedom": ("postestimation/wald", "statsmodels_results/inference"),
    "Robust covariance": ("postestimation/robust",),
    "Comparison of models": ("postestimation/comparison",),
    "Profiles": ("postestimation/profiling",),
    "Bootstrap and simulation": ("postestimation/resampling", "postestimation/prediction/simulate"),
    "Predictions and residuals": ("postestimation/prediction",),
    "Variance components, ICC, R-squared, tables and frames": ("postestimation/", "statsmodels_results/", "summary/"),
    "Plots": ("graphics", "drawing", "postestimation/profiling/profile_plot"),
    "StatsPAI's spelling": ("sp",),
    "Data sets": ("datasets/",),
    "The command line": ("__main__",),
}
TITLE = """\
# Messages

What the package says when it refuses something or warns, with the words that its tests provoke; `...` stands where no
test fills anything in. Every message is to name the column, level or option at fault, and what to do: if one left you
alone, that is a bug. Errors are `ValueError`s unless something else stands before them (`FormulaError` is one of
them); where the name ends in `Warning`, the call went on.

This page is written by `python tests/messages.py`.
"""


class Recorder:
    """A pytest plugin that keeps what the package raises and warns of.

    Attributes
    ----------
    heard : dict
        (path, line) -> set of (kind, message).
    """

    def __init__(self) -> None:
        self.heard: dict[tuple[str, int], set[tuple[str, str]]] = {}
        self._warn = warnings.warn

    def pytest_sessionstart(self) -> None:
        raises = type(pytest.raises(ValueError, match="x"))
        leave = raises.__exit__
        recorder = self

        @functools.wraps(leave)
        def listening(self, kind, error, traceback):
            if error is not None:
                recorder.raised(error)
            return leave(self, kind, error, traceback)

        raises.__exit__ = listening
        warnings.warn = self.warned
        # The command line catches its own errors; they are kept where they are made.
        start = CommandError.__init__

        def made(self, *words):
            caller = sys._getframe(1)
            recorder._keep(caller.f_code.co_filename, caller.f_lineno, "CommandError", words[0])
            start(self, *words)

        CommandError.__init__ = made

    def pytest_sessionfinish(self) -> None:
        warnings.warn = self._warn

    def raised(self, error: BaseException) -> None:
        """Keep an exception whose innermost frame is the package's."""
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        if traceback is not None:
            self._keep(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno, type(error).__name__, error)

    def warned(self, message, category=None, stacklevel=1, *more, **options) -> None:
        """Stands for `warnings.warn`."""
        caller = sys._getframe(1)
        if category is not None:
            self._keep(caller.f_code.co_filename, caller.f_lineno, category.__name__, message)
        self._warn(message, category, stacklevel + 1, *more, **options)

    def _keep(self, filename: str, line: int, kind: str, message: object) -> None:
        path = Path(filename)
        if ROOT in path.parents:
            place = (path.relative_to(ROOT).as_posix(), line)
            self.heard.setdefault(place, set()).add((kind, " ".join(str(message).split())))


def collect(recorder: Recorder, places: list[Site], known: list[str]) -> dict[str, dict[str, str]]:
    """Words by path and template; those of messages made elsewhere, which have no site, by themselves.

    Parameters
    ----------
    recorder : Recorder
    places : list of Site
        As the sources were when the tests began.
    known : list of str
        Words to keep where none were heard.
    """
    found: dict[str, dict[str, str]] = {}
    rest = dict(recorder.heard)
    for site in places:
        heard = set()
        for (path, line), said in recorder.heard.items():
            if path == site.path and site.first <= line <= site.last:
                heard |= said
                rest.pop((path, line), None)
        parts = [" ".join(part.split()) for part in site.parts]
        told = [line for line in known if all(part in line for part in parts)]
        words = _line(*_plainest(heard)) if heard else min(told, key=_dots) if told else _untold(site)
        found.setdefault(site.path, {})[site.template] = words
    for (path, _), said in rest.items():
        kind, text = _plainest(said)
        if not is_internal(path, kind) and kind != "NotImplementedError":
            found.setdefault(path, {})[text] = _line(kind, text)
    return found


def _dots(line: str) -> tuple[int, int]:
    return line.count("..."), len(line)


def _plainest(heard: set[tuple[str, str]]) -> tuple[str, str]:
    """The example to show: the same whatever the order of the tests, and no folder of theirs if possible."""
    return min(heard, key=lambda one: ("/tmp" in one[1] or "0x" in one[1], len(one[1]), one[1]))


def _untold(site: Site) -> str:
    return _line(site.kind, " ".join(site.template.split()))


def _line(kind: str, text: str) -> str:
    return text if kind == "ValueError" else f"{kind}: {text}"


def subject(path: str) -> str:
    """The subject under which a file's messages stand: of the longest beginning."""
    known = [(len(start), name) for name, starts in SUBJECTS.items() for start in starts if path.startswith(start)]
    return max(known)[1]


def write(found: dict[str, dict[str, str]]) -> None:
    """Write the page."""
    parts = [TITLE]
    for name in SUBJECTS:
        lines = [line for path in sorted(found) if subject(path) == name for line in found[path].values()]
        if lines:
            wrapped = [
                textwrap.fill(line, 110, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
                for line in dict.fromkeys(lines)
            ]
            parts.append(f"## {name}\n\n```text\n" + "\n\n".join(wrapped) + "\n```\n")
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def known_lines() -> list[str]:
    """The messages of the page as it is."""
    blocks = re.findall(r"```text\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [" ".join(line.split()) for block in blocks for line in block.split("\n\n")]


def main() -> None:
    """Run the tests, or only look, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run no test")
    parser.add_argument("paths", nargs="*", help="tests to run; default most of them")
    options = parser.parse_args()
    recorder, places = Recorder(), sites()  # the sources may change before the tests are through
    folder = Path(__file__).parent
    chosen = options.paths or [str(folder / name) for name in TESTS]
    known = known_lines() if options.quick or options.paths else []
    if not options.quick:
        pytest.main(["-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen], plugins=[recorder])
    write(collect(recorder, places, known))


if __name__ == "__main__":
    main()
