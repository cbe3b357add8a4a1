"""Multilevel (mixed-effects) models for statsmodels.

>>> import sm_multilevel.formula.api as smf
>>> import sm_multilevel.api as smm
"""

__version__ = "0.1.0.dev0"
