from __future__ import annotations

import io
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.pipeline.errors import CorruptRange, SourceChangedError, StoreError
from glossator.pipeline.inputs.check import check
from glossator.pipeline.inputs.plan import Plan, make_plan
from glossator.pipeline.inputs.read import Piece, Span, Unread, read


def plan(path: Path, *keys: str, text: str = "text", rows_per_split: int = 50_000) -> Plan:
    return make_plan([str(path)], text=text, keys=keys, identity="m", rows_per_split=rows_per_split)


def pieces(plan: Plan, **limits: int) -> list[list[Piece]]:
    """The pieces of each split, all of whose ranges can be read."""
    found = [list(read(split, plan.columns, **limits)) for split in plan.splits]
    return [[piece for piece in its if isinstance(piece, Piece)] for its in found]


def unread(plan: Plan) -> tuple[str, str]:
    """Reason and detail of the one range of the one split, none of which is read."""
    (found,) = read(plan.splits[0], plan.columns)
    assert isinstance(found, Unread) and found.range_ == plan.splits[0].ranges[0]
    return found.reason, found.detail


def invalid_strings(values: list[bytes | None]) -> pa.Array:
    """A string column as Parquet readers give it: nobody has validated it."""
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), raw.null_count)


@given(
    st.lists(st.text(max_size=8) | st.none(), max_size=200),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(1, 40),
)
@settings(max_examples=40, deadline=None)
def test_pieces_are_the_file(
    texts: list[str | None], row_group: int, split_rows: int, max_rows: int, max_bytes: int
) -> None:
    table = pa.table({"n": range(len(texts)), "text": pa.array(texts, pa.string()), "x": texts})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.parquet")
        pq.write_table(table, path, row_group_size=row_group)
        planned = plan(path, "n", rows_per_split=split_rows)
        with patch("glossator.pipeline.inputs.decode.MAX_BATCH_ROWS", 7):
            read_back = pieces(planned, max_rows=max_rows, max_bytes=max_bytes)
    assert [t for split in read_back for p in split for t in p.text.to_pylist()] == texts
    rows = [n for split in read_back for p in split for n in p.keys["n"].to_pylist()]
    assert rows == list(range(len(texts)))
    for (range_,), its in zip([split.ranges for split in planned.splits], read_back, strict=True):
        row = range_.start
        for piece in its:
            assert piece.spans == (Span(range_, row, len(piece.text)),)
            row += len(piece.text)
            # of an int64 and the text
            sizes = [8 + len((text or "").encode()) for text in piece.text.to_pylist()]
            # full with its last row and not before, but for the last of the split
            full = [
                n for n in range(1, len(sizes) + 1) if n == max_rows or sum(sizes[:n]) >= max_bytes
            ]
            assert full == [len(sizes)] or (row == range_.stop and not full)
        assert row == range_.stop


def test_cuts_inside_a_large_row_group(tmp_path: Path) -> None:
    texts = [None if i % 7 == 0 else f"comment {i}" * (i % 5) for i in range(12_345)]
    table = pa.table({"text": texts, "id": range(12_345)})
    pq.write_table(table, tmp_path / "a.parquet", data_page_size=4096)
    planned = plan(tmp_path / "a.parquet", "id", rows_per_split=1_000)
    assert len(planned.splits) == 12
    read_back = [piece for split in pieces(planned) for piece in split]
    assert pa.chunked_array([p.text for p in read_back]).to_pylist() == texts
    assert pa.concat_tables([p.keys for p in read_back])["id"].to_pylist() == list(range(12_345))


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.binary()),
    ],
    ids=str,
)
def test_text_and_keys_of_every_type(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ["a", None, "你好", "a"] * 700
    strings = pa.array(texts)
    if pa.types.is_dictionary(kind):
        column = strings.cast(kind.value_type).dictionary_encode().cast(kind)
    else:
        column = strings.cast(kind)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"who": column, "text": column}), path, row_group_size=1000)
    planned = plan(path, "who", "text", rows_per_split=10_000)
    ((piece,),) = pieces(planned)
    assert piece.text.type == pa.large_string()
    assert piece.text.to_pylist() == texts
    assert piece.keys.schema == planned.columns.keys
    assert piece.keys["text"].cast(pa.large_string()).to_pylist() == texts
    assert piece.keys["who"].equals(piece.keys["text"])


