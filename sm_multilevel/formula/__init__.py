"""Formulas: reading their text (`terms`) and the functions users call (`api`)."""
