"""Training of the depth network on scenes that we make ourselves."""
