"""The random part of a fit: its solution, predicted effects, variances and covariances as functions of theta."""
