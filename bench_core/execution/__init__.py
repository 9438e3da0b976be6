"""Decide which cell runs where, and run it."""
