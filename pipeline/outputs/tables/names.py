"""What a table is called on the command line: `iceberg:CATALOG.NAMESPACE.TABLE`, `delta:URI`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from glossator.model.errors import UsageError
from glossator.model.store import absolute_uri
from glossator.pipeline.inputs.discover import shown


@dataclass(frozen=True)
class TableName:
    """A table by its kind, and by what its library knows it as."""

    kind: Literal["iceberg", "delta"]
    place: str
    """Of Iceberg `CATALOG.NAMESPACE.TABLE`, of Delta the URI of its folder."""

    def __str__(self) -> str:
        return f"{self.kind}:{shown(self.place)}"


def parse(text: str) -> TableName:
    """The table of a name.

    Raises:
        UsageError: it is not the name of one.
    """
    kind, _, place = text.partition(":")
    if "{" in place:
        raise UsageError(
            f"{shown(text)}: a table holds every date, each in a partition: name it without braces",
            parameter="table",
        )
    if kind == "delta" and place:
        return TableName("delta", absolute_uri(place).rstrip("/"))
    if kind == "iceberg" and place.count(".") >= 2 and all(place.split(".")):
        return TableName("iceberg", place)
    raise UsageError(
        f"{shown(text)} names no table: write iceberg:CATALOG.NAMESPACE.TABLE or delta:URI",
        parameter="table",
    )
