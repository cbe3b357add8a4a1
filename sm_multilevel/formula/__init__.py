"""``import sm_multilevel.formula.api as smf``: the functions that take formulas."""
