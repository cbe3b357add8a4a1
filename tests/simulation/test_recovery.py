"""The recovery simulation runs, and in a small one parameters are found again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from simulation.recovery import FAR, MODELS, data_of, fit_of, page, pooled, replicate_of, run, summarise

SCRIPT = Path(__file__).with_name("recovery.py")


@pytest.mark.parametrize("name", MODELS)
def test_the_truth_is_in_the_order_of_the_estimates(name):
    result = fit_of(name, 0)
    names = list(MODELS[name].truth)
    if MODELS[name].psi:
        assert list(result.psi.index) == list(MODELS[name].psi)
    assert result.converged
    found = replicate_of(name, 0)
    assert len(found["estimate"]) == len(names)
    assert np.all(np.abs(found["estimate"] - list(MODELS[name].truth.values())) < 1.0)


def test_a_replicate_can_be_made_again_and_shared():
    first, again, other = data_of("logit", 3), data_of("logit7", 3), data_of("logit", 4)
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert len(first["y"]) != len(other["y"]) or not np.array_equal(first["y"], other["y"])


def test_coverage_is_counted():
    found = [
        {
            "estimate": np.array([0.0, 0.6, 0.5, 0.7]),
            "se": np.full(3, 0.1),
            "interval": np.array([[-0.5, 0.5], [0.7, 0.8], [0.4, np.nan]]),
            "converged": True,
            "singular": False,
        },
        {"error": "no"},
    ]
    outcome = summarise("poisson", [found[0], found[0], found[1]], 1.0)
    assert [row.coverage for row in outcome.rows] == [1.0, 0.0, None, None]
    assert [row.n for row in outcome.rows] == [2, 2, 0, 2]
    assert outcome.errors == ["no"]
    assert pooled([outcome], "beta")[0] == 0.5
    assert "**not explained**" in page([outcome], 2, "", 1.0)


def test_the_command_writes_the_page(tmp_path):
    target = tmp_path / "page.md"
    command = [sys.executable, SCRIPT, "--models", "poisson", "--replicates", "2", "--jobs", "1", "--write", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "| Poisson, log | 2 | 0 | 0 | 0 |" in target.read_text(), done.stderr


@pytest.mark.slow
def test_small_simulation():
    names = ["logit7", "binomial", "poisson-slope", "nb2", "gamma", "invgauss", "gausslog", "oprobit"]
    outcomes = run(names, 25, jobs=1)
    assert not any(outcome.errors or outcome.failed for outcome in outcomes)
    for outcome in outcomes:
        for row in outcome.rows:
            if not row.parameter.startswith("SD"):  # biased downwards, see docs/simulation.md
                assert abs(row.bias) < 4.5 * row.bias_se, row
    for what in ("beta", "psi"):
        coverage, error, _ = pooled(outcomes, what)
        assert abs(coverage - 0.95) < FAR * error
