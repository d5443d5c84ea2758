"""The video transformer: Wan's, with the control branch, the stereo memory and camera tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from diffusers import WanTransformer3DModel
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldstereo_cli.models.video.camera_tokens import CameraTokenMLP, add_per_frame
from worldstereo_cli.models.video.config import BackboneConfig, ControlConfig, TextConfig
from worldstereo_cli.models.video.control_branch import Control, ControlBranch
from worldstereo_cli.models.video.memory_attention import BlockInputs, StereoBlock, add_to_targets
from worldstereo_cli.models.video.rotary import Rotary, RotaryGrid

_NUM_KEYFRAMES_EMBEDDED = 21


@dataclass(frozen=True, slots=True)
class ReferenceLatents:
    """Past views, each placed beside one target frame."""

    latent: Float[Tensor, "b c r h w"]
    """Latent, ones for the mask, and the latent again: the channels of the backbone."""
    index: Int[Tensor, r]
    """Target frame that each sits beside, less one: 0 is the first frame that is generated."""
    camera: Float[Tensor, "b r 7"] | None = None
    """Camera tokens of the references."""


@dataclass(slots=True)
class _Steering:
    """The control branch on its way through its blocks."""

    tokens: Float[Tensor, "b n d"]
    time: Float[Tensor, "b e"]
    rotary: Rotary


class WorldStereoTransformer(WanTransformer3DModel):  # type: ignore[misc]
    """Predicts the velocity of a noisy keyframe latent.

    Parameters carry the names of the released checkpoints. Without control and references it is
    diffusers' Wan transformer, bit for bit. It can be built on the meta device: nothing but
    parameters has a state.

    Source: Wan 2.1 (diffusers 0.42, Apache-2.0); Team HY-World, HY-World 2.0 technical report,
        arXiv 2604.14268.
    """

    def __init__(
        self,
        backbone: BackboneConfig,
        control: ControlConfig | None = None,
        text: TextConfig | None = None,
    ) -> None:
        """Build the model with its layers at their starting values.

        Raises:
            ValueError: The control branch does not fit the backbone.
        """
        text = text or TextConfig()
        # The stock blocks are not built, not even for a moment: at full size they are 32 GB.
        super().__init__(**{**backbone.model_dump(), "num_layers": 0})
        self.register_to_config(num_layers=backbone.num_layers)
        self.rope = RotaryGrid(backbone.attention_head_dim, backbone.patch_size, backbone.rope_max_seq_len)
        self.blocks = nn.ModuleList(StereoBlock(backbone) for _ in range(backbone.num_layers))
        self.backbone_config, self.control_config, self.text_config = backbone, control, text
        self.update_references = control is None or control.update_ref
        self.finish_references = False
        """Whether the last block returns the references, too, which nothing reads but a comparison."""
        if text.source == "learned":
            self.text_tokens = nn.Parameter(torch.randn(1, text.num_tokens, backbone.text_dim))
        if control is None:
            return
        self.controlnet = ControlBranch(control, backbone)
        self.controlnet.controlnet_patch_embedding.load_state_dict(self.patch_embedding.state_dict())
        if control.main_camera_embedding:
            self.camera_embedding = CameraTokenMLP(control.camera_embedding_dim, backbone.width)
        if control.ref_embedding:
            self.ref_index_embedding = nn.Embedding(_NUM_KEYFRAMES_EMBEDDED, backbone.width)

    def process_feed_forward_in(self, rows: int | None) -> None:
        """Send so many tokens at once through every feed-forward; None for all. Less memory, same result."""
        for block in self.blocks:
            cast(StereoBlock, block).feed_forward_rows = rows

    def forward(
        self,
        hidden_states: Float[Tensor, "b c f h w"],
        timestep: Float[Tensor, b],
        encoder_hidden_states: Float[Tensor, "p t e"] | None = None,
        encoder_hidden_states_image: Float[Tensor, "b i e"] | None = None,
        *,
        control: Control | None = None,
        references: ReferenceLatents | None = None,
        camera: Float[Tensor, "b f 7"] | None = None,
    ) -> Float[Tensor, "p c f h w"]:
        """Predict the velocity.

        Several prompts go through the blocks side by side. Everything before the first look at them is
        the same for all, and so is the control branch, which never looks: both are computed once. Every
        velocity has the bits that it has alone.

        Args:
            hidden_states: Noisy latent, mask (1 where the frame is given), conditioning latent.
            timestep: In [0, 1000].
            encoder_hidden_states: The prompt's embedding; None if the model has its own tokens. May hold
                several for each latent: p is a multiple of b.
            encoder_hidden_states_image: Tokens of the image encoder, if the model has one.
            control: What the cloud shows; None leaves the control branch out.
            references: Past views; None for none.
            camera: Camera tokens of the targets, for models that read them.

        Raises:
            ValueError: An input that this model needs is missing.
        """
        inputs, time = self._condition(
            timestep, encoder_hidden_states, encoder_hidden_states_image, hidden_states, references
        )
        steering = None if control is None else self._steering(hidden_states, control, time)
        streams, embedded = self._embed(hidden_states, references, camera)
        for i, block in enumerate(self.blocks):
            if i + 1 == len(self.blocks) and not self.finish_references:
                inputs = [replace(given, keep_references=False) for given in inputs]
            streams = self._through(block, streams, embedded, inputs)
            num_references = inputs[0].num_reference_tokens if inputs[0].keep_references else 0
            if steering is not None and i < len(self.controlnet):
                change = self._steered(steering, i)
                streams = [add_to_targets(x, change, num_references) for x in streams]
                del change
        return torch.cat([self._unpatchify(x[:, num_references:], time, hidden_states) for x in streams])

    def _steering(self, hidden_states: Tensor, control: Control, time: Tensor) -> _Steering:
        return _Steering(
            self.controlnet.embed(hidden_states, control), time, self.controlnet.rope(hidden_states)
        )

    def _steered(self, steering: _Steering, i: int) -> Float[Tensor, "b n c"]:
        """Let the control branch go through a block of its own, and say what it adds after the backbone's."""
        block = self.controlnet.controlnet_blocks[i]
        steering.tokens = self._run(block, steering.tokens, steering.time, steering.rotary)
        change: Tensor = self.controlnet.proj_out[i](steering.tokens)
        return change

    def _through(
        self,
        block: nn.Module,
        streams: list[Float[Tensor, "b n c"]],
        embedded: Float[Tensor, "b m c"] | None,
        inputs: list[BlockInputs],
    ) -> list[Float[Tensor, "b k c"]]:
        """Send the sequence of every prompt through a block; in the first block it is one and the same.

        Args:
            block: A block of the backbone.
            streams: Changed in place, so that none is held longer than its successor needs it.
            embedded: References that enter every block as they were embedded.
            inputs: For each prompt.
        """
        if embedded is not None:
            for k, x in enumerate(streams):
                streams[k] = torch.cat([embedded, x], dim=1)
        if len(streams) < len(inputs):
            return cast(StereoBlock, block).fork(streams[0], inputs)
        for k, given in enumerate(inputs):
            streams[k] = self._run(block, streams[k], given)
        return streams

    def _condition(
        self,
        timestep: Tensor,
        text: Tensor | None,
        image: Tensor | None,
        hidden_states: Tensor,
        references: ReferenceLatents | None,
    ) -> tuple[list[BlockInputs], Float[Tensor, "b c"]]:
        """Embed what all blocks share, for each prompt, and the timestep itself."""
        first, *others = torch.split(self._text(text, hidden_states), len(hidden_states))
        time, modulation, first, image = self.condition_embedder(timestep, first, image)
        texts = [first, *(self.condition_embedder.text_embedder(other) for other in others)]
        grid = self.rope.grid_of(hidden_states)
        beside = None if references is None else references.index + 1
        rotary = self.rope.tables(grid, beside, hidden_states.device)
        num_references = 0 if references is None else len(references.index) * grid.per_frame
        modulation = modulation.unflatten(1, (6, -1))
        num_image = 0 if image is None else image.shape[1]
        inputs = [
            BlockInputs(
                modulation,
                text if image is None else torch.cat([image, text], dim=1),
                num_image,
                rotary,
                num_references,
                self.update_references,
            )
            for text in texts
        ]
        return inputs, time

    def _text(self, text: Tensor | None, hidden_states: Tensor) -> Float[Tensor, "p t e"]:
        batch, config = hidden_states.shape[0], self.text_config
        if text is not None:
            if len(text) % batch:
                raise ValueError(f"Expected prompts for each of {batch} latents, got {len(text)}.")
            return text
        if config.source == "learned":
            return self.text_tokens.expand(batch, -1, -1)
        if config.source == "zero":
            return hidden_states.new_zeros(batch, config.num_tokens, self.backbone_config.text_dim)
        raise ValueError("Expected a prompt embedding: this model has no tokens of its own.")

    def _embed(
        self, hidden_states: Tensor, references: ReferenceLatents | None, camera: Tensor | None
    ) -> tuple[list[Float[Tensor, "b n c"]], Float[Tensor, "b m c"] | None]:
        """Make the tokens of references and targets.

        Returns:
            The sequence that the first block takes, alone in a list; and references that are to come before
            it, and before that of every other block, as they were embedded.
        """
        targets = self._tokens(hidden_states, camera)
        if references is None:
            return [targets], None
        embedded = self._tokens(references.latent, references.camera)
        if self.control_config is not None and self.control_config.ref_embedding:
            place = self.ref_index_embedding(references.index)
            embedded = add_per_frame(embedded, place.expand(embedded.shape[0], -1, -1))
        if self.update_references:
            return [torch.cat([embedded, targets], dim=1)], None
        return [targets], embedded

    def _tokens(self, latent: Tensor, camera: Tensor | None) -> Float[Tensor, "b n c"]:
        tokens: Tensor = self.patch_embedding(latent).flatten(2).transpose(1, 2).contiguous()
        if self.control_config is None or not self.control_config.main_camera_embedding:
            return tokens
        if camera is None:
            raise ValueError("Expected camera tokens: this model reads them.")
        return add_per_frame(tokens, self.camera_embedding(camera.type_as(tokens)))

    def _run(self, block: nn.Module, *inputs: object) -> Tensor:
        """Run a block, keeping its activations only as far as training asks for."""
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            checkpointed: Tensor = self._gradient_checkpointing_func(block, *inputs)
            return checkpointed
        result: Tensor = block(*inputs)
        return result

    def _unpatchify(
        self, x: Float[Tensor, "b n c"], time: Float[Tensor, "b c"], like: Float[Tensor, "b c f h w"]
    ) -> Float[Tensor, "b c f h w"]:
        """Normalise, project to patches and put these where they belong."""
        shift, scale = (self.scale_shift_table + time.unsqueeze(1)).chunk(2, dim=1)
        x = (self.norm_out(x.float()) * (1 + scale) + shift).type_as(x)
        patch, grid = self.backbone_config.patch_size, self.rope.grid_of(like)
        patches = self.proj_out(x).reshape(
            x.shape[0], grid.frames, grid.rows, grid.columns, *patch, self.backbone_config.out_channels
        )
        ordered: Tensor = patches.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return ordered.flatten(6, 7).flatten(4, 5).flatten(2, 3)
