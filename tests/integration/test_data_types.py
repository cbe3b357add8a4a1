"""The same data in other clothes give the same fit: types of columns, tables, indexes, ways to pass an argument."""

import decimal
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import sleepstudy

try:
    import polars as pl
except ImportError:  # an optional dependency, absent from the oldest set
    pl = None
needs_polars = pytest.mark.skipif(pl is None, reason="polars is not installed")

N = 120
RNG = np.random.default_rng(0)
CODE = np.repeat(np.arange(12), 10)
LABEL = np.array([f"s{i:02d}" for i in range(12)])
FULL = "y ~ x + k + b + (x | g) + (1 | h)"
PERM = RNG.permutation(N)


def make():
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {
            "x": rng.normal(size=N),
            "g": CODE,
            "h": rng.integers(0, 6, N),
            "k": rng.choice(list("abc"), N),
            "b": rng.random(N) < 0.5,
            "w": rng.uniform(0.5, 2, N),
            "f": rng.integers(1, 4, N),
            "o": rng.normal(size=N),
        }
    )
    effects = rng.normal(size=(12, 2)), rng.normal(size=6)
    data["y"] = (
        1 + 0.5 * data["x"] + effects[0][CODE, 0] + 0.6 * effects[0][CODE, 1] * data["x"]
        + effects[1][data["h"]] + rng.normal(size=N)
    )  # fmt: skip
    return data


D = make()
BAD_ROWS = [3, 13, 23, 33, 43]
_FITS = {}


