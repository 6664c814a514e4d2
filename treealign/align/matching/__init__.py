"""Which pattern goes to which, by names, roles, structure and shapes."""
