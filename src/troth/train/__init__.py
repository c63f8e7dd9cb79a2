"""Corpus to weights: token shards, batches, optimisers, checkpoints and the loop that joins them."""
