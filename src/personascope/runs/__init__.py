"""Runs of the workflow: its experiment, its jobs, what it will take, takes and took."""
