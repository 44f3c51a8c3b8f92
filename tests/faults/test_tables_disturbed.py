"""A run is in a table whole or not at all: killed at each step, beside another, while one reads."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from label_tables import DAYS, IcebergAt, Nights, TableAt, killed_at
from outputs import current, manifest

from glossator.pipeline.errors import FencedError, JobError
from glossator.pipeline.outputs.manifest import Manifest
from glossator.pipeline.outputs.publish import publish, staging

pytestmark = pytest.mark.tables
FIRST, SECOND = DAYS
PUBLICATIONS = 25
PARTS = 3
SCHEMA = pa.schema([(name, pa.int64()) for name in ("source_row", "run")])
SCHEMA = SCHEMA.insert(0, pa.field("source_file", pa.string()))


def part_of(run: int, date: str, root: str) -> Manifest:
    """A run whose parts have its number in every row."""
    run_id, content = f"{run:016x}", {}
    folder = Path(staging(f"{root}/date={date}", run_id))
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(PARTS):
        name = f"part-{index:05d}-{run:012x}.parquet"
        rows = pa.table({"source_file": [name], "source_row": [0], "run": [run]}, SCHEMA)
        pq.write_table(rows, folder / name)
        content[name] = (folder / name).read_bytes()
    made = manifest(run_id, content)
    made.options["date"] = date
    return made


def put(table: TableAt, run: int, date: str = FIRST, token: int | None = None) -> Manifest:
    from glossator.pipeline.outputs.tables import runs

    made = part_of(run, date, str(table.root))
    runs.put(table.name, f"{table.root}/date={date}", made, SCHEMA, token)
    return made


@pytest.mark.parametrize(
    ("function", "after"),
    [
        ("outputs.tables.runs._mark", False),
        ("outputs.tables.runs._mark", True),
        ("outputs.tables.runs.commit", True),
        ("outputs.tables.runs._release", True),
        ("outputs.publish.pack_records", True),
        ("outputs.publish.switch", False),
        ("outputs.publish.switch", True),
    ],
)
def test_killed_at_any_step_the_next_run_finishes(
    nights: Nights, function: str, after: bool
) -> None:
    """And between, the table has the rows of one of the two."""
    first = nights.label(FIRST)
    old = nights.table.rows()
    nights.comments(FIRST, 5)
    command = [sys.executable, *killed_at(function, after=after, arguments=nights.arguments(FIRST))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == -signal.SIGKILL, run.stderr
    between = nights.table.rows()
    second = nights.label(FIRST)
    assert second != first
    assert nights.table.rows() == nights.expected(FIRST) != old
    assert nights.table.runs() == [first, second]
    assert between == (old if "_mark" in function else nights.expected(FIRST))


@pytest.mark.parametrize("before", [(), (FIRST,), (SECOND,)], ids=["new", "replaced", "added"])
def test_of_two_writers_of_a_date_one_is_told_so(
    table_at: TableAt, before: tuple[str, ...]
) -> None:
    """The other one commits after this one has looked at the table."""
    from glossator.pipeline.outputs.tables.commit import commit

    for date in before:
        put(table_at, 1, date)
    out, made = f"{table_at.root}/date={FIRST}", part_of(2, FIRST, str(table_at.root))

    def other() -> None:
        put(table_at, 3, FIRST)

    with pytest.raises(JobError, match=f"another writer has replaced its partition of {FIRST}"):
        commit(table_at.name, out, made, SCHEMA, other)
    assert {row["run"] for row in table_at.rows()} == {3, *([1] if SECOND in before else [])}
    assert table_at.runs()[len(before) :] == [f"{3:016x}"]


def test_a_table_of_weak_isolation_lets_one_of_two_in(
    iceberg_catalog: None, tmp_path: Path
) -> None:
    from glossator.pipeline.outputs.tables.commit import commit

    pytest.importorskip("pyiceberg")
    table = IcebergAt(tmp_path, f"n{uuid.uuid4().hex}.labels")
    put(table, 1, SECOND)
    with table.table().transaction() as transaction:
        transaction.set_properties({"write.delete.isolation-level": "snapshot"})
    made = part_of(2, FIRST, str(tmp_path))

    def other() -> None:
        put(table, 3, FIRST)

    with pytest.raises(JobError, match="another writer has replaced"):
        commit(table.name, f"{tmp_path}/date={FIRST}", made, SCHEMA, other)
    assert {row["run"] for row in table.rows()} == {1, 3}
    kept = table.table().metadata.properties
    assert "commit.retry.num-retries" not in kept
    assert kept["write.delete.isolation-level"] == "snapshot"


def test_two_dates_at_once_are_both_committed(table_at: TableAt) -> None:
    from glossator.pipeline.outputs.tables.commit import commit

    put(table_at, 1, FIRST)
    put(table_at, 2, SECOND)
    others = iter((3, 4))

    def meanwhile() -> None:
        if (other := next(others, None)) is not None:
            put(table_at, other, SECOND)

    made = part_of(5, FIRST, str(table_at.root))
    assert commit(table_at.name, f"{table_at.root}/date={FIRST}", made, SCHEMA, meanwhile)
    assert {row["run"] for row in table_at.rows()} == {4, 5}
    assert len(table_at.rows()) == 2 * PARTS


def test_who_lost_the_output_commits_nothing(table_at: TableAt) -> None:
    from glossator.pipeline.outputs.current import take_token

    out = f"{table_at.root}/date={FIRST}"
    mine = take_token(out)
    put(table_at, 1, token=mine)
    take_token(out)
    with pytest.raises(FencedError):
        put(table_at, 2, token=mine)
    assert {row["run"] for row in table_at.rows()} == {1}


def test_two_jobs_at_once_leave_the_rows_of_one(nights: Nights) -> None:
    """They write outputs of their own, so no lock keeps them apart."""
    words = [nights.arguments(FIRST), nights.arguments(FIRST)]
    for given, date in zip(words, DAYS, strict=True):
        given[given.index("--input") + 1] = f"{nights.inputs}/{date}"
    outs = [nights.out(FIRST) / name for name in "ab"]
    for given, out in zip(words, outs, strict=True):
        given[given.index("--output") + 1] = str(out)
    command = [sys.executable, "-c", "from glossator.pipeline.cli import main; main()"]
    started = [
        subprocess.Popen([*command, *given], stderr=subprocess.PIPE, text=True) for given in words
    ]
    ends = [(one.communicate(timeout=120)[1], one.returncode) for one in started]
    assert 0 in [code for _, code in ends]
    for error, code in ends:
        assert code == 0 or (code == 1 and "another writer has replaced" in error), error
    last = nights.table.runs()[-1]
    (winner,) = (out for out in outs if (out / "_runs" / str(last)).exists())
    rows = nights.table.rows()
    parts = [pq.read_table(part) for part in current(winner).glob("part-*")]
    assert len(rows) == sum(part.num_rows for part in parts) == 40
    for given in words:  # each again: the last one has it
        assert glossator(*given).returncode == 0
    assert len(nights.table.rows()) == 40


def test_a_reader_sees_one_publication_at_any_moment(table_at: TableAt) -> None:
    """Of whichever it is, all rows, and never fewer than those of a publication seen before."""
    out = f"{table_at.root}/date={FIRST}"

    def publications() -> None:
        for run in range(1, PUBLICATIONS):
            made = put(table_at, run)
            publish(out, made.run_id, made, keep_seconds=0)

    made = put(table_at, 0)
    publish(out, made.run_id, made, keep_seconds=0)
    seen = []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(publications)
        while True:
            last = writing.done()
            rows = table_at.rows()
            assert len(rows) == PARTS and len({row["run"] for row in rows}) == 1
            seen.append(rows[0]["run"])
            if last:
                break
        writing.result()
    assert seen == sorted(seen) and seen[-1] == PUBLICATIONS - 1
    assert len(set(seen)) > 3
