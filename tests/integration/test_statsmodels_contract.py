"""statsmodels' contract: its own generic test classes on our results, and what its users rely on."""

import copy
import io
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as sm_formula
import statsmodels.tools._testing as shipped
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal
from statsmodels.base.tests.test_generic_methods import CheckAnovaMixin, CheckGenericMixin
from statsmodels.base.tests.test_predict import CheckPredictReturns
from statsmodels.base.tests.test_shrink_pickle import RemoveDataPickle
from statsmodels.iolib.summary2 import summary_col
from statsmodels.tools.sm_exceptions import ValueWarning

import sm_multilevel
import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import mathachieve, pastes, sleepstudy
from sm_multilevel.postestimation.prediction.predict import NewLevelWarning


def population(results):
    """A result's population values under the names that statsmodels' checks look at."""

    def predict(exog=None, **kwargs):
        return results.predict(exog, include_random=False, **kwargs)

    return SimpleNamespace(model=results.model, fittedvalues=predict(), predict=predict)


# -- statsmodels' own classes ----------------------------------------------------------------


def grouped(x, seed=987689, size=20):
    """A response with random intercepts and slopes of the second column."""
    rng = np.random.default_rng(seed)
    groups = np.arange(len(x)) // size
    b = rng.normal(size=(groups.max() + 1, 2)) * [1.0, 0.5]
    y = x.sum(axis=1) + b[groups, 0] + b[groups, 1] * x[:, 1] + rng.normal(size=len(x))
    return y, groups


class TestGenericMixedLM(CheckGenericMixin):
    def setup_method(self):
        if hasattr(super(), "setup_method"):  # statsmodels 0.15
            super().setup_method()
        y, groups = grouped(self.exog)
        self.results = smm.MixedLM(y, self.exog, groups, self.exog[:, :2]).fit()
        assert np.diag(self.results.cov_re).min() > 0.1

    def test_predict_types(self):
        # As shipped this wants predict() of bare arrays equal to the fitted values. Ours are conditional on the
        # random effects, and an array of columns does not say to which group its rows belong, so it gets the
        # population value. Everything else of the check holds, so it is run on the population values.
        assert np.abs(self.results.fittedvalues - population(self.results).fittedvalues).max() > 1
        shipped.check_predict_types(population(self.results))

    def test_zero_collinear(self):
        # As shipped this fits collinear columns with cov_type="HC0", which statsmodels' base class computes from
        # one score row per observation; a mixed model has none, and the option is refused by name. Collinear
        # columns are dropped with a warning when the model is made, so there is no _fit_collinear to compare.
        model = self.results.model
        twice = np.column_stack([model.exog, model.exog])
        with pytest.warns(ValueWarning, match="dropped x4, x5, x6"):
            collinear = smm.MixedLM(model.endog, twice, **model._get_init_kwds())
        assert collinear.dropped_exog == ["x4", "x5", "x6", "x7"]
        again = collinear.fit()
        for name in ("params", "bse", "tvalues", "pvalues", "resid", "llf", "scale"):
            assert_allclose(getattr(again, name), getattr(self.results, name), rtol=1e-10)
        assert_allclose(again.predict(twice[:5]), self.results.predict(model.exog[:5]), rtol=1e-10)
        with pytest.raises(ValueError, match="cov_type='HC0'"):
            collinear.fit(cov_type="HC0")


class TestGenericMixedLMUseT(TestGenericMixedLM):
    def setup_method(self):
        super().setup_method()
        self.results = self.results.model.fit(use_t=True, reml=False)

    def test_zero_constrained(self):
        # The shipped check refits with default options: use them.
        self.results = self.results.model.fit()
        super().test_zero_constrained()

    def test_zero_collinear(self):
        self.results = self.results.model.fit()
        super().test_zero_collinear()


class TestRemoveDataMixedLM(RemoveDataPickle):
    def setup_method(self):
        if hasattr(super(), "setup_method"):
            super().setup_method()
        y, groups = grouped(self.exog)
        self.model_class = smm.MixedLM
        self.model_args = (y, self.exog, groups, self.exog[:, :2])
        self.results = smm.MixedLM(*self.model_args).fit()


class TestRemoveDataMixedLMFormula(RemoveDataPickle):
    def setup_method(self):
        if hasattr(super(), "setup_method"):
            super().setup_method()
        y, groups = grouped(self.exog)
        self.data = pd.DataFrame(self.exog[:, 1:], columns=["a", "b", "c"]).assign(y=y, g=groups)
        self.formula = "y ~ a + b + c + (a | g)"
        self.model_class = smm.MixedLM
        self.xf = pd.DataFrame(0.25 * np.ones((2, 4)), columns=["a", "b", "c", "g"])
        self.xf["g"] = [3, 7]
        self.results = smf.mixedlm(self.formula, self.data).fit()


