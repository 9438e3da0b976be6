"""Complete plugin packages, which `bench new` copies: `bench-drtp` is a learning rule, and
`parts` holds what another kind of component puts in the place of some of its files."""
