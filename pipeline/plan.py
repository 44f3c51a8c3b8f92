"""Which rows are read, and in what portions: inputs become sources, sources become splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem

from glossator.model.errors import UsageError
from glossator.model.store import is_local, open_store
from glossator.pipeline.columns import Columns, FileColumns
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


@dataclass(frozen=True)
class Source:
    """One input file, as it was when the run was planned."""

    uri: str
    """With its protocol where remote, a plain absolute path where local; in `source_file`."""
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
    rows_per_split: int = 50_000,
) -> Plan:
    """Find the input files, read their footers and divide their rows.

    Args:
        inputs: fsspec URIs of files, globs or folders (every `*.parquet` below it).
        text: the column to label; None to take the one that is clearly the text.
        keys: columns that are carried into the output.
        identity: digest of the model and of all options that change the output's bytes.
        strict: whether a file that can't be read, or whose columns don't fit, is an error.
        rows_per_split: a split is about so long.

    Raises:
        UsageError: an input matches nothing, or its columns don't fit.
    """
    found = {uri: (fs, path, info) for item in inputs for uri, fs, path, info in _find(item)}
    if not found:
        raise UsageError("no input was given: name a Parquet file, a folder or a glob")
    with ThreadPoolExecutor(_THREADS) as pool:
        files = list(pool.map(lambda uri: _file(uri, *found[uri]), sorted(found)))
    unreadable = [file.source for file in files if file.columns is None]
    if len(unreadable) == len(files):
        raise UsageError(
            f"none of the {len(files)} input files can be read as Parquet"
            f" (the first, {unreadable[0].uri}: {unreadable[0].error})",
            parameter="inputs",
        )
    if unreadable and strict:
        raise UsageError(
            f"{unreadable[0].uri} can't be read: {unreadable[0].error}", parameter="inputs"
        )
    columns = resolve(
        [file.columns for file in files if file.columns is not None],
        text,
        keys,
        strict=strict,
        open_file=lambda uri: found[uri][0].open(found[uri][1], "rb"),
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
    return Plan(sources, splits, columns, run_id)


def read_footer(fs: Any, path: str, size: int) -> bytes:
    """The last bytes of a Parquet file, from its metadata on; empty if there is no footer."""
    tail = fs.cat_file(path, start=max(0, size - _FOOTER_GUESS_BYTES), end=size)
    if len(tail) != min(size, _FOOTER_GUESS_BYTES):
        raise OSError(f"{path}: its last {len(tail)} bytes came, its size is {size}: read again")
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] not in (b"PAR1", b"PARE") or length > size:
        return b""
    if length > len(tail):
        tail = fs.cat_file(path, start=size - length, end=size)
    return tail[-length:]


def _find(uri: str) -> Iterator[tuple[str, Any, str, dict[str, Any]]]:
    """Yield (uri, file system, path, info) of each file that an input names."""
    fs, path = open_store(uri)
    fs = _StrictLocal() if is_local(fs) else fs
    fs.invalidate_cache()  # a listing from an earlier run in this process may be out of date
    try:
        infos = _list(fs, path)
    except (FileNotFoundError, NotADirectoryError):
        infos = []
    except PermissionError as error:
        raise UsageError(f"{uri}: access denied ({error}): check the permissions") from error
    if not infos:
        raise UsageError(f"{uri}: no Parquet file is there: check the spelling of --input")
    for info in infos:
        name = info["name"]
        yield (name if is_local(fs) else fs.unstrip_protocol(name)), fs, name, info


class _StrictLocal(LocalFileSystem):
    """Raises where fsspec passes over folders that it may not list, and so loses their rows."""

    def walk(self, *args: Any, **kwargs: Any) -> Any:
        return super().walk(*args, **{**kwargs, "on_error": "raise"})


def _list(fs: Any, path: str) -> list[dict[str, Any]]:
    try:  # the path itself comes first: a file's name may hold the characters of a glob
        info = fs.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return _matching(fs, path) if has_magic(path) else []
    return [info] if info["type"] == "file" else _below(fs, path)


def _matching(fs: Any, path: str) -> list[dict[str, Any]]:
    parts = PurePosixPath(path).parts
    root = next(i for i, part in enumerate(parts) if has_magic(part))
    infos: list[dict[str, Any]] = []
    for name, listed in fs.glob(path, detail=True).items():
        if _hidden(parts[root:]) or not _hidden(PurePosixPath(name).parts[root:]):
            info = _target(fs, listed)
            infos += [info] if info["type"] == "file" else _below(fs, name)
    return infos


def _below(fs: Any, folder: str) -> list[dict[str, Any]]:
    """The files `*.parquet` in a folder and its folders, but for links to folders."""
    depth = len(PurePosixPath(folder).parts)
    infos = [
        _target(fs, info)
        for name, info in fs.find(folder, detail=True).items()
        if name.endswith(".parquet") and not _hidden(PurePosixPath(name).parts[depth:])
    ]
    return [info for info in infos if info["type"] == "file"]


def _target(fs: Any, info: dict[str, Any]) -> dict[str, Any]:
    """What a link in a listing leads to, under the link's name."""
    target: dict[str, Any] = fs.info(info["name"]) if info["type"] == "other" else info
    return target


def _hidden(parts: Sequence[str]) -> bool:
    """Whether Spark, DuckDB and Arrow would pass over a path: `_SUCCESS`, `_rejects/`, `.tmp`."""
    return any(part.startswith(("_", ".")) for part in parts)


def _file(uri: str, fs: Any, path: str, info: dict[str, Any]) -> _File:
    try:
        footer = read_footer(fs, path, info["size"])
        fingerprint = _fingerprint(fs, path, info)
    except FileNotFoundError as error:
        raise UsageError(f"{uri}: gone since it was listed: run again") from error
    except PermissionError as error:
        raise UsageError(f"{uri}: access denied ({error}): check the permissions") from error
    source = Source(uri, info["size"], fingerprint, 0, "")
    try:
        if not footer:
            raise pa.ArrowInvalid("no Parquet footer at its end (truncated, or not Parquet)")
        metadata = pq.read_metadata(pa.BufferReader(footer))
        columns = FileColumns.of(uri, footer, metadata)
    except (pa.ArrowException, OSError) as error:  # from bytes in memory: no store is to blame
        why = " ".join(str(error).split())
        return _File(Source(uri, source.size, fingerprint, 0, "", error=why), None, ())
    groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    digest = hashlib.sha256(footer).hexdigest()
    return _File(Source(uri, source.size, fingerprint, sum(groups), digest), columns, groups)


def _fingerprint(fs: Any, path: str, info: dict[str, Any]) -> str:
    if is_local(fs):  # fsspec gives the time as a float, too coarse for two writes in a row
        return f"mtime_ns:{Path(path).stat().st_mtime_ns}"
    for name in ("ETag", "etag", "md5Hash", "md5", "crc32c", "generation"):
        if info.get(name):
            return f"{name.lower()}:{info[name]}"
    return f"modified:{fs.modified(path).isoformat()}"


def _splits(
    files: Sequence[_File], identity: Sequence[str], rows_per_split: int
) -> tuple[Split, ...]:
    splits = []
    for index, group in enumerate(_grouped(files, rows_per_split)):
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