def test_without_keys(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a.parquet")
    ((piece,),) = pieces(plan(tmp_path / "a.parquet"))
    assert (piece.keys.num_columns, len(piece.text)) == (0, 2)


def test_column_whose_name_begins_another(tmp_path: Path) -> None:
    table = pa.table({"text.raw": ["x"], "text": ["a"], "id.old": [1], "id": [2]})
    pq.write_table(table, tmp_path / "a.parquet")
    ((piece,),) = pieces(plan(tmp_path / "a.parquet", "id"))
    assert (piece.text.to_pylist(), piece.keys.to_pylist()) == (["a"], [{"id": 2}])


def test_key_that_is_not_utf8_is_named_and_not_changed(tmp_path: Path) -> None:
    who = invalid_strings([b"ann", None, b"b\xffb"])
    pq.write_table(pa.table({"text": ["a", "b", "c"], "who": who}), tmp_path / "a.parquet")
    ((piece,),) = pieces(plan(tmp_path / "a.parquet", "who"))
    assert piece.keys["who"].to_pylist() == ["ann", None, None]
    assert piece.reason.to_pylist() == [None, None, "key"]
    assert piece.detail.to_pylist() == [None, None, r"who: b'b\xffb' is not UTF-8"]


def expected_reason(value: bytes | None) -> str | None:
    if value is None:
        return "null"
    try:
        return "empty" if not value.decode().strip() else None
    except UnicodeDecodeError:
        return "undecodable"


SPACES = st.text(st.sampled_from(" \t\n\u3000\u00a0\u2028\x1c\u200b"), max_size=3)


@given(st.lists(st.none() | st.binary(max_size=5) | (SPACES | st.text()).map(str.encode)))
@settings(deadline=None)
def test_check_finds_exactly_the_rows_without_text(values: list[bytes | None]) -> None:
    raw = pa.array(values, pa.binary())
    for column in (raw, invalid_strings(values), raw.dictionary_encode()):
        checked = check(column)
        assert checked.reason.to_pylist() == [expected_reason(value) for value in values]
        assert pc.equal(checked.reason.fill_null(""), "undecodable").equals(
            checked.detail.is_valid()
        )


def test_detail_of_undecodable_text() -> None:
    assert check(pa.array([b"ok", b"caf\xe9!"])).detail.to_pylist() == [
        None,
        "byte 0xe9 at offset 3: invalid continuation byte",
    ]


def test_undecodable_text_in_a_file(tmp_path: Path) -> None:
    values = [b"fine", b"\xff", None, b" "] * 3
    pq.write_table(pa.table({"text": invalid_strings(values)}), tmp_path / "a.parquet")
    read_back = pieces(plan(tmp_path / "a.parquet"), max_rows=5)[0]
    reasons = [r for piece in read_back for r in piece.reason.to_pylist()]
    assert reasons == [expected_reason(value) for value in values]


@pytest.fixture
def damaged(tmp_path: Path) -> Plan:
    """Four row groups, in the third of which the content of the last page is overwritten."""
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"comment number {i * 7919}" for i in range(8000)]})
    pq.write_table(table, path, row_group_size=2000, data_page_size=2048, use_dictionary=False)
    planned = plan(path, rows_per_split=2000)
    column = pq.read_metadata(path).row_group(2).column(0)
    content = bytearray(path.read_bytes())
    late = column.data_page_offset + column.total_compressed_size * 3 // 4
    content[late : late + 30] = b"\xa5" * 30
    path.write_bytes(content)
    return planned


def test_corrupt_page_condemns_its_split_alone(
    damaged: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glossator.pipeline.inputs.decode.MAX_BATCH_ROWS", 100)
    for i, split in enumerate(damaged.splits):
        if i != 2:
            assert sum(len(p.text) for p in read(split, damaged.columns)) == 2000
    with pytest.raises(CorruptRange, match=r"a\.parquet: rows 4000 to 6000 cannot be dec") as info:
        list(read(damaged.splits[2], damaged.columns, max_rows=100))
    assert str(pickle.loads(pickle.dumps(info.value))) == str(info.value)
    given_up = {info.value.range_: Unread(info.value.range_, "corrupt", info.value.detail)}
    again = list(read(damaged.splits[2], damaged.columns, max_rows=100, given_up=given_up))
    assert again == list(given_up.values())


def test_flipped_bit_is_found_by_the_page_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"comment {i}" for i in range(100)]})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    planned = plan(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"comment 50", b"comment 5O"))
    reason, detail = unread(planned)
    assert reason == "corrupt" and "CRC" in detail


