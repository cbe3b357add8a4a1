"""A process that fits one case with one tool as often as it is told: `worker.py TOOL [glmm]`, commands on stdin.

It runs in the tool's own environment, so it needs NumPy and pandas only. A command is a line of words, separated by
tabs; the answer is a line of JSON:

    load FOLDER            read a case
    run arrays|formula N   N timed fits: [seconds to the standard errors, seconds to the printed summary or null]
    memory arrays|formula  one fit: bytes at its peak above what was resident before
    estimates              fixed effects, standard errors, the REML criterion; of the last fit, if there is one
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from tools import Data


def load(folder: Path) -> Data:
    """Read what `cases.Case.save` or `glmm_cases.GlmmCase.save` wrote."""
    case = json.loads((folder / "case.json").read_text())
    columns, matrices = {}, {}
    for file in sorted(folder.iterdir()):
        if file.suffix == ".float":
            columns[file.stem] = np.fromfile(file, dtype=np.float64)
        elif file.suffix == ".int":
            columns[file.stem] = np.fromfile(file, dtype=np.int32).astype(np.int64)
            if (labels := file.with_suffix(".levels")).exists():
                levels = labels.read_text().splitlines()
                if file.stem in [group for group, _ in case["terms"]]:  # text, as read from a file
                    columns[file.stem] = np.array(levels, dtype=object)[columns[file.stem]]
                else:
                    columns[file.stem] = pd.Categorical.from_codes(columns[file.stem], levels)
        elif file.suffix == ".npy":
            matrices[file.stem] = np.load(file)
    return Data(case, columns, pd.DataFrame(columns), matrices)


def resident(field: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def timed(tool, data: Data, what: str) -> tuple[object, list[float | None]]:
    """The result and the times."""
    fit = getattr(tool, what)(data)
    gc.collect()
    start = time.perf_counter()
    result = fit()
    fitted = time.perf_counter() - start
    if what == "arrays":
        return result, [fitted, None]
    tool.summary(result)
    return result, [fitted, time.perf_counter() - start]


def peak(tool, data: Data, what: str) -> int:
    fit = getattr(tool, what)(data)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident("VmRSS")
    result = fit()
    after = resident("VmHWM")
    del result
    return after - before


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a tool prints is not an answer
    warnings.simplefilter("ignore")
    tools = importlib.import_module("_".join([*sys.argv[2:], "tools"]))
    tool = tools.TOOLS[sys.argv[1]]()
    data = last = None
    for line in sys.stdin:
        command, *words = line.rstrip("\n").split("\t")
        try:
            if command == "load":
                data, last = load(Path(words[0])), None
                answer = {"can": [what for what in ("arrays", "formula") if tool.can(data.case, what)]}
            elif command == "run":
                seconds = []
                for _ in range(int(words[1])):
                    last = None  # its memory is free for the next
                    last, times = timed(tool, data, words[0])
                    seconds.append(times)
                answer = {"seconds": seconds}
            elif command == "memory":
                answer = {"bytes": peak(tool, data, words[0])}
            elif command == "estimates":
                if last is None:
                    what = "formula" if tool.can(data.case, "formula") else "arrays"
                    last = getattr(tool, what)(data)()
                answer = tool.estimates(last)
            elif command == "about":
                answer = {"version": tool.version()}
            else:
                answer = {"error": f"no command {command}"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