class TestRemoveDataArrayGroups(TestRemoveDataMixedLMFormula):
    """Arrays given beside the frame are dropped too."""

    def setup_method(self):
        super().setup_method()
        self.xf = self.xf.rename(columns={"g": "group"})
        self.results = self.estimate_model()

    def estimate_model(self):
        groups, weights = self.data["g"].to_numpy(), np.ones(len(self.data))
        return smf.mixedlm("y ~ a + b + c", self.data.drop(columns="g"), groups=groups, var_weights=weights).fit()


class TestPredictMixedLM(CheckPredictReturns):
    @classmethod
    def setup_class(cls):
        rng = np.random.default_rng(987128)
        x = rng.normal(size=(40, 3))
        # Balanced, so that the predicted effects sum to zero; no group is the mean of all, 1.5.
        g = np.repeat(np.arange(4.0), 10)
        y = x.sum(axis=1) + rng.normal(size=4)[g.astype(int)] * 3 + rng.normal(size=40)
        data = np.round(np.column_stack([y, x, g]), 4)
        index = [f"obs{i:02d}" for i in range(40)]
        cls.data = pd.DataFrame(data, columns=["y", "var1", "var2", "var3", "g"], index=index)
        cls.res = smf.mixedlm("y ~ var1 + var2 + (1 | g)", cls.data).fit()
        assert cls.res.cov_re.iloc[0, 0] > 1

    def test_1d(self):
        # The mean of all rows belongs to no group, which is said.
        with pytest.warns(NewLevelWarning, match="1 rows of 'g'"):
            super().test_1d()

    def without_formula(self):
        """Bare columns of the fixed part have no group (see TestGenericMixedLM.test_predict_types)."""
        conditional, self.res = self.res, population(self.res)
        try:
            assert np.abs(conditional.fittedvalues - self.res.fittedvalues).max() > 1
            getattr(super(), "test_without_formula", getattr(super(), "test_nopatsy", None))()
            with pytest.raises(ValueError, match=r"no column 'g'.*include_random=False"):
                conditional.predict(self.data[["var1", "var2"]])
        finally:
            self.res = conditional

    test_without_formula = without_formula
    if hasattr(CheckPredictReturns, "test_nopatsy"):  # its name in statsmodels 0.14
        test_without_formula = None
        test_nopatsy = without_formula


class TestWaldAnovaMixedLM(CheckAnovaMixin):
    use_t = False

    def initialize(self):
        rng = np.random.default_rng(5)
        data = self.data.assign(g=rng.permutation(len(self.data)) % 8)
        data["y"] = np.log(data["Days"] + 1) + rng.normal(size=8)[data["g"]]
        self.res = smf.mixedlm("y ~ C(Duration, Sum)*C(Weight, Sum) + (1 | g)", data).fit(use_t=self.use_t)
        assert self.res.cov_re.iloc[0, 0] > 0.1

    if hasattr(CheckAnovaMixin, "setup_class"):  # statsmodels 0.14
        initialize = classmethod(initialize)


class TestWaldAnovaMixedLMF(TestWaldAnovaMixedLM):
    use_t = True


# -- what MixedLM's users know -----------------------------------------------------------------


@pytest.fixture(scope="module")
def sleep():
    return sleepstudy.load_pandas().data


@pytest.fixture(scope="module")
def slopes(sleep):
    return smf.mixedlm("Reaction ~ Days", sleep, groups="Subject", re_formula="~Days").fit()


@pytest.fixture(scope="module")
def school():
    data = mathachieve.load_pandas().data.iloc[:1500].copy()
    data["school"] = data["school"].astype(str)
    data["rank"] = data["ses"].rank()
    return data


@pytest.fixture(scope="module")
def cask():
    data = pastes.load_pandas().data
    return data.assign(batch=data["batch"].astype(str), cask=data["cask"].astype(str))


