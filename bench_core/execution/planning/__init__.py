"""The plan of a suite: its cells, their identities, floors, and the runs that can be reused."""
