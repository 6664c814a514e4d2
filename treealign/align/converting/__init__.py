"""What renames leave over: parts and wholes, other layouts, quantised and normalised weights."""
