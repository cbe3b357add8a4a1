"""Seconds of a parametric bootstrap of sleepstudy, `(Days | Subject)`, beside lme4's bootMer.

    python tests/benchmarks/bootstrap.py [replicates]

Both compute the fixed effects, variances and standard deviations of every refit, in one process, in turn.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import sleepstudy


def main(replicates: int = 1000, rounds: int = 3) -> None:
    """Print the least of some rounds of each."""
    data = sleepstudy.load_pandas().data
    result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", data).fit()
    script = Path(__file__).with_name("bootmer.R")
    ours, theirs = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        boot = result.bootstrap(replicates, seed=1)
        ours.append(time.perf_counter() - began)
        assert boot.failed == 0
        out = subprocess.run(["Rscript", str(script), str(replicates)], check=True, capture_output=True, text=True)
        version, seconds = out.stdout.split()
        theirs.append(float(seconds))
    print(
        f"{replicates} replicates: ours {min(ours):.3f} s, lme4 {version} {min(theirs):.2f} s, "
        f"{min(theirs) / min(ours):.0f} times faster (least of {rounds} rounds)"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
