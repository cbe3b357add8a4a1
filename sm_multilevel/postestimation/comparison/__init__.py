"""Likelihood ratio tests: nesting, boundaries, tables."""
