"""Scenes with closed-form depth for the training tests: a floor, a wall and a ball before a sky."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from worldstereo_cli.training.depth.batches import RenderedBatch


def render_planes(numbers: list[int], size: tuple[int, int]) -> RenderedBatch:
    """Render one scene for each number; the same number gives the same scene."""
    scenes = [_scene(number, size) for number in numbers]
    return RenderedBatch(*(torch.stack(parts) for parts in zip(*scenes, strict=True)))


def _scene(number: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    draw = torch.rand(12, generator=generator)
    height, width = size
    focal = max(size) * float(0.6 + draw[0])
    y = (torch.arange(height) + 0.5 - height / 2)[:, None].expand(size) / focal
    x = (torch.arange(width) + 0.5 - width / 2).expand(size) / focal
    far = torch.full(size, float("inf"))
    floor = torch.where(y > 0.02, float(1 + draw[1]) / y.clamp(min=0.02), far)
    wall = torch.where((x > float(draw[2] - 0.5)) & (y > -0.3), torch.tensor(float(4 + 4 * draw[3])), far)
    off = (x - float(draw[4] - 0.5) * 0.6).square() + (y - float(draw[5] - 0.5) * 0.4).square()
    ball = torch.where(off < 0.03, torch.tensor(float(1.5 + draw[6])), far)
    stack = torch.stack([floor, wall, ball, far])
    depth, which = stack.min(dim=0)
    colours = 0.1 + 0.8 * torch.rand(4, 3, generator=generator)
    shade = torch.stack([0.2 + 1 / (1 + floor), x + 0.8, 1 - 5 * off.clamp(max=0.1), y * 0 + 1])
    rgb = colours[which].permute(2, 0, 1) * shade.gather(0, which[None])
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return rgb.clamp(min=0), depth, intrinsics


def write_cases(folder: Path) -> None:
    """Write three of the scenes, of two sources, as depth cases."""
    entries = []
    for index in range(3):
        batch = render_planes([index], (60, 80))
        counts = torch.where(torch.isinf(batch.depth_m[0]), 0, batch.depth_m[0] * 1000).clamp(max=65000)
        Image.fromarray(counts.numpy().astype(np.uint16)).save(folder / f"{index}.png")
        pixels = (batch.rgb_linear[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index}_image.png")
        entries.append({
            "source": f"s{index % 2}", "sequence": f"q{index}", "image": f"{index}_image.png",
            "depth": f"{index}.png", "scale": 0.001, "invalid": 0, "kind": "z", "real": True,
            "affine_only": index == 2, "quality": "ok", "K": batch.intrinsics[0].tolist(),
        })  # fmt: skip
    (folder / "index.json").write_text(json.dumps(entries))
