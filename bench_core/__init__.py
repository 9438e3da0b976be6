"""bench: an audit of learning rules that replace or approximate backpropagation."""

__version__ = "0.1.0"
