"""How many rows of a Parquet file can be decoded at once, so that memory is bounded.

A kilobyte can decode to gigabytes: by compression, by a dictionary whose one value all rows have,
by run lengths of nulls in a list. What a batch of rows may take is computed from the pages as they
are read and before they are decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pyarrow.parquet as pq

from glossator.pipeline.pages import (
    DELTA_BYTE_ARRAY,
    DICTIONARY,
    PLAIN,
    Chunk,
    Page,
    count_rows,
    longest_value,
)

MAX_BATCH_ROWS = 1024
"""Decoded at once: few enough that long texts stay small, many enough to be fast."""
MAX_DECODED_BYTES = 192 << 20
"""What decoding may take at once in one thread: pages, dictionaries and a batch of rows."""
_MAX_BATCH_BYTES = 24 << 20
"""What a batch of more than one row may take of that: some more is made of it later."""
_SMALL_BYTES = 4 << 20
"""A page of values that is no larger isn't looked into: they take no more than it does."""
_FEW = 4096
"""Nor is a dictionary, or a page of lists, of fewer bytes and values."""
_VALUE_BYTES = 16
"""What a value takes beside its bytes: levels, offsets, its place in a dictionary."""


class SmallerBatches(Exception):  # noqa: N818 - it is no error: reading goes on
    """The pages ahead may only be decoded in batches of fewer rows."""

    def __init__(self, rows: int) -> None:
        """Batches may have so many rows."""
        super().__init__(rows)
        self.rows = rows


class TooLarge(Exception):  # noqa: N818 - turned into a reject
    """Not even one row can be decoded within the bound."""


class Meter:
    """What a batch may take of a file's columns, by the pages that have been seen."""

    def __init__(self, rows: int) -> None:
        """Measures for batches of so many rows."""
        self.rows = rows
        self._columns: dict[tuple[int, int], Column] = {}

    def column(self, reader: int, column: pq.ColumnSchema, index: int) -> Column:
        """The column with this index in the footer, as one of the file's readers reads it."""
        key = (reader, index)
        if key not in self._columns:
            self._columns[key] = Column(column, self.rows)
        return self._columns[key]

    def check(self) -> None:
        """Compares what has been seen with the limits.

        Raises:
            SmallerBatches: reading has to begin anew from here.
            TooLarge: not even one row fits.
        """
        if (rows := self.fitting_rows()) < self.rows:
            raise SmallerBatches(rows)

    def fitting_rows(self) -> int:
        """How many rows a batch may have, by what has been seen.

        Raises:
            TooLarge: not even one fits.
        """
        rows = self.rows
        while not self._fits(rows):
            if rows == 1:
                raise TooLarge(self._why())
            rows //= 2
        return rows

    def _why(self) -> str:
        largest = max(self._columns.values(), key=lambda column: column.bytes(1))
        return (
            f"column {largest.name!r} takes {largest.bytes(1):,} bytes when a row is decoded, and"
            f" {MAX_DECODED_BYTES:,} are the most for all columns: write the file anew with smaller"
            " pages and row groups, or with shorter values"
        )

    def _fits(self, rows: int) -> bool:
        total = batch = 0
        for column in self._columns.values():
            total += column.bytes(rows)
            batch += column.batch_bytes(rows)
        return total <= MAX_DECODED_BYTES and (rows == 1 or batch <= _MAX_BATCH_BYTES)


