"""Complete plugin packages that `bench new` copies.

`bench-drtp` is a learning rule; `parts` holds the files that another kind of component replaces.
"""
