"""Files of object stores to read: what is read is one request, and nothing else is asked."""

from __future__ import annotations

import io
from typing import Any

from glossator.model.store import fetch_range


class RemoteFile(io.RawIOBase):
    """A file whose size is known; fsspec's own would ask for that, and for more than is read."""

    def __init__(self, fs: Any, path: str, size: int) -> None:
        """Asks for nothing.

        Args:
            fs: a file system of fsspec that `has_ranges`.
            path: of the file there.
            size: in bytes.
        """
        self._fs, self._path, self._size = fs, path, size
        self._at = 0

    def read(self, count: int | None = -1) -> bytes:
        """The next bytes; fewer at the end of the file, or where the store gives fewer."""
        rest = max(0, self._size - self._at)
        wanted = rest if count is None or count < 0 else min(count, rest)
        data = fetch_range(self._fs, self._path, self._at, self._at + wanted)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a place; it is given back."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The place from which is read next."""
        return self._at

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True
