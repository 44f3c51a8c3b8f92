"""Large files that this process wrote or read lately: to make sense of one anew takes a while."""

from __future__ import annotations

from typing import Generic, TypeVar

_T = TypeVar("_T")


class Remembered(Generic[_T]):
    """The last values that were written as texts, or read from them; found by the whole text."""

    def __init__(self, most: int) -> None:
        """Begins with none, and keeps so many."""
        self._most = most
        self._values: dict[bytes, _T] = {}

    def keep(self, text: bytes, value: _T) -> _T:
        """Remembers a value, and forgets the oldest of too many."""
        values = {**self._values, text: value}
        self._values = dict(list(values.items())[-self._most :])
        return value

    def of(self, text: bytes) -> _T | None:
        """The value of a text, if it is remembered."""
        return self._values.get(text)

    def forget(self) -> None:
        """Reads the next ones anew."""
        self._values = {}
