"""Wald's tests, and the degrees of freedom of t and F."""
