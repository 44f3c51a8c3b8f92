"""The columns of a table of labels: those of the parts in types that tables have, and the date.

A part's Arrow schema says more than its Parquet file holds (dictionaries, wide strings) and more
than tables know; what is compared here are the types that both kinds of table have.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from glossator.model.errors import UsageError

DATE = "date"
"""The column by which a table is partitioned. It is not in the parts: the table knows its value."""
OURS = ("source_file", "source_row")
"""A table that has not these is none of labels."""


def of_table(parts: pa.Schema, date: str | None, *, empty: bool = False) -> pa.Schema:
    """The columns that a table needs to have for parts of this schema.

    Args:
        parts: the schema of the parts.
        date: of the run; without one the table has no column for it.
        empty: whether it is an empty day: then keys, of which no type is known, are left out.

    Raises:
        UsageError: tables have no such type, or a column is called as the partition is.
    """
    fields = []
    for field in parts:
        if empty and pa.types.is_null(field.type):
            continue
        if date is not None and field.name.lower() == DATE:
            raise UsageError(
                f"column {field.name!r} is called as the column of the table that holds the date of"
                " the run: leave it out",
                parameter="keys",
            )
        fields.append(pa.field(field.name, _required(field)))
    return pa.schema([*fields, *([pa.field(DATE, pa.date32())] if date is not None else [])])


def merged(table: pa.Schema, needed: pa.Schema, where: object) -> pa.Schema:
    """The columns of a table with those that it lacks, behind its own; the same schema if none.

    Raises:
        UsageError: a column has another type there, or the table is none of labels.
    """
    if missing := [name for name in OURS if name not in table.names]:
        raise UsageError(
            f"{where} has no column {missing[0]!r}: it is not a table of labels: name another",
            parameter="table",
        )
    return pa.schema(_merged(table, needed, where, ""))


def plain(kind: pa.DataType) -> pa.DataType | None:
    """A type as tables have it; None if they have none that holds its values as they are."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_struct(kind):
        inner = [(f.name, plain(f.type)) for f in kind]
        return None if any(t is None for _, t in inner) else pa.struct(inner)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        value = plain(kind.value_type)
        return None if value is None else pa.list_(pa.field("element", value))
    if pa.types.is_timestamp(kind):
        return None if kind.unit == "ns" else pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_decimal128(kind):
        return kind
    for known, found in _PLAIN:
        if any(test(kind) for test in known):
            return found
    return None


_TYPES = pa.types
_PLAIN = (
    ((_TYPES.is_string, _TYPES.is_large_string, _TYPES.is_string_view), pa.string()),
    ((_TYPES.is_binary, _TYPES.is_large_binary, _TYPES.is_binary_view), pa.binary()),
    ((_TYPES.is_boolean,), pa.bool_()),
    ((_TYPES.is_int8, _TYPES.is_int16, _TYPES.is_int32), pa.int32()),
    ((_TYPES.is_int64,), pa.int64()),
    ((_TYPES.is_float32,), pa.float32()),
    ((_TYPES.is_float64,), pa.float64()),
    ((_TYPES.is_date,), pa.date32()),
)
"""Types by tests, and what they are in both kinds of table."""


def _required(field: pa.Field) -> pa.DataType:
    found = plain(field.type)
    if found is None:
        raise UsageError(
            f"column {field.name!r} is {field.type}, which tables do not have: cast it in the"
            " input, or leave it out",
            parameter="keys",
        )
    return found


def _merged(
    table: Iterable[pa.Field], needed: Iterable[pa.Field], where: object, above: str
) -> list[pa.Field]:
    """Fields of a schema, or of a struct, with those that it lacks."""
    wanted = {field.name: field for field in needed}
    both = []
    for field in table:
        new = wanted.pop(field.name, None)
        name = above + field.name
        both.append(field.with_type(_both(field.type, new.type, where, name)) if new else field)
    return [*both, *wanted.values()]


def _both(old: pa.DataType, new: pa.DataType, where: object, name: str) -> pa.DataType:
    if plain(old) == new:
        return old
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        return pa.struct(_merged(old, new, where, f"{name}."))
    raise UsageError(
        f"{where}: column {name!r} is {old} there, and {new} in this run: name another table",
        parameter="table",
    )
