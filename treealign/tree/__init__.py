"""What there is: keys, patterns, folded trees."""
