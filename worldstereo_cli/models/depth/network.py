"""A small network from one photograph to depth, sky and field of view.

Convolutions bring the image to 1/16; a transformer relates everything to everything there; a decoder
climbs back to 1/4, and every full-resolution pixel becomes a convex mixture of its 3 x 3 neighbours at
1/4, with weights read off the pixels themselves, so that depth edges can follow image edges.

Depth is learned as a logarithm up to an unknown offset; one more number per image, read off a camera
token, is that offset for a camera of unit focal length. So a known focal length sets the metric
scale, and an error of it leaves the shape alone.

Source: hybrid encoder and fusion as in Ranftl et al. 2021, "Vision Transformers for Dense Prediction";
convex upsampling as in Teed & Deng 2020, "RAFT", section 3.3; normalised queries and keys as in Henry
et al. 2020; rotary positions of images as in Heo et al. 2024, section 3; depth of a canonical camera as
in Yin et al. 2023, "Metric3D", section 3.
"""

from dataclasses import dataclass
from math import log, sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from worldstereo_cli.models.depth.readings import CameraHead, CellValues, centred

PIXEL_MEAN, PIXEL_STD = 0.45, 0.25
"""Of sRGB photographs, roughly; the same for all channels keeps grey grey."""

MULTIPLE = 16
"""Image sides must be multiples of this: the transformer works on patches of 16 pixels."""

CELL = 4
"""The network reads and predicts cells of 4 x 4 pixels: a first convolution over cells sees as much as
two strided ones over pixels, and keeps no half-resolution features, which cost most of the memory."""

MAX_STRETCH = 1.375
"""Of the longer side of long images. Positions are relative to it, so that farther is coarser, not new."""


@dataclass(frozen=True, slots=True)
class DepthNetworkShape:
    """Sizes of the layers; travels with the weights in `config.json`."""

    stem_channels: int = 96
    quarter_channels: int = 64
    eighth_channels: int = 128
    width: int = 320
    """Channels of a transformer token; heads have 64 each."""
    num_layers: int = 9
    mlp_ratio: int = 3
    decoder_channels: int = 128
    num_quarter_blocks: int = 2
    num_eighth_blocks: int = 3
    num_registers: int = 4
    """Tokens without a place; the first one reads the camera."""


class RawDepth(NamedTuple):
    """What the network says about a batch of images; float32 whatever the type of the weights."""

    log_depth: Float[Tensor, "b h w"]
    """Logarithm of depth, up to an offset for each image."""
    sky_logit: Float[Tensor, "b h w"]
    """Positive where there is sky, which has no depth."""
    log_focal: Float[Tensor, "b"]
    """Logarithm of focal length / longer side of the image."""
    log_scale: Float[Tensor, "b"]
    """Add this and `log_focal` to `log_depth` for metres."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel.

    Every residual branch, lateral and head starts with one: without them the decoder's activations
    grew until training diverged.
    """

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise; the arithmetic inside is float32 whatever the type of the features."""
        last = features.permute(0, 2, 3, 1)
        normed = functional.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


def _start_small(layer: nn.Conv2d | nn.Linear, *, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.expand = nn.Conv2d(channels, channels, 3, padding=1)
        self.project = nn.Conv2d(channels, channels, 3, padding=1)
        # Nearly the identity at first, so that depth does not multiply gradients.
        _start_small(self.project, std=1e-3)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Refine features."""
        hidden = functional.gelu(self.expand(self.norm(features)), approximate="tanh")
        refined: Tensor = features + self.project(hidden)
        return refined


def rotary_angles(rows: int, columns: int, head_width: int, device: torch.device) -> Float[Tensor, "n p"]:
    """Return the rotation of each channel pair at each patch; half the pairs follow x, half y.

    Positions are in units of half the longer side, so that a larger image is not a longer one.
    """
    pairs = head_width // 4
    longer = max(rows, columns)
    frequency = 0.5 * torch.exp(torch.linspace(0.0, log(60.0), pairs, device=device))
    y = (torch.arange(rows, device=device) + 0.5 - rows / 2) * (2 / longer)
    x = (torch.arange(columns, device=device) + 0.5 - columns / 2) * (2 / longer)
    angles_y = (y[:, None] * frequency)[:, None].expand(rows, columns, pairs)
    angles_x = (x[:, None] * frequency)[None].expand(rows, columns, pairs)
    return torch.cat([angles_y, angles_x], dim=-1).reshape(rows * columns, 2 * pairs)


