"""A split's rows in pieces of bounded size, and which of them can't be labelled."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from glossator.pipeline.causes import reaching
from glossator.pipeline.errors import CorruptRange
from glossator.pipeline.inputs.check import check, cut
from glossator.pipeline.inputs.columns import Binding, Columns
from glossator.pipeline.inputs.decode import Batches, Opened, decode
from glossator.pipeline.inputs.files import Bound, File, files_of, is_on_this_machine
from glossator.pipeline.inputs.ranges import Range, Split
from glossator.pipeline.inputs.values import row_bytes, without

MAX_ROWS = 65_536
"""Of a piece."""
MAX_BYTES = 32 << 20
"""Of a piece's columns, decoded, but for the row that goes beyond."""
MAX_KEY_BYTES = 4 << 20
"""Of the keys of one row; a row with more is rejected."""
_CHECKED_ROWS = 8192
_CHECKED_BYTES = 4 << 20
"""Batches are checked together up to this: of many small files there are many batches."""
_HELD_BYTES = 4 << 20
"""A small file that decodes to no more is held until all of it is decoded."""
_TURN = threading.Lock()
"""Of this process's threads, the one that reads many small files has it."""
_MAX_TURN_SECS = 2.0
"""Where a disk is slow, or there are many threads, they do not wait for each other for longer."""


class Span(NamedTuple):
    """Consecutive rows of a range in a piece."""

    range_: Range
    first_row: int
    """Its number in the file."""
    rows: int


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a split, checked; all arrays are of one length."""

    spans: tuple[Span, ...]
    """Where the rows come from, in order."""
    text: pa.Array
    """large_string, cut to what the model reads; anything where there is a reason."""
    keys: pa.Table
    """The key columns in the plan's types; without keys it has no columns."""
    reason: pa.Array
    """Why a row is rejected; null where it can be labelled."""
    detail: pa.Array

    def rejected(self) -> NDArray[np.bool_]:
        """Whether a row is rejected."""
        return self.reason.is_valid().to_numpy(zero_copy_only=False)

    def source_file(self, rows: NDArray[np.int64]) -> pa.Array:
        """Where these rows of the piece come from."""
        uris = pa.array([span.range_.source for span in self.spans], pa.string())
        return uris.take(pa.array(self._span_of()[rows]))

    def source_row(self, rows: NDArray[np.int64]) -> pa.Array:
        """The numbers that these rows of the piece have in their files."""
        lengths = [span.rows for span in self.spans]
        before = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        shift = np.array([span.first_row for span in self.spans], np.int64) - before
        return pa.array(rows + shift[self._span_of()[rows]], pa.int64())

    def _span_of(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.spans)), [span.rows for span in self.spans])


class Unread(NamedTuple):
    """A range none of whose rows counts as read; one reject stands for them."""

    range_: Range
    reason: str
    """`unreadable`, `corrupt` or `too large`."""
    detail: str


def read(
    split: Split,
    columns: Columns,
    *,
    locations: Mapping[str, str] | None = None,
    given_up: Mapping[Range, Unread] | None = None,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Piece | Unread]:
    """Yields the split's rows in order, in pieces, and the ranges that can't be read.

    A piece ends with the row that brings it to `max_rows` or `max_bytes`, so that its bounds
    follow from the data alone. Memory is bounded whatever the files hold, see `bounds`.

    Args:
        split: what to read.
        columns: of the run.
        locations: URIs as the stores want them, of sources whose URIs in the plan hide secrets.
        given_up: ranges to yield as they are here: earlier attempts have shown that.
        max_rows: of a piece.
        max_bytes: of a piece, in all columns.

    Raises:
        CorruptRange: a range turned out to be unreadable after rows of it were yielded: begin
            anew with it in `given_up`.
        SourceChangedError: a file is no longer the one that was planned.
        StoreError: the store failed; a retry may succeed.
    """
    known = {r: Unread(r, "unreadable", r.error) for r in split.ranges if r.error is not None}
    known |= given_up or {}
    items = _decoded(split, columns, locations or {}, known)
    pieces = _pieces(_checked(items, columns), columns.keys, max_rows, max_bytes)
    several = len(split.ranges) > 1 and is_on_this_machine(split.ranges[0], locations or {})
    yield from _in_turn(pieces) if several else pieces


def _in_turn(pieces: Iterator[Piece | Unread]) -> Iterator[Piece | Unread]:
    """The same, read by one thread of this process at a time, if that takes no other long.

    Of many small files it is a few microseconds between two calls that release Python's lock, and
    threads that all read would spend twice as long on handing it to each other.
    """
    while True:
        mine = _TURN.acquire(timeout=_MAX_TURN_SECS)
        try:
            piece = next(pieces, None)
        finally:
            if mine:
                _TURN.release()
        if piece is None:
            return
        yield piece


