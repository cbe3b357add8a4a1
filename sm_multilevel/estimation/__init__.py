"""Estimation: minimise an objective and check, apart from the optimiser, that it is a minimum."""
