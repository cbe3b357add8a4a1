"""``python -m sm_multilevel``: fit a model and print its report, of the bundled data or of a CSV file."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from patsy.eval import EvalEnvironment

from sm_multilevel import __version__
from sm_multilevel.families.registry import FAMILIES, LINKS
from sm_multilevel.models.base import MultilevelModel
from sm_multilevel.models.generalized import MEOLogit, MixedGLM
from sm_multilevel.models.linear import MixedLM
from sm_multilevel.summary.words import ratios
from sm_multilevel.wording import suggest

__all__ = ["main"]

PROGRAM = "sm_multilevel"
EXAMPLE = "Reaction ~ Days + (Days | Subject)"
PLOT = "caterpillar.png"
LEVELS_SHOWN = 6

DESCRIPTION = f"""\
Fit a multilevel (mixed-effects) model and print its report: the summary,
variance components, intraclass correlations, R-squared and the first random
effects. Linear models are fitted by REML, others by maximum likelihood.

Without arguments it fits {EXAMPLE} to the
bundled sleepstudy data, and writes a caterpillar plot of the random effects
to {PLOT}."""

EPILOG = f"""\
families:
  gaussian, binomial, poisson, gamma (log link), inverse_gaussian, negbin, nb1,
  ordinal
links:
  {", ".join(list(LINKS)[:7])},
  {", ".join(list(LINKS)[7:])}

formulas, as in lme4:
  (1 | g)      an intercept for each level of g
  (x | g)      intercept and slope of x, correlated; (x || g) uncorrelated
  (1 | a/b)    b nested in a; (1 | a) + (1 | b) crossed
  Elsewhere all that patsy understands: C(x), np.log(x), bs(x, df=4), x * z

examples:
  python -m sm_multilevel
  python -m sm_multilevel pupils.csv "score ~ ses + (ses | school)" --plot p.pdf
  python -m sm_multilevel plots.csv "harvest ~ variety + (1 | farm/field)" --ml
  python -m sm_multilevel cows.csv "sick ~ period + (1 | herd)" \\
      --family binomial --trials size --nagq 7 --eform

