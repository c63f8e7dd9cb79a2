"""The decoder on a CPU with AVX-512 or AVX2: weights packed once, a whole step in one call of C++ (see `native/`)."""
