"""Tests for contest problems: inputs that model-written programs print, and which of them to keep."""
