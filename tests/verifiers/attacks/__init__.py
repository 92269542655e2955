"""Attacks on the sandbox: programs and tests that were written to get out, to win without computing, or to do harm."""
