"""Drift: when a conversation leaves the assistant, which features explain it, and where in the text."""

from personascope.drift.analysis import analyze
from personascope.drift.types import DriftOptions, DriftResult
from personascope.formats.tokens import TokenActivations

__all__ = ["DriftOptions", "DriftResult", "TokenActivations", "analyze"]
