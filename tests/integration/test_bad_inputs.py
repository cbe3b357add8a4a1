"""Bad inputs: an exception that names the culprit and says what to do, and never a number.

One table: what is done, the type of the exception, and pieces of its message.
"""

import warnings

import numpy as np
import pandas as pd
import pytest

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.design.terms import FormulaError
from sm_multilevel.linalg import layout as layout_module
from sm_multilevel.linalg.layout import MemoryBudgetError
from sm_multilevel.objectives.gaussian import PerfectFitError

N = 60
GOOD = "y ~ x + (1 | g)"


def frame(**columns):
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(10), 6)
    data = pd.DataFrame(
        {
            "y": rng.normal(size=N) + rng.normal(size=10)[g],
            "x": rng.normal(size=N),
            "g": np.array([f"g{i}" for i in range(10)])[g],
            "h": np.tile([f"h{i}" for i in range(6)], 10),
            "k": np.tile(["a", "b", "c"], 20),
            "w": rng.uniform(0.5, 2.0, N),
        }
    )
    return data.assign(**columns)


D = frame()
X, Y, G = D[["x"]], D["y"], D["g"]


def with_value(column, value, row=3):
    data = frame()
    if isinstance(value, float):
        data[column] = data[column].astype(float if data[column].dtype.kind in "if" else object)
    data.loc[row, column] = value
    return data


def fit(formula=GOOD, data=D, fit_options=None, **options):
    return smf.mixedlm(formula, data, **options).fit(**(fit_options or {}))


def arrays(endog=Y, exog=X, groups=G, **options):
    return smm.MixedLM(endog, exog, groups, **options).fit()


_RESULTS = {}


def result(formula=GOOD, **options):
    """A good fit, made once."""
    key = formula, *((k, id(v)) for k, v in options.items())
    if key not in _RESULTS:
        _RESULTS[key] = fit(formula, **options), options
    return _RESULTS[key][0]


V, F, T = ValueError, FormulaError, TypeError
HALF = np.r_[np.full(30, np.nan), np.arange(30.0)]
OTHER_ROWS = range(5, 5 + N)
DATES = pd.date_range("2020-01-01", periods=N)
STEP = np.arange(N) * np.timedelta64(1, "D")

