"""Merge, verify and replicate the results of several people."""
