"""What tools read of a formula, and the matrices that patsy builds from it: the fit's own numbers, or an error."""

import numpy as np
import pandas as pd
import patsy
import pytest
from scipy.special import expit

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, contraception, epil, sleepstudy, wine

SLEEP = sleepstudy.load_pandas().data
SLEEP = SLEEP.assign(
    half=SLEEP["Days"] > 4,
    part=pd.Categorical(["hml"[k % 3] for k in SLEEP["Days"]], list("lmh")),
    code=SLEEP["Days"] % 3,
)
SEIZURES = epil.load_pandas().data.assign(
    years=lambda d: 1.0 + np.arange(len(d)) % 5, log_years=lambda d: np.log(d["years"])
)
WOMEN = contraception.load_pandas().data


def as_tools_do(model, rows):
    """The matrix of some rows, that patsy has built from `formula` and nothing else."""
    return patsy.dmatrix(model.formula.split("~", 1)[1], rows)


def linear(fixed, **options):
    return smf.mixedlm(f"Reaction ~ {fixed} + (1 | Subject)", SLEEP, **options)


# Right-hand side -> what `formula` makes of it.
TEXTS = {
    "Days": "Days",
    "half * Days": "half * Days",
    "part": "C(part, levels=['l', 'm', 'h'])",
    "part * Days": "C(part, levels=['l', 'm', 'h']) + Days + C(part, levels=['l', 'm', 'h']):Days",
    "0 + part": "0 + C(part, levels=['l', 'm', 'h'])",
    "C(code)": "C(code, levels=[0, 1, 2])",
    "C(code, Treatment(1))": "C(code, Treatment(1), levels=[0, 1, 2])",
    "C(part, levels=['m', 'l', 'h'])": "C(part, levels=['m', 'l', 'h'])",
    "log(Days + 1) + np.sqrt(Days)": "np.log(Days + 1) + np.sqrt(Days)",
    "factor(code)": "C(code, levels=[0, 1, 2])",
    "bs(Days, 4)": "bs(Days, knots=[4.5], degree=3, lower_bound=0.0, upper_bound=9.0)",
    "0 + bs(Days, df=4, include_intercept=True)": (
        "0 + bs(Days, include_intercept=True, knots=[], degree=3, lower_bound=0.0, upper_bound=9.0)"
    ),
}


@pytest.mark.parametrize("fixed", TEXTS)
def test_text_and_predictions(fixed):
    model = linear(fixed)
    assert model.formula == f"Reaction ~ {TEXTS[fixed]}"
    assert model.full_formula == f"Reaction ~ {fixed} + (1 | Subject)"
    fit = model.fit()
    rows = SLEEP.iloc[[12, 13, 27, 48, 49]]  # few of the days, not all of the levels in order
    want = fit.predict(rows, include_random=False)
    for order in (slice(None), slice(None, None, -1)):
        matrix = as_tools_do(model, rows.iloc[order])
        np.testing.assert_allclose(model.predict(fit.params, matrix), want[order], rtol=1e-12)
        # A part of a matrix has no design_info.
        np.testing.assert_allclose(model.predict(fit.params, matrix[1:]), want[order][1:], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "term"),
    [
        ({"exposure": "years"}, "I(np.log(years))"),
        ({"offset": "log_years"}, "I(log_years)"),
        ({"offset": "np.log(years)"}, "I(np.log(years))"),
        ({"offset": "V4", "exposure": "years"}, "I((V4) + (np.log(years)))"),
    ],
)
def test_offsets(options, term):
    model = smf.mepoisson("y ~ trt + (1 | subject)", SEIZURES, **options)
    assert model.formula == f"y ~ trt + {term}"
    fit = model.fit()
    rows = SEIZURES.iloc[[100, 3, 7]]
    want = fit.predict(rows, include_random=False)
    np.testing.assert_allclose(model.predict(fit.params, as_tools_do(model, rows)), want, rtol=1e-12)
    linear_predictor = model.predict(fit.params, as_tools_do(model, rows), which="linear")
    np.testing.assert_allclose(linear_predictor, np.log(want), rtol=1e-12)


def test_ordinal():
    bottles = wine.load_pandas().data
    for fixed in ("temp * contact", "0 + temp + contact"):
        fit = smf.meologit(f"rating ~ {fixed} + (1 | judge)", bottles).fit()
        assert fit.model.predict(fit.params, as_tools_do(fit.model, bottles)).shape == (72, 5)
        got = fit.model.predict(fit.params, as_tools_do(fit.model, bottles))
        np.testing.assert_allclose(got, fit.predict(include_random=False), rtol=1e-12)
        np.testing.assert_allclose(got @ np.arange(5), fit.model.predict(fit.params, which="mean"), rtol=1e-12)


