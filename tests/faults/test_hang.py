"""A local job that can't go on ends: within its deadlines where it hangs, else at once."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_comments import make_comments, write_comments

from glossator.pipeline import job, running
from glossator.pipeline.engines.progress import Silent
from glossator.pipeline.errors import JobError
from glossator.pipeline.labelling import LoadedModels
from glossator.pipeline.options import LabelOptions, beam_options

Shell = Callable[..., "subprocess.CompletedProcess[str]"]

AT_ONCE_SECS = 20.0
SOON_MINUTES = 0.03


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What hangs waits for this, to be gone when the test is."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def options(tmp_path: Path, bundle: Path) -> LabelOptions:
    for i in range(4):
        write_comments(tmp_path / "in" / f"{i}.parquet", make_comments(50_000 // 4, seed=i))
    return LabelOptions(
        inputs=(str(tmp_path / "in"),),
        output=str(tmp_path / "out"),
        model=str(bundle),
        workers=2,
        stall_minutes=SOON_MINUTES,
    )


def end_of(options: LabelOptions) -> str:
    """The error that ends the job."""
    began = time.monotonic()
    with pytest.raises(JobError) as caught:
        job.run(options, beam_options([], 2), Silent())
    assert time.monotonic() - began < AT_ONCE_SECS
    said = str(caught.value)
    assert said.count("nothing was published, run it again to resume") == 1 and "\n" not in said
    assert not Path(options.output, "_SUCCESS").exists()
    return said


@pytest.mark.usefixtures("deadline")
def test_a_model_that_never_loads(
    options: LabelOptions, released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedModels, "labeller", lambda *_: released.wait())
    options = replace(options, start_minutes=SOON_MINUTES)
    assert "no worker was ready to label within 0.03 minutes" in end_of(options)


@pytest.mark.usefixtures("deadline")
def test_threads_that_never_end(
    options: LabelOptions, released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "label_split", lambda *_: released.wait())
    assert "no row was labelled for 0.03 minutes" in end_of(options)


@pytest.mark.usefixtures("deadline")
def test_threads_that_can_not_start(options: LabelOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("part-"):
            raise RuntimeError("can't start new thread")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert "can't start new thread" in end_of(options)


@pytest.mark.usefixtures("deadline")
def test_a_thread_that_dies_without_a_word(
    options: LabelOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.RunningSplit, "_work", lambda self: None)
    assert "the thread that labelled part-0000" in end_of(options)


@pytest.mark.usefixtures("deadline")
def test_memory_that_ends(options: LabelOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def label_split(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(running, "label_split", label_split)
    assert "out of memory" in end_of(options)


@pytest.mark.usefixtures("deadline")
def test_an_error_stops_what_is_under_way(
    options: LabelOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other thread stops in the midst of its split, and no other split is begun."""
    original, begun, ended = running.label_split, [], []

    def label_split(split: Any, labelling: Any, on_rows: Any) -> Any:
        begun.append(split.name)
        if len(begun) == 2:
            raise OSError("the store went away")
        try:
            return original(split, labelling, lambda rows: (time.sleep(0.05), on_rows(rows)))
        except JobError:
            ended.append(split.name)
            raise

    monkeypatch.setattr(running, "label_split", label_split)
    assert "the store went away" in end_of(options)
    deadline = time.monotonic() + AT_ONCE_SECS
    while not ended:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(begun) == 2 and ended == begun[:1]
