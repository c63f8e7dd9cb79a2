"""Verifiers: each reads claims with their evidence and says what it thinks, or nothing."""
