"""`bundle.json`: what a bundle says of itself, as typed values that are each checked.

It has the size and digest of every other file, so its own digest stands for the whole bundle.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from glossator.model import ngrams, strict_json
from glossator.model.architecture import NetworkConfig
from glossator.model.calibrate import Calibration
from glossator.model.errors import UsageError, shown
from glossator.model.tasks import Task, check_tasks, parse_task
from glossator.model.weights import Types
from glossator.model.words import MAX_TOKENS

FORMAT = 2
NAME, WEIGHTS, NGRAMS, TOKENIZER, CARD = (
    "bundle.json",
    "model.safetensors",
    "ngrams.safetensors",
    "tokenizer.json",
    "MODEL_CARD.md",
)
MAX_BYTES = 1 << 24
"""Of `bundle.json` itself."""

_KEYS = (
    "format",
    "tasks",
    "network",
    "tokenizer",
    "calibration",
    "files",
    "provenance",
    "metrics",
)
_NETWORK_OF_OLD = {"shared_attention": False, "min_pooling": False}
"""What `network` says in bundles that were written before it said so."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """What is known of another file."""

    size: int
    """In bytes."""
    sha256: str
    """In hexadecimal."""


@dataclass(frozen=True)
class Index:
    """What `bundle.json` holds."""

    tasks: tuple[Task, ...]
    config: NetworkConfig
    max_tokens: int
    """Tokens of a text that are read."""
    calibration: Mapping[str, Calibration]
    """By task name."""
    files: Mapping[str, FileEntry]
    """Of the weights, the tokenizer, the card and the expert if there is one, by name."""
    provenance: Mapping[str, Any]
    metrics: Mapping[str, Any]
    ngrams: int = 0
    """Bits of the n-gram expert's buckets; 0 where there is no expert."""

    @property
    def ngram_types(self) -> Types:
        """The arrays of the expert."""
        return ngrams.array_types(self.ngrams, experts(self.tasks, self.calibration))


def experts(tasks: Sequence[Task], calibration: Mapping[str, Calibration]) -> tuple[Task, ...]:
    """The tasks for which the n-gram expert has a say."""
    return tuple(task for task in tasks if calibration[task.name].expert)


def render(index: Index) -> bytes:
    """The content of `bundle.json`. Numbers of metrics that are not finite become null.

    Raises:
        UsageError: it would be larger than what is read.
    """
    document = {
        "format": FORMAT,
        "tasks": {task.name: task.to_json() for task in index.tasks},
        "network": index.config.to_json(),
        "tokenizer": {"max_tokens": index.max_tokens},
        **({"ngrams": {"bits": index.ngrams}} if index.ngrams else {}),
        "calibration": {name: c.to_json() for name, c in index.calibration.items()},
        "files": {
            name: {"size": entry.size, "sha256": entry.sha256}
            for name, entry in index.files.items()
        },
        "provenance": _finite(index.provenance),
        "metrics": _finite(index.metrics),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    content = text.encode("utf-8", "backslashreplace")
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"{NAME} would have {len(content):,} bytes, more than {MAX_BYTES:,}: keep less in "
            "provenance or metrics"
        )
    return content


