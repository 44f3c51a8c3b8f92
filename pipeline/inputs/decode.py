"""A range's rows as record batches, in bounded memory, and why they can't be had."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model.store import fetch, has_ranges, is_local, open_store
from glossator.pipeline.errors import CorruptRange, SourceChangedError
from glossator.pipeline.inputs.bounds import (
    MAX_BATCH_ROWS,
    Column,
    Leaf,
    Meter,
    SmallerBatches,
    TooLarge,
)
from glossator.pipeline.inputs.chunks import require_sound
from glossator.pipeline.inputs.columns import Binding, Reader, aligned, reading_options
from glossator.pipeline.inputs.footer import parse_footer, read_footer
from glossator.pipeline.inputs.native.footers import Footer, as_one_file, leaves_of
from glossator.pipeline.inputs.pages import Chunk
from glossator.pipeline.inputs.ranges import Range
from glossator.pipeline.inputs.remote import RemoteFile

Batches = tuple[pa.RecordBatch, ...]
"""The same rows from each of a binding's readers."""

SMALL_BYTES = 1 << 20
"""A file that is no larger is fetched at once."""
_FETCHED_BYTES = 8 << 20
"""The same of a file on an object store, where each request has its price and takes its time."""
_HARMLESS_BYTES = 16 << 20
"""A small file that can't take more is decoded at once."""
_TOGETHER_BYTES = 64 << 20
"""The same of several that are decoded at once."""
_SMALL_FOOTER_BYTES = 64 << 10
_OPTIONS = reading_options("us")
_BOUNDED_CODECS = ("SNAPPY", "UNCOMPRESSED")
_MAX_RATIO = 22
"""Of Snappy: three bytes stand for 64 at most."""
_BUFFER_BYTES = 4 << 20
"""Fetched at once and held for each column, instead of the column's whole row group."""


@dataclass(eq=False)  # frozen, it would take three times as long to make
class Opened:
    """A file that was found to be the one that was planned."""

    range_: Range
    location: str
    footer: bytes
    size: int
    content: bytes | None
    """All of a file that was fetched at once."""
    open: Callable[[], Any]
    """A new file object of one that was not."""
    as_written: bool = True
    """Whether the footer is the file's own."""

    @cached_property
    def small(self) -> pq.ParquetFile | None:
        """The file where all of it is small, ready to be read as a first reader reads it."""
        if self.content is None or not self.as_written or len(self.footer) > _SMALL_FOOTER_BYTES:
            return None
        try:
            return _in_small(self.content)
        except UnicodeDecodeError:  # of a column's name
            return None

    @cached_property
    def metadata(self) -> pq.FileMetaData:
        """What the footer says; it was parsed before, when the run was planned."""
        return parse_footer(self.footer) if self.small is None else self.small.metadata

    def without_arrow_schema(self) -> Opened:
        """The same file, whose columns are of the types that Parquet has for them."""
        footer = self.footer.replace(b"ARROW:schema", b"ARROW:unused")
        return replace(self, footer=footer, as_written=False)


def open_range(range_: Range, location: str) -> Opened:
    """Opens a range's file; all of it is fetched if it is small.

    Args:
        range_: of a file whose footer could be read.
        location: the file's URI as the store wants it; `range_.source` may hide secrets.

    Raises:
        SourceChangedError: this is no longer the file that was planned.
        OSError: the store failed; a retry may succeed.
    """
    if location.startswith("/"):  # for tens of thousands of files, faster
        footer, size, content, opener = _open_local(location, range_.file_bytes)
    else:
        fs, path = open_store(location)
        opens = _open_local if is_local(fs) else partial(_open, fs)
        footer, size, content, opener = opens(path, range_.file_bytes)
    if hashlib.sha256(footer).hexdigest() != range_.footer_sha256:
        raise SourceChangedError(
            f"{range_.source}: it was replaced after this run was planned: run again"
        )
    return Opened(range_, location, footer, size, content, opener)


_File = tuple[bytes, int, bytes | None, Callable[[], Any]]
"""A file's footer, its size, its content if it is small, and how to open it."""


def _open_local(path: str, planned: int | None) -> _File:
    """Of a file that has another size than was planned, the footer is another one, too."""
    file = os.open(path, os.O_RDONLY)  # of tens of thousands of files a file object costs more
    try:
        size = os.fstat(file).st_size if planned is None else planned
        if size <= SMALL_BYTES:
            return _in_memory(os.pread(file, size, 0))
        length = int.from_bytes(os.pread(file, 4, size - 8), "little") + 8
        footer = os.pread(file, length, max(0, size - length))
    finally:
        os.close(file)
    return footer, size, None, lambda: Path(path).open("rb")


