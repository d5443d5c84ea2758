"""Depth of one photograph: one protocol, one file for each backend."""
