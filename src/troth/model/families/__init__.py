"""One small file a family: how its Hugging Face folder maps to the decoder, both ways."""
