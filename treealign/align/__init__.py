"""What corresponds to what; no torch."""