class _Decoded(NamedTuple):
    spans: tuple[Span, ...]
    batches: Batches
    binding: Binding

    def by_span(self) -> Iterator[_Decoded]:
        """The same, each span by itself."""
        row = 0
        for span in self.spans:
            batches = tuple(batch.slice(row, span.rows) for batch in self.batches)
            yield _Decoded((span,), batches, self.binding)
            row += span.rows


class _Misfit(NamedTuple):
    """Rows of a file that has not the run's columns."""

    span: Span
    detail: str


class _Rows(NamedTuple):
    """Checked rows: text, keys, reason, detail; and their sizes in bytes."""

    spans: tuple[Span, ...]
    table: pa.Table
    sizes: NDArray[np.int64]


def _decoded(
    split: Split, columns: Columns, locations: Mapping[str, str], known: Mapping[Range, Unread]
) -> Iterator[_Decoded | _Misfit | Unread]:
    """The rows of all ranges as they come from the files."""
    alone = len(split.ranges) == 1
    for files in files_of(split.ranges, columns, locations, known):
        together = _decoded_together(files) if len(files) > 1 else None
        if together is not None:
            yield together
            continue
        for file in files:
            if file.opened is None:
                yield known[file.range_]
            elif isinstance(file.bound, str):
                yield from _misfit(file.range_, file.bound)
            else:
                yield from _decoded_file(file.range_, file.opened, file.bound, alone)


def _decoded_together(files: Sequence[File]) -> _Decoded | None:
    bound, opened = files[0].bound, [file.opened for file in files if file.opened is not None]
    assert isinstance(bound, Bound)
    batch = bound.small.decode_together(opened)
    if batch is None:
        return None
    spans = tuple(Span(file.range_, 0, file.range_.rows) for file in files)
    return _Decoded(spans, (batch,), bound.binding)


def _decoded_file(
    range_: Range, opened: Opened, bound: Bound, alone: bool
) -> Iterator[_Decoded | Unread]:
    row = range_.start
    try:
        decoded = decode(opened, bound.binding) if alone else _decode_whole(opened, bound)
        for some in decoded:
            span = Span(range_, row, some[0].num_rows)
            yield _Decoded((span,), some, bound.binding)
            row += span.rows
    except CorruptRange as error:
        if row > range_.start:
            raise
        yield Unread(range_, error.reason, error.detail)
    except Exception:
        with reaching("input", range_.source):
            raise


def _bytes(item: _Decoded | _Misfit | Unread) -> int:
    if not isinstance(item, _Decoded):
        return 0
    # unlike `nbytes` it costs nothing, and these are no slices
    return sum(batch.get_total_buffer_size() for batch in item.batches)


def _decode_whole(opened: Opened, bound: Bound) -> Iterable[Batches]:
    """As `decode`, but nothing is given of a range that can't be decoded to its end."""
    at_once = bound.small.decode(opened)
    if at_once is not None:
        return [(at_once,)]
    held: list[Batches] = []
    size = 0
    for batches in decode(opened, bound.binding):
        size += sum(batch.get_total_buffer_size() for batch in batches)
        if size <= _HELD_BYTES:
            held.append(batches)
    return held if size <= _HELD_BYTES else decode(opened, bound.binding)


def _misfit(range_: Range, detail: str) -> Iterator[_Misfit]:
    for start in range(range_.start, range_.stop, _CHECKED_ROWS):
        rows = min(_CHECKED_ROWS, range_.stop - start)
        yield _Misfit(Span(range_, start, rows), detail)


def _checked(
    items: Iterator[_Decoded | _Misfit | Unread], columns: Columns
) -> Iterator[_Rows | Unread]:
    """Rows checked together as far as they come from files that are read alike."""
    group: list[_Decoded] = []
    rows = size = 0
    for item in items:
        more = _bytes(item)
        fits = rows < _CHECKED_ROWS and size + more <= _CHECKED_BYTES
        alike = isinstance(item, _Decoded) and group and item.binding is group[0].binding
        if group and not (fits and alike):
            yield from _check_group(group, columns)
            group, rows, size = [], 0, 0
        if isinstance(item, _Decoded):
            group.append(item)
            rows, size = rows + item.batches[0].num_rows, size + more
            if size > _CHECKED_BYTES:  # it is not to be held while the next is decoded
                del item
                yield from _check_group(group, columns)
                group, rows, size = [], 0, 0
        else:
            yield item if isinstance(item, Unread) else _reject_misfit(item, columns.keys)
    if group:
        yield from _check_group(group, columns)


