"""Judge runs, and rules over their seeds."""
