"""A whole run with every stage on a GPU: the machine's, or a pretended one."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from worldstereo_cli.cli.main import run

PHOTO = Path(__file__).parents[1] / "data" / "photos" / "living_room.jpg"
SMALL = ["--recipe", "preview", "--set", "reconstruct.iterations=6", "--set", "reconstruct.max_splats=4000"]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    picture = Image.open(PHOTO)
    picture.thumbnail((192, 192))
    picture.save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


@pytest.mark.slow
def test_every_stage_works_on_a_gpu(cuda: str, photo: str, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    given = ["run", photo, "--out", str(scene), "--device", cuda, "--trajectory", "right", *SMALL]
    assert run(given) == 0
    metrics = json.loads((scene / "reconstruct" / "metrics.json").read_text())
    assert metrics["rasterizer"] == "gsplat"
    assert metrics["psnr_photo_db"] > 22 and metrics["psnr_reload_db"] > 60
    assert (scene / "flythrough.mp4").is_file()


def test_without_gsplat_a_gpu_is_refused_before_any_stage(
    photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "gsplat" else found(name, *more)
    )
    assert run(["run", photo, "--out", str(tmp_path / "scene"), "--device", "cuda", *SMALL]) == 5
    assert "pip install 'worldstereo[cuda]', or use --device cpu" in capsys.readouterr().err
    assert not (tmp_path / "scene" / "lift").exists()