def _open(fs: Any, path: str, planned: int | None) -> _File:
    """Of a file that has another size than was planned, the footer is another one, too."""
    size = fs.size(path) if planned is None else planned
    if size <= (_FETCHED_BYTES if has_ranges(fs) else SMALL_BYTES):
        data = fetch(fs, path)
        if len(data) != size and (planned is None or len(data) != fs.size(path)):
            raise OSError(f"the store gave {len(data)} bytes of {size}")
        return _in_memory(data)
    footer = read_footer(fs, path, size)
    if has_ranges(fs):
        return footer, size, None, lambda: RemoteFile(fs, path, size)
    return footer, size, None, lambda: fs.open(path, "rb", cache_type="none")


def _in_memory(data: bytes) -> _File:
    length = int.from_bytes(data[-8:-4], "little") + 8
    return data[-length:], len(data), data, lambda: io.BytesIO(data)


def _in_small(content: bytes) -> pq.ParquetFile:
    """A file that is wholly in memory."""
    return pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True, **_OPTIONS)


def _most_bytes(rows: int, size: int) -> int:
    """What so many rows of a file can take, each as long as all the file's bytes decompressed."""
    return (rows + 4) * _MAX_RATIO * size


def decode_rows(range_: Range, location: str, readers: Sequence[Reader]) -> Iterator[Batches]:
    """The rows of a range from each of the readers, side by side, in small batches.

    Raises:
        TooLarge, pa.ArrowException, OSError: they can't be had.
    """
    return _Attempt(open_range(range_, location), readers).batches(range_)


def decode(opened: Opened, binding: Binding) -> Iterator[Batches]:
    """The rows of its range in order, in small batches.

    Raises:
        CorruptRange: the bytes came and can't be decoded, or not in bounded memory. Batches may
            have been yielded before: none of the range's rows counts as read.
        OSError: the store failed; a retry may succeed.
    """
    first, range_ = _Attempt(opened, binding.readers), opened.range_
    try:
        yield from first.batches(range_)
    except TooLarge as error:
        raise CorruptRange(range_, "too large", str(error)) from error
    except (pa.ArrowException, OSError) as error:
        if first.store_failed:
            raise
        why = _corruption(opened, binding)
        if why is None:
            raise OSError(
                f"damaged bytes came, and whole ones at a second try ({error})"
            ) from error
        raise CorruptRange(range_, "corrupt", why) from error


class SmallFiles:
    """Decodes small files of one binding; of tens of thousands, what they share is kept."""

    def __init__(self, metadata: pq.FileMetaData, binding: Binding) -> None:
        """Gets ready for files whose schema is the same as in `metadata`."""
        self._reader = binding.readers[0] if len(binding.readers) == 1 else None
        self._leaves = _leaves(metadata, binding.readers[0])
        self._width = sum(leaf.width for leaf in self._leaves)
        self._repeated = any(leaf.repetition for leaf in self._leaves)
        self._reads_plainly = self._reader is not None and self._reader.options == _OPTIONS
        self._plain_leaves = leaves_of(metadata.schema, {leaf.number for leaf in self._leaves})

    def decode(self, opened: Opened) -> pa.RecordBatch | None:
        """All rows of a file's range; None if another way has to be tried, for whatever reason."""
        rows, metadata = opened.range_.rows, opened.metadata
        if opened.content is None or self._reader is None or not 0 < rows <= MAX_BATCH_ROWS:
            return None
        if rows != metadata.num_rows or not self._is_harmless(opened.content, opened):
            return None
        if opened.small is None or not self._reads_plainly:
            return None
        try:
            table = opened.small.read(self._reader.projection, use_threads=False)
        except (pa.ArrowException, OSError, MemoryError):
            return None
        batches = table.combine_chunks().to_batches()
        return batches[0] if len(batches) == 1 and table.num_rows == rows else None

    def weight(self, opened: Opened, plain: Footer) -> float:
        """What a file adds to those that are decoded together, as a part of what they may have.

        It is infinite of one that is not to be decoded with others.
        """
        rows, content = opened.range_.rows, opened.content
        if content is None or not opened.as_written or not 0 < rows <= MAX_BATCH_ROWS:
            return math.inf
        if opened.range_.start or rows != sum(plain.group_rows):
            return math.inf
        if self._repeated or not self._reads_plainly or len(opened.footer) > _SMALL_FOOTER_BYTES:
            return math.inf
        most = max(rows * self._width, _most_bytes(rows, len(content)))
        return math.inf if most > _HARMLESS_BYTES else most / _TOGETHER_BYTES

    def decode_together(self, files: Sequence[Opened]) -> pa.RecordBatch | None:
        """All rows of files with plain footers; None if each has to be decoded by itself.

        Args:
            files: whose weights are not more than 1 together.
        """
        contents = [opened.content for opened in files if opened.content is not None]
        sizes = [len(opened.footer) for opened in files]
        content = as_one_file(contents, sizes, self._plain_leaves)
        if content is None or self._reader is None:
            return None
        try:
            table = _in_small(content).read(self._reader.projection, use_threads=False)
        except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError):
            return None
        rows = sum(opened.range_.rows for opened in files)
        batches = table.combine_chunks().to_batches()
        return batches[0] if len(batches) == 1 and table.num_rows == rows else None

    def _is_harmless(self, content: bytes, opened: Opened) -> bool:
        """Whether it can't take much memory even if its pages say what is not so.

        A value is no longer than what a page decompresses to, and each row may have it. What a
        page says beyond that is reserved and never touched.
        """
        metadata, reader = opened.metadata, self._reader
        rows = metadata.num_rows
        if reader is None or self._repeated or rows * self._width > _HARMLESS_BYTES:
            return False
        if _most_bytes(rows, len(content)) > _HARMLESS_BYTES:
            return False
        numbers = range(metadata.num_row_groups)
        try:
            require_sound(opened.footer, metadata, numbers, reader.projection)
        except (pa.ArrowException, OSError):
            return False
        groups = (metadata.row_group(i) for i in numbers)
        return all(
            group.column(leaf.number).compression in _BOUNDED_CODECS
            for group in groups
            for leaf in self._leaves
        )


