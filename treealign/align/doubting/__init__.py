"""What takes certainty away: changes and places that neither names nor shapes can show."""
