"""From a finished alignment to the minimal conversion mapping."""
