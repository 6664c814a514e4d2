"""What stays open: the evidence in words, the questions, the choices that a probe tries."""
