"""Linear algebra of random effects: block layout, blocked Cholesky, batches of small matrices."""
