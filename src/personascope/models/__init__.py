"""The model opened up: loading, spans, hook points, SAEs."""
