"""Do tests have the size they claim, and intervals the coverage? Small samples, boundaries, wrong models.

    python tests/simulation/inference.py --write docs/inference_simulation.md

simulates by NumPy alone, fits each data set and writes the page: rejection rates of true hypotheses at 5 % (degrees of
freedom, likelihood-ratio tests, robust errors under wrong models) and coverage of 95 % intervals (variances, ICC), with
Monte-Carlo standard errors. Every data set has a seed of its own: `STUDIES["df-6x5"].replicate(17)` is made again.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_backend

ROOT_SEED = 20261122
ALPHA = 0.05
BOOT = 199


@dataclass(frozen=True)
class Study:
    """A way to simulate data, and what is counted in each data set.

    Attributes
    ----------
    name, title, section : str
    count : int
        Data sets.
    once : callable
        Random generator -> dict of method -> whether a true hypothesis was rejected, or the truth was in the interval
        (None: it could not be said, and is counted as such).
    """

    name: str
    title: str
    section: str
    count: int
    once: Callable

    def replicate(self, k: int) -> dict:
        rng = np.random.default_rng(np.random.SeedSequence([ROOT_SEED, zlib.crc32(self.name.encode()), k]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.once(rng)


def _linear(y, x, codes, exog_re=None, **options):
    import sm_multilevel.api as smm

    return smm.MixedLM(y, x, groups=codes, exog_re=exog_re).fit(**options)


def _p(result, column=-1):
    return float(np.asarray(result.pvalues)[column])


# -- degrees of freedom ------------------------------------------------------------------------


def _between(groups, rows, unbalanced=False):
    """A treatment that groups get, or do not; random intercept; its effect is zero."""

    def once(rng):
        sizes = rng.integers(2, 2 * rows - 1, groups) if unbalanced else np.full(groups, rows)
        codes = np.repeat(np.arange(groups), sizes)
        treated = (np.arange(groups) < groups // 2).astype(float)
        x = np.column_stack([np.ones(codes.size), treated[codes]])
        y = rng.normal(size=groups)[codes] + rng.normal(size=codes.size)
        return _by_df(_linear(y, x, codes))

    return once


def _slope(groups, rows):
    """A random slope whose mean is zero."""

    def once(rng):
        codes = np.repeat(np.arange(groups), rows)
        time_ = np.tile(np.arange(rows) - (rows - 1) / 2, groups)
        x = np.column_stack([np.ones(codes.size), time_])
        b = rng.normal(size=(groups, 2)) * [1.0, 0.5]
        y = b[codes, 0] + b[codes, 1] * time_ + rng.normal(size=codes.size)
        return _by_df(_linear(y, x, codes, x))

    return once


def _by_df(result):
    return {
        "z (normal)": _p(result) < ALPHA,
        "Satterthwaite": _p(result.with_df("satterthwaite")) < ALPHA,
        "Kenward-Roger": _p(result.with_df("kenward-roger")) < ALPHA,
    }


# -- intervals of variance components -----------------------------------------------------------


def _components(groups, rows, variance):
    """Random intercept with a known variance, residual variance one."""

    def once(rng):
        codes = np.repeat(np.arange(groups), rows)
        x = np.ones((codes.size, 1))
        y = np.sqrt(variance) * rng.normal(size=groups)[codes] + rng.normal(size=codes.size)
        result = _linear(y, x, codes)
        sd, icc = np.sqrt(variance), variance / (variance + 1.0)
        seed = int(rng.integers(2**31))
        out = {}
        for label, options in (
            ("Wald", {"method": "wald"}),
            ("profile", {"method": "profile"}),
            ("bootstrap", {"method": "boot", "n": BOOT, "seed": seed}),
        ):
            row = result.varcorr(conf_int=True, **options).iloc[0]
            out[f"SD, {label}"] = _inside(sd, row["sdcor_lower"], row["sdcor_upper"])
            row = result.icc(conf_int=True, **options).iloc[0]
            out[f"ICC, {label}"] = _inside(icc, row["ci_lower"], row["ci_upper"])
        return out

    return once


def _inside(truth, lower, upper):
    return bool(lower <= truth <= upper) if np.isfinite([lower, upper]).all() else None


# -- robust errors where the model is wrong -------------------------------------------------------


def _missed_slope(groups, rows):
    """A random intercept is fitted where the slope varies too; the mean slope is zero."""

    def once(rng):
        codes = np.repeat(np.arange(groups), rows)
        time_ = rng.normal(size=codes.size)
        b = rng.normal(size=(groups, 2)) * [1.0, 0.7]
        y = b[codes, 0] + b[codes, 1] * time_ + rng.normal(size=codes.size)
        result = _linear(y, np.column_stack([np.ones(codes.size), time_]), codes)
        return {
            "model-based": _p(result) < ALPHA,
            **{kind: _p(result.get_robustcov_results(kind)) < ALPHA for kind in ("CR0", "CR1", "CR2")},
        }

    return once


def _overdispersed(groups, rows):
    """A Poisson model is fitted to negative binomial counts; the effect is zero."""

    def once(rng):
        import sm_multilevel.api as smm

        codes = np.repeat(np.arange(groups), rows)
        x = np.column_stack([np.ones(codes.size), rng.normal(size=codes.size)])
        mu = np.exp(0.5 + 0.5 * rng.normal(size=groups)[codes])
        y = rng.poisson(mu * rng.gamma(1.0, 1.0, codes.size)).astype(float)
        result = smm.MixedGLM(y, x, groups=codes, family="poisson").fit()
        return {"model-based": _p(result) < ALPHA, "robust": _p(result.get_robustcov_results("robust")) < ALPHA}

    return once


DF = "Degrees of freedom: rejection of a true hypothesis at 5 %"
INTERVALS = "Intervals of variance components: coverage of 95 % intervals"
ROBUST = "Robust covariance where the model is wrong: rejection of a true hypothesis at 5 %"

STUDIES = {
    study.name: study
    for study in (
        Study("df-6x5", "treatment of whole groups, 6 groups of 5", DF, 4000, _between(6, 5)),
        Study("df-10x5", "treatment of whole groups, 10 groups of 5", DF, 4000, _between(10, 5)),
        Study("df-8u", "treatment of whole groups, 8 groups of 2 to 8", DF, 4000, _between(8, 5, True)),
        Study("df-slope8", "mean of a random slope, 8 groups of 6", DF, 4000, _slope(8, 6)),
        Study("var-10x5", "10 groups of 5, ICC 0.5", INTERVALS, 800, _components(10, 5, 1.0)),
        Study("var-30x5", "30 groups of 5, ICC 0.5", INTERVALS, 800, _components(30, 5, 1.0)),
        Study("var-30x5s", "30 groups of 5, ICC 0.09", INTERVALS, 800, _components(30, 5, 0.1)),
        Study("rob-12", "slope left out of the random part, 12 groups of 8", ROBUST, 3000, _missed_slope(12, 8)),
        Study("rob-40", "slope left out of the random part, 40 groups of 8", ROBUST, 3000, _missed_slope(40, 8)),
        Study("rob-p", "Poisson model of overdispersed counts, 50 groups of 8", ROBUST, 1000, _overdispersed(50, 8)),
    )
}


def run(study: Study, count: int, jobs: int) -> pd.DataFrame:
    """Rates by method: how often, of how many, and their Monte-Carlo standard errors."""
    with parallel_backend("loky", n_jobs=jobs, inner_max_num_threads=1):
        found = Parallel(batch_size=20)(delayed(study.replicate)(k) for k in range(count))
    rows = []
    for method in found[0]:
        values = [f[method] for f in found]
        known = np.array([v for v in values if v is not None], dtype=float)
        rate = known.mean()
        rows.append((method, len(known), len(values) - len(known), rate, np.sqrt(rate * (1 - rate) / len(known))))
    return pd.DataFrame(rows, columns=["method", "n", "undefined", "rate", "mc_se"])


def likelihood_ratio_tests(jobs: int) -> pd.DataFrame:
    """Sizes of likelihood-ratio tests, as `sizes_lrt` has them."""
    from tests.simulation.sizes_lrt import SCENARIOS, table

    with parallel_backend("loky", n_jobs=jobs, inner_max_num_threads=1):
        return pd.concat(Parallel()(delayed(table)([name]) for name in SCENARIOS), ignore_index=True)


def page(tables: dict[str, pd.DataFrame], ratios: pd.DataFrame | None, minutes: float) -> str:
    """The page in Markdown."""
    import sm_multilevel

    out = [
        "# Sizes of tests and coverage of intervals", "",
        f"Made {time.strftime('%Y-%m-%d %H:%M')} with sm_multilevel {sm_multilevel.__version__}, Python "
        f"{platform.python_version()} by", "", "```sh",
        "python tests/simulation/inference.py --write docs/inference_simulation.md", "```", "",
        f"in {minutes:.0f} minutes. Data are simulated with NumPy and none of the package's code. In brackets: "
        "Monte-Carlo standard errors. Every number is as it was produced.", "",
    ]  # fmt: skip
    for section in dict.fromkeys(STUDIES[name].section for name in tables):
        out += [f"## {section}", ""]
        for name, table in tables.items():
            study = STUDIES[name]
            if study.section != section:
                continue
            out += [f"**{study.title}** ({int(table[['n', 'undefined']].iloc[0].sum()):,} data sets)"]
            out += ["", "| " + " | ".join(table["method"]) + " |", "|" + " ---: |" * len(table)]
            cells = [f"{r.rate:.3f} ({r.mc_se:.3f})" + (f", {r.undefined} undefined" if r.undefined else "")
                     for r in table.itertuples()]  # fmt: skip
            out += ["| " + " | ".join(cells) + " |", ""]
    if ratios is not None:
        out += ["## Likelihood-ratio tests: rejection of a true hypothesis at 5 %", ""]
        out += ["| Test | data sets | size | failed fits |", "| --- | ---: | ---: | ---: |"]
        out += [
            f"| {r.test} | {r.replicates:,} | {r.size:.3f} ({r.mc_error:.3f}) | {r.failed} |"
            for r in ratios.itertuples()
        ]
        out += [""]
    return "\n".join(out)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"default all; {', '.join(STUDIES)}, lrt")
    parser.add_argument("--count", type=int, help="data sets a study; default as the page says")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args(arguments)
    wanted = args.studies or [*STUDIES, "lrt"]
    unknown = [name for name in wanted if name not in (*STUDIES, "lrt")]
    if unknown:
        parser.error(f"{unknown[0]!r} is not known; choose from {', '.join(STUDIES)}, lrt")
    began, tables, ratios = time.perf_counter(), {}, None
    for name in wanted:
        if name == "lrt":
            ratios = likelihood_ratio_tests(args.jobs)
            print(ratios.to_string(index=False), flush=True)
            continue
        study = STUDIES[name]
        start = time.perf_counter()
        tables[name] = run(study, args.count or study.count, args.jobs)
        print(
            f"{study.title} ({time.perf_counter() - start:.0f} s)\n{tables[name].to_string(index=False)}\n", flush=True
        )
    if args.write:
        args.write.write_text(page(tables, ratios, (time.perf_counter() - began) / 60.0), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])
    sys.exit(main())
