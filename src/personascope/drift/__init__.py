"""Drift: when a conversation leaves the assistant, which features explain it, and where in the text."""
