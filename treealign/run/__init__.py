"""Execute modules with real numbers: proof by equal outputs, what a run settles, runs recorded elsewhere, probes."""
