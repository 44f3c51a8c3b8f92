"""What planning makes of all files' columns: the text, the keys and their types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model.errors import GlossatorError, UsageError
from glossator.model.tasks import OUTPUT_COLUMNS
from glossator.pipeline.inputs.columns import (
    Columns,
    FileColumns,
    MisfitError,
    Path,
    Reader,
    bind,
    column_at,
    find_text,
    int96_keys,
    key_source,
    listed,
    projection,
    promoted,
    reading_options,
    type_at,
)
from glossator.pipeline.inputs.names import refuse_collisions, refuse_twins
from glossator.pipeline.inputs.partitions import partition_type
from glossator.pipeline.inputs.values import check_int96, int96_leaves, is_text, plain_type

TEXT_NAMES = ("comment", "comment_text", "body", "content", "review", "message")
"""Column names that speak of text, after `text` itself."""

RowsOf = Callable[[str, Sequence[Reader]], Iterator[Sequence[pa.RecordBatch]]]
"""The rows of the file with this URI, from each of the readers, side by side."""

_THREADS = 16


def resolve(
    files: Sequence[FileColumns],
    text: str | None,
    keys: Sequence[str],
    *,
    strict: bool = False,
    rows_of: RowsOf,
) -> Columns:
    """The columns of a run over these files.

    A file that doesn't fit is left out of account, unless it is the only one or `strict`.

    Args:
        files: all whose footers can be read.
        text: the text column; None to take the one that is clearly the text.
        keys: columns, struct fields or Hive partitions to carry into the output.
        strict: whether a file that doesn't fit is an error.
        rows_of: reads a file by its URI, to look at INT96 keys.

    Raises:
        UsageError: no file fits; `strict` and some file doesn't; a key can't be called so.
    """
    refuse_twins(keys, what="column", parameter="keys")
    refuse_collisions(keys, OUTPUT_COLUMNS, what="column", parameter="keys")
    if not files:
        return Columns(text or "text", pa.schema([pa.field(key, pa.null()) for key in keys]))
    text = text or _guess(files, keys)
    fitting = _fitting(files, lambda file: find_text(file.known_schema, text), "text", strict)
    for key in keys:
        _fitting(fitting, partial(_has_key, key), "keys", strict)
    columns = _with_types(Columns(text, pa.schema([])), fitting, keys)
    fitting = _fitting(fitting, lambda file: bind(columns, file), "keys", strict)
    columns = _with_types(_scanned(columns, fitting, rows_of), fitting, keys)
    _refuse_unwritable(columns.keys)
    return columns


def _has_key(key: str, file: FileColumns) -> None:
    key_source(file, key)


def guess_text(schema: pa.Schema, keys: Sequence[str], where: str) -> str:
    """The column of a table that is clearly its text.

    Args:
        schema: of the table.
        keys: columns that are not the text.
        where: what the table is called in an error.

    Raises:
        UsageError: none is, or more than one may be.
    """
    return _clear([field for field in schema if _may_be_text(field)], keys, where)


def _may_be_text(field: pa.Field) -> bool:
    """Whether to think of a column: one of nothing but nulls has no type to tell by."""
    return is_text(field.type) or (pa.types.is_null(field.type) and _rank(field.name) < 2)


def _rank(name: str) -> int:
    return 0 if name.lower() == "text" else 1 if name.lower() in TEXT_NAMES else 2


def _clear(fields: Sequence[pa.Field], keys: Sequence[str], where: str) -> str:
    names = [field.name for field in fields]
    others = [name for name in names if name not in keys]
    for candidates in (
        [name for name in names if _rank(name) == 0],
        [name for name in names if _rank(name) == 1],
        others,
    ):
        if len(candidates) == 1:
            return candidates[0]
    raise UsageError(
        f"{where}: which column is the text? It may be one of"
        f" {listed(others) if others else 'none: no column holds strings'}: name it",
        parameter="text",
    )


def _guess(files: Sequence[FileColumns], keys: Sequence[str]) -> str:
    """The text column by those columns that most rows have."""
    known = [file for file in files if file.schema is not None]
    if not known:
        raise UsageError(f"{files[0].uri}: {files[0].error}", parameter="inputs")
    rows: Counter[str] = Counter()
    fields: dict[str, pa.Field] = {}
    total = sum(file.rows for file in known)
    counts: Counter[int] = Counter()
    for file in known:
        counts[id(file.schema)] += file.rows if total else 1
    for schema in {id(file.schema): file.known_schema for file in known}.values():
        for field in schema:
            if _may_be_text(field):
                fields.setdefault(field.name, field)
                rows[field.name] += counts[id(schema)]
    most = max(rows.values(), default=0)
    half = (total or len(known)) / 2
    usual = [field for name, field in fields.items() if rows[name] > min(half, most - 1)]
    where = known[0].uri
    return _clear(usual, keys, where if len(files) == 1 else f"{where} and {len(files) - 1:,} more")


def _fitting(
    files: Sequence[FileColumns],
    check: Callable[[FileColumns], object],
    parameter: str,
    strict: bool,
) -> list[FileColumns]:
    """The files that pass a check."""
    fit, misfits = [], []
    found: dict[Hashable, str | None] = {}
    for file in files:
        if file.alike not in found:
            found[file.alike] = _misfit(file, check)
        if (why := found[file.alike]) is None:
            fit.append(file)
        else:
            misfits.append(f"{file.uri}: {why}")
    if not fit and len(files) > 1:
        raise UsageError(
            f"none of the {len(files):,} files fits; {misfits[0]}", parameter=parameter
        )
    if misfits and (strict or not fit):
        raise UsageError(misfits[0], parameter=parameter)
    return fit


def _misfit(file: FileColumns, check: Callable[[FileColumns], object]) -> str | None:
    try:
        check(file)
    except MisfitError as error:
        return str(error)
    return None


def _with_types(columns: Columns, files: Sequence[FileColumns], keys: Sequence[str]) -> Columns:
    """The same with the keys' types, to which those of the files promote."""
    fields = []
    groups: dict[Hashable, list[FileColumns]] = {}
    for file in files:
        groups.setdefault(file.alike, []).append(file)
    for key in keys:
        rows: dict[pa.DataType, int] = {}
        partitions = []
        for some in groups.values():
            file = some[0]
            try:
                path = key_source(file, key)
            except MisfitError:
                continue
            if path is None:
                partitions.append(file.partitions[key])
                continue
            nanoseconds = key in columns.nanosecond_keys
            kind = plain_type(type_at(file.nanoseconds if nanoseconds else file.schema, path))
            rows[kind] = rows.get(kind, 0) + sum(one.rows for one in some)
        fields.append(pa.field(key, _key_type(rows, partitions)))
    return replace(columns, keys=pa.schema(fields))


