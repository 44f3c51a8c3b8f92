"""What is read together: rows of a file, and the splits that they make up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Consecutive rows of one input file."""

    source: str
    """The `Source`'s URI."""
    start: int
    stop: int
    """Exclusive."""
    footer_sha256: str
    error: str | None = None
    """Why the file can't be read: this range has no rows and yields one reject."""
    file_bytes: int | None = None
    """The file's size when it was planned, so that no store is asked again; None if not known."""

    def __hash__(self) -> int:
        """Of what tells ranges of one plan apart: there are tens of thousands of them."""
        return hash((self.source, self.start))

    @property
    def rows(self) -> int:
        """How many rows are planned."""
        return self.stop - self.start


@dataclass(frozen=True)
class Split:
    """The unit of work, of retry and of resume: a range of rows of a file, or many small files."""

    index: int
    name: str
    """The output's file names without suffix; derived from the input and the model alone."""
    ranges: tuple[Range, ...]
    """In the order in which their rows are written."""

    @property
    def rows(self) -> int:
        """How many rows are planned."""
        return sum(range_.rows for range_ in self.ranges)
