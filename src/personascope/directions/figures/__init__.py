"""Figures of the axis stage, as a paper takes them: each drawn from the stage's tables alone."""
