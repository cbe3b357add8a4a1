"""Results as text: records in, tables out; no numerics."""
