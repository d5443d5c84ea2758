"""Writes tests/models/video/numbers: results of this package, kept so that they stay what they are.

They were written by code that matched every number of the released models' reference set, and hold
configurations that the set does not have. Run again only when a change of results is wanted:
`python tests/models/video/make_numbers.py`.
"""

import json
from pathlib import Path
from types import ModuleType

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from tiny import BACKBONE, CONTROL, build, inputs, memory

from worldstereo_cli.evaluation import parity_pipeline, parity_retrieval
from worldstereo_cli.evaluation.parity_golden import Golden
from worldstereo_cli.evaluation.parity_transformer import run_model
from worldstereo_cli.geometry.camera_encoding import NormalisedFrame, camera_tokens, plucker_map
from worldstereo_cli.geometry.cameras import intrinsics_from_focal
from worldstereo_cli.geometry.rigid import invert_rigid, look_at
from worldstereo_cli.models.video.config import ControlConfig

NUMBERS = Path(__file__).parent / "numbers"
VAE = {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
       "temperal_downsample": [False, True, True]}  # fmt: skip
VERSIONS = {"versions": json.dumps({"diffusers": "0.36.0"})}


def write(name: str, tensors: dict[str, torch.Tensor], **settings: object) -> None:
    """Write a file in the layout of the reference set; what is float16 is exact."""
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
    contiguous = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    save_file(contiguous, NUMBERS / f"{name}.safetensors", {**VERSIONS, **text})


