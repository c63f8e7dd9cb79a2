"""Filters: what of each collected document is worth keeping, and a decision for all that goes or changes."""
