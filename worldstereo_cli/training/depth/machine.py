"""The parts of training that are compiled, made once and used by one run after another.

Compiling takes longer than a short run learns: as one graph, network and losses took 134 s on a fresh
machine, mostly for nine equal layers. So each kind of block is compiled by itself, once for all its copies
(regional compilation), what differs between runs is an input and no constant (weights of the losses,
strength of the augmentation), and a new run starts in the same memory.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldstereo_cli.errors import InputError
from worldstereo_cli.models.depth.network import (
    DepthNetwork,
    DepthNetworkShape,
    GuidedUpsampler,
    ResidualBlock,
    TransformerLayer,
)
from worldstereo_cli.training.depth.augment import AugmentSettings, CameraParts, photograph
from worldstereo_cli.training.depth.losses import DepthLosses, LossWeights, depth_losses

BLOCKS = (TransformerLayer, ResidualBlock, GuidedUpsampler)
"""What is compiled by itself: everything with more than a product between two reads of memory."""

MAX_GRAPHS = 64
"""Graphs of one piece of code, for all blocks and sizes of batches; past it torch stops compiling."""


Parts = Literal["blocks", "whole", "none"]


@dataclass(frozen=True, slots=True)
class Compiling:
    """How the machine is compiled."""

    parts: Parts = "blocks"
    """"whole": network and losses as one graph, which takes minutes to compile. "none": for a CPU, where it
    costs more than it saves."""
    backend: str = "inductor"
    """Of `torch.compile`."""

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile a function for each size of its inputs, or leave it."""
        if self.parts == "none":
            return function
        compiled: Callable[..., Any] = torch.compile(function, dynamic=False, backend=self.backend)
        return compiled


class Objective(nn.Module):
    """Network and losses in one."""

    weights: Tensor

    def __init__(self, network: DepthNetwork, losses: Callable[..., DepthLosses] = depth_losses) -> None:
        super().__init__()
        self.network = network
        self._losses = losses
        self.register_buffer("weights", LossWeights().vector())

    def forward(self, images: Tensor, depth_m: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss and its terms."""
        terms = torch.stack(list(self._losses(self.network(images), depth_m, intrinsics)))
        return (terms * self.weights).sum(), terms.detach()


class Machine:
    """A network with its losses, and the camera that photographs scenes for it, on one device."""

    def __init__(
        self, shape: DepthNetworkShape, device: torch.device, compiling: Compiling | None = None
    ) -> None:
        """Build it; nothing is compiled before it is first used.

        Args:
            shape: Sizes of the layers.
            device: On a GPU the network computes in bfloat16.
            compiling: "none" when absent.
        """
        compiling = compiling or Compiling("none")
        self.shape, self.device = shape, device
        self.network = DepthNetwork(shape).to(device)
        if device.type == "cuda":
            self.network.to(dtype=torch.bfloat16)
            _lay_out_channels_last(self.network)
        losses: Callable[..., DepthLosses] = depth_losses
        if compiling.parts != "none":
            torch._dynamo.config.recompile_limit = MAX_GRAPHS
        if compiling.parts == "blocks":
            losses = compiling(depth_losses)
            for module in self.network.modules():
                if isinstance(module, BLOCKS):
                    module.compile(dynamic=False, backend=compiling.backend)
        self._objective = Objective(self.network, losses).to(device)
        self.objective: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = self._objective
        if compiling.parts == "whole":
            self.objective = compiling(self._objective)
        plain = CameraParts()
        self._camera = CameraParts(compiling(plain.develop), compiling(plain.record))

    def restart(self, seed: int, losses: LossWeights) -> dict[str, Tensor]:
        """Begin another run in the same memory.

        Returns:
            The first weights, float32.
        """
        if self.device.type == "cuda":
            # What the streams of an earlier run held.
            torch.cuda.empty_cache()
        torch.manual_seed(seed)
        first = {name: value.to(self.device) for name, value in DepthNetwork(self.shape).named_parameters()}
        self.network.load_state_dict(first)
        self.network.zero_grad(set_to_none=True)
        self._objective.weights.copy_(losses.vector())
        return first

    def photograph(
        self, rgb_linear: Float[Tensor, "b 3 h w"], depth_m: Float[Tensor, "b h w"], settings: AugmentSettings
    ) -> Float[Tensor, "b 3 h w"]:
        """Take pictures as `augment.photograph` does."""
        return photograph(rgb_linear, depth_m, settings, self._camera)


def _lay_out_channels_last(network: nn.Module) -> None:
    """Store kernels the way in which bfloat16 convolutions are fastest."""
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def load_kernels(path: Path) -> None:
    """Take over what another process compiled, for the same code, torch and kind of GPU.

    Whatever does not fit is compiled as if there were no file.

    Raises:
        InputError: The file is damaged.
    """
    try:
        torch.compiler.load_cache_artifacts(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError) as error:
        raise InputError(f"{path} holds no compiled kernels: {error}", remedy="Remove it.") from error


def kernels_for(path: Path, device: torch.device) -> Path:
    """Return the file of one GPU of a machine, since kernels name the GPU that they are compiled for."""
    return path.with_name(f"{path.name}.{device.index or 0}")


def save_kernels(path: Path) -> None:
    """Keep what this process compiled or loaded; nothing if there was nothing."""
    saved = torch.compiler.save_cache_artifacts()
    if saved is None:
        return
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(gzip.compress(saved[0]))
    draft.replace(path)
