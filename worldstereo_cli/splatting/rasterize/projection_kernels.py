"""Splats to ellipses on the image and back: compiled kernels, one splat at a time.

With the camera's rotation W, the splat's rotation R and standard deviations s, and the Jacobian J
of the pinhole projection at the splat's centre, the 2x3 matrix U = J W R diag(s) gives the
covariance on the image, U U^T + dilation. The backward pass follows the same chain by hand.

Source: Zwicker et al., EWA Volume Splatting, 2001, section 4; Kerbl et al. 2023, section 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from worldstereo_cli.splatting.rasterize.jit import kernel, parallel_kernel
from worldstereo_cli.splatting.rasterize.limits import DILATION_PX2, FRUSTUM_MARGIN, MIN_ALPHA, NEAR_M
from worldstereo_cli.splatting.rasterize.tile_kernels import TILE_H, TILE_W, Tiles

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Two = tuple[float, float]
Three = tuple[float, float, float]
Four = tuple[float, float, float, float]
Nine = tuple[float, float, float, float, float, float, float, float, float]


class SplatArrays(NamedTuple):
    """Splats, or gradients with respect to them, as contiguous float32 arrays."""

    means: Floats
    quaternions: Floats
    log_scales: Floats
    logits: Floats
    colors: Floats


@kernel
def _unit_quaternion(q: Floats) -> tuple[Four, float]:
    """Normalise a quaternion; return its length too."""
    w, x, y, z = float(q[0]), float(q[1]), float(q[2]), float(q[3])
    norm = math.sqrt(w * w + x * x + y * y + z * z)
    return (w / norm, x / norm, y / norm, z / norm), norm


@kernel
def _rotation(w: float, x: float, y: float, z: float) -> Nine:
    """Return the matrix of a unit quaternion, row by row."""
    return (
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    )  # fmt: skip


@kernel
def _centre(camera: Doubles, x: float, y: float, z: float) -> Three:
    """Bring a point into the camera's frame; `camera` holds camera_from_world row by row first."""
    c = camera
    return (
        c[0] * x + c[1] * y + c[2] * z + c[3],
        c[4] * x + c[5] * y + c[6] * z + c[7],
        c[8] * x + c[9] * y + c[10] * z + c[11],
    )


@kernel
def _slopes(camera: Doubles, x: float, y: float, z: float) -> Two:
    """Clip x / z and y / z to the widened field of view."""
    fx, fy, cx, cy, width, height = camera[12], camera[13], camera[14], camera[15], camera[16], camera[17]
    mx, my = FRUSTUM_MARGIN * 0.5 * width / fx, FRUSTUM_MARGIN * 0.5 * height / fy
    return (
        min(max(x / z, -cx / fx - mx), (width - cx) / fx + mx),
        min(max(y / z, -cy / fy - my), (height - cy) / fy + my),
    )


@kernel
def _axis(camera: Doubles, slopes: Two, z: float, m: Three) -> Two:
    """Return the image, in pixels, of one scaled axis of a splat."""
    c = camera
    x = c[0] * m[0] + c[1] * m[1] + c[2] * m[2]
    y = c[4] * m[0] + c[5] * m[1] + c[6] * m[2]
    w = c[8] * m[0] + c[9] * m[1] + c[10] * m[2]
    return c[12] / z * (x - slopes[0] * w), c[13] / z * (y - slopes[1] * w)


@parallel_kernel
def project(splats: SplatArrays, camera: Doubles, records: Floats, boxes: NDArray[np.int16]) -> None:
    """Project all splats.

    Args:
        splats: The splats.
        camera: camera_from_world (12, row by row), fx, fy, cx, cy, width, height.
        records: Filled with one row for each splat (see `tile_kernels.RECORD`).
        boxes: Filled with first and past-the-last tile along x and along y; all zero for a splat
            that is not drawn.
    """
    tiles_x = (int(camera[16]) + TILE_W - 1) // TILE_W
    tiles_y = (int(camera[17]) + TILE_H - 1) // TILE_H
    for g in numba.prange(records.shape[0]):
        boxes[g, :] = 0
        mean = splats.means[g]
        x, y, z = _centre(camera, float(mean[0]), float(mean[1]), float(mean[2]))
        opacity = 1.0 / (1.0 + math.exp(-float(splats.logits[g])))
        if not (z >= NEAR_M and opacity >= MIN_ALPHA):
            continue
        a, b, c = _covariance(splats, g, camera, _slopes(camera, x, y, z), z)
        determinant = a * c - b * b
        reach = math.sqrt(2.0 * math.log(opacity / MIN_ALPHA))
        reach_x, reach_y = reach * math.sqrt(a), reach * math.sqrt(c)
        u = camera[12] * x / z + camera[14]
        v = camera[13] * y / z + camera[15]
        # A pixel is reached when its centre is, hence the half.
        x0, x1 = max(0.0, math.ceil(u - reach_x - 0.5)), min(camera[16] - 1.0, math.floor(u + reach_x - 0.5))
        y0, y1 = max(0.0, math.ceil(v - reach_y - 0.5)), min(camera[17] - 1.0, math.floor(v + reach_y - 0.5))
        if not (x0 <= x1 and y0 <= y1 and determinant > 0.0):
            continue
        boxes[g, 0], boxes[g, 1] = int(x0) // TILE_W, min(tiles_x, int(x1) // TILE_W + 1)
        boxes[g, 2], boxes[g, 3] = int(y0) // TILE_H, min(tiles_y, int(y1) // TILE_H + 1)
        row = records[g]
        row[0], row[1] = u, v
        row[2], row[3], row[4] = 0.5 * c / determinant, -b / determinant, 0.5 * a / determinant
        row[5] = opacity
        row[6], row[7], row[8] = splats.colors[g, 0], splats.colors[g, 1], splats.colors[g, 2]
        row[9], row[10], row[11] = z, y0, y1 + 1.0


