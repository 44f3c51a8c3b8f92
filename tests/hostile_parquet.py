"""Small Parquet files that take much memory to read; each is written page by page, by hand.

The numbers of fields and enumerations are those of parquet.thrift of apache/parquet-format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MB = 1 << 20
BYTE_ARRAY, INT64, FIXED = 6, 2, 7
REQUIRED, OPTIONAL, REPEATED = 0, 1, 2
PLAIN, RLE, DICTIONARY_INDICES, DELTA_BYTE_ARRAY = 0, 3, 8, 7
DATA_PAGE, DICTIONARY_PAGE = 0, 2
UNCOMPRESSED, SNAPPY, ZSTD = 0, 1, 6


# Thrift's compact protocol: a value is (type, payload).


def varint(number: int) -> bytes:
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def zigzag(number: int) -> bytes:
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def i32(number: int) -> tuple[int, bytes]:
    return 5, zigzag(number)


def i64(number: int) -> tuple[int, bytes]:
    return 6, zigzag(number)


def binary(data: bytes) -> tuple[int, bytes]:
    return 8, varint(len(data)) + data


def struct(fields: dict[int, tuple[int, bytes] | None]) -> tuple[int, bytes]:
    parts, before = [], 0
    for number, value in sorted(fields.items()):
        if value is not None:
            parts.append(bytes([(number - before) << 4 | value[0]]) + value[1])
            before = number
    return 12, b"".join(parts) + b"\0"


def listed(items: list[tuple[int, bytes]], kind: int = 12, count: int | None = None) -> Any:
    count = len(items) if count is None else count
    head = bytes([count << 4 | kind]) if count < 15 else bytes([0xF0 | kind]) + varint(count)
    return 9, head + b"".join(payload for _, payload in items)


@dataclass
class Page:
    """A page as it is written: its content, compressed, and what its header says."""

    values: int
    content: bytes
    size: int
    kind: int = DATA_PAGE
    encoding: int = PLAIN
    extra: dict[int, Any] = field(default_factory=dict)

    def bytes(self) -> bytes:
        about = {1: i32(self.values), 2: i32(self.encoding)}
        if self.kind == DATA_PAGE:
            about |= {3: i32(RLE), 4: i32(RLE)} | self.extra
        number = 5 if self.kind == DATA_PAGE else 7
        header = {1: i32(self.kind), 2: i32(self.size), 3: i32(len(self.content))}
        return struct({**header, number: struct(about)})[1] + self.content


@dataclass
class Column:
    """A column of one row group; `path` is that below the root."""

    name: str
    pages: list[Page]
    kind: int = BYTE_ARRAY
    repetition: int = REQUIRED
    values: int | None = None
    codec: int = ZSTD
    length: int | None = None
    schema: list[tuple[int, bytes]] | None = None
    path: tuple[str, ...] | None = None
    statistics: tuple[int, bytes] | None = None


def write(
    path: Path, rows: int, columns: list[Column], footer: dict[int, Any] | None = None
) -> Path:
    """A file of one row group."""
    body, chunks = bytearray(b"PAR1"), []
    for column in columns:
        begins = len(body)
        pages = [page.bytes() for page in column.pages]
        body += b"".join(pages)
        has_dictionary = bool(column.pages) and column.pages[0].kind == DICTIONARY_PAGE
        values = sum(p.values for p in column.pages if p.kind == DATA_PAGE)
        size = sum(page.size for page in column.pages)
        about = {
            1: i32(column.kind),
            2: listed([i32(PLAIN), i32(RLE)], 5),
            3: listed([binary(part.encode()) for part in column.path or (column.name,)], 8),
            4: i32(column.codec),
            5: i64(values if column.values is None else column.values),
            6: i64(size),
            7: i64(len(body) - begins),
            9: i64(begins + len(pages[0]) * has_dictionary if pages else begins),
            11: i64(begins) if has_dictionary else None,
            12: column.statistics,
        }
        chunks.append(struct({2: i64(begins), 3: struct(about)}))
    elements = [struct({4: binary(b"schema"), 5: i32(len(columns))})]
    for column in columns:
        leaf = {
            1: i32(column.kind),
            2: i32(column.length) if column.length else None,
            3: i32(column.repetition),
            4: binary(column.name.encode()),
            6: i32(0) if column.kind == BYTE_ARRAY else None,
        }
        elements += column.schema or [struct(leaf)]
    group = struct({1: listed(chunks), 2: i64(1), 3: i64(rows)})
    said = {1: i32(1), 2: listed(elements), 3: i64(rows), 4: listed([group])}
    content = struct({**said, **(footer or {})})[1]
    path.write_bytes(bytes(body) + content + len(content).to_bytes(4, "little") + b"PAR1")
    return path


def zstd(blocks: Iterable[bytes]) -> tuple[bytes, int]:
    """Blocks compressed as one, and their size."""
    sink, size = pa.BufferOutputStream(), 0
    with pa.CompressedOutputStream(sink, "zstd") as out:
        for block in blocks:
            out.write(block)
            size += len(block)
    return sink.getvalue().to_pybytes(), size


def plain(value: bytes) -> bytes:
    return len(value).to_bytes(4, "little") + value


def texts(value: bytes, count: int) -> Page:
    """A page of so many times one text."""
    content, size = zstd(plain(value) for _ in range(count))
    return Page(count, content, size)


def run(value: int, count: int) -> bytes:
    """So many times a level or index of one byte, as a run."""
    return varint(count << 1) + bytes([value])


def ids(count: int) -> Column:
    content, size = zstd(i.to_bytes(8, "little") for i in range(count))
    return Column("id", [Page(count, content, size)], INT64)


LARGE = b"good " * (MB // 5)


def one_text_in_a_dictionary(path: Path) -> Path:
    """2,048 rows of one text of 1 MB: 2 GB."""
    content, size = zstd([plain(LARGE)])
    dictionary = Page(1, content, size, DICTIONARY_PAGE)
    content, size = zstd([b"\x01" + run(0, 2048)])
    data = Page(2048, content, size, encoding=DICTIONARY_INDICES)
    return write(path, 2048, [Column("text", [dictionary, data]), ids(2048)])


def one_text_in_each_page(path: Path) -> Path:
    """2,048 rows of 1 MB, compressed."""
    page = texts(LARGE, 1)
    return write(path, 2048, [Column("text", [page] * 2048), ids(2048)])


def all_texts_in_a_page(path: Path) -> Path:
    """1,024 rows of 1 MB in one page of a gigabyte."""
    return write(path, 1024, [Column("text", [texts(LARGE, 1024)]), ids(1024)])


def large_keys(path: Path) -> Path:
    """20,000 rows with one key of 200 kB: 4 GB."""
    content, size = zstd([plain(b"k" * 200_000)])
    dictionary = Page(1, content, size, DICTIONARY_PAGE)
    content, size = zstd([b"\x01" + run(0, 20_000)])
    key = Column("key", [dictionary, Page(20_000, content, size, encoding=DICTIONARY_INDICES)])
    return write(path, 20_000, [Column("text", [texts(b"good", 20_000)]), ids(20_000), key])


def large_fixed_keys(path: Path) -> Path:
    """20,000 rows with one key of 200 kB, of a type of that length."""
    content, size = zstd([b"k" * 200_000])
    dictionary = Page(1, content, size, DICTIONARY_PAGE)
    content, size = zstd([b"\x01" + run(0, 20_000)])
    data = Page(20_000, content, size, encoding=DICTIONARY_INDICES)
    key = Column("key", [dictionary, data], FIXED, length=200_000)
    return write(path, 20_000, [Column("text", [texts(b"good", 20_000)]), ids(20_000), key])


def huge_text(path: Path, value: bytes = b"good " * (60 * MB // 5)) -> Path:
    """One text of 60 MB, among others."""
    pages = [texts(b"good", 10), texts(value, 1), texts(b"good", 10)]
    return write(path, 21, [Column("text", pages), ids(21)])


def huge_text_in_a_dictionary(path: Path) -> Path:
    """One text of 60 MB, as most writers have it."""
    content, size = zstd([plain(b"good " * (60 * MB // 5)), plain(b"bad")])
    dictionary = Page(2, content, size, DICTIONARY_PAGE)
    content, size = zstd([b"\x01" + run(1, 1000) + run(0, 1)])
    data = Page(1001, content, size, encoding=DICTIONARY_INDICES)
    return write(path, 1001, [Column("text", [dictionary, data]), ids(1001)])


def many_huge_texts(path: Path) -> Path:
    """100 texts of 60 MB."""
    page = texts(b"a" * (60 * MB), 1)
    return write(path, 100, [Column("text", [page] * 100), ids(100)])


def huge_blank(path: Path) -> Path:
    """A text of 60 MB of nothing but spaces."""
    return huge_text(path, b" " * (60 * MB))


def huge_undecodable(path: Path) -> Path:
    """60 MB whose last byte is not UTF-8."""
    return huge_text(path, "很".encode() * (20 * MB) + b"\xff")


def small_rows_then_large(path: Path) -> Path:
    """A million tiny rows, then 1,000 of 1 MB, in one row group."""
    tiny, large = texts(b"good", 20_000), texts(LARGE, 1)
    return write(path, 1_001_000, [Column("text", [tiny] * 50 + [large] * 1000), ids(1_001_000)])


def page_of_two_gigabytes(path: Path) -> Path:
    """A page of zeros: 2 GB once it is decompressed."""
    block = bytes(MB)
    content, size = zstd(block for _ in range(2047))
    return write(path, 10, [Column("text", [Page(10, content, size)]), ids(10)])


def page_that_says_two_gigabytes(path: Path) -> Path:
    """A page whose header alone says so."""
    content, _ = zstd([plain(b"good")])
    return write(path, 1, [Column("text", [Page(1, content, (1 << 31) - 1)]), ids(1)])


def page_that_says_less(path: Path) -> Path:
    """A page that decompresses to more than its header says."""
    content, _ = zstd(bytes(MB) for _ in range(1000))
    return write(path, 1, [Column("text", [Page(1, content, 1000)]), ids(1)])


def dictionary_that_says_many(path: Path) -> Path:
    """A dictionary page whose header says two billion values."""
    content, size = zstd([plain(b"good")])
    dictionary = Page((1 << 31) - 1, content, size, DICTIONARY_PAGE)
    content, size = zstd([b"\x01" + run(0, 10)])
    data = Page(10, content, size, encoding=DICTIONARY_INDICES)
    return write(path, 10, [Column("text", [dictionary, data]), ids(10)])


def repeated_twice(path: Path) -> Path:
    """A header that says a size twice, of which readers may take the one or the other."""
    page = texts(LARGE, 1024)
    raw = bytearray(page.bytes())
    small = bytes([2 << 4 | 6]) + zigzag(10)  # the same field, as an integer of 64 bits
    at = 2 + len(zigzag(page.size)) + 1
    assert raw[2] == 1 << 4 | 5
    raw[at:at] = b""
    head = struct({1: i32(0)})[1][:-1]
    first = bytes([1 << 4 | 5]) + zigzag(page.size)
    again = bytes([6]) + zigzag(2) + zigzag(10)
    about = struct({1: i32(1024), 2: i32(PLAIN), 3: i32(RLE), 4: i32(RLE)})
    rest = bytes([1 << 4 | 5]) + zigzag(len(page.content)) + bytes([2 << 4 | 12]) + about[1]
    del raw, small
    made = head + first + again + rest + b"\0" + page.content

    class Twice(Page):
        def bytes(self) -> bytes:
            return made

    return write(path, 1024, [Column("text", [Twice(1024, b"", page.size)]), ids(1024)])


def list_of_nulls(path: Path, values: int = 200_000_000) -> Path:
    """A key that is a list, whose single row has 200 million nulls."""
    repetition = run(0, 1) + run(1, values - 1)
    definition = run(2, values)
    levels = b"".join(len(part).to_bytes(4, "little") + part for part in (repetition, definition))
    content, size = zstd([levels])
    schema = [
        struct({3: i32(OPTIONAL), 4: binary(b"key"), 5: i32(1), 6: i32(3)}),
        struct({3: i32(REPEATED), 4: binary(b"list"), 5: i32(1)}),
        struct({1: i32(INT64), 3: i32(OPTIONAL), 4: binary(b"element")}),
    ]
    key = Column(
        "key",
        [Page(values, content, size)],
        INT64,
        schema=schema,
        path=("key", "list", "element"),
    )
    return write(path, 1, [Column("text", [texts(b"good", 1)]), ids(1), key])


def rows_without_data(path: Path) -> Path:
    """A row group that says that it has ten billion rows, and has three."""
    count = 10_000_000_000
    column = Column("text", [texts(b"good", 3)], values=count)
    return write(path, count, [column, Column("id", ids(3).pages, INT64, values=count)])


def deep(path: Path, levels: int = 20_000) -> Path:
    """A column below thousands of structs."""
    names = ["text"] + ["a"] * levels
    nested = [struct({3: i32(OPTIONAL), 4: binary(n.encode()), 5: i32(1)}) for n in names[1:]]
    leaf = struct({1: i32(BYTE_ARRAY), 3: i32(OPTIONAL), 4: binary(b"leaf"), 6: i32(0)})
    column = Column("deep", [texts(b"x", 1)], schema=[*nested, leaf], path=(*names[1:], "leaf"))
    return write(path, 1, [Column("text", [texts(b"good", 1)]), ids(1), column])


def huge_footer(path: Path) -> Path:
    """Megabytes of metadata that nobody asked for."""
    pairs = [struct({1: binary(b"k%d" % i), 2: binary(b"v" * 90_000)}) for i in range(10)]
    column = Column("text", [texts(b"good", 1)])
    return write(path, 1, [column, ids(1)], {5: listed(pairs)})


def huge_statistics(path: Path) -> Path:
    """Smallest and largest values of 400 kB."""
    statistics = struct({5: binary(b"z" * 400_000), 6: binary(b"a" * 400_000)})
    column = Column("text", [texts(b"good", 1)], statistics=statistics)
    return write(path, 1, [column, ids(1)])


def many_announced(path: Path) -> Path:
    """A footer that announces a million row groups."""
    footer = {4: listed([], count=1_000_000)}
    return write(path, 1, [Column("text", [texts(b"good", 1)]), ids(1)], footer)


def wide(path: Path) -> Path:
    """Thousands of columns."""
    many = {f"c{i}": pa.nulls(1, pa.int8()) for i in range(3000)}
    pq.write_table(pa.table({"text": ["good"], "id": [1], **many}), path, write_statistics=False)
    return path


def many_row_groups(path: Path) -> Path:
    """Thousands of row groups of a row."""
    table = pa.table({"text": ["good"] * 4000, "id": range(4000)})
    pq.write_table(table, path, row_group_size=1, write_statistics=False, compression="none")
    return path


def shared_prefixes(path: Path) -> Path:
    """1,024 texts of 200 kB, of which each is stored as what differs from the one before."""
    value = "good " * 40_000
    table = pa.table({"text": [f"{value}{i}" for i in range(1024)], "id": range(1024)})
    pq.write_table(
        table,
        path,
        use_dictionary=False,
        column_encoding={"text": "DELTA_BYTE_ARRAY", "id": "PLAIN"},
        compression="zstd",
    )
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    made.__name__: made
    for made in (
        one_text_in_a_dictionary,
        one_text_in_each_page,
        all_texts_in_a_page,
        large_keys,
        large_fixed_keys,
        huge_text,
        huge_text_in_a_dictionary,
        many_huge_texts,
        huge_blank,
        huge_undecodable,
        small_rows_then_large,
        page_of_two_gigabytes,
        page_that_says_two_gigabytes,
        page_that_says_less,
        dictionary_that_says_many,
        repeated_twice,
        list_of_nulls,
        rows_without_data,
        deep,
        huge_footer,
        huge_statistics,
        many_announced,
        wide,
        many_row_groups,
        shared_prefixes,
    )
}


def all_files(folder: Path) -> Iterator[Path]:
    """Writes each of them, named after what it is."""
    for name, made in FILES.items():
        yield made(folder / f"{name}.parquet")
