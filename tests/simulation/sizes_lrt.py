"""Sizes of likelihood ratio tests at 5 percent, by simulation under the restricted model.

    python -m tests.simulation.sizes_lrt [--replicates 4000] [NAME ...]

prints one row a test: name, rows of the design, replicates, size, Monte-Carlo error, replicates that failed. Names are
those of `SCENARIOS`; default all. Each takes less than a minute.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import pandas as pd

import sm_multilevel.formula.api as smf
from sm_multilevel._compat import one_blas_thread
from sm_multilevel.postestimation.comparison.boundary import asymptotic
from sm_multilevel.postestimation.comparison.compare import _exact, compare_fits
from sm_multilevel.postestimation.comparison.nesting import nest
from sm_multilevel.postestimation.comparison.regression import regression
from sm_multilevel.postestimation.resampling.refits import refits

LEVEL = 0.05
_BATCH = 500


def _deviances(fit, responses):
    if hasattr(fit, "deviances"):
        return fit.deviances(responses)
    found = refits(fit, responses)
    return np.where(found.converged, -2.0 * found.llf, np.nan)


def ratios(restricted, full, responses):
    """Likelihood ratios of many responses, NaN where a fit failed."""
    out = []
    with one_blas_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in range(0, len(responses), _BATCH):
            part = responses[start : start + _BATCH]
            out.append(_deviances(restricted, part) - _deviances(full, part))
    return np.concatenate(out)


def row(name, rows, rejected):
    """A line of the table; NaN in `rejected` is a failure."""
    good = rejected[np.isfinite(rejected)]
    size = float(good.mean())
    return {
        "test": name, "rows": rows, "replicates": len(good), "size": size,
        "mc_error": float(np.sqrt(size * (1 - size) / len(good))), "failed": len(rejected) - len(good),
    }  # fmt: skip


def _by_p(p_of, values):
    """1 where the p-value is at most the level, NaN where there is no ratio."""
    return np.array([np.nan if np.isnan(v) else float(p_of(max(v, 0.0)) <= LEVEL) for v in values])


def one_variance(replicates, seed, groups=10, size=5):
    """A random intercept against none: the asymptotic mixture and the finite-sample distribution, ML and REML."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), size)})
    responses = rng.standard_normal((replicates, len(frame)))
    frame["y"] = responses[0] + rng.standard_normal(groups)[frame["g"]]
    out = []
    for reml in (False, True):
        full = smf.mixedlm("y ~ 1 + (1 | g)", frame).fit(reml=reml)._results
        null = regression(full, reml=reml)
        found = ratios(null, full, responses)
        nesting = nest(null, full)
        mixture = asymptotic(nesting, null, 1, None)
        draws = np.sort(_exact(nesting, null, full, 100_000, seed)[0])

        def exact(value, draws=draws):
            return 1.0 if value <= 1e-9 else (len(draws) - np.searchsorted(draws, value)) / len(draws)

        where = f"one variance, {groups} groups of {size}, {'REML' if reml else 'ML'}"
        out += [row(f"{where}, {name}", len(frame), _by_p(p, found)) for name, p in
                (("asymptotic", mixture.sf), ("exact", exact))]  # fmt: skip
    return out


def one_variance_many(replicates, seed):
    """The same with 200 groups, where the asymptotic test is nearer to its level."""
    return one_variance(replicates, seed, groups=200)


