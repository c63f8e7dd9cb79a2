"""Validate: claims from sentences, evidence from other publishers, verdicts calibrated on planted errors."""
