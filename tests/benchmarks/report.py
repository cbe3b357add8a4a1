"""The figures as a page of Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

OURS = "sm_multilevel"
ORDER = (OURS, "glmm", "mixedlm", "mixedlm-rs", "statsmodels", "lmer", "ols")
PEERS = ("glmm", "mixedlm", "mixedlm-rs")
NOTHING = "–"


@dataclass(frozen=True)
class CaseResult:
    """A case, its number of rows and what each tool did on it (`run.Measured`)."""

    case: Any  # cases.Case or glmm_cases.GlmmCase
    rows: int
    measured: list[Any]
    pick: Callable = median

    @property
    def design_bytes(self) -> int:
        return 8 * self.rows * self.case.design_columns

    def of(self, tool: str) -> Any | None:
        return next((record for record in self.measured if record.tool == tool), None)

    def seconds(self, tool: str, what: str) -> float | None:
        record = self.of(tool)
        return record.seconds(what, self.pick) if record else None

    def fastest(self, tools: tuple[str, ...], what: str) -> float | None:
        return min((s for tool in tools if (s := self.seconds(tool, what)) is not None), default=None)


@dataclass(frozen=True)
class Target:
    """A ratio that is aimed at: at most ``bound`` (or at least, where ``least``)."""

    case: str
    wording: str
    ratio: Callable[[CaseResult], float | None]
    bound: float
    least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.least else value <= self.bound


def _over(what: str, *tools: str) -> Callable[[CaseResult], float | None]:
    """Our time over the fastest of the tools'."""
    return lambda result: _divide(result.seconds(OURS, what), result.fastest(tools, what))


def _under(what: str, tool: str) -> Callable[[CaseResult], float | None]:
    """A tool's time over ours."""
    return lambda result: _divide(result.seconds(tool, what), result.seconds(OURS, what))


def _memory(what: str) -> Callable[[CaseResult], float | None]:
    return lambda result: _divide(result.of(OURS).memory.get(what), result.design_bytes) if result.of(OURS) else None


TARGETS = (
    Target("million", "fit time over the fastest peer's", _over("arrays", *PEERS), 1.0),
    Target("million", "lmer's fit time over ours", _under("arrays", "lmer"), 100.0, least=True),
    Target(
        "million",
        "formula to results over `smf.ols(...).fit()`",
        lambda result: _divide(result.seconds(OURS, "formula"), result.seconds("ols", "formula")),
        3.0,
    ),
    Target("million", "peak memory of a fit over the size of the design", _memory("arrays"), 5.0),
    Target("million", "peak memory from a formula over the size of the design", _memory("formula"), 5.0),
    Target("insteval", "fit time over the fastest peer's", _over("arrays", *PEERS), 1.0),
    Target("insteval", "lmer's fit time over ours", _under("arrays", "lmer"), 15.0, least=True),
    Target("chem97", "lmer's fit time over ours", _under("arrays", "lmer"), 5.0, least=True),
    Target("egsingle", "lmer's fit time over ours", _under("arrays", "lmer"), 5.0, least=True),
    Target("threelevel", "lmer's fit time over ours", _under("arrays", "lmer"), 5.0, least=True),
    Target("sleepstudy", "lmer's fit time over ours", _under("arrays", "lmer"), 3.0, least=True),
    Target("sleepstudy", "formula to printed summary over lmer's", _over("summary", "lmer"), 1.0),
    Target("exam", "lmer's fit time over ours", _under("arrays", "lmer"), 3.0, least=True),
    Target("exam", "formula to printed summary over lmer's", _over("summary", "lmer"), 1.0),
)


