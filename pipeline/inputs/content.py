"""A digest of what is read of a split: equal where its texts, keys and rejects are."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from glossator.pipeline.inputs.read import Piece


class Content:
    """Digests what is read of a split, piece by piece."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self._digest = hashlib.blake2b(digest_size=32)

    def add(self, piece: Piece) -> None:
        """Adds a piece: texts, keys, and why rows are rejected."""
        names = [f"key {i}" for i in range(piece.keys.num_columns)]
        columns = [piece.text, piece.reason, piece.detail, *piece.keys.columns]
        table = pa.table(columns, ["text", "reason", "detail", *names])
        with pa.ipc.new_stream(_Digesting(self._digest), table.schema) as stream:
            stream.write_table(table)

    def hexdigest(self) -> str:
        """In hexadecimal digits."""
        return self._digest.hexdigest()


class _Digesting:
    """A file to which bytes are written, that keeps their digest alone."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """There is nothing to close."""
