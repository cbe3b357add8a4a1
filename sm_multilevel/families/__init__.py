"""Conditional distributions of the response: log f(y | eta, psi) with its derivatives."""
