"""What other programs export: names, shapes and dtypes as far as headers tell, and where the numbers lie."""
