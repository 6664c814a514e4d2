"""What changed between two versions of a module tree, what it breaks, and the repair."""
