"""Near-duplicate search over columns of text: compiled kernels, and the pieces that put them together."""
