"""Tiny random weights in exactly the released layout, and in ours, written to disk."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from tiny import BACKBONE, CONTROL, build
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from worldstereo_cli.models.video.config import ControlConfig, TextConfig

KEYFRAMES = 3
SIZES = [[32, 48], [48, 32], [32, 32]]
VAE = {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
       "temperal_downsample": [False, True, True]}  # fmt: skip


def write_released(
    root: Path, *, distilled: bool = True, sharded: bool = False, lacking: str | None = None
) -> Path:
    """Write a memory model beside its base, as the hub has them; return the model's folder.

    `lacking` names tensors (by a part of their names) that only the base holds.
    """
    model_dir, base = root / "worldstereo-tiny", root / "base"
    model_dir.mkdir(parents=True)
    config = {
        "base_model": "../base", "nframe": KEYFRAMES, "scale_map": SIZES, "freeze_backbone": True,
        "controlnet_cfg": CONTROL.model_dump(), "latent_cond_mode": "first_frame_only",
        "negative_prompt": "blurred", "load_uni3c": False, "seed": 1024, "num_workers": 4,
    }  # fmt: skip
    if distilled:
        config |= {"dmd_start_steps": 250, "dmd_end_steps": 1000, "dmd_steps": 4, "gen_shift": 5.0}
    (model_dir / "config.json").write_text(json.dumps(config))
    state = {k: v.detach().bfloat16().contiguous() for k, v in build().state_dict().items()}
    own = {k: v for k, v in state.items() if lacking is None or lacking not in k}
    _save(model_dir, "model", own, sharded)
    write_base(base)
    if lacking is not None:
        backbone = {k: v.float() for k, v in state.items() if not k.startswith(("controlnet", "camera_emb"))}
        backbone["blocks.0.attn2.norm_added_q.weight"] = torch.zeros(24)
        _save(base / "transformer", "diffusion_pytorch_model", backbone, sharded=True)
    return model_dir


def write_base(base: Path) -> None:
    """Write everything that a released model shares with its base."""
    torch.manual_seed(11)
    for part in ("transformer", "scheduler", "image_processor"):
        (base / part).mkdir(parents=True)
    stock = {
        **BACKBONE.model_dump(),
        "_class_name": "WanTransformer3DModel",
        "qk_norm": "rms_norm_across_heads",
    }
    (base / "transformer/config.json").write_text(json.dumps(stock))
    solver = {"_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0, "use_flow_sigmas": True,
              "prediction_type": "flow_prediction", "solver_order": 2}  # fmt: skip
    (base / "scheduler/scheduler_config.json").write_text(json.dumps(solver))
    processor = {"crop_size": {"height": 224, "width": 224}, "image_mean": [0.5, 0.4, 0.3],
                 "image_std": [0.3, 0.3, 0.3]}  # fmt: skip
    (base / "image_processor/preprocessor_config.json").write_text(json.dumps(processor))
    AutoencoderKLWan(**VAE).save_pretrained(base / "vae")
    vision = CLIPVisionConfig(
        hidden_size=14, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, patch_size=14
    )
    CLIPVisionModel(vision).save_pretrained(base / "image_encoder")
    text = UMT5Config(vocab_size=40, d_model=10, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    UMT5EncoderModel(text).save_pretrained(base / "text_encoder")
    words = ["<pad>", "</s>", "<unk>", "a", "room", "with", "chairs", "blurred", "The", "camera"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(base / "tokenizer")


def write_embedded(root: Path, control: ControlConfig = CONTROL) -> Path:
    """Write a small model of ours: one folder, no encoders, no slips of the release."""
    folder = root / "small"
    folder.mkdir(parents=True)
    backbone = BACKBONE.model_copy(update={"image_dim": None, "added_kv_proj_dim": None})
    text = TextConfig(source="learned", num_tokens=3)
    config = {
        "backbone": backbone.model_dump(), "controlnet_cfg": control.model_dump(), "nframe": KEYFRAMES,
        "scale_map": SIZES, "text": text.model_dump(), "licence": "Apache-2.0",
        "quirks": {"first_column_px": 0.5, "clip_rescale": True},
        "distilled": {"start_timestep": 250, "num_steps": 2},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file(build(backbone, control, text).state_dict(), folder / "model.safetensors")
    torch.manual_seed(11)
    AutoencoderKLWan(**VAE).save_pretrained(folder / "vae")
    return folder


def _save(folder: Path, stem: str, state: dict[str, torch.Tensor], sharded: bool) -> None:
    if not sharded:
        save_file(state, folder / f"{stem}.safetensors")
        return
    keys = sorted(state)
    half = len(keys) // 2
    parts = {f"{stem}-0000{i}-of-00002.safetensors": c for i, c in ((1, keys[:half]), (2, keys[half:]))}
    for name, chosen in parts.items():
        save_file({key: state[key] for key in chosen}, folder / name)
    weight_map = {key: name for name, chosen in parts.items() for key in chosen}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