TABLE = {
    # -- names ---------------------------------------------------------------------------------
    "unknown column: fixed": (lambda: fit("y ~ xx + (1 | g)"), F, "'xx'", "fixed part", "Did you mean 'x'?"),
    "unknown column: in a function": (lambda: fit("y ~ np.log(xx) + (1 | g)"), F, "'xx'", "fixed part"),
    "unknown column: Q()": (lambda: fit("y ~ Q('my x') + (1 | g)"), F, "'my x'"),
    "unknown column: random": (lambda: fit("y ~ x + (xx | g)"), F, "'xx'", "random part of 'g'"),
    "unknown column: group": (lambda: fit("y ~ x + (1 | gg)"), F, "'gg'", "group", "Did you mean 'g'?"),
    "unknown column: inner group": (lambda: fit("y ~ x + (1 | g/hh)"), F, "'hh'", "Did you mean 'h'?"),
    "unknown column: groups=": (lambda: fit("y ~ x", groups="gg"), F, "groups", "'gg'"),
    "unknown column: second of groups=": (lambda: fit("y ~ x", groups=["g", "hh"]), F, "groups", "'hh'"),
    "unknown column: re_formula": (lambda: fit("y ~ x", groups="g", re_formula="~xx"), F, "'xx'", "random part of 'g'"),
    "unknown column: vc_formula": (
        lambda: fit("y ~ x", groups="g", vc_formula={"a": "0 + C(xx)"}), F, "vc_formula 'a'", "'xx'"),
    "unknown column: response": (lambda: fit("yy ~ x + (1 | g)"), F, "response", "'yy'", "Did you mean 'y'?"),
    "unknown column: var_weights": (lambda: fit(var_weights="ww"), F, "var_weights", "'ww'", "Did you mean 'w'?"),
    "unknown column: freq_weights": (lambda: fit(freq_weights="ww"), F, "freq_weights", "'ww'"),
    "unknown column: offset=": (lambda: fit(offset="ww"), F, "offset", "'ww'"),
    "unknown column: offset()": (lambda: fit("y ~ x + offset(ww) + (1 | g)"), F, "offset", "'ww'"),
    "unknown function": (lambda: fit("y ~ foo(x) + (1 | g)"), F, "function 'foo'", "fixed part"),
    "unknown function of a module": (lambda: fit("y ~ np.foo(x) + (1 | g)"), F, "np.foo(x)", "no attribute 'foo'"),
    "a column named as the intercept": (
        lambda: fit("y ~ Intercept + (1 | g)", frame(Intercept=D["x"])), F, "'Intercept' must be renamed"),
    "duplicated column names": (
        lambda: fit(data=pd.concat([D, X], axis=1)), V, "more than one column named 'x'", "Rename or drop"),
    "duplicated names in exog": (
        lambda: arrays(exog=pd.concat([X, X], axis=1)), V, "exog", "more than one column named 'x'"),
    "duplicated names in exog_re": (
        lambda: arrays(exog_re=pd.concat([X, X], axis=1)), V, "exog_re", "more than one column named 'x'"),
    # -- formulas ------------------------------------------------------------------------------
    "no bar": (lambda: fit("y ~ x + (1 + x)"), F, "no random term", "(1 | g)", "groups="),
    "no random part": (lambda: fit("y ~ x"), F, "no random term", "(1 | g)", "groups="),
    "unbalanced parenthesis, open": (lambda: fit("y ~ x + (1 | g"), F, "Unbalanced '('", "Write ')'"),
    "unbalanced parenthesis, closed": (lambda: fit("y ~ x + 1 | g)"), F, "Unbalanced ')'", "Remove it"),
    "empty random part": (lambda: fit("y ~ x + (| g)"), F, "names no random effect", "Write '1'"),
    "empty grouping": (lambda: fit("y ~ x + (1 | )"), F, "no grouping factor", "after the bar"),
    "random part without columns": (lambda: fit("y ~ x + (0 | g)"), F, "leaves no random effect", "Write '1'"),
    "bar without parentheses": (lambda: fit("y ~ x | g"), F, "needs parentheses", "(x | g)"),
    "plus after the bar": (lambda: fit("y ~ x + (x | g + h)"), F, "'+'", "(x | g) + (x | h)"),
    "two tildes": (lambda: fit("y ~ x ~ (1 | g)"), F, "'~' too many"),
    "no response": (lambda: fit("~ x + (1 | g)"), F, "no response", "y ~ x"),
    "nothing": (lambda: fit(""), F, "empty", "response ~ predictors"),
    "no formula": (lambda: fit(None), F, "must be a string", "NoneType"),
    "poly": (lambda: fit("y ~ poly(x, 2) + (1 | g)"), F, "poly(x, 2)", "I(x**2)"),
    "dollar": (lambda: fit("y ~ d$x + (1 | g)"), F, "'$'", "R notation"),
    "a random term twice": (lambda: fit("y ~ x + (1 | g) + (1 | g)"), F, "(1 | g)", "twice", "once"),
    "a random effect twice": (
        lambda: fit("y ~ x + (1 | g) + (x | g)"), V, "Intercept", "'g'", "twice", "(0 + x | g)"),
    "a random term twice in other words": (
        lambda: fit("y ~ x + (x | g) + (1 + x | g)"), V, "Intercept", "'g'", "twice"),
    "one grouping under two names": (
        lambda: fit("y ~ x + (1 | g) + (1 | g2)", frame(g2=D["g"].str.upper())), V,
        "'g'", "'g2'", "same groups of rows"),
    "nested without nesting": (
        lambda: fit("y ~ x + (1 | g/c)", frame(c="only")), V, "'g'", "'c:g'", "same groups of rows"),
    "groups= names one twice": (lambda: fit("y ~ x", groups=["g", "g"]), V, "groups=", "twice"),
    "groups= is empty": (lambda: fit("y ~ x", groups=[]), V, "groups=[]"),
    "bars and groups=": (lambda: fit(groups="g"), F, "bars", "groups=", "one of them"),
    "bars and re_formula=": (lambda: fit(re_formula="~x"), F, "bars", "re_formula="),
    "re_formula without columns": (lambda: fit("y ~ x", groups="g", re_formula="~0"), F, "'~0'", "Write '1'"),
    "re_formula empty": (lambda: fit("y ~ x", groups="g", re_formula=""), F, "no random effect"),
    "re_formula with a bar": (lambda: fit("y ~ x", groups="g", re_formula="(x | g)"), F, "no bar", "'~x'"),
    "re_formula with a response": (lambda: fit("y ~ x", groups="g", re_formula="y ~ x"), F, "no response", "'~ x'"),
    "re_formula is no string": (lambda: fit("y ~ x", groups="g", re_formula=3), F, "re_formula", "string"),
    "re_formula names no group": (
        lambda: fit("y ~ x", groups="g", re_formula={"gg": "~x"}), V, "re_formula=", "'gg'", "'g'"),
    "vc_formula is no dict": (lambda: fit("y ~ x", groups="g", vc_formula="0 + C(h)"), V, "vc_formula=", "dict"),
    "vc_formula with nested groups": (
        lambda: fit("y ~ x", groups=["g", "h"], vc_formula={"a": "0 + C(k)"}), V, "vc_formula=", "(1 | school/class)"),
    "a component with the group's name": (
        lambda: fit("y ~ x", groups="g", vc_formula={"g": "0 + C(h)"}), V, "vc_formula=", "'g'", "another name"),
    "|| with another covariance": (
        lambda: fit("y ~ x + (x || g)", covariance="identity"), F, "(x || g)", "'identity'", "single bar"),
    "a value for a column: fixed": (lambda: fit("y ~ np.mean(x) + (1 | g)"), F, "np.mean(x)", "single value"),
    "a value for a column: random": (lambda: fit("y ~ x + (0 + x[0] | g)", D[["y", "x", "g"]]), F, "x[0]"),
    "a value for a column: random alone": (lambda: fit("y ~ 1 + (0 + x[0] | g)"), F, "x[0]", "single value"),
    "a value for a column: group": (lambda: fit("y ~ x + (1 | np.sum(x))"), F, "np.sum(x)", "single value"),
    "a value for a column: response": (lambda: fit("1 ~ x + (1 | g)"), F, "'1'", "no column"),
    "a formula for exposure": (lambda: fit(exposure="w"), T, "'exposure'"),
    # -- the response --------------------------------------------------------------------------
    "constant response": (lambda: fit(data=frame(y=1.5)), V, "'y'", "constant", "1.5"),
    "text response": (lambda: fit("k ~ x + (1 | g)"), V, "'k'", "text ('a')", "astype(float)"),
    "digits as text": (lambda: fit(data=frame(y=D["y"].astype(str))), V, "'y'", "text", "astype(float)"),
    "categorical response": (
        lambda: fit("k ~ x + (1 | g)", frame(k=pd.Categorical(D["k"]))), V, "'k'", "categorical", "'a', 'b', 'c'"),
    "categorical response of numbers": (
        lambda: fit(data=frame(y=pd.Categorical(np.tile([1, 2, 3], 20)))), V, "'y'", "categorical", "astype(float)"),
    "C() response": (lambda: fit("C(k) ~ x + (1 | g)"), V, "C(k)", "0/1"),
    "two responses": (lambda: fit("y + x ~ k + (1 | g)"), F, "'y + x'", "more than one column", "I(y + x)"),
    "a product as response": (lambda: fit("y*x ~ k + (1 | g)"), F, "'y*x'", "more than one column"),
    "a matrix as response": (lambda: fit("np.column_stack([y, x]) ~ k + (1 | g)"), V, "2 columns"),
    "complex response": (lambda: fit(data=frame(y=D["y"] + 1j)), V, "'y'", "complex"),
    "complex objects as response": (lambda: fit(data=frame(y=(D["y"] + 1j).astype(object))), V, "'y'", "complex"),
    "dates as response": (lambda: fit(data=frame(y=DATES)), V, "'y'", "dates"),
    "dates with a zone as response": (lambda: fit(data=frame(y=DATES.tz_localize("UTC"))), V, "'y'", "Timestamp"),
    "time differences as response": (lambda: fit(data=frame(y=STEP)), V, "'y'", "time differences"),
    "mixed objects as response": (lambda: fit(data=frame(y=[1, "a", None] * 20)), V, "'y'", "text ('a')"),
    "lists as response": (lambda: fit(data=frame(y=[[1]] * N)), V, "'y'", "list"),
    "exact fit": (lambda: fit(data=frame(y=2 * D["x"] + 1)), PerfectFitError, "exactly", "predictor"),
    "exact fit without intercept": (lambda: fit(data=frame(y=3e6 * D["x"])), PerfectFitError, "exactly"),
    "exact fit with groups": (
        lambda: fit(data=frame(y=2 * D["x"] + D["g"].str[1:].astype(float))), PerfectFitError, "exactly"),
    "a predictor a row": (lambda: fit("y ~ C(r) + (1 | g)", frame(r=range(N))), PerfectFitError, "exactly"),
    "a response too large": (lambda: fit(data=frame(y=1e120 * D["y"])), V, "'y'", "extreme", "Rescale"),
    "a response too small": (lambda: fit(data=frame(y=1e-120 * D["y"])), V, "'y'", "extreme", "Rescale"),
    "a predictor too large": (lambda: fit(data=frame(x=1e160 * D["x"])), V, "'x'", "extreme", "Rescale"),
    "a predictor too small": (lambda: fit(data=frame(x=1e-200 * D["x"])), V, "'x'", "extreme", "Rescale"),
    "a response without digits": (
        lambda: fit(data=frame(y=1e15 + D["y"])), PerfectFitError, "subtract a large constant"),
    # -- values --------------------------------------------------------------------------------
    "infinite response": (lambda: fit(data=with_value("y", np.inf)), V, "'y'", "infinite", "row 3"),
    "infinite predictor": (lambda: fit(data=with_value("x", np.inf)), V, "'x'", "infinite", "row 3", "fixed part"),
    "infinite random column": (
        lambda: fit("y ~ x + (w | g)", with_value("w", np.inf)), V, "'w'", "infinite", "row 3", "random part of 'g'"),
    "infinite var_weights": (lambda: fit(data=with_value("w", np.inf), var_weights="w"), V, "var_weights", "infinite"),
    "infinite freq_weights": (
        lambda: fit(data=with_value("w", -np.inf), freq_weights="w"), V, "freq_weights", "infinite"),
    "infinite offset": (lambda: fit(data=with_value("w", np.inf), offset="w"), V, "offset", "infinite", "row 3"),
    "infinite offset()": (
        lambda: fit("y ~ x + offset(w) + (1 | g)", with_value("w", np.inf)), V, "offset(w)", "infinite"),
    "infinite exog": (lambda: arrays(exog=np.full((N, 1), np.inf)), V, "exog", "infinite"),
    "infinite exog_re": (lambda: arrays(exog_re=np.full((N, 1), np.inf)), V, "'g'", "infinite"),
    "logarithm of zero": (
        lambda: fit("y ~ np.log(z) + (1 | g)", frame(z=np.arange(N))), V, "'np.log(z)'", "row 0", "logarithm of zero"),
    "complex predictor": (lambda: fit(data=frame(x=D["x"] + 1j)), F, "'x'", "complex"),
    "complex random column": (lambda: fit("y ~ 1 + (x | g)", frame(x=D["x"] + 1j)), F, "'x'", "complex"),
    "complex exog": (lambda: arrays(exog=X.to_numpy() + 1j), V, "exog: the column 0", "complex"),
    "complex exog frame": (lambda: arrays(exog=X + 1j), V, "'x'", "complex"),
    "complex weights": (lambda: fit(data=frame(w=D["w"] + 1j), var_weights="w"), V, "var_weights", "complex"),
    "dates as predictor": (lambda: fit(data=frame(x=DATES)), F, "'x'", "dates", "C(x)"),
    "time differences as predictor": (lambda: fit(data=frame(x=STEP)), F, "'x'", "time differences"),
    "mixed objects as predictor": (
        lambda: fit(data=frame(x=[1, "a", 2.5] * 20)), F, "'x'", "numbers and text", "C(x)"),
    "lists as predictor": (lambda: fit(data=frame(x=[[1]] * N)), F, "(x)", "hashable"),
    "text exog": (lambda: arrays(exog=D[["k"]]), V, "exog", "'k'", "text"),
    "text exog array": (lambda: arrays(exog=D[["k"]].to_numpy(dtype=object)), V, "exog: the column 0", "text"),
    "a column of zeros": (lambda: arrays(exog_re=np.zeros((N, 1))), V, "zero in every row"),
    "text weights": (lambda: fit(var_weights="k"), V, "var_weights", "text ('a')"),
    "text offset": (lambda: fit(offset="k"), V, "offset", "text ('a')"),
    # -- groups --------------------------------------------------------------------------------
    "one level": (lambda: fit(data=frame(g="one")), V, "'g'", "only one level", "'one'", "Leave the term out"),
    "one level, groups=": (lambda: fit("y ~ x", frame(g=1), groups="g"), V, "'g'", "only one level"),
    "one level, arrays": (lambda: arrays(groups=np.ones(N)), V, "only one level"),
    "one row a level": (
        lambda: fit(data=frame(g=range(N))), V, "'g'", "one row", "60 levels", "residual variance", "coarser"),
    "one row a level, slopes": (lambda: fit("y ~ x + (0 + x | g)", frame(g=range(N))), V, "'g'", "one row", "(x | g)"),
    "one row a level, crossed": (lambda: fit("y ~ x + (1 | g:h)"), V, "'g:h'", "one row"),
    "more effects than rows": (
        lambda: fit("y ~ x + (x + w + C(h) | g)"), V, "80 random effects", "10 levels x 8 columns", "60 rows"),
    "as many effects as rows": (
        lambda: fit("y ~ x + (x | g2)", frame(g2=np.repeat(np.arange(30), 2))), V,
        "60 random effects", "fewer columns"),
    "groups of lists": (lambda: fit(data=frame(g=[[1]] * N)), V, "group 'g'", "cannot be levels", "list"),
    "groups of dicts": (lambda: arrays(groups=pd.Series([{}] * N, name="g")), V, "groups 'g'", "cannot be levels"),
    "ambiguous crossing": (
        lambda: fit("y ~ x + (1 | a:c) + (1 | g)", frame(a=["x:y", "x"] * 30, c=["z", "y:z"] * 30)), V,
        "group 'a:c'", "'x:y:z'", "colons"),
    "groups two-dimensional": (lambda: fit("y ~ x", groups=np.ones((N, 2))), V, "groups=", "one-dimensional"),
    "groups a number": (lambda: fit("y ~ x", groups=3), V, "groups", "single value"),
    "no groups": (lambda: smm.MixedLM(Y, X), V, "groups=", "needed"),
    # -- missing values ------------------------------------------------------------------------
    "all missing: response": (lambda: fit(data=frame(y=np.nan)), V, "'y'", "missing (NaN) in every row"),
    "all missing: predictor": (lambda: fit(data=frame(x=np.nan)), V, "every row", "x"),
    "all missing: groups": (lambda: fit(data=frame(g=np.nan)), V, "'g'", "missing (NaN) in every row"),
    "all missing: groups of None": (lambda: fit(data=frame(g=None)), V, "'g'", "missing"),
    "all missing: weights": (lambda: fit(data=frame(w=np.nan), var_weights="w"), V, "var_weights", "every row"),
    "all missing: offset": (lambda: fit(data=frame(w=np.nan), offset="w"), V, "offset", "every row"),
    "all missing: together": (lambda: fit(data=frame(y=HALF, x=HALF[::-1])), V, "No row is complete", "'y'", "x"),
    "all missing: arrays": (lambda: arrays(endog=Y * np.nan, missing="drop"), V, "endog", "every row"),
    "missing='raise': predictor": (
        lambda: fit(data=with_value("x", np.nan), missing="raise"), V, "1 of 60 rows", "x", "missing='drop'"),
    "missing='raise': groups": (
        lambda: fit(data=with_value("g", np.nan), missing="raise"), V, "1 of 60 rows", "group 'g'"),
    "missing='raise': weights": (
        lambda: fit(data=with_value("w", np.nan), var_weights="w", missing="raise"), V, "1 of 60 rows", "var_weights"),
    "missing='none'": (lambda: fit(data=with_value("x", np.nan), missing="none"), V, "1 of 60 rows", "x"),
    "missing in arrays": (
        lambda: arrays(endog=with_value("y", np.nan)["y"]), V, "1 of 60 rows", "endog", "missing='drop'"),
    "missing in array groups": (lambda: arrays(groups=with_value("g", np.nan)["g"]), V, "1 of 60 rows", "groups 'g'"),
    # -- weights -------------------------------------------------------------------------------
    "negative var_weights": (
        lambda: fit(data=with_value("w", -1.0), var_weights="w"), V, "var_weights", "positive", "row 3 has -1"),
    "zero var_weights": (lambda: fit(data=with_value("w", 0.0), var_weights="w"), V, "var_weights", "row 3", "subset="),
    "negative freq_weights": (lambda: fit(freq_weights=-np.ones(N)), V, "freq_weights", "positive", "60 of 60 rows"),
    "zero freq_weights": (lambda: fit(freq_weights=np.r_[0.0, np.ones(N - 1)]), V, "freq_weights", "row 0 has 0"),
    "fractional freq_weights": (lambda: fit(freq_weights="w"), V, "freq_weights", "whole numbers", "var_weights"),
    "zero weights in arrays": (lambda: arrays(var_weights=np.zeros(N)), V, "var_weights", "positive"),
    "NaN weights in arrays": (
        lambda: arrays(var_weights=np.r_[np.nan, np.ones(N - 1)]), V, "1 of 60 rows", "var_weights"),
    # -- lengths and indexes -------------------------------------------------------------------
    **{
        f"length of {name}": (lambda name=name: fit(**{name: np.ones(5)}), V, name, "5 values", "60 rows")
        for name in ("offset", "var_weights", "freq_weights")
    },
    **{
        f"two columns of {name}": (lambda name=name: fit(**{name: np.ones((N, 2))}), V, name, "2 columns")
        for name in ("offset", "var_weights", "freq_weights")
    },
    **{
        f"a number for {name}": (lambda name=name: fit(**{name: 2.0}), V, name, "single value")
        for name in ("offset", "var_weights", "freq_weights")
    },
    "length of groups": (lambda: fit("y ~ x", groups=np.arange(5)), V, "groups", "5 values", "60 rows"),
    "length of a list of groups": (lambda: fit("y ~ x", groups=[G, np.arange(5)]), V, "groups", "5 values"),
    "length of array groups": (lambda: arrays(groups=np.ones(5)), V, "groups", "5 values"),
    "length of exog": (lambda: arrays(exog=np.ones((5, 1))), V, "exog", "(5, 1)", "60 rows"),
    "length of exog_re": (lambda: arrays(exog_re=np.ones((5, 1))), V, "exog_re", "(5, 1)"),
    "length of exog_vc": (lambda: arrays(exog_vc={"a": np.ones((5, 1))}), V, "exog_vc['a']", "(5, 1)"),
    "length of array offset": (lambda: arrays(offset=np.ones(5)), V, "offset", "5 values"),
    "length of array weights": (lambda: arrays(var_weights=np.ones(5)), V, "var_weights", "5 values"),
    "index of groups": (
        lambda: fit("y ~ x", groups=G.set_axis(OTHER_ROWS)), V, "groups", "index does not match", ".to_numpy()"),
    "index of var_weights": (
        lambda: fit(var_weights=D["w"].set_axis(OTHER_ROWS)), V, "var_weights", "index does not match"),
    "index of a short Series": (lambda: fit(var_weights=D["w"][:10]), V, "var_weights", "index does not match"),
    "index of exog": (lambda: arrays(exog=X.set_axis(OTHER_ROWS)), V, "exog 'x'", "index does not match"),
    "three-dimensional exog": (lambda: arrays(exog=np.ones((N, 1, 1))), V, "exog", "(60, 1, 1)"),
    # -- data and subset -----------------------------------------------------------------------
    "no rows": (lambda: fit(data=D[:0]), V, "no rows"),
    "no columns": (lambda: fit(data=pd.DataFrame()), V, "no rows"),
    "one row": (lambda: fit(data=D[:1]), V, "only one row"),
    "two rows": (lambda: fit(data=D.iloc[[0, 7]]), V, "one row"),
    "no data": (lambda: fit(data=None), T, "NoneType", "DataFrame"),
    "a list as data": (lambda: fit(data=[1, 2]), T, "list", "DataFrame"),
    "an array as data": (lambda: fit(data=np.ones((3, 3))), T, "ndarray", "DataFrame"),
    "columns of different length": (
        lambda: fit(data={"y": [1, 2], "x": [1], "g": [1, 2]}), V, "data", "Give columns of one length"),
    "numbers as data": (lambda: fit(data={"y": 1, "x": 1, "g": 1}), V, "data", "columns"),
    "subset leaves nothing": (lambda: fit(subset=D["x"] > 100), V, "subset leaves no rows"),
    "subset as text": (lambda: fit(subset="x > 0"), V, "subset='x > 0'", "boolean mask"),
    "subset with other labels": (lambda: fit(subset=[1000, 1001]), V, "subset", "index"),
    "subset with one other label": (lambda: fit(subset=[1, 2, 1001]), V, "subset", "1001"),
    "subset of another length": (lambda: fit(subset=np.ones(5, bool)), V, "subset", "5 instead of 60"),
    "subset of another frame": (lambda: fit(subset=pd.Series(True, index=OTHER_ROWS)), V, "subset", "index"),
    "subset with two columns": (lambda: fit(subset=X > 0), V, "subset"),
    # -- options -------------------------------------------------------------------------------
    "unknown option of from_formula": (lambda: fit(weights="w"), T, "MixedLM", "'weights'", "'var_weights'"),
    "unknown option of fit": (lambda: fit(fit_options={"remll": True}), T, "fit()", "'remll'", "Did you mean"),
    "unknown option of the class": (lambda: arrays(foo=1), T, "MixedLM", "'foo'"),
    "drop_cols": (lambda: fit(drop_cols=["x"]), V, "drop_cols", "formula"),
    "unknown covariance": (lambda: fit(covariance="diag"), V, "covariance='diag'", "'diagonal'"),
    "covariance of another type": (lambda: fit(covariance=3), V, "covariance=3", "'diagonal'"),
    "covariance None": (lambda: fit(covariance=None), V, "covariance=None", "'unstructured'"),
    "covariance dict": (lambda: fit(covariance={"gg": "diagonal"}), V, "covariance=", "'gg'", "They are 'g'"),
    "covariance dict's value": (lambda: fit(covariance={"g": "diag"}), V, "covariance='diag'"),
    "covariance list": (lambda: fit(covariance=["diagonal"] * 2), V, "covariance=", "2 entries", "1 random terms"),
    "unknown method": (lambda: fit(fit_options={"method": "foo"}), V, "method='foo'", "newton"),
    "unknown method in a list": (lambda: fit(fit_options={"method": ["foo"]}), V, "method='foo'", "newton"),
    "unknown missing": (lambda: fit(missing="omit"), V, "missing='omit'", "'drop'"),
    "unknown missing in arrays": (lambda: arrays(missing="omit"), V, "missing='omit'", "'drop'"),
    "unknown cov_type": (lambda: fit(fit_options={"cov_type": "HC0"}), V, "cov_type='HC0'", "'nonrobust'"),
    "reml as text": (lambda: fit(fit_options={"reml": "ML"}), V, "reml='ML'", "True or False"),
    "use_t as text": (lambda: fit(fit_options={"use_t": "no"}), V, "use_t='no'", "True or False"),
    "negative maxiter": (lambda: fit(fit_options={"maxiter": -1}), V, "maxiter=-1", "whole number"),
    "maxiter as text": (lambda: fit(fit_options={"maxiter": "9"}), V, "maxiter='9'", "whole number"),
    "length of start_params": (
        lambda: fit(fit_options={"start_params": np.ones(7)}), V, "start_params", "7 elements", "theta (1)"),
    "NaN in start_params": (
        lambda: fit(fit_options={"start_params": [np.nan]}), V, "start_params", "not finite", "element 0"),
    "NaN in packed start_params": (
        lambda: fit(fit_options={"start_params": [0, 0, 1, np.nan]}), V, "start_params", "element 3"),
    "inf in start_params": (lambda: fit(fit_options={"start_params": [np.inf]}), V, "start_params", "not finite"),
    "start_params as text": (lambda: fit(fit_options={"start_params": "a"}), V, "start_params='a'", "theta"),
    # -- arrays --------------------------------------------------------------------------------
    "endog a number": (lambda: arrays(endog=3.0), V, "endog", "single value"),
    "endog None": (lambda: arrays(endog=None), V, "endog"),
    "endog a name": (lambda: arrays(endog="y"), V, "endog", "from_formula"),
    "endog with two columns": (lambda: arrays(endog=D[["y", "x"]]), V, "endog", "2 columns"),
    "endog array with two columns": (lambda: arrays(endog=np.ones((N, 2))), V, "endog", "2 columns"),
    "complex endog": (lambda: arrays(endog=Y + 1j), V, "endog", "complex"),
    "exog_vc is no dict": (lambda: arrays(exog_vc=np.ones((N, 1))), V, "exog_vc=", "dict"),
    "exog_re without columns": (lambda: arrays(exog_re=np.empty((N, 0))), V, "exog_re", "no columns", "leave it out"),
    "exog_re dict and groups": (
        lambda: arrays(exog_re={"a": (G, np.ones((N, 1)))}), V, "exog_re=", "leave groups= out"),
    "exog_re dict without pairs": (lambda: arrays(groups=None, exog_re={"a": G}), V, "exog_re['a']", "pair"),
    "exog_re empty dict": (lambda: arrays(groups=None, exog_re={}), V, "no random term", "groups="),
    # -- likelihood ----------------------------------------------------------------------------
    "length of theta": (lambda: result().model.objective()([1, 2]), V, "(2,)", "1 elements"),
    "NaN in theta": (lambda: result().model.objective()([np.nan]), V, "theta", "not finite"),
    "length of params": (lambda: result().model.loglike([1, 2]), V, "(2,)", "4 elements", "params_packed"),
    "NaN in params": (lambda: result().model.score([0, np.nan, 1, 1]), V, "params", "not finite"),
    "negative sigma^2 in loglike": (lambda: result().model.loglike([0, 0, -1, 1]), V, "sigma^2", "positive", "-1"),
    "negative sigma^2 in score": (lambda: result().model.score([0, 0, -1, 1]), V, "sigma^2", "positive"),
    "zero sigma^2 in hessian": (lambda: result().model.hessian([0, 0, 0, 1]), V, "sigma^2", "positive"),
    # -- results -------------------------------------------------------------------------------
    **{
        f"alpha={alpha!r} of {name}": (lambda f=f, alpha=alpha: f(alpha), V, f"alpha={alpha!r}", "between 0 and 1")
        for alpha in (0, 1, -0.1, 95, np.nan, "a")
        for name, f in {
            "conf_int": lambda a: result().conf_int(alpha=a),
            "summary_frame": lambda a: result().get_prediction().summary_frame(alpha=a),
        }.items()
    },
    "alpha of the bootstrap": (
        lambda: result().bootstrap(2, seed=1).conf_int(alpha=3), V, "alpha=3", "between 0 and 1"),
    "t_test: unknown coefficient": (lambda: result().t_test("xx = 0"), V, "'xx = 0'", "'Intercept', 'x'", "'x = 0'"),
    "t_test: too many columns": (lambda: result().t_test(np.ones((1, 5))), V, "(1, 5)", "'Intercept', 'x'"),
    "wald_test: unknown coefficient": (lambda: result().wald_test("xx = 0"), V, "'xx = 0'", "'Intercept', 'x'"),
    "wald_test: too many columns": (lambda: result().wald_test(np.ones(5)), V, "(5,)", "'Intercept', 'x'"),
    "wald_test: unknown term": (lambda: result().wald_test({"xx": 0}), V, "'xx'", "Did you mean 'x'?"),
    "wald_test: empty": (lambda: result().wald_test({}), V, "empty"),
    "wald_test: NaN": (lambda: result().wald_test({"x": np.nan}), V, "'x'", "number"),
    "wald_test: text": (lambda: result().wald_test({"x": "a"}), V, "'x'", "number"),
    "predict: no predictor": (lambda: result().predict(D[["g"]]), F, "'x'", "no column"),
    "predict: no group": (lambda: result().predict(X), F, "'g'", "include_random=False"),
    "predict: no inner group": (
        lambda: result("y ~ x + (1 | g/k)").predict(D[["x", "g"]]), F, "'k'", "include_random=False"),
    "predict: array groups": (
        lambda: result("y ~ x", groups=G.to_numpy()).predict(X), F, "'group'", "include_random=False"),
    "predict: new levels": (
        lambda: result().predict(frame(g="new"), new_levels="raise"), V, "60 rows of 'g'", "new_levels='zero'"),
    "predict: unknown option": (lambda: result().predict(D, new_levels="skip"), V, "new_levels='skip'", "'zero'"),
    "predict: include_random as text": (
        lambda: result().predict(D, include_random="no"), V, "include_random='no'", "True or False"),
    "predict: text for a number": (lambda: result().predict(frame(x="a")), F, "'x'", "numeric"),
    "predict: new level of a predictor": (
        lambda: result("y ~ k + (1 | g)").predict(frame(k="zz")), F, "'zz'", "k", "levels: ['a', 'b', 'c']"),
    "predict: duplicated columns": (
        lambda: result().predict(pd.concat([D, X], axis=1)), V, "more than one column named 'x'"),
    "predict: columns of an array": (lambda: result().predict(np.ones((3, 5))), V, "5 columns", "Intercept, x"),
    "predict: dimensions of an array": (lambda: result().predict(np.ones((3, 2, 2))), V, "3 dimensions"),
    "predict: text in an array": (lambda: result().predict(np.array([["a", "b"]])), V, "not numeric", "frame"),
    "predict: a name": (lambda: result().predict("x"), T, "str", "DataFrame"),
    "predict: a number": (lambda: result().predict(5), T, "int", "DataFrame"),
    "predict: no offset column": (
        lambda: result(offset="w").predict(D[["x", "g"]]), F, "offset", "'w'", "zeros for no offset"),
    "predict: offset was an array": (
        lambda: result(offset=D["w"].to_numpy()).predict(D), F, "offset", "'offset'", "zeros for no offset"),
    "predict: no column of an offset's expression": (
        lambda: result(offset="np.log(w)").predict(D[["x", "g"]]), F, "offset", "'w'"),
    "predict: text offset": (lambda: result(offset="w").predict(frame(w="a")), V, "'w'", "text"),
    "get_prediction: length of weights": (
        lambda: result().get_prediction(D, weights=np.ones(3)), V, "weights=", "(3,)", "60 rows"),
    "get_prediction: negative weights": (
        lambda: result().get_prediction(D, weights=-np.ones(N)), V, "weights=", "positive"),
    "get_prediction: text weights": (lambda: result().get_prediction(D, weights="w"), V, "weights=", "numbers"),
    "refit: length": (lambda: result().refit(np.ones(3)), V, "(3,)", "60 rows"),
    "refit: NaN": (lambda: result().refit(Y * np.nan), V, "response", "not finite"),
    "refit: text": (lambda: result().refit(["a"] * N), V, "response", "text"),
    "refit: constant": (lambda: result().refit(np.ones(N)), V, "'y'", "constant"),
    "bootstrap: none": (lambda: result().bootstrap(0), V, "n=0", "at least one"),
    "bootstrap: a fraction": (lambda: result().bootstrap(1.5), V, "n=1.5", "at least one"),
    "bootstrap: text": (lambda: result().bootstrap("many"), V, "n='many'", "at least one"),
    "bootstrap: freq_weights": (
        lambda: result(freq_weights=np.full(N, 2)).bootstrap(3), V, "freq_weights", "Repeat the rows"),
    "simulate: none": (lambda: result().simulate(0), V, "n=0", "at least one"),
    "simulate: a fraction": (lambda: result().simulate(1.5), V, "n=1.5", "at least one"),
    "update: no tilde": (lambda: result().update("x"), V, "'x'", "'. ~ . + x'"),
    "update: unknown column": (lambda: result().update(". ~ . + xx"), F, "'xx'"),
    "update: unknown option": (lambda: result().update(". ~ . + w", foo=1), T, "update()", "'foo'"),
    "update: arrays": (lambda: smm.MixedLM(Y, X, G).fit().update(". ~ . + w"), V, "formula"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_bad_input(name):
    function, kind, *pieces = TABLE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's words on the logarithm of zero
        with pytest.raises(kind) as info:
            function()
    message = str(info.value)
    for piece in pieces:
        assert piece in message
    # Read aloud: one paragraph of sentences, in our words.
    assert type(info.value) in (ValueError, TypeError, FormulaError, PerfectFitError)
    assert "\n" not in message
    assert 20 < len(message) < 420
    assert message[-1] in ".?)"
    for foreign in (
        "NameError",
        "KeyError",
        "dtype",
        "ufunc",
        "design_info",
        "np.str_",
        "object at 0x",
        "design matrix",
    ):
        assert foreign not in message


def test_a_problem_that_does_not_fit_into_memory(monkeypatch):
    """Refused by name before anything is allocated."""
    monkeypatch.setattr(layout_module, "DENSE_BUDGET", 500)
    with pytest.raises(MemoryBudgetError, match=r"h \(6 levels\).*g \(10 levels\).*budget.*Nothing was allocated"):
        fit("y ~ x + (1 | g) + (1 | h)")
    fit("y ~ x + (1 | g/k)")  # nested factors need no dense block


@pytest.mark.parametrize(
    "options", [{"start_params": [np.nan]}, {"reml": "ML"}, {"method": "foo"}, {"maxiter": -1}, {"gtool": 1}]
)
def test_a_model_is_as_good_as_new_after_a_refused_fit(options):
    model = smf.mixedlm(GOOD, D)
    before = set(vars(model))
    with pytest.raises((ValueError, TypeError)):
        model.fit(**options)
    assert set(vars(model)) == before
    assert model.fit().llf == result().llf


def test_the_user_s_data_are_not_touched():
    data = with_value("x", np.nan)
    copy = data.copy(deep=True)
    weights = np.arange(1.0, N + 1)
    fit(data=data, var_weights=weights, offset="w")
    with pytest.raises(ValueError, match="missing"):
        fit(data=data, missing="raise")
    pd.testing.assert_frame_equal(data, copy)
    np.testing.assert_array_equal(weights, np.arange(1.0, N + 1))
