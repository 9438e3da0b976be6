"""Find, import and check the installed plugins."""
