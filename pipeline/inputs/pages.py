"""The headers of Parquet pages, read as a column chunk's bytes go by.

A page's header says how large the page is when decompressed, which Arrow allocates without asking.
So headers are looked at first. The format is Thrift's compact protocol; see parquet.thrift of
apache/parquet-format. Where one could be read in two ways, it is read as Arrow reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

PLAIN = 0
DELTA_BYTE_ARRAY = 7
DICTIONARY = (2, 8)
"""PLAIN_DICTIONARY and RLE_DICTIONARY: values are numbers of values in the dictionary page."""
_RLE = 3
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
"""Types of pages; there are index pages as well, which nobody writes."""
_I32, _BINARY, _LIST, _STRUCT = 5, 8, 9, 12
"""Types of fields, beside others that a header may hold and that say nothing here."""
_MAX_DEPTH = 32
_CODECS = {
    "SNAPPY": "snappy",
    "GZIP": "gzip",
    "BROTLI": "brotli",
    "ZSTD": "zstd",
    "LZ4": "lz4_raw",
    "LZ4_RAW": "lz4_raw",
}

Fields = dict[int, Any]


class Page(NamedTuple):
    """What a page's header says of it."""

    kind: int
    values: int
    """Nulls among them."""
    rows: int | None
    """None where the header does not tell."""
    size: int
    """Bytes when decompressed, never negative."""
    stored: int
    """Bytes as they are in the file."""
    encoding: int
    levels: tuple[int, int] | None
    """Of a page of version 2 the bytes of repetition and definition levels, else None."""
    compressed: bool
    level_encodings: tuple[int, int]
    """Of a page of version 1."""

    @property
    def is_dictionary(self) -> bool:
        """Whether it holds the dictionary of the pages after it."""
        return self.kind == _DICTIONARY


class Chunk:
    """The pages of one column chunk, found while its bytes come by from its beginning on."""

    def __init__(self, values: int) -> None:
        """Begins before the first byte of a chunk of so many values; Arrow reads no further."""
        self._left = values
        self._held = b""
        """Bytes from the next header on, or those of the page that is wanted."""
        self._skip = 0
        """Bytes to come before the next header."""
        self._wanted = False

    def feed(self, data: bytes) -> Iterator[tuple[Page, memoryview | None]]:
        """Takes the next bytes, and yields the pages whose headers they complete.

        A page that is yielded without its content is yielded again with it, once that is
        complete, if `want` is called meanwhile.

        Raises:
            pa.ArrowInvalid: there is no header where one has to be.
        """
        data = self._held + data if self._held else data
        self._held = b""
        at = min(self._skip, len(data))
        self._skip -= at
        while self._left > 0 and not self._skip and at < len(data):
            try:
                page, body = header(data, at)
            except IndexError:
                self._held = data[at:]
                return
            except ValueError as error:
                raise pa.ArrowInvalid(f"not the header of a page: {error}") from error
            self._wanted = False
            yield page, None
            end = body + page.stored
            if self._wanted:
                if end > len(data):
                    self._held = data[at:]
                    return
                yield page, memoryview(data)[body:end]
            if not page.is_dictionary:
                self._left -= page.values
            at = min(end, len(data))
            self._skip = end - at

    def want(self) -> None:
        """Asks for the content of the page that was yielded last."""
        self._wanted = True


