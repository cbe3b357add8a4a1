"""Tools that work on a fitted model: one tool, one file."""