def fit(formula=FULL, data=D, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return smf.mixedlm(formula, data, **options).fit()


def reference(name):
    if name not in _FITS:
        _FITS[name] = {
            "full": lambda: fit(),
            "dropped": lambda: fit(data=D.drop(index=BAD_ROWS)),
            "weights": lambda: fit("y ~ x", groups="g", re_formula="~x", var_weights="w", offset="o"),
            "subset": lambda: fit("y ~ x", D[D["x"] > -1], groups="g", re_formula="~x", var_weights="w"),
            "nested": lambda: fit("y ~ x + (1 | g/h)"),
        }[name]()
    return _FITS[name]


def same(result, name, effects=True):
    """Log-likelihood, coefficients, their errors, predictions; and random effects, level by level."""
    want = reference(name)
    assert_allclose(result.llf, want.llf, rtol=1e-10)
    assert_allclose(result.params.to_numpy(), want.params.to_numpy(), atol=1e-6)
    assert_allclose(result.bse.to_numpy(), want.bse.to_numpy(), rtol=1e-5)
    assert result.nobs == want.nobs
    assert_allclose(np.asarray(result.fittedvalues), want.fittedvalues, atol=1e-5)
    if effects:
        got, expected = result.ranef(), want.ranef()
        for frame, other in zip(*[v.values() if isinstance(v, dict) else [v] for v in (got, expected)], strict=True):
            assert frame.shape == other.shape
            assert_allclose(frame.to_numpy(), other.to_numpy(), atol=1e-5)


# -- types of columns ----------------------------------------------------------------------------------------

COLUMNS = {
    "labels as str": {"g": pd.Series(LABEL[CODE])},
    "labels as objects": {"g": LABEL[CODE].astype(object), "k": D["k"].astype(object)},
    "labels as string": {"g": pd.array(LABEL[CODE], dtype="string"), "k": D["k"].astype("string")},
    "labels as Categorical": {"g": pd.Categorical(LABEL[CODE]), "k": pd.Categorical(D["k"])},
    "ordered, levels unused": {
        "g": pd.Categorical(LABEL[CODE], categories=["zz", *LABEL], ordered=True),
        "k": pd.Categorical(D["k"], categories=["a", "b", "bb", "c", "z"], ordered=True),
    },
    "Categorical of integers": {"g": pd.Categorical(CODE), "h": pd.Categorical(D["h"])},
    "Categorical of string": {"k": pd.Categorical(D["k"].astype("string"))},
    "bool as objects": {"b": D["b"].astype(object)},
    "boolean": {"b": D["b"].astype("boolean")},
    "Int64 and Float64": {"g": D["g"].astype("Int64"), "x": D["x"].astype("Float64"), "y": D["y"].astype("Float64")},
    "numbers as objects": {"y": D["y"].astype(object), "g": D["g"].astype(object)},
    "small integers": {"g": D["g"].astype("uint8"), "h": D["h"].astype("int8")},
    "float codes": {"g": D["g"].astype(float), "h": D["h"].astype("float32")},
    "fractional codes": {"g": CODE / 7},
    "negative codes": {"g": CODE - 5, "h": D["h"] * -(10**12) + 10**13},
    "dates as groups": {"g": pd.Timestamp("2020-01-01") + pd.to_timedelta(CODE, "D")},
    "mixed labels": {"g": np.array([0, 1, "a", "b", 2.5, *range(10, 17)], dtype=object)[CODE]},
}


@pytest.mark.parametrize("name", COLUMNS)
def test_types_of_columns(name):
    result = fit(data=D.assign(**COLUMNS[name]))
    ordered = name not in ("negative codes", "mixed labels")  # those sort their levels in another order
    same(result, "full", effects=ordered)
    new = D.assign(**COLUMNS[name])[:7]
    assert_allclose(result.predict(new), reference("full").fittedvalues[:7], atol=1e-6)


def test_integer_codes_are_levels_and_never_numbers():
    shuffled = np.random.default_rng(3).permutation(12) * 100 + 7
    result = fit(data=D.assign(g=shuffled[CODE]))
    assert_allclose(result.llf, reference("full").llf, rtol=1e-10)
    assert sorted(result.ranef()["g"].index) == sorted(shuffled)
    assert result.ngroups == {"g": 12, "h": 6}


def test_the_order_of_categories_decides_on_the_reference():
    result = fit(data=D.assign(k=pd.Categorical(D["k"], categories=list("cba"))))
    assert [p for p in result.params.index if p.startswith("k")] == ["k[T.b]", "k[T.a]"]
    assert_allclose(result.llf, reference("full").llf, rtol=1e-10)
    assert_allclose(result.params["k[T.a]"], -reference("full").params["k[T.c]"], atol=1e-6)


def test_bool_as_a_group_and_as_a_response():
    text = fit("y ~ x + (1 | b)", D.assign(b=D["b"].map({True: "yes", False: "no"})))
    result = fit("y ~ x + (1 | b)")
    assert_allclose(result.llf, text.llf, rtol=1e-10)
    assert result.ranef().index.tolist() == [False, True]
    zero_one = fit("b ~ x + (1 | g)", D.assign(b=D["b"].astype(float)))
    assert_allclose(fit("b ~ x + (1 | g)").llf, zero_one.llf, rtol=1e-12)


def nullable():
    data = D.assign(
        x=D["x"].astype("Float64"), g=D["g"].astype("Int64"), k=D["k"].astype("string"),
        b=D["b"].astype("boolean"), y=D["y"].astype("Float64"),
    )  # fmt: skip
    for row, column in zip(BAD_ROWS, "xgkby", strict=True):
        data.loc[row, column] = pd.NA
    return data


def classic():
    data = D.astype({"g": float, "k": object, "b": object})
    for row, column in zip(BAD_ROWS, "xgkby", strict=True):
        data.loc[row, column] = np.nan if column in "xgy" else None
    return data


def categorical():
    data = D.assign(g=pd.Categorical(LABEL[CODE]), k=pd.Categorical(D["k"]), b=D["b"].astype(object))
    for row, column in zip(BAD_ROWS, "xgkby", strict=True):
        data.loc[row, column] = np.nan
    return data


@pytest.mark.parametrize("make_data", [nullable, classic, categorical])
def test_missing_values(make_data):
    data = make_data()
    result = fit(data=data)
    same(result, "dropped")
    assert result.model.design.n_dropped == 5
    assert result.fittedvalues.index.tolist() == [i for i in range(N) if i not in BAD_ROWS]
    if make_data is not categorical:
        assert result.ranef()["g"].index.tolist() == list(range(12))  # 0, not 0.0
    with pytest.raises(ValueError, match="5 of 120 rows have missing values") as info:
        fit(data=data, missing="raise")
    for culprit in ("the response 'y'", "group 'g'", "x", "k", "b"):
        assert culprit in str(info.value)


def test_levels_that_only_incomplete_rows_have_do_not_exist():
    """Not as a column of zeros, and not as the reference; R drops them too."""
    first = D.index < 3
    for level in ("A", "zz"):
        data = D.assign(k=np.where(first, level, D["k"]), y=np.where(first, np.nan, D["y"]))
        for formula in ("y ~ k + (1 | g)", "y ~ x + (k | g)"):
            result, want = fit(formula, data), fit(formula, D[3:])
            assert_allclose(result.llf, want.llf, rtol=1e-10)
            assert result.params.index.tolist() == want.params.index.tolist()


def test_codes_that_a_missing_value_made_floats_still_match():
    data = D.assign(g=D["g"].astype(float), h=D["h"].astype(float))
    data.loc[0, "g"] = np.nan
    result = fit("y ~ x + (1 | g/h)", data)
    assert set(result.ranef()["h:g"].index) <= {f"{h}:{g}" for g in range(12) for h in range(6)}
    assert_allclose(fit("y ~ x + (1 | g/h)", data).predict(D[1:9]), result.fittedvalues[:8], atol=1e-6)


# -- types of new data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "Int64", float, object, "category"])
def test_integer_groups_of_new_data(dtype):
    result = reference("nested")
    new = D[20:30].astype({"g": dtype, "h": dtype})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_allclose(result.predict(new), result.fittedvalues[20:30], atol=1e-8)


@pytest.mark.parametrize("dtype", ["string", object, "category"])
def test_text_groups_of_new_data(dtype):
    data = D.assign(g=LABEL[CODE])
    result = fit("y ~ k + (1 | g) + (1 | k:h)", data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = data[20:30].astype({"g": dtype, "k": dtype})
        assert_allclose(result.predict(new), result.fittedvalues[20:30], atol=1e-8)


# -- tables ------------------------------------------------------------------------------------------------------

TABLES = {
    "polars": lambda d: pl.DataFrame({c: d[c].to_list() for c in d}),
    "polars Categorical": lambda d: TABLES["polars"](d).with_columns(pl.col("k").cast(pl.Categorical)),
    "polars Enum": lambda d: TABLES["polars"](d).with_columns(pl.col("k").cast(pl.Enum(["a", "b", "c", "unused"]))),
    "polars small types": lambda d: TABLES["polars"](d).with_columns(
        pl.col("g").cast(pl.UInt8), pl.col("h").cast(pl.Int16), pl.col("o").cast(pl.Float64)),
    "dict of arrays": lambda d: {c: d[c].to_numpy() for c in d},
    "dict of lists": lambda d: {c: d[c].tolist() for c in d},
    "dict of Series": lambda d: {c: d[c] for c in d},
    "record array": lambda d: d.astype({"k": object}).to_records(index=False),
    "other columns": lambda d: d.assign(junk=[object()] * len(d), gap=np.nan, when=pd.Timestamp("2020")),
    "columns in another order": lambda d: d[sorted(d.columns, reverse=True)],
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(t, marks=needs_polars) if "polars" in t else t for t in TABLES])
def test_tables(name):
    table = TABLES[name](D)
    result = fit(data=table)
    same(result, "full")
    assert_allclose(
        reference("full").predict(pd.DataFrame(TABLES["dict of arrays"](D))), result.fittedvalues, atol=1e-5
    )
    if not name.startswith("dict"):
        predicted = reference("full").predict(TABLES[name](D))
        assert_allclose(predicted, reference("full").fittedvalues, atol=1e-8)


@needs_polars
def test_polars_with_nulls_weights_and_subset():
    table = TABLES["polars"](D)
    row = pl.int_range(pl.len())
    holes = table.with_columns(
        pl.when(row == r).then(None).otherwise(pl.col(c)).alias(c) for r, c in zip(BAD_ROWS, "xgkby", strict=True)
    )
    same(fit(data=holes), "dropped")
    options = {"groups": table["g"], "re_formula": "~x", "var_weights": table["w"]}
    same(fit("y ~ x", table, offset=table["o"], **options), "weights")
    same(fit("y ~ x", table, subset=table["x"] > -1, **options), "subset")


# -- indexes -------------------------------------------------------------------------------------------------------

INDEXES = {
    "shifted": pd.RangeIndex(1000, 1000 + N),
    "reversed": pd.Index(range(N, 0, -1)),
    "text": pd.Index([f"row{i}" for i in range(N)]),
    "mixed": pd.Index([*range(60), *[f"a{i}" for i in range(60)]], dtype=object),
    "dates": pd.date_range("2020-01-01", periods=N),
    "two levels": pd.MultiIndex.from_arrays([CODE, np.tile(range(10), 12)], names=["a", "b"]),
    "not unique": pd.Index(np.repeat(np.arange(60), 2)),
    "all the same": pd.Index([7] * N),
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes(name):
    data = D.set_index(INDEXES[name])
    options = {"groups": data["g"], "re_formula": "~x", "var_weights": data["w"]}
    result = fit("y ~ x", data, offset=data["o"].to_numpy(), **options)
    same(result, "weights")
    assert result.fittedvalues.index.equals(data.index)
    assert result.resid.index.equals(data.index)
    assert result.predict(data.drop(columns="y")[:5].assign(offset=data["o"][:5])).index.equals(data.index[:5])
    masked = fit("y ~ x", data, subset=data["x"] > -1, **options)
    same(masked, "subset")
    assert masked.fittedvalues.index.equals(data.index[data["x"] > -1])
    if data.index.is_unique:
        shuffled = {k: v.iloc[PERM] if isinstance(v, pd.Series) else v for k, v in options.items()}
        same(fit("y ~ x", data, offset=data["o"].iloc[PERM], **shuffled), "weights")


# -- ways to pass an argument --------------------------------------------------------------------------------------

WAYS = {
    "shuffled Series": lambda c: D[c].iloc[PERM],
    "arrays": lambda c: D[c].to_numpy(),
    "lists": lambda c: D[c].tolist(),
    "tuples": lambda c: tuple(D[c]),
    "nullable arrays": lambda c: pd.array(D[c].to_numpy()),
    "Series of more rows": lambda c: pd.concat([D[c], D[c].set_axis(range(1000, 1000 + N))]),
    "expressions": lambda c: {"g": "g + 0", "w": "np.exp(np.log(w))", "o": "2 * o - o"}[c],
}


@pytest.mark.parametrize("way", WAYS)
def test_groups_weights_and_offset(way):
    groups, weights, offset = (WAYS[way](c) for c in "gwo")
    result = fit("y ~ x", groups=groups, re_formula="~x", var_weights=weights, offset=offset)
    same(result, "weights")


def test_labels_in_a_list_are_one_grouping_factor():
    result = fit("y ~ x", groups=LABEL[CODE].tolist(), re_formula="~x", var_weights="w", offset="o")
    same(result, "weights")
    same(fit("y ~ x", groups=pd.Categorical(LABEL[CODE]), re_formula="~x", var_weights="w", offset="o"), "weights")


def test_nested_levels_by_name_by_bars_and_by_arrays():
    same(fit("y ~ x", groups=["g", "h"]), "nested")
    same(fit("y ~ x + (1 | h:g) + (1 | g)"), "nested")
    same(fit("y ~ x", groups=[D["g"], D["h"]]), "nested")
    same(fit("y ~ x", groups=["g", D["h"].to_numpy()]), "nested")
    same(smm.MixedLM(D["y"], np.column_stack([np.ones(N), D["x"]]), [D["g"], D["h"]]).fit(), "nested")


def test_an_offset_in_the_formula_and_as_a_keyword():
    options = {"var_weights": "w"}
    same(fit("y ~ x + offset(o) + (x | g)", **options), "weights")
    result = fit("y ~ x + offset(o / 2) + (x | g)", offset=D["o"] / 2, **options)
    same(result, "weights")
    both = fit("y ~ x + offset(o / 2) + offset(0.25 * o) + (x | g)", offset="0.25 * o", **options)
    same(both, "weights")
    assert_allclose(both.predict(D[:5]), reference("weights").fittedvalues[:5], atol=1e-5)
    less = both.predict(D[:5].assign(o=0.0))
    assert_allclose(less, reference("weights").fittedvalues[:5] - D["o"][:5], atol=1e-5)


SUBSETS = {
    "mask": lambda: D["x"] > -1,
    "array mask": lambda: (D["x"] > -1).to_numpy(),
    "list mask": lambda: (D["x"] > -1).tolist(),
    "shuffled mask": lambda: (D["x"] > -1).iloc[PERM],
    "nullable mask": lambda: (D["x"] > -1).astype("boolean"),
    "mask with NA": lambda: (D["x"] > -1).astype("boolean").where(D["x"] > -1),
    "labels": lambda: D.index[D["x"] > -1],
    "list of labels": lambda: D.index[D["x"] > -1].tolist(),
    "function": lambda: lambda rows: D["x"] > -1,
}


@pytest.mark.parametrize("name", SUBSETS)
def test_subset(name):
    """Of arrays the same rows are taken, and Series are aligned."""
    result = fit(
        "y ~ x", groups=D["g"].to_numpy(), re_formula="~x", var_weights=D["w"].iloc[PERM], subset=SUBSETS[name]()
    )
    same(result, "subset")
    assert result.fittedvalues.index.tolist() == D.index[D["x"] > -1].tolist()


def test_subset_by_labels_keeps_their_order():
    result = fit("y ~ x + (1 | g)", subset=D.index[PERM])
    assert result.fittedvalues.index.tolist() == PERM.tolist()
    assert_allclose(result.llf, fit("y ~ x + (1 | g)").llf, rtol=1e-12)


def test_array_interface_aligns_by_index():
    x = pd.DataFrame({"const": 1.0, "x": D["x"]})
    result = smm.MixedLM(
        D["y"], x.iloc[PERM], D["g"].iloc[PERM], exog_re=x.iloc[PERM], var_weights=D["w"].iloc[PERM], offset=D["o"]
    ).fit()
    same(result, "weights")
    assert result.params.index.tolist() == ["const", "x"]
    arrays = [D[c].to_numpy() for c in "ygwo"]
    values = x.to_numpy()
    plain = smm.MixedLM(arrays[0], values, arrays[1], exog_re=values, var_weights=arrays[2], offset=arrays[3]).fit()
    assert_allclose(plain.llf, result.llf, rtol=1e-12)
    objects = smm.MixedLM(arrays[0].astype(object), values.astype(object), arrays[1], values, offset=D["o"]).fit()
    assert_allclose(objects.llf, smm.MixedLM(D["y"], x, D["g"], x, offset=D["o"]).fit().llf, rtol=1e-10)
    # Missing values in any of them.
    holes = {c: D[c].astype(float).copy() for c in "yxgwo"}
    for row, column in zip(BAD_ROWS, "yxgwo", strict=True):
        holes[column][row] = np.nan
    x = pd.DataFrame({"const": 1.0, "x": holes["x"]})
    dropped = smm.MixedLM(
        holes["y"], x, holes["g"], exog_re=x, var_weights=holes["w"], offset=holes["o"], missing="drop"
    ).fit()
    kept = D.drop(index=BAD_ROWS)
    want = fit("y ~ x", kept, groups="g", re_formula="~x", var_weights="w", offset="o")
    assert_allclose(dropped.llf, want.llf, rtol=1e-10)
    assert dropped.fittedvalues.index.tolist() == kept.index.tolist()


# -- names in formulas -----------------------------------------------------------------------------------------------


def test_local_variables_and_functions():
    centre, scale, trend = 0.3, 2.0, np.arange(N) / 10  # noqa: F841  formulas read them

    def squared(v):
        return v**2

    result = smf.mixedlm("y ~ I((x - centre) / scale) + squared(x) + trend + (I(x - centre) | g)", D).fit()
    by_hand = D.assign(c=(D["x"] - 0.3) / 2, s=D["x"] ** 2, t=np.arange(N) / 10, d=D["x"] - 0.3)
    want = fit("y ~ c + s + t + (d | g)", by_hand)
    assert_allclose(result.llf, want.llf, rtol=1e-10)
    same_names = smm.MixedLM.from_formula("y ~ I((x - centre) / scale) + squared(x) + trend + (I(x - centre) | g)", D)
    assert_allclose(same_names.fit().llf, want.llf, rtol=1e-10)
    changed = fit("y ~ x + (1 | g)").update(". ~ . + squared(x)")
    assert "squared(x)" in changed.params.index


def test_eval_env_counts_frames_above_the_caller():
    shift = 0.5

    def build(**kwargs):
        return smf.mixedlm("y ~ I(x - shift) + (1 | g)", D, **kwargs).fit()

    assert_allclose(build(eval_env=1).llf, fit("y ~ x + (1 | g)").llf, rtol=1e-10)
    with pytest.raises(ValueError, match="'shift'"):
        smf.mixedlm("y ~ I(x - shift) + (1 | g)", D, eval_env=-1)
    assert shift == 0.5


def test_a_column_hides_a_variable_and_a_function():
    x = np.full(N, np.nan)
    assert_allclose(fit("y ~ x + (1 | g)").llf, fit("y ~ z + (1 | g)", D.assign(z=D["x"])).llf, rtol=1e-12)
    for name in ("log", "C", "Q", "bs", "center", "np"):
        result = fit(f"y ~ {name} + (1 | g)", D.assign(**{name: D["x"]}))
        assert result.params.index.tolist() == ["Intercept", name]
    assert np.isnan(x).all()


SPELLINGS = {
    "np.log(w)": "l", "log(w)": "l", "factor(h)": "C(h)", "as.factor(h)": "C(h)", "sqrt(w)": "r", "exp(x)": "e",
    "scale(x)": "standardize(x)", "abs(x)": "a", "log(w):k": "l:k", "I(x**2)": "s",
}  # fmt: skip


@pytest.mark.parametrize("theirs", SPELLINGS)
def test_spellings(theirs):
    data = D.assign(l=np.log(D["w"]), r=np.sqrt(D["w"]), e=np.exp(D["x"]), a=D["x"].abs(), s=D["x"] ** 2)
    result, want = fit(f"y ~ {theirs} + (1 | g)"), fit(f"y ~ {SPELLINGS[theirs]} + (1 | g)", data)
    assert_allclose(result.llf, want.llf, rtol=1e-10)
    assert_allclose(result.predict(D[5:9]), want.predict(data[5:9]), atol=1e-6)


def test_factor_as_a_group():
    result = fit("y ~ x + (1 | factor(g)) + (1 | C(h))")
    assert result.ngroups == {"g": 12, "h": 6}
    assert_allclose(result.llf, fit("y ~ x + (1 | g) + (1 | h)").llf, rtol=1e-10)
    assert_allclose(result.predict(D[5:9]), result.fittedvalues[5:9], atol=1e-8)


def test_computed_groups():
    result = fit("y ~ x + (1 | g) + (1 | np.where(h > 2, 'high', 'low'))")
    assert list(result.ngroups.values()) == [12, 2]
    assert_allclose(result.predict(D[5:9]), result.fittedvalues[5:9], atol=1e-8)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ bs(x, df=4) + (1 | g)",
        "y ~ bs(x, df=4) + (bs(x, df=3) | g)",
        "y ~ cr(x, df=4) - 1 + (1 | g)",
        "y ~ center(x) + (center(x) | g)",
        "y ~ standardize(x) * k + (1 | g)",
        "y ~ k * C(h) + (1 | g)",
        "y ~ k:b + (k | g)",
        "y ~ 0 + k + (0 + k | g)",
        "y ~ C(k, Treatment('c')) + C(k, Sum):x + (1 | g)",
        "y ~ 0 + (1 | g)",
        "y ~ 1 + (1 | g)",
        "np.log(y + 20) ~ x + (1 | g)",
        "y ~ b + (0 + b | g)",
    ],
)
def test_new_rows_are_coded_as_the_data_were(formula):
    """Knots, means and levels are the fit's: any part of the data gives its part of the fitted values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some of the columns are not independent, and are dropped
        result = smf.mixedlm(formula, D).fit()
    assert_allclose(result.predict(D), result.fittedvalues, atol=1e-8)
    for rows in ([4], [7, 8, 9], [119, 0]):
        assert_allclose(result.predict(D.iloc[rows]), result.fittedvalues.iloc[rows], atol=1e-8)
    again = pickle.loads(pickle.dumps(result))
    assert_allclose(again.predict(D.iloc[[3, 60]]), result.fittedvalues.iloc[[3, 60]], atol=1e-8)


@pytest.mark.parametrize("name", ["my column", "class", "é", "x.y", "1st", "a-b", "x:y", "TRUE", "Intercept2"])
def test_unusual_names_of_columns(name):
    data = D.rename(columns={"x": name})
    for quoted in (f"Q({name!r})", f"`{name}`"):
        result = fit(f"y ~ {quoted} + ({quoted} | g)", data)
        assert_allclose(result.llf, fit("y ~ x + (x | g)").llf, rtol=1e-10)
        assert_allclose(result.predict(data[:4]), result.fittedvalues[:4], atol=1e-8)
    grouped = fit(f"y ~ x + (1 | `{name}`)", D.rename(columns={"g": name}))
    assert_allclose(grouped.llf, fit("y ~ x + (1 | g)").llf, rtol=1e-10)
    assert list(grouped.ngroups) == [name]


def test_the_data_are_not_changed():
    data = D.assign(g=pd.Categorical(LABEL[CODE]), x=D["x"].astype("Float64"))
    copy = data.copy(deep=True)
    result = fit(data=data)
    result.predict(data)
    result.get_prediction(data).summary_frame()
    pd.testing.assert_frame_equal(data, copy)
    arrays = [D["y"].to_numpy().copy(), np.column_stack([np.ones(N), D["x"]]), CODE.copy()]
    before = [a.copy() for a in arrays]
    smm.MixedLM(*arrays, var_weights=D["w"].to_numpy(), freq_weights=D["f"]).fit()
    for array, old in zip(arrays, before, strict=True):
        assert_array_equal(array, old)


def test_decimal_objects_are_not_levels():
    data = sleepstudy.load_pandas().data
    data["Days"] = [decimal.Decimal(int(day)) for day in data["Days"]]
    with pytest.raises(ValueError, match=r"'Days' holds decimal.Decimal objects.*astype\(float\)"):
        smf.mixedlm("Reaction ~ Days + (1 | Subject)", data)


@needs_polars
def test_polars_without_rows_and_decimals():
    data = sleepstudy.load_pandas().data
    frame = pl.DataFrame({name: data[name].to_numpy() for name in data})
    with pytest.raises(TypeError, match=r"polars LazyFrame, which has no rows yet. Give data.collect\(\)"):
        smf.mixedlm("Reaction ~ Days + (1 | Subject)", frame.lazy())
    exact = frame.with_columns(pl.col("Days").cast(pl.Decimal(9, 2)))
    want = smf.mixedlm("Reaction ~ Days + (1 | Subject)", data).fit()
    assert smf.mixedlm("Reaction ~ Days + (1 | Subject)", exact).fit().llf == pytest.approx(want.llf, abs=1e-9)
