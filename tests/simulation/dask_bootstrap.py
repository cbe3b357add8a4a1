"""A bootstrap on a local Dask cluster gives the replicates that one process gives.

    python tests/simulation/dask_bootstrap.py [workers] [replicates]

Needs ``pip install 'sm_multilevel[cluster]'``.
"""

from __future__ import annotations

import sys
import time

import joblib
from dask import __version__ as dask_version
from dask.distributed import Client, LocalCluster

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, sleepstudy


def main(workers: int = 2, replicates: int = 400) -> None:
    """Bootstrap a linear and a binomial model both ways, and compare to the last bit."""
    sleep, cows = sleepstudy.load_pandas().data, cbpp.load_pandas().data
    fits = {
        "sleepstudy, (Days | Subject)": smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit(),
        "cbpp, binomial, (1 | herd)": smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit(),
    }
    print(f"dask {dask_version}, joblib {joblib.__version__}: {workers} worker processes, {replicates} replicates")
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as c:
        for name, result in fits.items():
            began = time.perf_counter()
            here = result.bootstrap(replicates, seed=1)
            between = time.perf_counter()
            with joblib.parallel_backend("dask", client=c):
                there = result.bootstrap(replicates, seed=1, batch=25)
            ended = time.perf_counter()
            if not here.estimates.equals(there.estimates):
                raise SystemExit(f"{name}: the replicates differ")
            print(f"{name}: equal; one process {between - began:.2f} s, on the cluster {ended - between:.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
