"""Hosts: processes that keep a model or a reference loaded for all jobs of a run, and the store of finished work."""
