"""Classes and functions for arrays: ``import sm_multilevel.api as smm``."""

from sm_multilevel.models import MixedLM
from sm_multilevel.models_glm import MENegBin, MEOLogit, MixedGLM
from sm_multilevel.postestimation.intervals import icc

__all__ = ["MENegBin", "MEOLogit", "MixedGLM", "MixedLM", "icc"]
