"""What the depth network reads off its features, in float32 also where its weights are bfloat16."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class CellValues(nn.Module):
    """Reads the values of a cell off its features, in float32 also where weights are bfloat16.

    Steps of bfloat16 between 2 and 4 are 1/64: 1.6 % of the depth, a staircase on every wall.
    """

    def __init__(self, channels: int, num_values: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(num_values, channels))
        self.bias = nn.Parameter(torch.zeros(num_values))

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b v h w"]:
        """Read values off features."""
        last = features.permute(0, 2, 3, 1).float()
        return functional.linear(last, self.weight.float(), self.bias.float()).permute(0, 3, 1, 2)


class CameraHead(nn.Sequential):
    """Reads logarithms of focal length and metric scale off a whole image, in float32 as `CellValues`."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Linear(channels, 128), nn.GELU(approximate="tanh"), nn.Linear(128, 2))

    def forward(self, features: Float[Tensor, "b c"]) -> Float[Tensor, "b 2"]:
        """Read both off the features of an image."""
        first, activation, last = cast(tuple[nn.Linear, nn.GELU, nn.Linear], tuple(self))
        hidden = activation(functional.linear(features, first.weight.float(), first.bias.float()))
        return functional.linear(hidden, last.weight.float(), last.bias.float())


def centred(values: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 2 h w"]:
    """Take the mean of the surface out of log depth, which then is shape alone; the scale has its own number.

    With nothing to hold it, it drifted to 25 on one photograph and 50 on the next, and the scale to
    the opposite: there a step of bfloat16 is a quarter.
    """
    log_depth, sky_logit = values[:, :1], values[:, 1:]
    surface = torch.sigmoid(-sky_logit).detach() + 1e-3
    mean = (log_depth * surface).sum(dim=(2, 3), keepdim=True) / surface.sum(dim=(2, 3), keepdim=True)
    return torch.cat([log_depth - mean, sky_logit], dim=1)
