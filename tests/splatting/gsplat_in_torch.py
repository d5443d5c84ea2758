"""The CUDA kernels that gsplat calls, in plain torch: all of gsplat's Python runs, and our use of it.

Projection and colour are gsplat's own torch versions; tiles and compositing follow its kernels
(csrc/ProjectionEWA3DGSFused.cu, IntersectTile.cu, RasterizeToPixels3DGS*.cu; Apache-2.0).
"""

from types import SimpleNamespace

import torch
from gsplat.cuda import _torch_impl as impl

ALPHA_THRESHOLD, MAX_ALPHA, MIN_LEFT = 1 / 255, 0.999, 1e-4


def _project(means, quats, scales, viewmats, ks, size, eps2d, near, far):
    covars, _ = impl._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    return impl._fully_fused_projection(means, covars, viewmats, ks, *size, eps2d, near, far)


def _projection_fwd(
    means, covars, quats, scales, opacities, viewmats, ks, width, height, eps2d, near, far, clip, comp, model
):
    assert covars is None and not comp and model == "pinhole" and clip == 0.0
    radii, *rest, _ = _project(means, quats, scales, viewmats, ks, (width, height), eps2d, near, far)
    # Splats that are never drawn have no radius; nothing else is done with opacities here.
    radii = torch.where((opacities < ALPHA_THRESHOLD)[None, :, None], 0, radii)
    return radii, *rest, None


def _projection_bwd(
    means, covars, quats, scales, viewmats, ks, width, height, eps2d, model, radii, conics, comp,
    v_means2d, v_depths, v_conics, v_comp, viewmats_need_it,
):  # fmt: skip
    assert covars is None and comp is None and v_comp is None and not viewmats_need_it
    given = [t.detach().requires_grad_() for t in (means, quats, scales)]
    with torch.enable_grad():
        outputs = _project(*given, viewmats, ks, (width, height), eps2d, 0.01, 1e10)[1:4]
    seen = (radii > 0).all(-1)
    wanted = [torch.where(seen.reshape(*seen.shape, *[1] * (v.ndim - 2)), v, 0) for v in
              (v_means2d, v_depths, v_conics)]  # fmt: skip
    v_means, v_quats, v_scales = torch.autograd.grad(outputs, given, wanted)
    return v_means, None, v_quats, v_scales, None


def _harmonics_fwd(degree, directions, coefficients, masks):
    colours = impl._spherical_harmonics(degree, directions, coefficients)
    return torch.where(masks[..., None], colours, 0)


def _harmonics_bwd(num_bases, degree, directions, coefficients, masks, v_colours, directions_need_it):
    given = [t.detach().requires_grad_() for t in (directions, coefficients)]
    with torch.enable_grad():
        colours = _harmonics_fwd(degree, *given, masks)
    v_directions, v_coefficients = torch.autograd.grad(colours, given, v_colours, allow_unused=True)
    return v_coefficients, v_directions if directions_need_it else None


