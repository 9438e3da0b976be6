"""Define how suites, components and diagnostics may be named."""

NAME = r"[a-z0-9]([a-z0-9_.-]{0,62}[a-z0-9])?"
FULL_NAME = f"({NAME}/)?{NAME}"  # with the distribution, if two of them bring the name
NAME_RULE = "1 to 64 of a-z, 0-9, _ . - with a letter or digit at both ends"
OURS = "bench-core"  # our distribution, which brings the built-in components
FILE = ".py"  # a rule from a file has the file's name where others have a distribution
CEILING = "bp"
LOCAL_CEILING = "bp_local_heads"  # of rules whose passport has local_heads, beside bp
GROUP = "bench_core.plugins"  # of the entry points of plugins
FROZEN = "frozen"  # the short form of the option freeze=blocks, as tables write it
