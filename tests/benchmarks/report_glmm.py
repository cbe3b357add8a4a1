"""The figures of generalised models as a section of the page."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from glmm_cases import PROBES
from report import (
    NOTHING,
    OURS,
    CaseResult,
    Target,
    _cell,
    _divide,
    _machine,
    _megabytes,
    _memory,
    _ratio,
    _table,
    _targets,
    _under,
)

HEAD = "## Generalised models"
R_TOOLS = {"glmer": "lme4", "glmmTMB": "glmmTMB", "clmm": "ordinal"}  # the R tools and their packages
PEERS = ("glmm", "gpboost", "mixedlm")
ORDER = (OURS, *PEERS, *R_TOOLS)
YARDSTICKS = {
    "glm": "`sm.GLM`",
    "intercept": "ours, intercept only",
    "binary": "ours, binary",
    "linear": "ours, linear",
    None: NOTHING,
}
# Pairs of probes or cases that differ in nAGQ only.
QUADRATURE = (
    ("toenail1", "toenail7"),
    ("contraception", "contraception7"),
    ("cbpp1", "cbpp7"),
    ("epil", "epil7"),
    ("gamma", "gamma7"),
)


def _over_yardstick(result: CaseResult) -> float | None:
    return _divide(result.seconds(OURS, "arrays"), result.seconds("yardstick", "arrays"))


def _over_peers(result: CaseResult) -> float | None:
    return _divide(result.seconds(OURS, "arrays"), result.fastest(PEERS, "arrays"))


TARGETS = (
    Target("bernoulli", "fit time over `sm.GLM(...).fit()`", _over_yardstick, 2.5),
    Target("bernoulli", "fit time over the fastest peer's", _over_peers, 1.0),
    Target("bernoulli", "peak memory of a fit over the size of the design", _memory("arrays"), 6.0),
    Target("bernoulli7", "fit time over `sm.GLM(...).fit()`", _over_yardstick, 6.0),
    Target("slope", "fit time over ours with an intercept only", _over_yardstick, 3.0),
    Target("ordinal", "fit time over ours of a binary response", _over_yardstick, 3.0),
    Target("ordinal20", "clmm's time over ours", _under("formula", "clmm"), 10.0, least=True),
    Target("insteval", "fit time over our linear fit's", _over_yardstick, 15.0),
    *(
        Target(case, f"{tool}'s time over ours", _under("formula", tool), 10.0, least=True)
        for case, tools in {
            "verbagg": ("glmer", "glmmTMB"),
            "toenail": ("glmer",),
            "contraception": ("glmer", "glmmTMB"),
            "owls": ("glmer", "glmmTMB"),
            "cbpp": ("glmer", "glmmTMB"),
            "epil": ("glmer", "glmmTMB"),
            "wine": ("clmm",),
        }.items()
        for tool in tools
    ),
)


def replace_part(page: str, part: str) -> str:
    """The page with one suite's part made new: the generalised models' is what follows `HEAD`."""
    head, found, tail = page.partition(HEAD)
    if part.startswith(HEAD):
        return (head.rstrip() + "\n\n" if head.strip() else "") + part
    return part + ("\n" + found + tail if found else "")


def section(
    results: list[CaseResult],
    scaled: list[CaseResult],
    found: dict[str, dict[str, dict]],
    versions: dict[str, str],
    started: str,
    command: str,
    threads: int | None = None,
) -> str:
    """The whole section."""
    tools = [tool for tool in ORDER if tool in versions]
    parts = [
        HEAD,
        f"Made {started} by\n\n```sh\n{command}\n```",
        f"{_machine()}. Threads: {f'{threads} for every tool' if threads else 'default of each tool'}.",
        "Measured: " + ", ".join(f"{tool} {versions[tool]}" for tool in tools) + ".",
        (
            "The least of at least five warm runs, in seconds, the tools taking turns, each in its own process; a star "
            "marks fewer runs (one where a fit takes over five seconds). Group labels are integer codes, standard "
            "errors are included. The machine is shared: compare times within a row, not between pages."
        ),
    ]
    if results:
        parts += [
            "### What is fitted\n\n" + _models(results),
            (
                "### Generalised models from arrays at hand\n\nThe yardstick is measured in the same turns on the same "
                "rows: statsmodels' `GLM` of the same fixed effects without random ones, or a simpler model of ours. "
                "glmm gets a formula of ready columns, mixedlm its model matrices; R's packages have no such "
                "interface.\n\n" + _arrays(results, tools)
            ),
            "### Generalised models from a formula and a data frame to results\n\n"
            + _formulas(results, tools, "formula"),
            (
                "### Generalised models from a formula and a data frame to the printed summary\n\n"
                + _formulas(results, tools, "summary")
            ),
        ]
    if any(record.memory for result in results for record in result.measured):
        parts.append(
            "### Memory of generalised models\n\nPeak during one fit less what was resident with the data loaded, in "
            "MB; in brackets, times the size of the design (y, X, the columns of Z and the codes, 8 bytes a number)."
            "\n\n" + _memories(results, tools)
        )
    if scaled:
        parts.append(
            "### Size\n\nBernoulli, four columns with the intercept, a random intercept, 40 rows a group, Laplace, "
            "from arrays; the sizes take turns. Memory as above, in a fresh process each.\n\n" + _sizes(scaled)
        )
    findings = _findings(results, found)
    if findings:
        parts.append(
            "### What the tools find\n\nThe log-likelihood that the tool reports less ours; the largest distance of a "
            "fixed effect from ours, in our standard errors; the relative distance of the first standard deviation of "
            "the random effects. A log-likelihood above ours is one of another definition (lme4's quadrature leaves "
            "out constants; its Gamma objective is not the likelihood) or of another optimum; estimates tell which.\n\n"
            + _agreement(findings, tools)
        )
        parts.append(
            "### Does nAGQ do anything?\n\nThe first standard deviation of the random effects with nAGQ=1 and "
            "nAGQ=7.\n\n" + _quadrature(findings, tools)
        )
    parts.append("### Targets for generalised models\n\n" + _targets(results, TARGETS) + _size_targets(scaled))
    failures = _failures(results, found)
    if failures:
        parts.append("### Failures of generalised models\n\n" + "\n".join(failures))
    return "\n\n".join(parts) + "\n"


def _models(results: list[CaseResult]) -> str:
    rows = [
        [result.case.title, f"{result.rows:,}", f"`{result.case.r_formula}`", result.case.words] for result in results
    ]
    return _table(["Data", "rows", "model", "response"], rows)


def _arrays(results: list[CaseResult], tools: list[str]) -> str:
    columns = [tool for tool in tools if tool not in R_TOOLS]
    rows = []
    for result in results:
        ratios = (_over_yardstick(result), _divide(1.0, _over_peers(result)))
        cells = [_cell(result, tool, "arrays") for tool in columns]
        yardstick = [_cell(result, "yardstick", "arrays"), YARDSTICKS[result.case.yardstick]]
        rows.append([result.case.title, *cells, *yardstick, *map(_ratio, ratios)])
    head = ["Data", *columns, "yardstick", "which is", "ours / yardstick", "fastest peer / ours"]
    return _table(head, rows)


def _formulas(results: list[CaseResult], tools: list[str], what: str) -> str:
    columns = [tool for tool in tools if tool != "gpboost"]
    of_r = [tool for tool in R_TOOLS if tool in tools]
    rows = []
    for result in results:
        ratios = [_under(what, tool)(result) for tool in of_r]
        ratios.append(_divide(result.fastest(PEERS, what), result.seconds(OURS, what)))
        rows.append([result.case.title, *(_cell(result, tool, what) for tool in columns), *map(_ratio, ratios)])
    return _table(["Data", *columns, *(f"{tool} / ours" for tool in of_r), "fastest peer / ours"], rows)


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


def _per_row(result: CaseResult) -> float | None:
    return _divide(result.seconds(OURS, "arrays"), result.rows)


def _sizes(scaled: list[CaseResult]) -> str:
    first = _per_row(scaled[0])
    rows = []
    for result in scaled:
        design = result.design_bytes
        memory = result.of(OURS).memory.get("arrays")
        rows.append(
            [
                result.case.title,
                _cell(result, OURS, "arrays"),
                _ratio(_divide(_per_row(result), first)),
                _megabytes(design),
                NOTHING if memory is None else f"{_megabytes(memory)} ({memory / design:.1f})",
            ]
        )
    return _table(["rows", "seconds", "time a row over the first line's", "design", "peak memory"], rows)


def _size_targets(scaled: list[CaseResult]) -> str:
    """One line more a size."""
    lines = []
    for result in scaled:
        value = _divide(result.of(OURS).memory.get("arrays"), result.design_bytes)
        verdict = "not measured" if value is None else "met" if value <= 6.0 else "**not met**"
        words = "peak memory of a fit over the size of the design"
        lines.append(f"\n| {result.case.title} rows | {words} | at most 6 | {_ratio(value)} | {verdict} |")
    return "".join(lines)


def _findings(results: list[CaseResult], found: dict) -> dict[str, tuple[str, dict[str, dict]]]:
    """Of each case and probe its title and each tool's estimates."""
    out: dict[str, tuple[str, dict[str, Any]]] = {}
    for result in results:
        estimates = {record.tool: record.estimates for record in result.measured if record.estimates}
        if estimates:
            out[result.case.name] = (result.case.title, estimates)
    for name, answers in found.items():
        out[name] = (PROBES[name].title, {tool: answer for tool, answer in answers.items() if answer})
    return out


