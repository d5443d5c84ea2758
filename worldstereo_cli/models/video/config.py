"""The architecture of a video model, as its weights folder's config.json states it.

The released WorldStereo folders leave the backbone to the base model's own config and say nothing
about slips of the code that trained them; our own folders state everything. No torch here: the
memory a run needs is told from these numbers alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from worldstereo_cli.errors import BackendError

Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    # Released files carry many leftovers of training; only what shapes the model is read.
    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, data: Any) -> Any:  # noqa: ANN401  (whatever JSON holds)
        """Take a null for a field that is not there, as the programs that write such files mean it."""
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


_SectionT = TypeVar("_SectionT", bound=_Section)


class BackboneConfig(_Section):
    """The Wan transformer, in the words of diffusers' transformer/config.json."""

    patch_size: tuple[int, int, int] = (1, 2, 2)
    num_attention_heads: Count = 40
    attention_head_dim: Count = 128
    in_channels: Count = 36
    """Noisy latent, mask and conditioning latent."""
    out_channels: Count = 16
    text_dim: Count = 4096
    freq_dim: Count = 256
    ffn_dim: Count = 13824
    num_layers: Count = 40
    cross_attn_norm: bool = True
    eps: Annotated[float, Field(gt=0)] = 1e-6
    image_dim: Count | None = None
    """Width of the image encoder's tokens; None for a model without them."""
    added_kv_proj_dim: Count | None = None
    rope_max_seq_len: Count = 1024

    @model_validator(mode="after")
    def _consistent(self) -> BackboneConfig:
        if (self.image_dim is None) != (self.added_kv_proj_dim is None):
            raise ValueError("image_dim and added_kv_proj_dim must both be set, or neither")
        if self.mask_channels < 1:
            raise ValueError("in_channels must exceed twice out_channels by the mask channels")
        return self

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def mask_channels(self) -> int:
        """Channels that mark the known frame, between the noisy and the conditioning latent."""
        return self.in_channels - 2 * self.out_channels


class ControlConfig(_Section):
    """The control branch and the memory, in the words of `controlnet_cfg`."""

    conv_out_dim: Count
    dim: Count
    ffn_dim: Count
    num_heads: Count
    num_layers: Count
    time_embed_dim: Count
    add_channels: Count = 7
    mid_channels: Count = 256
    mask_downsample: Count = 1
    """Video frames for each latent frame in the ray and hole maps; above 1, zeros go first."""
    interp: bool = False
    """Pad the maps at both ends of time (only with `mask_downsample` above 1)."""
    main_camera_embedding: bool = False
    """Whether cameras enter the backbone as tokens."""
    camera_embedding_dim: Count = 7
    update_ref: bool = True
    """Whether references evolve from block to block, or enter every block as they were embedded."""
    ref_embedding: bool = False
    """Whether references also carry a learned embedding of the target that they sit beside."""


class DistilledConfig(_Section):
    """The schedule of a few-step model."""

    start_timestep: Annotated[float, Field(ge=0)] = 250
    end_timestep: Annotated[float, Field(gt=0)] = 1000
    num_steps: Count = 4
    shift: Annotated[float, Field(gt=0)] = 5.0


class SolverConfig(_Section):
    """The multistep solver, in the words of the base model's scheduler_config.json."""

    num_train_timesteps: Literal[1000] = 1000
    prediction_type: Literal["flow_prediction"] = "flow_prediction"
    use_flow_sigmas: Literal[True] = True
    flow_shift: Annotated[float, Field(gt=0)] = 3.0
    """Above 1, more of the steps are spent on high noise."""
    solver_order: Annotated[int, Field(ge=1, le=3)] = 2
    solver_type: Literal["bh1", "bh2"] = "bh2"
    predict_x0: bool = True
    lower_order_final: bool = True
    disable_corrector: tuple[int, ...] = ()
    final_sigmas_type: Literal["zero", "sigma_min"] = "zero"


class TextConfig(_Section):
    """What stands where the prompt goes."""

    source: Literal["encoder", "learned", "zero"] = "encoder"
    """The prompt's embedding, tokens that were trained with the model, or zeros."""
    num_tokens: Count = 512


