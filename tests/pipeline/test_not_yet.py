"""A day that is not there yet: an exit code of its own, and looking again for a while."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from command_lines import ended, everything, glossator
from sample_comments import make_comments, write_comments

from glossator.pipeline.errors import NotYetError
from glossator.pipeline.inputs.discover import discover
from glossator.pipeline.waiting import when_there

DAY = "2026-11-21"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The day before, a day that has begun to come, and folders without Parquet."""
    write_comments(tmp_path / "in" / "2026-11-20" / "a.parquet", make_comments(3))
    (tmp_path / "bare").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.csv").write_text("a,b\n")
    (tmp_path / f"taken-{DAY}").mkdir()
    (tmp_path / f"taken-{DAY}" / "thesis.txt").write_text("mine")
    (tmp_path / "coming").mkdir()
    (tmp_path / "coming" / "a.parquet._COPYING_").write_bytes(b"PAR1")
    (tmp_path / "latest").symlink_to("in/2026-11-21/a.parquet")
    return tmp_path


def label(place: Path, bundle: Path, *flags: object) -> subprocess.CompletedProcess[str]:
    given = ("--output", place / "out" / "{date}", "--date", DAY, "--model", bundle)
    return glossator("label", *given, *flags)


@pytest.mark.parametrize(
    "name",
    [
        *("in/{date}", "in/{date}/*.parquet", "in/*/b.parquet", "in/2026-11-21/a.parquet"),
        *("bare", "other", "coming", "latest"),
        "memory://nothing/{date}/*.parquet",
    ],
)
def test_what_names_nothing_is_not_there_yet(name: str, place: Path, bundle: Path) -> None:
    before = everything(place)
    uri = name if "://" in name else place / name
    ended(label(place, bundle, "--input", uri), 4, "--input: ", "is not there" * (name == "latest"))
    assert everything(place) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--nosuch=1",), "unknown flag"),
        (("--model=nowhere",), "no model at"),
        (("--tasks=mood",), "unknown task"),
        (("--output={}/taken-{{date}}",), "did not write"),
        (("--input=nosuch://x",), "nosuch"),
        (("--input={}/out-of-ours",), "is an output of Glossator"),
        (("--direct_num_workers=x",), "invalid int value"),
        (("--runner=DataflowRunner", "--sdk_container_image=x:1"), "project"),
    ],
)
def test_what_no_waiting_mends_is_invalid_at_once(
    flags: tuple[str, ...], words: str, place: Path, bundle: Path
) -> None:
    input_ = place / "in" / "2026-11-20"
    ours = ("--input", input_, "--output", place / "out-of-ours", "--model", bundle)
    assert glossator("label", *ours).returncode == 0
    missing = ("--input", place / "in/{date}", "--wait-minutes=0.02")
    ended(label(place, bundle, *missing, *(flag.format(place) for flag in flags)), 2, words)


def test_day_that_comes_while_it_is_waited_for_is_published(place: Path, bundle: Path) -> None:
    came = place / "in" / DAY
    timer = threading.Timer(0.3, lambda: write_comments(came / "a.parquet", make_comments(5)))
    timer.start()
    run = label(place, bundle, "--input", place / "in/{date}/*.parquet", "--wait-minutes=1")
    assert run.returncode == 0, run.stderr
    assert "5 rows read = 5 labelled" in run.stdout
    assert (place / "out" / DAY / "_SUCCESS").exists()
    first, *_ = run.stderr.splitlines()
    assert first.startswith(f"not there yet: {place}/in/{DAY}/*.parquet: no Parquet file is there")
    assert first.endswith("looking again in 1 s, for 1 min 0 s at most")


def test_day_that_does_not_come_is_told_in_the_end(place: Path, bundle: Path) -> None:
    started = time.monotonic()
    run = label(place, bundle, "--input", place / "in/{date}", "--wait-minutes=0.02")
    assert time.monotonic() - started >= 1.2
    *pauses, last = run.stderr.splitlines()
    assert run.returncode == 4 and len(pauses) == 2
    assert last.startswith("glossator: --input: ") and last.endswith("(waited 1 s for it)")


def test_pauses_grow_and_end_with_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    def look() -> None:
        raise NotYetError("x: is not there", parameter="inputs")

    class Heard:
        def __call__(self, line: str) -> None:
            """Is told."""

        progress: Any = None

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(NotYetError, match=r"waited 10 min 0 s"):
        when_there(look, 10, Heard())
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 64, 120] and sum(pauses) == 600
    assert max(pauses) == 120


def test_what_is_wrong_with_one_input_is_said_before_what_is_missing(place: Path) -> None:
    with pytest.raises(NotYetError, match="bare: no Parquet"):
        discover([str(place / "bare"), str(place / "in")])
    for order in (1, -1):
        with pytest.raises(ValueError, match="nosuch") as wrong:
            discover([str(place / "bare"), "nosuch://x"][::order])
        assert not isinstance(wrong.value, NotYetError)