def _agreement(findings: dict, tools: list[str]) -> str:
    others = [tool for tool in tools if tool != OURS]
    rows = []
    for title, answers in findings.values():
        ours = answers.get(OURS)
        if not ours or "error" in ours:
            continue
        cells = [distance(answers.get(tool), ours) for tool in others]
        rows.append([title, f"{ours['llf']:.4f}", *cells])
    return _table(["Data", "our log-likelihood", *others], rows)


def distance(theirs: dict | None, ours: dict) -> str:
    """How far a tool's fit is from ours, in words of the table."""
    if not theirs:
        return NOTHING
    if "error" in theirs:
        return "error"
    beta = dict(zip(map(plain_name, theirs["names"]), theirs["beta"]))
    names = [plain_name(name) for name in ours["names"]]
    if set(beta) != set(names):
        return "other coefficients"
    gaps = [(beta[name] - value) / se for name, value, se in zip(names, ours["beta"], ours["se"])]
    spread = _divide(theirs["sd"], ours["sd"])
    return (
        f"{theirs['llf'] - ours['llf']:+.1e}; {np.max(np.abs(gaps)):.0e}; "
        f"{NOTHING if spread is None else f'{abs(spread - 1):.0e}'}"
    )


def plain_name(name: str) -> str:
    """A coefficient's name, whether patsy's or R's."""
    if name in ("(Intercept)", "Intercept"):
        return "Intercept"
    parts = re.sub(r"\[(?:T\.)?(.*?)\]", r"\1", name).split(":")
    return ":".join(sorted(parts))


