"""From formulas, frames and arrays to a frozen design."""
