"""statsmodels' contract for the generalised models: its own generic test classes on our results."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.tools._testing as shipped
from numpy.testing import assert_allclose
from scipy import stats
from statsmodels.base.tests.test_generic_methods import CheckGenericMixin
from statsmodels.base.tests.test_predict import CheckPredictReturns
from statsmodels.base.tests.test_shrink_pickle import RemoveDataPickle
from statsmodels.iolib.summary2 import summary_col
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.tools.sm_exceptions import ValueWarning

import sm_multilevel.api as smm
from sm_multilevel.postestimation.prediction.predict import NewLevelWarning

CLASSES = {
    "poisson": (smm.MixedGLM, {"family": "poisson"}),
    "binomial": (smm.MixedGLM, {"family": "binomial"}),
    "gamma": (smm.MixedGLM, {"family": "gamma", "link": "log"}),
    "nb2": (smm.MENegBin, {}),
    "ordinal": (smm.MEOLogit, {}),
}


def grouped(kind, x, seed=987689, size=20):
    """A response with random intercepts, and its groups."""
    rng = np.random.default_rng(seed)
    groups = np.arange(len(x)) // size
    eta = 0.4 * x.sum(axis=1) + rng.normal(size=groups.max() + 1)[groups]
    y = {
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "binomial": lambda: rng.random(len(x)) < stats.logistic.cdf(eta),
        "gamma": lambda: rng.gamma(3.0, np.exp(eta) / 3.0),
        "nb2": lambda: rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, len(x))),
        "ordinal": lambda: np.searchsorted([-1.0, 1.0], eta + rng.logistic(size=len(x))),
    }[kind]()
    return np.asarray(y, dtype=float), groups


def population(results):
    """A result's population values under the names that statsmodels' checks look at."""

    def predict(exog=None, **kwargs):
        return results.predict(exog, include_random=False, which="mean", **kwargs)

    return SimpleNamespace(model=results.model, fittedvalues=predict(), predict=predict)


class TestGenericPoisson(CheckGenericMixin):
    kind = "poisson"

    def setup_method(self):
        if hasattr(super(), "setup_method"):  # statsmodels 0.15
            super().setup_method()
        cls, options = CLASSES[self.kind]
        if self.kind == "ordinal":  # thresholds take the constant's place
            self.exog = self.exog[:, 1:]
        y, groups = grouped(self.kind, self.exog)
        self.results = cls(y, self.exog, groups, **options).fit()
        assert self.results.cov_re.iloc[0, 0] > 0.1

    def test_predict_types(self):
        # As for the linear model: bare arrays have no groups, so they get the population value.
        assert np.abs(self.results.fittedvalues - population(self.results).fittedvalues).max() > 0.1
        shipped.check_predict_types(population(self.results))

    def test_zero_collinear(self):
        # As for the linear model: collinear columns are dropped with a warning when the model is made, and there is
        # no cov_type="HC0".
        model = self.results.model
        twice = np.column_stack([model.exog, model.exog])
        with pytest.warns(ValueWarning, match="dropped x"):
            collinear = type(model)(model.endog, twice, **model._get_init_kwds())
        again = collinear.fit()
        for name in ("params", "bse", "tvalues", "pvalues", "resid", "llf", "scale"):
            assert_allclose(getattr(again, name), getattr(self.results, name), rtol=1e-9, atol=1e-12)
        assert_allclose(again.predict(twice[:5]), self.results.predict(model.exog[:5]), rtol=1e-10)
        with pytest.raises(ValueError, match="cov_type='HC0'"):
            collinear.fit(cov_type="HC0")


class TestGenericBinomial(TestGenericPoisson):
    kind = "binomial"


class TestGenericOrdinal(TestGenericPoisson):
    kind = "ordinal"

    def test_fitted(self):
        # predict() gives probabilities; the fitted values are the means of the categories' numbers.
        res = self.results
        assert_allclose(res.model.endog - res.fittedvalues, res.resid, rtol=1e-12)
        assert_allclose(res.fittedvalues, res.predict(which="mean"), rtol=1e-12)
        assert_allclose(res.fittedvalues, res.predict() @ np.arange(3), rtol=1e-12)


class TestGenericNegBin(TestGenericPoisson):
    kind = "nb2"

    def test_ttest_tvalues(self):
        # As shipped this wants the p-value and the interval of alpha to be those of a t-test: but zero is its
        # boundary, and its interval is made on the logarithm's scale. Everything else holds.
        res, p = self.results, self.results.model.k_fixed
        both = res.t_test(np.eye(p + 1))
        assert_allclose(both.effect, res.params, rtol=1e-12)
        assert_allclose(both.sd, res.bse, rtol=1e-10)
        assert_allclose(both.tvalue, res.tvalues, rtol=1e-10)
        assert_allclose(both.pvalue[:p], np.asarray(res.pvalues)[:p], rtol=5e-10)
        assert_allclose(both.conf_int()[:p], np.asarray(res.conf_int())[:p], rtol=1e-10)
        assert np.isnan(np.asarray(res.pvalues)[p])
        low, high = np.asarray(res.conf_int())[p]
        assert 0 < low < np.asarray(res.params)[p] < high

    def test_ftest_pvalues(self):
        res = self.results
        for k in range(res.model.k_fixed):
            test = res.wald_test(np.eye(len(res.params))[k], use_f=False, scalar=True)
            assert_allclose(test.pvalue, np.asarray(res.pvalues)[k], rtol=5e-10, atol=1e-25)
        assert "P>|z|" in str(res.summary())


class TestGenericGamma(TestGenericNegBin):
    kind = "gamma"


class TestRemoveDataPoisson(RemoveDataPickle):
    kind = "poisson"

    def setup_method(self):
        if hasattr(super(), "setup_method"):
            super().setup_method()
        self.model_class, self.model_kwargs = CLASSES[self.kind]
        if self.kind == "ordinal":
            self.exog, self.xf = self.exog[:, 1:], self.xf[:, 1:]
        y, groups = grouped(self.kind, self.exog)
        self.model_args = (y, self.exog, groups)
        self.results = self.model_class(*self.model_args, **self.model_kwargs).fit()


class TestRemoveDataBinomial(TestRemoveDataPoisson):
    kind = "binomial"


class TestRemoveDataOrdinal(TestRemoveDataPoisson):
    kind = "ordinal"


class TestRemoveDataNegBin(TestRemoveDataPoisson):
    kind = "nb2"


class TestRemoveDataPoissonFormula(RemoveDataPickle):
    kind = "poisson"

    def setup_method(self):
        if hasattr(super(), "setup_method"):
            super().setup_method()
        y, groups = grouped(self.kind, self.exog)
        self.data = pd.DataFrame(self.exog[:, 1:], columns=["a", "b", "c"]).assign(y=y, g=groups, size=2.0)
        self.xf = pd.DataFrame(0.25 * np.ones((2, 4)), columns=["a", "b", "c", "g"]).assign(g=[3, 7], size=1.5)
        self.model_class, options = CLASSES[self.kind]
        self.options = dict(options, offset="size") if self.kind == "nb2" else options
        self.results = self.estimate_model()

    def estimate_model(self):
        return self.model_class.from_formula("y ~ a + b + c + (a | g)", self.data, **self.options).fit()


class TestRemoveDataNegBinFormula(TestRemoveDataPoissonFormula):
    kind = "nb2"


class TestRemoveDataOrdinalFormula(TestRemoveDataPoissonFormula):
    kind = "ordinal"


class TestPredictPoisson(CheckPredictReturns):
    kind = "poisson"

    @classmethod
    def setup_class(cls):
        rng = np.random.default_rng(987128)
        x = rng.normal(size=(60, 3))
        g = np.repeat(np.arange(4.0), 15)
        y, _ = grouped(cls.kind, x, seed=3, size=15)
        data = np.column_stack([y, np.round(x, 4), g])
        index = [f"obs{i:02d}" for i in range(60)]
        cls.data = pd.DataFrame(data, columns=["y", "var1", "var2", "var3", "g"], index=index)
        model, options = CLASSES[cls.kind]
        cls.res = model.from_formula("y ~ var1 + var2 + (1 | g)", cls.data, **options).fit()
        assert cls.res.cov_re.iloc[0, 0] > 0.02

    def test_1d(self):
        # As shipped this wants the mean of the fitted values at the mean of the data, which only a linear model has;
        # and the mean of all rows belongs to no group, which is said.
        res, data = self.res, self.data
        one = res.predict(data.iloc[:1])
        pd.testing.assert_index_equal(one.index, data.iloc[:1].index)
        assert_allclose(one, np.asarray(res.fittedvalues)[0], rtol=1e-13)
        mean = data.mean()
        want = res.predict(mean.to_frame().T, include_random=False)
        got = []
        for row in (mean.to_frame().T, mean):
            with pytest.warns(NewLevelWarning, match="1 rows of 'g'"):
                got.append(res.predict(row))
        with warnings.catch_warnings(record=True) as caught:  # statsmodels 0.15 has one more, of dicts
            warnings.simplefilter("always")
            got.append(res.predict(mean.to_dict()))
        assert any(issubclass(w.category, NewLevelWarning) for w in caught)
        for pred in got:
            assert list(pred.index) == [0]
            assert_allclose(pred, want, rtol=1e-13)

    def without_formula(self):
        """Bare columns of the fixed part have no group."""
        conditional, self.res = self.res, population(self.res)
        try:
            getattr(super(), "test_without_formula", getattr(super(), "test_nopatsy", None))()
            with pytest.raises(ValueError, match=r"no column 'g'.*include_random=False"):
                conditional.predict(self.data[["var1", "var2"]])
        finally:
            self.res = conditional

    test_without_formula = without_formula
    if hasattr(CheckPredictReturns, "test_nopatsy"):  # its name in statsmodels 0.14
        test_without_formula = None
        test_nopatsy = without_formula


class TestPredictBinomial(TestPredictPoisson):
    kind = "binomial"


class TestPredictNegBin(TestPredictPoisson):
    kind = "nb2"


# -- the same words as statsmodels' own models, at zero variance ----------------------------------


@pytest.fixture(scope="module")
def flat():
    """Groups that are all alike."""
    rng = np.random.default_rng(4)
    x = np.tile(rng.normal(size=20), 15)
    count = np.tile(rng.poisson(np.exp(0.5 + 0.5 * x[:20]) * rng.gamma(2.0, 0.5, 20)), 15)
    grade = np.tile(np.searchsorted([-0.5, 0.8], x[:20] + rng.logistic(size=20)), 15)
    return pd.DataFrame({"x": x, "count": count, "grade": grade, "g": np.repeat(np.arange(15), 20)})


def test_predict_of_glm(flat):
    ours = smm.MixedGLM.from_formula("count ~ x + (1 | g)", flat, family="poisson").fit()
    theirs = sm.GLM.from_formula("count ~ x", flat, family=sm.families.Poisson()).fit(tol=1e-13)
    assert ours.is_singular
    new = pd.DataFrame({"x": [0.0, 1.0, -1.0], "g": [0, 1, 2]})
    for which in ("mean", "linear"):
        a, b = (r.get_prediction(new, which=which).summary_frame() for r in (ours, theirs))
        assert_allclose(ours.predict(new, which=which), theirs.predict(new, which=which), rtol=1e-6)
        assert_allclose(a.iloc[:, :4], b, rtol=1e-5)
    assert_allclose(ours.predict(new, which="var"), theirs.predict(new, which="var_unscaled"), rtol=1e-6)


def test_predict_of_negative_binomial(flat):
    ours = smm.MENegBin.from_formula("count ~ x + (1 | g)", flat).fit()
    theirs = sm.NegativeBinomial.from_formula("count ~ x", flat).fit(disp=0, maxiter=500, gtol=1e-9)
    assert list(ours.params.index) == list(theirs.params.index)
    for name in ("params", "bse", "tvalues", "llf", "aic", "bic"):
        # statsmodels counts alpha too; the variance is a parameter more of ours.
        extra = {"aic": 2.0, "bic": np.log(len(flat))}.get(name, 0.0)
        assert_allclose(getattr(ours, name), np.asarray(getattr(theirs, name)) + extra, rtol=1e-4)
    for which in ("mean", "linear", "var"):
        assert_allclose(ours.predict(flat, which=which), theirs.predict(flat, which=which), rtol=1e-5)


def test_predict_of_ordered_model(flat):
    ours = smm.MEOLogit.from_formula("grade ~ x + (1 | g)", flat).fit()
    endog = pd.Series(pd.Categorical(flat["grade"], ordered=True))
    theirs = OrderedModel(endog, flat[["x"]], distr="logit").fit(method="newton", disp=0, maxiter=100)
    assert ours.llf == pytest.approx(theirs.llf, abs=1e-7)
    assert_allclose(ours.predict(flat, which="prob"), theirs.predict(which="prob"), rtol=1e-5)
    assert_allclose(ours.params["x"], theirs.params["x"], rtol=1e-5)
    assert_allclose(ours.bse["x"], theirs.bse["x"], rtol=1e-4)


def test_summary_col(flat):
    a = smm.MixedGLM.from_formula("count ~ x + (1 | g)", flat, family="poisson").fit()
    b = smm.MENegBin.from_formula("count ~ x + (1 | g)", flat).fit()
    text = str(summary_col([a, b], stars=True))
    assert "alpha" in text
    assert f"{a.params['x']:.4f}" in text
