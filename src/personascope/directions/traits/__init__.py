"""Trait vectors: contrasts of responses that should show a trait with responses that should not, and their worth."""
