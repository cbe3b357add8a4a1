"""The benchmark command runs, and what it times are fits of one and the same model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


def test_run_measures_and_writes_the_page(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    tools = ["sm_multilevel", "statsmodels", "ols"]
    words = ["--data", "sleepstudy", "--repeats", "2", "--memory", "--write", page, "--json", figures]
    command = [sys.executable, RUN, *words, "--tools", *tools]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    found = {figure["tool"]: figure for figure in json.loads(figures.read_text())["figures"]}
    assert set(found) == set(tools)
    for figure in found.values():
        assert figure["error"] is None
        assert len(figure["arrays"]) >= 2
        assert len(figure["formula"]) == len(figure["summary"]) >= 2
        assert all(0 < fit < printed for fit, printed in zip(figure["formula"], figure["summary"]))
    ours, theirs = found["sm_multilevel"]["estimates"], found["statsmodels"]["estimates"]
    assert ours["criterion"] == pytest.approx(theirs["criterion"], rel=1e-8)
    assert ours["beta"] == pytest.approx(theirs["beta"], rel=1e-6)
    assert ours["se"] == pytest.approx(theirs["se"], rel=1e-3)

    text = page.read_text()
    assert "## Fit from arrays at hand" in text
    assert "| sleepstudy |" in text