def page(
    results: list[CaseResult], versions: dict[str, str], started: str, command: str, threads: int | None = None
) -> str:
    """The whole page."""
    tools = [tool for tool in ORDER if tool in versions]
    parts = [
        "# Benchmarks",
        f"Made {started} by\n\n```sh\n{command}\n```",
        f"{_machine()}. Threads: {f'{threads} for every tool' if threads else 'default of each tool'}.",
        "Measured: " + ", ".join(f"{tool} {versions[tool]}" for tool in tools) + ".",
        (
            "Medians of at least five warm runs, in seconds, the tools taking turns, each in its own process; "
            "groups are integer codes, REML, standard errors included. A star marks fewer than five runs. "
            "`ols` is no mixed model but statsmodels' least squares on the same fixed effects, as a yardstick. "
            "The last two columns say how many times longer lmer and the fastest compiled peer take than sm_multilevel."
        ),
        "## Models\n\n" + _models(results),
        (
            "## Fit from arrays at hand\n\nNo reading of a formula. mixedlm and lmer have no such interface: there, "
            "from model matrices at hand (for lmer: all that follows `lFormula`). sm_multilevel takes its terms "
            "with codes and columns ready where there are several.\n\n"
        )
        + _times(results, tools, "arrays"),
        "## From a formula and a data frame to results\n\n" + _times(results, tools, "formula"),
        "## From a formula and a data frame to the printed summary\n\n" + _times(results, tools, "summary"),
    ]
    if any(record.memory for result in results for record in result.measured):
        parts.append(
            "## Memory\n\nPeak during one fit less what was resident with the data loaded, in MB; in brackets, times "
            "the size of the design (y, X, the columns of Z and the codes, 8 bytes a number).\n\n"
            + _memories(results, tools)
        )
    parts.append(
        "## Agreement\n\nREML criterion above the lowest that any tool found; largest distance of a fixed effect from "
        "that tool's, in its standard errors; largest relative difference of a standard error.\n\n"
        + _agreement(results, tools)
    )
    parts.append("## Targets\n\n" + _targets(results))
    failures = [
        f"- {record.tool} on {result.case.title}: {record.error}"
        for result in results
        for record in result.measured
        if record.error
    ]
    if failures:
        parts.append("## Failures\n\n" + "\n".join(failures))
    return "\n\n".join(parts) + "\n"


def _models(results: list[CaseResult]) -> str:
    rows = [[result.case.title, f"{result.rows:,}", f"`{result.case.formula}`"] for result in results]
    return _table(["Data", "rows", "model"], rows)


def _times(results: list[CaseResult], tools: list[str], what: str) -> str:
    rows = []
    for result in results:
        ours = result.seconds(OURS, what)
        ratios = (_divide(result.seconds("lmer", what), ours), _divide(result.fastest(PEERS, what), ours))
        rows.append([result.case.title, *(_cell(result, tool, what) for tool in tools), *map(_ratio, ratios)])
    return _table(["Data", *tools, "lmer / ours", "fastest peer / ours"], rows)


def _cell(result: CaseResult, tool: str, what: str) -> str:
    seconds = result.seconds(tool, what)
    if seconds is None:
        return NOTHING
    few = "*" if len(getattr(result.of(tool), what)) < 5 else ""
    return f"{seconds:#.2g}".rstrip(".") + few if seconds < 99.5 else f"{seconds:.0f}{few}"


def _memories(results: list[CaseResult], tools: list[str]) -> str:
    rows = []
    for result in results:
        for what, words in (("arrays", "fit from arrays"), ("formula", "from a formula")):
            sizes = [record.memory.get(what) if (record := result.of(tool)) else None for tool in tools]
            if any(sizes):
                design = result.design_bytes
                cells = [f"{_megabytes(s)} ({s / design:.1f})" if s is not None else NOTHING for s in sizes]
                rows.append([result.case.title, words, _megabytes(design), *cells])
    return _table(["Data", "what", "design", *tools], rows)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f}" if size > 9.5e6 else f"{size / 1e6:.1f}"


def _agreement(results: list[CaseResult], tools: list[str]) -> str:
    fitting = [tool for tool in tools if tool != "ols"]
    rows = []
    for result in results:
        found = {record.tool: record.estimates for record in result.measured if record.estimates}
        if not found:
            continue
        best = min(found.values(), key=lambda estimates: estimates["criterion"])
        rows.append([result.case.title, *(_distance(found.get(tool), best) for tool in fitting)])
    return _table(["Data", *fitting], rows)


def _distance(estimates: dict | None, best: dict) -> str:
    if estimates is None:
        return NOTHING
    beta, se = np.array(estimates["beta"]), np.array(estimates["se"])
    beta_best, se_best = np.array(best["beta"]), np.array(best["se"])
    gap = estimates["criterion"] - best["criterion"]
    return f"{gap:.1e}; {np.max(np.abs(beta - beta_best) / se_best):.0e}; {np.max(np.abs(se / se_best - 1)):.0e}"


def _targets(results: list[CaseResult], targets: tuple[Target, ...] = TARGETS) -> str:
    by_name = {result.case.name: result for result in results}
    rows = []
    for target in targets:
        if target.case not in by_name:
            continue
        result = by_name[target.case]
        value = target.ratio(result)
        aim = f"{'at least' if target.least else 'at most'} {target.bound:g}"
        verdict = "not measured" if value is None else "met" if target.met(value) else "**not met**"
        rows.append([result.case.title, target.wording, aim, _ratio(value), verdict])
    return _table(["Data", "Ratio", "aim", "measured", ""], rows)


def _divide(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def _ratio(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.0f}" if value >= 99.5 else f"{value:#.2g}".rstrip(".")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[2]
    return (
        f"Machine: {cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python "
        f"{platform.python_version()}; mean load over the last quarter of an hour {load:.1f}"
    )
