"""marginaleffects on our results: its estimates and standard errors against a delta method of this file."""

from dataclasses import dataclass

import marginaleffects as me
import numpy as np
import pandas as pd
import patsy
import pytest
from marginaleffects.datagrid import datagrid
from scipy.special import expit
from scipy.stats import t as student

import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import cbpp, contraception, epil, sleepstudy, wine

SLEEP = sleepstudy.load_pandas().data.assign(
    third=lambda d: pd.Categorical(d["Days"].map(lambda k: "lmh"[int(k > 2) + int(k > 6)]), list("lmh")),
    weight=lambda d: 1.0 + (d["Days"] % 3),
)
WOMEN = contraception.load_pandas().data
TEXT = WOMEN.assign(urban=WOMEN["urban"].astype(str), livch=WOMEN["livch"].astype(str))
OWN_ORDER = WOMEN.assign(livch=pd.Categorical(WOMEN["livch"].astype(str), ["3+", "1", "0", "2"]))
SEIZURES = epil.load_pandas().data.assign(
    years=lambda d: 0.5 + (np.arange(len(d)) % 7) / 4,
    log_years=lambda d: np.log(d["years"]),
    cost=lambda d: d["y"] + 0.5,
)
BOTTLES = wine.load_pandas().data
COWS = cbpp.load_pandas().data.assign(period=lambda d: pd.Categorical("p" + d["period"].astype(str)))


def _one(x):
    return x


@dataclass
class Case:
    """A fit, with all that is needed to compute its population values without our code."""

    fit: object
    data: pd.DataFrame
    fixed: str  # patsy's right-hand side
    inverse: object
    variable: str
    pair: list
    offset: str | None = None

    def values(self, params, frame):
        """Means of rows at a random effect of zero."""
        info = patsy.dmatrix(self.fixed, self.data).design_info
        x = np.asarray(patsy.build_design_matrices([info], frame)[0])
        offset = 0.0 if self.offset is None else patsy.dmatrix(f"0 + {self.offset}", frame)[:, 0]
        return self.inverse(x @ params[: x.shape[1]] + offset)

    def changed(self, value):
        out = self.data.copy()
        old = out[self.variable]
        out[self.variable] = pd.Categorical([value] * len(out), old.cat.categories) if hasattr(old, "cat") else value
        return out

    def contrast(self, params):
        low, high = (self.values(params, self.changed(v)) for v in self.pair)
        return np.array([np.mean(high - low)])


def delta(result, function, cov=None):
    """Estimates, and standard errors by central differences in params."""
    params = np.asarray(result.params, dtype=float)
    steps = np.diag(1e-5 * np.maximum(1.0, np.abs(params)))
    jacobian = np.array([(function(params + h) - function(params - h)) / (2 * h.sum()) for h in steps]).T
    cov = np.asarray(result.cov_params()) if cov is None else cov
    return function(params), np.sqrt(np.einsum("ij,jk,ik->i", jacobian, cov, jacobian))


