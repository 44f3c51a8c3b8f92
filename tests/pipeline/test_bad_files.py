"""Files that are not what their name says, not whole, or not as they were written: all named."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from command_lines import DEADLINE_SECS, glossator
from encrypted_parquet import write_encrypted
from labelled_outputs import rejects, rows
from sample_comments import make_comments, write_comments

ROWS = 40
TABLE = pa.table({"id": range(ROWS), "text": make_comments(ROWS)})


def truncated(share: float) -> Callable[[Path, bytes], object]:
    return lambda path, whole: path.write_bytes(whole[: int(len(whole) * share)])


def footer_that_says(length: int) -> Callable[[Path, bytes], object]:
    end = length.to_bytes(4, "little") + b"PAR1"
    return lambda path, whole: path.write_bytes(whole[:-8] + end)


UNREADABLE: dict[str, Callable[[Path, bytes], object]] = {
    "zero bytes": lambda path, _: path.touch(),
    "magic alone": lambda path, _: path.write_bytes(b"PAR1"),
    "magic twice": lambda path, _: path.write_bytes(b"PAR1PAR1"),
    "nothing but zeros": lambda path, whole: path.write_bytes(bytes(len(whole))),
    "truncated at once": truncated(0.01),
    "truncated in its pages": truncated(0.4),
    "truncated in its footer": truncated(0.9),
    "the last byte missing": lambda path, whole: path.write_bytes(whole[:-1]),
    "more behind it": lambda path, whole: path.write_bytes(whole + b"\n"),
    "a footer of no bytes": footer_that_says(0),
    "a footer longer than the file": footer_that_says(1 << 30),
    "a footer of 4 GB": footer_that_says((1 << 32) - 1),
    "gzip": lambda path, whole: path.write_bytes(gzip.compress(whole)),
    "CSV": lambda path, _: path.write_text("id,text\n1,good\n" * 50),
    "HTML": lambda path, _: path.write_text("<!doctype html><h1>503 Service Unavailable</h1>"),
    "ORC": lambda path, _: orc.write_table(TABLE, path),
    "Arrow": lambda path, _: feather.write_feather(TABLE, path),
    "an encrypted footer": lambda path, _: write_encrypted(path, TABLE),
    "all encrypted": lambda path, _: write_encrypted(path, TABLE, uniform_encryption=True),
}
CORRUPT: dict[str, Callable[[Path, bytes], object]] = {
    "an encrypted column": lambda path, _: write_encrypted(path, TABLE, plaintext_footer=True),
    "pages of zeros": lambda path, whole: path.write_bytes(with_zeros(whole)),
    "a wrong checksum": lambda path, whole: path.write_bytes(with_wrong_checksum(whole)),
}
"""Their footers can be read."""


def with_zeros(whole: bytes) -> bytes:
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    return whole[:4] + bytes(len(whole) - footer - 4) + whole[-footer:]


def with_wrong_checksum(_: bytes) -> bytes:
    """A letter of a text that is not compressed is another one."""
    sink = pa.BufferOutputStream()
    table = TABLE.set_column(1, "text", pa.array(["surely good"] * ROWS))
    pq.write_table(table, sink, compression="none", write_page_checksum=True)
    whole = sink.getvalue().to_pybytes()
    found = whole.replace(b"surely good", b"surely Good", 1)
    assert found != whole
    return found


def test_each_is_told_and_allowed_by_number(tmp_path: Path, bundle: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    whole = write_comments(folder / "good.parquet", TABLE["text"].to_pylist()).read_bytes()
    bad = {**UNREADABLE, **CORRUPT}
    for name, make in bad.items():
        make(folder / f"{name}.parquet", whole)
    flags = ("label", "--input", folder, "--output", out, "--model", bundle, "--key", "id")
    run = glossator(*flags)
    assert run.returncode == 3 and "Traceback" not in run.stderr, run.stderr
    said = f"{len(UNREADABLE)} of {1 + len(bad)} files and {ROWS * len(CORRUPT)} of"
    assert said in run.stderr.splitlines()[-1] and not (out / "_SUCCESS").exists()
    run = glossator(*flags, "--max-unreadable", len(bad), "--json")
    assert run.returncode == 0, run.stderr
    totals = json.loads(run.stdout)["totals"]
    assert totals["rows_read"] == totals["rows_labelled"] == ROWS
    assert totals["rows_unreadable"] == ROWS * len(CORRUPT)
    assert totals["rejects"] == {"corrupt": len(CORRUPT), "unreadable": len(UNREADABLE)}
    found = rejects(out)
    assert {(Path(row["source_file"]).stem, row["reason"]) for row in found} == {
        *((name, "unreadable") for name in UNREADABLE),
        *((name, "corrupt") for name in CORRUPT),
    }
    assert all(row["source_row"] is None and row["detail"] for row in found)


def test_what_is_not_encrypted_of_a_file_is_read(tmp_path: Path, bundle: Path) -> None:
    path, out = tmp_path / "a.parquet", tmp_path / "out"
    write_encrypted(
        path, TABLE.append_column("email", TABLE["text"]), ("email",), plaintext_footer=True
    )
    flags = ("label", "--input", path, "--output", out, "--model", bundle, "--text", "text")
    run = glossator(*flags)
    assert run.returncode == 0 and f"{ROWS} rows read = {ROWS} labelled" in run.stdout, run.stderr
    run = glossator(*flags, "--key", "email")
    assert run.returncode == 3, run.stderr


FLIPS = 40
"""In the pages of each writer's file; so is every other byte of its footer."""
FUZZ = """
import sys
from glossator.pipeline.errors import CorruptRange
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.inputs.read import Unread, read

def outcome(split, columns):
    given_up = {}
    while True:
        rows = []
        try:
            for piece in read(split, columns, given_up=given_up):
                if isinstance(piece, Unread):
                    return piece.reason
                rows += zip(piece.keys["id"].to_pylist(), piece.text.to_pylist())
            return rows
        except CorruptRange as error:
            given_up[error.range_] = Unread(error.range_, error.reason, error.detail)

for folder in sys.stdin.read().split():
    print(folder, file=sys.stderr, flush=True)
    plan = make_plan([folder], text="text", keys=("id", "tags"), identity="m")
    good, bad = (outcome(split, plan.columns) for split in plan.splits)
    assert len(good) == 3
    if isinstance(bad, list):
        assert len(bad) == plan.sources[1].rows
    print(bad if isinstance(bad, str) else [row for row in bad if row not in EXPECTED])
"""
WRITERS = {
    "plain": {"use_dictionary": False, "compression": "none"},
    "snappy": {"row_group_size": 50},
    "version 2": {"data_page_version": "2.0", "compression": "zstd", "use_dictionary": False},
}


