"""Duplicates over a whole corpus at flat memory: exact ones, near ones, and sentences that many documents share."""
