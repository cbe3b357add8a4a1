"""Classes and functions for arrays: ``import sm_multilevel.api as smm``."""

from sm_multilevel.models import MixedLM

__all__ = ["MixedLM"]
