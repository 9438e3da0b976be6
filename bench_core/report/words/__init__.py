"""Say verdicts in words."""