def header(data: bytes, at: int) -> tuple[Page, int]:
    """The page header that begins at a place, and where it ends.

    Raises:
        IndexError: the bytes end before it does.
        ValueError: it is no header.
    """
    fields, at = _struct(data, at, 0)
    kind = fields.get(1, -1)
    about = fields.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(kind, 0), {1: 0})
    numbers = (1, 2, 3, 4, 5, 6, 7) if kind == _DATA_V2 else (1, 2, 3, 4)
    said = [fields.get(2), fields.get(3)]
    if not isinstance(about, dict) or dict in map(type, [*said, *map(about.get, numbers)]):
        raise ValueError("a struct stands in the place of a number, or a number in that of one")
    size, stored, values = fields.get(2, -1), fields.get(3, -1), about.get(1, -1)
    if 1 not in fields or min(size, stored, values) < 0:
        raise ValueError(f"a page of {values} values in {size} bytes, which are stored in {stored}")
    if kind == _DATA_V2:
        levels = (about.get(6, 0), about.get(5, 0))
        encoding, rows = about.get(4, 0), about.get(3, 0)
    else:
        levels, encoding, rows = None, about.get(2, 0), None
    return (
        Page(
            kind,
            values,
            rows,
            size,
            stored,
            encoding,
            levels,
            about.get(7, True),
            (about.get(4, _RLE), about.get(3, _RLE)) if kind == _DATA else (_RLE, _RLE),
        ),
        at,
    )


def longest_value(page: Page, content: memoryview, codec: str, *, nullable: bool) -> int | None:
    """The bytes of the longest value in a page of byte arrays, PLAIN or a dictionary.

    Args:
        page: not one of a repeated column.
        content: as it is in the file.
        codec: of the chunk, by its name in the footer.
        nullable: whether values may be missing.

    Returns:
        None if that can't be known, for whatever reason.
    """
    data = _decompressed(page, content, codec)
    if data is None:
        return None
    at = 0
    if page.kind == _DATA and nullable:
        if page.level_encodings[1] != _RLE or len(data) < 4:
            return None
        at = 4 + int.from_bytes(data[:4], "little")
    longest, end, length_at = 0, len(data), struct.Struct("<i").unpack_from
    try:
        while at < end:
            (length,) = length_at(data, at)
            if length < 0:
                return None
            longest = max(longest, length)
            at += 4 + length
    except struct.error:
        return None
    return longest if at == end else None


def count_rows(page: Page, content: memoryview, codec: str, max_repetition: int) -> int:
    """How many rows begin in a data page of a repeated column; 0 if that can't be known.

    Args:
        page: a data page.
        content: as it is in the file.
        codec: of the chunk, by its name in the footer.
        max_repetition: the column's highest repetition level.
    """
    if page.levels is not None:
        data, at, end = bytes(content[: page.levels[0]]), 0, page.levels[0]
    else:
        found = _decompressed(page, content, codec)
        if found is None or page.level_encodings[0] != _RLE or len(found) < 4:
            return 0
        data, at = found, 4
        end = 4 + int.from_bytes(data[:4], "little")
    try:
        return _count_zeros(data[:end], at, max_repetition.bit_length(), page.values)
    except (IndexError, ValueError):
        return 0


