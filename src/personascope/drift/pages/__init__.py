"""Figures and pages of drift, drawn from its tables."""
