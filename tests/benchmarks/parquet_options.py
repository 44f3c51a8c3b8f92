"""What the parts' Parquet options cost: seconds to write and to read, and size.

    glossator label --input comments.parquet --key id --output labels
    python tests/benchmarks/parquet_options.py labels/part-00000-*.parquet

Writes the rows of a part again with each choice, to memory, in turn. Of the rounds' seconds of the
processor the median, and in brackets the spread.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from throughput import processor

from glossator.pipeline.outputs.write import parquet_options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", help="of an output")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with pq.ParquetFile(given.part) as part:
        table = part.read().combine_chunks()
        columns = [part.schema.column(i) for i in range(len(part.schema))]
    options = choices(table.schema, columns)
    took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in options}
    sizes: dict[str, int] = {}
    for _ in range(given.rounds):
        for name, chosen in options.items():
            before = time.process_time()
            written = write(table, chosen)
            took[name][0].append(time.process_time() - before)
            before = time.process_time()
            pq.read_table(pa.BufferReader(written), use_threads=False)
            took[name][1].append(time.process_time() - before)
            sizes[name] = len(written)
    print(f"{processor()}; {table.num_rows:,} rows, {given.rounds} rounds")
    print("| | write, ms | read, ms | MB |\n|---|---|---|---|")
    for name, times in took.items():
        print(f"| {name} | {' | '.join(map(shown, times))} | {sizes[name] / 1e6:.2f} |")


def choices(schema: pa.Schema, columns: list[Any]) -> dict[str, dict[str, Any]]:
    """Options by name: those of the job, and those with something else."""
    ours = parquet_options(schema)
    leaves = [column.path for column in columns]
    floats = [column.path for column in columns if column.physical_type == "FLOAT"]
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    rest = [path for path in leaves if path not in floats]
    split = dict.fromkeys(floats, "BYTE_STREAM_SPLIT")
    packed = {"source_row": "DELTA_BINARY_PACKED"}
    return {
        "the job's": ours,
        "a dictionary for every column": ours | {"use_dictionary": True},
        "for all but floats": ours | {"use_dictionary": rest},
        "for texts alone": ours | {"use_dictionary": texts},
        "for none": ours | {"use_dictionary": False},
        "floats split by bytes": ours | {"column_encoding": split},
        "and row numbers as differences": ours | {"column_encoding": split | packed},
        "zstd -1": ours | {"compression_level": -1},
        "zstd 3": ours | {"compression_level": 3},
        "zstd 6": ours | {"compression_level": 6},
        "lz4": ours | {"compression": "lz4"},
        "snappy": ours | {"compression": "snappy"},
        "pages of 128 KiB": ours | {"data_page_size": 1 << 17},
        "pages of 4 MiB": ours | {"data_page_size": 1 << 22},
        "pages of version 2": ours | {"data_page_version": "2.0"},
        "without statistics": ours | {"write_statistics": False},
    }


def write(table: pa.Table, options: dict[str, Any]) -> bytes:
    """A file of one row group, as the job writes a piece."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=table.num_rows)
    return sink.getvalue()


def shown(seconds: list[float]) -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{1000 * middle:.0f} ({1000 * low:.0f} to {1000 * high:.0f})"


if __name__ == "__main__":
    main()
