"""Refits, the bootstrap and what is drawn for it."""