@kernel
def _covariance(splats: SplatArrays, g: int, camera: Doubles, slopes: Two, z: float) -> Three:
    """Return the dilated covariance on the image, px^2: xx, xy, yy."""
    s = splats.log_scales[g]
    q, _ = _unit_quaternion(splats.quaternions[g])
    r = _rotation(q[0], q[1], q[2], q[3])
    sx, sy, sz = math.exp(float(s[0])), math.exp(float(s[1])), math.exp(float(s[2]))
    ax, ay = _axis(camera, slopes, z, (r[0] * sx, r[3] * sx, r[6] * sx))
    bx, by = _axis(camera, slopes, z, (r[1] * sy, r[4] * sy, r[7] * sy))
    cx, cy = _axis(camera, slopes, z, (r[2] * sz, r[5] * sz, r[8] * sz))
    return (
        ax * ax + bx * bx + cx * cx + DILATION_PX2,
        ax * ay + bx * by + cx * cy,
        ay * ay + by * by + cy * cy + DILATION_PX2,
    )


@parallel_kernel
def project_backward(
    splats: SplatArrays, camera: Doubles, records: Floats, tiles: Tiles, sums: Floats, gradients: SplatArrays
) -> None:
    """Send gradients of projected splats back to the splats.

    Args:
        splats: The splats.
        camera: As for `project`.
        records: What `project` made.
        tiles: The tile lists, for the place of each splat's sums.
        sums: Gradients of every splat in every of its tiles (see `tile_kernels.SUMS`).
        gradients: Filled; must come as zeros.
    """
    for g in numba.prange(records.shape[0]):
        box = tiles.boxes[g]
        first = tiles.slots[g]
        last = first + (box[1] - box[0]) * (box[3] - box[2])
        if first < last:
            _splat_backward(splats, g, camera, records[g], sums[first:last], gradients)


@kernel
def _splat_backward(
    splats: SplatArrays, g: int, camera: Doubles, row: Floats, sums: Floats, gradients: SplatArrays
) -> None:
    """Add up what a splat's tiles say, and send it back to the splat."""
    e0 = ex = ey = exx = exy = eyy = red = green = blue = depth = 0.0
    for k in range(sums.shape[0]):
        e0 += sums[k, 0]
        ex += sums[k, 1]
        ey += sums[k, 2]
        exx += sums[k, 3]
        exy += sums[k, 4]
        eyy += sums[k, 5]
        red += sums[k, 6]
        green += sums[k, 7]
        blue += sums[k, 8]
        depth += sums[k, 9]
    gradients.colors[g, 0], gradients.colors[g, 1], gradients.colors[g, 2] = red, green, blue
    # alpha = opacity exp(-e) and opacity = logistic(logit), so d/dlogit = -(1 - opacity) d/de.
    gradients.logits[g] = e0 * (row[5] - 1.0)
    gu, gv = 2.0 * row[2] * ex + row[3] * ey, row[3] * ex + 2.0 * row[4] * ey
    _shape_backward(splats, g, camera, _covariance_gradient(row, exx, exy, eyy), (gu, gv, depth), gradients)


@kernel
def _covariance_gradient(row: Floats, exx: float, exy: float, eyy: float) -> Three:
    """Turn gradients of the inverse covariance Q into those of the covariance: -Q G Q."""
    a, b, c = 2.0 * row[2], float(row[3]), 2.0 * row[4]
    gxx, gxy, gyy = 0.5 * exx, 0.5 * exy, 0.5 * eyy
    hxx, hxy = a * gxx + b * gxy, a * gxy + b * gyy
    hyx, hyy = b * gxx + c * gxy, b * gxy + c * gyy
    return -(hxx * a + hxy * b), -(hxx * b + hxy * c), -(hyx * b + hyy * c)


