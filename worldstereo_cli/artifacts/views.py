"""A view: one picture with its depth and its camera, as lift and generate write it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Bool, Float
from torch import Tensor

from worldstereo_cli.artifacts.cameras import read_cameras, write_cameras
from worldstereo_cli.artifacts.images import (
    depth_picture,
    read_depth,
    read_image,
    read_mask,
    write_depth,
    write_image,
    write_mask,
)
from worldstereo_cli.errors import ArtifactError
from worldstereo_cli.geometry.cameras import Cameras


@dataclass(frozen=True, slots=True)
class View:
    """A picture, its depth and its camera.

    On disk:
        image.png    sRGB, 8 bit
        depth.npy    float32, metres along the optical axis; sky lies on the far shell
        valid.png    255 where the depth may become surface (edges between layers are out)
        sky.png      255 where there is sky
        camera.json  world_from_camera, intrinsics in pixels, size
        depth.png    to look at
    """

    image: Float[Tensor, "3 h w"]
    depth_m: Float[Tensor, "h w"]
    valid: Bool[Tensor, "h w"]
    sky: Bool[Tensor, "h w"]
    camera: Cameras
    """A path of one camera, of the size of the image."""

    def __post_init__(self) -> None:
        size = (self.camera.height_px, self.camera.width_px)
        shapes = [self.image.shape[1:], self.depth_m.shape, self.valid.shape, self.sky.shape]
        if any(shape != size for shape in shapes) or len(self.camera) != 1:
            raise ValueError(f"Expected one camera and maps of {size}, got {[tuple(s) for s in shapes]}.")

    def write(self, root: Path) -> None:
        """Write the view into a new directory."""
        root.mkdir(parents=True)
        write_image(root / "image.png", self.image)
        write_depth(root / "depth.npy", self.depth_m)
        write_mask(root / "valid.png", self.valid)
        write_mask(root / "sky.png", self.sky)
        write_cameras(root / "camera.json", self.camera)
        write_image(root / "depth.png", depth_picture(self.depth_m, self.valid & ~self.sky))

    @staticmethod
    def read(root: Path) -> View:
        """Read a view.

        Raises:
            ArtifactError: A file is missing or damaged, or sizes do not fit together.
        """
        try:
            return View(
                read_image(root / "image.png"),
                read_depth(root / "depth.npy"),
                read_mask(root / "valid.png"),
                read_mask(root / "sky.png"),
                read_cameras(root / "camera.json"),
            )
        except ValueError as error:
            raise ArtifactError(
                f"{root} does not hold one view: {error}", remedy="Run lift again with --force."
            ) from error