def released_inputs(video_frames: int | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """Inputs under the released names, exact in float16."""
    given, remembered = inputs(seed=seed), memory(video_frames=video_frames)
    control, references = remembered["control"], remembered["references"]
    values = {
        **given,
        "render_latent": control.render_latent, "render_mask": control.hole, "camera_embedding": control.rays,
        "reference_latent": references.latent, "ref_index": references.index,
        "camera_qt": remembered["camera"], "camera_qt_ref": references.camera,
    }  # fmt: skip
    return {k: v.half() if v.is_floating_point() else v for k, v in values.items()}


def write_transformer(name: str, control: ControlConfig, video_frames: int | None) -> None:
    """Write a model, its inputs and what it makes of them."""
    model = build(control=control).half().float()
    given = released_inputs(video_frames)
    wide = {k: v.float() if v.is_floating_point() else v for k, v in given.items()}
    tensors = {f"state/{k}": v.half() for k, v in model.state_dict().items()}
    tensors |= {f"in/{k}": v for k, v in given.items()}
    with torch.no_grad():
        tensors["out/sample"] = run_model(model, wide)
        other = build(control=control.model_copy(update={"update_ref": not control.update_ref}))
        other.load_state_dict(model.state_dict())
        tensors[f"out_update_ref_{str(not control.update_ref).lower()}/sample"] = run_model(other, wide)
    config = {"backbone": BACKBONE.model_dump(), "control": control.model_dump()}
    write(name, tensors, config=config)


def write_pipelines() -> None:
    """Write clips of the memory model, sampled both ways and conditioned both ways."""
    torch.manual_seed(3)
    vae = AutoencoderKLWan(**VAE).half().float().eval()
    generator = torch.Generator().manual_seed(4)
    given = released_inputs(seed=2)
    kept = ("camera_embedding", "camera_qt", "camera_qt_ref", "ref_index")
    tensors = {f"in/{k}": given[k] for k in kept}
    tensors["in/render_mask"] = given["render_mask"].to(torch.uint8)
    pictures = torch.rand(3, 3, 32, 48, generator=generator) * 2 - 1
    tensors["in/render_video"] = pictures.half().transpose(0, 1)[None]
    tensors["in/reference_video"] = pictures[:2].flip(0).half().transpose(0, 1)[None]
    tensors["in/image_uint8"] = torch.randint(0, 256, (32, 48, 3), generator=generator, dtype=torch.uint8)
    tensors["in/initial_noise"] = torch.randn(1, 16, 3, 4, 6, generator=generator)
    tensors["in/clip_tokens_memory"] = given["encoder_hidden_states_image"]
    tensors["in/prompt_embeds_memory"] = given["encoder_hidden_states"]
    tensors["in/negative_prompt_embeds_memory"] = given["encoder_hidden_states"].flip(1)
    tensors |= {f"vae/{k}": v.half() for k, v in vae.state_dict().items()}
    settings = {
        "vae_config": {**VAE, "latents_mean": list(vae.config.latents_mean),
                       "latents_std": list(vae.config.latents_std)},
        "scheduler_unipc": {"flow_shift": 4.0}, "steps": 3, "guidance_scale": 4.0,
        "scheduler_dmd": {"start_timesteps": 200, "num_train_timesteps": 1000, "shift": 4.0, "dmd_steps": 3},
        "transformer_config_memory": Golden(NUMBERS / "transformer_memory.safetensors").setting("config"),
    }  # fmt: skip
    names = [f"{p}/{m}/{x}" for p, m, x in (
        ("memory", "first_frame_only", "latents"), ("memory", "first_frame_only", "pixels"),
        ("dmd", "full_vae", "latents"), ("dmd", "full_vae", "condition"),
    )]  # fmt: skip
    shapes = {"latents": (1, 16, 3, 4, 6), "condition": (1, 20, 3, 4, 6), "pixels": (1, 3, 3, 32, 48)}
    tensors |= {name: torch.zeros(shapes[name.split("/")[-1]]) for name in names}
    tensors["dmd/reference_latent"] = torch.zeros(1, 36, 2, 4, 6)
    write("pipelines", tensors, **settings)
    write("pipelines", {**tensors, **_computed(parity_pipeline, "check_pipelines", "pipelines")}, **settings)


def _computed(module: ModuleType, check: str, name: str) -> dict[str, torch.Tensor]:
    """Collect what a check computes instead of comparing it."""
    found: dict[str, torch.Tensor] = {}
    compare = module.compare

    def collect(label, got, expected, tolerance):
        found[label] = got
        return compare(label, got, expected, tolerance)

    module.compare = collect
    try:
        list(getattr(module, check)(Golden(NUMBERS / f"{name}.safetensors")))
    finally:
        module.compare = compare
    return found


def write_retrieval() -> None:
    """Write the choices of a path at video rate among views about a point, of which three may be taken."""

    def about(degrees: torch.Tensor) -> torch.Tensor:
        angle = torch.deg2rad(degrees)
        centres = torch.stack([3 * angle.sin(), 0.3 * angle.cos(), -3 * angle.cos()], -1)
        return invert_rigid(look_at(centres, torch.zeros_like(centres), torch.tensor([0.0, 1.0, 0.0])))

    generator = torch.Generator().manual_seed(6)
    bank, targets = about(torch.linspace(-70, 80, 9)), about(torch.linspace(0, 75, 17))
    intrinsics = intrinsics_from_focal(20.0, 24, 16)
    case = {"target_w2c": targets, "target_K": intrinsics.repeat(17, 1, 1), "overlap": torch.zeros(9, 9),
            "retrieved_bank_index": torch.zeros(8, dtype=torch.int64), "ref_w2c": torch.zeros(3, 4, 4),
            "ref_index": torch.zeros(3, dtype=torch.int64), "score": torch.zeros(8),
            "angle_of_choice": torch.zeros(8)}  # fmt: skip
    tensors = {
        "bank/w2c": bank, "bank/K": intrinsics.repeat(9, 1, 1), "bank/frustum_corners": torch.zeros(9, 8, 3),
        "bank/features": torch.randn(9, 4, generator=generator),
        "bank/images": torch.randint(0, 256, (9, 16, 24, 3), generator=generator, dtype=torch.uint8),
        **{f"arc/{key}": value for key, value in case.items()},
    }  # fmt: skip
    settings = {
        "near": 0.1, "far": 8.0, "nframe": 9, "image_width": 24, "image_height": 16, "max_reference": 3,
        "cases": {"arc": {"view_id": "view0", "traj_id": "traj1"}},
        "bank_names": [f"view0/traj{2 * (i > 4)}/{i:04d}" for i in range(9)],
        "bank_update_indices": {"9,3": [3, 6, 8]}, "scale_bucket_fallback": {"900,600": [720, 512]},
    }  # fmt: skip
    write("retrieval", tensors, **settings)
    found = _computed(parity_retrieval, "check_retrieval", "retrieval")
    write("retrieval", {**tensors, **{k: v for k, v in found.items() if k in tensors}}, **settings)


def write_cameras() -> None:
    """Write an arc with two references beside it."""
    angle = torch.linspace(0.1, 0.9, 5)
    centres = torch.stack([2 * angle.sin(), 0.2 * angle, -2 * angle.cos()], -1)
    cameras = invert_rigid(look_at(centres, torch.zeros(5, 3), torch.tensor([0.1, 1.0, 0.0])))
    targets, references = cameras[:3].clone(), cameras[3:].clone()
    intrinsics = intrinsics_from_focal(9.0, 10, 8).repeat(3, 1, 1)
    frame = NormalisedFrame.fit(targets)
    moved = frame.apply(targets)
    rays = plucker_map(moved, intrinsics, 10, 8, first_column_px=-0.5)
    values = {
        "w2c": targets, "w2c_ref": references, "K": intrinsics, "normalised_w2c": moved,
        "unified_w2c_ref": frame.apply(references), "camera_qt": camera_tokens(moved),
        "camera_qt_ref": camera_tokens(frame.apply(references)), "plucker": rays.transpose(0, 1)[None],
    }  # fmt: skip
    write("camera", {f"arc/{k}": v for k, v in values.items()}, width=10, height=8)


if __name__ == "__main__":
    NUMBERS.mkdir(exist_ok=True)
    write_transformer("transformer_memory", CONTROL, None)
    video_rate = {"mask_downsample": 4, "interp": True, "ref_embedding": True, "update_ref": False}
    write_transformer("transformer_video_rate", CONTROL.model_copy(update=video_rate), 9)
    write_pipelines()
    write_cameras()
    write_retrieval()