@pytest.mark.parametrize("reml", [True, False], ids=["reml", "ml"])
def test_names_and_numbers_of_mixedlm(sleep, reml):
    options = {"groups": "Subject", "re_formula": "~Days"}
    ours = smf.mixedlm("Reaction ~ Days", sleep, **options).fit(reml=reml)
    theirs = sm_formula.mixedlm("Reaction ~ Days", sleep, **options).fit(reml=reml)
    assert theirs.converged
    assert ours.llf == pytest.approx(theirs.llf, abs=1e-7)
    assert_series_equal(ours.fe_params, theirs.fe_params, rtol=1e-7)
    assert_series_equal(ours.bse_fe, theirs.bse_fe, rtol=1e-5)
    assert_series_equal(ours.tvalues, theirs.tvalues[:2], rtol=1e-5)
    assert_series_equal(ours.pvalues, theirs.pvalues[:2], rtol=1e-3)
    assert_frame_equal(ours.conf_int(), theirs.conf_int()[:2], rtol=1e-5)
    assert_allclose(ours.cov_params(), theirs.cov_params().iloc[:2, :2], rtol=1e-4)
    assert_allclose(ours.cov_re, theirs.cov_re, rtol=1e-3)
    assert ours.scale == pytest.approx(theirs.scale, rel=1e-5)
    assert_series_equal(ours.fittedvalues, theirs.fittedvalues, rtol=1e-5, check_names=False)
    assert_series_equal(ours.resid, theirs.resid, atol=1e-3, check_names=False)
    assert (ours.nobs, ours.df_resid) == (theirs.nobs, theirs.df_resid)
    assert ours.df_model == 1
    assert list(ours.random_effects) == list(theirs.random_effects)
    for level, effects in ours.random_effects.items():
        assert list(effects.index) == ["Intercept", "Days"]
        assert_allclose(effects, theirs.random_effects[level], atol=1e-3)
        assert_allclose(ours.random_effects_cov[level], theirs.random_effects_cov[level], rtol=1e-3)
    assert len(ours.vcomp) == len(theirs.vcomp) == 0
    # Ours are in the data's units; MixedLM's params hold variances divided by the scale.
    assert list(ours.params.index) == ["Intercept", "Days"]
    assert ours.variance_components["var(Days)"] == ours.cov_re.loc["Days", "Days"]


def test_arrays_in_arrays_out(sleep):
    x = np.column_stack([np.ones(len(sleep)), sleep["Days"]])
    arrays = smm.MixedLM(sleep["Reaction"].to_numpy(), x, sleep["Subject"].to_numpy(), x).fit()
    frames = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit()
    assert arrays.model.exog_names == ["const", "x1"]
    for name in ("params", "bse", "tvalues", "pvalues", "fe_params", "bse_fe", "fittedvalues", "resid"):
        assert type(getattr(arrays, name)) is np.ndarray, name
        assert type(getattr(frames, name)) is pd.Series, name
        assert_allclose(getattr(arrays, name), getattr(frames, name), rtol=1e-9)
    for function in ("cov_params", "conf_int"):
        assert type(getattr(arrays, function)()) is np.ndarray
        assert_allclose(getattr(arrays, function)(), getattr(frames, function)(), rtol=1e-9)
    assert type(arrays.predict()) is type(arrays.predict(x[:3])) is np.ndarray


def test_components_within_groups(cask):
    options = {"groups": "batch", "re_formula": "1", "vc_formula": {"cask": "0 + cask"}}
    ours = smf.mixedlm("strength ~ 1", cask, **options).fit()
    theirs = sm_formula.mixedlm("strength ~ 1", cask, **options).fit()
    assert ours.llf == pytest.approx(theirs.llf, abs=1e-6)
    assert_allclose(ours.cov_re, theirs.cov_re, rtol=2e-3)
    assert_allclose(ours.vcomp, theirs.vcomp, rtol=2e-4)
    assert list(ours.random_effects) == list(theirs.random_effects)
    for level, effects in ours.random_effects.items():
        assert list(effects.index) == ["Intercept", "cask[a]", "cask[b]", "cask[c]"]
        assert_allclose(effects, theirs.random_effects[level], atol=2e-3)
        # Joint over the components: not zero between them.
        assert_allclose(ours.random_effects_cov[level], theirs.random_effects_cov[level], atol=2e-3)


def test_components_are_sorted_by_name_as_in_mixedlm(cask):
    options = {"groups": np.ones(len(cask)), "vc_formula": {"zeta": "0 + batch", "alpha": "0 + cask"}}
    ours = smf.mixedlm("strength ~ 1", cask, **options).fit()
    theirs = sm_formula.mixedlm("strength ~ 1", cask, **options).fit()
    assert_allclose(ours.vcomp, theirs.vcomp, rtol=1e-3)
    assert ours.cov_re.shape == (0, 0)
    ((level, effects),) = ours.random_effects.items()
    assert list(effects.index)[:4] == ["alpha[a]", "alpha[b]", "alpha[c]", "zeta[A]"]
    assert_allclose(effects, theirs.random_effects[level], atol=1e-3)
    assert_allclose(ours.random_effects_cov[level], theirs.random_effects_cov[level], atol=1e-3)


