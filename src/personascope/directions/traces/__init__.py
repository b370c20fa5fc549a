"""Figures and pages of traces: what the tokens of a conversation project on directions."""
