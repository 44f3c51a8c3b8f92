"""Which rows are read, and in what portions: inputs become sources, sources become splits."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model.errors import UsageError
from glossator.pipeline.errors import NotYetError
from glossator.pipeline.inputs.columns import Columns, FileColumns, Reader
from glossator.pipeline.inputs.decode import SMALL_BYTES, Batches, decode_rows
from glossator.pipeline.inputs.discover import InputFile, discover
from glossator.pipeline.inputs.footer import parse_footer, paths_of, read_footer
from glossator.pipeline.inputs.native.footers import Footer, read_footers
from glossator.pipeline.inputs.partitions import partitions_of
from glossator.pipeline.inputs.ranges import Range, Split
from glossator.pipeline.inputs.resolve import resolve

CUTS_PER_ROW_GROUP = 32
"""A row group is cut no finer: each piece decodes again what precedes it in the row group."""

SMALL_ROWS = 256
"""A file of fewer rows may share a split, and so a part, with others."""
FEW_FILES = 64
"""So many small files, one after the other, still have a part each."""
SHARED_ROWS = 4096
"""Many small files share splits of at least so many rows: enough that the network's batches are
filled, and few enough that there is work for every thread."""
FILES_BETWEEN_ENDS = 512
"""On the average, of the files at whose name a shared split may end."""
MAX_FILES_PER_SPLIT = 8192

_THREADS = 16
_FILES_PER_TASK = 8
_HELD_BYTES = 128 << 10
"""Of footers that are held until they are parsed together."""
_KNOWN_FOOTERS = 64
"""Kinds of plain footers that are remembered."""
_QUICK_SECS = 5e-4
"""For a footer: where it takes longer than this, it is the store that does."""


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


class _File(NamedTuple):
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
        NotYetError: an input names nothing.
        UsageError: an input must not be read, or its columns don't fit.
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
    planned = {file.source.uri: file.source for file in files}

    def rows_of(uri: str, readers: Sequence[Reader]) -> Iterator[Batches]:
        source = planned[uri]
        range_ = Range(uri, 0, source.rows, source.footer_sha256, file_bytes=source.size)
        return decode_rows(range_, found.locations.get(uri, uri), readers)

    columns = resolve(
        [file.columns for file in files if file.columns is not None],
        text,
        keys,
        strict=strict,
        rows_of=rows_of,
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


def _read_footers(found: Sequence[InputFile]) -> list[_File]:
    """The files with what their footers say, many at the same time."""
    described = _Described()
    tasks = [found[i : i + _FILES_PER_TASK] for i in range(0, len(found), _FILES_PER_TASK)]
    files: list[_File] = []
    seconds = 0.0
    for some in tasks[:2]:  # whatever is done for the first time is done in the first
        started = time.monotonic()
        files += _files(some, described)
        seconds = time.monotonic() - started
    if seconds < _QUICK_SECS * _FILES_PER_TASK:  # threads would only take longer
        return files + _files(found[2 * _FILES_PER_TASK :], described)
    with ThreadPoolExecutor(_THREADS) as pool:
        for read in pool.map(lambda some: _files(some, described), tasks[2:]):
            files += read
    return files


class _Described:
    """What files' footers say: what many have in common is found out once."""

    def __init__(self) -> None:
        self._known: deque[tuple[Any, pq.ParquetSchema, FileColumns]] = deque(maxlen=8)
        """Beside what else Arrow looks at in a footer."""
        self._plain: dict[bytes, tuple[FileColumns, int]] = {}
        """By what plain footers share: columns, and how many there are in a row group."""

    def file(
        self, uri: str, footer: bytes, plain: Footer | None
    ) -> tuple[FileColumns, tuple[int, ...]]:
        """A file's columns, and the rows of its row groups.

        Raises:
            pa.ArrowException, OSError: its footer can't be read.
        """
        if plain is not None and plain.shared in self._plain:
            columns, count = self._plain[plain.shared]
            if count == plain.columns:
                return self._alike(columns, uri, sum(plain.group_rows)), plain.group_rows
        metadata = parse_footer(footer)
        columns = self._columns(uri, footer, metadata)
        if plain is not None and len(self._plain) < _KNOWN_FOOTERS:
            self._plain[plain.shared] = columns, metadata.num_columns
        groups = range(metadata.num_row_groups)
        return columns, tuple(metadata.row_group(i).num_rows for i in groups)

    def _columns(self, uri: str, footer: bytes, metadata: pq.FileMetaData) -> FileColumns:
        """As `FileColumns.of`; files of one schema share its objects."""
        schema = metadata.schema
        about = (metadata.metadata or {}).get(b"ARROW:schema"), paths_of(schema)
        for known_about, known, columns in list(self._known):
            if known_about == about and known.equals(schema):
                return self._alike(columns, uri, metadata.num_rows)
        columns = FileColumns.of(uri, footer, metadata)
        self._known.appendleft((about, schema, columns))
        return columns

    @staticmethod
    def _alike(known: FileColumns, uri: str, rows: int) -> FileColumns:
        partitions = partitions_of(uri)
        return FileColumns(uri, rows, known.schema, known.nanoseconds, partitions, known.error)


