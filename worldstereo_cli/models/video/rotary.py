"""Rotary positions on a grid of frames, rows and columns, with places beside it for references."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_THETA = 10000.0

Rotary = tuple[Float[Tensor, "1 n 1 d"], Float[Tensor, "1 n 1 d"]]
"""Cosines and sines, each value for two channels."""


@dataclass(frozen=True, slots=True)
class TokenGrid:
    """How tokens are laid out: frame by frame, row by row."""

    frames: int
    rows: int
    columns: int

    @property
    def per_frame(self) -> int:
        """Tokens of one frame."""
        return self.rows * self.columns

    def __len__(self) -> int:
        return self.frames * self.per_frame


class RotaryGrid(nn.Module):
    """Cosine and sine tables for tokens of a `TokenGrid`.

    The tables are computed where they are needed and are no buffers, so that a model built on the
    meta device is complete as soon as its parameters are.

    Source: Su et al., RoFormer, 2021; the split over three axes is that of Wan 2.1 (diffusers,
        Apache-2.0), whose values these are, bit for bit.
    """

    def __init__(self, head_dim: int, patch_size: tuple[int, int, int], max_positions: int) -> None:
        super().__init__()
        side = 2 * (head_dim // 6)
        self.axis_dims = (head_dim - 2 * side, side, side)
        self.patch_size = patch_size
        self.max_positions = max_positions

    def grid_of(self, latent: Float[Tensor, "b c f h w"]) -> TokenGrid:
        """Return the token grid of a latent."""
        frames, rows, columns = (
            size // patch for size, patch in zip(latent.shape[2:], self.patch_size, strict=True)
        )
        return TokenGrid(frames, rows, columns)

    def forward(self, latent: Float[Tensor, "b c f h w"]) -> Rotary:
        """Return tables for the tokens of a latent."""
        return self.tables(self.grid_of(latent), None, latent.device)

    def tables(
        self, grid: TokenGrid, reference_frames: Int[Tensor, r] | None, device: torch.device
    ) -> Rotary:
        """Return tables for references (first, if there are any) and targets.

        A reference takes the time of the target that it sits beside and the columns to the right
        of it, as if the two were one picture of double width.

        Args:
            grid: Of the targets.
            reference_frames: For every reference, the target frame beside it.
            device: Where the tables are wanted.

        Raises:
            ValueError: The grid has more positions than the model knows.
        """
        columns = grid.columns * (1 if reference_frames is None else 2)
        if max(grid.frames, grid.rows, columns) > self.max_positions:
            raise ValueError(
                f"Expected at most {self.max_positions} positions along an axis, got {grid.frames} frames of "
                f"{grid.rows} x {columns} tokens."
            )
        cosines: list[Tensor] = []
        sines: list[Tensor] = []
        sizes = (grid.frames, grid.rows, columns)
        for values, axes in ((cosines, 0), (sines, 1)):
            # Short tables cross to the device and are spread out there: 60 MB less for each forward pass.
            t, y, x = (
                _axis_table(dim, self.max_positions)[axes][:size].to(device)
                for dim, size in zip(self.axis_dims, sizes, strict=True)
            )
            if reference_frames is not None:
                values.append(_spread(t[reference_frames.to(device)], y, x[grid.columns :]))
            values.append(_spread(t, y, x[: grid.columns]))
        return torch.cat(cosines)[None, :, None], torch.cat(sines)[None, :, None]


def rotate(x: Float[Tensor, "b n heads d"], rotary: Rotary) -> Float[Tensor, "b n heads d"]:
    """Turn neighbouring channels by the angles of a table; in float32."""
    cosine, sine = rotary
    # (a, b) becomes (a cos - b sin, b cos + a sin), read in the order in which both lie in memory.
    neighbour = x.reshape(*x.shape[:-1], -1, 2).flip(-1)
    against = sine.reshape(*sine.shape[:-1], -1, 2) * sine.new_tensor([-1.0, 1.0])
    turned: Tensor = x * cosine + (neighbour * against).flatten(-2)
    return turned.type_as(x)


def _spread(
    t: Float[Tensor, "f a"], y: Float[Tensor, "h b"], x: Float[Tensor, "w c"]
) -> Float[Tensor, "n d"]:
    size = (t.shape[0], y.shape[0], x.shape[0])
    return torch.cat(
        [
            t[:, None, None].expand(*size, -1),
            y[None, :, None].expand(*size, -1),
            x[None, None].expand(*size, -1),
        ],
        dim=-1,
    ).flatten(0, 2)


@lru_cache(maxsize=16)
def _axis_table(dim: int, length: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Tabulate one axis on the CPU in float64, each value twice in a row."""
    with torch.device("cpu"), torch.inference_mode(mode=False):
        frequency = 1.0 / (_THETA ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))
        angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
        return (
            angle.cos().repeat_interleave(2, dim=1).float(),
            angle.sin().repeat_interleave(2, dim=1).float(),
        )
