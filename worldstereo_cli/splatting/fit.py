"""Fitting splats to pictures with exact cameras."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.gaussians import Gaussians
from worldstereo_cli.progress import Progress
from worldstereo_cli.splatting.densify import GrowthStrategy, worth_keeping
from worldstereo_cli.splatting.losses import coverage_loss, depth_loss, photometric_loss
from worldstereo_cli.splatting.parameters import LearningRates, PacedSplats, SplatParameters
from worldstereo_cli.splatting.rasterize.harmonics import SH_C0
from worldstereo_cli.splatting.rasterize.protocol import Rasterizer, Rendering

_SHARPEN_STEP = 0.8
"""Below one, because a splat's own pixel does not get all of its light."""


@dataclass(frozen=True, slots=True)
class Target:
    """A picture to be matched, and how much each of its pixels is believed."""

    image: Float[Tensor, "3 h w"]
    """sRGB in [0, 1]."""
    depth_m: Float[Tensor, "h w"]
    """Metres along the optical axis; any value where `depth_weight` is zero."""
    weight: Float[Tensor, "h w"]
    """Of the colour of each pixel, in [0, 1]."""
    depth_weight: Float[Tensor, "h w"]
    """Of the depth of each pixel, in [0, 1]."""
    camera: Cameras
    """A path of one."""

    def to(self, device: torch.device | str) -> Target:
        """Return the same target on another device."""
        return Target(
            self.image.to(device),
            self.depth_m.to(device),
            self.weight.to(device),
            self.depth_weight.to(device),
            self.camera.to(device),
        )


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How long to fit, and what counts how much."""

    iterations: int
    photo_share: float = 0.3
    """The share of steps that look at the first target, the photo."""
    ssim_share: float = 0.2
    depth_share: float = 0.2
    """Of the relative error of depth, beside the photometric loss."""
    coverage_share: float = 0.05
    """Of light that passes where a surface is known."""
    max_extents: float = 2.0
    """The largest standard deviation, in distances to the neighbours."""
    final_rate: float = 0.1
    """Learning rates fall to this share along half a cosine."""
    rates: LearningRates = field(default_factory=LearningRates)


@dataclass(frozen=True, slots=True)
class Fitted:
    """The result of a fit."""

    splats: PacedSplats
    num_pruned: int
    losses: list[float]
    """One for each step."""


def fit(
    start: PacedSplats,
    targets: list[Target],
    settings: FitSettings,
    rasterizer: Rasterizer,
    *,
    growth: GrowthStrategy | None = None,
    seed: int = 0,
    progress: Progress,
) -> Fitted:
    """Fit splats to pictures.

    Every step draws one target. The first target is the photo; the others take turns in an order
    that the seed shuffles. In the end, faint splats and those that no target saw are dropped.

    Args:
        start: Where to begin, on the device of the rasteriser.
        targets: The photo first; at least one.
        settings: Steps and weights.
        rasterizer: What draws.
        growth: Adds splats on the way, where there is a strategy for it.
        seed: Of the order of targets.
        progress: Called after every step.

    Source: Kerbl et al. 2023, section 5; its schedule is shortened, because the start is close.
    """
    if not targets:
        raise ValueError("Expected at least one target.")
    parameters = SplatParameters(start, settings.rates)
    losses, schedule = [], _schedule(len(targets), settings, seed)
    for step, chosen in enumerate(schedule):
        target = targets[chosen].to(start.extent_m.device)
        draw = rasterizer.render if growth is None else growth.render
        loss = _loss(draw(parameters.gaussians(), target.camera), target, settings)
        if growth is not None:
            growth.before_backward(parameters, step)
        torch.autograd.backward(loss)
        parameters.step(_rate(step, settings))
        parameters.restrain_shapes(settings.max_extents)
        if growth is not None:
            growth.after_step(parameters, step)
        losses.append(float(loss.detach()))
        progress(step + 1, settings.iterations, "fitting splats")
    return _finished(parameters, losses, all_seen=len(set(schedule)) == len(targets))


@torch.no_grad()
def _finished(parameters: SplatParameters, losses: list[float], *, all_seen: bool) -> Fitted:
    """Drop what shows nothing, if every target had its turn to show it."""
    before = len(parameters)
    if all_seen:
        fixed = parameters.values["pace"] == 0
        parameters.keep(fixed | worth_keeping(parameters.values["opacities"], parameters.touched))
    return Fitted(parameters.splats(), before - len(parameters), losses)


@torch.no_grad()
def sharpen_colors(
    gaussians: Gaussians, chosen: Bool[Tensor, g], target: Target, rasterizer: Rasterizer, sweeps: int
) -> Gaussians:
    """Change colours so that the picture of overlapping splats comes out as sharp as the target.

    Every splat moves by what the target shows more than the rendering at its centre. Splats are
    little larger than pixels, so that this converges in a few sweeps; more of them would sharpen
    noise. Beside something nearer, colours stay: the sky would turn white to make up for the roof
    that overlaps it, and show that to every other camera.

    Args:
        gaussians: With colours of degree 0.
        chosen: Which of them are the surface that the target shows.
        target: What they are to show, with depth at every pixel.
        rasterizer: What draws.
        sweeps: How often.

    Source: van Cittert, Zum Einfluss der Spaltbreite auf die Intensitaetsverteilung, 1931.
    """
    pixels, _ = target.camera.project(gaussians.means[chosen])
    size = pixels.new_tensor([target.camera.width_px, target.camera.height_px])
    grid = (2 * pixels[0] / size - 1)[None, None]
    nearest = -torch.nn.functional.max_pool2d(-target.depth_m[None, None], 5, stride=1, padding=2)[0, 0]
    step = _SHARPEN_STEP * (nearest > 0.95 * target.depth_m)
    for _ in range(sweeps):
        drawn = rasterizer.render(gaussians, target.camera)
        # What passes between the splats is not theirs to make up for.
        missing = step * (drawn.alpha * target.image - drawn.rgb)
        at_centres = torch.nn.functional.grid_sample(
            missing[None], grid, padding_mode="border", align_corners=False
        )
        sh = gaussians.sh.clone()
        rgb = 0.5 + SH_C0 * sh[chosen, 0] + at_centres[0, :, 0].T
        sh[chosen, 0] = (rgb.clamp(0, 1) - 0.5) / SH_C0
        gaussians = replace(gaussians, sh=sh)
    return gaussians


def _rate(step: int, settings: FitSettings) -> float:
    """Return the factor on learning rates: one at first, falling along half a cosine."""
    phase = 0.5 + 0.5 * math.cos(math.pi * step / settings.iterations)
    return settings.final_rate + (1 - settings.final_rate) * phase


def _loss(drawn: Rendering, target: Target, settings: FitSettings) -> Float[Tensor, ""]:
    return (
        photometric_loss(drawn.rgb, target.image, target.weight, settings.ssim_share)
        + settings.depth_share * depth_loss(drawn.depth_m, target.depth_m, target.depth_weight)
        + settings.coverage_share * coverage_loss(drawn.alpha, target.depth_weight)
    )


def _schedule(num_targets: int, settings: FitSettings, seed: int) -> list[int]:
    """Return the target of every step: the photo at even distances and in the end, others in turns."""
    generator = torch.Generator().manual_seed(seed)
    others: list[int] = []
    order = []
    photos = 0
    for step in range(settings.iterations):
        left = settings.iterations - 1 - step
        if num_targets == 1 or left == 0 or photos < settings.photo_share * (step + 1):
            photos += 1
            order.append(0)
            continue
        if not others:
            others = (1 + torch.randperm(num_targets - 1, generator=generator)).tolist()
        order.append(others.pop())
    return order
