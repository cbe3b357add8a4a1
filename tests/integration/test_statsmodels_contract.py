"""statsmodels' contract: its own generic test classes on our results, and what its users rely on."""

import copy
import inspect
import io
import pickle
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as sm_formula
import statsmodels.tools._testing as shipped
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal
from statsmodels.base.tests.test_generic_methods import CheckAnovaMixin, CheckGenericMixin
from statsmodels.base.tests.test_predict import CheckPredictReturns
from statsmodels.base.tests.test_shrink_pickle import RemoveDataPickle
from statsmodels.iolib.summary2 import summary_col
from statsmodels.tools.sm_exceptions import ValueWarning

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel.datasets import mathachieve, pastes, sleepstudy
from sm_multilevel.postestimation.predict import NewLevelWarning


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
        cls.data = pd.DataFrame(data, columns=["y", "var1", "var2", "var3", "g"], index=[f"obs{i:02d}" for i in range(40)])
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
            with pytest.raises(ValueError, match="no column 'g'.*include_random=False"):
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
