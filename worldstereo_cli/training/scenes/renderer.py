"""Render batches of generated scenes on a GPU or a CPU."""

import copy
import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from worldstereo_cli.errors import BackendError
from worldstereo_cli.training.scenes.build import compile_cpu, compile_gpu, default_cache_dir, gpu_cubin_name
from worldstereo_cli.training.scenes.library import AssetLibrary, build_library
from worldstereo_cli.training.scenes.settings import CATEGORIES, SceneSettings

# Sizes of source/scene.h and source/gpu.cu.
MAX_PRIMITIVES = 1024
MAX_MATERIALS = 96
GENERATE_THREADS = 128
TILE_EDGE = 16


@dataclass(frozen=True, slots=True)
class SceneCameras:
    """Cameras to use instead of the grammar's own, one for each seed."""

    world_from_camera: Float[Tensor, "b 4 4"]
    """OpenCV camera, metres; the scene's world has +y down and its ground near y = 0."""
    intrinsics: Float[Tensor, "b 3 3"]
    """Pixels, without skew."""


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """Rendered images with their truth, on one device."""

    rgb_linear: Float[Tensor, "b 3 h w"]
    """Linear radiance in [0, 8], not exposed."""
    depth_m: Float[Tensor, "b h w"]
    """Depth along the optical axis through the pixel's centre, metres; infinite in the sky."""
    intrinsics: Float[Tensor, "b 3 3"]
    """Pixels."""
    world_from_camera: Float[Tensor, "b 4 4"]
    """OpenCV camera, metres."""
    category: Int64[Tensor, " b"]
    """Index into `CATEGORIES`."""
    valid: Bool[Tensor, " b"]
    """False where the grammar found no free camera; such an image is to be dropped."""
    num_primitives: Int64[Tensor, " b"]
    """Shapes and mesh instances in the scene."""

    @property
    def sky(self) -> Bool[Tensor, "b h w"]:
        """Where nothing was hit."""
        return torch.isinf(self.depth_m)

    @property
    def up_camera(self) -> Float[Tensor, "b 3"]:
        """Unit vector against gravity, in camera coordinates."""
        return -self.world_from_camera[:, 1, :3]


class _Backend(Protocol):
    """Fills output tensors for a batch of seeds."""

    def run(self, seeds: Tensor, settings: SceneSettings, mixture: Tensor, job: "_Job") -> None:
        """Write every field of `job`."""


@dataclass(frozen=True, slots=True)
class _Job:
    width_px: int
    height_px: int
    samples: int
    cameras_given: bool
    cameras: Tensor
    rgb: Tensor
    depth: Tensor
    info: Tensor