def _key_type(rows: Mapping[pa.DataType, int], partitions: Sequence[str | None]) -> pa.DataType:
    """A key's type in the output.

    Args:
        rows: how many have each type, in the order of files.
        partitions: the values of files whose path holds the key.
    """
    types = sorted(rows, key=lambda kind: -rows[kind])
    types = [kind for kind in types if rows[kind]] or types  # a file without rows widens nothing
    kind = pa.null()
    for other in types:
        kind = promoted(kind, other) or kind
    return partition_type(partitions) if partitions and pa.types.is_null(kind) else kind


def _scanned(
    columns: Columns,
    files: Sequence[FileColumns],
    rows_of: RowsOf,
) -> Columns:
    """The same with what the values of INT96 keys need.

    Microseconds hold what people date, up to `9999-12-31`, and are what other engines read; so
    nanoseconds are for those keys alone that need them.
    """
    nanoseconds: set[str] = set()

    def scan(file: FileColumns) -> bool:
        keys = int96_keys(bind(columns, file))
        if not keys:
            return False
        try:
            return _scan(partial(rows_of, file.uri), keys, nanoseconds)
        except (pa.ArrowException, OSError, GlossatorError):
            return True  # it may be readable later on: then all is verified

    with_int96 = [file for file in files if file.rows and file.nanoseconds is not file.schema]
    with ThreadPoolExecutor(_THREADS) as pool:
        lost = any(list(pool.map(scan, with_int96)))
    found = tuple(key for key in columns.keys.names if key in nanoseconds)
    return replace(columns, nanosecond_keys=found, verify_int96=lost or bool(found))


def _scan(
    rows_by: Callable[[Sequence[Reader]], Iterator[Sequence[pa.RecordBatch]]],
    keys: Mapping[str, Path],
    nanoseconds: set[str],
) -> bool:
    """Adds to `nanoseconds` the keys that need them; whether some value fits no unit."""
    names = projection(keys.values())
    readers = [Reader(names, reading_options(unit)) for unit in ("us", "ns", "s")]
    lost = False
    for rows in rows_by(readers):
        pending = [key for key in keys if key not in nanoseconds]
        if not pending:
            break
        for key in pending:
            units = [column_at(batch, keys[key]) for batch in rows]
            for leaves in int96_leaves(units):
                as_us, as_ns = check_int96(*leaves)
                if (as_ns & ~as_us).any():
                    nanoseconds.add(key)
                lost = lost or not (as_us | as_ns).all()
    return lost


def _refuse_unwritable(keys: pa.Schema) -> None:
    for field in keys:
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field]), version="2.6").close()
        except pa.ArrowException as error:
            why = " ".join(str(error).split())
            raise UsageError(
                f"{field.name!r} is {field.type}, which can't be written to Parquet ({why}):"
                " leave it out",
                parameter="keys",
            ) from error
