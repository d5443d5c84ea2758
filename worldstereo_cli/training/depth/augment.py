"""From linear radiance to pictures like those people take: exposure, colour, lens, sensor, file.

Every picture of a batch draws its own settings. The range is wider than that of real cameras on
purpose: a network that has seen only rendered surfaces must not lean on how they look.

Source: ranges around those of the camera pipeline in Brooks et al. 2019, "Unprocessing Images for
Learned Raw Denoising"; random colour and texture as in Tobin et al. 2017, "Domain Randomization", and
Xu et al. 2021, "Robust and Generalizable Visual Representation Learning via Random Convolutions".
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_LUMA = (0.299, 0.587, 0.114)

_JPEG_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
"""Quantisation of luminance at quality 50. Source: ITU-T T.81 (JPEG), table K.1."""


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """How far pictures stray from a faithful camera."""

    strength: float = 1.0
    """Scales the spread of colour, contrast, blur and noise; 0 is a plain exposure."""
    wild_share: float = 0.05
    """Share of pictures with unnatural colours or filtered texture."""


def _uniform(like: Tensor, low: float | Tensor, high: float | Tensor) -> Float[Tensor, "b 1 1 1"]:
    return torch.rand(len(like), 1, 1, 1, device=like.device) * (high - low) + low


def _sometimes(like: Tensor, share: float | Tensor) -> Float[Tensor, "b 1 1 1"]:
    return (torch.rand(len(like), 1, 1, 1, device=like.device) < share).float()


def _expose(rgb: Float[Tensor, "b 3 h w"], strength: Float[Tensor, ""]) -> Float[Tensor, "b 3 h w"]:
    """Choose exposure and white balance; light falls off and pools unevenly."""
    luminance = rgb.mean(dim=1).flatten(1)
    middle = 0.5 * luminance.mean(dim=1) + 0.5 * luminance[:, ::37].median(dim=1).values
    key = torch.exp(_uniform(rgb, -1.55 - 0.45 * strength, -1.55 + 0.75 * strength))
    # Dim rooms that stay dim, and skies and windows that burn out.
    missed = _uniform(rgb, -1.6, 0.0) * _sometimes(rgb, 0.15) + _uniform(rgb, 0.0, 1.0) * _sometimes(rgb, 0.1)
    exposed = rgb * key * torch.exp(missed * strength) / (middle.view(-1, 1, 1, 1) + 1e-3)
    tinted = 0.08 + 0.22 * _sometimes(rgb, 0.12)
    balance = torch.exp(torch.randn(len(rgb), 3, 1, 1, device=rgb.device) * tinted * strength)
    coarse = torch.randn(len(rgb), 1, 4, 4, device=rgb.device) * _uniform(rgb, 0.0, 0.45)
    pools = functional.interpolate(coarse, rgb.shape[-2:], mode="bilinear", align_corners=False)
    return exposed * balance * torch.exp(pools * _sometimes(rgb, 0.35) * strength)


def _develop(rgb: Float[Tensor, "b 3 h w"], strength: Float[Tensor, ""]) -> Float[Tensor, "b 3 h w"]:
    """Compress highlights and encode with a gamma."""
    shoulder = _uniform(rgb, 0.15, 0.15 + 0.5 * strength)
    gamma = _uniform(rgb, 2.2 - 0.4 * strength, 2.2 + 0.4 * strength)
    return (rgb / (1 + rgb * shoulder)).clamp(1e-5, 1.3).pow(1 / gamma).clamp(0, 1)


def _recolour(picture: Float[Tensor, "b 3 h w"], strength: Float[Tensor, ""]) -> Float[Tensor, "b 3 h w"]:
    """Vary saturation, contrast, brightness, veil and hue; some pictures are grey."""
    mean = picture.mean(dim=(2, 3), keepdim=True)
    spread = picture.std(dim=(2, 3), keepdim=True) + 0.03
    # Colour statistics of a drawn photograph: means near grey, channels that go together.
    shared = torch.randn(len(picture), 1, 1, 1, device=picture.device)
    own = torch.randn(len(picture), 3, 1, 1, device=picture.device)
    wanted_mean = (0.45 + 0.12 * shared + 0.06 * own).clamp(0.08, 0.9)
    wanted_spread = _uniform(picture, 0.12, 0.3)
    matched = (picture - mean) / spread * wanted_spread + wanted_mean
    picture = torch.lerp(picture, matched, _uniform(picture, 0.0, 0.9) * _sometimes(picture, 0.35 * strength))
    grey = picture.mean(dim=1, keepdim=True)
    colourful = _uniform(picture, 1 - 0.5 * strength, 1 + 0.5 * strength)
    colourful = colourful * (1 - _sometimes(picture, 0.06 * strength))
    picture = grey + (picture - grey) * colourful
    contrast = _uniform(picture, 1 - 0.25 * strength, 1 + 0.45 * strength)
    return (picture - 0.5) * contrast + 0.5 + _uniform(picture, -0.1, 0.1) * strength


def _go_wild(picture: Float[Tensor, "b 3 h w"], wild_share: float) -> Float[Tensor, "b 3 h w"]:
    """Give some pictures mixed or inverted channels, others a random texture filter.

    The pictures of a batch come in random order, so the first ones are a random choice.
    """
    count = round(len(picture) * wild_share / 2)
    if count == 0:
        return picture
    device = picture.device
    mixing = torch.randn(count, 3, 3, device=device) * 0.6
    mixed = torch.einsum("bij,bjhw->bihw", mixing, picture[:count] - 0.5) + 0.5
    kernel = torch.randn(3, 3, 3, 3, device=device) / sqrt(27)
    some = picture[count : 2 * count]
    filtered = functional.conv2d(functional.pad(some - 0.5, (1, 1, 1, 1), mode="reflect"), kernel)
    filtered = filtered / (filtered.std(dim=(1, 2, 3), keepdim=True) + 0.02) * 0.22 + 0.5
    blended = torch.lerp(some, filtered, _uniform(some, 0.3, 1.0))
    return torch.cat([mixed, blended, picture[2 * count :]])


def _through_lens(
    picture: Float[Tensor, "b 3 h w"], depth_m: Float[Tensor, "b h w"], strength: Float[Tensor, ""]
) -> Float[Tensor, "b 3 h w"]:
    """Blur, sharpen, darken corners, add reflections and a veil of stray light."""
    size = picture.shape[-2:]
    half = functional.avg_pool2d(picture, 2)
    quarter = functional.avg_pool2d(half, 2)
    soft = functional.interpolate(half, size, mode="bilinear", align_corners=False)
    softer = functional.interpolate(quarter, size, mode="bilinear", align_corners=False)
    nearness = (1 / depth_m.clamp(min=1e-2))[:, None]
    nearest = nearness.flatten(1)[:, ::37].amax(dim=1).view(-1, 1, 1, 1) + 1e-4
    at = torch.randint(0, size[0] * size[1], (len(picture), 1), device=picture.device)
    focus = nearness.flatten(1).gather(1, at).view(-1, 1, 1, 1)
    defocus = (nearness - focus).abs() / nearest * _uniform(picture, 1, 5) * _sometimes(picture, 0.15)
    shake = _uniform(picture, 0.0, 1.3) * _sometimes(picture, 0.35)
    blur = ((defocus + shake) * strength).clamp(0, 2)
    sharpen = _uniform(picture, 0.0, 1.0) * _sometimes(picture, 0.35) * strength
    crisp = picture + sharpen * (picture - soft)
    picture = torch.where(blur < 1, torch.lerp(crisp, soft, blur.clamp(max=1)),
                          torch.lerp(soft, softer, (blur - 1).clamp(min=0)))  # fmt: skip
    y = torch.linspace(-1, 1, size[0], device=picture.device)[:, None]
    x = torch.linspace(-1, 1, size[1], device=picture.device)
    corners = _uniform(picture, 0.0, 0.5) * _sometimes(picture, 0.4) * strength
    picture = picture * (1 - corners * (x * x + y * y) / 2)
    ghost = _uniform(picture, 0.0, 0.15) * _sometimes(picture, 0.1) * strength
    veil = _uniform(picture, 0.0, 0.2) * _sometimes(picture, 0.1) * strength
    return torch.lerp(torch.lerp(picture, picture.roll(1, 0).flip(-1), ghost), torch.ones_like(picture), veil)


def _through_sensor(
    picture: Float[Tensor, "b 3 h w"], strength: Float[Tensor, ""]
) -> Float[Tensor, "b 3 h w"]:
    """Add noise, fine and blotchy, and the blocks of a compressed file."""
    height, width = picture.shape[-2:]
    fine = torch.randn_like(picture) * _uniform(picture, 0.0, 0.04) * _sometimes(picture, 0.6)
    coarse = torch.randn(len(picture), 3, height // 2, width // 2, device=picture.device)
    blotches = functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    blotches = blotches * _uniform(picture, 0.0, 0.05) * _sometimes(picture, 0.3)
    picture = (picture + (fine + blotches) * strength).clamp(0, 1)
    quality = torch.exp(_uniform(picture, -2.0, 0.2 + 0.8 * strength))
    return torch.lerp(picture, _jpeg(picture, quality), _sometimes(picture, 0.55 * strength.clamp(max=1.5)))


def _jpeg(picture: Float[Tensor, "b 3 h w"], quantum: Float[Tensor, "b 1 1 1"]) -> Float[Tensor, "b 3 h w"]:
    """Round the 8 x 8 cosine coefficients of luminance, and of two colour differences more coarsely.

    Args:
        picture: In [0, 1].
        quantum: Multiplies the table of quality 50; 0.2 is quality 90.
    """
    batch, _, height, width = picture.shape
    red, green, blue = picture.unbind(dim=1)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    planes = torch.stack([luma - 0.5, 0.564 * (blue - luma), 0.713 * (red - luma)], dim=1)
    blocks = planes.view(batch, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    cosines = _cosines(picture.device)
    table = torch.tensor(_JPEG_LUMA, device=picture.device) / 255
    coarser = torch.tensor([1.0, 1.8, 1.8], device=picture.device).view(1, 3, 1, 1, 1, 1)
    step = table * coarser * quantum.view(-1, 1, 1, 1, 1, 1)
    kept = torch.round(cosines @ blocks @ cosines.T / step) * step
    planes = (cosines.T @ kept @ cosines).transpose(3, 4).reshape(batch, 3, height, width)
    luma, blue_difference, red_difference = planes.unbind(dim=1)
    luma = luma + 0.5
    red, blue = luma + red_difference / 0.713, luma + blue_difference / 0.564
    green = (luma - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1]
    return torch.stack([red, green, blue], dim=1)


def _cosines(device: torch.device) -> Float[Tensor, "8 8"]:
    """Return the orthonormal matrix of the 8-point cosine transform."""
    index = torch.arange(8, device=device, dtype=torch.float32)
    matrix = torch.cos((2 * index[None] + 1) * index[:, None] * pi / 16) / 2
    return torch.cat([matrix[:1] / sqrt(2), matrix[1:]])


def _developed(rgb: Float[Tensor, "b 3 h w"], strength: Float[Tensor, ""]) -> Float[Tensor, "b 3 h w"]:
    return _recolour(_develop(_expose(rgb, strength), strength), strength)


def _recorded(
    picture: Float[Tensor, "b 3 h w"], depth_m: Float[Tensor, "b h w"], strength: Float[Tensor, ""]
) -> Float[Tensor, "b 3 h w"]:
    picture = _through_sensor(_through_lens(picture, depth_m, strength), strength)
    return ((picture * 255).round() / 255).clamp(0, 1)


class CameraParts(NamedTuple):
    """The long parts of a photograph, which may be replaced by compiled ones.

    The strength is a tensor, so that a run of another strength compiles nothing anew.
    """

    develop: Callable[[Tensor, Tensor], Tensor] = _developed
    """From radiance and strength to a faithful picture."""
    record: Callable[[Tensor, Tensor, Tensor], Tensor] = _recorded
    """From a picture, depth and strength to what a lens, a sensor and a file leave of it."""


def photograph(
    rgb_linear: Float[Tensor, "b 3 h w"],
    depth_m: Float[Tensor, "b h w"],
    settings: AugmentSettings,
    parts: CameraParts | None = None,
) -> Float[Tensor, "b 3 h w"]:
    """Take pictures of rendered radiance.

    Args:
        rgb_linear: Radiance, any exposure; both sides multiples of 16.
        depth_m: Infinite in the sky; blurs what a focused lens would.
        settings: How far to stray.
        parts: Compiled ones; as they stand here when absent.

    Returns:
        sRGB in [0, 1], rounded to 8 bits.
    """
    parts = parts or CameraParts()
    strength = torch.full((), settings.strength, device=rgb_linear.device)
    picture = _go_wild(parts.develop(rgb_linear, strength), settings.wild_share)
    return parts.record(picture, depth_m, strength)
