"""Jobs in processes of their own, to be killed, starved and interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_lines import COMMAND
from outputs import current, read
from sample_comments import make_comments, write_comments

FILES = 40
ROWS = 600
PATIENCE_SECS = 180.0
"""No command here takes so long: what does, hangs."""


class Job:
    """One `glossator label` over many small files, in a session of its own."""

    def __init__(self, inputs: Path, bundle: Path) -> None:
        self.arguments = ["--input", str(inputs), "--model", str(bundle), "--key", "id"]
        self.inputs = inputs
        self.bundle = bundle
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, out: Path | str, *more: object, first: str = "", **options: Any
    ) -> subprocess.Popen[str]:
        """The job, begun.

        Args:
            out: the output.
            more: flags.
            first: Python that its process runs before the job: see `moments`.
            options: of the process.
        """
        program = ["-c", f"{first}\n{COMMAND}", "label"] if first else ["-m", "glossator.pipeline"]
        process = subprocess.Popen(
            [sys.executable, *program, *self.arguments, "--output", str(out), *map(str, more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )
        self._started.append(process)
        return process

    def run(
        self, out: Path | str, *more: object, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """The job from beginning to end."""
        return self.end(self.start(out, *more, **options))

    def end(self, process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        """What it came to; fails if it hangs, or leaves a process behind."""
        stdout, stderr = process.communicate(timeout=PATIENCE_SECS)
        assert processes_of(process.pid) == []
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def close(self) -> None:
        """Ends what a failing test left."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def processes_of(leader: int) -> list[int]:
    """The processes that live in a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in "ZX" and int(fields[3]) == leader:
            found.append(int(stat.parent.name))
    return found


@pytest.fixture(scope="session")
def big_input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files enough that a job over them takes some seconds, with some rejects."""
    folder = tmp_path_factory.mktemp("big")
    for i in range(FILES):
        texts = [None, *(f"{text} {i} {j}" for j, text in enumerate(make_comments(ROWS, seed=i)))]
        write_comments(folder / f"{i:03d}.parquet", texts, first_id=i * (ROWS + 1))
    return folder


@pytest.fixture
def big_job(big_input: Path, bundle: Path) -> Iterator[Job]:
    job = Job(big_input, bundle)
    yield job
    job.close()


@pytest.fixture
def small_job(tmp_path: Path, bundle: Path) -> Iterator[Job]:
    """Of two files; its inputs may be spoilt."""
    for i in range(2):
        write_comments(tmp_path / "in" / f"{i}.parquet", make_comments(50, seed=i))
    job = Job(tmp_path / "in", bundle)
    yield job
    job.close()


@pytest.fixture(scope="session")
def undisturbed(
    big_input: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """The files that the big job makes when nothing happens to it, and its seconds of work."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run = Job(big_input, bundle).run(out, "--json")
    assert run.returncode == 0, run.stderr
    return files_of(out), float(json.loads(run.stdout)["seconds"])


def files_of(out: Path) -> dict[str, bytes]:
    """Parts and rejects that a reader sees."""
    return read(out) or {}


def publication_of(out: Path) -> dict[str, str] | None:
    """The digests of a publication, checked against its manifest; None if there is none."""
    if read(out) is None:
        return None
    manifest = json.loads((current(out) / "_manifest.json").read_text())
    listed = {f["name"]: f["sha256"] for kind in ("parts", "rejects") for f in manifest[kind]}
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files_of(out).items()}
    assert found == listed
    return found


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Waits until something is so, or a process has ended."""
    end = time.monotonic() + PATIENCE_SECS
    while not condition() and process.poll() is None:
        assert time.monotonic() < end, "it never came"
        time.sleep(0.0001)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own at a new folder, e.g. of `16m`; skips where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a disk of its own can't be mounted here: {error}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)
