"""Globs that are matched name by name, so that only folders that can match are listed."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from glossator.pipeline.inputs.listing import is_hidden

State = frozenset[int]
"""How many parts of a glob may be matched by the names so far; empty if they can't match."""


def split_glob(path: str) -> tuple[str, list[str]] | None:
    """The folder in which a glob looks, and its parts from the first magic one on.

    None if there is none: `*`, `?` and `[` are magic; `?` begins the query of a web address.
    """
    magic = re.compile("[*[]" if "://" in path else "[*?[]")
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if magic.search(part)), None)
    if first is None:
        return None
    return "/".join(parts[:first]) or ("/" if path.startswith("/") else ""), parts[first:]


class Glob:
    """`*`, `?` and `[...]` stand within a name, `**` alone for any number of folders."""

    def __init__(self, parts: Sequence[str]) -> None:
        self.names_hidden = any(map(is_hidden, parts))
        """Whether hidden files or folders are asked for by a part of their name."""
        self._parts = [None if p == "**" else re.compile(fnmatch.translate(p)) for p in parts]
        self.start = self._past_folders({0})

    def step(self, state: State, name: str) -> State:
        """The state after one more name."""
        after: set[int] = set()
        for i in state:
            if i == len(self._parts):
                continue
            part = self._parts[i]
            if part is None:
                after.add(i)
            elif part.match(name):
                after.add(i + 1)
        return self._past_folders(after)

    def ends(self, state: State) -> bool:
        """Whether the names match."""
        return len(self._parts) in state

    def may_end(self, state: State) -> bool:
        """Whether they may match with one more name."""
        return len(self._parts) - 1 in state

    def recurses(self, state: State) -> bool:
        """Whether they may match with any number of names more."""
        return any(i < len(self._parts) and self._parts[i] is None for i in state)

    def _past_folders(self, state: set[int]) -> State:
        for i, part in enumerate(self._parts):
            if i in state and part is None:  # `**` may stand for no folder at all
                state.add(i + 1)
        return frozenset(state)


EVERYTHING = Glob(["**"])
"""What is meant by a folder."""
