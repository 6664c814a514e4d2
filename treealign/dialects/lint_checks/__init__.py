"""What the lint checks in an entry of transformers' registry, one matter to a module."""
