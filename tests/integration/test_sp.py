"""StatsPAI's spelling: each line of the issue's example as written, and what goes wrong said clearly."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal, assert_series_equal

import sm_multilevel.formula.api as smf
from sm_multilevel import sp
from sm_multilevel.datasets import mathachieve

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def df():
    """High School and Beyond, with strings for factors and three made-up classes in each school."""
    pupils = mathachieve.load_pandas().data
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {
            "math_score": pupils["mathach"],
            "ses": pupils["ses"],
            "gender": np.where(pupils["sex"] == "Male", "M", "F"),
            "school": pupils["school"].astype(str),
            "class": rng.integers(1, 4, len(pupils)),
        }
    )
    classes, _ = pd.factorize(data["school"] + "/" + data["class"].astype(str))
    data["math_score"] += 1.5 * rng.normal(size=480)[classes]
    return data


@pytest.fixture(scope="module")
def formula_fit(df):
    return smf.mixedlm("math_score ~ ses + gender + (1 + ses | school)", df).fit()


EXAMPLE = """
from sm_multilevel import sp
r = sp.mixed(df, y='math_score', x=['ses', 'gender'], group='school', re_formula='1 + ses', cov_type='unstructured', method='reml')
r.summary(); r.variance_components; r.ranef(conditional_se=True); r.r_squared(); r.predict(new_data, include_random=True)
r.wald_test({'ses': 0, 'gender': 0}); r.plot(kind='caterpillar')
"""  # noqa: E501


def test_the_example_as_written(df, formula_fit):
    new_data = df.iloc[[0, 100, 7000]]
    names = {"df": df, "new_data": new_data}
    exec(EXAMPLE, names)
    r = names["r"]
    assert r.llf == pytest.approx(formula_fit.llf, abs=1e-9)
    assert_series_equal(r.params, formula_fit.params, rtol=1e-9)
    assert list(r.params.index) == ["Intercept", "gender[T.M]", "ses"]
    assert r.method == "REML"
    assert "math_score" in str(r.summary())
    assert "gender[T.M]" in str(r.summary())
    components = r.variance_components
    assert list(components) == ["var(Intercept)", "cov(Intercept,ses)", "var(ses)", "var(Residual)"]
    assert_allclose(components["cov(Intercept,ses)"], r.cov_re.loc["Intercept", "ses"])
    effects, errors = r.ranef(conditional_se=True)
    assert effects.shape == errors.shape == (160, 2)
    assert (errors > 0).all(axis=None)
    assert 0 < r.r_squared()["marginal"] < r.r_squared()["conditional"] < 1
    assert_series_equal(r.predict(new_data, include_random=True), r.fittedvalues[new_data.index], rtol=1e-12)
    test = r.wald_test({"ses": 0, "gender": 0}, scalar=True)
    assert test.df_denom == 2
    rows = np.eye(3)[[2, 1]]
    assert test.statistic == pytest.approx(r.wald_test(rows, scalar=True).statistic)
    assert isinstance(r.plot(kind="caterpillar"), Figure)
    assert r.aic() == r.aic == pytest.approx(-2 * r.llf + 2 * 7)
    assert r.bic() == r.bic == pytest.approx(-2 * r.llf + np.log(len(df)) * 7)


def test_three_levels(df):
    r = sp.mixed(df, y="math_score", x=["ses", "gender"], group=["school", "class"])
    formula = smf.mixedlm("math_score ~ ses + gender + (1 | school/class)", df).fit()
    assert r.llf == pytest.approx(formula.llf, abs=1e-8)
    assert r.ngroups == {"class:school": 480, "school": 160}
    components = r.variance_components
    assert list(components) == ["var(Intercept|class)", "var(Intercept|school)", "var(Residual)"]
    assert components["var(Intercept|class)"] == pytest.approx(1.5**2, rel=0.25)
    assert set(r.ranef()) == {"class:school", "school"}
    # The slopes of re_formula= are the innermost level's.
    levels = ["school", "class"]
    slopes = sp.mixed(df, y="math_score", x=["ses"], group=levels, re_formula="1 + ses", cov_type="diagonal")
    formula = smf.mixedlm("math_score ~ ses + (ses || class:school) + (1 | school)", df).fit()
    assert slopes.llf == pytest.approx(formula.llf, abs=1e-7)


@pytest.mark.parametrize("method", ["reml", "ml", "REML"])
@pytest.mark.parametrize("cov_type", ["unstructured", "diagonal", "identity", "exchangeable"])
def test_options(df, method, cov_type):
    r = sp.mixed(df, "math_score", ["ses"], "school", re_formula="1 + ses", cov_type=cov_type, method=method)
    want = smf.mixedlm("math_score ~ ses", df, groups="school", re_formula="1 + ses", covariance=cov_type)
    assert r.llf == pytest.approx(want.fit(reml=method.lower() == "reml").llf, abs=1e-8)


def test_other_spellings(df, formula_fit):
    same = [
        sp.mixed(df, y="math_score", x_fixed=["ses", "gender"], group="school", x_random=["ses"]),
        sp.mixed(df, "math_score", ["ses", "gender"], "school", ["ses"]),  # StatsPAI's order
        sp.mixed(df, "math_score", ("ses", "gender"), ["school"], "ses"),
        sp.mixed(df, "math_score", ["ses", "gender"], "school", re_formula="~ ses"),
    ]
    for r in same:
        assert r.llf == pytest.approx(formula_fit.llf, abs=1e-8)
    intercept = sp.mixed(df, y="math_score", group="school")
    assert list(intercept.params.index) == ["Intercept"]
    assert intercept.cov_re.shape == (1, 1)
    alone = sp.mixed(df, y="math_score", x="ses", group="school")
    assert list(alone.params.index) == ["Intercept", "ses"]


@pytest.mark.parametrize("kind", [object, "category", "string", bool, "Int64"])
def test_categorical_and_numeric_columns(df, formula_fit, kind):
    if kind is bool or kind == "Int64":
        data = df.assign(gender=(df["gender"] == "M").astype(kind))
    else:
        data = df.assign(gender=df["gender"].astype(kind))
    r = sp.mixed(data, y="math_score", x=["ses", "gender"], group="school", re_formula="1 + ses")
    assert r.llf == pytest.approx(formula_fit.llf, abs=1e-7)
    expected = formula_fit.wald_test({"gender": 0}, scalar=True).statistic
    assert r.wald_test({"gender": 0}, scalar=True).statistic == pytest.approx(expected)


def test_names_that_are_no_python_names(df, formula_fit):
    names = {"math_score": "maths score", "ses": "S.E.S.", "gender": 'it\'s "gender"', "school": "my school"}
    odd = df.rename(columns=names).rename(columns={"class": "lambda"})
    r = sp.mixed(odd, y="maths score", x=["S.E.S.", 'it\'s "gender"'], group="my school", x_random=["S.E.S."])
    assert r.llf == pytest.approx(formula_fit.llf, abs=1e-9)
    assert_allclose(r.params, formula_fit.params)
    by_column = r.wald_test({"S.E.S.": 0, 'it\'s "gender"': 0}, scalar=True)
    assert by_column.statistic == pytest.approx(formula_fit.wald_test({"ses": 0, "gender": 0}, scalar=True).statistic)
    assert_allclose(r.predict(odd.iloc[:9]), formula_fit.fittedvalues[:9])
    three = sp.mixed(odd, y="maths score", x=[], group=["my school", "lambda"])
    assert three.ngroups == {"lambda:my school": 480, "my school": 160}
    for name in ("TRUE", "class", "C", "log", "None", "2 x", "a:b", "x + y", "ses ", "Δ"):
        renamed = df.drop(columns="class").rename(columns={"ses": name})
        r = sp.mixed(renamed, y="math_score", x=[name, "gender"], group="school", x_random=[name])
        assert r.llf == pytest.approx(formula_fit.llf, abs=1e-9), name
        assert r.wald_test({name: 0}, scalar=True).statistic > 100


def test_alpha_is_the_default_level_of_the_result(df, formula_fit):
    r = sp.mixed(df, y="math_score", x=["ses", "gender"], group="school", re_formula="1 + ses", alpha=0.1)
    assert_frame_equal(r.conf_int(), formula_fit.conf_int(0.1), rtol=1e-9)
    assert_frame_equal(r.conf_int(0.05), formula_fit.conf_int(), rtol=1e-9)
    assert "0.95]" in str(r.summary())
    assert "0.975]" in str(r.summary(alpha=0.05))
    assert "0.95]" in str(r.summary2())
    assert "0.975]" in str(formula_fit.summary())


ERRORS = [
    ({"y": "maths"}, r"y= names 'maths', which is no column of the data. Did you mean 'math_score'\?"),
    ({"x": ["ses", "gendre"]}, r"x= names 'gendre'.*mean 'gender'"),
    ({"x": ["np.log(ses)"]}, "x= names 'np.log"),
    ({"x": ["ses", 3]}, "x= must hold names of columns .*not 3"),
    ({"x": 5}, "x= must hold names of columns .*not 5"),
    ({"y": ["math_score", "ses"]}, r"y=\['math_score', 'ses'\] must be the name of one column"),
    ({"y": None}, "y=None must be the name of one column"),
    ({"group": []}, "names no grouping factor"),
    ({"x_random": 5}, "x_random= must hold names"),
    ({"tol": -1}, "tol=-1 must be a positive number"),
    ({"tol": "tight"}, "tol='tight' must be a positive number"),
    ({"group": "schol"}, "group= names 'schol'.*mean 'school'"),
    ({"group": ["school", "clas"]}, "group= names 'clas'"),
    ({"group": None}, "group= is needed"),
    ({"x_random": ["sees"]}, "x_random= names 'sees'"),
    ({"cov_type": "cs"}, "cov_type='cs' is not known. Choose one of 'unstructured', 'diagonal', 'identity'"),
    ({"cov_type": None}, "cov_type=None is not known"),
    ({"method": "mle"}, "method='mle' is not known. Choose one of 'reml', 'ml'"),
    ({"method": True}, "method=True is not known"),
    ({"alpha": 5}, "alpha=5 must lie between 0 and 1"),
    ({"maxiter": -1}, "maxiter=-1"),
    ({"x_fixed": ["ses"]}, "x= and x_fixed= are two spellings"),
    ({"x_random": ["ses"], "re_formula": "1 + ses"}, "re_formula= and x_random= are two spellings"),
    ({"re_formula": "1 + sess"}, "no column 'sess'"),
]


@pytest.mark.parametrize(("changes", "message"), ERRORS, ids=[str(next(iter(c.items()))) for c, _ in ERRORS])
def test_errors_name_the_culprit(df, changes, message):
    with pytest.raises(ValueError, match=message):
        sp.mixed(df, **dict({"y": "math_score", "x": ["ses"], "group": "school"}, **changes))


def test_options_in_statspais_order(df, formula_fit):
    x = ["ses", "gender"]
    r = sp.mixed(df, "math_score", x, "school", ["ses"], "unstructured", "reml", 1000, 1e-9, 0.1)
    assert r.llf == pytest.approx(formula_fit.llf, abs=1e-8)
    assert_frame_equal(r.conf_int(), formula_fit.conf_int(0.1), rtol=1e-6)
    assert sp.mixed(df, "math_score", x, "school", []).cov_re.shape == (1, 1)  # no slope


def test_bad_inputs_of_icc_and_lrtest(df, formula_fit):
    small = sp.mixed(df, "math_score", ["ses", "gender"], "school")
    for changes, message in (
        ({"alpha": 2}, "alpha=2 must lie between"),
        ({"component": "shool"}, r"component='shool' is no grouping factor.*mean 'school'"),
        ({"n_boot": 2.5}, "n_boot=2.5 must be a number of replicates"),
        ({"result": None}, "result= is a NoneType, not a fitted model"),
    ):
        with pytest.raises(ValueError, match=message):
            sp.icc(**{"result": small, **changes})
    for changes, message in (
        ({"boundary": "yes"}, "boundary='yes' must be True or False"),
        ({"boundary": False, "method": "bootstrap"}, "boundary=False is the chi-squared distribution"),
        ({"restricted": 3}, "restricted= is a int, not a fitted model"),
        ({"full": small}, "are the same model"),
        ({"method": "exakt"}, "method='exakt' is not known"),
    ):
        with pytest.raises(ValueError, match=message):
            sp.lrtest(**{"restricted": small, "full": formula_fit, **changes})
    with pytest.raises(TypeError, match="bondary"):
        sp.lrtest(small, formula_fit, bondary=True)


def test_unknown_options_and_data(df):
    with pytest.raises(TypeError, match="groups"):
        sp.mixed(df, y="math_score", x=["ses"], groups="school")
    with pytest.raises(TypeError, match="data is of type list"):
        sp.mixed([1, 2], y="math_score", x=["ses"], group="school")
