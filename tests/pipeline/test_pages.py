"""Page headers against what PyArrow says of the same files, and what follows for batches."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.pipeline.inputs.bounds import Column, Leaf, Meter, SmallerBatches, TooLarge
from glossator.pipeline.inputs.pages import Chunk, Page, count_rows, longest_value

CODECS = ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]
Found = list[tuple[Page, memoryview]]


def pages_of(
    path: Path, column: int = 0, step: int = 1 << 20
) -> tuple[Found, pq.ColumnChunkMetaData]:
    """The pages of a column of the first row group, with their content; fed in steps."""
    chunk = pq.read_metadata(path).row_group(0).column(column)
    start = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
    content = path.read_bytes()[start : start + chunk.total_compressed_size]
    reader, found = Chunk(chunk.num_values), []
    for at in range(0, len(content), step):
        for page, body in reader.feed(content[at : at + step]):
            if body is None:
                reader.want()
            else:
                found.append((page, memoryview(bytes(body))))
    return found, chunk


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_pages_add_up_to_what_the_footer_says(
    tmp_path: Path, codec: str, version: str, dictionary: bool
) -> None:
    texts = [None if i % 7 == 0 else f"comment {i % 500} " + "x" * (i % 90) for i in range(5000)]
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": texts}),
        path,
        compression=codec,
        data_page_version=version,
        use_dictionary=dictionary,
        data_page_size=4096,
        write_page_checksum=True,
    )
    for step in (1 << 20, 1000, 17):
        found, chunk = pages_of(path, step=step)
        data = [page for page, _ in found if not page.is_dictionary]
        assert sum(page.values for page in data) == chunk.num_values == 5000
        assert len(data) > 1 and len(found) - len(data) == dictionary
        headers = chunk.total_compressed_size - sum(page.stored for page, _ in found)
        assert sum(page.size for page, _ in found) + headers == chunk.total_uncompressed_size
    longest = max(
        longest_value(page, content, chunk.compression, nullable=True) or 0
        for page, content in found
        if page.is_dictionary or not dictionary
    )
    assert longest == max(len(text) for text in texts if text)


@given(st.lists(st.lists(st.none() | st.integers(0, 9), max_size=9) | st.none(), min_size=1))
def test_rows_of_lists_are_counted(tmp_path_factory: pytest.TempPathFactory, lists: list) -> None:  # type: ignore[type-arg]
    path = tmp_path_factory.mktemp("lists") / "a.parquet"
    for version in ("1.0", "2.0"):
        table = pa.table({"tags": pa.array(lists, pa.list_(pa.int64()))})
        pq.write_table(table, path, data_page_version=version, use_dictionary=False)
        found, chunk = pages_of(path)
        rows = sum(count_rows(page, content, chunk.compression, 1) for page, content in found)
        assert rows == len(lists)


def test_a_header_that_is_none_is_said() -> None:
    with pytest.raises(pa.ArrowInvalid, match="not the header of a page"):
        list(Chunk(1).feed(bytes(100)))
    with pytest.raises(pa.ArrowInvalid, match="not the header of a page"):
        list(Chunk(1).feed(b"\xff" * 100))


TEXT = Leaf(0, "text", is_bytes=True, repetition=0, nullable=True, width=16)


def measured(path: Path, rows: int) -> int:
    """The rows of a batch that a file's first column allows."""
    meter = Meter(rows)
    column = meter.column(0, TEXT)
    chunk = pq.read_metadata(path).row_group(0).column(0)
    start = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
    data = path.read_bytes()[start : start + chunk.total_compressed_size]
    column.see(Chunk(chunk.num_values), data, chunk.compression, lambda: None)
    return meter.fitting_rows()


@pytest.mark.parametrize("size", [100, 10_000, 100_000, 1_000_000, 3_000_000])
@pytest.mark.parametrize("dictionary", [True, False])
def test_batches_are_as_small_as_texts_are_large(
    tmp_path: Path, size: int, dictionary: bool
) -> None:
    texts = pa.array([f"{i} ".ljust(size) for i in range(20)])
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": texts}),
        path,
        compression="zstd",
        use_dictionary=dictionary,
        dictionary_pagesize_limit=1 << 30,
        write_batch_size=1,
        data_page_size=1,
    )
    rows = measured(path, 1024)
    most, there = 8 << 20, 1024 if dictionary else 20  # any row may have any of a dictionary
    assert rows == 1 or min(rows, there) * size <= most
    assert rows == 1024 or rows * 2 * (size + 40) > most


def test_text_that_no_batch_can_hold_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["x" * (150 << 20)]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    with pytest.raises(TooLarge, match=r"column 'text' takes 3\d\d,.* write the file anew with sm"):
        measured(path, 1024)


def test_smaller_batches_are_asked_for_as_pages_come() -> None:
    meter = Meter(1024)
    column: Column = meter.column(0, TEXT)
    column._push(100, 7 << 20)
    meter.check()
    column._push(100, 7 << 20)
    with pytest.raises(SmallerBatches) as caught:
        meter.check()
    assert caught.value.rows == 1
