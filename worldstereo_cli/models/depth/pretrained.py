"""Depth models of the transformers library, from the hub's cache or a folder, never by download."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError

from worldstereo_cli.errors import BackendError


def load_pretrained(model_class: Any, weights: str, device: str) -> Any:  # noqa: ANN401  (library classes)
    """Load a model whole: a checkpoint that lacks a tensor is refused, not filled with noise.

    Args:
        model_class: A class of transformers with `from_pretrained`.
        weights: A name on the hub that is in the local cache, or a folder.
        device: Where to run.

    Raises:
        BackendError: The weights are not here, damaged, or of another model.
    """
    try:
        model, report = model_class.from_pretrained(
            weights,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except OSError as error:
        raise weights_missing(weights) from error
    # What the library raises for another kind of model and for damaged tensors.
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackendError(
            f"The depth weights {weights} cannot be used: {reason}", remedy=_remedy(weights)
        ) from error
    wrong = [*report["missing_keys"], *report.get("mismatched_keys", [])]
    if wrong:
        raise BackendError(
            f"The depth weights {weights} do not fit: {len(wrong)} tensors.", remedy=_remedy(weights)
        )
    return model.to(device).eval()


def weights_missing(weights: str) -> BackendError:
    """Say that weights are not here, or not whole."""
    return BackendError(
        f"The depth weights {weights} are neither a folder nor in the cache, or not whole.",
        remedy=_remedy(weights),
    )


def _remedy(weights: str) -> str:
    return f"hf download {weights}   or pass a folder: --set lift.weights=PATH"
