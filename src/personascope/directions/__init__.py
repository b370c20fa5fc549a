"""Directions in feature and residual space: role vectors, the axis, their uncertainty."""
