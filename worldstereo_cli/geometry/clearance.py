"""How near a camera comes to the surfaces that the cloud samples."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from worldstereo_cli.geometry.cloud import Cloud


class SurfaceDistance:
    """Answers how far places are from the nearest surface of a cloud."""

    def __init__(self, cloud: Cloud) -> None:
        """Index the cloud.

        Args:
            cloud: At least one point; sky counts too, nobody flies through it.

        Raises:
            ValueError: The cloud is empty.
        """
        if len(cloud) == 0:
            raise ValueError("Expected a cloud with points, got none.")
        self._tree = cKDTree(cloud.points.detach().cpu().double().numpy())
        # A surface is known at its samples only: between two of them it may be half their distance nearer.
        self._slack = 0.5 * cloud.spacing_m.detach().cpu().double()
        self._most_slack = float(self._slack.max())

    def at(self, places: Float[Tensor, "n 3"]) -> Float[Tensor, n]:
        """Return the distance from each place to the nearest surface, metres, not below zero.

        Args:
            places: World frame, metres.
        """
        distance, index = self._tree.query(places.detach().cpu().double().numpy())
        nearest = torch.as_tensor(distance) - self._slack[torch.as_tensor(index)]
        return nearest.clamp_min(0).float()

    def clear(self, places: Float[Tensor, "n 3"], required_m: float) -> Bool[Tensor, n]:
        """Tell which places are at least `required_m` away; faster than asking how far they are.

        Args:
            places: World frame, metres.
            required_m: Positive.
        """
        reach = required_m + self._most_slack
        distance, index = self._tree.query(places.detach().cpu().double().numpy(), distance_upper_bound=reach)
        found = torch.from_numpy(np.isfinite(distance))
        slack = self._slack[torch.from_numpy(np.where(found, index, 0))]
        return ~found | (torch.from_numpy(distance) - slack >= required_m)

    def along(self, centres: Float[Tensor, "n 3"], step_m: float) -> float:
        """Return the smallest distance along straight lines through `centres`.

        Args:
            centres: At least two, world frame, metres.
            step_m: Places between two centres are no farther apart than this.

        Raises:
            ValueError: Fewer than two centres, or a step that is not positive.
        """
        if len(centres) < 2 or step_m <= 0:
            raise ValueError(f"Expected two centres and a step, got {len(centres)} and {step_m}.")
        return float(self.at(subdivided(centres.detach().cpu().double(), step_m)).min())


def subdivided(centres: Float[Tensor, "n 3"], step_m: float) -> Float[Tensor, "m 3"]:
    """Insert places on each segment so that neighbours are at most `step_m` apart."""
    pieces = ((centres[1:] - centres[:-1]).norm(dim=-1) / step_m).ceil().clamp_min(1).long()
    segment = torch.repeat_interleave(torch.arange(len(pieces)), pieces)
    start = torch.cumsum(pieces, 0) - pieces
    t = (torch.arange(len(segment)) - start[segment]) / pieces[segment]
    between = torch.lerp(centres[segment], centres[segment + 1], t[:, None].to(centres.dtype))
    return torch.cat([between, centres[-1:]])