class Quirks(_Section):
    """Slips of the code that trained the released weights, which they have to be given again.

    The defaults are those of the release, whose files do not mention them; our own weights state
    `first_column_px = 0.5` and `clip_rescale = true`.
    """

    first_column_px: float = -0.5
    """Where the ray map puts the centre of the left column; right is 0.5."""
    clip_rescale: bool = False
    """Whether the image encoder sees values in [0, 1] before normalisation, or in [0, 255]."""


class ModelConfig(_Section):
    """One weights folder."""

    base_model: str | None = None
    """Where the autoencoder, the encoders and untouched backbone tensors come from; None for a folder that
    holds everything."""
    backbone: BackboneConfig | None = None
    """None in released folders: the base model states it."""
    control: Annotated[ControlConfig | None, Field(alias="controlnet_cfg")] = None
    num_keyframes: Annotated[int, Field(ge=2, alias="nframe")] = 21
    sizes: Annotated[tuple[tuple[int, int], ...], Field(alias="scale_map")] = (
        (480, 768), (512, 720), (576, 640), (608, 608), (640, 576), (720, 512), (768, 480),
    )  # fmt: skip
    """Frame sizes that the model was trained on, height then width, pixels; those that squares of 16 do not
    fill are no use to it, and left out."""
    negative_prompt: str = ""
    latent_cond_mode: Literal["first_frame_only", "full_vae"] = "first_frame_only"
    """How the unknown frames of the conditioning latent are filled: each with the latent of a grey
    picture, or together with those of a video that turns grey after its first frame."""
    control_style: Literal["surface", "points"] = "points"
    """How the clouds of training were drawn; released files do not mention it (`protocol.ControlStyle`)."""
    distilled: DistilledConfig | None = None
    """Set for few-step models; others are sampled with guidance."""
    text: TextConfig = TextConfig()
    quirks: Quirks = Quirks()
    max_references: Annotated[int, Field(ge=0)] = 8
    """Past views that a clip may look at, for models that remember."""

    @model_validator(mode="before")
    @classmethod
    def _gather_distilled(cls, data: Any) -> Any:  # noqa: ANN401  (whatever JSON holds)
        """Read the four loose fields of the release as one section."""
        if isinstance(data, dict) and data.get("dmd_steps") is not None and "distilled" not in data:
            names = {
                "start_timestep": "dmd_start_steps", "end_timestep": "dmd_end_steps",
                "num_steps": "dmd_steps", "shift": "gen_shift",
            }  # fmt: skip
            found = {ours: data[theirs] for ours, theirs in names.items() if data.get(theirs) is not None}
            return {**data, "distilled": found}
        return data

    @field_validator("sizes")
    @classmethod
    def _usable_sizes(cls, sizes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        usable = tuple(size for size in sizes if all(side >= 16 and side % 16 == 0 for side in size))
        if not usable:
            raise ValueError("scale_map must list sizes whose sides are multiples of 16")
        return usable

    @property
    def remembers(self) -> bool:
        """Whether the model was trained to look at past views."""
        return self.control is not None and self.control.main_camera_embedding

    def size_for(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Return (width, height) in pixels of the trained size whose aspect is nearest to a picture's."""
        aspect = height_px / width_px
        height, width = min(self.sizes, key=lambda size: abs(size[0] / size[1] - aspect))
        return width, height


def read_model_config(folder: Path) -> ModelConfig:
    """Read `config.json` of a weights folder.

    Raises:
        BackendError: It is missing, is not JSON, or a field cannot be used.
    """
    return _validated(ModelConfig, folder / "config.json")


def read_backbone_config(path: Path) -> BackboneConfig:
    """Read the base model's transformer/config.json.

    Raises:
        BackendError: It is missing, is not JSON, or a field cannot be used.
    """
    return _validated(BackboneConfig, path)


def read_solver_config(path: Path) -> SolverConfig:
    """Read the base model's scheduler/scheduler_config.json.

    Raises:
        BackendError: It is missing, is not JSON, or a field cannot be used.
    """
    return _validated(SolverConfig, path)


def _validated(kind: type[_SectionT], path: Path) -> _SectionT:
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BackendError(
            f"{path} cannot be read: {error}", remedy="worldstereo weights list  shows what is there."
        ) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(p) for p in e['loc']) or 'file'}: {e['msg'].lower()}" for e in error.errors()
        )
        raise BackendError(
            f"{path} does not describe a video model: {problems}.",
            remedy="Pull the weights again, or compare the file with a released config.json.",
        ) from error
