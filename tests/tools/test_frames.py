"""polars frames and pandas frames backed by pyarrow: the same fit, predictions and errors as of pandas' own."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import contraception, sleepstudy

SLEEP = sleepstudy.load_pandas().data
POLARS = pl.from_pandas(SLEEP)
WOMEN = contraception.load_pandas().data
TEXT = WOMEN.assign(**{name: WOMEN[name].astype(str) for name in ("use", "urban", "livch")})
LINEAR, LOGISTIC = "Reaction ~ Days + (Days | Subject)", "use ~ urban + livch + age + (1 | district)"
HOST = smf.melogit(LOGISTIC, WOMEN).fit()


def _polars(**columns):
    return pl.from_pandas(TEXT).with_columns(**columns)


FRAMES = {
    "text": lambda: _polars(),
    "categorical": lambda: _polars(livch=pl.col("livch").cast(pl.Categorical)),
    "enum": lambda: _polars(livch=pl.col("livch").cast(pl.Enum(["0", "1", "2", "3+"]))),
    "boolean": lambda: _polars(urban=pl.col("urban") == "Y"),
    "decimal": lambda: _polars(age=pl.col("age").round(4).cast(pl.Decimal(12, 4))),
    "small numbers": lambda: _polars(district=pl.col("district").cast(pl.String).cast(pl.Int8)),
    "pyarrow": lambda: TEXT.convert_dtypes(dtype_backend="pyarrow"),
    "pyarrow table": lambda: pa.Table.from_pandas(WOMEN).to_pandas(types_mapper=pd.ArrowDtype),
    "pyarrow decimal": lambda: TEXT.assign(
        age=pd.Series(TEXT["age"].round(4).to_numpy()).astype(pd.ArrowDtype(pa.decimal128(12, 4)))
    ),
    "pyarrow dictionary": lambda: TEXT.assign(
        livch=TEXT["livch"].astype(pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())))
    ),
    "pyarrow boolean": lambda: TEXT.assign(urban=pd.array(TEXT["urban"] == "Y", dtype=pd.ArrowDtype(pa.bool_()))),
}


@pytest.mark.parametrize("name", FRAMES)
def test_same_fit_and_predictions(name):
    data = FRAMES[name]()
    fit = smf.melogit(LOGISTIC, data).fit()
    assert fit.llf == pytest.approx(HOST.llf, abs=1e-3 if "decimal" in name else 1e-9)
    np.testing.assert_allclose(fit.params, HOST.params, atol=1e-4 if "decimal" in name else 1e-8)
    for random in (True, False):
        got = fit.predict(data.head(7), include_random=random)
        assert isinstance(got, pd.Series)
        np.testing.assert_allclose(got, HOST.predict(WOMEN.head(7), include_random=random), atol=1e-4)
    assert len(smm.augment(fit)) == len(WOMEN)


def test_polars_options():
    fit = smf.mixedlm(LINEAR, POLARS, var_weights=POLARS["Days"] + 1, subset=POLARS["Days"] > 1).fit()
    want = smf.mixedlm(LINEAR, SLEEP, var_weights=SLEEP["Days"] + 1, subset=SLEEP["Days"] > 1).fit()
    assert fit.llf == pytest.approx(want.llf, abs=1e-9)
    grouped = smf.mixedlm("Reaction ~ Days", POLARS, groups=POLARS["Subject"]).fit()
    assert grouped.llf == pytest.approx(smf.mixedlm("Reaction ~ Days", SLEEP, groups="Subject").fit().llf)
    arrays = smm.MixedLM(POLARS["Reaction"], POLARS.select("Days"), groups=POLARS["Subject"]).fit()
    assert arrays.nobs == 180


def test_predictions_are_labelled_by_position():
    fit = smf.mixedlm(LINEAR, POLARS).fit()
    assert fit.predict(POLARS.tail(3)).index.tolist() == [0, 1, 2]
    assert len(POLARS.with_columns(fitted=pl.Series(fit.fittedvalues.to_numpy()))) == 180


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_values(missing):
    data = POLARS.with_columns(Days=pl.when(pl.col("Days") == 3).then(missing).otherwise(pl.col("Days")))
    assert smf.mixedlm(LINEAR, data).fit().nobs == 162
    women = _polars(livch=pl.when(pl.col("livch") == "2").then(None).otherwise(pl.col("livch")))
    fit = smf.melogit(LOGISTIC, women).fit()
    assert fit.nobs == (WOMEN["livch"] != "2").sum()
    assert "livch[T.2]" not in fit.params


LAZY = "polars LazyFrame, which has no rows yet. Give data.collect()"
BAD = {
    "lazy": (lambda: smf.mixedlm(LINEAR, POLARS.lazy()), LAZY),
    "lazy prediction": (lambda: smf.mixedlm(LINEAR, POLARS).fit().predict(POLARS.lazy()), LAZY),
    "pyarrow.Table": (
        lambda: smf.mixedlm(LINEAR, pa.Table.from_pandas(SLEEP)),
        "data is of type Table; give a pandas or polars",
    ),
    "dates": (lambda: smf.melogit(LOGISTIC, _polars(age=pl.lit(datetime.date(2020, 1, 1)))), "'age' holds dates"),
    "decimal objects": (
        lambda: smf.mixedlm(LINEAR, SLEEP.assign(Days=pl.Series(SLEEP["Days"]).cast(pl.Decimal(9, 1)).to_list())),
        "'Days' holds decimal.Decimal objects",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name):
    call, message = BAD[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
