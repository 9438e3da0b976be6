"""The reference: results of the shipped suites in compact form, read by `bench`.

README.md says what is frozen and how it is cited, `bench_core.results.reference` how it is read,
`bench_reference.add` how finished cells come in.
"""
