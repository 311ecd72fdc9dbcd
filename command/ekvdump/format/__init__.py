"""Single values of the format: pure functions from bytes to values and back, one module per chapter."""