def test_numbers_that_follow_from_others(slopes):
    assert_allclose(slopes.tvalues, slopes.params / slopes.bse)
    assert_allclose(slopes.bse, np.sqrt(np.diag(slopes.cov_params())))
    assert slopes.deviance == -2 * slopes.llf
    count = 2 + 3 + 1  # beta, theta, sigma^2
    assert slopes.aic == slopes.aic() == -2 * slopes.llf + 2 * count
    assert slopes.bic == slopes.bic() == pytest.approx(-2 * slopes.llf + np.log(180) * count)
    assert pickle.loads(pickle.dumps(slopes.aic))() == slopes.aic
    assert_allclose(slopes.resid, slopes.model.endog - slopes.fittedvalues)
    assert slopes.model.loglike(slopes.params_packed, reml=True) == pytest.approx(slopes.llf, abs=1e-9)
    assert slopes.ngroups == {"Subject": 18}
    assert slopes.converged
    assert slopes.mle_retvals["converged"]


def test_summary_col_beside_ols(sleep, slopes):
    ols = sm_formula.ols("Reaction ~ Days", sleep).fit()
    text = str(summary_col([ols, slopes], stars=True))
    assert text.count("10.4673***") == 2
    assert "(1.5458)" in text


# -- tests of hypotheses -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def factors(school):
    return smf.mixedlm("mathach ~ ses + C(sex, Sum)*minority + sector + (1 | school)", school).fit()


def test_t_test_of_string_matrix_and_tuple(factors):
    names = list(factors.params.index)
    matrix = np.zeros((1, len(names)))
    matrix[0, names.index("ses")] = 1
    for value in (0, 2.0):
        want = (factors.params["ses"] - value) / factors.bse["ses"]
        for hypothesis in (f"ses = {value}", (matrix, np.array([value]))):
            assert_allclose(np.squeeze(factors.t_test(hypothesis).tvalue), want)
    assert_allclose(np.squeeze(factors.t_test(matrix).tvalue), factors.tvalues["ses"])
    several = factors.t_test("ses = 2*minority[T.Yes], sector[T.Catholic] = 1")
    effect = factors.params["ses"] - 2 * factors.params["minority[T.Yes]"]
    assert_allclose(several.effect, [effect, factors.params["sector[T.Catholic]"]])


def test_wald_test_of_string_matrix_tuple_and_dict(factors):
    names = list(factors.params.index)
    rows = np.eye(len(names))[[names.index("ses"), names.index("minority[T.Yes]")]]
    b = rows @ factors.params
    want = b @ np.linalg.solve(rows @ factors.cov_params() @ rows.T, b)
    for hypothesis in (
        "ses = 0, minority[T.Yes] = 0",
        rows,
        (rows, np.zeros(2)),
        {"ses": 0, "minority[T.Yes]": 0},
        {"ses": 0, "minority": 0},
    ):
        test = factors.wald_test(hypothesis, scalar=True)
        assert test.statistic == pytest.approx(want)
        assert test.df_denom == 2
    assert factors.wald_test(rows, use_f=True, scalar=True).statistic == pytest.approx(want / 2)
    assert factors.f_test(rows).statistic == pytest.approx(want / 2)
    shifted = factors.wald_test({"ses": 1.5}, scalar=True).statistic
    assert shifted == pytest.approx(((factors.params["ses"] - 1.5) / factors.bse["ses"]) ** 2)


def test_keys_of_the_dict_are_coefficients_terms_or_columns(factors):
    by_name = factors.wald_test({"C(sex, Sum)[S.Male]": 0}, scalar=True).statistic
    assert factors.wald_test({"C(sex, Sum)": 0}, scalar=True).statistic == by_name
    assert factors.wald_test({"sex": 0}, scalar=True).statistic == by_name
    interaction = factors.wald_test({"C(sex, Sum):minority": 0}, scalar=True).statistic
    assert interaction == pytest.approx(factors.tvalues["C(sex, Sum)[S.Male]:minority[T.Yes]"] ** 2)
    with pytest.raises(ValueError, match=r"'sess' is neither a coefficient nor a term.*mean 'ses'"):
        factors.wald_test({"sess": 0})


def test_wald_test_terms(factors):
    table = factors.wald_test_terms(
        scalar=True, combine_terms=["minority"], extra_constraints=[("mine", "ses = 2")]
    ).table
    assert list(table.index) == [
        "Intercept", "C(sex, Sum)", "minority", "sector", "C(sex, Sum):minority", "ses", "minority", "mine"
    ]  # fmt: skip
    assert table["statistic"].iloc[5] == pytest.approx(factors.tvalues["ses"] ** 2)
    assert table["df_constraint"].tolist() == [1, 1, 1, 1, 1, 1, 2, 1]
    assert table["statistic"].iloc[7] == factors.wald_test("ses = 2", scalar=True).statistic


