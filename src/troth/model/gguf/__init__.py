"""Model folders as GGUF files, which llama.cpp and what stands on it run (ggml's docs/gguf.md has the format)."""