def rotate(
    vectors: Float[Tensor, "b a n c"], cosine: Float[Tensor, "n p"], sine: Float[Tensor, "n p"]
) -> Float[Tensor, "b a n c"]:
    """Turn channel pairs (i, i + c / 2) by their angle, so that products depend on offsets."""
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class TransformerLayer(nn.Module):
    """Attention and a two-layer perceptron, each beside a shortcut."""

    def __init__(self, width: int, mlp_ratio: int) -> None:
        super().__init__()
        self.num_heads = width // 64
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_query = nn.LayerNorm(64)
        self.norm_key = nn.LayerNorm(64)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, mlp_ratio * width)
        self.down = nn.Linear(mlp_ratio * width, width)
        _start_small(self.out, std=0.01)
        _start_small(self.down, std=0.01)

    def forward(
        self,
        tokens: Float[Tensor, "b n c"],
        rotation: tuple[Float[Tensor, "n p"], Float[Tensor, "n p"]],
    ) -> Float[Tensor, "b n c"]:
        """Relate all tokens."""
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm_attention(tokens)).view(batch, count, 3, self.num_heads, 64)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        query = rotate(self.norm_query(query), *rotation).to(value.dtype)
        key = rotate(self.norm_key(key), *rotation).to(value.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        hidden = functional.gelu(self.up(self.norm_mlp(tokens)), approximate="tanh")
        related: Tensor = tokens + self.down(hidden)
        return related


class Encoder(nn.Module):
    """From cells of pixels to features at 1/4, 1/8 and 1/16."""

    def __init__(self, shape: DepthNetworkShape) -> None:
        super().__init__()
        stem, quarter, eighth = shape.stem_channels, shape.quarter_channels, shape.eighth_channels
        self.stem = nn.Conv2d(3 * CELL * CELL, stem, 3, padding=1)
        self.norm_stem = ChannelNorm(stem)
        self.to_quarter = nn.Conv2d(stem, quarter, 1)
        self.quarter = nn.Sequential(*[ResidualBlock(quarter) for _ in range(shape.num_quarter_blocks)])
        self.to_eighth = nn.Sequential(
            ChannelNorm(quarter), nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)
        )
        self.eighth = nn.Sequential(*[ResidualBlock(eighth) for _ in range(shape.num_eighth_blocks)])
        self.to_tokens = nn.Sequential(
            ChannelNorm(eighth), nn.Conv2d(eighth, shape.width, 3, stride=2, padding=1)
        )
        self.norm_tokens = nn.LayerNorm(shape.width)
        # Where a patch lies in the image matters by itself (floors are low): a smooth absolute code.
        self.place = nn.Linear(18, shape.width)
        self.registers = nn.Parameter(0.02 * torch.randn(shape.num_registers, shape.width))
        self.layers = nn.ModuleList(
            [TransformerLayer(shape.width, shape.mlp_ratio) for _ in range(shape.num_layers)]
        )
        self.norm_out = nn.LayerNorm(shape.width)

    def forward(
        self, cells: Float[Tensor, "b 48 h4 w4"]
    ) -> tuple[Float[Tensor, "b c4 h4 w4"], Float[Tensor, "b c8 h8 w8"], Float[Tensor, "b n c"], Tensor]:
        """Return features at 1/4 and 1/8, the final tokens (registers first) and those half-way."""
        stem = functional.gelu(self.norm_stem(self.stem(cells)), approximate="tanh")
        quarter = self.quarter(self.to_quarter(stem))
        eighth = self.eighth(self.to_eighth(quarter))
        grid = self.to_tokens(eighth)
        batch, _, rows, columns = grid.shape
        angles = rotary_angles(rows, columns, 64, cells.device)
        patches = self.norm_tokens(grid.flatten(2).transpose(1, 2))
        patches = patches + self.place(_place_code(rows, columns, cells.device).to(patches.dtype))
        registers = self.registers.to(patches.dtype).expand(batch, -1, -1)
        tokens = torch.cat([registers, patches], dim=1)
        still = angles.new_zeros(registers.shape[1], angles.shape[1])
        angles = torch.cat([still, angles])
        rotation = (angles.cos().to(tokens.dtype), angles.sin().to(tokens.dtype))
        half_way = tokens
        for index, layer in enumerate(self.layers):
            tokens = layer(tokens, rotation)
            if index == len(self.layers) // 2:
                half_way = tokens
        return quarter, eighth, self.norm_out(tokens), half_way


