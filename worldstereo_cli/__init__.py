"""One photograph in, a 3D scene that people can walk through out."""

__version__ = "0.1.0"
