"""personascope: which SAE features make up a persona, and where in a conversation a model stops being the assistant."""

__version__ = "0.1.0"
