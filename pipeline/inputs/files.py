"""The files of a split: opened, bound to the run's columns, and small ones put together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from glossator.model.store import is_local, open_store
from glossator.pipeline.causes import reaching
from glossator.pipeline.inputs.columns import Binding, Columns, FileColumns, MisfitError, bind
from glossator.pipeline.inputs.decode import Opened, SmallFiles, open_range
from glossator.pipeline.inputs.footer import paths_of
from glossator.pipeline.inputs.native.footers import Footer, read_footers
from glossator.pipeline.inputs.ranges import Range

_BOUND_FILES = 128
_BOUND_BYTES = 256 << 10
"""Of small files, which are bound to the columns together."""
_KNOWN_KINDS = 64
"""Kinds of plain footers that are remembered."""
_THREADS = 16
"""Small files that are fetched from a remote store at the same time."""
_MAX_DETAIL = 300
"""Characters of a reason that is repeated in every row of a file."""

Locations = Mapping[str, str]
"""How to open the sources whose URI does not say it, by URI; see `Plan.locations`."""


def files_of(
    ranges: Sequence[Range], columns: Columns, locations: Locations, known: Collection[Range]
) -> Iterator[list[File]]:
    """The files of ranges in order, those in one list that can be decoded at once.

    Args:
        ranges: of a split.
        columns: of the run.
        locations: of sources whose URIs hide secrets.
        known: ranges that can't be read; they are not opened.

    Raises:
        SourceChangedError: a file is no longer the one that was planned.
        StoreError: the store failed; a retry may succeed.
    """
    return _together(_bound(_opened(ranges, locations, known), _Binder(columns)))


def _opened(
    ranges: Sequence[Range], locations: Locations, known: Collection[Range]
) -> Iterator[tuple[Range, Opened | None]]:
    """The files of ranges, in order; None of those that can't be read."""

    def opened(range_: Range) -> Opened | None:
        if known and range_ in known:  # a range's hash is dear, and most are not
            return None
        try:
            return open_range(range_, locations.get(range_.source, range_.source))
        except Exception:
            with reaching("input", range_.source):
                raise

    if not ranges:  # of an empty day
        return
    if len(ranges) == 1 or is_on_this_machine(ranges[0], locations):
        yield from ((range_, opened(range_)) for range_ in ranges)
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[tuple[Range, Future[Opened | None]]] = deque()
        for range_ in ranges:
            ahead.append((range_, pool.submit(opened, range_)))
            if len(ahead) > _THREADS:
                done, future = ahead.popleft()
                yield done, future.result()
        yield from ((range_, future.result()) for range_, future in ahead)


class File(NamedTuple):
    """A range's file, ready to be decoded."""

    range_: Range
    opened: Opened | None
    """None of one that can't be read."""
    bound: Bound | str
    """How to read it, or why its columns don't fit."""
    weight: float
    """Of `SmallFiles.weight`."""


def _bound(files: Iterable[tuple[Range, Opened | None]], binder: _Binder) -> Iterator[list[File]]:
    """The files with how to read them, some at a time.

    A few small ones are opened, and then bound: what a step needs is still in the processor's
    caches when the next file's turn comes, so that they take two thirds of the time.
    """
    held: list[tuple[Range, Opened | None]] = []
    size = 0
    for range_, opened in files:
        held.append((range_, opened))
        size += len(opened.content or b"") if opened else 0
        if len(held) == _BOUND_FILES or size > _BOUND_BYTES:
            yield binder.bind_all(held)
            held, size = [], 0
    yield binder.bind_all(held)


def _together(files: Iterable[list[File]]) -> Iterator[list[File]]:
    """The files in order, those together that can be decoded at once."""
    for some in files:
        run: list[File] = []
        weight = 0.0
        for file in some:
            weight += file.weight
            if run and (weight > 1 or file.bound is not run[0].bound):
                yield run
                run, weight = [], file.weight
            run.append(file)
        if run:
            yield run


def is_on_this_machine(range_: Range, locations: Locations) -> bool:
    """Whether the file of a range is on this machine's own file systems."""
    return is_local(open_store(locations.get(range_.source, range_.source))[0])


class _Known(NamedTuple):
    """What was found of files of a schema."""

    about: tuple[Any, ...]
    schema: pq.ParquetSchema
    bound: Bound | str
    """If their columns don't fit, why."""
    has_dictionaries: bool


class Bound(NamedTuple):
    """How to read files whose columns fit."""

    binding: Binding
    small: SmallFiles


class _Binder:
    """Binds files, of which many have the same schema."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._known: deque[_Known] = deque(maxlen=8)
        self._plain: dict[tuple[Any, ...], _Known] = {}
        """By what plain footers share, and the folder."""

    def bind_all(self, files: Sequence[tuple[Range, Opened | None]]) -> list[File]:
        """How to read files, as they stand here."""
        footers = [opened.footer if opened else b"" for _, opened in files]
        plain = read_footers(footers if len(files) > 1 else [])
        found = zip_longest(files, plain)
        return [self._file(range_, opened, footer) for (range_, opened), footer in found]

    def _file(self, range_: Range, opened: Opened | None, plain: Footer | None) -> File:
        if opened is None:
            return File(range_, None, "", math.inf)
        if plain is None or not sum(plain.group_rows):
            known = self._known_of(opened)
        else:
            folder = range_.source.rpartition("/")[0]
            about = (plain.shared, plain.columns, folder)
            if about not in self._plain:
                if len(self._plain) == _KNOWN_KINDS:
                    self._plain.clear()
                self._plain[about] = self._known_of(opened)
            known = self._plain[about]
        if known.has_dictionaries:
            opened = opened.without_arrow_schema()
        bound, weight = known.bound, math.inf
        if plain is not None and isinstance(bound, Bound):
            weight = bound.small.weight(opened, plain)
        return File(range_, opened, bound, weight)

    def _known_of(self, opened: Opened) -> _Known:
        metadata = opened.metadata
        # a path holds partitions; Arrow's own schema is beside that of Parquet
        folder = opened.range_.source.rpartition("/")[0]
        about = (metadata.metadata, paths_of(metadata.schema), folder, metadata.num_rows > 0)
        for known in self._known:
            if known.about == about and metadata.schema.equals(known.schema):
                return known
        known = _Known(about, metadata.schema, *self._bind(opened))
        self._known.appendleft(known)
        return known

    def _bind(self, opened: Opened) -> tuple[Bound | str, bool]:
        try:
            # of these Arrow would collect a row group's distinct values, however many they are
            kinds = opened.metadata.schema.to_arrow_schema().types
            has_dictionaries = any("dictionary<" in str(kind) for kind in kinds)
        except UnicodeDecodeError:  # of a column's name
            has_dictionaries = False
        if has_dictionaries:
            opened = opened.without_arrow_schema()
        try:
            file = FileColumns.of(opened.range_.source, opened.footer, opened.metadata)
            binding = bind(self._columns, file)
            return Bound(binding, SmallFiles(opened.metadata, binding)), has_dictionaries
        except MisfitError as error:
            return str(error)[:_MAX_DETAIL], has_dictionaries
