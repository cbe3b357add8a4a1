"""What the guides for users of lme4, MixedLM and Stata say to write can be written: every cell of 'Here' runs."""

import contextlib
import io
import re
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from matplotlib import pyplot as plt
from statsmodels.iolib.summary2 import summary_col
from statsmodels.regression.mixed_linear_model import MixedLMParams, VCSpec

import sm_multilevel
import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["for_lme4_users", "for_mixedlm_users", "for_stata_users"]
RESPONSES = ("y", "yes", "count", "s", "y > 0", "rating", "cbind(s, n - s)", "np.exp(y)")
# Cells and parts of cells that are words, names of columns or values, and nothing to run.
WORDS = {
    "alpha", "var_weights=", "dispersion", "low|high", "sigma(m)", "Intercept", "disp=True", "nAGQ", "maketables",
    "marginaleffects", "C(x)", "C(x, Treatment(2))", "x", "x*z", "I(x**2)", "identity", "mixedlm", "bootstrap",
    "exchangeable", "satterthwaite", "drop", "raise", "none", "zero", "fit", "predict", "get_prediction",
    "statsmodels.duration", "-", "freq_weights=", "offset=", "covariance=", "maxiter=", "start_params=", "xname=",
    "VCSpec", "stargazer", 'groups="g"', 'VCSpec(["a", "b"], ...)',
}  # fmt: skip
# What a cell leaves to the reader.
FILLED = {
    "C(x)": "C(f)", 'd["c"]': 'd["region"]', 'family="f", link="l"': 'family="gamma", link="log"',
    "MixedLM(...)": "MixedLM(y, X, groups=groups, exog_re=Z)", "1000": "20", ".bootstrap(": ".bootstrap(n=10, ",
    'method="boot"': 'method="boot", n=20', "n=10, 20": "20", "n=10, )": "20)",
}  # fmt: skip


def _data():
    rng = np.random.default_rng(0)
    n = 240
    g = np.repeat(np.arange(20), 12)
    d = pd.DataFrame({"g": g, "x": rng.normal(size=n), "z": rng.normal(size=n), "a": rng.integers(0, 6, n)})
    d["b"], d["school"], d["class"], d["subject"] = rng.integers(0, 5, n), g // 5, g, g
    d["region"], d["Time"], d["c"] = g // 5, np.tile(np.arange(12), 20) - 5.5, np.tile(np.repeat([1, 2, 3], 4), 20)
    d["y"] = 1 + d["x"] + rng.normal(size=20)[g] + 0.7 * rng.normal(size=20)[g] * d["x"]
    d["y"] += 0.7 * rng.normal(size=6)[d["a"]]
    d["y"] += 0.4 * rng.normal(size=60)[3 * g + d["c"] - 1] + rng.normal(size=n)
    d["f"] = np.array(["u", "v", "w"])[rng.integers(0, 3, n)]
    d["count"], d["n"], d["t"], d["w"] = (
        rng.poisson(np.exp(0.4 * d["y"])),
        9,
        rng.uniform(1, 2, n),
        rng.uniform(1, 2, n),
    )
    d["yes"], d["s"] = (d["y"] > 1).astype(int), rng.binomial(9, 1 / (1 + np.exp(-d["y"])))
    d["p"], d["rating"] = d["s"] / d["n"], np.digitize(d["y"], [0, 1, 2])
    return d


@pytest.fixture(scope="module")
def space():
    mpl.use("Agg")
    d = _data()
    model, small = smf.mixedlm("y ~ x + C(f) + (x | g)", d), smf.mixedlm("y ~ x + C(f) + (1 | g)", d)
    logit = smf.melogit("yes ~ x + C(f) + (1 | g)", d)
    fits = {"res": model.fit(), "logit": logit.fit(), "a": small.fit(reml=False), "b": model.fit(reml=False)}
    fits["more"] = smf.mixedlm("y ~ x + f + Time + a + b + (1 | g)", d).fit()
    fits["counts"] = smf.mepoisson("count ~ x + (1 | g)", d).fit()
    fits["ordered"] = smf.meologit("rating ~ x + (1 | g)", d).fit()
    names = {
        "d": d, "new": d.head(), "grid": d.head(), "y": d["y"], "w": d["w"], "X": sm.add_constant(d["x"]),
        "groups": d["g"], "Z": sm.add_constant(d["x"]).to_numpy(), "model": model, "logit_model": logit,
        "r0": smf.mixedlm("y ~ x + (1 | g)", d).fit(), "r1": smf.mixedlm("y ~ x + (1 | g) + (1 | a)", d).fit(),
        "small": small.fit(), "large": fits["res"], "np": np, "pd": pd, "sm": sm, "names": list("abcd"),
        "smf": smf, "smm": smm, "sm_multilevel": sm_multilevel, "summary_col": summary_col, "p": 2, "q": 1,
        "MixedLMParams": MixedLMParams, "VCSpec": VCSpec, "params": fits["res"].params_packed, "n": len(d),
    }  # fmt: skip
    names["f"] = lambda r: r.params
    return names, fits


def _cells():
    """Pieces of code in the second column of tables whose first column is 'There'."""
    for page in PAGES:
        here = False
        for line in (DOCS / f"{page}.md").read_text().splitlines():
            if not line.startswith("|"):
                here = False
                continue
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if cells[0] == "There":
                here = True
            elif here:
                for code in re.findall(r"`([^`]+)`", cells[1]):
                    yield pytest.param(code.replace("\\|", "|"), id=f"{page}: {code}")


def _ways(code):
    """What a reader makes of a piece: code, a call of a result or a model, an option, a random term."""
    for gap, filling in FILLED.items():
        code = code.replace(gap, filling)
    if code.startswith("."):
        yield from (f"model{code}", f"logit_model{code}")
    elif re.match(r"\(.*\|", code):
        yield f'smf.mixedlm("y ~ x + {code}", d).fit()'
    elif re.match(r"\w+=", code):
        yield f'smf.mixedlm("y ~ x + (x | g)", d, {code})'
        yield f'smf.mixedlm("y ~ x", d, groups="g", {code})'
        yield f"smf.mixedlm(\"y ~ x\", d, groups='g', re_formula='1', {code})"
        yield f'smf.menbreg("count ~ x + (1 | g)", d, {code})'
        yield f"model.fit({code})"
        yield f"res.predict({code})"
    else:
        for response in RESPONSES:
            filled = code.replace('"y ~', f'"{response} ~').replace("rating ~", f"{response} ~")
            for start in ('"{} ~ x + (1 | g)", d', '"{} ~ x", d, groups="g"'):
                yield re.sub(r"(?<=\()\.\.\.", start.format(response), filled)
            yield re.sub(r"~ \.\.\.", "~ x + (1 | g)", filled)
        yield f"res.{code}"
        yield f"model.{code}"


@pytest.mark.parametrize("code", list(_cells()))
def test_every_cell_runs(space, code, tmp_path, monkeypatch):
    if code in WORDS:
        return
    monkeypatch.chdir(tmp_path)
    names, fits = space
    tries = []
    for way in _ways(code):
        for res in fits.values():
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                try:
                    exec(way, {**names, **fits, "res": res})
                except Exception as error:
                    tries.append(f"{way}: {type(error).__name__}: {error}")
                else:
                    plt.close("all")
                    return
    raise AssertionError("\n".join(dict.fromkeys(tries)))
