"""Results: subclasses of statsmodels' `LikelihoodModelResults`, whose methods are lines that call the tools."""
