"""Train, validation and test: which rows are which, and which test rows are worth nothing."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HELD_OUT = 0.1
"""Share of the texts held out for validation where no column says which."""
SPLITS = ("train", "validation", "test")
KNOWN = (*SPLITS, "")
"""What a column of splits may hold; nothing is decided by a hash."""
MAX_WEIGHT = 1e6
"""Of a row."""


@dataclass(frozen=True)
class Leaks:
    """Texts that make a test worth less. Counts are of distinct texts, but for `kept_out`."""

    in_two_splits: int = 0
    """Texts that stand in more than one split."""
    contradicting: int = 0
    """Texts that carry two labels of one task."""
    affected: int = 0
    """Test rows with such a text: another split has it, or its labels contradict each other."""
    kept_out: int = 0
    """How many of these rows were left out."""

    def to_json(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)

    def described(self) -> list[str]:
        """What to tell whoever gave the data, a line each."""
        lines = []
        if self.in_two_splits:
            lines.append(f"{self.in_two_splits:,} texts stand in more than one split")
        if self.contradicting:
            lines.append(f"{self.contradicting:,} texts carry labels that contradict each other")
        if self.affected:
            done = "are left out" if self.kept_out else "are measured on all the same"
            lines.append(f"{self.affected:,} test rows with such texts {done}")
        return lines


def complete(given: NDArray[Any], texts: Sequence[str]) -> tuple[NDArray[Any], str]:
    """Fills what the split column leaves open, and says in a line what was done.

    Args:
        given: [n] train, validation, test or "".
        texts: [n]

    Returns:
        [n] train, validation or test; a line, empty where nothing was to be done.
    """
    split = given.astype(object)
    unsaid = np.flatnonzero(split == "")
    split[unsaid] = [_by_hash(texts[row]) for row in unsaid.tolist()]
    if unsaid.size:
        return split, f"a tenth of {unsaid.size:,} rows is held out for validation"
    train = np.flatnonzero(split == "train")
    if (split == "validation").any() or not train.size:
        return split, ""
    split[train] = [_by_hash(texts[row]) for row in train.tolist()]
    return split, "no row of split validation: a tenth of train is held out for it"


def _by_hash(text: str) -> str:
    digest = hashlib.blake2b(_plain(text), digest_size=8).digest()
    return "validation" if int.from_bytes(digest, "big") < HELD_OUT * 2**64 else "train"


def part_of(texts: Sequence[str], parts: int) -> NDArray[np.int64]:
    """[n] which part a text belongs to, from 0; texts that a reader would call the same in one.

    Args:
        texts: [n]
        parts: how many there are.
    """
    digests = (hashlib.blake2b(_plain(text), digest_size=8).digest() for text in texts)
    # not what `_by_hash` goes by, of which training knows only the upper end
    return np.array([int.from_bytes(one, "little") % parts for one in digests], np.int64)


def find_leaks(
    texts: Sequence[str],
    split: NDArray[Any],
    labels: Mapping[str, tuple[NDArray[Any], NDArray[np.bool_]]],
) -> tuple[Leaks, NDArray[np.bool_]]:
    """Texts that stand in two splits or contradict each other, and the test rows they spoil.

    Texts are the same where they are so but for case, width and white space. Two numbers for one
    text are no contradiction, but the noise of a regression.

    Args:
        texts: [n]
        split: [n] train, validation or test.
        labels: of each task with labels those of n rows, and [n] whether a row has one.

    Returns:
        The counts; [n] whether a row is of test and such a text's.
    """
    numbers: dict[bytes, int] = {}
    same = [hashlib.blake2b(_plain(text), digest_size=16).digest() for text in texts]
    group = np.array([numbers.setdefault(one, len(numbers)) for one in same], np.int64)
    count = len(numbers)
    inside = np.stack([_any(group[split == name], count) for name in SPLITS])
    several = inside.sum(axis=0) > 1
    contradicting = np.zeros(count, bool)
    for values, observed in labels.values():
        contradicting |= _differs(group[observed], values[observed], count)
    spoilt = (split == "test") & (several | contradicting)[group]
    leaks = Leaks(int(several.sum()), int(contradicting.sum()), int(spoilt.sum()))
    return leaks, np.asarray(spoilt)


def _plain(text: str) -> bytes:
    """What texts have in common that a reader would call the same."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).encode()


def _any(groups: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    return np.bincount(groups, minlength=count) > 0


def _differs(groups: NDArray[np.int64], values: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """[count] whether the rows of a group, [n] or [n, labels], have different values."""
    first = np.zeros((count, *values.shape[1:]), values.dtype)
    first[groups] = values  # any of them serves
    unlike = values != first[groups]
    return _any(groups[unlike if values.ndim == 1 else unlike.any(axis=1)], count)
