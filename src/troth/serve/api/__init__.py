"""The OpenAI-compatible web API over an engine thread: schema, chat template, routes. No tensors here."""
