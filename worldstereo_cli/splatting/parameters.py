"""Splats as trainable parameters, each with its own pace, and the optimiser that respects it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from worldstereo_cli.geometry.gaussians import Gaussians

_BETA1, _BETA2 = 0.9, 0.99
_EPSILON = 1e-15
"""Gradients of means over a million pixels are tiny; so must this be."""


@dataclass(frozen=True, slots=True)
class LearningRates:
    """Steps of Adam: what one update changes at full pace, while gradients agree."""

    means: float = 0.03
    """In extents of the splat."""
    quaternions: float = 0.002
    log_scales: float = 0.01
    opacity_logits: float = 0.03
    sh: float = 0.02
    """0.0056 in colour."""


@dataclass(frozen=True, slots=True)
class PacedSplats:
    """Splats, and how freely each may change."""

    gaussians: Gaussians
    extent_m: Float[Tensor, g]
    """Distance to its neighbours on the surface, metres: the unit for moves and sizes."""
    pace: Float[Tensor, g]
    """1 for splats that must be found, less for those that are nearly right, 0 for those that stay."""

    def __post_init__(self) -> None:
        g = len(self.gaussians)
        if self.extent_m.shape != (g,) or self.pace.shape != (g,):
            raise ValueError(f"Expected extent and pace for each of {g} splats.")

    @staticmethod
    def of(gaussians: Gaussians, sigma_spacings: float, pace: float) -> PacedSplats:
        """Give all splats one pace, and take their extents from their sizes.

        Args:
            gaussians: The splats.
            sigma_spacings: Their longest standard deviation over the distance to the neighbours.
            pace: How freely they may change, 1 for fully.
        """
        extent = gaussians.log_scales.exp().amax(-1) / sigma_spacings
        return PacedSplats(gaussians, extent, torch.full_like(extent, pace))

    @staticmethod
    def joined(parts: list[PacedSplats]) -> PacedSplats:
        """Put splats behind each other; all must have colour harmonics of one degree."""
        return PacedSplats(
            joined([p.gaussians for p in parts]),
            torch.cat([p.extent_m for p in parts]),
            torch.cat([p.pace for p in parts]),
        )


def joined(parts: list[Gaussians]) -> Gaussians:
    """Put splats behind each other; all must have colour harmonics of one degree."""
    return Gaussians(
        torch.cat([p.means for p in parts]),
        torch.cat([p.quaternions for p in parts]),
        torch.cat([p.log_scales for p in parts]),
        torch.cat([p.opacity_logits for p in parts]),
        torch.cat([p.sh for p in parts]),
    )


class PacedAdam:
    """Adam for one parameter, whose step is multiplied by a factor for each row.

    It has the attributes of torch's optimisers that gsplat's strategies work on, but is none:
    constructing one of those imports torch's compiler, for two seconds.

    Source: Kingma and Ba, Adam: A method for stochastic optimization, 2015, algorithm 1.
    """

    def __init__(self, parameter: Tensor, lr: float, pace: Callable[[], Float[Tensor, g]]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": [parameter], "lr": lr}]
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._pace = pace

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameter from its gradient, and forget that.

        Raises:
            ValueError: There is no gradient.
        """
        parameter, lr = self.param_groups[0]["params"][0], self.param_groups[0]["lr"]
        if parameter.grad is None:
            raise ValueError("Expected a gradient: call backward before step.")
        if parameter not in self.state:
            zeros = (torch.zeros_like(parameter) for _ in range(2))
            self.state[parameter] = {"step": 0} | dict(zip(("exp_avg", "exp_avg_sq"), zeros, strict=True))
        state = self.state[parameter]
        state["step"] += 1
        bias = (1 - _BETA2 ** state["step"]) ** 0.5 / (1 - _BETA1 ** state["step"])
        update = _update_compiled if parameter.device.type == "cpu" else update_plain
        update(parameter, parameter.grad, state, self._pace(), lr * bias)
        parameter.grad = None


def update_plain(
    parameter: Tensor, gradient: Tensor, state: dict[str, Any], pace: Float[Tensor, g], size: float
) -> None:
    """Do one step of Adam in torch; `size` is the learning rate with the bias of the means corrected."""
    first, second = state["exp_avg"], state["exp_avg_sq"]
    first.lerp_(gradient, 1 - _BETA1)
    second.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
    rows = pace.reshape(-1, *([1] * (parameter.ndim - 1)))
    parameter.sub_((first / second.sqrt().add_(_EPSILON)).mul_(rows), alpha=size)


def _update_compiled(
    parameter: Tensor, gradient: Tensor, state: dict[str, Any], pace: Float[Tensor, g], size: float
) -> None:
    from worldstereo_cli.splatting.adam_kernels import adam_update

    adam_update(
        _table(parameter),
        _table(gradient),
        _table(state["exp_avg"]),
        _table(state["exp_avg_sq"]),
        pace.detach().contiguous().numpy(),
        np.array([size, _BETA1, _BETA2, _EPSILON], np.float32),
    )


