"""Footers of small files: what is read of many at once is what Arrow reads of each."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sample_comments import make_comments

from glossator.pipeline.inputs import plan as planning
from glossator.pipeline.inputs.discover import discover
from glossator.pipeline.inputs.native import footers
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.inputs.ranges import Range, Split
from glossator.pipeline.inputs.read import Piece, read

needs_library = pytest.mark.skipif(not footers.available(), reason="no compiler")
FILES = 6


def test_where_there_is_a_compiler_the_library_was_built() -> None:
    assert footers.available() or not shutil.which("cc")


def footer_of(content: bytes) -> bytes:
    return content[-(int.from_bytes(content[-8:-4], "little") + 8) :]


def table(number: int, rows: int = 3) -> pa.Table:
    texts: list[str | None] = [*make_comments(rows, seed=number)]
    texts[number % rows] = None if number % 2 else "好" * (number + 1)
    return pa.table(
        {
            "id": pa.array(range(number, number + rows), pa.int64()),
            "text": texts,
            "score": pa.array([number / 7] * rows),
            "tags": pa.array([["a", "b"][: number % 3]] * rows, pa.list_(pa.string())),
        }
    )


def by_arrow(**options: Any) -> Callable[[pa.Table, Path], None]:
    return lambda rows, path: pq.write_table(rows, path, **options)


def by_duckdb(rows: pa.Table, path: Path) -> None:
    duckdb.from_arrow(rows).write_parquet(str(path))


def by_polars(rows: pa.Table, path: Path) -> None:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    frame.write_parquet(path, compression="snappy")


WRITERS = {
    "arrow": by_arrow(),
    "arrow, plain": by_arrow(use_dictionary=False, compression="none"),
    "arrow, pages of version 2": by_arrow(data_page_version="2.0"),
    "arrow, with checksums": by_arrow(write_page_checksum=True),
    "arrow, an index": by_arrow(write_page_index=True),
    "arrow, row groups": by_arrow(row_group_size=2),
    "arrow, an old version": by_arrow(version="1.0", store_schema=False),
    "arrow, gzip": by_arrow(compression="gzip"),
    "duckdb": by_duckdb,
    "polars": by_polars,
}
JOINED = WRITERS.keys() - {"arrow, gzip"}


def written(writer: str, path: Path) -> list[bytes]:
    """Files of three and of four rows, in turn."""
    contents = []
    for i in range(FILES):
        WRITERS[writer](table(i, 3 + i % 2), path)
        contents.append(path.read_bytes())
    return contents


@pytest.mark.parametrize("writer", WRITERS)
@needs_library
def test_footers_say_what_arrow_reads_in_them(writer: str, tmp_path: Path) -> None:
    contents = written(writer, tmp_path / "x.parquet")
    found = footers.read_footers([footer_of(content) for content in contents])
    for content, footer in zip(contents, found, strict=True):
        metadata = pq.read_metadata(pa.BufferReader(content))
        if footer is None:
            assert writer not in JOINED
            continue
        groups = range(metadata.num_row_groups)
        assert footer.group_rows == tuple(metadata.row_group(i).num_rows for i in groups)
        assert footer.columns == metadata.num_columns
    assert len({footer.shared for footer in found if footer}) <= 1


@pytest.mark.parametrize("writer", WRITERS)
@needs_library
def test_files_as_one_have_the_rows_of_all(writer: str, tmp_path: Path) -> None:
    contents = written(writer, tmp_path / "x.parquet")
    schema = pq.read_metadata(pa.BufferReader(contents[0])).schema
    names = [schema.column(i).name for i in range(len(schema))]
    leaves = footers.leaves_of(schema, {names.index("id"), names.index("text")})
    one = footers.as_one_file(contents, [len(footer_of(c)) for c in contents], leaves)
    assert (one is not None) == (writer in JOINED)
    if one is not None:
        found = pq.read_table(
            pa.BufferReader(one), columns=["id", "text"], page_checksum_verification=True
        )
        each = [pq.read_table(pa.BufferReader(c), columns=["id", "text"]) for c in contents]
        assert found.combine_chunks() == pa.concat_tables(each).combine_chunks()
    assert footers.as_one_file(contents, [10**6] * FILES, leaves) is None
    assert footers.as_one_file([], [], leaves) is None


def read_all(folder: Path, plans: bool) -> Any:
    """Everything that is read of the files of a folder as one split; or how they are planned."""
    if plans:
        try:
            return make_plan([str(folder)], text="text", keys=("id",), identity="m")
        except Exception as error:  # which, is compared
            return type(error).__name__, str(error)
    planned = make_plan([str(folder)], text="text", keys=("id",), identity="m")
    ranges = tuple(range_ for split in planned.splits for range_ in split.ranges)
    return rows_of(Split(0, "part", ranges), planned.columns)


def rows_of(split: Split, columns: Any) -> list[Any]:
    found: list[Any] = []
    for item in read(split, columns):
        if isinstance(item, Piece):
            spans = [(span.range_.source, span.first_row, span.rows) for span in item.spans]
            columns_of = (item.text, item.reason, item.detail, *item.keys.columns)
            found.append((spans, [column.to_pylist() for column in columns_of]))
        else:
            found.append((item.range_.source, item.reason, item.detail))
    return found


@pytest.mark.parametrize("writer", WRITERS)
@needs_library
def test_with_and_without_the_library_the_same_is_read(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(FILES):
        WRITERS[writer](table(i), tmp_path / f"{i}.parquet")
    by_arrow()(table(9).drop_columns(["score"]), tmp_path / "3a.parquet")
    by_arrow()(table(9).slice(0, 0), tmp_path / "3b.parquet")
    by_arrow()(table(9).drop_columns(["text"]), tmp_path / "4a.parquet")
    (tmp_path / "4b.parquet").write_bytes((tmp_path / "4.parquet").read_bytes()[:-9])
    found = read_all(tmp_path, False), read_all(tmp_path, True)
    monkeypatch.setattr(footers, "_loaded", lambda: None)
    assert found == (read_all(tmp_path, False), read_all(tmp_path, True))


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The same with a few bits flipped: in the footer, or anywhere."""
    changed = bytearray(content)
    first = len(content) - len(footer_of(content)) if chance.random() < 0.7 else 0
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        changed[chance.randrange(first, len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("writer", sorted(JOINED))
@needs_library
def test_of_damaged_files_the_same_is_read(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is damaged in one or two of some files, all rows are as without the library."""
    rounds = 40
    whole = tmp_path / "whole"
    whole.mkdir()
    for i in range(FILES):
        WRITERS[writer](table(i), whole / f"{i}.parquet")
    found = {}
    for library in (True, False):
        if not library:
            monkeypatch.setattr(footers, "_loaded", lambda: None)
        state = random.Random(writer)
        for number in range(rounds):
            folder = tmp_path / "in"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            for i in state.sample(range(FILES), state.choice((1, 2))):
                path = folder / f"{i}.parquet"
                path.write_bytes(damaged(path.read_bytes(), state))
            said = read_all(folder, True)
            if not isinstance(said, tuple):
                said = (said.splits, [source.error for source in said.sources])
                said = (*said, read_all(folder, False))
            if library:
                found[number] = said
            else:
                assert said == found[number], number
    assert len(found) == rounds


@needs_library
def test_rows_of_one_file_never_stand_in_for_those_of_another(tmp_path: Path) -> None:
    """A page that says it has one value less, beside one that has one more: neither is joined."""
    write = by_arrow(use_dictionary=False, compression="none", store_schema=False)
    contents = []
    for i in range(2):
        rows = pa.table({"text": pa.array(["some", "words", "here"]).slice(0, 2 + i)})
        write(rows, tmp_path / "x.parquet")
        contents.append((tmp_path / "x.parquet").read_bytes())
    leaves = footers.leaves_of(pq.read_metadata(pa.BufferReader(contents[0])).schema, {0})
    sizes = [len(footer_of(content)) for content in contents]
    assert footers.as_one_file(contents, sizes, leaves) is not None
    for number, content in enumerate(contents):
        rows = 2 + number
        mark = bytes([0x2C, 0x15, 2 * rows])  # a data page's header, and how many values it has
        assert content.count(mark) == 1
        for other in (rows - 1, rows + 1):
            changed = list(contents)
            changed[number] = content.replace(mark, bytes([0x2C, 0x15, 2 * other]))
            assert footers.as_one_file(changed, sizes, leaves) is None


@needs_library
def test_hundreds_of_files_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(200):
        by_arrow()(table(i % 5), tmp_path / f"{i:03d}.parquet")
    parsed = []
    parse = planning.parse_footer
    monkeypatch.setattr(planning, "parse_footer", lambda footer: parsed.append(1) or parse(footer))
    files = planning._read_footers(discover([str(tmp_path)]).files)
    assert len(files) == 200 and len(parsed) == 1


def test_ranges_of_a_file_differ() -> None:
    ranges = {Range("a", 0, 5, "x"), Range("a", 5, 9, "x"), Range("b", 0, 5, "x")}
    assert len(ranges) == 3 and Range("a", 0, 5, "x") in ranges
    assert Range("a", 0, 5, "y") not in ranges


@pytest.mark.parametrize("name", [b"element", b"list", b"score"])
def test_a_name_that_is_not_utf8_within_a_list_is_a_misfit_too(tmp_path: Path, name: bytes) -> None:
    """To Arrow its schema equals those of the files beside it, whose list is called as usual."""
    for i in range(3):
        by_arrow()(table(i), tmp_path / f"{i}.parquet")
    path = tmp_path / "1.parquet"
    content = path.read_bytes()
    footer = footer_of(content)
    path.write_bytes(content[: -len(footer)] + footer.replace(name, b"\xf4" + name[1:], 1))
    (item,) = read_all(tmp_path, False)
    _, (_, reasons, details, _) = item
    assert reasons == [*[None] * 3, *["column"] * 3, *[None] * 3]
    assert "a column's name is not UTF-8" in details[3]
