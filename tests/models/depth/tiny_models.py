"""Checkpoints of the library's depth models in their real format, tiny and random."""

from pathlib import Path

import torch


def vision(size: int, patch: int, **more: object) -> dict[str, object]:
    return {
        "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
        "image_size": size, "patch_size": patch, "mlp_ratio": 2, **more,
    }  # fmt: skip


def write_depth_pro(folder: Path) -> Path:
    """Depth Pro for pictures of 128 pixels; it finds about 55 degrees."""
    from transformers import DepthProConfig
    from transformers.models.depth_pro.modeling_depth_pro import DepthProForDepthEstimation

    torch.manual_seed(0)
    encoder = vision(32, 8)
    config = DepthProConfig(
        fusion_hidden_size=8, patch_size=32, intermediate_hook_ids=[3, 1], intermediate_feature_dims=[8, 8],
        scaled_images_feature_dims=[8, 8, 8], scaled_images_ratios=[0.25, 0.5, 1], merge_padding_value=1,
        use_fov_model=True, image_model_config=dict(encoder), patch_model_config=dict(encoder),
        fov_model_config=dict(encoder),
    )  # fmt: skip
    model = DepthProForDepthEstimation(config)
    # Random heads end in zeros; a trained one says some tens of degrees and positive inverse depth.
    with torch.no_grad():
        model.fov_model.head.layers[-1].bias.fill_(55.0)
        model.head.layers[-2].bias.fill_(3.0)
    model.save_pretrained(folder)
    return folder


def write_depth_anything(folder: Path, kind: str) -> Path:
    """Depth Anything, `relative` or `metric`."""
    from transformers import DepthAnythingConfig
    from transformers.models.depth_anything.modeling_depth_anything import DepthAnythingForDepthEstimation

    torch.manual_seed(0)
    backbone = vision(56, 14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, head_hidden_size=4, depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else None,
    )  # fmt: skip
    model = DepthAnythingForDepthEstimation(config)
    with torch.no_grad():
        model.head.conv3.bias.fill_(0.5)
    model.save_pretrained(folder)
    return folder
