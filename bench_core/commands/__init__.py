"""Commands of `bench`, a module per subject, registered in `bench_core.cli`.

A command module imports click, this package and `bench_core.errors` at its top and everything else when it is called:
`bench --help` loads all of them.
"""