def test_t_test_pairwise_as_of_ols(school):
    data = school.assign(third=pd.qcut(school["ses"], 3, labels=["low", "mid", "high"]).astype(str))
    formula = "mathach ~ C(third, Treatment('mid')) + minority"
    ols = sm_formula.ols(formula, data).fit()
    term = "C(third, Treatment('mid'))"
    theirs = ols.t_test_pairwise(term)
    mixed = smf.mixedlm(formula + " + (1 | school)", data).fit()
    ours = mixed.t_test_pairwise(term)
    assert_index_equal(ours.result_frame.index, theirs.result_frame.index)
    assert next(iter(ours.result_frame.columns)) == "coef"
    assert list(ours.result_frame.columns)[-2:] == list(theirs.result_frame.columns)[-2:]
    assert_allclose(ours.contrasts, theirs.contrasts)
    names = {"low-high": "low", "mid-high": None, "mid-low": None}
    at = {level: mixed.params.get(f"{term}[T.{level}]", 0.0) for level in ("low", "mid", "high")}
    for pair in names:
        first, second = pair.split("-")
        assert ours.result_frame.loc[pair, "coef"] == pytest.approx(at[first] - at[second])
    with pytest.raises(ValueError, match="'minority1' is no term of the formula"):
        mixed.t_test_pairwise("minority1")


# -- pickling, copying, and what remains without the data -----------------------------------------


def rich_formula(school):
    """A result of a formula with all that patsy and users bring along."""
    shift = 5

    def cubed(x):
        return (x / shift) ** 3

    return smf.mixedlm(
        "np.log(mathach + 10) ~ bs(ses, df=4) + np.log(size) + C(sex, Sum)*minority + cubed(pracad) + center(rank)"
        " + offset(np.sqrt(size) / 1000) + (standardize(ses) | C(school))",
        school,
    ).fit()


@pytest.fixture(scope="module")
def rich(school):
    return rich_formula(school)


def same(a, b, data):
    assert a.llf == b.llf
    assert_series_equal(a.params, b.params)
    assert_series_equal(a.fittedvalues, b.fittedvalues)
    new = data.iloc[5:12]
    assert_series_equal(a.predict(new), b.predict(new))
    assert_allclose(a.predict(new), a.fittedvalues.iloc[5:12])
    assert_frame_equal(a.get_prediction(new).summary_frame(), b.get_prediction(new).summary_frame())
    assert_frame_equal(a.ranef(), b.ranef())
    assert_frame_equal(a.varcorr(), b.varcorr())
    assert str(a.summary()) == str(b.summary())
    assert a.t_test("np.log(size) = 0").pvalue == b.t_test("np.log(size) = 0").pvalue


def test_pickled_results_are_the_same(rich, school):
    assert "bs(ses, df=4)[2]" in rich.params.index
    again = pickle.loads(pickle.dumps(rich))
    same(again, rich, school)
    assert again.update(". ~ . - minority").llf == pytest.approx(rich.update(". ~ . - minority").llf, abs=1e-9)
    assert again.refit(rich.model.endog).llf == pytest.approx(rich.llf, abs=1e-9)
    assert type(again) is type(rich)


def test_pickled_models_are_the_same(rich, school):
    again = pickle.loads(pickle.dumps(rich.model))
    assert_allclose(again.fit().params, rich.params, rtol=1e-10)
    same(pickle.loads(pickle.dumps(again)).fit(), again.fit(), school)