def _quadrature(findings: dict, tools: list[str]) -> str:
    rows = []
    for one, seven in QUADRATURE:
        if one not in findings or seven not in findings:
            continue
        title = PROBES[seven].title.removesuffix(", nAGQ=7")
        rows.append([title, *(_change(findings[one][1].get(tool), findings[seven][1].get(tool)) for tool in tools)])
    return _table(["Data", *tools], rows)


def _change(one: dict | None, seven: dict | None) -> str:
    if not one or "error" in one:
        return NOTHING
    if not seven:
        return "has none"
    if "error" in seven:
        return "refuses"
    if abs(seven["sd"] / one["sd"] - 1) < 1e-7:
        return f"{one['sd']:.4f}, **unchanged**"
    return f"{one['sd']:.4f}, {seven['sd']:.4f}"


def _failures(results: list[CaseResult], found: dict) -> list[str]:
    lines = [
        f"- {record.tool} on {result.case.title}: {record.error}"
        for result in results
        for record in result.measured
        if record.error
    ]
    lines += [
        f"- {tool} on {PROBES[name].title}: {answer['error']}"
        for name, answers in found.items()
        for tool, answer in answers.items()
        if "error" in answer
    ]
    return list(dict.fromkeys(" ".join(line.split())[:240] for line in lines))
