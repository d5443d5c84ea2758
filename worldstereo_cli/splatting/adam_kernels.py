"""Adam on a CPU in one pass over memory: compiled kernel."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from worldstereo_cli.splatting.rasterize.jit import parallel_kernel

Floats = NDArray[np.float32]


@parallel_kernel
def adam_update(
    parameter: Floats, gradient: Floats, first: Floats, second: Floats, pace: Floats, settings: Floats
) -> None:
    """Update a parameter in place.

    Args:
        parameter: (g k).
        gradient: (g k).
        first: Running mean of gradients, updated, (g k).
        second: Running mean of their squares, updated, (g k).
        pace: Factor on the step of each row, (g).
        settings: Step size with the bias of the means corrected, beta1, beta2, epsilon.
    """
    size, beta1, beta2, epsilon = settings[0], settings[1], settings[2], settings[3]
    one = np.float32(1)
    for g in numba.prange(parameter.shape[0]):
        step = size * pace[g]
        for k in range(parameter.shape[1]):
            d = gradient[g, k]
            m = beta1 * first[g, k] + (one - beta1) * d
            v = beta2 * second[g, k] + (one - beta2) * d * d
            first[g, k], second[g, k] = m, v
            parameter[g, k] -= step * m / (math.sqrt(v) + epsilon)