def test_pickles_are_read_in_another_process(rich, school, tmp_path):
    """Where none of the formula's functions are defined."""
    rich.save(tmp_path / "fit.pickle")
    school.iloc[5:12].to_pickle(tmp_path / "new.pickle")
    code = (
        "import json, pickle, pandas as pd\n"
        "fit = pickle.load(open('fit.pickle', 'rb'))\n"
        "print(json.dumps(fit.predict(pd.read_pickle('new.pickle')).tolist()))"
    )
    home = str(Path(sm_multilevel.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, env=dict(os.environ, PYTHONPATH=home),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert_allclose(json.loads(done.stdout), rich.predict(school.iloc[5:12]), rtol=1e-12)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_copies(rich, school, how):
    same(how(rich), rich, school)
    model = how(rich.model)
    assert_allclose(model.fit().params, rich.params, rtol=1e-10)


def test_save_and_load(rich, school):
    file = io.BytesIO()
    rich.save(file)
    file.seek(0)
    same(type(rich).load(file), rich, school)


def test_repr(slopes, sleep):
    assert repr(slopes.model) == "<MixedLM: Reaction ~ Days; groups Subject: 18>"
    assert repr(slopes) == f"<MixedLMResults: REML, converged, log-likelihood {slopes.llf:.3f}, {slopes.model!r}>"
    assert repr(slopes._results) == repr(slopes)
    x = np.ones(len(sleep))
    arrays = smm.MixedLM(sleep["Reaction"].to_numpy(), x, sleep["Subject"].to_numpy())
    assert repr(arrays) == "<MixedLM: y; groups group: 18>"


def test_what_is_left_without_the_data(school):
    whole = rich_formula(school)
    bare = rich_formula(school)
    bare.remove_data()
    again = pickle.loads(pickle.dumps(bare))
    assert len(pickle.dumps(bare)) < 0.1 * len(pickle.dumps(whole))
    new = school.iloc[5:12]
    for left in (bare, again):
        left.remove_data()  # twice is no harm
        assert_series_equal(left.params, whole.params)
        assert_series_equal(left.bse, whole.bse)
        assert_series_equal(left.predict(new), whole.predict(new))
        assert_series_equal(left.predict(new, include_random=False), whole.predict(new, include_random=False))
        ours, theirs = (r.get_prediction(new, include_random=False).summary_frame() for r in (left, whole))
        assert_frame_equal(ours, theirs)
        assert_frame_equal(left.ranef(), whole.ranef())
        assert_frame_equal(left.varcorr(), whole.varcorr())
        assert_frame_equal(left.cov_re, whole.cov_re)
        assert left.variance_components == whole.variance_components
        assert left.r_squared() == whole.r_squared()
        assert left.icc() == whole.icc()
        assert str(left.summary()) == str(whole.summary())
        assert repr(left) == repr(whole)
        assert left.wald_test({"sex": 0}, scalar=True).pvalue == whole.wald_test({"sex": 0}, scalar=True).pvalue
        assert left.update(". ~ . - minority", data=school).llf == whole.update(". ~ . - minority").llf
    for needs_data in (
        lambda: bare.fittedvalues, lambda: bare.resid, bare.predict, bare.simulate, lambda: bare.get_prediction(new),
        lambda: bare.update(". ~ 1"), lambda: bare.refit(np.arange(5.0)), bare.model.fit, lambda: bare.bootstrap(2),
        lambda: bare.model.loglike(bare.params_packed),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"remove_data\(\) has dropped"):
            needs_data()


# -- fitting again --------------------------------------------------------------------------------


def state_of(model):
    """All that a model holds, the cached cross-products left out."""
    return {k: v for k, v in vars(model).items() if k != "_cross"}


def test_fit_does_not_change_the_model(sleep):
    model = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep)
    before = copy.deepcopy(model)
    names = set(state_of(model))
    reml = model.fit()
    kept = copy.deepcopy(reml)
    ml = model.fit(reml=False, method="lbfgs", start_params=[2.0, 0.1, 0.5], use_t=True)
    model.fit(maxiter=200, method="nm")
    assert set(state_of(model)) == names
    assert_array_equal(model.endog, before.endog)
    assert_array_equal(model.exog, before.exog)
    for term, old in zip(model.random, before.random, strict=True):
        assert_array_equal(term.exog, old.exog)
        assert_array_equal(term.codes, old.codes)
    # The first result is as it was, in what it holds and in what it computes when asked.
    assert (reml.llf, reml.method, reml.use_t) == (kept.llf, "REML", False)
    assert_series_equal(reml.params, kept.params)
    assert_frame_equal(reml.cov_re, kept.cov_re)
    assert_series_equal(reml.fittedvalues, kept.fittedvalues)
    assert str(reml.summary()) == str(kept.summary())
    assert ml.llf != reml.llf
    # And a new model finds what the used one finds.
    fresh = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep)
    assert fresh.fit().llf == reml.llf == model.fit().llf


def test_refit(sleep, slopes):
    other = sleep["Reaction"] * 2 + sleep["Days"]
    again = slopes.refit(other)
    fresh = smf.mixedlm("other ~ Days", sleep.assign(other=other), groups="Subject", re_formula="~Days").fit()
    assert_allclose(again.params, fresh.params, rtol=1e-8)
    assert_allclose(again.cov_re, fresh.cov_re, rtol=1e-5)
    assert again.method == slopes.method
    assert slopes.refit(sleep["Reaction"]).llf == pytest.approx(slopes.llf, abs=1e-9)
    with pytest.raises(ValueError, match=r"shape \(3,\).*180 rows"):
        slopes.refit([1.0, 2.0, 3.0])


def test_update(sleep, slopes):
    squared = slopes.update(". ~ . + I(Days**2)")
    fresh = smf.mixedlm("Reaction ~ Days + I(Days**2)", sleep, groups="Subject", re_formula="~Days").fit()
    assert_allclose(squared.params, fresh.params)
    assert slopes.update("np.log(.) ~ .").model.endog == pytest.approx(np.log(sleep["Reaction"]).to_numpy())
    fewer = slopes.update(". ~ .", re_formula="1")
    assert fewer.cov_re.shape == (1, 1)
    half = slopes.update(". ~ .", data=sleep[sleep["Days"] < 5])
    assert half.nobs == 90
    bars = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit(reml=False).update(". ~ . - Days")
    assert list(bars.params.index) == ["Intercept"]
    assert bars.method == "ML"
    assert bars.cov_re.shape == (2, 2)
    local = 3
    assert "I(Days ** local)" in slopes.update(". ~ . + I(Days**local)").params.index
    assert local == 3


