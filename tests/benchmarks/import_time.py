"""Time of an import in a fresh process, beside statsmodels' own: ``python tests/benchmarks/import_time.py``.

The promise is a ratio below 1.5 of the least processor times (user and system), which other processes disturb less
than the time on the clock. Every round runs all imports in turn.
"""

import argparse
import resource
import subprocess
import sys

BASE = "import statsmodels.api"
IMPORTS = [
    BASE,
    "import statsmodels.formula.api",
    "import sm_multilevel.api",
    "import sm_multilevel.formula.api",
    "from sm_multilevel import sp",
    "from sm_multilevel.datasets import sleepstudy",
    "import sm_multilevel.api, sm_multilevel.formula.api, sm_multilevel.graphics",
]
LIMIT = 1.5


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of each import, a list of rounds."""
    times: dict[str, list[float]] = {statement: [] for statement in ["pass", *IMPORTS]}
    for _ in range(rounds):
        for statement, found in times.items():
            before = _processor_time()
            subprocess.run([sys.executable, "-c", statement], check=True)
            found.append(_processor_time() - before)
    return times


def _processor_time() -> float:
    """Of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print a table; exit with 1 where an import of the public names is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    times = measure(parser.parse_args().rounds)
    base = min(times[BASE])
    print(f"{'seconds: least':>15} {'median':>8} {'ratio':>7}")
    for statement, found in times.items():
        middle = sorted(found)[len(found) // 2]
        print(f"{min(found):15.3f} {middle:8.3f} {min(found) / base:7.2f}  {statement}")
    if any(min(times[statement]) > LIMIT * base for statement in IMPORTS[2:6]):
        sys.exit(1)


if __name__ == "__main__":
    main()
