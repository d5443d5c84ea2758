"""Splat rasterisers that agree with each other: readable torch, numba on a CPU, gsplat on CUDA."""
