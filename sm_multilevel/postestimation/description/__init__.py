"""What a fit says of itself: intraclass correlations, R-squared, ratios, tidy frames."""
