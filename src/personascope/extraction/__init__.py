"""Activations out: features and residuals of responses and conversations."""
