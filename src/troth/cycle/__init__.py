"""Generations: train, let the model judge its data, curate, train again, compare."""
