"""Gaussian splats: rendering them, and fitting them to frames."""
