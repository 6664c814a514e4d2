"""Mistakes that a type checker has to see: each line that ends in a comment, and no other."""

import treealign

tree = treealign.read_tree(3).nothing  # no such attribute
number = treealign.suggest("a", "b").match  # no such attribute
treealign.suggestion("a", "b")  # no such function
treealign.load("a.safetensors", "b")  # the model is no module
treealign.load(model=4, checkpoint="b")  # the model is no module
count: int = treealign.suggest("a", "b").mapping  # a mapping is no number
treealign.PrefixChange(adds="model")  # no such argument
treealign.ConversionMapping().map_keys(7)  # no keys
