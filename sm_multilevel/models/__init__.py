"""Models: subclasses of statsmodels' `LikelihoodModel`."""
