"""The prompt and the photo as tokens: UMT5 and CLIP, each loaded alone and let go at once."""

from __future__ import annotations

import html
import json
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from worldstereo_cli.errors import BackendError

_PULL = "worldstereo weights pull NAME  fetches what a model needs."


@dataclass(frozen=True, slots=True)
class ClipPreprocess:
    """How the image encoder wants its picture."""

    side_px: int = 224
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    rescale: bool = True
    """Whether values are brought to [0, 1] first; the released weights were run without."""

    @staticmethod
    def read(path: Path, *, rescale: bool) -> ClipPreprocess:
        """Read a preprocessor_config.json.

        Raises:
            BackendError: It is missing or of another kind.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            mean, std = tuple(map(float, data["image_mean"])), tuple(map(float, data["image_std"]))
            return ClipPreprocess(int(data["crop_size"]["height"]), mean, std, rescale)  # type: ignore[arg-type]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackendError(f"{path} does not describe a CLIP picture: {error}.", remedy=_PULL) from error

    def __call__(self, picture: Image.Image) -> Float[Tensor, "1 3 s s"]:
        """Resize the shorter side (bicubic), crop the middle, normalise."""
        width, height = picture.size
        short = min(width, height)
        # The longer side is truncated, not rounded, as CLIP's own preprocessing does.
        size = (self.side_px * width // short, self.side_px * height // short)
        resized = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        top, left = (size[1] - self.side_px) // 2, (size[0] - self.side_px) // 2
        crop = resized[top : top + self.side_px, left : left + self.side_px]
        values = torch.from_numpy(crop.astype(np.float32)).permute(2, 0, 1)
        if self.rescale:
            values = values / 255
        mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (self.mean, self.std))
        return ((values - mean) / std)[None]


@torch.inference_mode()
def encode_image(
    folder: Path, pixels: Float[Tensor, "1 3 s s"], device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "1 i e"]:
    """Return the tokens before the last layer of a CLIP vision tower.

    Args:
        folder: image_encoder of the base model.
        pixels: From `ClipPreprocess`.
        device: Where to compute; nothing stays there but the result.
        dtype: In which to compute.

    Raises:
        BackendError: The encoder cannot be loaded.
    """
    from transformers import CLIPVisionModel

    model = _from_pretrained(CLIPVisionModel, folder, device, dtype)
    hidden = model(pixels.to(device, dtype), output_hidden_states=True).hidden_states[-2]
    tokens: Tensor = hidden
    return tokens


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """How prompts are embedded."""

    device: torch.device
    """Nothing stays there but the result."""
    dtype: torch.dtype
    num_tokens: int = 512
    """Length of the embedding; zeros fill it up."""


class PromptEncoder:
    """Embeds prompts with a UMT5 encoder that is loaded when one is not in the cache, then let go."""

    def __init__(self, encoder: Path, tokenizer: Path, cache: Path, settings: PromptSettings) -> None:
        """Remember where everything is.

        Args:
            encoder: text_encoder of the base model.
            tokenizer: tokenizer of the base model.
            cache: A directory for embeddings; made when needed.
            settings: Length, and where and how to compute.
        """
        self._encoder, self._tokenizer = encoder, tokenizer
        self._cache, self._settings = cache, settings

    def is_cached(self, prompts: list[str]) -> bool:
        """Tell whether embedding these prompts needs no encoder."""
        return all(self._entry(prompt).is_file() for prompt in prompts)

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> Float[Tensor, "p t e"]:
        """Embed prompts.

        Args:
            prompts: Plain text; empty is allowed.

        Raises:
            BackendError: The encoder is needed and cannot be loaded.
        """
        missing = [prompt for prompt in dict.fromkeys(prompts) if not self._entry(prompt).is_file()]
        if missing:
            for prompt, embedding in zip(missing, self._compute(missing), strict=True):
                self._store(self._entry(prompt), embedding)
        stacked = torch.stack([self._load(prompt) for prompt in prompts])
        return stacked.to(self._settings.device, self._settings.dtype)

    def _compute(self, prompts: list[str]) -> list[Float[Tensor, "t e"]]:
        from transformers import UMT5EncoderModel

        device, length = self._settings.device, self._settings.num_tokens
        tokenizer = read_tokenizer(self._tokenizer, length)
        encoder = _from_pretrained(UMT5EncoderModel, self._encoder, device, self._settings.dtype)
        embeddings = []
        for prompt in prompts:
            ids = torch.tensor([tokenizer.encode(clean_prompt(prompt)).ids], device=device)
            # Alone and unpadded, which is what an attention mask over padding amounts to.
            hidden = encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            embeddings.append(torch.nn.functional.pad(hidden, (0, 0, 0, length - len(hidden))))
        return embeddings

    def _entry(self, prompt: str) -> Path:
        """Name the cache file of a prompt by everything that shapes its embedding."""
        config = self._encoder / "config.json"
        settings = [str(self._settings.num_tokens), str(self._settings.dtype)]
        identity = [clean_prompt(prompt), *settings, str(self._encoder.resolve())]
        if config.is_file():
            identity.append(sha256(config.read_bytes()).hexdigest())
        # Of a folder whose weights were replaced, what the old ones made is of no use.
        for weights in sorted(self._encoder.glob("*.safetensors")):
            status = weights.stat()
            identity.append(f"{weights.name} {status.st_size} {status.st_mtime_ns}")
        return self._cache / f"{sha256(chr(0).join(identity).encode()).hexdigest()[:32]}.safetensors"

    def _store(self, path: Path, embedding: Float[Tensor, "t e"]) -> None:
        # Photos of a folder are run side by side, and have the same neutral prompt.
        draft = path.with_name(f"{path.stem}-{uuid4().hex}.draft")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"embedding": embedding.cpu().contiguous()}, draft)
            draft.replace(path)
        except (OSError, SafetensorError) as error:
            raise BackendError(
                f"The embedded prompt cannot be kept in {path.parent}: {error}",
                remedy="Make room there, or set HOME to a folder that can be written.",
            ) from error
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _load(self, prompt: str) -> Float[Tensor, "t e"]:
        path = self._entry(prompt)
        try:
            return load_file(path)["embedding"]
        except (OSError, KeyError, SafetensorError) as error:
            raise BackendError(
                f"The cached prompt {path} cannot be read: {error}", remedy=f"Delete {path}."
            ) from error


def read_tokenizer(folder: Path, num_tokens: int) -> Tokenizer:
    """Read tokenizer.json as it stands.

    The classes of transformers 5 build a T5 tokenizer anew from its vocabulary, without what normalises
    text and spells rare characters in bytes: those of the released negative prompt became unknown.

    Args:
        folder: tokenizer of the base model.
        num_tokens: Longer texts are cut.

    Raises:
        BackendError: It is missing or damaged.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # The library has no class of its own for what it cannot read.
        raise BackendError(f"{path} holds no tokenizer that can be read: {error}", remedy=_PULL) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(num_tokens)
    return tokenizer


def clean_prompt(prompt: str) -> str:
    """Undo HTML entities and join lines, as the base model's prompts were cleaned."""
    return " ".join(html.unescape(html.unescape(prompt)).split())


def _from_pretrained(kind: type, folder: Path, device: torch.device, dtype: torch.dtype):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Load a transformers model from safetensors, straight to its device, and whole."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    # What it would warn of is refused below, or a head that nothing here has a use for.
    logging.set_verbosity_error()
    try:
        model, report = kind.from_pretrained(  # type: ignore[attr-defined]
            folder, dtype=dtype, device_map={"": device}, local_files_only=True, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise BackendError(
            f"{folder} holds no {kind.__name__} that can be loaded: {error}", remedy=_PULL
        ) from error
    refuse_missing(folder, report)
    return model.eval()


def refuse_missing(folder: Path, report: dict[str, Any]) -> None:
    """Refuse a model of which a library would fill a part with noise.

    Raises:
        BackendError: Tensors are missing, or have another shape.
    """
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise BackendError(f"{folder} lacks {len(wrong)} tensors, the first {wrong[0]}.", remedy=_PULL)