def _check_group(group: Sequence[_Decoded], columns: Columns) -> Iterator[_Rows]:
    try:
        yield _check(group, columns)
    except pa.ArrowException as error:
        # which of them, or none: dictionaries within lists can't be joined
        parts = [part for item in group for part in item.by_span()]
        if len(parts) > 1:
            for part in parts:
                yield from _check_group([part], columns)
            return
        why = " ".join(str(error).split())
        raise CorruptRange(parts[0].spans[0].range_, "corrupt", why) from error


def _check(group: Sequence[_Decoded], columns: Columns) -> _Rows:
    joined = [_join(batches) for batches in zip(*(item.batches for item in group), strict=True)]
    text, keys, key_detail = group[0].binding.rows(joined)
    checked = check(text)
    text = cut(checked.text)
    sizes = sum((row_bytes(key) for key in keys), np.zeros(len(text), np.int64))
    heavy = np.flatnonzero(sizes > MAX_KEY_BYTES)
    if len(heavy):
        keys = [without(key, heavy.tolist()) for key in keys]
        key_detail = _add_detail(key_detail, sizes, heavy)
        sizes[heavy] = 0
    lost = pc.is_valid(key_detail)
    reason = pc.if_else(lost, pa.scalar("key"), checked.reason)
    detail = pc.if_else(lost, key_detail, checked.detail)
    table = pa.table([text, *keys, reason, detail], names=_names(columns.keys))
    return _Rows(
        tuple(span for item in group for span in item.spans), table, sizes + row_bytes(text)
    )


def _add_detail(detail: pa.Array, sizes: NDArray[np.int64], rows: NDArray[np.int64]) -> pa.Array:
    details = detail.to_pylist()
    for row in rows.tolist():
        details[row] = f"its keys take {sizes[row]:,} bytes, more than {MAX_KEY_BYTES:,}"
    return pa.array(details, pa.string())


def _names(keys: pa.Schema) -> list[str]:
    return [str(i) for i in range(len(keys) + 3)]


def _join(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _reject_misfit(misfit: _Misfit, keys: pa.Schema) -> _Rows:
    rows = misfit.span.rows
    columns = [pa.nulls(rows, kind) for kind in (pa.large_string(), *keys.types)]
    columns += [pa.repeat(pa.scalar(why), rows) for why in ("column", misfit.detail)]
    sizes = np.full(rows, len(misfit.detail), np.int64)
    return _Rows((misfit.span,), pa.table(columns, names=_names(keys)), sizes)


def _pieces(
    items: Iterator[_Rows | Unread], keys: pa.Schema, max_rows: int, max_bytes: int
) -> Iterator[Piece | Unread]:
    """Joins and cuts rows where a piece is full."""
    held: list[_Rows] = []
    rows = size = 0
    for item in items:
        if isinstance(item, Unread):
            yield item
            continue
        while len(item.sizes):
            sizes = size + np.cumsum(item.sizes)
            full = int(np.searchsorted(sizes, max_bytes)) + 1
            take = min(full, max_rows - rows, len(sizes))
            held.append(_head(item, take))
            rows, size = rows + take, int(sizes[take - 1])
            item = _tail(item, take)
            if rows == max_rows or size >= max_bytes:
                piece = _piece(held, keys)
                held, rows, size = [], 0, 0  # what was joined isn't held meanwhile
                yield piece
                del piece
    if held:
        yield _piece(held, keys)


def _head(rows: _Rows, count: int) -> _Rows:
    """The first of some rows."""
    if count == len(rows.sizes):
        return rows
    spans, left = [], count
    for span in rows.spans:
        if left > 0:
            spans.append(span._replace(rows=min(left, span.rows)))
        left -= span.rows
    return _Rows(tuple(spans), rows.table.slice(0, count), rows.sizes[:count])


def _tail(rows: _Rows, count: int) -> _Rows:
    """All but the first of some rows."""
    if count == len(rows.sizes):
        return _Rows((), rows.table.slice(0, 0), rows.sizes[:0])
    spans, skip = [], count
    for range_, first_row, length in rows.spans:
        if skip < length:
            spans.append(Span(range_, first_row + max(0, skip), length - max(0, skip)))
        skip -= length
    return _Rows(tuple(spans), rows.table.slice(count), rows.sizes[count:])


def _piece(held: Sequence[_Rows], keys: pa.Schema) -> Piece:
    table = pa.concat_tables([rows.table for rows in held]).combine_chunks()
    text, *columns, reason, detail = (column.combine_chunks() for column in table.columns)
    spans = _merged(span for rows in held for span in rows.spans)
    return Piece(spans, text, pa.Table.from_arrays(columns, schema=keys), reason, detail)


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Consecutive spans, as few as they can be."""
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].range_ is span.range_:
            before = merged.pop()
            span = before._replace(rows=before.rows + span.rows)
        merged.append(span)
    return tuple(merged)