class Column:
    """The pages of a column that have been seen, and what batches of them take."""

    def __init__(self, schema: pq.ColumnSchema, rows: int) -> None:
        self.name: str = schema.path
        self._is_bytes = schema.physical_type == "BYTE_ARRAY"
        self._repetition: int = schema.max_repetition_level
        self._nullable = schema.max_definition_level > 0
        self._width = max(0, schema.length or 0) + _VALUE_BYTES
        self._dictionary = 0
        self._page = 0
        self._looked_into = 0
        self._longest = 0
        """Bytes of the longest value in the pages that are measured by that."""
        self._pages: list[tuple[int, int]] = []
        """Rows and bytes of the others."""
        self._window = _Window(rows, self._repetition > 0)

    def see(self, chunk: Chunk, data: bytes, codec: str, check: Callable[[], None]) -> None:
        """Measures the pages whose headers or contents the next bytes of a chunk complete.

        Args:
            chunk: where the bytes come from.
            data: the bytes.
            codec: of the chunk, by its name in the footer.
            check: is called after each page, and before the content of one is waited for.

        Raises:
            pa.ArrowInvalid: there is no page where one has to be.
        """
        for page, content in chunk.feed(data):
            if content is None:
                looked_into = self._needs_content(page)
                if not page.is_dictionary:
                    self._page = max(self._page, page.stored + page.size)
                    self._looked_into = max(self._looked_into, page.size * looked_into)
                else:  # decompressed, and copied into values
                    taken = page.stored + 2 * page.size + _VALUE_BYTES * page.values
                    self._dictionary = max(self._dictionary, taken)
                check()
                if looked_into:
                    chunk.want()
                    continue
            self._measure(page, content, codec)
            check()

    def bytes(self, rows: int) -> int:
        """What is held at most while a batch of so many rows is decoded."""
        # a page is looked into before the next batch
        return self._dictionary + self._page + max(self._looked_into, self.batch_bytes(rows))

    def batch_bytes(self, rows: int) -> int:
        """What a batch of so many rows takes at most."""
        window = self._window
        if rows != window.rows:
            window = _Window(rows, window.repeated)
            for page in self._pages:
                window.push(*page)
        return window.most + rows * (self._width + self._longest)

    def _needs_content(self, page: Page) -> bool:
        if page.size > MAX_DECODED_BYTES:  # it is refused
            return False
        if page.is_dictionary:
            return self._is_bytes and page.size > _FEW
        if self._repetition:
            return max(page.size, page.values) > _FEW
        return self._is_bytes and page.encoding == PLAIN and page.size > _SMALL_BYTES

    def _measure(self, page: Page, content: memoryview | None, codec: str) -> None:
        longest = None
        if content is not None and (page.is_dictionary or not self._repetition):
            longest = longest_value(page, content, codec, nullable=self._nullable)
        if page.is_dictionary:
            if self._is_bytes:
                self._longest = max(self._longest, page.size if longest is None else longest)
        elif self._repetition:
            rows = 0 if content is None else count_rows(page, content, codec, self._repetition)
            self._push(rows, page.size + page.values * (self._width + self._value_bytes(page)))
        elif self._is_bytes and page.encoding not in DICTIONARY:
            if page.encoding == DELTA_BYTE_ARRAY:  # a value may be all of the values before
                longest = page.size
            if longest is None:
                self._push(page.values if page.rows is None else page.rows, page.size)
            else:
                self._longest = max(self._longest, longest)

    def _value_bytes(self, page: Page) -> int:
        """What each value of a repeated column may take beside what its page does."""
        if not self._is_bytes:
            return 0
        if page.encoding in DICTIONARY:
            return self._longest
        return page.size if page.encoding == DELTA_BYTE_ARRAY else 0

    def _push(self, rows: int, size: int) -> None:
        self._pages.append((rows, size))
        self._window.push(rows, size)


class _Window:
    """The most bytes in consecutive pages that a batch may have rows of."""

    def __init__(self, rows: int, repeated: bool) -> None:
        self.rows = rows
        self.repeated = repeated
        self.most = 0
        self._between = rows - 1 if repeated else rows - 2
        """Rows that may begin in the pages between the first and the last of the batch."""
        self._pages: deque[tuple[int, int]] = deque()
        self._rows = self._bytes = 0

    def push(self, rows: int, size: int) -> None:
        self._pages.append((rows, size))
        self._rows += rows
        self._bytes += size
        while len(self._pages) > 1:
            between = self._rows - self._pages[0][0] - rows
            if between <= self._between and self._between >= 0:
                break
            first_rows, first_size = self._pages.popleft()
            self._rows -= first_rows
            self._bytes -= first_size
        self.most = max(self.most, self._bytes)
