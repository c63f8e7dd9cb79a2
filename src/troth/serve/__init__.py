"""Weights to tokens: the engine, which knows no web, and the API over it, which knows no tensors."""
