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
from sm_multilevel.datasets import cbpp, sleepstudy, wine

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


# -- other families --------------------------------------------------------------------------------


@pytest.fixture
def cows(folder):
    data = cbpp.load_pandas().data.assign(months=lambda d: d["size"] / 10)
    data["period"] = "p" + data["period"].astype(str)
    data.assign(log_months=np.log(data["months"])).to_csv("cows.csv", index=False)
    return pd.read_csv("cows.csv")


COWS = "incidence ~ period + (1 | herd)"


def test_binomial_with_trials(capsys, cows):
    arguments = ["--family", "binomial", "--trials", "size", "--nagq", "7", "--eform", "--plot", "p.png"]
    status, out, err = run(capsys, "cows.csv", COWS, *arguments)
    assert (status, err) == (0, "")
    result = smf.melogit(COWS, cows, n_trials="size").fit(nAGQ=7)
    assert str(result.summary(eform=True)) in out
    assert f"  herd: {result.icc()['herd']:.4f}" in out
    assert "R-squared of the linear predictor" in out
    assert "Residual" not in out
    assert Path("p.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(("arguments", "function", "options"), [
    (["--family", "poisson", "--offset", "log_months", "--ml"], "mepoisson", {"offset": "log_months"}),
    (["--family", "Poisson", "--exposure", "months", "--eform"], "mepoisson", {"exposure": "months"}),
    (["--family", "negbin"], "menbreg", {}),
    (["--family", "binomial", "--link", "probit", "--trials", "size"], "meprobit", {"n_trials": "size"}),
])  # fmt: skip
def test_families_and_options(capsys, cows, arguments, function, options):
    status, out, err = run(capsys, "cows.csv", COWS, *arguments)
    assert (status, err) == (0, "")
    llf = getattr(smf, function)(COWS, cows, **options).fit().llf
    assert re.search(rf"Log-Likelihood: +{llf:.3f}\n", out)


def test_gamma_has_a_log_link_and_auto_points(capsys, folder, sleep):
    status, out, err = run(capsys, "data.csv", "Reaction ~ Days + (1 | Subject)", "--family", "gamma", "--nagq", "auto")
    assert (status, err) == (0, "")
    result = smf.megamma("Reaction ~ Days + (1 | Subject)", sleep).fit(nAGQ="auto")
    assert str(result.summary()) in out


@pytest.mark.parametrize("order", [None, "bad,so so, good"])
def test_ordinal(capsys, folder, order):
    data = wine.load_pandas().data
    codes = np.minimum(data["rating"].astype(int), 3)
    labels = {1: "bad", 2: "so so", 3: "good"}
    data.assign(rating=codes if order is None else codes.map(labels)).to_csv("wine.csv", index=False)
    more = [] if order is None else ["--order", order]
    status, out, err = run(capsys, "wine.csv", "rating ~ temp + (1 | judge)", "--family", "ordinal", *more)
    assert (status, err) == (0, "")
    llf = smf.meologit("rating ~ temp + (1 | judge)", data.assign(rating=codes)).fit().llf
    assert re.search(rf"Log-Likelihood: +{llf:.3f}\n", out)
    assert ("\nbad|so so " if order else "\n1|2 ") in out
    numbers = ["--family", "ordinal", "--order", "3,2,1"]
    if order is None:
        assert "\n3|2 " in run(capsys, "wine.csv", "rating ~ temp + (1 | judge)", *numbers)[1].replace(".0", "")
    else:
        assert "holds text, whose order is not known" in error_line(
            capsys, "wine.csv", "rating ~ temp + (1 | judge)", "--family", "ordinal"
        )


def test_link_without_a_residual_variance(capsys, cows):
    arguments = ["--family", "binomial", "--link", "cauchit", "--trials", "size"]
    status, out, _ = run(capsys, "cows.csv", "incidence ~ 1 + (1 | herd)", *arguments)
    assert status == 0
    assert "none: the link has no residual variance" in out
    assert "R-squared" not in out


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
        (["data.csv", "Reaction ~ Days"], r"no random term\. Add one, for example '\+ \(1 \| g\)'\. For"),
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
        (["data.csv", FORMULA, "--family", "binomial"], "'Reaction' has 2[0-9.]+ in row 0, but an outcome is 0 or 1"),
        (["data.csv", FORMULA, "--family", "gama"], "No family is called 'gama'. Did you mean 'gamma'"),
        (["data.csv", FORMULA, "--family", "ordnal"], "--family ordnal is not known. Did you mean 'ordinal'"),
        (["data.csv", FORMULA, "--family", "beta"], "beta family is not available"),
        (["data.csv", FORMULA, "--family", "zip"], "zero-inflated family is not available.*negbin"),
        (["data.csv", FORMULA, "--family", "gamma", "--link", "lgo"], "No link is called 'lgo'. Did you mean 'log'"),
        (["data.csv", "Days ~ 1 + (1 | Subject)", "--family", "ordinal", "--link", "lgo"], "--link 'lgo'"),
        (["data.csv", FORMULA, "--nagq", "5"], "--nagq is for other families than gaussian"),
        (["data.csv", FORMULA, "--eform"], "--eform is for other families than gaussian"),
        (["data.csv", FORMULA, "--trials", "Days"], "--trials is for other families than gaussian"),
        (["data.csv", FORMULA, "--order", "1,2"], "--order is for other families than gaussian"),
        (["data.csv", FORMULA, "--family", "gamma", "--order", "1,2"], "--order is for --family ordinal"),
        (["data.csv", FORMULA, "--family", "ordinal", "--trials", "Days"], "--trials is not for an ordinal response"),
        (["data.csv", FORMULA, "--family", "gamma", "--trials", "Subject"], "--trials is for a binomial response"),
        (["data.csv", FORMULA, "--family", "gamma", "--exposure", "Dayz"], "exposure: .*no column 'Dayz'.*'Days'"),
        (
            ["data.csv", FORMULA, "--family", "gamma", "--exposure", "Days"],
            "exposure must be positive.*Leave these rows out of the file",
        ),
        (["data.csv", FORMULA, "--family", "gamma", "--offset", "Dayz"], "offset: .*no column 'Dayz'.*'Days'"),
        (["data.csv", FORMULA, "--family", "gamma", "--nagq", "2.5"], "--nagq '2.5' must be a whole number"),
        (["data.csv", FORMULA, "--family", "gamma", "--nagq", "-1"], "--nagq -1 must be a whole number"),
        (["data.csv", FORMULA, "--family", "gamma", "--nagq", "5000"], "--nagq 5000.*budget"),
        (["data.csv", FORMULA, "--family", "gamma", "--link", "sqrt", "--eform"], "log or a logit link.*sqrt"),
        (["data.csv", FORMULA, "--nagq"], "--nagq"),
        (["--family", "binomial"], "--family needs a file and a formula"),
        (["--eform"], "--eform needs a file and a formula"),
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
    for text in ("DATA.csv", "FORMULA", "--ml", "--nagq K", "ordinal", "cloglog", "--plot FILE", "(1 | a/b)", "status"):
        assert text in out


def test_version(capsys):
    from sm_multilevel import __version__

    assert run(capsys, "--version") == (0, f"sm_multilevel {__version__}\n", "")