class SceneRenderer:
    """Writes and renders scenes; one seed is one scene with one camera.

    An image depends on its seed, its size, `samples`, the mixture and the assets, and on nothing
    else in the batch. Compilers evaluate the arguments of a call in different orders, so a seed is one
    scene for nvcc and clang and may be another for g++; the distribution is the same.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        assets_dir: Path | None = None,
        settings: SceneSettings | None = None,
    ) -> None:
        """Compile or load the program and move the assets to the device.

        Args:
            device: "cpu", or a CUDA device.
            assets_dir: Folder made by `python -m worldstereo_cli.training assets`; shapes and
                patterns alone when absent.
            settings: Which scenes; the usual ones when absent.

        Raises:
            BackendError: A compiler or CuPy is missing.
            InputError: `assets_dir` holds no asset pack.
        """
        # "cuda" alone is whichever GPU is current; the kernels must be loaded on the same one.
        is_current = str(device) == "cuda"
        self.device = (
            torch.device("cuda", torch.cuda.current_device()) if is_current else torch.device(device)
        )
        self.settings = settings or SceneSettings()
        library = build_library(assets_dir)
        self._backend: _Backend
        if self.device.type == "cuda":
            self._backend = _GpuBackend(library, self.device, assets_dir)
        else:
            self._backend = _CpuBackend(library)

    def with_settings(self, settings: SceneSettings) -> "SceneRenderer":
        """Return a renderer of other scenes that shares the program and the assets with this one."""
        other = copy.copy(self)
        other.settings = settings
        return other

    def render(
        self,
        seeds: Sequence[int] | Int64[Tensor, " b"],
        width_px: int,
        height_px: int,
        *,
        samples: int = 2,
        mixture: Mapping[str, float] | None = None,
        cameras: SceneCameras | None = None,
    ) -> SceneBatch:
        """Render one image for every seed.

        Args:
            seeds: Integers in [0, 2**32).
            width_px: Image width.
            height_px: Image height.
            samples: Rays per pixel; the first goes through the pixel's centre.
            mixture: Weight of each category by name, in place of that of the settings; missing names
                weigh nothing.
            cameras: Cameras to use instead of the grammar's own.

        Returns:
            The images and their truth, on the renderer's device.
        """
        count = len(seeds)
        seed_words = torch.as_tensor(seeds, dtype=torch.int64, device=self.device)
        weights = mixture_weights(self.settings.mixture() if mixture is None else mixture).to(self.device)
        packed = torch.zeros(count, 16, device=self.device)
        if cameras is not None:
            packed = _pack_cameras(cameras, count).to(self.device)
        job = _Job(
            width_px,
            height_px,
            samples,
            cameras is not None,
            packed,
            torch.empty(count, 3, height_px, width_px, device=self.device),
            torch.empty(count, height_px, width_px, device=self.device),
            torch.zeros(count, 3, dtype=torch.int32, device=self.device),
        )
        if count:
            self._backend.run((seed_words & 0xFFFFFFFF).to(torch.uint32), self.settings, weights, job)
        return _batch_of(job)


def mixture_weights(mixture: Mapping[str, float]) -> Float[Tensor, "c"]:
    """Weights in the order of `CATEGORIES`, summing to 1.

    Raises:
        ValueError: A name is unknown, a weight negative, or all are zero.
    """
    unknown = set(mixture) - set(CATEGORIES)
    if unknown:
        raise ValueError(f"Unknown scene categories {sorted(unknown)}; known are {CATEGORIES}")
    weights = torch.tensor([float(mixture.get(name, 0.0)) for name in CATEGORIES])
    if bool((weights < 0).any()) or float(weights.sum()) <= 0:
        raise ValueError(f"Expected weights >= 0 with a positive sum, got {dict(mixture)}")
    return weights / weights.sum()


def preview_srgb(rgb_linear: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Expose each image to a middle gray and encode it as sRGB, for looking at."""
    luminance = rgb_linear.mean(1, keepdim=True).flatten(1)
    level = 0.5 * luminance.mean(1) + 0.5 * luminance.median(1).values
    x = rgb_linear * (0.24 / (level + 1e-3)).view(-1, 1, 1, 1)
    x = x / (1 + 0.3 * x)
    x = x.clamp(0, 1)
    return torch.where(x < 0.0031308, 12.92 * x, 1.055 * x.clamp(min=1e-8).pow(1 / 2.4) - 0.055)


def _pack_cameras(cameras: SceneCameras, count: int) -> Float[Tensor, "b 16"]:
    if cameras.world_from_camera.shape != (count, 4, 4) or cameras.intrinsics.shape != (count, 3, 3):
        raise ValueError(
            f"Expected {count} cameras, got {tuple(cameras.world_from_camera.shape)} "
            f"and {tuple(cameras.intrinsics.shape)}"
        )
    k = cameras.intrinsics.float()
    lens = torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], 1)
    return torch.cat([cameras.world_from_camera[:, :3].float().reshape(count, 12), lens], 1).contiguous()


def _batch_of(job: _Job) -> SceneBatch:
    count = len(job.cameras)
    pose = torch.zeros(count, 4, 4, device=job.rgb.device)
    pose[:, :3] = job.cameras[:, :12].view(count, 3, 4)
    pose[:, 3, 3] = 1
    intrinsics = torch.zeros(count, 3, 3, device=job.rgb.device)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = job.cameras[:, 12], job.cameras[:, 13]
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = job.cameras[:, 14], job.cameras[:, 15]
    intrinsics[:, 2, 2] = 1
    info = job.info.long()
    return SceneBatch(job.rgb, job.depth, intrinsics, pose, info[:, 0], info[:, 1].bool(), info[:, 2])


def _addresses(arrays: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: array.data_ptr() for name, array in arrays.items()}


