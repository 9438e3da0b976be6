"""The process that trains and measures one cell."""
