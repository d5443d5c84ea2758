"""Resizing that keeps cameras true: crops, never stretches."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def crop_resize(
    images: Float[Tensor, "n c h w"], width_px: int, height_px: int, *, nearest: bool = False
) -> Float[Tensor, "n c height width"]:
    """Resize images to fill a size, cutting equal margins where the aspect differs.

    The counterpart of `Cameras.cropped_to`: pixel positions agree to the last fraction, because
    the sampling grid is computed from the same scale and offset.

    Args:
        images: Any value range.
        width_px: Wanted width.
        height_px: Wanted height.
        nearest: Take the nearest pixel (for depth and masks) instead of an antialiased average.
    """
    height, width = images.shape[-2:]
    scale = max(width_px / width, height_px / height)
    if not nearest and scale < 1:
        # Prefilter with area averaging at the exact scale, then sample the crop bilinearly.
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        images = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
    u = (torch.arange(width_px, device=images.device, dtype=torch.float64) + 0.5 - 0.5 * width_px) / (
        width * scale
    )
    v = (torch.arange(height_px, device=images.device, dtype=torch.float64) + 0.5 - 0.5 * height_px) / (
        height * scale
    )
    grid_v, grid_u = torch.meshgrid(2 * v, 2 * u, indexing="ij")
    grid = torch.stack([grid_u, grid_v], -1).to(images.dtype)
    return torch.nn.functional.grid_sample(
        images,
        grid.expand(images.shape[0], -1, -1, -1),
        mode="nearest" if nearest else "bilinear",
        padding_mode="border",
        align_corners=False,
    )


def crop_restore(
    images: Float[Tensor, "n c h w"], width_px: int, height_px: int, *, nearest: bool = False
) -> tuple[Float[Tensor, "n c height width"], Bool[Tensor, "height width"]]:
    """Bring images that `crop_resize` made from a size back to it.

    Args:
        images: Any value range.
        width_px: Width before the crop.
        height_px: Height before the crop.
        nearest: Take the nearest pixel (for depth and masks) instead of an average.

    Returns:
        The images, and where they cover the original size; in the margins that the crop had cut
        away their border is repeated.
    """
    height, width = images.shape[-2:]
    scale = max(width / width_px, height / height_px)
    u = torch.arange(width_px, device=images.device, dtype=torch.float64) + 0.5 - 0.5 * width_px
    v = torch.arange(height_px, device=images.device, dtype=torch.float64) + 0.5 - 0.5 * height_px
    grid_v, grid_u = torch.meshgrid(2 * scale * v / height, 2 * scale * u / width, indexing="ij")
    covered = (grid_u.abs() <= 1) & (grid_v.abs() <= 1)
    grid = torch.stack([grid_u, grid_v], -1).to(images.dtype)
    restored = torch.nn.functional.grid_sample(
        images,
        grid.expand(images.shape[0], -1, -1, -1),
        mode="nearest" if nearest else "bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return restored, covered


def fit_within(width_px: int, height_px: int, long_side_px: int, multiple: int = 1) -> tuple[int, int]:
    """Return the size with the same aspect whose longer side is at most `long_side_px`.

    Both sides are rounded to a multiple, at least one; the size never grows.
    """
    scale = min(1.0, long_side_px / max(width_px, height_px))
    return tuple(max(multiple, round(s * scale / multiple) * multiple) for s in (width_px, height_px))  # type: ignore[return-value]
