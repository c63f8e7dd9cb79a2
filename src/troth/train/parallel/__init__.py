"""One network on many ranks: which ranks there are, the mesh they form, and how it is laid over the network."""