@kernel
def _axis_backward(camera: Doubles, slopes: Two, z: float, m: Three, v: Three) -> tuple[Three, Three]:
    """Follow one scaled axis back from the covariance on the image.

    Args:
        camera: As for `project`.
        slopes: Clipped x / z and y / z of the splat's centre.
        z: Its depth.
        m: The scaled axis, world frame.
        v: Gradient of the covariance: xx, xy (one of the two equal entries), yy.

    Returns:
        Gradients of the axis, and of the two slopes and the depth.
    """
    c = camera
    ax, ay = _axis(camera, slopes, z, m)
    fx, fy = c[12] / z, c[13] / z
    hx, hy = 2.0 * (v[0] * ax + v[1] * ay), 2.0 * (v[1] * ax + v[2] * ay)
    w = c[8] * m[0] + c[9] * m[1] + c[10] * m[2]
    kx, ky = fx * hx, fy * hy
    kw = -(slopes[0] * kx + slopes[1] * ky)
    axis = (
        kx * c[0] + ky * c[4] + kw * c[8],
        kx * c[1] + ky * c[5] + kw * c[9],
        kx * c[2] + ky * c[6] + kw * c[10],
    )
    return axis, (-kx * w, -ky * w, -(ax * hx + ay * hy) / z)


@kernel
def _quaternion_gradient(q: Four, d: Nine) -> Four:
    """Turn gradients of a rotation matrix into those of its unit quaternion."""
    w, x, y, z = q
    return (
        2.0 * (x * (d[7] - d[5]) + y * (d[2] - d[6]) + z * (d[3] - d[1])),
        2.0 * (w * (d[7] - d[5]) + y * (d[1] + d[3]) + z * (d[2] + d[6]) - 2.0 * x * (d[4] + d[8])),
        2.0 * (w * (d[2] - d[6]) + x * (d[1] + d[3]) + z * (d[5] + d[7]) - 2.0 * y * (d[0] + d[8])),
        2.0 * (w * (d[3] - d[1]) + x * (d[2] + d[6]) + y * (d[5] + d[7]) - 2.0 * z * (d[0] + d[4])),
    )


@kernel
def _shape_backward(
    splats: SplatArrays, g: int, camera: Doubles, v: Three, centre_gradient: Three, gradients: SplatArrays
) -> None:
    """Follow a splat's covariance and centre back to its mean, scales and quaternion."""
    mean, s = splats.means[g], splats.log_scales[g]
    x, y, z = _centre(camera, float(mean[0]), float(mean[1]), float(mean[2]))
    slopes = _slopes(camera, x, y, z)
    q, norm = _unit_quaternion(splats.quaternions[g])
    r = _rotation(q[0], q[1], q[2], q[3])
    s0, s1, s2 = math.exp(float(s[0])), math.exp(float(s[1])), math.exp(float(s[2]))
    m0 = (r[0] * s0, r[3] * s0, r[6] * s0)
    m1 = (r[1] * s1, r[4] * s1, r[7] * s1)
    m2 = (r[2] * s2, r[5] * s2, r[8] * s2)
    a0, k0 = _axis_backward(camera, slopes, z, m0, v)
    a1, k1 = _axis_backward(camera, slopes, z, m1, v)
    a2, k2 = _axis_backward(camera, slopes, z, m2, v)
    gradients.log_scales[g, 0] = a0[0] * m0[0] + a0[1] * m0[1] + a0[2] * m0[2]
    gradients.log_scales[g, 1] = a1[0] * m1[0] + a1[1] * m1[1] + a1[2] * m1[2]
    gradients.log_scales[g, 2] = a2[0] * m2[0] + a2[1] * m2[1] + a2[2] * m2[2]
    d = (
        a0[0] * s0, a1[0] * s1, a2[0] * s2,
        a0[1] * s0, a1[1] * s1, a2[1] * s2,
        a0[2] * s0, a1[2] * s1, a2[2] * s2,
    )  # fmt: skip
    h = _quaternion_gradient(q, d)
    radial = q[0] * h[0] + q[1] * h[1] + q[2] * h[2] + q[3] * h[3]
    for i in range(4):
        gradients.quaternions[g, i] = (h[i] - q[i] * radial) / norm
    # A clipped slope does not move with the centre.
    gx = k0[0] + k1[0] + k2[0] if slopes[0] == x / z else 0.0
    gy = k0[1] + k1[1] + k2[1] if slopes[1] == y / z else 0.0
    gx, gy = gx + camera[12] * centre_gradient[0], gy + camera[13] * centre_gradient[1]
    tx, ty = gx / z, gy / z
    tz = k0[2] + k1[2] + k2[2] + centre_gradient[2] - (gx * x + gy * y) / (z * z)
    for i in range(3):
        gradients.means[g, i] = camera[i] * tx + camera[4 + i] * ty + camera[8 + i] * tz
