"""One line for each finished stage: what people ask about it first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldstereo_cli.artifacts.manifest import Manifest
from worldstereo_cli.artifacts.scene import scale_source


def summary(manifest: Manifest) -> str:
    """Describe a finished stage from the facts in its manifest."""
    facts = manifest.facts
    match manifest.kind:
        case "lift":
            return _lift(facts)
        case "plan":
            return _plan(facts)
        case "generate":
            seen, invented = facts["num_seen_points"], facts["num_invented_points"]
            count = len(facts["rounds"])
            rounds = "1 round" if count == 1 else f"{count} rounds"
            credits = ", ".join(f"{key} {value}" for key, value in facts["weights"].items())
            backend = f"{facts['backend']} ({credits})" if credits else facts["backend"]
            return f"{rounds} by {backend}, {seen:,} points seen, {invented:,} invented"
        case "reconstruct":
            return f"{facts['num_splats']:,} splats, photo at {facts['psnr_photo_db']:.1f} dB"
        case other:
            raise ValueError(f"Expected a stage, got {other!r}.")


def _lift(facts: Mapping[str, Any]) -> str:
    width, height = facts["size_px"]
    level = ", levelled" if facts["world"]["is_level"] else ""
    notes = "".join(f"; {note}" for note in facts["photo_notes"])
    scale = f"median {facts['median_depth_m']:.1f} m, scale {scale_source(facts)}"
    depth = f"depth by {facts['depth_backend']}, {scale}"
    return f"{width}x{height}, {depth}, focal length from {facts['focal_source']}{level}{notes}"


def _plan(facts: Mapping[str, Any]) -> str:
    # What could not be flown at all is no path of the plan; its note says why.
    names = ", ".join(path["name"] for path in facts["paths"] if path["kept"] > 0)
    notes = "".join(f"; {path['name']}: {path['note']}" for path in facts["paths"] if path["note"])
    return names + notes
