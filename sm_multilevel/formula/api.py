"""The formula functions: ``import sm_multilevel.formula.api as smf``."""

from sm_multilevel.models import MixedLM

# Bound classmethods, not wrappers: a `def` would add a frame, and local variables in
# formulas would not be found.
mixedlm = MixedLM.from_formula
mixed = MixedLM.from_formula

__all__ = ["mixed", "mixedlm"]