def _count_zeros(data: bytes, at: int, width: int, values: int) -> int:
    """The zeros among so many values in the hybrid of run lengths and packed bits."""
    zeros = 0
    while values > 0:
        head, at = _varint(data, at)
        if head & 1:
            size = (head >> 1) * width
            bits = np.unpackbits(np.frombuffer(data[at : at + size], np.uint8), bitorder="little")
            some = bits[: len(bits) // width * width].reshape(-1, width)[:values]
            if not len(some):
                raise ValueError("the levels end early")
            zeros += int(len(some) - some.any(axis=1).sum())
            values -= len(some)
        else:
            size = (width + 7) // 8
            count = min(head >> 1, values)
            zeros += 0 if any(data[at : at + size]) else count
            values -= count
        at += size
    return zeros


def _decompressed(page: Page, content: memoryview, codec: str) -> bytes | None:
    """The bytes of values, and of the levels of a page of version 1."""
    levels = sum(page.levels) if page.levels else 0
    size = page.size - levels
    if not page.compressed or codec == "UNCOMPRESSED":
        return bytes(content[levels:])
    if codec not in _CODECS or size < 0:
        return None
    try:
        data: bytes = pa.Codec(_CODECS[codec]).decompress(content[levels:], size, asbytes=True)
    except (pa.ArrowException, OSError, ValueError):  # Arrow will say so when it reads the page
        return None
    return data


def walk(data: bytes, wanted: Mapping[int, tuple[str, Any]], seen: list[tuple[str, int]]) -> None:
    """Goes once through a struct in Thrift's compact protocol.

    Args:
        data: begins with it.
        wanted: names of fields by their numbers, and what is wanted of those below, None for
            nothing; all others are passed over.
        seen: gets the names in order, each with the length of a list, else with 1; a struct in a
            list is seen by its fields.

    Raises:
        IndexError: the bytes end before it does.
        ValueError: it is no such struct.
    """
    _walk(data, 0, wanted, seen, 0)


def _walk(
    data: bytes,
    at: int,
    wanted: Mapping[int, tuple[str, Any]],
    seen: list[tuple[str, int]],
    depth: int,
) -> int:
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            raw, at = _varint(data, at)
            number = _signed(raw, 16)
        kind = head & 15
        if number not in wanted:
            at = _passed(kind, data, at, depth)
            continue
        name, below = wanted[number]
        count, start = 1, at
        if kind == _LIST:
            head, start = data[at], at + 1
            count = head >> 4
            if count == 15:
                count, start = _varint(data, start)
            kind = head & 15 if below else kind
        seen.append((name, count))
        if below and kind == _STRUCT:
            for _ in range(count):
                start = _walk(data, start, below, seen, depth + 1)
            at = start
        elif below:
            raise ValueError(f"a field of type {kind} in the place of a struct")
        else:
            at = _passed(kind, data, at, depth)
    return at + 1


def _struct(data: bytes, at: int, depth: int) -> tuple[Fields, int]:
    """The 32-bit integers, booleans and structs of a struct by number of field."""
    if depth > _MAX_DEPTH:
        raise ValueError("a header that is nested too deeply")
    fields: Fields = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if not head:
            return fields, at
        if head >> 4:
            number += head >> 4
        else:
            raw, at = _varint(data, at)
            number = _signed(raw, 16)
        kind = head & 15
        if kind == _I32:
            raw = data[at]
            if raw < 128:  # as most are
                fields[number] = (raw >> 1) ^ -(raw & 1)
                at += 1
            else:
                raw, at = _varint(data, at)
                fields[number] = _signed(raw, 32)
        elif kind == _STRUCT:
            below, at = _struct(data, at, depth + 1)
            if number in fields:
                below = {**fields[number], **below}
            fields[number] = below
        elif kind in (1, 2):
            fields[number] = kind == 1
        else:
            at = _passed(kind, data, at, depth)


def _passed(kind: int, data: bytes, at: int, depth: int) -> int:
    """Where a value ends that says nothing here."""
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)[1]
    if kind in (4, _I32, 6):
        return _varint(data, at)[1]
    if kind == _BINARY:
        length, at = _varint(data, at)
        return at + length
    if kind in (1, 2, 3):
        return at + 1
    if kind == 7:
        return at + 8
    if kind in (9, 10, 11):
        return _passed_elements(kind, data, at, depth + 1)
    raise ValueError(f"a field of type {kind}")


def _passed_elements(kind: int, data: bytes, at: int, depth: int) -> int:
    if depth > _MAX_DEPTH:
        raise ValueError("a header that is nested too deeply")
    if kind == 11:
        count, at = _varint(data, at)
        kinds = [data[at] >> 4, data[at] & 15] if count else []
        at += bool(count)
    else:
        count, kinds = data[at] >> 4, [data[at] & 15]
        at += 1
        if count == 15:
            count, at = _varint(data, at)
    for _ in range(count):
        for element in kinds:
            at = _passed(element, data, at, depth)
            if at > len(data):
                raise IndexError
    return at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _signed(raw: int, bits: int) -> int:
    """The integer of so many bits that a zigzag stands for; what is beyond them is cut off."""
    raw &= (1 << 32) - 1
    value = ((raw >> 1) ^ -(raw & 1)) & ((1 << bits) - 1)
    return value - (1 << bits) if value >> (bits - 1) else value
