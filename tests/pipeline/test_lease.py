"""One writer of an object store: the living keep others out, and the dead do not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest
from outputs import NEW, NEW_RUN, OLD, OLD_RUN, stage

from glossator.model.errors import UsageError
from glossator.pipeline.errors import FencedError, JobError
from glossator.pipeline.outputs import lease as leases
from glossator.pipeline.outputs.current import read_current
from glossator.pipeline.outputs.lease import Lease, acquire, end_left_lease, read_lease
from glossator.pipeline.outputs.lock import sole_writer
from glossator.pipeline.outputs.publish import publish, published

OUT = "memory://leased/out"


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store of its own, where a holder is taken for dead after a second."""
    monkeypatch.setattr(leases, "LEASE_SECS", 0.5)
    fs = fsspec.filesystem("memory")
    yield fs
    if fs.exists("/leased"):
        fs.rm("/leased", recursive=True)


@pytest.fixture
def said() -> list[str]:
    return []


def pause(lease: Lease) -> None:
    """As a machine that is suspended: nothing is renewed, and nothing was given back."""
    lease._stop.set()
    lease._thread.join()


def held(run_id: str, said: list[str]) -> Lease:
    """A lease, and it stands in the store."""
    lease = acquire(OUT, run_id, said.append)
    text = json.loads(fsspec.filesystem("memory").cat_file("/leased/out/_lease.json"))
    assert (text["run"], text["token"]) == (run_id, lease.token)
    return lease


def test_a_second_run_is_told_of_the_first(said: list[str]) -> None:
    with (
        sole_writer(OUT, OLD_RUN, said.append),
        pytest.raises(JobError, match=rf"run {OLD_RUN} \(process \d+ on .*\) is writing this"),
        sole_writer(OUT, NEW_RUN, said.append),
    ):
        pass
    assert any("watching for" in line for line in said)
    with sole_writer(OUT, NEW_RUN, said.append):  # which the first has given back
        pass
    assert read_lease(OUT) is None


def test_the_lease_of_a_dead_run_expires(said: list[str]) -> None:
    dead = held(OLD_RUN, said)
    pause(dead)
    lease = held(NEW_RUN, said)
    assert lease.token > dead.token
    assert f"run {OLD_RUN} " in said[-1] and said[-1].endswith("is dead: taking over")
    lease.release()


def test_a_paused_run_that_wakes_cannot_publish(said: list[str]) -> None:
    """Neither before the other has published nor after, and it leaves the other's lease alone."""
    publish(OUT, OLD_RUN, stage(OUT, OLD_RUN, OLD))
    paused = held(NEW_RUN, said)
    pause(paused)
    other = held("c" * 16, said)
    files = stage(OUT, NEW_RUN, NEW)
    with pytest.raises(FencedError, match=rf"run {NEW_RUN} was taken for dead"):
        publish(OUT, NEW_RUN, files, token=paused.token)
    now = published(OUT)
    assert now and now.run_id == OLD_RUN
    paused.release()
    found = read_lease(OUT)
    assert found and found.run == "c" * 16
    publish(OUT, "c" * 16, stage(OUT, "c" * 16, NEW), token=other.token)
    with pytest.raises(FencedError):
        publish(OUT, NEW_RUN, files, token=paused.token)
    other.release()


def test_a_run_that_lost_its_lease_says_so_while_it_works(said: list[str]) -> None:
    lease = held(OLD_RUN, said)
    lease.check()
    fs = fsspec.filesystem("memory")
    text = json.loads(fs.cat_file("/leased/out/_lease.json"))
    fs.pipe_file("/leased/out/_lease.json", json.dumps({**text, "id": "0" * 32}).encode())
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            lease.check()
        except FencedError as error:
            assert "another took the output over" in str(error)
            break
        time.sleep(0.02)
    else:
        pytest.fail("it never noticed")


def test_of_many_that_find_a_dead_one_only_one_takes_over(said: list[str]) -> None:
    pause(held(OLD_RUN, said))
    taken, refused = [], []

    def take(number: int) -> None:
        try:
            taken.append(acquire(OUT, f"{number:016x}", said.append))
        except JobError as error:
            refused.append(error)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1 and len(refused) == 3
    taken[0].release()


def test_workers_that_make_progress_keep_the_lease_of_a_dead_client(said: list[str]) -> None:
    pause(held(OLD_RUN, said))
    rows = iter(range(1000))
    with pytest.raises(JobError, match="is writing this output"):
        acquire(OUT, NEW_RUN, said.append, lambda run_id: next(rows) if run_id == OLD_RUN else None)


def test_a_lease_that_was_left_to_a_job_ends_when_that_has_published(said: list[str]) -> None:
    lease = held(OLD_RUN, said)
    lease.leave(1800)
    lease.release()
    found = read_lease(OUT)
    assert found and found.left and found.seconds == 1800
    end_left_lease(OUT, lease.token + 1)  # of another
    assert read_lease(OUT) == found
    publish(OUT, OLD_RUN, stage(OUT, OLD_RUN, OLD), token=lease.token)
    end_left_lease(OUT, lease.token)
    assert read_lease(OUT) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: text[:50],
        lambda text: text.replace(b'"run": "', b'"run": "../'),
        lambda text: text.replace(b"glossator-lease-1", b"glossator-lease-9"),
        lambda text: text.replace(b'"seconds": ', b'"seconds": -'),
    ],
)
def test_a_damaged_lease_is_refused_in_a_line(
    change: Callable[[bytes], bytes], said: list[str], store: Any
) -> None:
    pause(held(OLD_RUN, said))
    path = "/leased/out/_lease.json"
    store.pipe_file(path, change(store.cat_file(path)))
    with pytest.raises(UsageError, match=r"_lease\.json: is damaged: .*: if no job .* remove it"):
        acquire(OUT, NEW_RUN, said.append)


def test_a_store_that_ignores_conditions_is_told_of(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "put_if_unchanged", always_written)
    acquire(OUT, OLD_RUN, said.append).release()
    assert any("ignores conditions of writing" in line for line in said)


def always_written(uri: str, data: bytes, version: str | None) -> bool:
    fsspec.filesystem("memory").pipe_file("/leased/out/_lease.json", data)
    return True


def test_tokens_only_rise(said: list[str]) -> None:
    tokens = []
    for run in (OLD_RUN, NEW_RUN, OLD_RUN):
        with sole_writer(OUT, run, said.append) as lease:
            assert lease is not None
            tokens.append(lease.token)
            publish(OUT, run, stage(OUT, run, NEW), token=lease.token)
    assert tokens == sorted(set(tokens)) and read_current(OUT)[0].token == tokens[-1]