class _CpuBackend:
    """The shared library, through ctypes; one thread."""

    def __init__(self, library: AssetLibrary) -> None:
        self._arrays = {name: torch.from_numpy(value) for name, value in library.arrays().items()}
        self._library = library
        self._program = ctypes.CDLL(str(compile_cpu()))

    def run(self, seeds: Tensor, settings: SceneSettings, mixture: Tensor, job: _Job) -> None:
        pointer, number = ctypes.c_void_p, ctypes.c_int
        header = self._library.header(_addresses(self._arrays), settings)
        self._program.render_images(
            number(len(seeds)),
            pointer(header.ctypes.data),
            pointer(seeds.contiguous().data_ptr()),
            pointer(mixture.data_ptr()),
            ctypes.c_float(settings.camera_spread),
            pointer(job.cameras.data_ptr()),
            number(job.cameras_given),
            number(job.width_px),
            number(job.height_px),
            number(job.samples),
            pointer(job.rgb.data_ptr()),
            pointer(job.depth.data_ptr()),
            pointer(job.info.data_ptr()),
        )


class _GpuBackend:
    """Two kernels on torch's current stream: `generate` writes scenes, `render` looks at them."""

    def __init__(self, library: AssetLibrary, device: torch.device, assets_dir: Path | None) -> None:
        try:
            import cupy
        except ImportError as error:
            raise BackendError(
                "Rendering scenes on a GPU needs CuPy.",
                remedy="pip install cupy-cuda12x (or cupy-cuda13x, as nvidia-smi says)",
            ) from error
        self._cupy: Any = cupy
        major, minor = torch.cuda.get_device_capability(device)
        capability = f"{major}{minor}"
        travelled = None if assets_dir is None else assets_dir / gpu_cubin_name(capability)
        if travelled is not None and travelled.exists():
            cubin = travelled
        else:
            cubin = compile_gpu(capability, default_cache_dir())
        self._device = device
        with cupy.cuda.Device(device.index):
            module = cupy.RawModule(path=str(cubin))
            self._generate = module.get_function("generate")
            self._render = module.get_function("render")
            sizes = torch.zeros(4, dtype=torch.int32, device=device)
            module.get_function("struct_sizes")((1,), (1,), (sizes.data_ptr(),))
            torch.cuda.synchronize(device)
        self._sizes = [int(size) for size in sizes.tolist()]
        self._arrays = {name: torch.from_numpy(value).to(device) for name, value in library.arrays().items()}
        self._library = library
        self._headers: dict[SceneSettings, Tensor] = {}

    def _header(self, settings: SceneSettings) -> Tensor:
        if settings not in self._headers:
            header = self._library.header(_addresses(self._arrays), settings)
            self._headers[settings] = torch.from_numpy(header.view(np.uint8).copy()).to(self._device)
        return self._headers[settings]

    def run(self, seeds: Tensor, settings: SceneSettings, mixture: Tensor, job: _Job) -> None:
        count = len(seeds)
        per_image = (1, MAX_PRIMITIVES, MAX_MATERIALS, 2 * MAX_PRIMITIVES)
        buffers = [
            torch.empty(count * n * size, dtype=torch.uint8, device=self._device)
            for n, size in zip(per_image, self._sizes, strict=True)
        ]
        buffers.append(torch.empty(count * MAX_PRIMITIVES, dtype=torch.int32, device=self._device))
        shared = (*(b.data_ptr() for b in buffers), self._header(settings).data_ptr(), seeds.data_ptr())
        size = (np.int32(job.width_px), np.int32(job.height_px))
        stream = self._cupy.cuda.ExternalStream(torch.cuda.current_stream(self._device).cuda_stream)
        with self._cupy.cuda.Device(self._device.index), stream:
            spread = np.float32(settings.camera_spread)
            self._generate((count,), (GENERATE_THREADS,), (*shared, mixture.data_ptr(), spread, *size))
            grid = (-(-job.width_px // TILE_EDGE), -(-job.height_px // TILE_EDGE), count)
            outputs = (job.rgb.data_ptr(), job.depth.data_ptr(), job.info.data_ptr())
            given = np.int32(job.cameras_given)
            arguments = (*shared, job.cameras.data_ptr(), given, *size, np.int32(job.samples), *outputs)
            self._render(grid, (TILE_EDGE * TILE_EDGE,), arguments)
