"""Objective functions: value, exact gradient, solution. They see arrays, never frames."""
