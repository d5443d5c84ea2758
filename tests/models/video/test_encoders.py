"""Prompts and pictures as tokens: those of the released files, from whole encoders, which are let go."""

import gc
import json
import weakref
from pathlib import Path

import pytest
import torch
from released import write_base
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from worldstereo_cli.errors import BackendError
from worldstereo_cli.models.video import encoders
from worldstereo_cli.models.video.encoders import (
    PromptEncoder,
    PromptSettings,
    clean_prompt,
    encode_image,
    read_tokenizer,
)

CPU = torch.device("cpu")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_base(tmp_path / "base")
    return tmp_path / "base"


def encoder(base: Path, cache: str = "cache") -> PromptEncoder:
    settings = PromptSettings(CPU, torch.float32, 8)
    return PromptEncoder(base / "text_encoder", base / "tokenizer", base.parent / cache, settings)


def write_umt5_like_tokenizer(folder: Path) -> None:
    """A small vocabulary with all that UMT5's file has: bytes for rare characters, normalisation, an end."""
    pieces = [
        "<pad>",
        "</s>",
        "<unk>",
        *(f"<0x{i:02X}>" for i in range(256)),
        "▁",
        "▁a",
        "▁room",
        ",",
        "a",
        "r",
    ]
    scores = [(piece, 0.0 if piece[0] == "<" else -1.0 - i / 1000) for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    # Such as the release's, for which transformers builds another tokenizer from the vocabulary.
    config = {"tokenizer_class": "T5TokenizerFast", "eos_token": "</s>", "extra_ids": 0,
              "additional_special_tokens": [], "pad_token": "<pad>", "unk_token": "<unk>"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_rare_characters_are_spelled_in_bytes_and_wide_ones_made_narrow(tmp_path: Path) -> None:
    write_umt5_like_tokenizer(tmp_path)
    tokenizer = read_tokenizer(tmp_path, 8)
    first_byte, plain = 3, 3 + 256
    assert tokenizer.encode("a room").ids == [plain + 1, plain + 2, 1]
    # U+FF0C is a wide comma; U+8272 takes the bytes E8 89 B2.
    assert tokenizer.encode("\uff0c\u8272").ids == [
        plain,
        plain + 3,
        *(first_byte + b for b in b"\xe8\x89\xb2"),
        1,
    ]
    assert tokenizer.encode("a " * 20).ids == [plain + 1] * 7 + [1], "cut, but for the end"
    assert tokenizer.encode(clean_prompt("  a&amp;nbsp;\n room ")).ids == [plain + 1, plain + 2, 1]


def test_a_tokenizer_that_cannot_be_read_is_refused(base: Path) -> None:
    for content in (None, "{", '{"model": {}}'):
        path = base / "tokenizer/tokenizer.json"
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(BackendError, match=r"tokenizer\.json holds no tokenizer"):
            encoder(base).encode(["a room"])
        path.touch()


def test_one_embedding_serves_input_and_encoder_whatever_the_config_says(base: Path) -> None:
    # The released file holds it once, beside a config that unties it: such files have lost it before.
    expected = encoder(base).encode(["a room"])
    config = json.loads((base / "text_encoder/config.json").read_text())
    (base / "text_encoder/config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    weights = base / "text_encoder/model.safetensors"
    assert [k for k in load_file(weights) if "shared" in k or "embed" in k] == ["shared.weight"]
    assert torch.equal(encoder(base, "other").encode(["a room"]), expected)
    assert float(expected[0, 0].abs().max()) > 0


@pytest.mark.parametrize(
    ("part", "lost"),
    [
        ("text_encoder", "encoder.final_layer_norm.weight"),
        ("image_encoder", "vision_model.embeddings.class_embedding"),
    ],
)
def test_an_encoder_that_lacks_a_tensor_is_refused_not_filled_with_noise(
    base: Path, part: str, lost: str
) -> None:
    path = base / part / "model.safetensors"
    state = load_file(path)
    names = [name for name in state if lost.endswith(name) or name.endswith(lost)]
    assert len(names) == 1
    save_file({k: v for k, v in state.items() if k not in names}, path, metadata={"format": "pt"})
    with pytest.raises(BackendError, match=r"lacks 1 tensors"):
        if part == "text_encoder":
            encoder(base).encode(["a room"])
        else:
            encode_image(base / part, torch.zeros(1, 3, 224, 224), CPU, torch.float32)


def test_the_text_encoder_is_gone_when_the_prompts_are_there(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, seen = encoders._from_pretrained, []

    def watched(*given):
        model = load(*given)
        seen.extend(map(weakref.ref, [model, *model.parameters()]))
        return model

    monkeypatch.setattr(encoders, "_from_pretrained", watched)
    gc.collect()
    gc.disable()
    try:
        embedded = encoder(base).encode(["a room", "blurred"])
        # At once, not when the collector comes by: 11 GB stand in the way of what is loaded next.
        assert len(seen) > 10 and all(ref() is None for ref in seen)
    finally:
        gc.enable()
    assert embedded.shape == (2, 8, 10)


def test_two_runs_may_embed_the_same_prompt_at_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def overtaken(tensors, path):
        save_file(tensors, path)
        if not begun:
            begun.append(path)
            encoder(base).encode(["a room"])

    monkeypatch.setattr(encoders, "save_file", overtaken)
    embedded = encoder(base).encode(["a room"])
    assert begun
    assert torch.equal(encoder(base).encode(["a room"]), embedded)
    assert len(list((base.parent / "cache").iterdir())) == 1, "one entry, and no drafts"


def test_weights_that_were_replaced_embed_anew(base: Path) -> None:
    before = encoder(base).encode(["a room"])
    weights = base / "text_encoder/model.safetensors"
    save_file({name: 2 * value for name, value in load_file(weights).items()}, weights)
    assert not torch.equal(encoder(base).encode(["a room"]), before)


def test_a_cache_that_cannot_be_written_is_told(base: Path) -> None:
    (base.parent / "cache").write_text("in the way")
    with pytest.raises(BackendError, match="cannot be kept in") as caught:
        encoder(base).encode(["a room"])
    assert "HOME" in caught.value.remedy