# -- predictions ------------------------------------------------------------------------------------


@pytest.fixture
def new(sleep):
    return sleep.iloc[[0, 15, 100]].reset_index(drop=True)


def test_predict_is_conditional_by_default(sleep, slopes, new):
    assert_series_equal(slopes.predict(), slopes.fittedvalues)
    assert_series_equal(slopes.predict(sleep), slopes.fittedvalues, rtol=1e-12)
    want = slopes.fittedvalues.iloc[[0, 15, 100]].reset_index(drop=True)
    assert_series_equal(slopes.predict(new), want, rtol=1e-12)
    assert_series_equal(slopes.predict(data=new), want, rtol=1e-12)
    # Rows in any order, of an index of their own.
    mixed = sleep.sample(frac=0.5, random_state=1)
    assert_series_equal(slopes.predict(mixed), slopes.fittedvalues[mixed.index], rtol=1e-12)


def test_predict_for_the_population(slopes, new):
    want = slopes.params["Intercept"] + slopes.params["Days"] * new["Days"]
    assert_allclose(slopes.predict(new, include_random=False), want)
    assert_allclose(slopes.predict(new[["Days"]], include_random=False), want)
    bare = np.column_stack([np.ones(3), new["Days"]])
    for array in (bare, bare.tolist(), tuple(map(tuple, bare))):
        got = slopes.predict(array)
        assert type(got) is np.ndarray
        assert_allclose(got, want)
    assert_allclose(slopes.predict(pd.DataFrame(bare, columns=["Intercept", "Days"]), transform=False), want)
    backwards = pd.DataFrame(bare, columns=["Intercept", "Days"])[["Days", "Intercept"]]
    assert_allclose(slopes.predict(backwards, transform=False), want)
    with pytest.raises(ValueError, match="exog has 3 columns; the fixed part has 2: Intercept, Days"):
        slopes.predict(np.ones((4, 3)))


def test_new_levels(slopes, new):
    new["Subject"] = [308, 999, 1000]
    with pytest.warns(NewLevelWarning, match="2 rows of 'Subject'") as record:
        got = slopes.predict(new)
    assert len(record) == 1
    assert record[0].filename == __file__
    population_value = slopes.predict(new, include_random=False)
    assert_allclose(got[1:], population_value[1:])
    assert got[0] != population_value[0]
    with pytest.raises(ValueError, match=r"2 rows of 'Subject'.*new_levels='zero'"):
        slopes.predict(new, new_levels="raise")
    with pytest.raises(ValueError, match="new_levels='nan' is not known"):
        slopes.predict(new, new_levels="nan")
    with pytest.warns(NewLevelWarning):
        frame = slopes.get_prediction(new).summary_frame()
    known, unknown = frame["mean_se"][0], frame["mean_se"][1:]
    assert (unknown > known).all()


def test_missing_columns_and_values(sleep, slopes, new):
    with pytest.raises(ValueError, match=r"no column 'Subject'.*include_random=False"):
        slopes.predict(new[["Days"]])
    with pytest.raises(ValueError, match="no column 'Days'"):
        slopes.predict(new[["Subject"]])
    new.loc[1, "Days"] = np.nan
    got = slopes.predict(new)
    assert np.isnan(got[1])
    assert_allclose(got[[0, 2]], slopes.fittedvalues.iloc[[0, 100]])
    factor = smf.mixedlm("Reaction ~ C(Days) + (1 | Subject)", sleep).fit()
    with pytest.raises(ValueError, match=r"C\(Days\) has the level 77"):
        factor.predict(sleep.iloc[:2].assign(Days=77))


def test_rows_as_series_and_dict(slopes, sleep):
    want = slopes.fittedvalues.iloc[7]
    got = slopes.predict(sleep.iloc[7])
    assert_allclose(got, [want])
    assert list(got.index) == [7]
    with pytest.warns(DeprecationWarning, match="Using a dict"):
        assert_allclose(slopes.predict(sleep.iloc[7].to_dict()), [want])


def test_offsets_of_new_data(sleep):
    data = sleep.assign(o=np.arange(180.0))
    for part, offset in (("+ offset(o)", None), ("", "o")):
        formula = f"Reaction ~ Days {part} + (1 | Subject)"
        result = smf.mixedlm(formula, data, offset=offset).fit()
        assert_allclose(result.predict(data.iloc[3:6]), result.fittedvalues.iloc[3:6])
        with pytest.raises(ValueError, match="'o'"):
            result.predict(data[["Days", "Subject"]])


