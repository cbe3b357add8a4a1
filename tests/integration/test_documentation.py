"""The Python of README.md and the guides runs as written, and prints what they say it prints."""

import contextlib
import io
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from sm_multilevel.datasets import mathachieve, sleepstudy

ROOT = Path(__file__).parents[2]
GUIDES = ["linear", "generalized", "inference", "limitations"]
GUIDES += ["for_lme4_users", "for_mixedlm_users", "for_stata_users", "for_statspai_users"]
# Pages with {code-cell} blocks are run by the build too, which puts their output on the page.
PAGES = ["README.md", "docs/index.md", "docs/start.md", *(f"docs/{guide}.md" for guide in GUIDES)]


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_run(page):
    mpl.use("Agg")
    pattern = r"```(?:python|\{code-cell\}(?:\n:mystnb:.*?\n)?)\n(.*?)```(?:\s*```text\n(.*?)```)?"
    blocks = re.findall(pattern, (ROOT / page).read_text(), flags=re.DOTALL)
    assert blocks
    data = sleepstudy.load_pandas().data
    columns = np.column_stack([np.ones(len(data)), data["Days"]])
    space = {"y": data["Reaction"].to_numpy(), "X": columns, "Z": columns, "codes": data["Subject"].to_numpy()}
    for block, expected in blocks:
        if "math_score" in block:  # the reader's own data
            schools = mathachieve.load_pandas().data
            space["df"] = schools.rename(columns={"mathach": "math_score", "sex": "gender"})
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, page, "exec"), space)
        if expected:
            assert printed.getvalue().rstrip() == expected.rstrip()
