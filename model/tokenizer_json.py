"""`tokenizer.json`: what it holds, written in full and read with nothing else in its place.

The file is in the format of Hugging Face `tokenizers`, which can say much more than we mean: merges
that are dropped by chance, tokens from outside of the vocabulary, other normal forms. Only the
vocabulary, the merges and the length differ between our tokenizers, so a file is ours if and only
if it is what we would write for those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import pre_tokenizers

from glossator.model import strict_json
from glossator.model.errors import shown

Merges = Sequence[Sequence[str]]
"""Pairs of tokens that make another one, the first to be applied first."""


def render(vocabulary: Mapping[str, int], merges: Merges, max_tokens: int) -> str:
    """The file of a tokenizer, one line."""
    document = _document(vocabulary, merges, max_tokens)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def check(content: bytes, max_tokens: int) -> None:
    """Checks that a file is of a tokenizer of our kind.

    Args:
        content: of the file.
        max_tokens: tokens of a text that it must keep.

    Raises:
        ValueError: it is not; the message says where.
    """
    found = strict_json.parse(content)
    model = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict):
        raise ValueError("has no model")
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(merges, list):
        raise ValueError("has no vocabulary or no merges")
    _check_vocabulary(vocabulary)
    _check_merges(merges, vocabulary)
    if difference := _difference(found, _document(vocabulary, merges, max_tokens), ""):
        raise ValueError(difference)


def _document(vocabulary: Mapping[str, int], merges: Merges, max_tokens: int) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": {
            "direction": "Right",
            "max_length": max_tokens,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": _byte_level(add_prefix_space=False),
        "post_processor": None,
        "decoder": _byte_level(add_prefix_space=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def _byte_level(*, add_prefix_space: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": True,
    }


def _check_vocabulary(vocabulary: Mapping[str, Any]) -> None:
    letters = frozenset(pre_tokenizers.ByteLevel.alphabet())
    if missing := letters - set(vocabulary):
        raise ValueError(f"has no token for {len(missing)} of the 256 bytes")
    for token in vocabulary:
        if not token or not letters.issuperset(token):
            raise ValueError(f"has the token {shown(token)}, which is not made of bytes")
    ids = vocabulary.values()
    if not all(type(index) is int for index in ids) or sorted(ids) != [*range(len(ids))]:
        raise ValueError(f"has {len(ids)} tokens, whose ids are not 0 to {len(ids) - 1}")


def _check_merges(merges: list[Any], vocabulary: Mapping[str, int]) -> None:
    seen = set()
    for merge in merges:
        if (
            not isinstance(merge, list)
            or len(merge) != 2
            or not all(isinstance(token, str) for token in merge)
        ):
            raise ValueError(f"has the merge {shown(merge)}, which is no pair of tokens")
        left, right = merge
        if not {left, right, left + right} <= vocabulary.keys():
            raise ValueError(f"has the merge {shown(merge)} of tokens that it does not have")
        seen.add((left, right))
    if len(seen) != len(merges):
        raise ValueError("has a merge twice")


def _difference(found: Any, expected: Any, path: str) -> str | None:
    """In words where a value first differs; None where it does not."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in expected.keys() | found.keys():
            if name not in expected or name not in found:
                has = "has no" if name in expected else "has an unknown"
                return f"{has} {f'{path}.{shown(name)[1:-1]}'.lstrip('.')}"
            where = f"{path}.{name}".lstrip(".")
            if difference := _difference(found[name], expected[name], where):
                return difference
        return None
    if type(found) is not type(expected) or found != expected:
        return f"has {path} {shown(found)} instead of {shown(expected)}"
    return None