def _corruption(opened: Opened, binding: Binding) -> str | None:
    """Why a range can't be decoded although the store gives every byte, else None.

    All is fetched and decoded once more: an answer that was damaged on its way is not corruption.
    """
    attempt = _Attempt(open_range(opened.range_, opened.location), binding.readers)
    try:
        for _ in attempt.batches(opened.range_):
            pass
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, TooLarge) as error:
        if attempt.store_failed:
            raise
        return " ".join(str(error).split())
    return None


class _Attempt:
    """One try to decode a range."""

    def __init__(self, opened: Opened, readers: Sequence[Reader]) -> None:
        self._opened = opened
        self._readers = readers
        self.store_failed = False
        """Whether it was the store that failed: Arrow reports that as it does corruption."""

    def batches(self, range_: Range) -> Iterator[Batches]:
        start, rows = range_.start, MAX_BATCH_ROWS
        if self._opened.content is not None:
            rows = self._measure(self._opened.content, range_)
        while start < range_.stop:
            try:
                for batches in self._decode(start, range_.stop, rows):
                    start += batches[0].num_rows
                    yield batches
            except SmallerBatches as smaller:
                rows = smaller.rows

    def _measure(self, content: bytes, range_: Range) -> int:
        """The rows of a batch, of a file that is in memory."""
        meter = Meter(MAX_BATCH_ROWS)
        groups, _ = _overlapping(self._opened.metadata, range_.start, range_.stop)
        for number, reader in enumerate(self._readers):
            for chunk in _chunks(self._opened, groups, reader, number, meter):
                chunk.see(chunk.at, content[chunk.at : chunk.end])
        return meter.fitting_rows()

    def _decode(self, start: int, stop: int, rows: int) -> Iterator[Batches]:
        groups, first = _overlapping(self._opened.metadata, start, stop)
        skip, left = start - first, stop - start
        meter = Meter(rows)
        with ExitStack() as files:
            batches = aligned(
                [self._read(files, groups, number, meter) for number in range(len(self._readers))]
            )
            while left:
                some = next(batches, None)
                if some is None:
                    raise pa.ArrowInvalid(f"{left} rows fewer than the footer says")
                taken = tuple(batch.slice(skip, left) for batch in some)
                skip -= min(skip, some[0].num_rows)
                left -= taken[0].num_rows
                if taken[0].num_rows:
                    yield taken

    def _read(
        self, files: ExitStack, groups: list[int], number: int, meter: Meter
    ) -> Iterator[pa.RecordBatch]:
        """The batches of one reader."""
        opened, reader = self._opened, self._readers[number]
        source: Any
        if opened.content is not None:
            source = pa.BufferReader(opened.content)
        else:
            chunks = _chunks(opened, groups, reader, number, meter)
            source = _Metered(opened, chunks, meter)
            files.callback(self._leave, source)
        parquet = pq.ParquetFile(
            source,
            metadata=opened.metadata,
            pre_buffer=False,
            buffer_size=_BUFFER_BYTES if opened.content is None else 0,
            page_checksum_verification=True,
            **reader.options,
        )
        batches: Iterator[pa.RecordBatch] = parquet.iter_batches(
            meter.rows, groups, reader.projection, use_threads=False
        )
        return batches

    def _leave(self, file: _Metered) -> None:
        self.store_failed |= file.failed
        file.close()


