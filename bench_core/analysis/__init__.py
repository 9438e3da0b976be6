"""Say what results mean: pure functions of records."""
