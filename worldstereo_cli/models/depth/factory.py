"""The one place that turns the name of a depth backend into one."""

from __future__ import annotations

from pathlib import Path

from worldstereo_cli.errors import RecipeError
from worldstereo_cli.models.depth.protocol import DepthBackend


def depth_backend(name: str, device: str, *, weights: str = "") -> DepthBackend:
    """Make a depth backend ready to estimate.

    Args:
        name: `prior`, `embedded`, `depth-pro` or `depth-anything`.
        device: `cpu` or `cuda`.
        weights: For the last two, a name on the hub or a folder; empty is the backend's usual one.

    Raises:
        BackendError: Weights or a library are missing.
        RecipeError: There is no such backend.
    """
    match name:
        case "prior":
            from worldstereo_cli.models.depth.prior import PriorDepth

            return PriorDepth()
        case "embedded":
            import torch

            from worldstereo_cli.models.depth.embedded import EmbeddedDepth

            return EmbeddedDepth.load(torch.device(device))
        case "depth-pro":
            from worldstereo_cli.models.depth.depth_pro import DepthPro

            return DepthPro.load(weights or DepthPro.usual_weights, device)
        case "depth-anything":
            from worldstereo_cli.models.depth.depth_anything import DepthAnything

            return DepthAnything.load(weights or DepthAnything.usual_weights, device)
        case _:
            raise RecipeError(
                f"There is no depth backend {name!r}.",
                remedy="Use prior, embedded, depth-pro or depth-anything.",
            )


def require_depth_weights(name: str, weights: str, cache: Path | None = None) -> None:
    """See that the weights of a depth backend are here, without loading them.

    Args:
        name: As `depth_backend` takes it; those whose weights ship, or that have none, pass.
        weights: A name on the hub or a folder; empty is the backend's usual one.
        cache: huggingface_hub's cache; None for the usual one.

    Raises:
        BackendError: They are not.
    """
    from worldstereo_cli.models.fingerprint import depth_fingerprint

    if name not in ("depth-pro", "depth-anything") or depth_fingerprint(name, weights, cache) is not None:
        return
    from worldstereo_cli.models.depth.pretrained import weights_missing

    raise weights_missing(weights or usual_depth_weights(name))


def usual_depth_weights(name: str) -> str:
    """Return the weights that `depth-pro` or `depth-anything` takes when none are named.

    Raises:
        KeyError: Another backend, which takes none.
    """
    from worldstereo_cli.models.depth.depth_anything import DepthAnything
    from worldstereo_cli.models.depth.depth_pro import DepthPro

    return {"depth-pro": DepthPro.usual_weights, "depth-anything": DepthAnything.usual_weights}[name]