def test_trials_and_integers_as_categories():
    cows = cbpp.load_pandas().data
    fit = smf.melogit("incidence ~ period + (1 | herd)", cows, n_trials="size").fit()
    assert fit.model.formula == "incidence ~ C(period, levels=[1, 2, 3, 4])"
    rows = cows[cows["period"].isin([2, 3])]
    want = expit(
        fit.params["Intercept"]
        + rows["period"].map({2: fit.params["period[T.2]"], 3: fit.params["period[T.3]"]}).astype(float)
    )
    np.testing.assert_allclose(fit.model.predict(fit.params, as_tools_do(fit.model, rows)), want)


def test_dropped_columns():
    with pytest.warns(match="dropped twice"):
        model = smf.mixedlm("Reaction ~ Days + twice + half + (1 | Subject)", SLEEP.assign(twice=2 * SLEEP["Days"]))
    fit = model.fit()
    matrix = as_tools_do(model, SLEEP.assign(twice=0.0))
    np.testing.assert_allclose(model.predict(fit.params, np.asarray(matrix)), fit.predict(include_random=False))


def _matrix(fixed, rows, text=None, part=None, **options):
    model = linear(fixed, **options)
    matrix = patsy.dmatrix(text or model.formula.split("~", 1)[1], rows)
    return model, matrix if part is None else matrix[part]


def _array_exposure():
    model = smf.mepoisson("y ~ trt + (1 | subject)", SEIZURES, exposure=SEIZURES["years"].to_numpy())
    return model, as_tools_do(model, SEIZURES)


BAD = {
    "center": (lambda: _matrix("center(Days)", SLEEP.head(5)), r"'center\(Days\)' learns from the data"),
    "scale": (lambda: _matrix("standardize(Days)", SLEEP), "learns from the data"),
    "cr, a part": (lambda: _matrix("0 + cr(Days, df=4)", SLEEP, part=slice(3)), "learns from the data"),
    "within": (lambda: _matrix("bs(center(Days), df=4)", SLEEP), "learns from the data"),
    "fewer levels": (
        lambda: _matrix("part", SLEEP[SLEEP["part"] != "h"].assign(part=lambda d: d["part"].astype(str)), "part"),
        "The matrix has 2 columns; those of the model are 3: Intercept, part",
    ),
    "other order": (lambda: _matrix("part", SLEEP.assign(part=SLEEP["part"].astype(str)), "part"), "other values"),
    "levels as numbers": (
        lambda: _matrix("half", SLEEP.assign(half=SLEEP["half"] + 1.0), "half", part=slice(2, 9)),
        "Were its levels taken for numbers",
    ),
    "another formula": (
        lambda: _matrix("Days", SLEEP, "np.exp(Days)"),
        "'Days' of the matrix gives rows of the fit other",
    ),
    "array of exposures": (_array_exposure, "is no column of the data"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name):
    call, message = BAD[name]
    model, matrix = call()
    params = np.ones(model.k_fixed)
    with pytest.raises(ValueError, match=message):
        model.predict(params, matrix)


@pytest.mark.parametrize("width", [1, 3])
def test_arrays_of_another_width_are_refused(width):
    bottles = wine.load_pandas().data
    for fit in (linear("Days").fit(), smf.meologit("rating ~ temp + contact + (1 | judge)", bottles).fit()):
        with pytest.raises(ValueError, match=rf"exog has {width} columns; the fixed part has 2"):
            fit.model.predict(fit.params, np.ones((4, width)))


def test_rows_of_the_fit_are_those_that_tools_see():
    data = SLEEP.astype({"Subject": float, "Reaction": float})
    data.loc[:9, "Subject"], data.loc[30:32, "Reaction"] = np.nan, np.nan
    fit = smf.mixedlm("Reaction ~ Days + (1 | Subject)", data).fit()
    assert len(fit.model.data.frame) == fit.nobs == 167
    assert len(fit.model.source) == 180
    assert len(smm.augment(fit)) == 180
    wider = fit.update("Reaction ~ Days + (1 | part)")
    assert wider.nobs == 177


def test_models_without_a_formula_or_rows():
    arrays = smm.MixedLM(SLEEP["Reaction"], SLEEP[["Days"]], groups=SLEEP["Subject"])
    assert arrays.formula is None
    fit = linear("Days").fit()
    fit.remove_data()
    assert fit.model.formula == "Reaction ~ Days"
    with pytest.raises(ValueError, match="remove_data"):
        fit.model.predict(fit.params, patsy.dmatrix("Days", SLEEP))
