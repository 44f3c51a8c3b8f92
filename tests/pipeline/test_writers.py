"""What Parquet's writers make of the same rows: every encoding, codec, version and odd column."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from command_lines import glossator
from outputs import current
from sample_comments import make_comments

ROWS = 300
TEXTS = [None if i % 50 == 7 else text for i, text in enumerate(make_comments(ROWS))]
TABLE = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "text": pa.array(TEXTS, pa.string()),
        "copy": pa.array(TEXTS, pa.string()),
        "flag": [i % 3 == 0 for i in range(ROWS)],
    }
)
Write = Callable[[Path], object]


def arrow(**options: Any) -> Write:
    return lambda path: pq.write_table(TABLE, path, **options)


def encoded(version: str, **encodings: str) -> Write:
    """The rest is PLAIN."""
    names = {name: encodings.get(name, "PLAIN") for name in TABLE.column_names}
    return arrow(use_dictionary=False, column_encoding=names, data_page_version=version)


def text_as(kind: pa.DataType) -> Write:
    text = TABLE["text"].combine_chunks()
    column = text.dictionary_encode() if pa.types.is_dictionary(kind) else text.cast(kind)
    return lambda path: pq.write_table(TABLE.set_column(1, "text", column), path)


def beside(**columns: pa.Array) -> Write:
    """Columns that nobody asks for."""
    table = TABLE
    for name, column in columns.items():
        table = table.append_column(name, column)
    return lambda path: pq.write_table(table, path, version="2.6")


def with_empty_row_groups(path: Path) -> None:
    with pq.ParquetWriter(path, TABLE.schema) as writer:
        for start in range(0, ROWS, 100):
            writer.write_table(TABLE.slice(start, 0))
            writer.write_table(TABLE.slice(start, 100))


def of_duckdb(options: str, more: str = "") -> Write:
    def write(path: Path) -> None:
        rows = TABLE  # noqa: F841 - DuckDB finds it by its name
        duckdb.sql(f"COPY (SELECT *{more} FROM rows) TO '{path}' (FORMAT parquet{options})")

    return write


def of_polars(**options: Any) -> Write:
    return lambda path: pl.from_arrow(TABLE).write_parquet(path, **options)  # type: ignore[union-attr]


def of_pandas(path: Path) -> None:
    TABLE.to_pandas().set_index("flag").to_parquet(path)


MOMENT = datetime.datetime(2026, 11, 27, 1, 2, 3)
WRITERS: dict[str, Write] = {
    **{
        f"codec {codec}": arrow(compression=codec)
        for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4")
    },
    **{
        f"version {v} pages {p}": arrow(version=v, data_page_version=p)
        for v in ("1.0", "2.4", "2.6")
        for p in ("1.0", "2.0")
    },
    **{
        f"{encoding} {page}": encoded(page, text=encoding, copy=encoding)
        for encoding in ("PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY")
        for page in ("1.0", "2.0")
    },
    "DELTA_BINARY_PACKED": encoded("1.0", id="DELTA_BINARY_PACKED"),
    "BYTE_STREAM_SPLIT": encoded("1.0", id="BYTE_STREAM_SPLIT"),
    "RLE booleans": encoded("2.0", flag="RLE"),
    "many small pages": arrow(data_page_size=64, write_batch_size=7),
    "a dictionary that is given up": arrow(dictionary_pagesize_limit=200, write_batch_size=10),
    "many row groups": arrow(row_group_size=11),
    "empty row groups": with_empty_row_groups,
    "no statistics": arrow(write_statistics=False),
    "indexes, checksums and a bloom filter": arrow(write_page_index=True, write_page_checksum=True),
    "no Arrow schema": arrow(store_schema=False),
    "a large binary": text_as(pa.large_binary()),
    "a view": text_as(pa.string_view()),
    "a binary view": text_as(pa.binary_view()),
    "a dictionary": text_as(pa.dictionary(pa.int32(), pa.string())),
    "numbers": beside(
        half=pa.array(np.arange(ROWS, dtype=np.float16)),
        unsigned=pa.array([2**64 - 1] * ROWS, pa.uint64()),
        small=pa.array([decimal.Decimal("1.5")] * ROWS, pa.decimal128(9, 2)),
        large=pa.array([decimal.Decimal("1.5")] * ROWS, pa.decimal256(70, 2)),
        nothing=pa.nulls(ROWS),
    ),
    "times": beside(
        day=pa.array([MOMENT.date()] * ROWS),
        time=pa.array([MOMENT.time()] * ROWS),
        span=pa.array([datetime.timedelta(1)] * ROWS),
        zoned=pa.array([MOMENT] * ROWS, pa.timestamp("ns", "Asia/Shanghai")),
    ),
    "INT96": lambda path: pq.write_table(
        TABLE.append_column("at", pa.array([MOMENT] * ROWS)),
        path,
        use_deprecated_int96_timestamps=True,
    ),
    "nested": beside(
        structs=pa.array([[{"a": 1, "b": {"c": ["x"]}}, None]] * ROWS),
        map=pa.array([[("k", 1)]] * ROWS, pa.map_(pa.string(), pa.int64())),
        fixed=pa.array([[1.0, 2.0]] * ROWS, pa.list_(pa.float32(), 2)),
    ),
    "extensions": beside(
        key=pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * ROWS, pa.binary(16))),
        said=pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}'] * ROWS)),
    ),
    **{
        f"DuckDB {codec}": of_duckdb(f", CODEC {codec}")
        for codec in ("uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4_raw")
    },
    "DuckDB version 2": of_duckdb(", PARQUET_VERSION v2"),
    "DuckDB small row groups": of_duckdb(", ROW_GROUP_SIZE 100"),
    "DuckDB variant": of_duckdb("", ", {'a': id, 'b': [text]}::VARIANT AS anything"),
    "DuckDB numbers": of_duckdb("", ", id::HUGEINT AS huge, uuid() AS u, INTERVAL 1 DAY AS span"),
    **{
        f"Polars {codec}": of_polars(compression=codec)
        for codec in ("uncompressed", "snappy", "gzip", "brotli", "zstd", "lz4")
    },
    "Polars pages": of_polars(data_page_size=100, row_group_size=50, statistics="full"),
    "pandas with an index": of_pandas,
}


def test_rows_are_the_same_whoever_wrote_them(tmp_path: Path, bundle: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, write in WRITERS.items():
        write(folder / f"{name}.parquet")
    flags = ("label", "--input", folder, "--output", out, "--model", bundle, "--text", "text")
    run = glossator(*flags, "--key", "id", "--key", "copy", "--tasks", "sentiment")
    assert run.returncode == 0, run.stderr
    nulls = TEXTS.count(None)
    count = len(WRITERS)
    assert f"{count * ROWS:,} rows read = {count * (ROWS - nulls):,} labelled" in run.stdout
    found = duckdb.execute(
        "SELECT source_file, list(id ORDER BY id), list(copy ORDER BY id),"
        " list(sentiment.confidence ORDER BY id) FROM read_parquet(?) GROUP BY ALL",
        [str(current(out) / "part-*.parquet")],
    ).fetchall()
    assert {Path(row[0]).stem for row in found} == set(WRITERS)
    ids = [i for i, text in enumerate(TEXTS) if text is not None]
    for name, these, copies, confidences in found:
        assert these == ids, name
        assert copies == [text for text in TEXTS if text is not None], name
        assert confidences == found[0][3], name  # the same text was read
