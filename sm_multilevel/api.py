"""Classes and functions for arrays: ``import sm_multilevel.api as smm``."""

from sm_multilevel.models.generalized import MENegBin, MEOLogit, MixedGLM
from sm_multilevel.models.linear import MixedLM
from sm_multilevel.postestimation.comparison.anova import anova
from sm_multilevel.postestimation.comparison.compare import LRTestResult, lrtest
from sm_multilevel.postestimation.description.intervals import icc
from sm_multilevel.postestimation.description.tidy import augment, glance, tidy
from sm_multilevel.postestimation.prediction.predict import NewLevelWarning

__all__ = [
    "LRTestResult",
    "MENegBin",
    "MEOLogit",
    "MixedGLM",
    "MixedLM",
    "NewLevelWarning",
    "anova",
    "augment",
    "glance",
    "icc",
    "lrtest",
    "tidy",
]
