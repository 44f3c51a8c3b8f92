"""How far a run is, seen from its staging folder alone."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
from sample_comments import make_comments, write_comments

from glossator.pipeline.engines import workers
from glossator.pipeline.engines.progress import Progress, Silent, Snapshot, describe, reporting
from glossator.pipeline.engines.workers import Heartbeat, first_ready, ready_workers
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.outputs.staging import PLAN, RECORDS


@pytest.mark.parametrize(
    ("snapshot", "line"),
    [
        (Snapshot(0, 9000, 0, None), "0 of 9,000 rows (0%), no worker is ready yet"),
        (Snapshot(0, 9000, 1, None), "0 of 9,000 rows (0%)"),
        (Snapshot(1200, 9000, 2, 390.0), "1,200 of 9,000 rows (13%), 390 rows/s, 20 s left"),
        (Snapshot(0, 7200, 1, 1.0), "0 of 7,200 rows (0%), 1 rows/s, 2 h 0 min left"),
        (Snapshot(10, 100, 1, 1.0), "10 of 100 rows (10%), 1 rows/s, 1 min 30 s left"),
        (Snapshot(0, 0, 1, None), "0 of 0 rows (100%)"),
    ],
)
def test_a_snapshot_in_words(snapshot: Snapshot, line: str) -> None:
    assert describe(snapshot) == line


@pytest.fixture
def followed(tmp_path: Path) -> tuple[Progress, list[str]]:
    """The progress of a run of three splits of 40 rows, and their names."""
    for i in range(3):
        write_comments(tmp_path / "in" / f"{i}.parquet", make_comments(40, seed=i))
    plan = make_plan([str(tmp_path / "in")], text=None, keys=[], identity="x", rows_per_split=40)
    assert len(plan.splits) == 3
    # what a killed worker left of an earlier attempt does not count
    left = Heartbeat(str(tmp_path), {})
    left.advance(plan.splits[0].name, 17)
    left.start()
    left.stop()
    Path(tmp_path, RECORDS).mkdir()
    Path(tmp_path, PLAN).touch()  # it is not published yet
    return Progress(str(tmp_path), plan.splits), [split.name for split in plan.splits]


def wait_until(progress: Progress, rows: int) -> None:
    end = time.monotonic() + 20
    while progress.look() is None or progress.snapshot.rows != rows:
        assert time.monotonic() < end, progress.snapshot
        time.sleep(0.02)


def test_rows_of_splits_under_way_count(
    tmp_path: Path, followed: tuple[Progress, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "BEAT_SECS", 0.05)
    progress, (first, second, _) = followed
    assert progress.snapshot == Snapshot(0, 120, 0, None) and not progress.look()
    here, there = Heartbeat(str(tmp_path), {"model": "x"}), Heartbeat(str(tmp_path), {})
    here.start()
    assert progress.look() and progress.snapshot.workers == 1
    there.start()
    here.advance(first, 10)
    there.advance(second, 5)
    wait_until(progress, 15)
    here.advance(first, 30)
    wait_until(progress, 35)
    # a split that is done counts once, whatever its worker says
    (tmp_path / RECORDS / f"{first}.json").write_text("{}")
    wait_until(progress, 45)
    here.forget(first)
    here.advance(second, 3)  # another attempt at it, which is not so far
    time.sleep(0.3)
    progress.look()
    snapshot = progress.snapshot
    assert (snapshot.rows, snapshot.total, snapshot.workers) == (45, 120, 2)
    assert snapshot.rows_per_second and snapshot.seconds_left
    assert snapshot.seconds_left == pytest.approx((120 - 45) / snapshot.rows_per_second)
    silent = progress.silent_seconds
    there.advance(second, 6)
    wait_until(progress, 46)
    assert progress.silent_seconds < silent
    here.stop()
    there.stop()


def test_a_worker_says_since_when_it_is_ready(tmp_path: Path) -> None:
    started = time.time()
    beat = Heartbeat(str(tmp_path), {"model": "abc"})
    assert ready_workers(str(tmp_path)) == set() and first_ready(str(tmp_path), 0) is None
    beat.start()
    beat.stop()
    (name,) = ready_workers(str(tmp_path))
    said = json.loads((tmp_path / "_workers" / name).read_text())
    assert said["model"] == "abc" and said["rows"] == {}
    ready = first_ready(str(tmp_path), started)
    assert ready is not None and started <= ready <= time.time()
    assert first_ready(str(tmp_path), time.time() + 1) is None


def test_a_reporter_hears_at_least_every_two_seconds(
    followed: tuple[Progress, list[str]],
) -> None:
    class Watch(Silent):
        def __init__(self) -> None:
            self.heard: list[float] = [time.monotonic()]

        def progress(self, snapshot: Snapshot) -> None:
            self.heard.append(time.monotonic())

    watch = Watch()
    with reporting(followed[0], watch):
        time.sleep(4.5)
    gaps = [after - before for before, after in pairwise(watch.heard)]
    assert len(gaps) >= 3 and max(gaps) < 2
