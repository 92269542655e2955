"""Which language every word of a text is in: the compiled measure behind filter.language (see `measure`)."""
