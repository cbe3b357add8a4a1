"""Predictions, their intervals, residuals and simulated responses."""
