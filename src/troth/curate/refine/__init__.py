"""Refine: the smallest edit that mends a sentence, checked again by another verifier; the original stays on record."""
