"""gsplat's default densification, within a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gsplat import DefaultStrategy


@dataclass
class LimitedGrowth(DefaultStrategy):  # type: ignore[misc]
    """Copies and splits the splats that are pulled hardest, as many as there is room for."""

    max_splats: int = 0
    seed: int = 0

    @torch.no_grad()
    def _grow_gs(
        self,
        params: dict[str, torch.nn.Parameter],
        optimizers: dict[str, Any],
        state: dict[str, Any],
        step: int,
    ) -> tuple[int, int]:
        pull = state["grad2d"] / state["count"].clamp_min(1)
        # Splats that stay as they are made are no reason for others.
        pull[params["pace"] == 0] = 0
        room = max(0, self.max_splats - len(pull))
        if room < len(pull):
            # Copying and splitting both add one splat.
            pull[pull <= pull.topk(room + 1).values[-1]] = 0
        state["grad2d"], state["count"] = pull, torch.ones_like(pull)
        # Where the halves of a splat go is drawn from torch's own generator.
        with torch.random.fork_rng([pull.device], device_type=pull.device.type):
            torch.manual_seed(self.seed + step)
            grown: tuple[int, int] = super()._grow_gs(params, optimizers, state, step)
        return grown
