"""The spatial-stereo memory at work: past views for the frames of a path, and where these lie in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from worldstereo_cli.artifacts.references import ReferenceRecord
from worldstereo_cli.geometry.cameras import Cameras
from worldstereo_cli.geometry.correspondence import Correspondence, correspond, sample_surface
from worldstereo_cli.geometry.images import crop_resize
from worldstereo_cli.memory.retrieval import (
    Retrieval,
    combined_features,
    frustum_scores,
    limited,
    picture_quality,
    retrieve,
)
from worldstereo_cli.memory.visible import choose_views, share_views
from worldstereo_cli.models.video.protocol import References
from worldstereo_cli.stages.world import World

Rule = Literal["visible", "frustum"]

PATCH_PX = 16
"""Side of the squares that correspond: what one token of the released models covers."""
_THUMBNAIL_PX = 4
"""Side of the pictures that tell references apart."""


@dataclass(frozen=True, slots=True)
class ChosenReferences:
    """Past views for a path."""

    references: References
    """As a backend takes them."""
    record: ReferenceRecord
    """As it is kept with the round."""


def choose_references(
    world: World, targets: Cameras, depth_m: Float[Tensor, "t h w"], *, limit: int, rule: Rule
) -> ChosenReferences | None:
    """Choose past views for the frames of a path.

    Args:
        world: Its bank is chosen from.
        targets: The frames, at the size of the clip.
        depth_m: What the cloud shows there, metres; 0 in holes.
        limit: References that the backend can look at.
        rule: By surface that both see, or by boxes around view frusta, as released.

    Returns:
        None when the backend looks at no references, or no past view shows anything of the path.
    """
    if limit == 0:
        return None
    bank = world.bank
    if rule == "frustum":
        chosen, scores = _by_frustum(world, targets, limit)
    else:
        shared = share_views(targets, depth_m, bank.cameras, bank.depth_m)
        chosen, scores = choose_views(shared, limit), shared.overlap
    if len(chosen.bank_index) == 0:
        return None
    width, height = targets.width_px, targets.height_px
    views, scores = bank.cameras[chosen.bank_index], scores[:, chosen.bank_index]
    samples = sample_surface(targets, depth_m, PATCH_PX)
    place = _in_crop(correspond(samples, views, bank.depth_m[chosen.bank_index]), views, (width, height))
    images = crop_resize(bank.images_u8[chosen.bank_index].float() / 255, width, height)
    names = tuple(bank.names[i] for i in chosen.bank_index.tolist())
    # For every target the best first.
    order = scores.sort(dim=1, descending=True, stable=True).indices
    return ChosenReferences(
        References(images, views.cropped_to(width, height), chosen.target_index, place),
        ReferenceRecord(names, rule, chosen.target_index, order, scores, place),
    )


def _by_frustum(world: World, targets: Cameras, limit: int) -> tuple[Retrieval, Float[Tensor, "t n"]]:
    bank = world.bank
    # As far as WorldStereo's later code looks: eight medians of the scene.
    known = world.photo.depth_m[world.photo.valid & ~world.photo.sky]
    far = max(8 * float(known.median()), 0.15) if len(known) else 10.0
    scores = frustum_scores(targets, bank.cameras, far)
    chosen = retrieve(scores)
    pictures = bank.images_u8[chosen.served_by].float() / 255
    thumbnails = torch.nn.functional.adaptive_avg_pool2d(pictures, _THUMBNAIL_PX).flatten(1)
    features = combined_features(bank.cameras[chosen.served_by], thumbnails)
    quality = picture_quality(bank.images_u8[chosen.served_by])
    return limited(chosen, scores, features, quality, limit), scores


def _in_crop(place: Correspondence, views: Cameras, size_px: tuple[int, int]) -> Correspondence:
    """Return pixels of views in their crops of another size, as `geometry.images.crop_resize` makes them."""
    width, height = size_px
    scale = max(width / views.width_px, height / views.height_px)
    full = torch.tensor([views.width_px, views.height_px], dtype=torch.float32)
    size = torch.tensor([width, height], dtype=torch.float32)
    pixels = scale * place.pixels + 0.5 * (size - scale * full)
    visible = place.visible & ((pixels >= 0) & (pixels < size)).all(-1)
    return replace(place, pixels=torch.where(visible[..., None], pixels, 0.0), visible=visible)
