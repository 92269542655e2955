"""Text as bytes and offsets: Arrow buffers, character tables, and the compiled scan that all text filters share."""
