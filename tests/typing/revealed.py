"""The types that a checker sees; nothing here is run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from typing_extensions import assert_type

import sm_multilevel.api as smm
import sm_multilevel.formula.api as smf
from sm_multilevel import sp
from sm_multilevel.datasets import sleepstudy
from sm_multilevel.models.generalized import MENegBin, MEOLogit, MixedGLM
from sm_multilevel.models.linear import MixedLM
from sm_multilevel.postestimation.comparison.compare import LRTestResult
from sm_multilevel.postestimation.prediction.predict import Prediction
from sm_multilevel.postestimation.profiling.profile import ProfileResults
from sm_multilevel.postestimation.resampling.bootstrap import BootstrapResults
from sm_multilevel.statsmodels_results.generalized import MixedGLMResults
from sm_multilevel.statsmodels_results.linear import MixedLMResults

df = sleepstudy.load_pandas().data
assert_type(df, pd.DataFrame)

linear = smf.mixedlm("y ~ x + (x | g)", df)
assert_type(linear, MixedLM)
assert_type(smf.mixed("y ~ x + (x | g)", df), MixedLM)
assert_type(smm.MixedLM.from_formula("y ~ x + (x | g)", df), MixedLM)
assert_type(smf.meglm("y ~ x + (x | g)", df), MixedGLM)
assert_type(smf.melogit("y ~ x + (x | g)", df, n_trials="size"), MixedGLM)
assert_type(smf.meprobit("y ~ x + (x | g)", df), MixedGLM)
assert_type(smf.mecloglog("y ~ x + (x | g)", df), MixedGLM)
assert_type(smf.mepoisson("y ~ x + (x | g)", df), MixedGLM)
assert_type(smf.megamma("y ~ x + (x | g)", df), MixedGLM)
assert_type(smf.menbreg("y ~ x + (x | g)", df), MENegBin)
assert_type(smf.meologit("y ~ x + (x | g)", df), MEOLogit)
assert_type(smf.meoprobit("y ~ x + (x | g)", df), MEOLogit)

res = linear.fit(df="satterthwaite")
assert_type(res, MixedLMResults)
assert_type(smf.melogit("y ~ x + (x | g)", df).fit(nAGQ=7), MixedGLMResults)
assert_type(smf.meologit("y ~ x + (x | g)", df).fit(), MixedGLMResults)
assert_type(sp.mixed(df, y="y", x=["x"], group="g"), MixedLMResults)
assert_type(sp.melogit(df, y="y", x=["x"], group="g"), MixedGLMResults)
assert_type(sp.icc(res), sp.ICCResult)

assert_type(res.params, pd.Series)
assert_type(res.bse, pd.Series)
assert_type(res.pvalues, pd.Series)
assert_type(res.llf, float)
assert_type(res.scale, float)
assert_type(res.converged, bool)
assert_type(res.ngroups, dict[str, int])
assert_type(res.theta, np.ndarray)
assert_type(res.varcorr(), pd.DataFrame)
assert_type(res.conf_int(method="profile"), pd.DataFrame)
assert_type(res.icc(), dict[str, float])
assert_type(res.r_squared(), dict[str, float])
assert_type(res.fittedvalues, pd.Series)
assert_type(res.predict(df), pd.Series)
assert_type(res.predict(np.eye(2)), np.ndarray)
assert_type(res.get_prediction(df), Prediction)
assert_type(res.get_prediction(df).summary_frame(), pd.DataFrame)
assert_type(res.profile(), ProfileResults)
assert_type(res.bootstrap(100, seed=1), BootstrapResults)
assert_type(res.with_df("kenward-roger"), MixedLMResults)
assert_type(res.get_robustcov_results("CR2"), MixedLMResults)
assert_type(res.update(". ~ . + z"), MixedLMResults)
assert_type(res.to_markdown(), str)
assert_type(smm.lrtest(res, res), LRTestResult)
assert_type(smm.lrtest(res, res).p_value, float)
assert_type(smm.anova(res, res), pd.DataFrame)