def flaky(monkeypatch: pytest.MonkeyPatch, fault: Any, times: int, streamed: bool) -> None:
    """Let the first reads of data (not of a footer) from memory:// come through `fault`."""
    left = [times]
    cat_file = MemoryFileSystem.cat_file

    def spoilt(data: bytes) -> bytes:
        if left[0]:
            left[0] -= 1
            return fault(data)
        return data

    def cat(self: Any, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        data: bytes = cat_file(self, path, start, end, **more)
        footer = int.from_bytes(data[-8:-4], "little") + 8
        return data if streamed else spoilt(data[:-footer]) + data[-footer:]

    class Flaky(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            return spoilt(super().read(count))

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat)
    monkeypatch.setattr(
        MemoryFileSystem, "open", lambda self, path, *_, **__: Flaky(cat_file(self, path))
    )


@pytest.fixture(params=["fetched at once", "streamed"])
def remote(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Plan, bool]]:
    """A plan of a small file in memory://, and whether it is read as a large one."""
    streamed = request.param == "streamed"
    monkeypatch.setattr("glossator.pipeline.inputs.decode.SMALL_BYTES", 0 if streamed else 1 << 20)
    memory = fsspec.filesystem("memory")
    with memory.open("/read/a.parquet", "wb") as file:
        pq.write_table(pa.table({"text": ["one", "two"] * 50}), file, store_schema=False)
    yield make_plan(["memory://read/a.parquet"], text=None, keys=(), identity="m"), streamed
    memory.rm("/read", recursive=True)


def fail(_: bytes) -> bytes:
    raise ConnectionError("the store went away")


def shorten(data: bytes) -> bytes:
    return data[: len(data) // 2]


def spoil(data: bytes) -> bytes:
    return b"\xa5" * len(data)


@pytest.mark.parametrize(
    ("fault", "times", "message"),
    [
        (fail, 1, "the store went away"),
        (fail, 1000, "the store went away"),
        (shorten, 1, "the store gave"),
        (shorten, 1000, "the store gave"),
        (spoil, 1, "whole ones at a second try"),
    ],
)
def test_failing_store_is_not_corruption(
    remote: tuple[Plan, bool],
    monkeypatch: pytest.MonkeyPatch,
    fault: Any,
    times: int,
    message: str,
) -> None:
    planned, streamed = remote
    flaky(monkeypatch, fault, times, streamed)
    with pytest.raises(StoreError, match=f"memory:///read/a.parquet: .*{message}"):
        list(read(planned.splits[0], planned.columns))


def test_lasting_damage_in_the_store_is_corruption(
    remote: tuple[Plan, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counterpart of the test above: the same injection, told apart by the second attempt."""
    planned, streamed = remote
    flaky(monkeypatch, spoil, 1000, streamed)
    assert unread(planned)[0] == "corrupt"


def test_replaced_file_is_not_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["one", "two"] * 50}), tmp_path / "a.parquet")
    planned = plan(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["three"]}), tmp_path / "a.parquet")
    with pytest.raises(SourceChangedError, match="replaced after this run was planned"):
        list(read(planned.splits[0], planned.columns))
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(StoreError, match=r"a\.parquet: .*No such file"):
        list(read(planned.splits[0], planned.columns))


def test_files_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glossator.pipeline.inputs.decode.SMALL_BYTES", 0)
    pq.write_table(pa.table({"text": ["one", "two"] * 10_000}), tmp_path / "a.parquet")
    planned = plan(tmp_path / "a.parquet")

    def opened() -> int:
        found = 0
        for link in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # that of the listing itself
                found += "a.parquet" in str(link.readlink())
        return found

    pieces = read(planned.splits[0], planned.columns, max_rows=1)
    next(pieces)
    assert opened() == 1
    pieces.close()
    list(read(planned.splits[0], planned.columns))
    assert opened() == 0


def test_pages_that_hold_a_whole_row_group_are_read(tmp_path: Path) -> None:
    """DuckDB writes a row group's texts as one page of up to 100 MB."""
    path = tmp_path / "a.parquet"
    query = "SELECT i AS id, repeat(md5(i::VARCHAR), 20) AS text FROM range(122880) t(i)"
    duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    assert pq.read_metadata(path).row_group(0).column(1).total_uncompressed_size > 75 << 20
    planned = plan(path, "id")
    read_back = [piece for split in pieces(planned) for piece in split]
    assert [n for p in read_back for n in p.keys["id"].to_pylist()] == list(range(122_880))
    assert {len(text) for p in read_back for text in p.text.to_pylist()} == {640}