@pytest.mark.parametrize("writer", WRITERS)
def test_flipped_bits_are_found_or_do_not_matter(tmp_path: Path, writer: str) -> None:
    """In a process of its own, which no file may end; what checksums cover comes out unchanged."""
    count, chance = 150, random.Random(writer)
    texts = [None if i % 13 == 0 else f"comment {i}" for i in range(count)]
    tags = [["a", str(i)] if i % 3 else None for i in range(count)]
    table = pa.table({"id": range(count), "text": texts, "tags": tags})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True, **WRITERS[writer])
    whole = sink.getvalue().to_pybytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    in_pages = [chance.randrange(4, len(whole) - footer) for _ in range(FLIPS)]
    folders = []
    for i, at in enumerate([*in_pages, *range(len(whole) - footer, len(whole), 2)]):
        folder = tmp_path / f"{i:04d}"
        folder.mkdir()
        pq.write_table(table.slice(0, 3), folder / "a.parquet")
        content = bytearray(whole)
        content[at] ^= 1 << chance.randrange(8)
        (folder / "b.parquet").write_bytes(content)
        folders.append(str(folder))
    expected = f"EXPECTED = {list(zip(range(count), texts, strict=True))!r}\n"
    child = subprocess.run(
        [sys.executable, "-c", expected + FUZZ],
        input="\n".join(folders),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECS,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    outcomes = child.stdout.splitlines()
    assert len(outcomes) == len(folders)
    assert {"corrupt", "[]"} == {*outcomes[:FLIPS]} and "unreadable" in outcomes


@pytest.mark.slow
def test_twenty_thousand_tiny_files(tmp_path: Path, bundle: Path) -> None:
    """Each is there once, a few bad ones among them too."""
    folder, count = tmp_path / "in", 20_000
    folder.mkdir()
    for i, text in enumerate(make_comments(count)):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": [i], "text": [text]}), sink)
        whole = sink.getvalue().to_pybytes()
        (folder / f"{i:05d}.parquet").write_bytes(whole[:-9] if i % 5000 == 17 else whole)
    flags = ("label", "--input", folder, "--output", tmp_path / "out", "--model", bundle)
    run = glossator(*flags, "--key", "id", "--max-unreadable", 4, "--json")
    assert run.returncode == 0, run.stderr
    totals = json.loads(run.stdout)["totals"]
    assert totals["rows_labelled"] == count - 4 and totals["files_unreadable"] == 4
    ids = [row["id"] for row in rows(tmp_path / "out")]
    assert ids == [i for i in range(count) if i % 5000 != 17]


@pytest.mark.slow
def test_a_row_group_of_five_million_rows(tmp_path: Path) -> None:
    """Its memory does not grow with it, and all rows are there in order."""
    count = 5_000_000
    ids = pa.array(range(count), pa.int64())
    texts = pa.array([f"comment {i}" for i in range(1000)])
    table = pa.table({"id": ids, "text": texts.take(pa.array([i % 1000 for i in range(count)]))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=count)
    del table, ids
    child = subprocess.run(
        [sys.executable, "-c", COUNT, tmp_path / "a.parquet"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert found["rows"] == count and found["in_order"]
    assert found["bytes"] < 300 << 20


COUNT = """
import json, sys
import pyarrow as pa
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.inputs.read import read

def memory(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))

plan, before = make_plan([sys.argv[1]], text="text", keys=["id"], identity="m"), memory("VmRSS")
rows, in_order = 0, True
for split in plan.splits:
    for piece in read(split, plan.columns):
        ids = piece.keys["id"].to_numpy()
        in_order &= bool((ids == range(rows, rows + len(ids))).all())
        rows += len(ids)
print(json.dumps({"rows": rows, "in_order": in_order, "bytes": memory("VmHWM") - before}))
"""