_urban = "use ~ urban * age + livch + (urban | district)"
_fixed = "urban * age + livch"
CASES = {
    "linear": lambda: Case(
        smf.mixedlm("Reaction ~ Days + (Days | Subject)", SLEEP).fit(), SLEEP, "Days", _one, "Days", [2, 5]
    ),
    "keywords": lambda: Case(
        smf.mixedlm("Reaction ~ Days", SLEEP, groups="Subject", re_formula="~Days").fit(),
        SLEEP,
        "Days",
        _one,
        "Days",
        [2, 5],
    ),
    "ml, weights": lambda: Case(
        smf.mixedlm("Reaction ~ Days + (1 | Subject)", SLEEP, var_weights="weight").fit(reml=False),
        SLEEP,
        "Days",
        _one,
        "Days",
        [2, 5],
    ),
    "function": lambda: Case(
        smf.mixedlm("Reaction ~ np.log(Days + 1) + I(Days**2) + (1 | Subject)", SLEEP).fit(),
        SLEEP,
        "np.log(Days + 1) + I(Days**2)",
        _one,
        "Days",
        [2, 5],
    ),
    "spelled as in R": lambda: Case(
        smf.mixedlm("Reaction ~ log(Days + 1) + (1 | Subject)", SLEEP).fit(),
        SLEEP,
        "np.log(Days + 1)",
        _one,
        "Days",
        [2, 5],
    ),
    "order of levels": lambda: Case(
        smf.mixedlm("Reaction ~ third + (1 | Subject)", SLEEP).fit(), SLEEP, "third", _one, "third", ["l", "h"]
    ),
    "contrasts": lambda: Case(
        smf.mixedlm("Reaction ~ C(third, Sum) + (1 | Subject)", SLEEP).fit(),
        SLEEP,
        "C(third, Sum)",
        _one,
        "third",
        ["l", "h"],
    ),
    "categories": lambda: Case(smf.melogit(_urban, WOMEN).fit(), WOMEN, _fixed, expit, "urban", ["N", "Y"]),
    "own order": lambda: Case(smf.melogit(_urban, OWN_ORDER).fit(), OWN_ORDER, _fixed, expit, "livch", ["3+", "0"]),
    "C()": lambda: Case(
        smf.melogit("use ~ C(urban) + age + (1 | district)", WOMEN).fit(nAGQ=5),
        WOMEN,
        "C(urban) + age",
        expit,
        "age",
        [0, 5],
    ),
    "no intercept": lambda: Case(
        smf.melogit("use ~ 0 + livch + age + (1 | district)", OWN_ORDER).fit(),
        OWN_ORDER,
        "0 + livch + age",
        expit,
        "age",
        [0, 5],
    ),
    "trials": lambda: Case(
        smf.melogit("incidence ~ period + (1 | herd)", COWS, n_trials="size").fit(),
        COWS,
        "period",
        expit,
        "period",
        ["p1", "p3"],
    ),
    "poisson": lambda: Case(
        smf.mepoisson("y ~ trt * lbase + (1 | subject)", SEIZURES).fit(),
        SEIZURES,
        "trt * lbase",
        np.exp,
        "lbase",
        [0, 1],
    ),
    "exposure": lambda: Case(
        smf.mepoisson("y ~ trt + lbase + (1 | subject)", SEIZURES, exposure="years").fit(),
        SEIZURES,
        "trt + lbase",
        np.exp,
        "lbase",
        [0, 1],
        "np.log(years)",
    ),
    "offset in the formula": lambda: Case(
        smf.mepoisson("y ~ trt + offset(log_years) + lbase + (1 | subject)", SEIZURES).fit(),
        SEIZURES,
        "trt + lbase",
        np.exp,
        "lbase",
        [0, 1],
        "log_years",
    ),
    "offset and exposure": lambda: Case(
        smf.menbreg("y ~ trt + lbase + (1 | subject)", SEIZURES, offset="V4", exposure="years").fit(),
        SEIZURES,
        "trt + lbase",
        np.exp,
        "trt",
        ["placebo", "progabide"],
        "I(V4 + np.log(years))",
    ),
    "linear, offset": lambda: Case(
        smf.mixedlm("Reaction ~ Days + (1 | Subject)", SLEEP, offset="weight").fit(),
        SLEEP,
        "Days",
        _one,
        "Days",
        [0, 5],
        "weight",
    ),
    "negative binomial": lambda: Case(
        smf.menbreg("y ~ trt + lbase + lage + (1 | subject)", SEIZURES).fit(),
        SEIZURES,
        "trt + lbase + lage",
        np.exp,
        "lage",
        [0, 1],
    ),
    "gamma": lambda: Case(
        smf.megamma("cost ~ trt + lbase + (1 | subject)", SEIZURES).fit(),
        SEIZURES,
        "trt + lbase",
        np.exp,
        "lbase",
        [0, 1],
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]()


def columns(frame, *names):
    return tuple(frame[name].to_numpy().astype(float) for name in names)


def test_predictions(case):
    got, error = columns(me.predictions(case.fit), "estimate", "std_error")
    want, want_error = delta(case.fit, lambda params: case.values(params, case.data))
    np.testing.assert_allclose(got, want, rtol=1e-9)
    np.testing.assert_allclose(error, want_error, rtol=1e-5)
    ours = case.fit.get_prediction(include_random=False).summary_frame()
    np.testing.assert_allclose(got, ours["mean"], rtol=1e-9)
    np.testing.assert_allclose(error, ours["mean_se"], rtol=1e-5)


def test_new_rows(case):
    rows = case.data.iloc[[3, 40, 41]]
    got, error = columns(me.predictions(case.fit, newdata=rows), "estimate", "std_error")
    want, want_error = delta(case.fit, lambda params: case.values(params, rows))
    np.testing.assert_allclose(got, want, rtol=1e-9)
    np.testing.assert_allclose(error, want_error, rtol=1e-5)


def test_average_prediction(case):
    table = me.avg_predictions(case.fit)
    want, error = delta(case.fit, lambda params: case.values(params, case.data).mean(keepdims=True))
    np.testing.assert_allclose(columns(table, "estimate", "std_error"), [want, error], rtol=1e-5)


def test_comparison(case):
    table = me.avg_comparisons(case.fit, variables={case.variable: case.pair})
    want, error = delta(case.fit, case.contrast)
    np.testing.assert_allclose(columns(table, "estimate", "std_error"), [want, error], rtol=1e-5, atol=1e-12)
    [statistic], [p] = columns(table, "statistic", "p_value")
    assert statistic == pytest.approx(float(want[0] / error[0]), rel=1e-5)
    # Not ours: t with df_resid, although the column is called z.
    assert p == pytest.approx(2 * student.sf(abs(statistic), case.fit.df_resid), rel=1e-4, abs=1e-14)


def test_slope(case):
    if not pd.api.types.is_numeric_dtype(case.data[case.variable]):
        return  # a factor has no slope
    table = me.avg_slopes(case.fit, variables=case.variable)
    h = 1e-4

    def slope(params):
        up, down = (case.data.assign(**{case.variable: case.data[case.variable] + s * h}) for s in (0.5, -0.5))
        return np.mean(case.values(params, up) - case.values(params, down), keepdims=True) / h

    want, error = delta(case.fit, slope)
    # Its own differences leave about three digits of a standard error.
    np.testing.assert_allclose(columns(table, "estimate", "std_error"), [want, error], rtol=2e-3)


def test_hypotheses_are_of_params(case):
    table = me.hypotheses(case.fit)
    assert table["term"].to_list() == list(case.fit.params.index)
    np.testing.assert_allclose(columns(table, "estimate", "std_error"), [case.fit.params, case.fit.bse], rtol=1e-6)


def test_hypothesis_of_a_difference():
    fit = CASES["poisson"]().fit
    table = me.hypotheses(fit, "b2 - b1 = 0")
    test = fit.t_test(np.array([0, 0, 0, 0]) + np.eye(4)[2] - np.eye(4)[1])
    np.testing.assert_allclose(columns(table, "estimate", "std_error"), [test.effect, test.sd.ravel()], rtol=1e-6)


def test_default_slopes_and_groups():
    fit = CASES["categories"]().fit
    assert set(me.avg_slopes(fit)["term"]) == {"urban", "age", "livch"}
    by = me.avg_predictions(fit, by="urban")
    want = fit.predict(include_random=False).groupby(WOMEN["urban"], observed=True).mean()
    assert dict(zip(by["urban"], by["estimate"], strict=True)) == pytest.approx(want.to_dict())


def test_datagrid():
    fit = CASES["exposure"]().fit
    grid = datagrid(fit, lbase=[0.0, 1.0], years=[1.0])
    got, error = columns(me.predictions(fit, newdata=grid), "estimate", "std_error")
    rows = grid.to_pandas()
    want = fit.get_prediction(rows, include_random=False).summary_frame()
    np.testing.assert_allclose(got, want["mean"], rtol=1e-9)
    np.testing.assert_allclose(error, want["mean_se"], rtol=1e-5)


def test_exposure_is_not_forgotten():
    case = CASES["exposure"]()
    doubled = me.avg_predictions(case.fit, newdata=SEIZURES.assign(years=2 * SEIZURES["years"]))["estimate"][0]
    assert doubled == pytest.approx(2 * me.avg_predictions(case.fit)["estimate"][0])


def test_splines_are_those_of_the_fit():
    fit = smf.mixedlm("Reaction ~ bs(Days, df=5) + (1 | Subject)", SLEEP).fit()
    rows = SLEEP[SLEEP["Days"].isin([1, 2])].head(2)
    got, error = columns(me.predictions(fit, newdata=rows), "estimate", "std_error")
    want = fit.get_prediction(rows, include_random=False).summary_frame()
    np.testing.assert_allclose(got, want["mean"], rtol=1e-9)
    np.testing.assert_allclose(error, want["mean_se"], rtol=1e-5)


def test_ordinal_probabilities():
    fit = smf.meologit("rating ~ temp * contact + (1 | judge)", BOTTLES).fit()
    table = me.predictions(fit).to_pandas().sort_values(["rowid", "group"])
    want = fit.get_prediction(include_random=False, which="prob").summary_frame()
    np.testing.assert_allclose(table["estimate"], want["mean"], rtol=1e-9)
    np.testing.assert_allclose(table["std_error"], want["mean_se"], rtol=1e-4)
    change = me.avg_comparisons(fit, variables="temp").to_pandas().sort_values("group")["estimate"]
    cold, warm = (fit.predict(BOTTLES.assign(temp=level), include_random=False).mean() for level in ("cold", "warm"))
    np.testing.assert_allclose(change, warm - cold, rtol=1e-9)


def test_covariance():
    fit = CASES["negative binomial"]().fit
    robust = fit.get_robustcov_results("CR1")
    got = me.avg_comparisons(robust, variables="trt")["std_error"][0]
    assert me.avg_comparisons(fit, variables="trt", vcov="CR1")["std_error"][0] == pytest.approx(got)
    assert me.avg_comparisons(fit, variables="trt", vcov="robust")["std_error"][0] == pytest.approx(got)
    matrix = np.asarray(robust.cov_params())
    assert me.avg_comparisons(fit, variables="trt", vcov=matrix)["std_error"][0] == pytest.approx(got)
    assert got != pytest.approx(me.avg_comparisons(fit, variables="trt")["std_error"][0], rel=1e-3)
    sleep = CASES["linear"]().fit
    kr = sleep.with_df("kenward-roger")
    assert me.avg_comparisons(kr)["std_error"][0] == pytest.approx(kr.bse["Days"], rel=1e-4)
    cr2 = me.avg_comparisons(sleep, vcov="CR2")["std_error"][0]
    assert cr2 == pytest.approx(sleep.get_robustcov_results("CR2").bse["Days"], rel=1e-4)
    with pytest.raises(ValueError, match="rows of a mixed model are not independent"):
        me.avg_slopes(sleep, vcov="HC3")


def test_crossed_and_singular():
    crossed = smf.mixedlm("Reaction ~ Days + (1 | Subject) + (1 | weight)", SLEEP).fit()
    assert crossed.is_singular
    assert me.avg_comparisons(crossed)["std_error"][0] == pytest.approx(crossed.bse["Days"], rel=1e-4)


def test_rows_are_those_of_the_fit():
    data = SLEEP.astype({"Subject": float, "Reaction": float})
    data.loc[:9, "Subject"], data.loc[30:32, "Reaction"] = np.nan, np.nan
    fit = smf.mixedlm("Reaction ~ Days + (1 | Subject)", data).fit()
    assert len(me.predictions(fit)) == fit.nobs == 167
    assert me.avg_predictions(fit)["estimate"][0] == pytest.approx(fit.predict(include_random=False).mean())
    part = smf.mixedlm("Reaction ~ Days + (1 | Subject)", SLEEP, subset=SLEEP["Days"] > 3).fit()
    assert len(me.predictions(part)) == part.nobs


def test_dropped_columns():
    data = SLEEP.assign(twice=2 * SLEEP["Days"])
    with pytest.warns(match="dropped twice"):
        fit = smf.mixedlm("Reaction ~ Days + twice + (1 | Subject)", data).fit()
    ours = fit.get_prediction(include_random=False).summary_frame()
    np.testing.assert_allclose(
        columns(me.predictions(fit), "estimate", "std_error"), [ours["mean"], ours["mean_se"]], rtol=1e-5
    )


def _exposure_of_array():
    return smf.mepoisson("y ~ trt + (1 | subject)", SEIZURES, exposure=SEIZURES["years"].to_numpy()).fit()


REFUSED = {
    "learns: cr": (
        lambda: smf.mixedlm("Reaction ~ 0 + cr(Days, df=4) + (1 | Subject)", SLEEP).fit(),
        "learns from the data",
    ),
    "learns: center": (lambda: smf.mixedlm("Reaction ~ center(Days) + (1 | Subject)", SLEEP).fit(), "center"),
    "array of exposures": (_exposure_of_array, "is no column of the data"),
    "text": (lambda: smf.melogit(_urban, TEXT).fit(), "convert to Categorical"),
    "numbers as levels": (
        lambda: smf.melogit("incidence ~ period + (1 | herd)", cbpp.load_pandas().data, n_trials="size").fit(),
        "has numeric type",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    fit, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message):
        me.avg_predictions(fit())


def test_after_remove_data():
    fit = CASES["linear"]().fit
    fit.remove_data()
    with pytest.raises((ValueError, AttributeError, TypeError)):
        me.avg_predictions(fit)


def test_plots():
    fit = CASES["categories"]().fit
    drawn = me.plot_predictions(fit, condition=["age", "urban"], draw=False)
    rows = drawn.to_pandas()
    np.testing.assert_allclose(rows["estimate"], fit.predict(rows, include_random=False), rtol=1e-9)
    assert me.plot_slopes(fit, variables="age", by="urban") is not None
    assert me.plot_comparisons(fit, variables="urban", by="livch") is not None
