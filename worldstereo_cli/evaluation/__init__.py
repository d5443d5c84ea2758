"""Metrics with their definitions, and the reports built from them."""
