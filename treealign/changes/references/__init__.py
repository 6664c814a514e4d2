"""Places in files that name a part of the old tree: found, resolved as their reader resolves them, and judged."""