def test_prediction_intervals(slopes, sleep):
    frame = slopes.get_prediction().summary_frame(alpha=0.1)
    columns = ["mean", "mean_se", "mean_ci_lower", "mean_ci_upper", "obs_ci_lower", "obs_ci_upper"]
    assert list(frame.columns) == columns
    assert_index_equal(frame.index, sleep.index)
    assert_allclose(frame["mean"], slopes.fittedvalues)
    half = 1.6448536269514722
    assert_allclose(frame["mean_ci_upper"] - frame["mean"], half * frame["mean_se"])
    spread = np.sqrt(frame["mean_se"] ** 2 + slopes.scale)
    assert_allclose(frame["obs_ci_upper"] - frame["mean"], half * spread)
    # The population's mean is known better than a new subject's response.
    whole = slopes.get_prediction(sleep.iloc[:3], include_random=False).summary_frame(alpha=0.1)
    x = np.column_stack([np.ones(3), sleep["Days"].iloc[:3]])
    variance = np.einsum("ni,ij,nj->n", x, slopes.cov_params(), x)
    assert_allclose(whole["mean_se"], np.sqrt(variance))
    between = np.einsum("ni,ij,nj->n", x, slopes.cov_re, x)
    assert_allclose(whole["obs_ci_upper"] - whole["mean"], half * np.sqrt(variance + between + slopes.scale))
    assert_allclose(slopes.get_prediction().predicted_mean, slopes.fittedvalues)


def test_prediction_intervals_without_variance_are_those_of_ols(sleep):
    rng = np.random.default_rng(8)
    data = sleep.assign(y=sleep["Days"] + rng.normal(size=180), g=np.arange(180) % 6)
    mixed = smf.mixedlm("y ~ Days + (1 | g)", data).fit(use_t=True)
    assert mixed.is_singular
    ols = sm_formula.ols("y ~ Days", data).fit()
    ours, theirs = (r.get_prediction(data.iloc[:9]).summary_frame(alpha=0.2) for r in (mixed, ols))
    assert_frame_equal(ours, theirs, rtol=1e-9)


# -- bootstrap ----------------------------------------------------------------------------------------


def test_bootstrap_is_parametric_and_reproducible(sleep):
    result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit()
    first, second = (result.bootstrap(200, seed=3) for _ in range(2))
    assert_frame_equal(first.estimates, second.estimates)
    assert not result.bootstrap(5, seed=4).estimates.equals(first.estimates.iloc[:5])
    assert first.failed == 0
    names = ["Intercept", "Days", "var(Intercept)", "var(Residual)", "sd(Intercept)", "sd(Residual)"]
    assert list(first.estimates.columns) == names
    variances = [result.cov_re.iloc[0, 0], result.scale]
    assert_allclose(first.observed, [*result.params, *variances, *np.sqrt(variances)])
    # Of 200 replicates a standard error is known to about 5 %. Resampled rows would not keep the groups.
    assert_allclose(first.bse[:2], result.bse, rtol=0.15)
    assert_allclose(first.estimates.mean()[["var(Intercept)", "var(Residual)"]], first.observed[2:4], rtol=0.1)
    interval = first.conf_int(alpha=0.5)
    assert ((interval["lower"] < first.observed) & (first.observed < interval["upper"])).all()
    own = result.bootstrap(3, seed=1, statistic=lambda r: np.array([r.icc()["Subject"]]))
    assert own.estimates.shape == (3, 1)
    assert ((own.estimates > 0) & (own.estimates < 1)).all(axis=None)


def test_simulate_draws_from_the_model(sleep):
    result = smf.mixedlm("Reaction ~ Days + (1 | Subject)", sleep).fit()
    draws = result.simulate(400, seed=2)
    assert draws.shape == (400, 180)
    assert_array_equal(draws, result.simulate(400, seed=2))
    assert_allclose(draws.mean(axis=0), result.predict(include_random=False), atol=12)
    total = result.cov_re.iloc[0, 0] + result.scale
    assert_allclose(draws.var(axis=0).mean(), total, rtol=0.1)
    first = draws[:, :10] - draws[:, :10].mean(axis=0)
    assert_allclose((first[:, 0] * first[:, 5]).mean(), result.cov_re.iloc[0, 0], rtol=0.25)


def test_no_warning_on_the_way(sleep):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = smf.mixedlm("Reaction ~ Days + (Days | Subject)", sleep).fit()
        result.summary()
        result.summary2()
        result.predict(sleep)
        result.wald_test_terms()
        result.wald_test("Days = 0")
        result.get_prediction(sleep).summary_frame()
