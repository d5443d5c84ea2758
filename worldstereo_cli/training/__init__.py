"""Fits the small models that ship with the package, from scenes that it makes itself."""
