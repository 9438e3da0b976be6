"""`bench tune`: trials of drawn values, rule by rule, and the training of the winners."""
