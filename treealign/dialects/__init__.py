"""Out to other loaders and in from them: what a conversion mapping is called elsewhere."""
