"""Read a suite file."""
