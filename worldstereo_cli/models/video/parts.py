"""The parts of a weights folder, loaded: transformer, autoencoder, prompt and picture tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from worldstereo_cli.errors import BackendError
from worldstereo_cli.models.catalogue import WeightsFolder, base_shards
from worldstereo_cli.models.fetch import fetch_base_shards
from worldstereo_cli.models.video.acceleration import accelerate
from worldstereo_cli.models.video.config import (
    BackboneConfig,
    DistilledConfig,
    ModelConfig,
    SolverConfig,
    read_backbone_config,
    read_model_config,
    read_solver_config,
)
from worldstereo_cli.models.video.encoders import (
    ClipPreprocess,
    PromptEncoder,
    PromptSettings,
    encode_image,
    refuse_missing,
)
from worldstereo_cli.models.video.footprint import MemoryPlan, pack_linears
from worldstereo_cli.models.video.keyframes import KeyframeCodec
from worldstereo_cli.models.video.transformer import WorldStereoTransformer
from worldstereo_cli.models.weights import Checkpoint, LoadPlan, check_names, load_streaming
from worldstereo_cli.progress import Progress, silent

_OWN_PARTS = ("controlnet.", "camera_embedding.", "ref_index_embedding.", "text_tokens")


@dataclass(frozen=True, slots=True)
class VideoParts:
    """Everything that a weights folder says, and the means to load its parts one by one."""

    folder: WeightsFolder
    config: ModelConfig
    backbone: BackboneConfig
    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def open(folder: WeightsFolder, device: torch.device) -> VideoParts:
        """Read the configs; on a GPU the parts will be bfloat16, on a CPU float32.

        Raises:
            BackendError: A config is missing or cannot be used.
        """
        config = read_model_config(folder.model)
        if folder.distilled is not None and folder.distilled != (config.distilled is not None):
            steps = DistilledConfig() if folder.distilled else None
            config = config.model_copy(update={"distilled": steps})
        backbone = config.backbone or read_backbone_config(folder.part("transformer") / "config.json")
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        return VideoParts(folder, config, backbone, device, dtype)

    def transformer(self, plan: MemoryPlan, progress: Progress = silent) -> WorldStereoTransformer:
        """Stream the transformer to the device.

        Raises:
            BackendError: The weights do not fit its config.
        """
        model = self._empty_transformer()
        if plan.tier == "eight-bit":
            pack_linears(model)
        model.process_feed_forward_in(plan.feed_forward_rows)
        checkpoint = Checkpoint.find(self.folder.model)
        load_streaming(model, checkpoint, self._load_plan(), progress=progress)
        if self.device.type == "cuda":
            accelerate(model)
        return model.eval()  # type: ignore[no-any-return]

    def check_transformer(self) -> None:
        """See that every tensor of the transformer is here and has its shape, without reading one.

        Raises:
            BackendError: One is not, or the model reads something that is not made here.
        """
        control = self.config.control
        if control is not None and control.mask_downsample > 1:
            raise BackendError(
                f"{self.folder.name} reads {control.mask_downsample} ray maps for each keyframe "
                "(mask_downsample); here is one.",
                remedy="Use a model of keyframes, such as worldstereo-memory-dmd.",
            )
        check_names(self._empty_transformer(), Checkpoint.find(self.folder.model), self._load_plan())

    def _load_plan(self) -> LoadPlan:
        return LoadPlan(
            self.device,
            self.dtype,
            # The timestep's embedding and the modulation tables lose too much in bfloat16.
            keep_float32=("time_embedder", "scale_shift_table"),
            # All zero in the base model, and unknown to diffusers.
            ignored=("norm_added_q",),
            fallback=lambda missing: Checkpoint(base_shards(self.folder, missing)),
            may_lack=_may_come_from_base,
        )

    def fetch_missing_tensors(self) -> list[Path]:
        """Bring the files of the base that hold what the model's own file lacks; return them.

        Raises:
            BackendError: They are not here and cannot be fetched.
        """
        held = Checkpoint.find(self.folder.model).shapes()
        lacking = [name for name, _ in self._empty_transformer().named_parameters() if name not in held]
        lacking = [name for name in lacking if _may_come_from_base(name)]
        return fetch_base_shards(self.folder, lacking) if lacking else []

    def _empty_transformer(self) -> WorldStereoTransformer:
        try:
            with torch.device("meta"):
                return WorldStereoTransformer(self.backbone, self.config.control, self.config.text)
        except ValueError as error:
            raise BackendError(
                f"{self.folder.model / 'config.json'} describes no model that can be built: {error}",
                remedy="Pull the weights again.",
            ) from error

    def codec(self, frames_at_once: int) -> KeyframeCodec:
        """Load the autoencoder.

        Raises:
            BackendError: It is missing or damaged.
        """
        from diffusers import AutoencoderKLWan

        path = self.folder.part("vae")
        try:
            vae, report = AutoencoderKLWan.from_pretrained(
                path, torch_dtype=self.dtype, local_files_only=True, use_safetensors=True,
                output_loading_info=True,
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise BackendError(
                f"{path} holds no autoencoder that can be loaded: {error}", remedy="Pull the weights again."
            ) from error
        refuse_missing(path, report)
        return KeyframeCodec(vae.to(self.device).eval(), frames_at_once)

    def prompt_encoder(self, cache: Path) -> PromptEncoder | None:
        """Return the means to embed prompts; None for a model with tokens of its own."""
        if self.config.text.source != "encoder":
            return None
        settings = PromptSettings(self.device, self.dtype, self.config.text.num_tokens)
        encoder, tokenizer = self.folder.part("text_encoder"), self.folder.part("tokenizer")
        return PromptEncoder(encoder, tokenizer, cache, settings)

    def picture_tokens(self, picture: Image.Image) -> Float[Tensor, "1 i e"] | None:
        """Run the image encoder once; None for a model without one.

        Raises:
            BackendError: The encoder is missing or damaged.
        """
        if self.backbone.image_dim is None:
            return None
        settings = self.folder.part("image_processor") / "preprocessor_config.json"
        pixels = ClipPreprocess.read(settings, rescale=self.config.quirks.clip_rescale)(picture)
        return encode_image(self.folder.part("image_encoder"), pixels, self.device, self.dtype)

    def solver(self) -> SolverConfig:
        """Read the settings of the multistep solver.

        Raises:
            BackendError: They are missing or of another kind.
        """
        return read_solver_config(self.folder.part("scheduler") / "scheduler_config.json")

    def codec_size(self) -> tuple[int, int]:
        """Return the autoencoder's base width and its bytes on the device."""
        path = self.folder.part("vae")
        try:
            width = int(json.loads((path / "config.json").read_text(encoding="utf-8"))["base_dim"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackendError(
                f"{path} describes no autoencoder: {error}.", remedy="Pull the weights again."
            ) from error
        return width, self._bytes_of("vae", "diffusion_pytorch_model")

    def text_encoder_bytes(self) -> int:
        """Return the text encoder's bytes on the device; 0 for a model without one."""
        return self._bytes_of("text_encoder", "model") if self.config.text.source == "encoder" else 0

    def _bytes_of(self, part: str, stem: str) -> int:
        checkpoint = Checkpoint.find(self.folder.part(part), stem)
        shapes = checkpoint.shapes().values()
        return sum(torch.Size(shape).numel() for shape in shapes) * self.dtype.itemsize


def _may_come_from_base(name: str) -> bool:
    """Tell whether a tensor is one of the backbone, which a checkpoint may leave to its base."""
    return not name.startswith(_OWN_PARTS)