def variance_and_fixed(replicates, seed, groups=10, size=5):
    """A random intercept and a fixed slope at once, ML."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), size), "x": np.tile(np.arange(float(size)), groups)})
    responses = rng.standard_normal((replicates, len(frame)))
    frame["y"] = responses[0] + rng.standard_normal(groups)[frame["g"]]
    full = smf.mixedlm("y ~ x + (1 | g)", frame).fit(reml=False)._results
    null = regression(full, exog=np.ones((len(frame), 1)))
    found, nesting = ratios(null, full, responses), nest(null, full)
    draws = np.sort(_exact(nesting, null, full, 100_000, seed)[0])
    tests = {
        "asymptotic": asymptotic(nesting, null, 1, None).sf,
        "exact": lambda value: (len(draws) - np.searchsorted(draws, value)) / len(draws),
    }
    where = f"variance and fixed effect, {groups} groups of {size}, ML"
    return [row(f"{where}, {name}", len(frame), _by_p(p, found)) for name, p in tests.items()]


def slope(replicates, seed, groups=50, size=8):
    """A correlated slope beside a random intercept, REML: the mixture of chi2(1) and chi2(2)."""
    return _slope(replicates, seed, groups, size)


def slope_many(replicates, seed):
    """The same with 400 groups."""
    return _slope(replicates, seed, 400, 8)


def _slope(replicates, seed, groups, size):
    rng = np.random.default_rng(seed)
    x = np.linspace(-1.0, 1.0, size)
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), size), "x": np.tile(x, groups)})
    effects = rng.standard_normal((replicates, groups))
    responses = effects[:, frame["g"]] + rng.standard_normal((replicates, len(frame)))
    frame["y"] = responses[0] + frame["x"] * rng.standard_normal(groups)[frame["g"]]
    null, full = (smf.mixedlm(f"y ~ x + ({z} | g)", frame).fit()._results for z in ("1", "x"))
    found = ratios(null, full, responses)
    mixture = asymptotic(nest(null, full), null, 1, None)
    where = f"slope and correlation, {groups} groups of {size}, REML"
    return [
        row(f"{where}, asymptotic", len(frame), _by_p(mixture.sf, found)),
        row(f"{where}, chi2(2) without correction", len(frame), np.where(np.isnan(found), np.nan, found > 5.991465)),
    ]


def _crossed(replicates, seed, first, second):
    rng = np.random.default_rng(seed)
    a, b = (v.ravel() for v in np.meshgrid(np.arange(first), np.arange(second), indexing="ij"))
    frame = pd.DataFrame({"a": np.repeat(a, 2), "b": np.repeat(b, 2)})
    responses = rng.standard_normal((replicates, len(frame)))
    frame["y"] = responses[0] + rng.standard_normal(first)[frame["a"]] + rng.standard_normal(second)[frame["b"]]
    full = smf.mixedlm("y ~ 1 + (1 | a) + (1 | b)", frame).fit()._results
    null = regression(full, reml=True)
    return frame, full, null, responses


def crossed(replicates, seed, first=20, second=20, share=2):
    """Two crossed variances at once, REML: weights from the information matrix; a half of the replicates."""
    frame, full, null, responses = _crossed(max(1, replicates // share), seed, first, second)
    mixture = asymptotic(nest(null, full), null, 1, None)
    name = f"two crossed variances, {first} x {second} x 2, REML, asymptotic"
    return [row(name, len(frame), _by_p(mixture.sf, ratios(null, full, responses)))]


def crossed_many(replicates, seed):
    """The same with 60 levels each; a third of the replicates."""
    return crossed(replicates, seed, 60, 60, 3)


def whole_term(replicates, seed, groups=50, size=8):
    """Intercept, slope and correlation at once, REML: the cone of 2 x 2 matrices."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), size), "x": np.tile(np.linspace(0.0, 1.0, size), groups)})
    responses = rng.standard_normal((replicates, len(frame)))
    b = rng.standard_normal((groups, 2))
    frame["y"] = responses[0] + b[frame["g"], 0] + b[frame["g"], 1] * frame["x"]
    full = smf.mixedlm("y ~ x + (x | g)", frame).fit()._results
    null = regression(full, reml=True)
    mixture = asymptotic(nest(null, full), null, 1, None)
    name = f"intercept, slope and correlation, {groups} groups of {size}, REML, asymptotic"
    return [row(name, len(frame), _by_p(mixture.sf, ratios(null, full, responses)))]


def bootstrap(replicates, seed, groups=10, size=5, draws=99):
    """The parametric bootstrap for a correlated slope in a small design; a twentieth of the replicates."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), size), "x": np.tile(np.linspace(-1, 1, size), groups)})
    out = []
    for k in range(max(1, replicates // 20)):
        frame["y"] = rng.standard_normal(groups)[frame["g"]] + rng.standard_normal(len(frame))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            null, full = (smf.mixedlm(f"y ~ x + ({z} | g)", frame).fit()._results for z in ("1", "x"))
            if not (null.converged and full.converged):
                out.append(np.nan)
                continue
            out.append(float(compare_fits(null, full, "bootstrap", n=draws, seed=k).p_value <= LEVEL))
    return [row(f"slope and correlation, {groups} groups of {size}, REML, bootstrap", len(frame), np.array(out))]


SCENARIOS = {
    f.__name__: f
    for f in (
        one_variance, one_variance_many, variance_and_fixed, slope, slope_many, crossed, crossed_many, whole_term,
        bootstrap,
    )
}  # fmt: skip


def table(names=None, replicates=4000, seed=20240613) -> pd.DataFrame:
    """Rows of the scenarios."""
    rows = [line for name in names or SCENARIOS for line in SCENARIOS[name](replicates, seed)]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--replicates", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=20240613)
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in SCENARIOS]
    if unknown:
        parser.error(f"{unknown[0]!r} is not known; choose from {', '.join(SCENARIOS)}")
    for wanted in given.names or SCENARIOS:
        found = table([wanted], given.replicates, given.seed)
        found["size"], found["mc_error"] = found["size"].round(4), found["mc_error"].round(4)
        print(found.to_string(index=False, header=wanted == (given.names or list(SCENARIOS))[0]), flush=True)
