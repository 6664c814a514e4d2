"""What tensors hold: fingerprints of the contents of both sides, which settle what names and shapes leave open."""