def _files(some: Sequence[InputFile], described: _Described) -> list[_File]:
    """What the footers of a few files say.

    Small ones are all fetched, then all parsed: what a step needs is still in the processor's
    caches when the next file's turn comes, so that they take half the time.
    """
    files: list[_File] = []
    held: list[tuple[InputFile, _Fetched]] = []
    size = 0
    for file in some:
        held.append((file, _fetched(file)))
        size += len(held[-1][1].footer)
        if size > _HELD_BYTES:
            files += _parsed(held, described)
            held, size = [], 0
    return files + _parsed(held, described)


def _parsed(held: Sequence[tuple[InputFile, _Fetched]], described: _Described) -> list[_File]:
    plain = read_footers([fetched.footer for _, fetched in held])
    return [
        _file(file, fetched, footer, described)
        for (file, fetched), footer in zip(held, plain, strict=True)
    ]


class _Fetched(NamedTuple):
    footer: bytes
    fingerprint: str


def _fetched(file: InputFile) -> _Fetched:
    if file.error is not None:
        return _Fetched(b"", file.fingerprint)
    try:
        footer = read_footer(file.fs, file.path, file.size)
        fingerprint = file.fingerprint or f"modified:{file.fs.modified(file.path).isoformat()}"
    except FileNotFoundError as error:
        raise NotYetError(
            f"{file.uri}: gone since it was listed: run again", parameter="inputs"
        ) from error
    except PermissionError as error:
        raise UsageError(
            f"{file.uri}: access denied ({error}): check the permissions", parameter="inputs"
        ) from error
    return _Fetched(footer, fingerprint)


def _file(file: InputFile, fetched: _Fetched, plain: Footer | None, described: _Described) -> _File:
    footer, fingerprint = fetched
    if file.error is not None:
        return _unreadable(file, fingerprint, file.error)
    try:
        if not footer:
            raise pa.ArrowInvalid("no Parquet footer at its end (truncated, or not Parquet)")
        columns, groups = described.file(file.uri, footer, plain)
    except (pa.ArrowException, OSError) as error:  # from bytes in memory: no store is to blame
        return _unreadable(file, fingerprint, " ".join(str(error).split()))
    digest = hashlib.sha256(footer).hexdigest()
    source = Source(file.uri, file.size, fingerprint, sum(groups), digest)
    return _File(source, columns, groups)


def _unreadable(file: InputFile, fingerprint: str, error: str) -> _File:
    return _File(Source(file.uri, file.size, fingerprint, 0, "", error), None, ())


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
            Range(source.uri, start, stop, source.footer_sha256, source.error, source.size)
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

    Where a split ends follows from names: a file that comes late or goes changes the split that it
    is in and few that come after, not all.
    """
    group: list[_Range] = []
    rows = 0
    for source in run:
        group.append((source, 0, source.rows))
        rows += source.rows
        if (
            len(run) <= FEW_FILES
            or (rows >= SHARED_ROWS and _may_end_at(source.uri))
            or len(group) >= MAX_FILES_PER_SPLIT
            or rows >= rows_per_split
        ):
            yield group
            group, rows = [], 0
    if group:
        yield group


def _may_end_at(uri: str) -> bool:
    number = int.from_bytes(hashlib.sha256(uri.encode()).digest()[:8], "big")
    return number % FILES_BETWEEN_ENDS == 0


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
