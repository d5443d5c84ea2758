"""The depth network that ships in the package: nothing to fetch.

Weights live in `worldstereo_cli/weights/<name>/`: `config.json` with the sizes of the layers and the
working resolution, `model.safetensors` in eight bits, `MODEL_CARD.md`.
"""

import json
from dataclasses import dataclass
from math import log
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from worldstereo_cli.errors import BackendError
from worldstereo_cli.models.depth.eight_bit import from_eight_bit
from worldstereo_cli.models.depth.network import DepthNetwork, DepthNetworkShape, RawDepth, working_size
from worldstereo_cli.models.depth.protocol import DepthEstimate
from worldstereo_cli.models.depth.settle_sky import settle_sky
from worldstereo_cli.models.depth.upsample import upsample_along_edges

DEFAULT_WEIGHTS = "depth-small"
"""Folder under `worldstereo_cli/weights` that `EmbeddedDepth` reads by default."""

WEIGHTS_ROOT = Path(__file__).resolve().parents[2] / "weights"

MAX_DEPTH_M = 5000.0
"""Beyond the farthest surface that the network was shown; keeps an odd image finite."""

FAR_SHARE, FAR_REACH = 0.95, 0.5
"""Past the depth of the nearest 95 % of the surfaces, log depth saturates towards 0.5 more (1.65 x): along
skylines the network else puts a few pixels ten times too far, into hills that are not there."""


@dataclass(frozen=True, slots=True)
class EmbeddedDepthConfig:
    """What `config.json` holds beside the sizes of the layers."""

    longest_px: int
    """Longer side at which the network sees a 4:3 picture; estimates come back at the size of the picture."""
    mirrored: bool
    """Whether the estimate is the mean over the picture and its mirror image."""


class EmbeddedDepth:
    """The small network on one device, as a `DepthBackend`."""

    name = "embedded"

    def __init__(self, network: DepthNetwork, config: EmbeddedDepthConfig, device: torch.device) -> None:
        self._network = network.to(device).eval()
        self._config = config
        self._device = device

    @classmethod
    def load(cls, device: torch.device, *, weights: str = DEFAULT_WEIGHTS) -> "EmbeddedDepth":
        """Read weights that came with the package.

        Args:
            device: Where to run.
            weights: Name of a folder under `worldstereo_cli/weights`.

        Raises:
            BackendError: The weights are missing or damaged.
        """
        return cls.load_folder(WEIGHTS_ROOT / weights, device)

    @classmethod
    def load_folder(cls, folder: Path, device: torch.device) -> "EmbeddedDepth":
        """Read weights from a folder with `config.json` and `model.safetensors`.

        Raises:
            BackendError: The weights are missing or damaged.
        """
        remedy = "Reinstall worldstereo, or train weights with python -m worldstereo_cli.training depth."
        try:
            settings = json.loads((folder / "config.json").read_text())
            network = DepthNetwork(DepthNetworkShape(**settings["shape"]))
            config = EmbeddedDepthConfig(**settings["inference"])
            network.load_state_dict(from_eight_bit(load_file(folder / "model.safetensors")))
        except OSError as error:
            raise BackendError(f"The depth weights in {folder} cannot be read.", remedy=remedy) from error
        except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise BackendError(f"The depth weights in {folder} are damaged.", remedy=remedy) from error
        return cls(network, config, device)

    def estimate(self, image: Float[Tensor, "3 h w"], focal_px: float | None) -> DepthEstimate:
        """Estimate depth.

        Args:
            image: sRGB in [0, 1].
            focal_px: If it is known it sets the metric scale in place of the network's own guess.

        Raises:
            ValueError: The image is not three channels of at least one pixel.
        """
        if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
            raise ValueError(f"Expected an image (3, h, w), got {tuple(image.shape)}.")
        height, width = image.shape[1:]
        raw = infer(self._network, image.to(self._device), self._config)
        longer = max(height, width)
        found_px = float(raw.log_focal[0].exp()) * longer
        log_focal = float(raw.log_focal[0]) if focal_px is None else log(focal_px / longer)
        log_depth = raw.log_depth[0] + raw.log_scale[0] + log_focal
        sky = (raw.sky_logit[0] > 0).cpu()
        depth = log_depth.clamp(max=log(MAX_DEPTH_M)).exp().cpu()
        return DepthEstimate(
            depth_m=torch.where(sky, torch.zeros_like(depth), depth),
            valid=~sky,
            sky=sky,
            focal_px=found_px,
            is_metric=True,
        )


@torch.inference_mode()
def infer(network: DepthNetwork, image: Float[Tensor, "3 h w"], config: EmbeddedDepthConfig) -> RawDepth:
    """Run the network on one image of any size and bring its maps back to that size.

    Returns:
        A batch of one at the size of the image.
    """
    height, width = image.shape[1:]
    size = working_size(height, width, config.longest_px)
    # Averaging over footprints: plain bilinear would skip pixels of a large photograph.
    small = functional.interpolate(
        image[None].float(), size, mode="bilinear", align_corners=False, antialias=True
    ).clamp(0, 1)
    batch = torch.cat([small, small.flip(-1)]) if config.mirrored else small
    raw = network(batch)
    if config.mirrored:
        raw = _fold_mirror(raw)
    sky_logit = settle_sky(raw.sky_logit[0], small[0])
    maps = torch.stack([draw_in_far(raw.log_depth[0], sky_logit > 0), sky_logit])
    if size != (height, width):
        maps = upsample_along_edges(maps, small[0], image.float())
    return RawDepth(maps[:1], maps[1:], raw.log_focal, raw.log_scale)


def draw_in_far(log_depth: Float[Tensor, "h w"], sky: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Let the farthest surfaces saturate; order and nearer depth stay.

    Returns:
        Log depth, at most `FAR_REACH` beyond the quantile `FAR_SHARE` of what is no sky.
    """
    surfaces = log_depth[~sky]
    if surfaces.numel() == 0:
        return log_depth
    rank = round(FAR_SHARE * (surfaces.numel() - 1)) + 1
    beyond = (log_depth - surfaces.kthvalue(rank).values).clamp(min=0)
    return log_depth - beyond + FAR_REACH * (1 - torch.exp(-beyond / FAR_REACH))


def _fold_mirror(raw: RawDepth) -> RawDepth:
    """Average a picture and its mirror image, in logarithms, each with its own offset."""
    offset = (raw.log_scale + raw.log_focal)[:, None, None]
    metric = raw.log_depth + offset
    both = (metric[:1] + metric[1:].flip(-1)) / 2
    log_focal, log_scale = raw.log_focal.mean()[None], raw.log_scale.mean()[None]
    sky = (raw.sky_logit[:1] + raw.sky_logit[1:].flip(-1)) / 2
    return RawDepth(both - (log_focal + log_scale)[:, None, None], sky, log_focal, log_scale)
