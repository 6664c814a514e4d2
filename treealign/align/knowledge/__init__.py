"""What is known of libraries, as data with its sources: how each lays out what shapes cannot show."""
