"""Geometry on tensors: no disk, no randomness, no device by name.

Conventions, written once, here:

* Cameras are OpenCV's: +x right, +y down, +z forward.
* The world is right-handed, in metres, with its origin at the input camera: +x right, +y down,
  +z forward, levelled to gravity when that can be estimated.
* `world_from_camera` maps camera coordinates to world coordinates, and transforms compose by
  adjacency: `world_from_camera @ camera_from_pixel`.
* The centre of the top-left pixel is (0.5, 0.5); an image of `width_px` ends at `width_px`.
* Depth is measured along the optical axis (z), not along the ray.
* Angles are radians here and degrees in recipes.
* Images are sRGB-encoded float `(c h w)` in [0, 1], unless the name says `_u8` or `_linear`.
* Quaternions are (w, x, y, z).
"""