def _table(tensor: Tensor) -> NDArray[np.float32]:
    """Return the memory of a tensor as one row for each splat."""
    array: NDArray[np.float32] = tensor.detach().contiguous().reshape(len(tensor), -1).numpy()
    return array


class SplatParameters:
    """Trainable splats, named as gsplat's densification strategies expect them.

    What is known of a splat (extent, pace, whether a target ever saw it) lies in the same
    dictionary, so that whoever splits or removes splats takes it along.
    """

    def __init__(self, start: PacedSplats, rates: LearningRates) -> None:
        g = start.gaussians
        trained = {
            "means": (g.means, rates.means),
            "quats": (g.quaternions, rates.quaternions),
            "scales": (g.log_scales, rates.log_scales),
            "opacities": (g.opacity_logits, rates.opacity_logits),
            "sh": (g.sh, rates.sh),
        }
        self.values: dict[str, torch.nn.Parameter] = {}
        self.optimizers: dict[str, PacedAdam] = {}
        for name, (value, rate) in trained.items():
            self.values[name] = torch.nn.Parameter(value.detach().clone())
            pace = self._metric_pace if name == "means" else self._plain_pace
            self.optimizers[name] = PacedAdam(self.values[name], rate, pace)
        untouched = torch.zeros_like(start.pace)
        for name, value in (("extent", start.extent_m), ("pace", start.pace), ("touched", untouched)):
            self.values[name] = torch.nn.Parameter(value.detach().clone(), requires_grad=False)
        self._rates = {name: rate for name, (_, rate) in trained.items()}

    def __len__(self) -> int:
        return len(self.values["means"])

    @property
    def extent_m(self) -> Float[Tensor, g]:
        """Distance of each splat to its neighbours, metres."""
        return self.values["extent"]

    @property
    def touched(self) -> Bool[Tensor, g]:
        """Whether any pixel of any target has sent a gradient to the splat."""
        return self.values["touched"] > 0

    def splats(self) -> PacedSplats:
        """Return the splats as they are now, without gradients."""
        g = self.gaussians()
        fields = (g.means, g.quaternions, g.log_scales, g.opacity_logits, g.sh)
        now = Gaussians(*(f.detach() for f in fields))
        return PacedSplats(now, self.values["extent"].detach(), self.values["pace"].detach())

    def gaussians(self) -> Gaussians:
        """Return the splats as they are now, with gradients to the parameters."""
        v = self.values
        return Gaussians(v["means"], v["quats"], v["scales"], v["opacities"], v["sh"])

    def step(self, rate_factor: float) -> None:
        """Update all parameters from their gradients, and forget those."""
        gradient = self.values["opacities"].grad
        if gradient is not None:
            self.values["touched"].data.logical_or_(gradient != 0)
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = rate_factor * self._rates[name]
            optimizer.step()

    @torch.no_grad()
    def restrain_shapes(self, max_extents: float, max_ratio: float = 5.0, strength: float = 0.2) -> None:
        """Pull splats that are too large or too thin part of the way back.

        Flat splats are welcome; needles, longer than both other axes allow, are not.

        Args:
            max_extents: The largest standard deviation, in extents of the splat.
            max_ratio: The longest axis may be this much longer than the middle one.
            strength: The share of the excess that is taken away.
        """
        x, y, z = self.values["scales"].unbind(-1)
        longest = torch.maximum(torch.maximum(x, y), z)
        middle = x + y + z - longest - torch.minimum(torch.minimum(x, y), z)
        allowed = torch.minimum((max_extents * self.extent_m).log(), middle + math.log(max_ratio))
        excess = (longest - allowed).clamp_min_(0).mul_(strength)
        for axis in (x, y, z):
            axis.sub_(torch.where(axis == longest, excess, 0.0))

    @torch.no_grad()
    def keep(self, mask: Bool[Tensor, g]) -> None:
        """Drop all splats outside the mask, with the optimiser's memory of them."""
        for name, old in list(self.values.items()):
            new = torch.nn.Parameter(old[mask], requires_grad=old.requires_grad)
            self.values[name] = new
            if name not in self.optimizers:
                continue
            optimizer = self.optimizers[name]
            state: dict[str, Any] = optimizer.state.pop(old, {})
            optimizer.param_groups[0]["params"] = [new]
            optimizer.state[new] = {k: v if k == "step" else v[mask] for k, v in state.items()}

    def _plain_pace(self) -> Float[Tensor, g]:
        return self.values["pace"]

    def _metric_pace(self) -> Float[Tensor, g]:
        return self.values["pace"] * self.values["extent"]
