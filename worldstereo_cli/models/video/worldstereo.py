"""The frame backend of WorldStereo's own architecture: released weights, or small ones of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from worldstereo_cli.errors import BackendError, OutOfMemory
from worldstereo_cli.geometry.camera_encoding import NormalisedFrame, camera_tokens, plucker_map
from worldstereo_cli.models.catalogue import WeightsFolder
from worldstereo_cli.models.video.acceleration import why_not_fused
from worldstereo_cli.models.video.control_branch import Control
from worldstereo_cli.models.video.denoising import ClipConditions, denoise
from worldstereo_cli.models.video.device import (
    available_bytes,
    is_out_of_memory,
    matmul_flops_per_second,
    wait_for,
)
from worldstereo_cli.models.video.footprint import (
    TIERS,
    Footprint,
    MemoryPlan,
    OtherParts,
    Tier,
    Workload,
    choose_tier,
    clip_footprint,
    tier_below,
)
from worldstereo_cli.models.video.keyframes import KeyframeCodec, conditioning_latent, reference_latents
from worldstereo_cli.models.video.parts import VideoParts
from worldstereo_cli.models.video.protocol import Clip, ClipRequest, ClipSize, ControlStyle, References
from worldstereo_cli.models.video.samplers import DistilledSampler, Sampler, UniPCSampler
from worldstereo_cli.models.video.transformer import ReferenceLatents, WorldStereoTransformer
from worldstereo_cli.progress import Progress, silent

NEUTRAL_PROMPT = (
    "The camera moves smoothly through a still, evenly lit scene. Nothing in it moves; every surface stays "
    "sharp and keeps its shape, colour and place."
)
"""Stands in where no prompt is given: it describes what every clip here is, and no content."""


_LONGEST_CLIP_S = 3600.0
"""A path that takes a CPU longer than this is a mistake: the released models take days."""


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """What a recipe decides about sampling and memory."""

    num_steps: int = 40
    """Of the solver; models that were distilled keep their own count."""
    guidance: float = 5.0
    """How far to go beyond the prompt; distilled models take 1."""
    tier: Tier | None = None
    """How the weights are stored; None for the fastest way that fits."""
    prompt_cache: Path = Path.home() / ".cache" / "worldstereo" / "prompts"
    """Where embedded prompts are kept."""


class WorldStereoBackend:
    """Completes frames with a video model whose architecture its weights folder states.

    Parts are loaded when the first clip asks for them: the text encoder alone, and let go; the
    image encoder likewise; autoencoder and transformer stay for the clips that follow.
    """

    def __init__(
        self,
        parts: VideoParts,
        settings: VideoSettings | None = None,
        progress: Progress = silent,
    ) -> None:
        """Prepare; nothing heavy is loaded yet.

        Args:
            parts: Of the weights, on their device.
            settings: Of sampling and memory.
            progress: Told before the first denoising step and after each.
        """
        self.name = parts.folder.name
        self.credits = {"licence": parts.folder.licence, "revision": parts.folder.revision}
        self.settings = settings or VideoSettings()
        self._parts = parts
        self._progress = progress
        config = parts.config
        self.num_references = config.max_references if config.remembers else 0
        self.reads_prompt = config.text.source == "encoder"
        self.control_style: ControlStyle = config.control_style
        self._footprints: dict[ClipSize, Footprint] = {}
        self._plan: MemoryPlan | None = None
        self._transformer: WorldStereoTransformer | None = None
        self._codec: KeyframeCodec | None = None
        self._seen_picture: tuple[Tensor, Tensor | None] | None = None

    @property
    def folder(self) -> WeightsFolder:
        """The weights, with their licence and revision."""
        return self._parts.folder

    def clip_size(self, width_px: int, height_px: int) -> ClipSize:
        """Return the trained size whose aspect is nearest to a photo's."""
        width, height = self._parts.config.size_for(width_px, height_px)
        return ClipSize(self._parts.config.num_keyframes, width, height)

    def footprint(self, size: ClipSize) -> Footprint:
        """Compute what a clip needs, without loading anything.

        Raises:
            BackendError: A part of the weights is missing.
        """
        if size not in self._footprints:
            self._footprints[size] = self._counted(size, fused=self._why_not_fused() is None)
        return self._footprints[size]

    def _why_not_fused(self) -> str | None:
        """Say what keeps a device from fusing steps; None if nothing does. A CPU is not asked to."""
        return why_not_fused() if self._parts.device.type == "cuda" else "this is a CPU"

    def _counted(self, size: ClipSize, *, fused: bool) -> Footprint:
        config = self._parts.config
        work = Workload(
            size.num_frames,
            size.width_px,
            size.height_px,
            self.num_references,
            self._num_steps(),
            1 if self._guidance() == 1.0 else 2,
        )
        return clip_footprint(
            self._parts.backbone,
            config,
            work,
            OtherParts(*self._parts.codec_size(), self._parts.text_encoder_bytes()),
            dtype=self._parts.dtype,
            fused=fused,
        )

    def plan(self, size: ClipSize) -> MemoryPlan:
        """Choose how the weights are stored, for clips of this size on this device.

        Raises:
            OutOfMemory: No way fits.
            BackendError: A part of the weights is missing.
        """
        if self._plan is None:
            device = self._parts.device
            available = available_bytes(device)
            speed = matmul_flops_per_second(device, self._parts.dtype)
            try:
                self._plan = choose_tier(self.footprint(size), available, speed, self.settings.tier)
            except OutOfMemory as error:
                slower = self._why_not_fused()
                if device.type != "cuda" or slower is None:
                    raise
                needed = self._counted(size, fused=True).peak(TIERS[-1]) / (1 << 30)
                raise OutOfMemory(
                    error.problem,
                    remedy=f"Mend what makes it need more than {needed:.1f} GiB: {slower}. {error.remedy}",
                ) from error
        return self._plan

    def describe_needs(self, size: ClipSize) -> str:
        """Say in one line how a clip of this size will be made, and what it needs.

        Raises:
            OutOfMemory: No way fits.
            BackendError: A part of the weights is missing or does not fit, or a CPU would take longer than
                anybody waits.
        """
        self._refuse_endless(size)
        self._parts.check_transformer()
        slower = self._why_not_fused() if self._parts.device.type == "cuda" else None
        unfused = "" if slower is None else f"; a fifth slower than it could be, because {slower}"
        return self.plan(size).describe() + unfused

    def _refuse_endless(self, size: ClipSize) -> None:
        device = self._parts.device
        if device.type != "cpu":
            return
        seconds = self.footprint(size).flops / matmul_flops_per_second(device, self._parts.dtype)
        if seconds > _LONGEST_CLIP_S:
            raise BackendError(
                f"{self.name} would take about {seconds / 3600:.0f} hours for each path on this CPU.",
                remedy="Use a machine with an NVIDIA GPU, or --recipe default, which needs no video model.",
            )

    @torch.inference_mode()
    def generate(self, request: ClipRequest) -> Clip:
        """Make the frames of a path.

        Raises:
            BackendError: A part of the weights is missing or damaged.
            OutOfMemory: The clip does not fit on the device.
            ValueError: The request has another number of frames than the model makes, or references
                that it cannot place.
        """
        self._check(request)
        height, width = request.control.shape[-2:]
        size = ClipSize(len(request.cameras), width, height)
        plan = self.plan(size)
        with _memory_errors(plan, self.footprint(size)):
            conditions = self.conditions(request)
            transformer = self._loaded_transformer(plan)
            self._progress(0, self._num_steps(), "denoising")
            latents = denoise(
                transformer,
                self._sampler(),
                self._noise(conditions.first_frame, request.seed),
                conditions,
                guidance=self._guidance(),
                on_step=lambda i, _: self._tell_step(i + 1),
            )
            frames = self._loaded_codec(plan).decode(latents)
        return Clip(frames.cpu(), None)

    def _tell_step(self, done: int) -> None:
        # Launched is not done: without this a GPU would be told of a step ahead of its work.
        wait_for(self._parts.device)
        self._progress(done, self._num_steps(), "denoising")

    @torch.inference_mode()
    def conditions(self, request: ClipRequest) -> ClipConditions:
        """Bring a request into the form that the model reads: texts first, then pictures.

        Raises:
            BackendError: A part of the weights is missing or damaged.
            OutOfMemory: No way to store the weights fits on the device.
        """
        height, width = request.control.shape[-2:]
        text, negative = self._texts(request.prompt)
        image = self._image_tokens(request.first_frame)
        codec = self._loaded_codec(self.plan(ClipSize(len(request.cameras), width, height)))
        return replace(self._seen(request, codec), text=text, negative_text=negative, image=image)

    def _check(self, request: ClipRequest) -> None:
        config, frames = self._parts.config, len(request.cameras)
        if frames != config.num_keyframes:
            raise ValueError(f"Expected {config.num_keyframes} cameras, got {frames}.")
        references = request.references
        if references is None:
            return
        if len(references.images) > config.max_references:
            raise ValueError(
                f"Expected at most {config.max_references} references, got {len(references.images)}."
            )
        if not bool(((references.target_index >= 1) & (references.target_index < frames)).all()):
            raise ValueError(f"Expected targets 1 to {frames - 1}, got {references.target_index.tolist()}.")

    def _seen(self, request: ClipRequest, codec: KeyframeCodec) -> ClipConditions:
        """Bring pictures, holes and cameras into the form that the model reads."""
        config, device, dtype = self._parts.config, self._parts.device, self._parts.dtype
        mask_channels = self._parts.backbone.mask_channels
        cameras = request.cameras
        frame = NormalisedFrame.fit(cameras.camera_from_world)
        targets = frame.apply(cameras.camera_from_world)
        # Where the model is: eight million rays take seconds on a CPU.
        rays = plucker_map(
            targets.to(device),
            cameras.intrinsics.to(device),
            cameras.width_px,
            cameras.height_px,
            first_column_px=config.quirks.first_column_px,
        )
        # The first frame is known whole: its picture stands in the control, and it has no holes.
        shown = request.control.clone()
        shown[0] = request.first_frame
        holes = request.hole.clone()
        holes[0] = False
        rendered = codec.encode(2 * shown - 1).to(dtype)
        control = Control(
            rendered,
            holes[None, None].to(device, dtype),
            rays.transpose(0, 1)[None].to(device, dtype),
        )
        references = None
        if config.remembers:
            beside = request.references or _photo_as_reference(request)
            references = ReferenceLatents(
                reference_latents(codec, 2 * beside.images - 1, mask_channels).to(dtype),
                beside.target_index.to(device) - 1,
                camera_tokens(frame.apply(beside.cameras.camera_from_world))[None].to(device),
            )
        known = conditioning_latent(codec, 2 * request.first_frame - 1, config, mask_channels)
        return ClipConditions(known.to(dtype), control, references, camera_tokens(targets)[None].to(device))

    def _texts(self, prompt: str) -> tuple[Tensor | None, Tensor | None]:
        """Embed the prompt and, where guidance needs it, the negative one."""
        encoder = self._parts.prompt_encoder(self.settings.prompt_cache)
        if encoder is None:
            return None, None
        prompts = [prompt or NEUTRAL_PROMPT]
        if self._guidance() != 1.0:
            prompts.append(self._parts.config.negative_prompt)
        alone = not encoder.is_cached(prompts) and self._parts.device.type != "cpu"
        if alone:
            # The encoder works alone on the GPU; what is there comes back afterwards.
            self.rest()
        embedded = encoder.encode(prompts)
        if alone:
            # The weights that come next are to find whole memory, not the pieces of an encoder.
            torch.cuda.empty_cache()
        return embedded[:1], embedded[1:] if len(prompts) > 1 else None

    def _image_tokens(self, first_frame: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 i e"] | None:
        """Return the first frame's tokens; most paths of a scene begin with the very same picture."""
        if self._seen_picture is None or not torch.equal(self._seen_picture[0], first_frame):
            self._seen_picture = first_frame, self._parts.picture_tokens(_picture(first_frame))
        return self._seen_picture[1]

    def rest(self) -> None:
        """Let go of transformer and autoencoder until the next clip."""
        self._transformer = self._codec = None
        if self._parts.device.type != "cpu":
            torch.cuda.empty_cache()

    def _loaded_codec(self, plan: MemoryPlan) -> KeyframeCodec:
        if self._codec is None:
            self._codec = self._parts.codec(plan.frames_at_once)
        return self._codec

    def _loaded_transformer(self, plan: MemoryPlan) -> WorldStereoTransformer:
        if self._transformer is None:
            self._transformer = self._parts.transformer(plan, self._progress)
        return self._transformer

    def _noise(self, like: Float[Tensor, "1 m f h w"], seed: int) -> Float[Tensor, "1 c f h w"]:
        """Draw on the CPU, so that a seed means the same everywhere."""
        shape = (1, self._parts.backbone.out_channels, *like.shape[2:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(like.device)

    def _sampler(self) -> Sampler:
        distilled = self._parts.config.distilled
        if distilled is not None:
            return DistilledSampler(distilled, self._parts.device)
        return UniPCSampler(self._parts.solver(), self.settings.num_steps, device=self._parts.device)

    def _num_steps(self) -> int:
        distilled = self._parts.config.distilled
        return self.settings.num_steps if distilled is None else distilled.num_steps

    def _guidance(self) -> float:
        """Return the guidance; a model without prompts has nothing to be guided away from."""
        config = self._parts.config
        prompted = config.distilled is None and config.text.source == "encoder"
        return self.settings.guidance if prompted else 1.0


def _photo_as_reference(request: ClipRequest) -> References:
    """Let the first frame stand in where nothing is remembered yet."""
    return References(request.first_frame[None], request.cameras[0], torch.ones(1, dtype=torch.int64))


def _picture(image: Float[Tensor, "3 h w"]) -> Image.Image:
    array = (image.cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(array))


@contextmanager
def _memory_errors(plan: MemoryPlan, footprint: Footprint) -> Iterator[None]:
    """Turn an allocator's failure into the tier that fits."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        smaller = tier_below(plan.tier)
        advice = "Close other programs on the GPU; the same command goes on with the next round."
        if smaller is not None:
            need = footprint.peak(smaller) / (1 << 30)
            advice = (
                f"The same command with --set generate.weights={smaller}  needs {need:.1f} GiB; finished "
                "rounds are kept."
            )
        raise OutOfMemory(
            f"The GPU ran out of memory with {plan.tier} weights, which were expected to fit "
            f"({plan.describe()}).",
            remedy=advice,
        ) from error
