"""Train a network by a learning rule.

Every module here decides numbers, and is part of the identity of a cell. Code that decides no
number belongs outside of this package.
"""

# raise it with every change of loop, optimiser, clipping or streams that moves numbers
NUMERICS = 1
