"""What the values of tensors prove, where they may be read."""
