"""What steering does: sweeps as dose and response, and capping, from their tables."""
