"""Name the units of memory."""

MIB = 1 << 20  # bytes
