"""Checkpoints on other machines: headers, indexes and pickles are fetched in ranges, weights never are."""
