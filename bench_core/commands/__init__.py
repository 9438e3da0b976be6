"""Commands of `bench`, a module per subject, listed in `bench_core.cli`.

A command module imports at its top only what is quick to import, and everything else when it is
called, because `bench --help` imports all of them.
"""
