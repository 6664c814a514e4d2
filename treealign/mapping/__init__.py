"""What to do: operations, transforms, conversion mappings, laws, record."""