def _intersect_tile(means2d, radii, depths, image_ids, gaussian_ids, images, tile, columns, rows, sort, seg):
    assert images == 1 and image_ids is None and sort and not seg
    grid = torch.tensor([columns, rows], device=means2d.device)
    low = ((means2d[0] - radii[0]) / tile).floor().clamp_min(0).minimum(grid).long()
    high = ((means2d[0] + radii[0]) / tile).ceil().clamp_min(0).minimum(grid).long()
    extent = (high - low) * (radii[0] > 0).all(-1, keepdim=True)
    count = extent.prod(-1)
    splat = torch.arange(len(count), device=count.device).repeat_interleave(count)
    rank = torch.arange(len(splat), device=count.device) - (count.cumsum(0) - count).repeat_interleave(count)
    across = extent[splat, 0]
    tile_id = (low[splat, 1] + rank // across) * columns + low[splat, 0] + rank % across
    # The depth's bits order as the depth does, because it is positive.
    key = (tile_id << 32) | depths[0, splat].detach().view(torch.int32).long()
    key, order = key.sort(stable=True)
    return count.int()[None], key, splat[order].int()


def _composite(means2d, conics, colours, opacities, width, height, tile, offsets, ids):
    """Return picture (h w c) and alpha (h w 1); differentiable."""
    rows, columns = offsets.shape[-2:]
    ends = torch.cat([offsets.flatten()[1:], offsets.new_tensor([len(ids)])])
    tiles = torch.arange(rows * columns, device=ids.device).repeat_interleave(ends - offsets.flatten())
    inside = torch.arange(tile * tile, device=ids.device)
    x = (tiles % columns * tile)[:, None] + inside % tile
    y = (tiles // columns * tile)[:, None] + inside // tile
    rank = torch.arange(len(ids), device=ids.device)[:, None].expand_as(x)
    splat = ids.long()[:, None].expand_as(x)
    chosen = _alpha(means2d, conics, opacities, splat, x, y)[1] & (x < width) & (y < height)
    splat, x, y, rank = splat[chosen], x[chosen], y[chosen], rank[chosen]
    pixel, order = (y * width + x).sort(stable=True)
    splat, x, y = splat[order], x[order], y[order]
    alpha, _ = _alpha(means2d, conics, opacities, splat, x, y)
    through = torch.log1p(-alpha.double())
    after = through.cumsum(0)
    before = after - through
    first = torch.searchsorted(pixel, pixel)
    start = before[first]
    # The splat that would leave too little is left out, and all behind it.
    drawn = ((after - start).exp() > MIN_LEFT).to(alpha)
    weight = alpha * (before - start).exp().to(alpha) * drawn
    flat = colours.new_zeros(height * width, colours.shape[-1] + 1)
    values = torch.cat([colours[0, splat], torch.ones_like(weight)[:, None]], -1)
    flat = flat.index_add(0, pixel, weight[:, None] * values)
    picture = flat.reshape(1, height, width, -1)
    return picture[..., :-1], picture[..., -1:]


def _alpha(means2d, conics, opacities, splat, x, y):
    dx, dy = means2d[0, splat, 0] - (x + 0.5), means2d[0, splat, 1] - (y + 0.5)
    a, b, c = conics[0, splat].unbind(-1)
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities[0, splat] * torch.exp(-sigma)).clamp_max(MAX_ALPHA)
    return alpha, (sigma >= 0) & (alpha >= ALPHA_THRESHOLD)


def _rasterize_fwd(
    means2d, conics, colours, opacities, backgrounds, masks, width, height, tile, offsets, ids
):
    assert backgrounds is None and masks is None
    picture, alpha = _composite(means2d, conics, colours, opacities, width, height, tile, offsets, ids)
    return picture, alpha, torch.zeros_like(alpha[..., 0]).int()


def _rasterize_bwd(
    means2d, conics, colours, opacities, backgrounds, masks, width, height, tile, offsets, ids,
    alphas, last_ids, v_picture, v_alpha, absgrad,
):  # fmt: skip
    assert not absgrad
    given = [t.detach().requires_grad_() for t in (means2d, conics, colours, opacities)]
    with torch.enable_grad():
        outputs = _composite(*given, width, height, tile, offsets, ids)
    return None, *torch.autograd.grad(outputs, given, (v_picture, v_alpha))


KERNELS = SimpleNamespace(
    projection_ewa_3dgs_fused_fwd=_projection_fwd,
    projection_ewa_3dgs_fused_bwd=_projection_bwd,
    spherical_harmonics_fwd=_harmonics_fwd,
    spherical_harmonics_bwd=_harmonics_bwd,
    intersect_tile=_intersect_tile,
    intersect_offset=impl._isect_offset_encode,
    rasterize_to_pixels_3dgs_fwd=_rasterize_fwd,
    rasterize_to_pixels_3dgs_bwd=_rasterize_bwd,
    CameraModelType=None,
    PINHOLE="pinhole",
)
"""Takes the place of `gsplat.cuda._backend._C`."""
