"""Integrate: the curated corpus, and the ledger that explains it."""
