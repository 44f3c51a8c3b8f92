"""Where an interrupted training stands: one file, replaced whole, believed only if it fits."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from glossator.model.cache import cache_folder
from glossator.model.labelled.dataset import Dataset
from glossator.model.progress import Report
from glossator.model.store import absolute_uri

EVERY_SECS = 60.0
"""Between checkpoints within an epoch."""


class Checkpoint:
    """The file of one training, on this machine; `None` as its path keeps nothing."""

    def __init__(self, path: Path | None, key: str) -> None:
        """Writes nothing yet.

        Args:
            path: of the file.
            key: stands for all that the weights depend on; see `training_key`.
        """
        self._path = path
        self._key = key
        self._last = time.monotonic()

    def beside(self, name: str) -> Checkpoint:
        """That of another network of the same training.

        Args:
            name: of the network.
        """
        path = self._path
        beside = None if path is None else path.with_name(f"{path.stem}-{name}{path.suffix}")
        return Checkpoint(beside, self._key)

    def load(self, report: Report) -> dict[str, Any] | None:
        """What was saved last; None if there is nothing that can be gone on with.

        Args:
            report: is told of a file that can't be used.
        """
        if self._path is None or not self._path.is_file():
            return None
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged: the library raises whatever its parser does
            report(f"{self._path} can't be read ({type(error).__name__}): beginning anew")
            return None
        if not isinstance(state, dict) or state.get("key") != self._key:
            report(f"{self._path} is of other data or settings: beginning anew")
            return None
        return state

    def due(self) -> bool:
        """Whether the last one is old enough for another."""
        return self._path is not None and time.monotonic() - self._last >= EVERY_SECS

    def save(self, state: Mapping[str, Any]) -> None:
        """Replaces the file in one step."""
        self._last = time.monotonic()
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f"{self._path.name}.partial")
        with part.open("wb") as stream:
            torch.save({**state, "key": self._key}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(self._path)


def checkpoint_path(output: str) -> Path:
    """Where a training that writes its bundle to a URI keeps its checkpoint on this machine."""
    name = hashlib.sha256(absolute_uri(output).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return cache_folder() / "training" / f"{name}.pt"


def remove(path: Path) -> None:
    """Removes a training's checkpoint, and those beside it."""
    for file in (path, *path.parent.glob(f"{path.stem}-*{path.suffix}")):
        file.unlink(missing_ok=True)


def training_key(data: Dataset, facts: Mapping[str, Any]) -> str:
    """A digest of the rows to learn from and of whatever else the weights depend on.

    Args:
        data: all rows.
        facts: settings, tasks, versions, digests of bundles; plain values.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for text in data.texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    for name in sorted(data.labels):
        digest.update(name.encode() + data.labels[name].tobytes())
    if data.weight is not None:
        digest.update(data.weight.tobytes())
    digest.update("\n".join(data.split.tolist()).encode())
    return digest.hexdigest()
