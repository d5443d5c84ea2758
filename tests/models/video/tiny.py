"""Small video models and inputs for the tests of this folder."""

import torch

from worldstereo_cli.models.video.config import BackboneConfig, ControlConfig, TextConfig
from worldstereo_cli.models.video.control_branch import Control
from worldstereo_cli.models.video.transformer import ReferenceLatents, WorldStereoTransformer

BACKBONE = BackboneConfig(
    num_attention_heads=2, attention_head_dim=12, text_dim=10, freq_dim=16, ffn_dim=40, num_layers=3,
    image_dim=14, added_kv_proj_dim=24, rope_max_seq_len=32,
)  # fmt: skip
CONTROL = ControlConfig(
    conv_out_dim=24, dim=16, ffn_dim=32, num_heads=2, num_layers=2, time_embed_dim=24, mid_channels=16,
    main_camera_embedding=True,
)  # fmt: skip


def build(
    backbone: BackboneConfig = BACKBONE,
    control: ControlConfig | None = CONTROL,
    text: TextConfig | None = None,
) -> WorldStereoTransformer:
    """A model in which every layer has an effect: those that start at zero are filled too."""
    torch.manual_seed(5)
    model = WorldStereoTransformer(backbone, control, text).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.add_(torch.randn_like(parameter) / fan_in**0.5)
    return model


def inputs(frames: int = 3, batch: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """What every model takes: latents of 4 x 6, text and image tokens."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "hidden_states": normal(batch, 36, frames, 4, 6),
        "timestep": torch.full((batch,), 700.0),
        "encoder_hidden_states": normal(batch, 512, 10),
        "encoder_hidden_states_image": normal(batch, 7, 14),
    }


def memory(frames: int = 3, references: int = 2, batch: int = 1, video_frames: int | None = None):
    """Control, references and cameras that fit `inputs`."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    maps = video_frames or frames
    return {
        "control": Control(
            normal(batch, 16, frames, 4, 6), normal(batch, 1, maps, 32, 48).gt(0).float(),
            normal(batch, 6, maps, 32, 48),
        ),
        "references": ReferenceLatents(
            normal(batch, 36, references, 4, 6), torch.arange(references) % (frames - 1),
            normal(batch, references, 7),
        ),
        "camera": normal(batch, frames, 7),
    }  # fmt: skip
