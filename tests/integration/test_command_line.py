"""``python -m sm_multilevel``: what it prints and writes, its errors in one line, its exit status."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sm_multilevel.formula.api as smf
from sm_multilevel import __main__ as command
from sm_multilevel.datasets import sleepstudy

PNG = b"\x89PNG\r\n\x1a\n"
FORMULA = "Reaction ~ Days + (Days | Subject)"


def shell(*arguments, cwd):
    environment = dict(os.environ, PYTHONIOENCODING="utf-8")
    environment.pop("MPLBACKEND", None)
    return subprocess.run(
        [sys.executable, "-m", "sm_multilevel", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


@pytest.fixture
def sleep():
    return sleepstudy.load_pandas().data


@pytest.fixture
def folder(tmp_path, monkeypatch, sleep):
    """A folder to work in, with data in several states."""
    monkeypatch.chdir(tmp_path)
    sleep.to_csv("data.csv", index=False)
    sleep.to_csv("data.csv.gz", index=False)
    sleep.to_csv("semicolons.csv", index=False, sep=";")
    sleep.to_csv("tabs.csv", index=False, sep="\t")
    sleep.iloc[:0].to_csv("header.csv", index=False)
    sleep.assign(Reaction=5.0).to_csv("constant.csv", index=False)
    sleep.assign(Reaction="fast").to_csv("text.csv", index=False)
    Path("spaces.csv").write_text(Path("data.csv").read_text().replace(",", ", "))
    Path("empty.csv").write_bytes(b"")
    Path("picture.csv").write_bytes(PNG + bytes(range(256)))
    Path("prose.csv").write_text("Dear reader\n\nthis, as you see,\nis, on the whole, no table, is it\n")
    Path("latin.csv").write_bytes("y,g\n1,é\n2,é\n".encode("latin-1"))
    Path("broken.csv.gz").write_bytes(b"no gzip at all")
    return tmp_path


def run(capsys, *arguments):
    try:
        status = command.main(list(arguments))
    except SystemExit as leave:  # --help and --version
        status = leave.code
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


def error_line(capsys, *arguments):
    """The one line of an error."""
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert re.fullmatch(r"sm_multilevel: [^\n]+\n", err), err
    return err


# -- the main job -------------------------------------------------------------------------------


def test_without_arguments(tmp_path, sleep):
    done = shell(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = smf.mixedlm(FORMULA, sleep).fit()
    assert str(result.summary()) in done.stdout
    vc, icc, r2 = result.varcorr(), result.icc(), result.r_squared()
    part = dict(re.findall(r"\n\n([A-Z][^\n]*)\n(.*?)(?=\n\n|\Z)", done.stdout, re.S))
    rows = [row.split() for row in part["Variance components"].split("\n")]
    assert rows[0] == ["grp", "var1", "var2", "vcov", "sdcor"]
    np.testing.assert_allclose([float(row[-1]) for row in rows[1:]], vc["sdcor"], atol=1e-6)
    assert part["Intraclass correlation"].split() == ["Subject:", f"{icc['Subject']:.4f}"]
    assert f"{r2['marginal']:.4f}" in part["R-squared"]
    assert f"{r2['conditional']:.4f}" in part["R-squared"]
    effects = [
        row.split() for row in part["Random effects of Subject, with standard errors: 6 of 18 levels"].split("\n")
    ]
    assert [row[0] for row in effects[2:]] == [str(level) for level in result.ranef().index[:6]]
    values, errors = result.ranef(conditional_se=True)
    first = [values.iloc[0, 0], errors.iloc[0, 0], values.iloc[0, 1], errors.iloc[0, 1]]
    np.testing.assert_allclose([float(x) for x in effects[2][1:]], first, rtol=1e-4)
    assert f"Caterpillar plot: {(tmp_path / 'caterpillar.png').resolve()}" in done.stdout
    assert (tmp_path / "caterpillar.png").read_bytes().startswith(PNG)
    assert [p.name for p in tmp_path.iterdir()] == ["caterpillar.png"]


def test_error_from_the_shell(tmp_path):
    done = shell("nowhere.csv", FORMULA, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sm_multilevel: there is no file nowhere.csv.\n"


def test_a_reader_that_leaves(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "sm_multilevel", "--plot", "x.svg"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert err == b""
    assert process.returncode == 0


# -- a user's file -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz", "spaces.csv"])
def test_csv_file(capsys, folder, sleep, name):
    status, out, err = run(capsys, name, FORMULA)
    assert (status, err) == (0, "")
    assert out.startswith(f"Data: {name}, 180 rows, 3 columns\n")
    assert str(smf.mixedlm(FORMULA, sleep).fit().summary()) in out
    assert "Caterpillar" not in out
    assert not (folder / "caterpillar.png").exists()


def test_maximum_likelihood(capsys, folder, sleep):
    _, out, _ = run(capsys, "data.csv", FORMULA, "--ml", "--family", "Gaussian")
    assert str(smf.mixedlm(FORMULA, sleep).fit(reml=False).summary()) in out


@pytest.mark.parametrize(("given", "written", "start"), [
    ("p.png", "p.png", PNG), ("p.pdf", "p.pdf", b"%PDF"), ("p.svg", "p.svg", b"<?xml"), ("bare", "bare.png", PNG),
])  # fmt: skip
def test_plot_file(capsys, folder, given, written, start):
    status, out, _ = run(capsys, "data.csv", FORMULA, "--plot", given)
    assert status == 0
    assert (folder / written).read_bytes().startswith(start)
    assert str((folder / written).resolve()) in out


def test_functions_in_the_formula(capsys, folder):
    status, out, err = run(capsys, "data.csv", "np.log(Reaction) ~ C(Days > 4) + (1 | Subject)")
    assert (status, err) == (0, "")
    assert "C(Days > 4)[T.True]" in out


def test_several_terms_and_many_columns(capsys, folder):
    data = pd.read_csv("data.csv").assign(day=lambda d: d["Days"])
    data.to_csv("two.csv", index=False)
    status, out, _ = run(capsys, "two.csv", "Reaction ~ (Days | Subject) + (1 | day)")
    assert status == 0
    assert "Random effects of Subject, with standard errors: 6 of 18 levels" in out
    assert "Random effects of day, with standard errors: 6 of 10 levels" in out


def test_no_intercept_has_no_icc(capsys, folder):
    status, out, _ = run(capsys, "data.csv", "Reaction ~ Days + (0 + Days | Subject)")
    assert status == 0
    assert "none: no random intercept" in out


def test_singular_fit_is_a_result(capsys):
    data = Path(__file__).parents[1] / "data" / "dyestuff2.csv"
    status, out, err = run(capsys, str(data), "Yield ~ 1 + (1 | Batch)")
    assert (status, err) == (0, "")
    assert "Singular fit: Batch: variance is zero." in out


def test_missing_values_and_dropped_columns(capsys, folder):
    data = pd.read_csv("data.csv").assign(twice=lambda d: 2 * d["Days"])
    data.loc[:2, "Reaction"] = np.nan
    data.to_csv("holes.csv", index=False)
    status, out, err = run(capsys, "holes.csv", "Reaction ~ Days + twice + (1 | Subject)")
    assert status == 0
    assert re.fullmatch(r"sm_multilevel: warning: [^\n]*twice[^\n]*\n", err)
    assert re.search(r"Rows dropped \(NaN\): +3\n", out)


def test_not_converged(capsys, folder, monkeypatch):
    fit = command.MixedLM.fit
    monkeypatch.setattr(command.MixedLM, "fit", lambda self, **k: fit(self, maxiter=1, start_params=[9, 3, 0.1], **k))
    status, out, err = run(capsys, "data.csv", FORMULA)
    assert status == 1
    assert "NOT CONVERGED: " in out
    assert re.fullmatch(r"sm_multilevel: warning: The fit did not converge: [^\n]*\n", err)


# -- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.csv", FORMULA], "no file nowhere.csv"),
        ([".", FORMULA], "is a directory"),
        (["empty.csv", FORMULA], "empty.csv is empty"),
        (["header.csv", FORMULA], "no rows"),
        (["semicolons.csv", FORMULA], "semicolons"),
        (["tabs.csv", FORMULA], "tabs"),
        (["picture.csv", FORMULA], "picture.csv cannot be read as a CSV file"),
        (["prose.csv", FORMULA], "prose.csv cannot be read as a CSV file"),
        (["latin.csv", "y ~ 1 + (1 | g)"], "latin.csv cannot be read as a CSV file.*utf-8"),
        (["broken.csv.gz", FORMULA], "broken.csv.gz cannot be read"),
        (["data.csv"], "a formula is missing after data.csv"),
        (["data.csv", ""], "formula is empty"),
        (["data.csv", "Reaction"], "no '~'"),
        (["data.csv", "Reaction ~ Days"], "no random term"),
        (["data.csv", "Reaction ~ Dayz + (1 | Subject)"], "'Dayz'.*'Days'"),
        (["data.csv", "Reaction ~ Days + (1 | Sbject)"], "'Sbject'.*'Subject'"),
        (["data.csv", "Reactoin ~ Days + (1 | Subject)"], "'Reactoin'.*'Reaction'"),
        (["data.csv", "Reaction ~ Days + (1 | Subject"], r"Unbalanced '\('"),
        (["data.csv", "Reaction ~ Days + ( | Subject)"], "no random effect"),
        (["data.csv", "Reaction ~ nothing(Days) + (1 | Subject)"], "nothing"),
        (["data.csv", "Reaction ~ np.log(Days) + (1 | Subject)"], r"np.log\(Days\)"),
        (["data.csv", "Reaction ~ 1 / 0 + Days + + (1 | Subject)"], ""),
        (["constant.csv", FORMULA], "'Reaction' is constant"),
        (["text.csv", FORMULA], "'Reaction' holds text"),
        (["data.csv", "Reaction ~ Days + (1 | Days:Subject)"], "one row"),
        (["data.csv", FORMULA, "--family", "binomial"], "--family binomial is not there yet"),
        (["data.csv", FORMULA, "--nagq", "5"], "--nagq is not there yet"),
        (["data.csv", FORMULA, "--nagq"], "--nagq"),
        (["data.csv", FORMULA, "more"], "more"),
        (["--bogus"], "--bogus"),
        (["--plot"], "--plot"),
        (["--plot", "nowhere/plot.png"], "the plot cannot be written.*no directory nowhere"),
        (["--plot", "."], "the plot cannot be written.*directory"),
        (["--plot", "plot.xyz"], "the plot cannot be written as .xyz"),
    ],
)
def test_errors_are_one_line(capsys, folder, arguments, words):
    assert re.search(words, error_line(capsys, *arguments))


def test_no_permission(capsys, folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(command.pd, "read_csv", refuse)  # root may read everything
    assert error_line(capsys, "data.csv", FORMULA) == "sm_multilevel: data.csv cannot be read: Permission denied\n"
    monkeypatch.setattr(command.os, "access", lambda path, mode: False)
    assert "no permission for plot.png" in error_line(capsys, "--plot", "plot.png")


def test_plot_that_fails_while_being_written(capsys, folder, monkeypatch):
    from matplotlib.figure import Figure

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    status, out, err = run(capsys, "data.csv", FORMULA, "--plot", "plot.png")
    assert status == 2
    assert "Random effects" in out
    assert re.fullmatch(r"sm_multilevel: the plot cannot be written to plot.png: [^\n]*No space left[^\n]*\n", err)


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), RuntimeError("one\ntwo"), np.linalg.LinAlgError("s")])
def test_the_unexpected_is_one_line(capsys, folder, monkeypatch, error):
    def fail(self, **kwargs):
        raise error

    monkeypatch.setattr(command.MixedLM, "fit", fail)
    assert str(error).split("\n")[0].strip("'") in error_line(capsys, "data.csv", FORMULA)


# -- help ------------------------------------------------------------------------------------------


def test_help(capsys):
    status, out, err = run(capsys, "--help")
    assert (status, err) == (0, "")
    assert max(map(len, out.split("\n"))) <= 80
    for text in ("DATA.csv", "FORMULA", "--ml", "--plot FILE", "(1 | a/b)", "exit status"):
        assert text in out


def test_version(capsys):
    from sm_multilevel import __version__

    assert run(capsys, "--version") == (0, f"sm_multilevel {__version__}\n", "")
