"""Classes and functions for arrays: ``import sm_multilevel.api as smm``."""

from sm_multilevel.models import MixedLM
from sm_multilevel.models_glm import MENegBin, MEOLogit, MixedGLM
from sm_multilevel.postestimation.anova import anova
from sm_multilevel.postestimation.compare import LRTestResult, lrtest
from sm_multilevel.postestimation.intervals import icc
from sm_multilevel.postestimation.tidy import augment, glance, tidy

__all__ = [
    "LRTestResult",
    "MENegBin",
    "MEOLogit",
    "MixedGLM",
    "MixedLM",
    "anova",
    "augment",
    "glance",
    "icc",
    "lrtest",
    "tidy",
]
