"""Tensors: execute operations, load, save."""
