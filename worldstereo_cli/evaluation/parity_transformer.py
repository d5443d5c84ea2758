"""Parity of the video transformer: its output, and what passes between its parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from worldstereo_cli.errors import InputError
from worldstereo_cli.evaluation.parity_golden import Deviation, Golden, compare
from worldstereo_cli.models.video.config import BackboneConfig, ControlConfig
from worldstereo_cli.models.video.control_branch import Control
from worldstereo_cli.models.video.transformer import ReferenceLatents, WorldStereoTransformer

_TOLERANCE = 1e-5


def build_model(golden: Golden, config: dict[str, Any], state: dict[str, Tensor]) -> WorldStereoTransformer:
    """Build the model that a file describes.

    Raises:
        InputError: The description or the state does not fit.
    """
    try:
        backbone = BackboneConfig.model_validate(config["backbone"])
        model = WorldStereoTransformer(backbone, ControlConfig.model_validate(config["control"]))
        model.load_state_dict(state)
    except (ValidationError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{golden.path} describes no model that can be built: {error}",
            remedy="Compare its metadata and state/* with the goldens' README.",
        ) from error
    model.eval()
    return model


def model_state(golden: Golden) -> dict[str, Tensor]:
    """Return the state in a file, or in the file that its metadata names."""
    state = golden.group("state")
    if state:
        return state
    named = re.search(r"(\w+?)(\.safetensors)?\s*$", str(golden.setting("state")))
    return golden.sibling(named.group(1) if named else "").group("state")


@torch.no_grad()
def check_transformer(golden: Golden) -> Iterator[Deviation]:
    """Compare outputs and taps of a forward pass, and of its variants.

    `out_NAME/sample` belongs to the inputs with `in_NAME/*` in their place; `out_update_ref_false`
    and `_true` to a model with that setting.
    """
    config, state = golden.setting("config"), model_state(golden)
    model = build_model(golden, config, state)
    inputs, taps = golden.group("in"), golden.group("tap")
    recorder = _Recorder(model)
    output = run_model(model, inputs)
    yield compare("out/sample", output, golden.tensors["out/sample"], _TOLERANCE)
    for name, expected in taps.items():
        tolerance = _TOLERANCE * max(1.0, float(expected.abs().max()))
        yield compare(f"tap/{name}", recorder.tap(name, inputs), expected, tolerance)
    for group in (g for g in golden.groups() if g.startswith("out_")):
        variant = group.removeprefix("out_")
        setting = re.fullmatch(r"update_ref_(true|false)", variant)
        if setting:
            changed = {**config["control"], "update_ref": setting.group(1) == "true"}
            other = build_model(golden, {**config, "control": changed}, state)
            output = run_model(other, inputs)
        else:
            overrides = golden.group(f"in_{variant}")
            if not overrides:
                raise InputError(
                    f"{golden.path} has {group} but nothing that says how it differs.",
                    remedy=f"Expected in_{variant}/*.",
                )
            output = run_model(model, {**inputs, **overrides})
        yield compare(f"{group}/sample", output, golden.tensors[f"{group}/sample"], _TOLERANCE)


def run_model(model: WorldStereoTransformer, inputs: dict[str, Tensor]) -> Tensor:
    """Run a forward pass on inputs that carry the released names."""
    control = references = None
    if "render_latent" in inputs:
        maps = (inputs["render_mask"], inputs["camera_embedding"])
        control = Control(inputs["render_latent"], *maps)
    if "reference_latent" in inputs:
        references = ReferenceLatents(
            inputs["reference_latent"], inputs["ref_index"], inputs.get("camera_qt_ref")
        )
    return model(  # type: ignore[no-any-return]
        inputs["hidden_states"],
        inputs["timestep"],
        inputs.get("encoder_hidden_states"),
        inputs.get("encoder_hidden_states_image"),
        control=control,
        references=references,
        camera=inputs.get("camera_qt"),
    )


class _Recorder:
    """Notes what goes into and comes out of every part during one forward pass."""

    # The name of a tap, the part it comes from, and whether it is what goes in.
    _PLACES = (
        (r"block(\d+)_in", "blocks.{}", True),
        (r"block(\d+)_self_attention", "blocks.{}.attn1", False),
        (r"block(\d+)_cross_attention", "blocks.{}.attn2", False),
        (r"block(\d+)", "blocks.{}", False),
        (r"after_last_block", "norm_out", True),
        (r"(norm_out|proj_out)", "{}", False),
        (r"control_block(\d+)", "controlnet.controlnet_blocks.{}", False),
        (r"control_residual(\d+)", "controlnet.proj_out.{}", False),
        (r"control_input_tokens", "controlnet.proj_in", True),
        (r"control_proj_in", "controlnet.proj_in", False),
        (r"control_patch_embedding", "controlnet.controlnet_patch_embedding", False),
        (r"control_mask_camera_embedding", "controlnet.controlnet_mask_embedding", False),
    )
    # Parts that run once for the targets and then once for the references.
    _TWICE: ClassVar[dict[str, str]] = {
        "patch_embedding": "patch_embedding",
        "camera_token": "camera_embedding",
    }
    _CONDITION = ("temb", "timestep_proj", "text_tokens", "image_tokens")

    def __init__(self, model: WorldStereoTransformer) -> None:
        self._model = model
        model.finish_references = True
        self._inputs: dict[str, list[Tensor]] = {}
        self._outputs: dict[str, list[Any]] = {}
        handles = [
            part.register_forward_hook(self._note(name)) for name, part in model.named_modules() if name
        ]

        def done(*_: object) -> None:
            for handle in [*handles, last]:
                handle.remove()

        last = model.register_forward_hook(done)

    def _note(self, name: str) -> Any:  # noqa: ANN401  (a hook)
        def hook(_: nn.Module, given: tuple[Any, ...], result: Any) -> None:  # noqa: ANN401
            # Clones, because inference adds to the targets in place later.
            if given and isinstance(given[0], Tensor):
                self._inputs.setdefault(name, []).append(given[0].clone())
            if isinstance(result, Tensor):
                self._outputs.setdefault(name, []).append(_tokens(result.clone()))
            elif isinstance(result, tuple):
                self._outputs.setdefault(name, []).append(result)

        return hook

    def tap(self, name: str, inputs: dict[str, Tensor]) -> Tensor:
        """Return what was noted under the name of a tap.

        Raises:
            InputError: There is no such place in the model.
        """
        grid = self._model.rope.grid_of(inputs["hidden_states"])
        index = inputs.get("ref_index")
        references = 0 if index is None else len(index) * grid.per_frame
        plain = re.sub(r"_(target|ref)$", "", name)
        stream = name[len(plain) + 1 :]
        strided = re.fullmatch(r"(\w+_tokens)_every(\d+)", plain)
        if strided or plain in self._CONDITION:
            label = strided.group(1) if strided else plain
            value: Tensor = self._outputs["condition_embedder"][0][self._CONDITION.index(label)]
            return value[:, :: int(strided.group(2))] if strided else value
        if plain in self._TWICE:
            return _noted(self._outputs, self._TWICE[plain], 1 if stream == "ref" else 0, name)
        if plain in ("rope_cos", "rope_sin"):
            beside = None if index is None else index + 1
            tables = self._model.rope.tables(grid, beside, torch.device("cpu"))
            return _stream(tables[plain == "rope_sin"][:, :, 0], stream, references)
        for pattern, place, goes_in in self._PLACES:
            match = re.fullmatch(pattern, plain)
            if match:
                noted = self._inputs if goes_in else self._outputs
                return _stream(_noted(noted, place.format(*match.groups()), 0, name), stream, references)
        raise InputError(f"{name} is no place in this model.", remedy="Compare with the goldens' README.")


def _noted(notes: dict[str, list[Tensor]], part: str, call: int, name: str) -> Tensor:
    if len(notes.get(part, ())) <= call:
        raise InputError(f"{part} did not run, but tap/{name} expects it.", remedy="Check the inputs.")
    return notes[part][call]


def _tokens(value: Tensor) -> Tensor:
    """Bring [b c f h w] into [b tokens c]; leave the rest."""
    return value.flatten(2).transpose(1, 2) if value.ndim == 5 else value


def _stream(value: Tensor, stream: str, references: int) -> Tensor:
    if stream == "ref":
        return value[:, :references]
    return value[:, references:] if stream == "target" else value
