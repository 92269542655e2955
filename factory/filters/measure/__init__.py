"""Compiled measurements of reasoning responses: length, paragraphs, code, repetition, structure."""
