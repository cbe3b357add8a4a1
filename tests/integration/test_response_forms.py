"""The forms a response can have: every form of the same data reads the same, every other is refused by name."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from patsy.eval import EvalEnvironment
from statsmodels.tools.sm_exceptions import ValueWarning

import sm_multilevel.api as smm
from sm_multilevel.design.from_formula import design_from_formula
from sm_multilevel.design.response import ResponseReader
from sm_multilevel.design.terms import FormulaError
from sm_multilevel.models.base import MultilevelModel

try:
    import polars as pl
except ImportError:  # an optional dependency, absent from the oldest set
    pl = None
needs_polars = pytest.mark.skipif(pl is None, reason="polars is not installed")

N = 60
READERS = {
    "gaussian": lambda order: ResponseReader(),
    "poisson": lambda order: ResponseReader(),
    "binomial": lambda order: ResponseReader("proportion", 2),
    "ordinal": lambda order: ResponseReader("ordered", order=order),
}


class Toy(MultilevelModel):
    """A model that only reads."""

    _options = ("exposure", "n_trials")

    @classmethod
    def _read_options(cls, kwargs):
        own = {"family": kwargs.pop("family", "binomial"), "order": kwargs.pop("order", None)}
        return own, READERS[own["family"]](own["order"])

    @property
    def _residual(self):
        return "residual variance" if self.family == "gaussian" else ""


def make(n=N):
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "k": np.tile(list("abc"), n // 3),
            "g": np.repeat([f"g{i}" for i in range(n // 6)], 6),
            "t": rng.integers(2, 9, n),
            "e": rng.uniform(0.5, 2.0, n),
            "row": np.arange(n),
        }
    )
    data["s"] = rng.binomial(data["t"], 0.4)
    data["f"] = data["t"] - data["s"]
    data["p"] = data["s"] / data["t"]
    data["b"] = (rng.random(n) < 0.5).astype(int)
    data["c"] = rng.poisson(1.0, n)
    data["o"] = rng.integers(0, 3, n)
    return data


D = make()
X, G = D[["x"]], D["g"]
LEVELS = np.array(["low", "mid", "high"])


def frame(**columns):
    return D.assign(**columns)


def with_value(column, value, row=3):
    data = D.copy()
    data[column] = data[column].astype(object if isinstance(value, (str, type(None))) else float)
    data.loc[row, column] = value
    return data


def model(formula, data=D, family="binomial", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Toy.from_formula(f"{formula} ~ x + (1 | g)" if "~" not in formula else formula, data, family=family,
                                **options)  # fmt: skip


def arrays(endog, exog=X, groups=G, family="binomial", **options):
    return Toy(endog, exog, groups, family=family, **options)


def same(got, endog, n_trials=None, categories=None):
    assert got.endog.dtype == float
    assert_array_equal(got.design.endog, endog)
    assert_array_equal(got.endog, endog)
    if n_trials is None:
        assert got.design.n_trials is None
    else:
        assert_array_equal(got.design.n_trials, n_trials)
    assert got.design.categories == categories
    data = got.design.response_data()
    assert data.endog is got.design.endog
    assert data.trials is got.design.n_trials
    assert data.categories == categories


def text(codes, labels=("no", "yes")):
    return np.asarray(labels, dtype=object)[np.asarray(codes)]


TRIALS = {
    "successes": lambda d, **o: model("s", d, n_trials="t", **o),
    "proportions": lambda d, **o: model("p", d, n_trials="t", **o),
    "two columns": lambda d, **o: model("s + f", d, **o),
    "two columns, an expression": lambda d, **o: model("s + I(t - s)", d, **o),
    "cbind": lambda d, **o: model("cbind(s, t - s)", d, **o),
    "a matrix": lambda d, **o: model("np.column_stack([s, f])", d, **o),
    "trials by an expression": lambda d, **o: model("s", d, n_trials="s + f", **o),
    "trials as an array": lambda d, **o: model("s", d, n_trials=np.asarray(d["t"]), **o),
    "trials as a Series": lambda d, **o: model("s", d, n_trials=d["t"], **o),
    "trials as a list": lambda d, **o: model("s", d, n_trials=d["t"].tolist(), **o),
    "nullable integers": lambda d, **o: model("s", d.astype({"s": "Int64", "t": "Int64"}), n_trials="t", **o),
    "arrays: a frame": lambda d, **o: arrays(d[["s", "f"]], d[["x"]], d["g"], **o),
    "arrays: a matrix": lambda d, **o: arrays(d[["s", "f"]].to_numpy(), d[["x"]], d["g"], **o),
    "arrays: successes": lambda d, **o: arrays(d["s"], d[["x"]], d["g"], n_trials=d["t"], **o),
    "arrays: proportions": lambda d, **o: arrays(
        d["p"].to_numpy(), d[["x"]].to_numpy(), d["g"].to_numpy(), n_trials=d["t"].to_numpy(), **o),
}  # fmt: skip


@pytest.mark.parametrize("form", TRIALS)
def test_trials(form):
    same(TRIALS[form](D), D["s"] / D["t"], D["t"])


@pytest.mark.parametrize("form", TRIALS)
def test_missing_values_drop_the_same_rows(form):
    gone = [3, 17, 18, 40]
    data = D.astype({"s": float, "f": float, "t": float})
    data.loc[gone[0], ["s", "p", "f"]] = np.nan
    data.loc[gone[1], ["t", "f", "p"]] = np.nan
    data.loc[gone[2:], "x"] = np.nan
    kept = D.drop(index=gone)
    got = TRIALS[form](data, missing="drop")
    same(got, kept["s"] / kept["t"], kept["t"])
    assert got.design.n_dropped == 4
    if got.design.index is not None:
        assert_array_equal(got.design.index, kept.index)
    with pytest.raises(ValueError, match="4 of 60 rows have missing values"):
        TRIALS[form](data, missing="raise")


SINGLE = {
    "0/1": lambda b: model("b", frame(b=b)),
    "floats": lambda b: model("b", frame(b=b.astype(float))),
    "bool": lambda b: model("b", frame(b=b == 1)),
    "bool with dtype": lambda b: model("b", frame(b=(b == 1).astype("boolean"))),
    "objects": lambda b: model("b", frame(b=(b == 1).astype(object))),
    "a comparison": lambda b: model("b > 0", frame(b=b)),
    "I()": lambda b: model("I(k == 'yes')", frame(k=text(b))),
    "one trial each": lambda b: model("b", frame(b=b), n_trials=np.ones(N)),
    "two columns": lambda b: model("b + I(1 - b)", frame(b=b)),
    "arrays": lambda b: arrays(b.to_numpy()),
    "arrays: one column": lambda b: arrays(b.to_numpy()[:, None]),
    "arrays: bool": lambda b: arrays(b == 1),
    "arrays: list": lambda b: arrays(b.tolist(), groups=G.tolist()),
}


@pytest.mark.parametrize("form", SINGLE)
def test_single_trials(form):
    same(SINGLE[form](D["b"]), D["b"])


LABELS = {
    "text": lambda t: model("y", frame(y=t)),
    "string dtype": lambda t: model("y", frame(y=pd.array(t, dtype="string"))),
    "an array": lambda t: model("y", frame(y=0), groups=None) if t is None else arrays(np.asarray(t, dtype=str)),
    "a list": lambda t: arrays(list(t)),
    "a Series": lambda t: arrays(pd.Series(t)),
    "Categorical": lambda t: model("y", frame(y=pd.Categorical(t))),
    "unused category": lambda t: model("y", frame(y=pd.Categorical(t, ["maybe", "no", "yes"]))),
    "C()": lambda t: model("C(y)", frame(y=t)),
    "ordered": lambda t: arrays(pd.Categorical(t, ["no", "yes"], ordered=True)),
    "trials of one": lambda t: model("y", frame(y=t), n_trials=np.ones(N)),
}


@pytest.mark.parametrize("form", LABELS)
def test_two_labels(form):
    same(LABELS[form](text(D["b"])), D["b"], categories=("no", "yes"))


def test_the_second_category_is_success():
    values = pd.Categorical(text(D["b"]), ["yes", "no"])
    same(model("y", frame(y=values)), 1 - D["b"], categories=("yes", "no"))
    same(arrays(values), 1 - D["b"], categories=("yes", "no"))
    same(model("y", frame(y=pd.Categorical(D["b"] + 1))), D["b"], categories=(1, 2))


def test_a_category_left_only_in_incomplete_rows_is_unused():
    values = pd.Series(text(D["b"]))
    values[7] = "refused"
    data = frame(y=values)
    data.loc[7, "x"] = np.nan
    same(model("y", data), D["b"].drop(index=7), categories=("no", "yes"))
    same(model("y", data.assign(y=pd.Categorical(values))), D["b"].drop(index=7), categories=("no", "yes"))


def test_missing_labels():
    values = pd.Series(text(D["b"]))
    values[5] = None
    want = D["b"].drop(index=5)
    for data in (values, values.astype("string"), values.astype("category")):
        same(model("y", frame(y=data)), want, categories=("no", "yes"))
        same(arrays(data, missing="drop"), want, categories=("no", "yes"))
    same(arrays([np.nan if v is None else v for v in values], missing="drop"), want, categories=("no", "yes"))
    values = D["b"].astype("boolean")
    values[5] = pd.NA
    same(model("y", frame(y=values)), want)


def test_zeros_and_ones_are_successes_where_there_are_several_trials():
    same(model("b", n_trials="t"), D["b"] / D["t"], D["t"])
    # One that is between them shows that the column holds proportions.
    p = D["b"].where(D.index != 2, 0.5).astype(float)
    same(model("p", frame(p=p, t=4), n_trials="t"), p, np.full(N, 4.0))


def test_proportions_that_division_has_rounded():
    t = D["t"] * 1000 + 7
    s = np.minimum(D["s"] * 991, t)
    same(model("p", frame(p=s / t, t=t), n_trials="t"), s / t, t)


ORDERED = {
    "ordered": lambda o: model("y", frame(y=pd.Categorical(text(o, LEVELS), LEVELS, ordered=True)), "ordinal"),
    "unused category": lambda o: model(
        "y", frame(y=pd.Categorical(text(o, LEVELS), ["none", *LEVELS], ordered=True)), "ordinal"),
    "text with order": lambda o: model("y", frame(y=text(o, LEVELS)), "ordinal", order=LEVELS.tolist()),
    "order as an array": lambda o: model("y", frame(y=text(o, LEVELS)), "ordinal", order=LEVELS),
    "order with a label too many": lambda o: model(
        "y", frame(y=text(o, LEVELS)), "ordinal", order=["low", "middling", "mid", "high"]),
    "unordered with order": lambda o: model("y", frame(y=pd.Categorical(text(o, LEVELS))), "ordinal", order=LEVELS),
    "order over an order": lambda o: model(
        "y", frame(y=pd.Categorical(text(o, LEVELS), LEVELS[::-1], ordered=True)), "ordinal", order=LEVELS),
    "C()": lambda o: model("C(y)", frame(y=text(o, LEVELS)), "ordinal", order=LEVELS),
    "arrays": lambda o: arrays(pd.Categorical(text(o, LEVELS), LEVELS, ordered=True), family="ordinal"),
    "arrays: a Series": lambda o: arrays(
        pd.Series(pd.Categorical(text(o, LEVELS), LEVELS, ordered=True)), family="ordinal"),
    "arrays: list": lambda o: arrays(text(o, LEVELS).tolist(), family="ordinal", order=LEVELS),
}  # fmt: skip


@pytest.mark.parametrize("form", ORDERED)
def test_ordered(form):
    same(ORDERED[form](D["o"]), D["o"], categories=("low", "mid", "high"))


@pytest.mark.parametrize("kind", [int, float, "Int64", "category", object])
def test_ordered_numbers(kind):
    values = (2 * D["o"] + 1).astype(kind)
    if kind == "category":
        values = values.cat.as_ordered()
    for got in (model("y", frame(y=values), "ordinal"), arrays(values, family="ordinal")):
        same(got, D["o"], categories=(1, 3, 5))
    same(model("y", frame(y=values), "ordinal", order=[5, 3, 1]), 2 - D["o"], categories=(5, 3, 1))


def test_ordered_bool():
    same(model("b > 0", family="ordinal"), D["b"], categories=(False, True))
    same(arrays(D["b"] == 1, family="ordinal"), D["b"], categories=(False, True))


def test_ordered_numbers_with_missing_ones():
    values = D["o"].astype(float)
    values[[4, 9]] = np.nan
    same(model("y", frame(y=values), "ordinal"), D["o"].drop(index=[4, 9]), categories=(0, 1, 2))
    same(arrays(values, family="ordinal", missing="drop"), D["o"].drop(index=[4, 9]), categories=(0, 1, 2))


@needs_polars
def test_polars():
    data = pl.DataFrame({name: D[name].to_numpy() for name in ("x", "g", "s", "t", "f", "b")})
    same(model("s", data, n_trials="t"), D["p"], D["t"])
    same(model("s", data, n_trials=data["t"]), D["p"], D["t"])
    same(model("s + f", data), D["p"], D["t"])
    same(arrays(data[["s", "f"]], data["x"].to_numpy(), data["g"].to_numpy()), D["p"], D["t"])
    values = text(D["o"], LEVELS).tolist()
    data = data.with_columns(pl.Series("y", values, dtype=pl.Enum(LEVELS.tolist())))
    same(model("y", data, "ordinal"), D["o"], categories=("low", "mid", "high"))
    data = data.with_columns(pl.Series("y", text(D["b"]).tolist()))
    same(model("y", data), D["b"], categories=("no", "yes"))


def test_subset_takes_the_same_rows_of_everything():
    keep = D["x"] > 0
    want = D[keep]
    for got in (
        model("s", n_trials="t", exposure="e", subset=keep),
        model("s", n_trials=D["t"].to_numpy(), exposure=D["e"].to_numpy(), subset=keep),
    ):
        same(got, want["p"], want["t"])
        assert_allclose(got.offset, np.log(want["e"]))


# -- exposure ------------------------------------------------------------------------------------

EXPOSURE = {
    "a name": lambda **o: model("c", family="poisson", exposure="e", **o),
    "an expression": lambda **o: model("c", frame(e=D["e"] * 2), "poisson", exposure="e / 2", **o),
    "an array": lambda **o: model("c", family="poisson", exposure=D["e"].to_numpy(), **o),
    "a Series": lambda **o: model("c", family="poisson", exposure=D["e"], **o),
    "arrays": lambda offset=None, **o: arrays(
        D["c"], family="poisson", exposure=D["e"], offset=None if offset is None else D[offset], **o),
    "an offset": lambda **o: model("c ~ x + offset(np.log(e)) + (1 | g)", family="poisson", **o),
}  # fmt: skip


@pytest.mark.parametrize("form", EXPOSURE)
def test_exposure(form):
    got = EXPOSURE[form]()
    assert_allclose(got.offset, np.log(D["e"]), rtol=1e-14)
    if form != "an offset":
        assert_allclose(got.design.exposure, D["e"])
    assert_allclose(EXPOSURE[form](offset="x").offset, np.log(D["e"]) + D["x"], rtol=1e-12)


def test_exposure_of_new_data():
    new = D.iloc[:5][["x", "g", "e"]].assign(e=[1.0, 2.0, np.nan, 0.5, 4.0])
    for exposure in ("e", D["e"]):
        got = model("c", family="poisson", exposure=exposure, offset="x")
        assert_allclose(got.recipe.apply(new, got.levels, True).offset, new["x"] + np.log(new["e"]))
        again = pickle.loads(pickle.dumps(got.recipe))
        assert_allclose(again.apply(new, got.levels, False).offset, new["x"] + np.log(new["e"]))
        with pytest.raises(FormulaError, match=r"exposure 'e'.*ones for no exposure"):
            got.recipe.apply(new[["x", "g"]], got.levels, False)
        with pytest.raises(ValueError, match=r"exposure must be positive.*row 3 has 0"):
            got.recipe.apply(new.assign(e=[1, 1, 1, 0, 1]), got.levels, False)
    got = model("c", family="poisson", exposure="2 * e")
    assert_allclose(got.recipe.apply(new, got.levels, True).offset, np.log(2 * new["e"]))
    got = model("c", family="poisson", exposure=D["e"].to_numpy())
    assert_allclose(got.recipe.apply(new.assign(exposure=3.0), got.levels, True).offset, np.log(3.0))


def test_trials_of_new_data_are_optional():
    new = D.iloc[:5]
    by_name = model("s", n_trials="t")
    assert_array_equal(by_name.recipe.apply(new[["x", "g", "t"]], by_name.levels, True).n_trials, new["t"])
    assert by_name.recipe.apply(new[["x", "g"]], by_name.levels, True).n_trials is None
    with pytest.raises(ValueError, match=r"n_trials must be whole.*row 0 has 0\.5"):
        by_name.recipe.apply(new.assign(t=0.5), by_name.levels, True)
    for got in (model("s", n_trials=D["t"]), model("s + f"), model("b")):
        assert got.recipe.apply(new[["x", "g"]], got.levels, True).n_trials is None


# -- thresholds instead of an intercept -------------------------------------------------------------


@pytest.mark.parametrize("fixed", ["k + x", "0 + k + x", "k + x - 1", "-1 + k + x", "1 + k + x"])
def test_factors_are_coded_as_with_an_intercept(fixed):
    data = frame(o=pd.Categorical(D["o"], ordered=True))
    got = model(f"o ~ {fixed} + (1 | g)", data, "ordinal")
    want = design_from_formula("x ~ 1 + k + x + (1 | g)", data, EvalEnvironment([{}]))[0]
    assert got.exog_names == list(want.exog_names[1:]) == ["k[T.b]", "k[T.c]", "x"]
    assert_array_equal(got.design.exog, want.exog[:, 1:])
    assert got.k_constant == 0
    assert got.dropped_exog == []
    new = got.recipe.apply(data.drop(columns="o").iloc[4:20], got.levels, True)
    assert_array_equal(new.exog, want.exog[4:20, 1:])


@pytest.mark.parametrize("fixed", ["1", "0", "-1"])
def test_thresholds_alone(fixed):
    got = model(f"o ~ {fixed} + (1 | g)", family="ordinal")
    assert got.exog_names == []
    assert got.design.exog.shape == (N, 0)
    assert got.recipe.apply(D[["g"]], got.levels, True).exog.shape == (N, 0)


def test_a_constant_among_arrays_is_dropped():
    matrix = np.column_stack([np.ones(N), D["x"]])
    with pytest.warns(ValueWarning, match=r"dropped const.*thresholds.*place of the constant"):
        got = arrays(D["o"].to_numpy(), matrix, family="ordinal")
    assert got.exog_names == ["x1"]
    assert got.kept_columns.tolist() == [1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(arrays(D["o"], X, family="ordinal").design.exog, got.design.exog)


def test_columns_that_thresholds_contain_are_dropped():
    dummies = np.eye(3)[D["o"]]
    with pytest.warns(ValueWarning, match="dropped x3.*thresholds"):
        got = arrays(D["b"].to_numpy(), dummies, family="ordinal")
    assert got.exog_names == ["x1", "x2"]
    assert_array_equal(arrays(D["b"], dummies[:, :2], family="ordinal").design.exog, got.design.exog)


# -- copies of a model -----------------------------------------------------------------------------


def remade(got):
    """As statsmodels makes a model again, from `endog`, `exog` and `_init_keys`."""
    return type(got)(got.endog, got.exog, **got._get_init_kwds())


@pytest.mark.parametrize(
    "got",
    [
        model("s", n_trials="t", offset="x"),
        # Proportions of 0 and 1 only would be read as successes.
        model("s + f", frame(s=D["b"] * D["t"], f=(1 - D["b"]) * D["t"])),
        model("y", frame(y=text(D["b"], ["yes", "no"]))),
        model("y", frame(y=text(D["o"], LEVELS)), "ordinal", order=LEVELS),
        model("o", family="ordinal"),
        model("c", family="poisson", exposure="e", offset="x"),
    ],
    ids=["trials", "all or nothing", "labels", "ordered", "numbers", "counts"],
)
def test_copies_are_the_same_model(got):
    for other in (remade(got), pickle.loads(pickle.dumps(got)), got.with_response(got.endog)):
        same(other, got.endog, got.design.n_trials, got.design.categories)
        assert_array_equal(other.design.exog, got.design.exog)
        assert (other.offset is None) == (got.offset is None)
        if got.offset is not None:
            assert_array_equal(other.offset, got.offset)
        assert other.family == got.family
    other = got.updated(f"{got.endog_names} ~ x + k + (1 | g)", None, {}, EvalEnvironment([{}]))
    same(other, got.endog, got.design.n_trials, got.design.categories)
    assert other.family == got.family
    if got.offset is not None:
        assert_array_equal(other.offset, got.offset)


def test_own_options_can_be_updated():
    env = EvalEnvironment([{}])
    got = model("y", frame(y=text(D["o"], LEVELS)), "ordinal", order=LEVELS)
    other = got.updated(got.full_formula, None, {"order": LEVELS[::-1]}, env)
    same(other, 2 - D["o"], categories=("high", "mid", "low"))
    got = model("s", n_trials="t").updated("s ~ x + (1 | g)", None, {"family": "poisson", "n_trials": None}, env)
    same(got, D["s"])
    assert got.family == "poisson"
    with pytest.raises(TypeError, match=r"update\(\) has no option 'n_trial'. Did you mean 'n_trials'"):
        got.updated(got.full_formula, None, {"n_trial": "t"}, env)


def test_another_response():
    got = model("s", n_trials="t")
    same(got.with_response(1 - D["p"]), D["f"] / D["t"], D["t"])
    same(got.with_response(D["f"]), D["f"] / D["t"], D["t"])  # successes
    same(got.with_response(D["b"]), D["b"], D["t"])  # proportions, as those of endog are
    same(got.with_response(D[["f", "s"]]), D["f"] / D["t"], D["t"])
    got = model("y", frame(y=text(D["b"])))
    same(got.with_response(text(1 - D["b"])), 1 - D["b"], categories=("no", "yes"))
    same(got.with_response(1 - D["b"]), 1 - D["b"], categories=("no", "yes"))
    got = model("y", frame(y=text(D["o"], LEVELS)), "ordinal", order=LEVELS)
    for new in (2 - D["o"], text(2 - D["o"], LEVELS), pd.Series(text(2 - D["o"], LEVELS)).astype("category")):
        same(got.with_response(new), 2 - D["o"], categories=("low", "mid", "high"))


def test_remove_data_forgets_what_has_one_entry_a_row():
    got = model("s", n_trials=D["t"].to_numpy(), exposure="e")
    got.forget_arrays()
    assert got._settings["n_trials"] is None
    assert got._settings["exposure"] == "e"
    for name in ("reading", "n_trials", "exposure"):
        assert name in got._data_attr


# -- random effects for every row -------------------------------------------------------------------

PAIRS = np.repeat(np.arange(N // 2), 2)


def test_a_random_effect_for_every_row_is_overdispersion():
    model("c ~ x + (1 | g) + (1 | row)", family="poisson")
    model("s ~ x + (1 | row)", n_trials="t")
    model("s + f ~ x + (1 | g) + (1 | row)")
    arrays(D["c"], groups=D["row"], family="poisson")
    model("b ~ x + (x | h)", frame(h=PAIRS))
    model("o ~ x + (x | h)", frame(h=PAIRS), "ordinal")
    model("b ~ x + (1 | row)", freq_weights=np.full(N, 2))


# -- refusals ---------------------------------------------------------------------------------------

V, F, T = ValueError, FormulaError, TypeError
DATES = pd.date_range("2020-01-01", periods=N)


def column(values, family="binomial", **options):
    return lambda: model("y", frame(y=values), family, **options)


def put(values, value, row=3):
    out = np.array(values, dtype=object if isinstance(value, (str, complex)) else float)
    out[row] = value
    return out


TABLE = {
    # -- trials --------------------------------------------------------------------------------
    "trials: zero": (lambda: model("s", with_value("t", 0), n_trials="t"), V, "n_trials", "row 3 has 0", "1 or more"),
    "trials: negative": (lambda: model("s", with_value("t", -2), n_trials="t"), V, "n_trials", "row 3 has -2"),
    "trials: a fraction": (
        lambda: model("s", with_value("t", 4.5), n_trials="t"), V, "n_trials", "whole", "row 3 has 4.5", "1 of 60"),
    "trials: fewer than successes": (
        lambda: model("s", with_value("s", 99), n_trials="t"), V, "'s'", "99 successes", "row 3", "n_trials"),
    "trials: text": (lambda: model("s", n_trials="k"), V, "n_trials", "text ('a')"),
    "trials: unknown column": (lambda: model("s", n_trials="tt"), F, "n_trials", "'tt'", "Did you mean 't'?"),
    "trials: length": (lambda: model("s", n_trials=np.ones(5)), V, "n_trials", "5 values", "60 rows"),
    "trials: a number": (lambda: model("s", n_trials=8), V, "n_trials", "single value"),
    "trials: two columns": (lambda: model("s", n_trials=np.ones((N, 2))), V, "n_trials", "2 columns"),
    "trials: infinite": (lambda: model("s", n_trials=put(D["t"], np.inf)), V, "n_trials", "infinite"),
    "trials: all missing": (lambda: model("s", n_trials=D["t"] * np.nan), V, "n_trials", "missing (NaN) in every row"),
    "trials: missing in arrays": (
        lambda: arrays(D["s"], n_trials=put(D["t"], np.nan)), V, "1 of 60 rows", "n_trials"),
    "trials: dates": (lambda: model("s", n_trials=DATES), V, "n_trials", "dates"),
    "trials: negative in arrays": (lambda: arrays(D["s"], n_trials=-D["t"]), V, "n_trials", "row 0 has", "60 of 60"),
    "trials of counts": (lambda: model("c", family="poisson", n_trials="t"), V, "n_trials=", "binomial", "'c'"),
    "trials of categories": (lambda: model("o", family="ordinal", n_trials="t"), V, "n_trials=", "binomial"),
    "trials of two columns": (lambda: model("s + f", n_trials="t"), V, "'s + f'", "two columns", "n_trials=", "one of"),
    "trials of two columns in arrays": (
        lambda: arrays(D[["s", "f"]], n_trials=D["t"]), V, "endog", "two columns", "n_trials="),
    "trials of labels": (
        lambda: model("y", frame(y=text(D["b"])), n_trials="t"), V, "'y'", "labels", "n_trials", "row 0"),
    # -- successes, failures and proportions ------------------------------------------------------
    "negative successes": (column(put(D["s"], -1), n_trials="t"), V, "'y'", "-1", "row 3", "negative"),
    "fractional successes": (
        column(put(D["s"], 1.5), n_trials="t"), V, "'y'", "successes", "whole", "row 3 has 1.5"),
    "a rounded proportion": (
        column(np.round(D["p"], 2), n_trials="t"), V, "'y'", "proportion", "trials in row", "not a whole number"),
    "a proportion without trials": (
        column(put(D["b"], 0.25)), V, "'y'", "proportion 0.25", "row 3", "n_trials="),
    "a proportion of one trial": (
        column(put(D["b"], 0.25), n_trials=np.ones(N)), V, "'y'", "proportion 0.25", "row 3", "is 1 there"),
    "a count without trials": (column(put(D["b"], 3)), V, "'y'", "has 3 in row 3", "n_trials=", "successes + failures"),
    "a count of one trial": (column(put(D["b"], 3), n_trials=np.ones(N)), V, "has 3 in row 3", "one trial a row"),
    "1 and 2": (column(D["b"] + 1), V, "'y'", "has 2", "(y == 2)"),
    "-1 and 1": (column(2 * D["b"] - 1), V, "'y'", "has -1", "negative"),
    "constant zeros": (column(0), V, "'y'", "constant (0 in all 60 rows)"),
    "constant ones": (column(1), V, "'y'", "constant (1 in all 60 rows)"),
    "constant zeros of trials": (column(0, n_trials="t"), V, "'y'", "constant (0"),
    "constant trials": (lambda: model("t", n_trials="t"), V, "'t'", "constant (1"),
    "no failures": (lambda: model("s + f", frame(f=0, s=D["t"])), V, "'s + f'", "constant (1"),
    "negative failures": (
        lambda: model("s + f", with_value("f", -1)), V, "'s + f'", "failures are counts", "row 3 has -1"),
    "fractional counts": (
        lambda: model("s + f", with_value("s", 1.5)), V, "'s + f'", "successes are counts", "row 3 has 1.5"),
    "neither successes nor failures": (
        lambda: model("s + f", frame(s=put(D["s"], 0), f=put(D["f"], 0))), V, "'s + f'", "row 3", "neither"),
    "neither in arrays": (
        lambda: arrays(np.column_stack([put(D["s"], 0), put(D["f"], 0)])), V, "endog", "row 3", "neither"),
    "negative in arrays": (
        lambda: arrays(np.column_stack([put(D["s"], -1), D["f"]])), V, "endog", "successes are counts", "row 3 has -1"),
    "text among counts": (lambda: model("s + k"), V, "'s + k'", "failures", "text ('a')"),
    "three columns": (lambda: model("s + f + t"), F, "'s + f + t'", "more than one", "successes + failures"),
    "three columns of a matrix": (
        lambda: model("np.column_stack([s, f, t])"), V, "3 columns", "two, successes and failures"),
    "three columns in arrays": (
        lambda: arrays(D[["s", "f", "t"]]), V, "endog", "3 columns", "two, successes and failures"),
    "a product": (lambda: model("s*f"), F, "'s*f'", "more than one column", "successes + failures"),
    "cbind of three": (lambda: model("cbind(s, f, t)"), V, "3 columns"),
    "cbind on the right": (lambda: model("b ~ cbind(s, f) + (1 | g)"), F, "'cbind(s, f)'"),
    "two columns of counts": (
        lambda: model("s + f", family="poisson"), F, "'s + f'", "more than one column", "for a binomial response only"),
    "cbind of counts": (
        lambda: model("cbind(s, f)", family="poisson"), V, "'cbind(s, f)'", "2 columns", "binomial response only"),
    "two columns of counts in arrays": (
        lambda: arrays(D[["s", "f"]], family="poisson"), V, "endog", "2 columns", "binomial response only"),
    "two columns of the linear model": (
        lambda: smm.MixedLM.from_formula("s + f ~ x + (1 | g)", D), F, "more than one column", "binomial"),
    "two columns of categories": (
        lambda: model("s + f", family="ordinal"), F, "'s + f'", "more than one column"),
    "two columns of categories in arrays": (
        lambda: arrays(D[["s", "f"]], family="ordinal"), V, "endog", "2 columns"),
    # -- labels --------------------------------------------------------------------------------
    "three labels": (lambda: model("k ~ x + (1 | g)"), V, "'k'", "3 labels", "['a', 'b', 'c']", "MEOLogit", "== 'a'"),
    "three categories in arrays": (lambda: arrays(pd.Categorical(D["k"])), V, "endog", "3 labels", "MEOLogit"),
    "one label": (column("yes"), V, "'y'", "constant ('yes' in all 60 rows)"),
    "labels and numbers": (column(put(D["b"], "yes")), V, "'y'", "mixes", "'yes'", "1"),
    "levels of C()": (lambda: model("C(k, levels=['b', 'a', 'c'])"), F, "levels of C()", "Categorical"),
    "labels of counts": (lambda: model("k ~ x + (1 | g)", family="poisson"), V, "'k'", "text ('a')"),
    "categories of counts": (
        column(pd.Categorical(D["c"]), "poisson"), V, "'y'", "categorical", "astype(float)"),
    # -- numbers -------------------------------------------------------------------------------
    "no counts": (column(0, "poisson"), V, "'y'", "constant (0"),
    "constant with a residual": (column(2.5, "gaussian"), V, "'y'", "constant (2.5"),
    **{
        f"{kind} in {family}": (column(values, family), V, "'y'", said)
        for family in ("binomial", "poisson", "ordinal")
        for kind, values, said in (
            ("dates", DATES, "dates"),
            ("a zone", DATES.tz_localize("UTC"), "Timestamp"),
            ("time differences", np.arange(N) * np.timedelta64(1, "D"), "time differences"),
            ("complex numbers", D["x"] + 1j, "complex"),
            ("lists", [[1]] * N, "list"),
            ("infinity", put(D["b"], np.inf), "row 3"),
        )
    },
    **{
        f"{kind} in arrays, {family}": (lambda values=values, family=family: arrays(values, family=family), V, *said)
        for family in ("binomial", "poisson", "ordinal")
        for kind, values, said in (
            ("dates", DATES, ("endog", "dates")),
            ("complex numbers", D["x"] + 1j, ("endog", "complex")),
            ("infinity", put(D["b"], np.inf), ("endog", "infinite")),
            ("missing", put(D["b"], np.nan), ("1 of 60 rows", "endog")),
            ("nothing", put(D["b"], np.nan)[3:4].repeat(N), ("endog", "every row")),
            ("a name", "b", ("endog", "from_formula")),
            ("a number", 3, ("endog", "single value")),
        )
    },
    # -- ordered categories ------------------------------------------------------------------------
    "unordered categories": (
        column(pd.Categorical(text(D["o"], LEVELS)), "ordinal"), V, "'y'", "['high', 'low', 'mid']", "order="),
    "unordered categories in arrays": (
        lambda: arrays(pd.Categorical(text(D["o"], LEVELS)), family="ordinal"), V, "endog", "no order", "order="),
    "text": (column(text(D["o"], LEVELS), "ordinal"), V, "'y'", "text", "order=", "['high', 'low', 'mid']"),
    "text in arrays": (lambda: arrays(text(D["o"], LEVELS), family="ordinal"), V, "endog", "text", "order="),
    "a label missing from order": (
        column(text(D["o"], LEVELS), "ordinal", order=["low", "high"]), V, "'y'", "'mid'", "order=['low', 'high']"),
    "a number missing from order": (column(D["o"], "ordinal", order=[0, 1]), V, "'y'", "the label 2", "row"),
    "numbers in order": (column(text(D["o"], LEVELS), "ordinal", order=[1, 2, 3]), V, "'y'", "order=[1, 2, 3]"),
    "order as text": (column(D["o"], "ordinal", order="low, high"), V, "order='low, high'", "list of the labels"),
    "order as a set": (column(D["o"], "ordinal", order={1, 2}), V, "order=", "list of the labels"),
    "order as a number": (column(D["o"], "ordinal", order=3), V, "order=3", "list of the labels"),
    "order twice": (column(D["o"], "ordinal", order=[0, 1, 0]), V, "order=", "0 twice"),
    "order of lists": (column(D["o"], "ordinal", order=[[0], [1]]), V, "order=", "no label"),
    "order with NaN": (column(D["o"], "ordinal", order=[0, 1, 2, np.nan]), V, "order=", "no label"),
    "fractions": (column(put(D["o"], 1.5), "ordinal"), V, "'y'", "row 3 has 1.5", "whole numbers", "cut"),
    "fractions in arrays": (lambda: arrays(put(D["o"], 1.5), family="ordinal"), V, "endog", "row 3 has 1.5"),
    "one category": (column(2, "ordinal"), V, "'y'", "constant", "category 2"),
    "one ordered category": (
        column(pd.Categorical(["low"] * N, LEVELS, ordered=True), "ordinal"), V, "'y'", "category 'low'"),
    "one category in order": (column("low", "ordinal", order=LEVELS), V, "'y'", "category 'low'"),
    "mixed": (column(put(D["o"], "low"), "ordinal"), V, "'y'", "mixes", "'low'"),
    # -- exposure ------------------------------------------------------------------------------
    "exposure: zero": (
        lambda: model("c", with_value("e", 0), "poisson", exposure="e"), V, "exposure", "positive", "row 3 has 0"),
    "exposure: negative": (
        lambda: model("c", with_value("e", -2), "poisson", exposure="e"), V, "exposure", "row 3 has -2", "subset="),
    "exposure: zero in arrays": (
        lambda: arrays(D["c"], family="poisson", exposure=put(D["e"], 0)), V, "exposure", "row 3 has 0"),
    "exposure: missing": (
        lambda: model("c", with_value("e", np.nan), "poisson", exposure="e", missing="raise"), V, "1 of 60"),
    "exposure: missing in arrays": (
        lambda: arrays(D["c"], family="poisson", exposure=put(D["e"], np.nan)), V, "1 of 60 rows", "exposure"),
    "exposure: all missing": (
        lambda: model("c", family="poisson", exposure=D["e"] * np.nan), V, "exposure", "every row"),
    "exposure: text": (lambda: model("c", family="poisson", exposure="k"), V, "exposure", "text ('a')"),
    "exposure: infinite": (
        lambda: model("c", family="poisson", exposure=put(D["e"], np.inf)), V, "exposure", "infinite"),
    "exposure: unknown column": (lambda: model("c", family="poisson", exposure="ee"), F, "exposure", "'ee'"),
    "exposure: length": (lambda: model("c", family="poisson", exposure=np.ones(3)), V, "exposure", "3 values"),
    "exposure: a number": (lambda: model("c", family="poisson", exposure=2.0), V, "exposure", "single value"),
    "exposure: another index": (
        lambda: model("c", family="poisson", exposure=D["e"].set_axis(range(5, 5 + N))), V, "exposure", "index"),
    "offset: missing in arrays": (
        lambda: arrays(D["c"], family="poisson", offset=put(D["e"], np.nan)), V, "1 of 60 rows", "offset"),
    # -- options -------------------------------------------------------------------------------
    "no option of the linear model: trials": (
        lambda: smm.MixedLM.from_formula("c ~ x + (1 | g)", D, n_trials="t"), T, "MixedLM has no option 'n_trials'"),
    "no option of the linear model: exposure": (
        lambda: smm.MixedLM.from_formula("c ~ x + (1 | g)", D, exposure="e"), T, "MixedLM has no option 'exposure'"),
    "no option of the linear model: arrays": (
        lambda: smm.MixedLM(D["c"], X, G, n_trials=D["t"]), T, "MixedLM has no option 'n_trials'"),
    "no option of the linear model: reading": (
        lambda: smm.MixedLM(D["c"], X, G, reading=None), T, "MixedLM has no option 'reading'"),
    "unknown option": (lambda: model("s", trials="t"), T, "Toy", "'trials'", "'n_trials'"),
    "unknown option in arrays": (lambda: arrays(D["c"], family="poisson", famly=1), T, "'famly'", "'family'"),
    # -- random effects for every row --------------------------------------------------------------
    "a random effect a binary row": (
        lambda: model("b ~ x + (1 | row)"), V, "'row'", "one row (60 levels", "single outcome"),
    "a random effect a labelled row": (
        lambda: model("y ~ x + (1 | row)", frame(y=text(D["b"]))), V, "'row'", "one row", "single outcome"),
    "a random effect an ordinal row": (
        lambda: model("o ~ x + (1 | row)", family="ordinal"), V, "'row'", "one row", "single outcome"),
    "a random effect a row with a residual": (
        lambda: model("x ~ k + (1 | row)", family="gaussian"), V, "'row'", "one row", "residual variance"),
    "more effects than rows with a residual": (
        lambda: model("x ~ 1 + (c | h)", frame(h=PAIRS), "gaussian"), V, "60 random effects", "residual variance"),
    # -- another response -----------------------------------------------------------------------
    "refit: length": (lambda: model("s", n_trials="t").with_response(D["p"][:9]), V, "(9,)", "60 rows"),
    "refit: missing": (lambda: model("b").with_response(put(D["b"], np.nan)), V, "not finite"),
    "refit: more successes than trials": (
        lambda: model("s", n_trials="t").with_response(put(D["s"], 99)), V, "99 successes", "row 3"),
    "refit: a rounded proportion": (
        lambda: model("s", n_trials="t").with_response(D["p"] * 0.9), V, "proportion", "not a whole number"),
    "refit: constant": (lambda: model("b").with_response(np.ones(N)), V, "'b'", "constant"),
    "refit: unknown label": (
        lambda: model("y", frame(y=text(D["b"]))).with_response(["maybe"] * N), V, "'maybe'", "['no', 'yes']"),
    "refit: labels for numbers": (lambda: model("b").with_response(text(D["b"])), V, "row 0", "had numbers"),
    "refit: a category too high": (
        lambda: model("o", family="ordinal").with_response(D["o"] + 1), V, "has 3", "0 to 2", "model.endog"),
    "refit: two columns for counts": (
        lambda: model("c", family="poisson").with_response(D[["s", "f"]]), V, "2 columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_refused(name):
    function, kind, *pieces = TABLE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(kind) as info:
            function()
    message = str(info.value)
    for piece in pieces:
        assert piece in message
    assert type(info.value) in (ValueError, TypeError, FormulaError)
    assert "\n" not in message
    assert 20 < len(message) < 420
    assert message[-1] in ".?)"
    for foreign in ("np.", "dtype", "object at 0x", "Error"):
        assert foreign not in message.replace("np.column_stack", "")


def test_rows_are_named_by_their_labels():
    data = with_value("t", 0).set_axis([f"case {i}" for i in range(N)])
    with pytest.raises(ValueError, match="row 'case 3' has 0"):
        model("s", data, n_trials="t")
    data.loc["case 1", "x"] = np.nan  # the labels do not move
    with pytest.raises(ValueError, match="row 'case 3' has 0"):
        model("s", data, n_trials="t")
    data = data.reset_index(drop=True)
    with pytest.raises(ValueError, match="row 3 has 0"):
        arrays(data["s"].to_numpy(), data[["x"]].to_numpy(), data["g"].to_numpy(), n_trials=data["t"].to_numpy(),
               missing="drop")  # fmt: skip


def test_a_reader_is_checked():
    with pytest.raises(ValueError, match="kind='counts' is not known"):
        ResponseReader("counts")
    assert ResponseReader("ordered", order=np.array([3, 1])).order == (3, 1)
    assert hash(ResponseReader("ordered", order=[3, 1])) == hash(ResponseReader("ordered", order=(3, 1)))


def test_the_user_s_data_are_not_touched():
    data = D.copy(deep=True)
    t, e = D["t"].to_numpy().copy(), D["e"].to_numpy().copy()
    model("s", data, n_trials=t, exposure=e)
    model("s + f", data)
    pd.testing.assert_frame_equal(data, D)
    assert_array_equal(t, D["t"])
    assert_array_equal(e, D["e"])
