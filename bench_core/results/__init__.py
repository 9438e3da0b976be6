"""Keep records of runs on disk, and read them."""
