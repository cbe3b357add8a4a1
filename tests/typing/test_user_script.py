"""The script that type checkers pass also runs; what they say of it is checked by mypy.ini beside it."""

import runpy
from pathlib import Path

import matplotlib.pyplot as plt

SCRIPT = Path(__file__).with_name("user_script.py")


def test_user_script(capsys):
    runpy.run_path(str(SCRIPT))["main"]()
    plt.close("all")
    assert "'logit': -91.98" in capsys.readouterr().out
