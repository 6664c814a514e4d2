"""Adapters of PEFT: a load, save or conversion of one concerns its own keys, and its config goes with them."""