def parse(content: bytes) -> Index:
    """What a `bundle.json` holds.

    Raises:
        ValueError: it is not of a bundle, or holds what no bundle can. The message is one line.
    """
    index = strict_json.parse(content)
    if not isinstance(index, dict) or "format" not in index:
        raise ValueError("is not of a Glossator bundle")
    if index["format"] == 1:
        raise ValueError(
            f"has format 1, which an earlier version wrote; this one reads format {FORMAT}: train "
            "the model anew, or label with the version that wrote it"
        )
    if type(index["format"]) is not int or index["format"] != FORMAT:
        raise ValueError(
            f"has format {shown(index['format'])}, this Glossator reads format {FORMAT}: use the "
            "version that wrote it, or train anew"
        )
    _check_keys(index, _KEYS, "", ("ngrams",))
    tasks = tuple(parse_task(*item, "tasks") for item in _object(index, "tasks").items())
    check_tasks(tasks, "tasks")
    bits = _bits(_object(index, "ngrams")) if "ngrams" in index else 0
    parsed = Index(
        tasks=tasks,
        config=_config(_object(index, "network")),
        max_tokens=_max_tokens(_object(index, "tokenizer")),
        calibration=_calibration(_object(index, "calibration"), tasks),
        files=_files(_object(index, "files"), (NGRAMS,) if bits else ()),
        provenance=_object(index, "provenance"),
        metrics=_object(index, "metrics"),
        ngrams=bits,
    )
    _ = parsed.ngram_types  # which refuses what no expert is
    return parsed


def _object(index: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(index[name], dict):
        raise ValueError(f"{name} {shown(index[name])} is no object")
    return dict(index[name])


def _check_keys(
    value: Any, names: tuple[str, ...], where: str, optional: tuple[str, ...] = ()
) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} {shown(value)} is no object")
    prefix = f"{where}: " if where else ""
    if unknown := sorted(value.keys() - {*names, *optional}):
        raise ValueError(f"{prefix}unknown key {shown(unknown[0])}")
    if missing := sorted(set(names) - value.keys()):
        raise ValueError(f"{prefix}{missing[0]} is missing")


def _config(value: dict[str, Any]) -> NetworkConfig:
    value = {**_NETWORK_OF_OLD, **value}
    _check_keys(value, tuple(field.name for field in fields(NetworkConfig)), "network")
    return NetworkConfig(**value)


def _max_tokens(value: dict[str, Any]) -> int:
    _check_keys(value, ("max_tokens",), "tokenizer")
    max_tokens = value["max_tokens"]
    if type(max_tokens) is not int or not 1 <= max_tokens <= MAX_TOKENS:
        raise ValueError(
            f"tokenizer: max_tokens {shown(max_tokens)} is not between 1 and {MAX_TOKENS:,}"
        )
    return max_tokens


def _bits(value: dict[str, Any]) -> int:
    _check_keys(value, ("bits",), "ngrams")
    bits = value["bits"]
    if type(bits) is not int or not ngrams.MIN_BITS <= bits <= ngrams.MAX_BITS:
        raise ValueError(
            f"ngrams: bits {shown(bits)} is not between {ngrams.MIN_BITS} and {ngrams.MAX_BITS}"
        )
    return bits


def _calibration(value: dict[str, Any], tasks: tuple[Task, ...]) -> dict[str, Calibration]:
    _check_keys(value, tuple(task.name for task in tasks), "calibration")
    names = tuple(field.name for field in fields(Calibration) if field.name != "expert")
    result = {}
    for task in tasks:
        where = f"calibration of {task.name}"
        _check_keys(value[task.name], names, where, ("expert",))
        try:
            result[task.name] = Calibration(**value[task.name])
            result[task.name].check_labels(len(task.labels), task.rules.by_label)
        except UsageError as error:
            raise ValueError(f"{where}: {error}") from None
    return result


def _files(value: dict[str, Any], more: tuple[str, ...]) -> dict[str, FileEntry]:
    _check_keys(value, (WEIGHTS, TOKENIZER, CARD, *more), "files")
    for name, entry in value.items():
        _check_keys(entry, ("size", "sha256"), f"files: {name}")
        if type(entry["size"]) is not int or entry["size"] < 0:
            raise ValueError(f"files: {name}: size {shown(entry['size'])} is no number of bytes")
        if not isinstance(entry["sha256"], str) or not _SHA256.fullmatch(entry["sha256"]):
            raise ValueError(f"files: {name}: sha256 {shown(entry['sha256'])} is no SHA-256")
    return {name: FileEntry(**entry) for name, entry in value.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
