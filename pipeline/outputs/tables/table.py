"""What a table of either kind can do for a run, in words that both kinds share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from glossator.pipeline.errors import JobError
from glossator.pipeline.outputs.tables.names import TableName

RUN, RUN_DATE = "glossator.run", "glossator.date"
"""What a commit says of itself: the id of the run, and its date, which is empty without one."""


class ConflictError(JobError):
    """The table has changed since it was looked at: nothing was committed."""


@dataclass(frozen=True)
class Part:
    """A file that a table is to name."""

    uri: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Rows:
    """What a run puts into a table."""

    run_id: str
    date: str | None
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Held:
    """What a table holds of a date."""

    run_id: str | None
    """The run that was committed last, as far as the table's history goes back."""
    files: frozenset[str]
    """The URIs of the files of its partition."""


class Table(Protocol):
    """A table as it was when it was opened; it may not be there yet."""

    name: TableName

    @property
    def schema(self) -> pa.Schema | None:
        """Its columns; None if it is not there."""

    @property
    def partitions(self) -> list[str]:
        """The columns that it is partitioned by, each by its values as they are."""

    def place_of(self, uri: str) -> str:
        """A file's URI as this kind of table has it."""

    def require_place(self, out: str, date: str | None) -> None:
        """Refuse an output whose files it can't name, or not so that every reader understands it.

        Raises:
            UsageError: it says where they have to lie.
        """

    def held(self, date: str | None) -> Held | None:
        """What it holds of a date; None if it is not there."""

    def replace(self, rows: Rows, schema: pa.Schema) -> None:
        """Names a run's parts in place of what it holds of the date, in one commit.

        Args:
            rows: of the run.
            schema: the columns of the table from then on.

        Raises:
            ConflictError: it is not any more as it was when it was opened.
        """

    def named(self) -> set[str]:
        """The URIs of the files that any version names that it keeps."""
