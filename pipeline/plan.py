"""Which rows are read, and in what portions: inputs become sources, sources become splits."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model.errors import UsageError
from glossator.model.store import is_local
from glossator.pipeline.columns import Columns, FileColumns
from glossator.pipeline.discover import MAGIC, InputFile, discover
from glossator.pipeline.footer import parse_footer
from glossator.pipeline.partitions import partitions_of
from glossator.pipeline.resolve import resolve

CUTS_PER_ROW_GROUP = 32
"""A row group is cut no finer: each piece decodes again what precedes it in the row group."""

SMALL_ROWS = 256
"""A file of fewer rows may share a split, and so a part, with others."""
SMALL_BYTES = 1 << 20
"""Nor is a file small that is larger: of a small one all is fetched at once."""
FEW_FILES = 64
"""So many small files, one after the other, still have a part each."""
FILES_PER_SPLIT = 512
"""Of many small files, about so many share a split."""
MAX_FILES_PER_SPLIT = 2048

_FOOTER_GUESS_BYTES = 64 << 10
_THREADS = 16
_FILES_PER_TASK = 8


@dataclass(frozen=True)
class Source:
    """One input file, as it was when the run was planned."""

    uri: str
    """With its protocol where remote, a plain absolute path where local; in `source_file`.

    As it may be shown: without secrets; see `Plan.locations`."""
    size: int
    fingerprint: str
    """The store's own word for this content, or the time of change in nanoseconds."""
    rows: int
    footer_sha256: str
    """Empty where the footer can't be read."""
    error: str | None = None
    """Why the footer can't be read; None if it can."""


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


@dataclass(frozen=True)
class Plan:
    """All that a run reads, and what it is called."""

    sources: tuple[Source, ...]
    splits: tuple[Split, ...]
    columns: Columns
    run_id: str
    skipped: Mapping[str, int] = field(default_factory=dict)
    """What of the inputs was passed over, by reason."""
    empty: tuple[str, ...] = ()
    """The inputs whose `_SUCCESS` says that there is nothing to read."""
    locations: Mapping[str, str] = field(default_factory=dict)
    """How to open the sources whose URI does not say it, by URI: never written anywhere."""


@dataclass(frozen=True)
class _File:
    source: Source
    columns: FileColumns | None
    row_groups: tuple[int, ...]


_Range = tuple[Source, int, int]
"""Rows of a source, from the first to before the second."""


def make_plan(
    inputs: Sequence[str],
    *,
    text: str | None,
    keys: Sequence[str],
    identity: str,
    strict: bool = False,
    output: str | None = None,
    table_files: bool = False,
    rows_per_split: int = 50_000,
) -> Plan:
    """Find the input files, read their footers and divide their rows.

    Args:
        inputs: fsspec URIs of files, globs or folders; see `discover`.
        text: the column to label; None to take the one that is clearly the text.
        keys: columns that are carried into the output.
        identity: digest of the model and of all options that change the output's bytes.
        strict: whether a file that can't be read, or whose columns don't fit, is an error.
        output: the folder that the run will write; nothing in it is read.
        table_files: read the files of a Delta, Iceberg or Hudi table as plain ones.
        rows_per_split: a split is about so long.

    Raises:
        UsageError: an input matches nothing, or its columns don't fit.
    """
    found = discover(inputs, output=output, table_files=table_files)
    files = _read_footers(found.files)
    unreadable = [file.source for file in files if file.columns is None]
    if files and len(unreadable) == len(files):
        raise UsageError(
            f"none of the {len(files)} input files can be read as Parquet"
            f" (the first, {unreadable[0].uri}: {unreadable[0].error})",
            parameter="inputs",
        )
    if unreadable and strict:
        raise UsageError(
            f"{unreadable[0].uri} can't be read: {unreadable[0].error}", parameter="inputs"
        )
    listed = {file.uri: file for file in found.files}
    columns = resolve(
        [file.columns for file in files if file.columns is not None],
        text,
        keys,
        strict=strict,
        open_file=lambda uri: listed[uri].fs.open(listed[uri].path, "rb"),
    )
    splits = _splits(files, [identity, columns.text, str(columns.keys)], rows_per_split)
    sources = tuple(file.source for file in files)
    run_id = _digest(
        [
            [[s.uri, s.size, s.fingerprint, s.footer_sha256] for s in sources],
            [split.name for split in splits],
            identity,
        ]
    )[:16]
    return Plan(sources, splits, columns, run_id, found.skipped, found.empty, found.locations)


def read_footer(fs: Any, path: str, size: int) -> bytes:
    """The last bytes of a Parquet file, from its metadata on; empty if there is no footer."""
    tail = _read_range(fs, path, max(0, size - _FOOTER_GUESS_BYTES), size)
    if len(tail) != min(size, _FOOTER_GUESS_BYTES):
        raise OSError(f"{path}: its last {len(tail)} bytes came, its size is {size}: read again")
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] not in MAGIC or length > size:
        return b""
    if length > len(tail):
        tail = _read_range(fs, path, size - length, size)
    return tail[-length:]


def _read_range(fs: Any, path: str, start: int, stop: int) -> bytes:
    if not is_local(fs):
        data: bytes = fs.cat_file(path, start=start, end=stop)
        return data
    with open(path, "rb") as file:  # noqa: PTH123 - for tens of thousands of files, faster
        file.seek(start)
        return file.read(stop - start)


