"""How sure a mean over sources of photographs is."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

NUM_RESAMPLES = 2000
"""Bootstrap rounds; the ends of a 95 % interval then move by about 0.001 between seeds."""


def resampled_means(
    values: Float[np.ndarray, "c"], sources: Sequence[str], sequences: Sequence[str]
) -> Float[np.ndarray, "r"]:
    """Draw sequences anew, and average over the cases of each source, then over sources.

    Whole sequences are drawn, since photographs of one sequence err together. Most sources hold a
    single sequence, so sequences are drawn from all sources at once: a draw then leaves some sources
    out, which is the uncertainty about the choice of sources. The draws are the same in every call, so
    that means of two methods on the same cases can be subtracted round by round.

    Args:
        values: One for each case; NaN where it is not defined.
        sources: Of the cases.
        sequences: Of the cases.

    Returns:
        The mean of each of `NUM_RESAMPLES` rounds; NaN where a round drew no value.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, section 8.5 (clusters).
    """
    groups = list(dict.fromkeys(zip(sources, sequences, strict=True)))
    group = np.array([groups.index(pair) for pair in zip(sources, sequences, strict=True)])
    is_known = ~np.isnan(values)
    sums = np.bincount(group, np.where(is_known, values, 0.0), len(groups))
    counts = np.bincount(group, is_known, len(groups))
    names = sorted(set(sources))
    member = np.array([[source == name for name in names] for source, _ in groups], dtype=np.float64)
    draw = np.random.default_rng(0).multinomial(
        len(groups), np.full(len(groups), 1 / len(groups)), size=NUM_RESAMPLES
    )
    count = draw @ (counts[:, None] * member)
    drawn = count > 0
    mean = (draw @ (sums[:, None] * member)) / np.where(drawn, count, 1.0)
    num_sources = drawn.sum(axis=1)
    total = np.where(drawn, mean, 0.0).sum(axis=1)
    return np.where(num_sources > 0, total / np.maximum(num_sources, 1), np.nan)


def interval(draws: Float[np.ndarray, "r"]) -> tuple[float, float]:
    """Return the 95 % interval of bootstrap draws."""
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)
