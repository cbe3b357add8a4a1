"""The benchmark command runs, and what it times are fits of one and the same model."""

import importlib
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


def test_run_measures_generalised_models_into_their_part_of_the_page(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("# Benchmarks\n\nlinear ones\n\n## Generalised models\n\nold\n")
    words = ["--suite", "glmm", "--data", "cbpp", "wine", "--repeats", "1", "--memory", "cbpp", "--scaling"]
    words += ["--probes", "cbpp7", "nb2", "strings", "--write", page, "--json", figures]
    command = [sys.executable, RUN, *words, "--tools", "sm_multilevel", "yardstick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    raw = json.loads(figures.read_text())
    found = {(figure["tool"], figure["case"]): figure for figure in raw["figures"]}
    assert all(figure["error"] is None for figure in found.values())
    assert found["sm_multilevel", "cbpp"]["arrays"]
    assert found["sm_multilevel", "cbpp"]["memory"]
    assert found["yardstick", "cbpp"]["arrays"]
    assert not found["yardstick", "wine"]["arrays"]
    # glmmTMB's, glmer's and clmm's log-likelihoods in tests/reference/glmm.json.
    assert found["sm_multilevel", "cbpp"]["estimates"]["llf"] == pytest.approx(-92.02628186, abs=1e-6)
    assert raw["probes"]["nb2"]["sm_multilevel"]["llf"] == pytest.approx(-1741.80495780, abs=1e-6)
    assert raw["probes"]["strings"]["sm_multilevel"]["llf"] == pytest.approx(-4075.69985987, abs=1e-6)

    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nlinear ones\n\n## Generalised models\n\nMade ")
    assert "old" not in text
    assert "| cbpp, binomial trials |" in text
    assert "not measured" in text


def test_unknown_words_are_refused():
    command = [sys.executable, RUN, "--suite", "glmm", "--data", "sleepstudy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no case 'sleepstudy'" in done.stderr


@pytest.fixture
def glmm(monkeypatch):
    """The modules as run.py imports them."""
    monkeypatch.syspath_prepend(RUN.parent)
    return {name: importlib.import_module(name) for name in ("glmm_cases", "report_glmm")}


def test_each_suite_writes_its_part_of_the_page(glmm):
    replace = glmm["report_glmm"].replace_part
    head = glmm["report_glmm"].HEAD
    both = replace(replace("", "# Benchmarks\n\na\n"), f"{head}\n\nb\n")
    assert both == f"# Benchmarks\n\na\n\n{head}\n\nb\n"
    assert replace(both, "# Benchmarks\n\nc\n") == f"# Benchmarks\n\nc\n\n{head}\n\nb\n"
    assert replace(both, f"{head}\n\nd\n") == f"# Benchmarks\n\na\n\n{head}\n\nd\n"


def test_coefficients_are_compared_by_name(glmm):
    ours = {
        "names": ["Intercept", "b[T.x]", "b[T.x]:a"], "beta": [1.0, 2.0, 3.0], "se": [0.1] * 3, "llf": -5.0, "sd": 2.0,
    }  # fmt: skip
    theirs = {"names": ["(Intercept)", "a:bx", "bx"], "beta": [1.0, 3.0, 2.1], "se": [0.1] * 3, "llf": -6.0, "sd": 1.0}
    distance = glmm["report_glmm"].distance
    assert distance(theirs, ours) == "-1.0e+00; 1e+00; 5e-01"
    assert distance({**theirs, "names": ["a", "b", "c"]}, ours) == "other coefficients"
    assert distance({"error": "no"}, ours) == "error"
    assert distance(None, ours) == "–"


def test_data_of_the_cases(glmm):
    cases = glmm["glmm_cases"]
    slopes = cases.simulate(40_000, 1_000, slope=0.5)
    means = slopes.groupby("g")["y"].mean()
    assert means.var() > 2.0 * (means * (1.0 - means)).mean() / 40.0  # groups differ
    ratings = cases.GLMM_CASES["ordinal20"].data["rating"]
    assert set(ratings) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert 18_000 < len(ratings) < 22_000
    for case in [*cases.GLMM_CASES.values(), *cases.PROBES.values()]:
        if case.name in ("bernoulli", "bernoulli7", "slope", "ordinal"):
            continue
        assert len(case.matrices["exog"]) == len(case.data)
        assert set(case.fixed.replace("*", "+").replace(" ", "").split("+")) <= set(case.data)
