"""Many texts as one buffer of UTF-8, the way Arrow holds them: no Python object a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Texts:
    """The UTF-8 of n texts; views of a buffer, if that was given."""

    content: NDArray[np.uint8]
    """The bytes of all texts, and maybe others."""
    offsets: NDArray[np.int64]
    """[n + 1]: text i has the bytes `offsets[i]:offsets[i + 1]`."""

    @classmethod
    def of(cls, texts: Sequence[str] | Texts) -> Texts:
        """Python's strings as texts; texts as they are.

        Raises:
            UnicodeEncodeError: one has a lone surrogate.
        """
        if isinstance(texts, Texts):
            return texts
        encoded = [text.encode() for text in texts]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(text) for text in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        return str(self.content[self.offsets[row] : self.offsets[row + 1]].tobytes(), "utf-8")

    @property
    def sizes(self) -> NDArray[np.int64]:
        """[n] bytes of each text, which are no fewer than its characters."""
        return np.diff(self.offsets)

    def part(self, first: int, last: int) -> Texts:
        """The texts `first:last`."""
        return Texts(self.content, self.offsets[first : last + 1])

    def strings(self) -> list[str]:
        """Each as a string of Python's."""
        return [self[row] for row in range(len(self))]


def strings(texts: Sequence[str] | Texts) -> Sequence[str]:
    """Texts as Python's strings."""
    return texts.strings() if isinstance(texts, Texts) else texts
