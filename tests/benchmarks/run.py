"""Measures sm_multilevel, statsmodels, R's lme4 and the compiled peers on PyPI side by side, in one run.

    python tests/benchmarks/run.py --python PEERS/bin/python --write docs/benchmarks.md

where PEERS is an environment with the peers: `python -m venv PEERS && PEERS/bin/pip install glmm mixedlm mixedlm-rs
pandas`. lme4 is measured where Rscript finds it. What is not installed is left out.

Each tool runs in a process of its own and takes its turn in rotating order, so that whatever else the machine does
falls on all alike. Before its turns a tool fits the case once, untimed (a fit of over 20 s counts, and is the only
one). Groups are integer codes, standard errors are computed, threads are each tool's default. Memory is measured in
fresh processes: the peak during one fit less what was resident before, with the data loaded and a small model fitted,
so that imports do not count.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import report
from cases import CASES, ROOT, Case

HERE = Path(__file__).resolve().parent
# What each tool but ours and lmer imports.
MODULES = {
    "ols": "statsmodels",
    "statsmodels": "statsmodels",
    "mixedlm-rs": "mixedlm_rs",
    "mixedlm": "mixedlm",
    "glmm": "glmm",
}
WHATS = ("arrays", "formula")
QUICK = 0.1  # seconds: a fit below is repeated within its turn
LONG = 20.0  # seconds: above, the first fit is as warm as any, counts, and is enough


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

    def seconds(self, what: str) -> float | None:
        times = getattr(self, what)
        return median(times) if times else None


class Worker:
    """A tool's process."""

    def __init__(self, tool: str, command: list[str], timeout: float, threads: int | None) -> None:
        environment = dict(os.environ)
        path = [str(ROOT), *environment.get("PYTHONPATH", "").split(os.pathsep)] if tool == "sm_multilevel" else []
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


def find_tools(pythons: list[str]) -> dict[str, list[str]]:
    """Each tool that is installed, and the command that starts its worker; the first environment that has it."""
    commands = {"sm_multilevel": [sys.executable, str(HERE / "worker.py"), "sm_multilevel"]}
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    for tool, module in MODULES.items():
        for python in [sys.executable, *pythons]:
            if tool not in commands and subprocess.run([python, "-c", probe, module], cwd="/").returncode == 0:
                commands[tool] = [python, str(HERE / "worker.py"), tool]
    rscript = shutil.which("Rscript")
    if rscript and not subprocess.run([rscript, "-e", "library(lme4)"], capture_output=True).returncode:
        commands["lmer"] = [rscript, "--vanilla", str(HERE / "worker.R")]
    return commands


class Bench:
    """The tools, the folder their data are in, and how long they are let run."""

    def __init__(self, commands: dict[str, list[str]], folder: Path, options: argparse.Namespace) -> None:
        self.commands = commands
        self.folder = folder
        self.repeats = options.repeats
        self.timeout = options.timeout
        self.threads = options.threads
        CASES["sleepstudy"].save(folder / "small")

    def start(self, tool: str) -> Worker:
        """A worker that has imported what it needs."""
        worker = Worker(tool, self.commands[tool], self.timeout, self.threads)
        worker.ask("load", self.folder / "small")
        for what in WHATS:
            worker.ask("run", what, 1)
        return worker

    def versions(self) -> dict[str, str]:
        found = {}
        for tool in self.commands:
            with Worker(tool, self.commands[tool], self.timeout, self.threads) as worker:
                found[tool] = worker.ask("about").get("version", "?")
        return found

    def measure(self, case: Case) -> tuple[int, list[Measured]]:
        """Times of all tools on a case."""
        folder = self.folder / case.name
        rows = case.save(folder)
        workers = {}
        measured = {tool: Measured(tool, case.name) for tool in self.commands}
        try:
            can = {}
            for tool in self.commands:
                workers[tool] = self.start(tool)
                answer = workers[tool].ask("load", folder)
                can[tool] = answer.get("can", [])
                measured[tool].error = answer.get("error")
            for what in WHATS:
                self._take_turns([t for t in workers if what in can[t]], workers, measured, what)
            for tool, worker in workers.items():
                if tool != "ols" and measured[tool].formula:
                    answer = worker.ask("estimates")
                    measured[tool].estimates = None if "error" in answer else answer
        finally:
            for worker in workers.values():
                worker.close()
        return rows, list(measured.values())

    def _take_turns(self, tools: list[str], workers: dict[str, Worker], measured: dict, what: str) -> None:
        remaining, per_turn = {}, {}
        for tool in tools:
            first = self._run(workers[tool], measured[tool], what)
            if not first:
                remaining[tool] = 0
                continue
            per_turn[tool] = 3 if first[0][0] < QUICK else 1
            remaining[tool] = self.repeats
            if first[0][0] > LONG:
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

    def weigh(self, case: Case, measured: list[Measured]) -> None:
        """Memory of all tools on a case."""
        for record in measured:
            for what in WHATS:
                if getattr(record, what):
                    with self.start(record.tool) as worker:
                        worker.ask("load", self.folder / case.name)
                        answer = worker.ask("memory", what)
                    if "bytes" in answer:
                        record.memory[what] = int(answer["bytes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=CASES, default=list(CASES), help="which cases")
    parser.add_argument(
        "--tools", nargs="+", choices=["sm_multilevel", *MODULES, "lmer"], help="which tools, of those installed"
    )
    parser.add_argument("--python", action="append", default=[], help="interpreter of an environment with peers")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each tool (default 5)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one answer of a tool")
    parser.add_argument("--threads", type=int, help="limit BLAS, OpenMP and Rayon threads of all (default: theirs)")
    parser.add_argument("--memory", nargs="*", choices=CASES, default=["million", "insteval"], help="cases to weigh")
    parser.add_argument("--write", type=Path, help="the page to write, as docs/benchmarks.md")
    parser.add_argument("--json", type=Path, help="where to keep the raw figures")
    options = parser.parse_args()

    commands = find_tools(options.python)
    if options.tools:
        commands = {tool: command for tool, command in commands.items() if tool in options.tools}
    started = time.strftime("%Y-%m-%d %H:%M")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(commands, Path(folder), options)
        versions = bench.versions()
        print("measuring " + ", ".join(f"{tool} {version}" for tool, version in versions.items()), file=sys.stderr)
        for name in options.data:
            case = CASES[name]
            print(f"{case.title}: {case.formula}", file=sys.stderr)
            rows, measured = bench.measure(case)
            if name in options.memory:
                bench.weigh(case, measured)
            results.append(report.CaseResult(case, rows, measured))
    command = " ".join(["python tests/benchmarks/run.py", *sys.argv[1:]])
    page = report.page(results, versions, started, command, options.threads)
    print(page)
    if options.write:
        options.write.write_text(page)
    if options.json:
        figures = [asdict(record) for result in results for record in result.measured]
        options.json.write_text(json.dumps({"versions": versions, "started": started, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
