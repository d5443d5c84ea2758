"""Which splats go, and on a GPU, where new ones come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.splatting.parameters import SplatParameters
from worldstereo_cli.splatting.rasterize.cuda import CudaRasterizer
from worldstereo_cli.splatting.rasterize.protocol import Rendering

MIN_OPACITY = 0.02
"""Fainter splats cost time and show nothing."""


def worth_keeping(opacity_logits: Float[Tensor, g], touched: Bool[Tensor, g]) -> Bool[Tensor, g]:
    """Mark splats that are solid enough, and that some target has seen.

    Args:
        opacity_logits: Opacities before the logistic function.
        touched: Whether any pixel of any target ever sent a gradient to the splat.
    """
    return touched & (opacity_logits.sigmoid() > MIN_OPACITY)


@dataclass(slots=True)
class GrowthStrategy:
    """gsplat's default strategy: splats whose place on the image is pulled hard are copied or split.

    The hardest pulled go first, and there are never more than `max_splats`. It never resets opacities:
    ours start solid, and a few hundred steps would not bring them back.

    Source: Kerbl et al. 2023, section 5.2, as implemented by gsplat (Apache-2.0).
    """

    rasterizer: CudaRasterizer
    iterations: int
    max_splats: int
    scene_scale_m: float
    """Splats larger than a hundredth of this are split, smaller ones copied."""
    seed: int = 0
    """Of the places of split splats. On a GPU sums come in any order, so that fits agree only nearly."""
    _strategy: Any = field(init=False)
    _state: dict[str, Any] = field(init=False)
    _facts: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        from worldstereo_cli.splatting.limited_growth import LimitedGrowth

        self._strategy = LimitedGrowth(
            max_splats=self.max_splats,
            seed=self.seed,
            prune_opa=MIN_OPACITY,
            refine_start_iter=self.iterations // 10,
            refine_stop_iter=self.iterations // 2,
            refine_every=max(10, self.iterations // 20),
            reset_every=10 * self.iterations,
        )
        self._state = self._strategy.initialize_state(scene_scale=self.scene_scale_m)

    def render(self, gaussians: Gaussians, camera: Cameras) -> Rendering:
        """Draw, and remember what the strategy asks for."""
        rendering, self._facts = self.rasterizer.render_and_inspect(gaussians, camera)
        return rendering

    def before_backward(self, parameters: SplatParameters, step: int) -> None:
        """Have gradients of the places on the image kept."""
        self._strategy.step_pre_backward(
            parameters.values, parameters.optimizers, self._state, step, self._facts
        )

    def after_step(self, parameters: SplatParameters, step: int) -> None:
        """Let the strategy copy, split and remove, once parameters are updated."""
        self._strategy.step_post_backward(
            parameters.values, parameters.optimizers, self._state, step, self._facts
        )
