"""The guide to the tools around runs as written, and prints what it says it prints."""

import contextlib
import io
import re
from pathlib import Path

import matplotlib as mpl

PAGE = Path(__file__).parents[2] / "docs" / "tables_and_tools.md"


def test_code_blocks_run():
    mpl.use("Agg")
    blocks = re.findall(r"```python\n(.*?)```(?:\s*```text\n(.*?)```)?", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) > 10
    space = {}
    for block, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(PAGE), "exec"), space)
        assert _lines(printed.getvalue()) == _lines(expected)


def _lines(text):
    return [line.rstrip() for line in text.strip("\n").splitlines()]
