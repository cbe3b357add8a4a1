"""``python -m sm_multilevel``: fit a model and print its report, of the bundled data or of a CSV file."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from patsy.eval import EvalEnvironment

from sm_multilevel import __version__
from sm_multilevel.models import MixedLM

__all__ = ["main"]

PROGRAM = "sm_multilevel"
EXAMPLE = "Reaction ~ Days + (Days | Subject)"
PLOT = "caterpillar.png"
LEVELS_SHOWN = 6

DESCRIPTION = f"""\
Fit a linear multilevel (mixed-effects) model by REML and print its report: the
summary, variance components, intraclass correlations, R-squared and the first
random effects.

Without arguments it fits {EXAMPLE} to the
bundled sleepstudy data, and writes a caterpillar plot of the random effects
to {PLOT}."""

EPILOG = """\
formulas, as in lme4:
  (1 | g)      an intercept for each level of g
  (x | g)      intercept and slope of x, correlated; (x || g) uncorrelated
  (1 | a/b)    b nested in a; (1 | a) + (1 | b) crossed
  Elsewhere all that patsy understands: C(x), np.log(x), bs(x, df=4), x * z

examples:
  python -m sm_multilevel
  python -m sm_multilevel pupils.csv "score ~ ses + (ses | school)" --plot p.pdf
  python -m sm_multilevel plots.csv "harvest ~ variety + (1 | farm/field)" --ml

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
    parser.add_argument("--family", metavar="NAME", default="gaussian", help="only gaussian so far")
    parser.add_argument("--nagq", metavar="K", help="quadrature points; not there yet")
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


def _words(message: object) -> str:
    return " ".join(str(message).split())


def _run(options: argparse.Namespace) -> int:
    if options.family.lower() not in ("gaussian", "normal"):
        raise CommandError(f"--family {options.family} is not there yet; only gaussian models can be fitted so far.")
    if options.nagq is not None:
        raise CommandError("--nagq is not there yet; it comes with the families that need quadrature.")
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
    result = _fit(frame, formula, reml=not options.ml)
    _report(result, f"Data: {name}, {len(frame)} rows, {frame.shape[1]} columns")
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
        frame = pd.read_csv(path, low_memory=False, skipinitialspace=True)
    except pd.errors.EmptyDataError:
        raise CommandError(f"{path} is empty.") from None
    except (UnicodeDecodeError, pd.errors.ParserError) as error:
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


def _fit(frame: pd.DataFrame, formula: str, reml: bool) -> Any:
    env = EvalEnvironment([{"np": np, "pd": pd}])
    with warnings.catch_warnings(record=True) as caught:  # an error makes them needless
        result = MixedLM.from_formula(formula, frame, eval_env=env).fit(reml=reml)
    for text in dict.fromkeys(_words(w.message) for w in caught):
        _tell(f"warning: {text}")
    return result


def _report(result: Any, heading: str) -> None:
    print(heading, end="\n\n")
    print(result.summary())
    print("\nVariance components")
    table = result.varcorr().fillna({"var1": "", "var2": ""})
    print(table.to_string(index=False, na_rep="."))
    print("\nIntraclass correlation")
    print("\n".join(f"  {g}: {v:.4f}" for g, v in result.icc().items()) or "  none: no random intercept")
    r2 = result.r_squared()
    print(f"\nR-squared\n  marginal (fixed effects): {r2['marginal']:.4f}")
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