def _overlapping(metadata: pq.FileMetaData, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold these rows, and the number of the first row in them."""
    groups: list[int] = []
    first = before = after = 0
    for i in range(metadata.num_row_groups):
        before, after = after, after + metadata.row_group(i).num_rows
        if before < stop and after > start:
            first = first if groups else before
            groups.append(i)
    return groups, first


class _Metered:
    """A file whose pages are measured as they are read; it remembers whether its store failed."""

    def __init__(self, opened: Opened, chunks: Iterable[_MeteredChunk], meter: Meter) -> None:
        self.failed = False
        self._size = opened.size
        self._meter = meter
        self._begun: list[_MeteredChunk] = []
        self._starts: dict[int, list[_MeteredChunk]] = {}
        for chunk in chunks:
            self._starts.setdefault(chunk.at, []).append(chunk)
        self._file = opened.open()

    def read(self, count: int = -1) -> bytes:
        at = self._file.tell()
        rest = max(0, self._size - at)
        wanted = min(count, rest) if count >= 0 else rest
        try:
            data: bytes = self._file.read(wanted)
            if len(data) != wanted:
                raise OSError(f"the store gave {len(data)} bytes of {wanted}")
        except BaseException:
            self.failed = True
            raise
        self._begun += self._starts.pop(at, [])
        for chunk in self._begun:
            chunk.see(at, data, self._meter.check)
        self._begun = [chunk for chunk in self._begun if not chunk.ended]
        return data

    def close(self) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _MeteredChunk:
    """A column chunk, whose bytes are read in order; the reads of several may alternate."""

    def __init__(self, chunk: pq.ColumnChunkMetaData, column: Column) -> None:
        self.at = _first_byte(chunk)
        """Where the bytes begin that have not been seen."""
        self.end = self.at + chunk.total_compressed_size
        self._codec = chunk.compression
        self._pages = Chunk(chunk.num_values)
        self._column = column

    @property
    def ended(self) -> bool:
        """Whether all of it was seen."""
        return self.at >= self.end

    def see(self, at: int, data: bytes, check: Callable[[], None] = lambda: None) -> None:
        """Takes what was read at a place in the file, if it goes on with this chunk.

        Args:
            at: the place.
            data: what was read.
            check: is called after each page, and before the content of one is waited for.
        """
        seen = self.at - at
        if 0 <= seen < len(data) and not self.ended:
            self.at = at + len(data)
            self._column.see(self._pages, data[seen:] if seen else data, self._codec, check)


def _first_byte(chunk: pq.ColumnChunkMetaData) -> int:
    """Where Arrow begins to read a column chunk."""
    data: int = chunk.data_page_offset
    dictionary = chunk.dictionary_page_offset
    return dictionary if dictionary and 0 < dictionary < data else data


def _leaves(metadata: pq.FileMetaData, reader: Reader) -> list[Leaf]:
    """The columns that a reader reads."""
    below = tuple(f"{name}." for name in reader.projection)
    leaves = (Leaf.of(i, metadata.schema.column(i)) for i in range(metadata.num_columns))
    return [
        leaf for leaf in leaves if leaf.path in reader.projection or leaf.path.startswith(below)
    ]


def _chunks(
    opened: Opened, groups: list[int], reader: Reader, number: int, meter: Meter
) -> Iterator[_MeteredChunk]:
    """The column chunks that a reader reads of these row groups.

    Raises:
        pa.ArrowException, OSError: they are damaged, or encrypted.
    """
    metadata = opened.metadata
    require_sound(opened.footer, metadata, groups, reader.projection)
    for leaf in _leaves(metadata, reader):
        column = meter.column(number, leaf)
        for group in groups:
            yield _MeteredChunk(metadata.row_group(group).column(leaf.number), column)