def _place_code(rows: int, columns: int, device: torch.device) -> Float[Tensor, "n 18"]:
    """Code each patch's position relative to the centre, in half the longer side."""
    longer = max(rows, columns)
    y = (torch.arange(rows, device=device) + 0.5 - rows / 2) * (2 / longer)
    x = (torch.arange(columns, device=device) + 0.5 - columns / 2) * (2 / longer)
    place = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).reshape(rows * columns, 2)
    waves = torch.cat([place * (1.5707963 * 2**octave) for octave in range(4)], dim=-1)
    return torch.cat([place, waves.sin(), waves.cos()], dim=-1)


class Doubling(nn.Module):
    """Twice the resolution: every feature becomes 2 x 2 of them, each with its own weights.

    Source: Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution", section 3.2.
    """

    def __init__(self, channels: int, channels_out: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.spread = nn.Conv2d(channels, 4 * channels_out, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Upsample."""
        return functional.pixel_shuffle(self.spread(self.norm(features)), 2)


class Decoder(nn.Module):
    """From tokens back to features at 1/4, with finer features joining on the way."""

    def __init__(self, shape: DepthNetworkShape) -> None:
        super().__init__()
        wide, quarter = shape.decoder_channels, shape.quarter_channels
        self.reduce = nn.Conv2d(2 * shape.width, wide, 1)
        self.sixteenth = ResidualBlock(wide)
        self.to_eighth = Doubling(wide, wide)
        self.lateral_eighth = nn.Sequential(
            ChannelNorm(shape.eighth_channels), nn.Conv2d(shape.eighth_channels, wide, 1)
        )
        self.eighth = nn.Sequential(ResidualBlock(wide), ResidualBlock(wide))
        self.to_quarter = Doubling(wide, quarter)
        self.lateral_quarter = nn.Sequential(ChannelNorm(quarter), nn.Conv2d(quarter, quarter, 1))
        self.quarter = nn.Sequential(ResidualBlock(quarter), ResidualBlock(quarter))
        self.norm_out = ChannelNorm(quarter)

    def forward(
        self,
        quarter: Float[Tensor, "b c4 h4 w4"],
        eighth: Float[Tensor, "b c8 h8 w8"],
        grid: Float[Tensor, "b c h16 w16"],
    ) -> Float[Tensor, "b c4 h4 w4"]:
        """Fuse coarse to fine."""
        features = self.sixteenth(self.reduce(grid))
        features = self.eighth(self.to_eighth(features) + self.lateral_eighth(eighth))
        features = self.quarter(self.to_quarter(features) + self.lateral_quarter(quarter))
        fused: Tensor = self.norm_out(features)
        return fused


class GuidedUpsampler(nn.Module):
    """Mixes 3 x 3 cells into each of the 4 x 4 pixels of the middle cell.

    The weights see the 16 pixels of the cell beside the features: a pixel that looks like one
    neighbour takes its depth from there. Mixtures are convex, so no depth is invented.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels + 3 * CELL * CELL, 96, 3, padding=1)
        self.norm = ChannelNorm(96)
        self.weigh = nn.Conv2d(96, 9 * CELL * CELL, 1)
        # A sharper start than the usual one: equal weights blur, and blur hides the edges at first.
        nn.init.normal_(self.weigh.weight, std=0.05)

    def forward(
        self,
        values: Float[Tensor, "b v h4 w4"],
        features: Float[Tensor, "b c h4 w4"],
        cells: Float[Tensor, "b 48 h4 w4"],
    ) -> Float[Tensor, "b v h w"]:
        """Bring values from cells to pixels.

        Args:
            values: One for each cell.
            features: Of each cell.
            cells: The pixels of each cell, as channels.
        """
        hidden = self.norm(self.mix(torch.cat([features, cells], dim=1)))
        logits = self.weigh(functional.gelu(hidden, approximate="tanh")).float()
        batch, _, rows, columns = values.shape
        weights = logits.view(batch, 1, 9, CELL * CELL, rows, columns).softmax(dim=2)
        # Contiguous: compilers expect the gradient of a padding to be, and it is laid out as its input.
        padded = functional.pad(values.float().contiguous(), (1, 1, 1, 1), mode="replicate")
        shifted = [padded[:, :, dy : dy + rows, dx : dx + columns] for dy in range(3) for dx in range(3)]
        neighbours = torch.stack(shifted, dim=2)[:, :, :, None]
        mixed = (weights * neighbours).sum(dim=2).reshape(batch, -1, rows, columns)
        return functional.pixel_shuffle(mixed, CELL)


class DepthNetwork(nn.Module):
    """Photograph in, `RawDepth` out."""

    def __init__(self, shape: DepthNetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)
        self.values = CellValues(shape.quarter_channels, 2)
        self.upsampler = GuidedUpsampler(shape.quarter_channels)
        self.camera = CameraHead(2 * shape.width)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> RawDepth:
        """Estimate depth, sky and camera.

        Args:
            images: sRGB in [0, 1]; both sides multiples of `MULTIPLE`.
        """
        pixels = (images - PIXEL_MEAN) / PIXEL_STD
        cells = functional.pixel_unshuffle(pixels, CELL).to(self.encoder.stem.weight.dtype)
        quarter, eighth, tokens, half_way = self.encoder(cells)
        num_registers = self.shape.num_registers
        patches = tokens[:, num_registers:]
        both = torch.cat([patches, half_way[:, num_registers:].to(patches.dtype)], dim=-1)
        rows, columns = eighth.shape[2] // 2, eighth.shape[3] // 2
        grid = both.reshape(len(both), rows, columns, -1).permute(0, 3, 1, 2)
        features = self.decoder(quarter, eighth, grid)
        full = self.upsampler(centred(self.values(features)), features, cells)
        camera = self.camera(torch.cat([tokens[:, 0].float(), patches.float().mean(dim=1)], dim=-1))
        return RawDepth(
            log_depth=full[:, 0], sky_logit=full[:, 1], log_focal=camera[:, 0], log_scale=camera[:, 1]
        )


def working_size(height_px: int, width_px: int, longest_px: int) -> tuple[int, int]:
    """Return the size nearest to an image's aspect that the network takes.

    Longer images get the pixels of a 4:3 one as far as they may: a road 3.3 times as wide as high would
    else be seen at two fifths of them.

    Args:
        height_px: Of the image.
        width_px: Of the image.
        longest_px: Longer side where the sides are as 4 to 3 or nearer to each other.

    Returns:
        Height and width, multiples of `MULTIPLE`; the longer at most `longest_px * MAX_STRETCH`.
    """
    longer, shorter = max(height_px, width_px), min(height_px, width_px)
    stretch = min(MAX_STRETCH, max(1.0, sqrt(0.75 * longer / shorter)))
    ratio = longest_px * stretch / longer
    height, width = (
        max(MULTIPLE, MULTIPLE * round(side * ratio / MULTIPLE)) for side in (height_px, width_px)
    )
    return height, width


def num_parameters(network: nn.Module) -> int:
    """Count the numbers that are learned."""
    return sum(parameter.numel() for parameter in network.parameters())
