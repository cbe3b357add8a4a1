"""Measures sm_multilevel, statsmodels, R's packages and the compiled peers on PyPI side by side, in one run.

    python tests/benchmarks/run.py --python PEERS/bin/python --write docs/benchmarks.md
    python tests/benchmarks/run.py --suite glmm --python PEERS/bin/python --write docs/benchmarks.md

The first measures linear models, the second generalised ones; each writes its own part of the page. PEERS is an
environment with the peers: `python -m venv PEERS && PEERS/bin/pip install glmm mixedlm mixedlm-rs gpboost pandas`.
R's lme4, glmmTMB and ordinal are measured where Rscript finds them. What is not installed is left out.

Each tool runs in a process of its own and takes its turn in rotating order, so that whatever else the machine does
falls on all alike. Before its turns a tool fits the case once, untimed (a fit of over 20 s, of a generalised model over
5 s, counts, and is the only one). Groups are integer codes, standard errors are computed, threads are each tool's
default. Memory is measured in fresh processes: the peak during one fit less what was resident before, with the data
loaded and a small model fitted, so that imports do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import report
import report_glmm
from cases import CASES, ROOT
from glmm_cases import GLMM_CASES, PROBES, SCALING

HERE = Path(__file__).resolve().parent
WHATS = ("arrays", "formula")
NEED_US = ("sm_multilevel", "yardstick")  # tools that import this checkout
QUICK = 0.1  # seconds: a fit below is repeated within its turn


@dataclass(frozen=True)
class Suite:
    """Cases, and the tools that fit them."""

    cases: dict
    modules: dict[str, str]  # what each Python tool but ours imports
    r: dict[str, tuple[str, str]]  # of each R tool: its worker and its package
    small: tuple  # cases with which workers are made to import what they need
    yardstick: str  # the tool that fits other models
    long: float  # seconds: above, the first fit is as warm as any, counts, and is enough
    weighed: tuple[str, ...] = ()  # cases whose memory is measured by default
    words: tuple[str, ...] = ()  # what a Python worker is told
    pick: Callable = median  # the time that is reported, of several
    heavy: float = float("inf")  # seconds: the memory of longer fits is not measured


SUITES = {
    "lmm": Suite(
        CASES,
        {
            "ols": "statsmodels",
            "statsmodels": "statsmodels",
            "mixedlm-rs": "mixedlm_rs",
            "mixedlm": "mixedlm",
            "glmm": "glmm",
        },
        {"lmer": ("worker.R", "lme4")},
        (CASES["sleepstudy"],),
        "ols",
        20.0,
        ("million", "insteval"),
    ),
    "glmm": Suite(
        GLMM_CASES,
        {"yardstick": "statsmodels", "mixedlm": "mixedlm", "glmm": "glmm", "gpboost": "gpboost"},
        {tool: ("worker_glmm.R", package) for tool, package in report_glmm.R_TOOLS.items()},
        (GLMM_CASES["epil"], GLMM_CASES["wine"]),
        "yardstick",
        5.0,
        ("bernoulli", "insteval"),
        ("glmm",),
        min,
        30.0,
    ),
}


@dataclass
class Measured:
    """What one tool did on one case."""

    tool: str
    case: str
    arrays: list[float] = field(default_factory=list)
    formula: list[float] = field(default_factory=list)
    summary: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    estimates: dict | None = None
    error: str | None = None

    def seconds(self, what: str, pick: Callable = median) -> float | None:
        times = getattr(self, what)
        return pick(times) if times else None


class Worker:
    """A tool's process."""

    def __init__(self, tool: str, command: list[str], timeout: float, threads: int | None) -> None:
        environment = dict(os.environ)
        path = [str(ROOT), *environment.get("PYTHONPATH", "").split(os.pathsep)] if tool in NEED_US else []
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        if threads:
            names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
            environment.update(dict.fromkeys(names, str(threads)))
        self.timeout = timeout
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=tempfile.gettempdir(),
        )
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def ask(self, *words: object) -> dict:
        """The answer to a command; an error where it cannot be had."""
        if self.process.poll() is not None:
            return {"error": f"its process ended with status {self.process.returncode}"}
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        if not self.selector.select(self.timeout):
            self.process.kill()
            self.process.wait()
            return {"error": f"not done after {self.timeout:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"its process ended with status {self.process.wait()}"}

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.selector.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def find_tools(pythons: list[str], suite: Suite) -> dict[str, list[str]]:
    """Each tool that is installed, and the command that starts its worker; the first environment that has it."""
    commands = {"sm_multilevel": [sys.executable, str(HERE / "worker.py"), "sm_multilevel", *suite.words]}
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    for tool, module in suite.modules.items():
        for python in [sys.executable, *pythons]:
            if tool not in commands and subprocess.run([python, "-c", probe, module], cwd="/").returncode == 0:
                commands[tool] = [python, str(HERE / "worker.py"), tool, *suite.words]
    rscript = shutil.which("Rscript")
    for tool, (worker, package) in suite.r.items():
        if rscript and not subprocess.run([rscript, "-e", f"library({package})"], capture_output=True).returncode:
            commands[tool] = [rscript, "--vanilla", str(HERE / worker), tool]
    return commands


class Bench:
    """The tools, the folder their data are in, and how long they are let run."""

    def __init__(self, suite: Suite, commands: dict, folder: Path, options: argparse.Namespace) -> None:
        self.suite = suite
        self.commands = commands
        self.folder = folder
        self.repeats = options.repeats
        self.timeout = options.timeout
        self.threads = options.threads
        for case in suite.small:
            case.save(folder / "small" / case.name)

    def start(self, tool: str) -> Worker:
        """A worker that has imported what it needs."""
        worker = Worker(tool, self.commands[tool], self.timeout, self.threads)
        for case in self.suite.small:
            for what in worker.ask("load", self.folder / "small" / case.name).get("can", []):
                worker.ask("run", what, 1)
        return worker

    def versions(self) -> dict[str, str]:
        found = {}
        for tool in self.commands:
            with Worker(tool, self.commands[tool], self.timeout, self.threads) as worker:
                found[tool] = worker.ask("about").get("version", "?")
        return found

    def measure(self, case) -> tuple[int, list[Measured]]:
        """Times of all tools on a case."""
        folder = self.folder / case.name
        rows = case.save(folder)
        workers = {}
        tools = [tool for tool in self.commands if tool in (getattr(case, "tools", ()) or self.commands)]
        measured = {tool: Measured(tool, case.name) for tool in tools}
        try:
            can = {}
            for tool in tools:
                workers[tool] = self.start(tool)
                answer = workers[tool].ask("load", folder)
                can[tool] = answer.get("can", [])
                measured[tool].error = answer.get("error")
            for what in WHATS:
                self._take_turns([t for t in workers if what in can[t]], workers, measured, what)
            for tool, worker in workers.items():
                if tool != self.suite.yardstick and (measured[tool].formula or measured[tool].arrays):
                    answer = worker.ask("estimates")
                    measured[tool].estimates = None if "error" in answer else answer
        finally:
            for worker in workers.values():
                worker.close()
        return rows, list(measured.values())

    def scale(self, cases, tool: str = "sm_multilevel") -> list[tuple[int, Measured]]:
        """Times of one tool on cases that differ in size, which take turns, and its memory."""
        rows = {case.name: case.save(self.folder / case.name) for case in cases}
        measured = {case.name: Measured(tool, case.name) for case in cases}
        workers = {}
        try:
            for case in cases:
                workers[case.name] = self.start(tool)
                workers[case.name].ask("load", self.folder / case.name)
            self._take_turns(list(workers), workers, measured, "arrays")
        finally:
            for worker in workers.values():
                worker.close()
        for case in cases:
            self.weigh(case, [measured[case.name]])
        return [(rows[case.name], measured[case.name]) for case in cases]

    def probe(self, cases) -> dict[str, dict[str, dict]]:
        """What each tool finds in each case, not timed: estimates, {"error": ...}, or {} where it has no such model."""
        found: dict[str, dict] = {case.name: {} for case in cases}
        for case in cases:
            case.save(self.folder / case.name)
        for tool in self.commands:
            if tool == self.suite.yardstick:
                continue
            worker = self.start(tool)
            for case in cases:
                if worker.process.poll() is not None:
                    worker.close()
                    worker = self.start(tool)
                answer = worker.ask("load", self.folder / case.name)
                if "error" not in answer:
                    answer = worker.ask("estimates") if answer["can"] else {}
                found[case.name][tool] = answer
            worker.close()
        return found

    def _take_turns(self, tools: list[str], workers: dict[str, Worker], measured: dict, what: str) -> None:
        remaining, per_turn = {}, {}
        for tool in tools:
            first = self._run(workers[tool], measured[tool], what)
            if not first:
                remaining[tool] = 0
                continue
            per_turn[tool] = 3 if first[0][0] < QUICK else 1
            remaining[tool] = self.repeats
            if first[0][0] > self.suite.long:
                self._keep(measured[tool], what, first)
                remaining[tool] = 0
        for turn in range(self.repeats):
            for tool in tools[turn % len(tools) :] + tools[: turn % len(tools)]:
                if turn < remaining[tool]:
                    self._keep(measured[tool], what, self._run(workers[tool], measured[tool], what, per_turn[tool]))

    @staticmethod
    def _run(worker: Worker, measured: Measured, what: str, times: int = 1) -> list:
        """Each fit's times to the standard errors and to the summary; none, with the error noted, on failure."""
        answer = worker.ask("run", what, times)
        if "error" in answer:
            measured.error = f"{what}: {answer['error']}"
            print(f"  {measured.tool}: {measured.error}", file=sys.stderr)
        return answer.get("seconds", [])

    @staticmethod
    def _keep(measured: Measured, what: str, times: list) -> None:
        getattr(measured, what).extend(fitted for fitted, _ in times)
        measured.summary.extend(printed for _, printed in times if printed is not None)

    def weigh(self, case, measured: list[Measured]) -> None:
        """Memory of all tools on a case."""
        for record in measured:
            for what in WHATS:
                if getattr(record, what) and record.seconds(what, min) < self.suite.heavy:
                    with self.start(record.tool) as worker:
                        worker.ask("load", self.folder / case.name)
                        answer = worker.ask("memory", what)
                    if "bytes" in answer:
                        record.memory[what] = int(answer["bytes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, default="lmm", help="linear or generalised models (default lmm)")
    parser.add_argument("--data", nargs="+", help="which cases (default all)")
    parser.add_argument("--tools", nargs="+", help="which tools, of those installed (default all)")
    parser.add_argument("--python", action="append", default=[], help="interpreter of an environment with peers")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each tool (default 5)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one answer of a tool")
    parser.add_argument("--threads", type=int, help="limit BLAS, OpenMP and Rayon threads of all (default: theirs)")
    parser.add_argument("--memory", nargs="*", help="cases to weigh (default the largest)")
    parser.add_argument("--scaling", nargs="*", help="suite glmm: numbers of rows (default 20000 200000 2000000)")
    parser.add_argument("--probes", nargs="*", help="suite glmm: models only compared, not timed (default all)")
    parser.add_argument("--write", type=Path, help="the page to write its part of, as docs/benchmarks.md")
    parser.add_argument("--json", type=Path, help="where to keep the raw figures")
    options = parser.parse_args()
    suite = SUITES[options.suite]
    _check(parser, "case", suite.cases, [*(options.data or []), *(options.memory or [])])
    _check(parser, "tool", ["sm_multilevel", *suite.modules, *suite.r], options.tools or [])
    sizes = {case.name.removeprefix("scale"): case for case in SCALING} if options.suite == "glmm" else {}
    probes = PROBES if options.suite == "glmm" else {}
    _check(parser, "number of rows", sizes, options.scaling or [])
    _check(parser, "model", probes, options.probes or [])

    commands = find_tools(options.python, suite)
    if options.tools:
        commands = {tool: command for tool, command in commands.items() if tool in options.tools}
    started = time.strftime("%Y-%m-%d %H:%M")
    results, scaled, found = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(suite, commands, Path(folder), options)
        versions = bench.versions()
        print("measuring " + ", ".join(f"{tool} {version}" for tool, version in versions.items()), file=sys.stderr)
        for name in suite.cases if options.data is None else options.data:
            case = suite.cases[name]
            print(f"{time.strftime('%H:%M:%S')} {case.title}: {case.formula}", file=sys.stderr)
            rows, measured = bench.measure(case)
            if name in (suite.weighed if options.memory is None else options.memory):
                bench.weigh(case, measured)
            results.append(report.CaseResult(case, rows, measured, suite.pick))
        chosen = [sizes[size] for size in (sizes if options.scaling is None else options.scaling)]
        if chosen:
            print(f"{time.strftime('%H:%M:%S')} sizes", file=sys.stderr)
            scaled = [
                report.CaseResult(case, rows, [record], suite.pick)
                for case, (rows, record) in zip(chosen, bench.scale(chosen))
            ]
        chosen = [probes[name] for name in (probes if options.probes is None else options.probes)]
        if chosen:
            print(f"{time.strftime('%H:%M:%S')} comparing", file=sys.stderr)
            found = bench.probe(chosen)
    command = " ".join(["python tests/benchmarks/run.py", *sys.argv[1:]])
    if options.suite == "lmm":
        page = report.page(results, versions, started, command, options.threads)
    else:
        page = report_glmm.section(results, scaled, found, versions, started, command, options.threads)
    print(page)
    if options.write:
        old = options.write.read_text() if options.write.exists() else ""
        options.write.write_text(report_glmm.replace_part(old, page))
    if options.json:
        figures = [asdict(record) for result in [*results, *scaled] for record in result.measured]
        raw = {"versions": versions, "started": started, "figures": figures, "probes": found}
        options.json.write_text(json.dumps(raw, indent=1))


def _check(parser, what: str, known, given: list[str]) -> None:
    for name in given:
        if name not in known:
            parser.error(f"no {what} {name!r}; there are {', '.join(known)}")


if __name__ == "__main__":
    main()