exit status:
  0 done   1 the fit did not converge   2 an error, told in one line on stderr"""


class CommandError(Exception):
    """What the user can mend: told in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see python -m {PROGRAM} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"python -m {PROGRAM}",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("data", nargs="?", metavar="DATA.csv", help="file with a header line, one row an observation")
    parser.add_argument("formula", nargs="?", metavar="FORMULA", help='for example "y ~ x + (1 | g)"')
    parser.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    parser.add_argument("--plot", metavar="FILE", help="write a caterpillar plot (.png, .pdf, .svg)")
    parser.add_argument("--family", metavar="NAME", help="distribution of the response, default gaussian")
    parser.add_argument("--link", metavar="NAME", help="default the family's own")
    parser.add_argument("--nagq", metavar="K", help="quadrature points a column, or auto; default 1, Laplace")
    parser.add_argument("--trials", metavar="COLUMN", help="binomial numbers of trials; the response is successes")
    parser.add_argument("--exposure", metavar="COLUMN", help="its logarithm is added to the linear predictor")
    parser.add_argument("--offset", metavar="COLUMN", help="added to the linear predictor")
    parser.add_argument("--order", metavar="A,B,C", help="labels of an ordinal response, the lowest first")
    parser.add_argument("--eform", action="store_true", help="odds, rate or mean ratios instead of coefficients")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """
    Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Default ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0 done, 1 not converged, 2 an error.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # names that a terminal cannot show are no error
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            status = _run(_parser().parse_args(argv))
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # the reader has gone, as with ``| head``
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyboardInterrupt:
            _tell("interrupted")
            return 130
        except Exception as error:  # never a traceback: whatever went wrong, one line says what
            _tell(_one_line(error))
            return 2


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # what was printed before comes first
        sys.stdout.flush()
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


def _one_line(error: BaseException) -> str:
    text = _words(error)
    if isinstance(error, CommandError | ValueError | TypeError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _show_warning(message: Any, *place: Any, **more: Any) -> None:
    _tell(f"warning: {_words(message)}")


# Python's options under their names here, and advice that has no place here.
_HERE = {
    r"\bnAGQ=": "--nagq ",
    r"\bn_trials=?(?=\W)": "--trials",
    r"\b(exposure|offset|order|family|link)=(?=\W)": r"--\1",
    r"\b(distr|link)=": "--link ",
    r"\b(family|order)=": r"--\1 ",
    r"\beform=True\b": "--eform",
    r"\breml=False\b": "--ml",
    r"Leave these rows out with subset=": "Leave these rows out of the file",
    r", or (use|give) (an ordered Categorical|missing='drop'|groups=)": "",
    r"Give groups=, or a formula with bars": "Give a formula with bars",
}


def _words(message: object) -> str:
    text = " ".join(str(message).split())
    for theirs, ours in _HERE.items():
        text = re.sub(theirs, ours, text)
    return text


def _run(options: argparse.Namespace) -> int:
    if options.data is None:
        for name in ("family", "offset", *_GENERALIZED):
            if getattr(options, name):
                raise CommandError(f"--{name} needs a file and a formula; without them {EXAMPLE} is fitted.")
    if options.data is not None and options.formula is None:
        raise CommandError(f"a formula is missing after {options.data}, for example 'y ~ x + (1 | g)'.")
    plot = PLOT if options.data is None and options.plot is None else options.plot
    if plot is not None:
        plot = _writable(Path(plot))
    if options.data is None:
        from sm_multilevel.datasets import sleepstudy

        name, frame, formula = "sleepstudy (bundled)", sleepstudy.load_pandas().data, EXAMPLE
    else:
        name, frame, formula = options.data, _read(Path(options.data)), options.formula
    result = _fit(frame, formula, options)
    _report(result, options.eform, f"Data: {name}, {len(frame)} rows, {frame.shape[1]} columns")
    if plot is not None:
        _plot(result, plot)
    return 0 if result.converged else 1


def _writable(path: Path) -> Path:
    """Where the plot goes; CommandError before the fit if it cannot be written."""
    from matplotlib.backend_bases import FigureCanvasBase

    if path.is_dir():
        raise CommandError(f"the plot cannot be written: {path} is a directory.")
    if not path.parent.is_dir():
        raise CommandError(f"the plot cannot be written: there is no directory {path.parent}.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CommandError(f"the plot cannot be written: no permission for {path}.")
    path = path if path.suffix else path.with_suffix(".png")
    formats = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise CommandError(f"the plot cannot be written as {path.suffix}; there are {', '.join(sorted(formats))}.")
    return path


def _read(path: Path) -> pd.DataFrame:
    """The file as a frame; CommandError for everything that can be wrong with it."""
    if path.is_dir():
        raise CommandError(f"{path} is a directory, not a CSV file.")
    if not path.exists():
        raise CommandError(f"there is no file {path}.")
    try:
        frame = pd.read_csv(path, low_memory=False, skipinitialspace=True, na_values=["."])  # "." is Stata's
    except pd.errors.EmptyDataError:
        raise CommandError(f"{path} is empty.") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path} cannot be read as a CSV file: it is not in utf-8. Save it as that.") from None
    except pd.errors.ParserError as error:
        raise CommandError(f"{path} cannot be read as a CSV file: {_one_line(error)}") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # compressed files that are none, and the like
        raise CommandError(f"{path} cannot be read: {_one_line(error)}") from None
    if frame.empty:
        raise CommandError(f"{path} has a header line and no rows.")
    if frame.shape[1] == 1:
        header = str(frame.columns[0])
        for separator, word in ((";", "semicolons"), ("\t", "tabs")):
            if separator in header:
                raise CommandError(f"{path} is separated by {word}; a CSV file with commas is needed.")
    return frame


def _fit(frame: pd.DataFrame, formula: str, options: argparse.Namespace) -> Any:
    cls, given, how = _model(options)
    env = EvalEnvironment([{"np": np, "pd": pd}])
    with warnings.catch_warnings(record=True) as caught:  # an error makes them needless
        model: Any = cls.from_formula(formula, frame, eval_env=env, **given)
        if options.eform:
            ratios(model.family)  # raises where they make no sense
        result = model.fit(**how)
    for text in dict.fromkeys(_words(w.message) for w in caught):
        _tell(f"warning: {text}")
    return result


_LINEAR = (None, "identity")  # links
_GENERALIZED = ("link", "nagq", "trials", "exposure", "order", "eform")


def _model(options: argparse.Namespace) -> tuple[type[MultilevelModel], dict, dict]:
    """Class, options of the model and options of the fit."""
    family = (options.family or "gaussian").lower()
    family = "gaussian" if family == "normal" else family
    given = {} if options.offset is None else {"offset": options.offset}
    if family == "gaussian" and options.link in _LINEAR:
        for name in ("nagq", "trials", "exposure", "order", "eform"):
            if getattr(options, name):
                raise CommandError(f"--{name} is for other families than gaussian; give one with --family.")
        return MixedLM, given, {"reml": not options.ml}
    how = {} if options.nagq is None else {"nAGQ": _points(options.nagq)}
    if family == "ordinal":
        for name in ("trials", "exposure"):
            if getattr(options, name):
                raise CommandError(f"--{name} is not for an ordinal response.")
        return MEOLogit, {"distr": options.link or "logit", "order": _labels(options.order), **given}, how
    if options.order:
        raise CommandError("--order is for --family ordinal.")
    if family not in FAMILIES and suggest(family, ["ordinal"]):
        raise CommandError(f"--family {options.family} is not known.{suggest(family, ['ordinal'])}")
    given.update(family=family, link=options.link or ("log" if family == "gamma" else None))
    for name, option in (("trials", "n_trials"), ("exposure", "exposure")):
        if getattr(options, name):
            given[option] = getattr(options, name)
    return MixedGLM, given, how


def _labels(text: str | None) -> list | None:
    """Labels in order; numbers where all of them are, as in the file."""
    labels = None if text is None else [label.strip() for label in text.split(",")]
    try:
        return labels and [float(label) for label in labels]
    except ValueError:
        return labels


def _points(text: str) -> int | str:
    """What `fit` takes; it refuses what is neither a number nor "auto"."""
    try:
        return int(text)
    except ValueError:
        return text


def _report(result: Any, eform: bool, heading: str) -> None:
    print(heading, end="\n\n")
    print(result.summary(eform=eform))
    print("\nVariance components")
    table = result.varcorr().fillna({"var1": "", "var2": ""})
    print(table.to_string(index=False, na_rep="."))
    icc, r2 = result.facts.icc, result.facts.r_squared
    of_what = "" if result.family is None else " of the linear predictor"
    print(f"\nIntraclass correlation{of_what}")
    none = "no random intercept" if r2 else "the link has no residual variance"
    print("\n".join(f"  {g}: {v:.4f}" for g, v in icc.items()) or f"  none: {none}")
    if r2:
        print(f"\nR-squared{of_what}\n  marginal (fixed effects): {r2['marginal']:.4f}")
        print(f"  conditional (fixed and random effects): {r2['conditional']:.4f}")
    effects, errors = map(_by_group, result.ranef(conditional_se=True))
    for group, frame in effects.items():
        shown = min(LEVELS_SHOWN, len(frame))
        print(f"\nRandom effects of {group}, with standard errors: {shown} of {len(frame)} levels")
        both = {}
        for column in frame.columns:
            both[column], both[f"se({column})"] = frame[column], errors[group][column]
        print(pd.DataFrame(both).head(shown).to_string(line_width=100))


def _by_group(frames: Any) -> dict[str, pd.DataFrame]:
    return frames if isinstance(frames, dict) else {str(frames.index.name): frames}


def _plot(result: Any, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    figure = result.plot(kind="caterpillar")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"the plot cannot be written to {path}: {_one_line(error)}") from None
    print(f"\nCaterpillar plot: {path.resolve()}")


if __name__ == "__main__":
    sys.exit(main())
