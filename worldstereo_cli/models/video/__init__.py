"""Frames along a camera path: one protocol, one file for each backend."""