def _read_footers(found: Sequence[InputFile]) -> list[_File]:
    """The files with what their footers say, many at the same time."""
    described = _Described()
    some = [found[i : i + _FILES_PER_TASK] for i in range(0, len(found), _FILES_PER_TASK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        tasks = pool.map(lambda files: [_file(file, described) for file in files], some)
        return [file for files in tasks for file in files]


class _Described:
    """What files' footers say of their columns: of files of one schema it is found out once."""

    def __init__(self) -> None:
        self._known: deque[tuple[Any, pq.ParquetSchema, FileColumns]] = deque(maxlen=8)

    def columns(self, uri: str, footer: bytes, metadata: pq.FileMetaData) -> FileColumns:
        """As `FileColumns.of`; files of one schema share its objects."""
        schema, arrow = metadata.schema, (metadata.metadata or {}).get(b"ARROW:schema")
        for known_arrow, known, columns in list(self._known):
            if known_arrow == arrow and known.equals(schema):
                return replace(
                    columns, uri=uri, rows=metadata.num_rows, partitions=partitions_of(uri)
                )
        columns = FileColumns.of(uri, footer, metadata)
        self._known.appendleft((arrow, schema, columns))
        return columns


def _file(file: InputFile, described: _Described) -> _File:
    source = Source(file.uri, file.size, file.fingerprint, 0, "", error=file.error)
    if file.error is not None:
        return _File(source, None, ())
    try:
        footer = read_footer(file.fs, file.path, file.size)
        fingerprint = file.fingerprint or f"modified:{file.fs.modified(file.path).isoformat()}"
    except FileNotFoundError as error:
        raise UsageError(
            f"{file.uri}: gone since it was listed: run again", parameter="inputs"
        ) from error
    except PermissionError as error:
        raise UsageError(
            f"{file.uri}: access denied ({error}): check the permissions", parameter="inputs"
        ) from error
    source = replace(source, fingerprint=fingerprint)
    try:
        if not footer:
            raise pa.ArrowInvalid("no Parquet footer at its end (truncated, or not Parquet)")
        metadata = parse_footer(footer)
        columns = described.columns(file.uri, footer, metadata)
    except (pa.ArrowException, OSError) as error:  # from bytes in memory: no store is to blame
        return _File(replace(source, error=" ".join(str(error).split())), None, ())
    groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    digest = hashlib.sha256(footer).hexdigest()
    return _File(replace(source, rows=sum(groups), footer_sha256=digest), columns, groups)


def _splits(
    files: Sequence[_File], identity: Sequence[str], rows_per_split: int
) -> tuple[Split, ...]:
    splits = []
    # an empty day has one split without rows: its output has a part that can be read
    for index, group in enumerate(_grouped(files, rows_per_split) if files else [[]]):
        # no time of change in here: the same content in two runs gives the same names
        named = [
            [source.uri, source.size, source.footer_sha256, start, stop]
            for source, start, stop in group
        ]
        digest = _digest([*(named[0] if len(named) == 1 else named), *identity])
        ranges = tuple(
            Range(source.uri, start, stop, source.footer_sha256, source.error)
            for source, start, stop in group
        )
        splits.append(Split(index, f"part-{index:05d}-{digest[:12]}", ranges))
    return tuple(splits)


def _grouped(files: Sequence[_File], rows_per_split: int) -> Iterator[list[_Range]]:
    """What each split reads: runs of small files together, others cut where they are large."""
    run: list[Source] = []
    for file in [*files, None]:
        if file is not None and _is_small(file.source, rows_per_split):
            run.append(file.source)
            continue
        yield from _packed(run, rows_per_split)
        run = []
        if file is not None:
            for start, stop in row_ranges(file.row_groups, rows_per_split):
                yield [(file.source, start, stop)]


def _is_small(source: Source, rows_per_split: int) -> bool:
    return source.rows < min(SMALL_ROWS, rows_per_split) and source.size <= SMALL_BYTES


def _packed(run: Sequence[Source], rows_per_split: int) -> Iterator[list[_Range]]:
    """Consecutive small files as the ranges of splits.

    Where a split ends follows from the names near by: a file that comes late or goes changes the
    split that it is in, and not all that come after.
    """
    group: list[_Range] = []
    rows = 0
    for source in run:
        group.append((source, 0, source.rows))
        rows += source.rows
        ends = int.from_bytes(hashlib.sha256(source.uri.encode()).digest()[:8], "big")
        if (
            len(run) <= FEW_FILES
            or ends % FILES_PER_SPLIT == 0
            or len(group) >= MAX_FILES_PER_SPLIT
            or rows >= rows_per_split
        ):
            yield group
            group, rows = [], 0
    if group:
        yield group


def row_ranges(row_groups: Sequence[int], rows_per_split: int) -> list[tuple[int, int]]:
    """Half-open row ranges that tile a file, each of about `rows_per_split` rows.

    Adjacent small row groups share a range; a large one is cut into equal pieces. A file
    without rows has one range without rows: its output has a part that can be read.
    """
    ranges = []
    start = stop = 0
    for rows in row_groups:
        if stop > start and stop + rows - start > rows_per_split:
            ranges.append((start, stop))
            start = stop
        pieces = min(CUTS_PER_ROW_GROUP, (2 * rows + rows_per_split) // (2 * rows_per_split))
        if pieces > 1:
            cuts = [stop + rows * i // pieces for i in range(pieces + 1)]
            ranges += pairwise(cuts)
            start = stop + rows
        stop += rows
    if stop > start or not ranges:
        ranges.append((start, stop))
    return ranges


def _digest(values: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
