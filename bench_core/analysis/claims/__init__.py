"""Hold published figures against results."""
