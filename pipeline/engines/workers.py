"""Workers' heartbeats in staging: each process that labels says that it is ready and how far it is.

So whoever waits for a run sees on any engine whether it is making progress, also in the midst of a
long split.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from glossator.model.store import fetch, file_sizes, is_local, open_store, put_bytes
from glossator.pipeline.outputs.staging import PLAN, WORKERS

BEAT_SECS = 1.0
"""How often a worker writes how far it is, if anything changed, to a local store."""
REMOTE_BEAT_SECS = 10.0
"""The same to a remote store."""
_THREADS = 16


class Heartbeat:
    """One worker's file: since when it is ready, and how many rows of each split it has done.

    It is written when the heartbeat starts, and now and then until it stops.
    """

    def __init__(self, staging: str, details: Mapping[str, object]) -> None:
        """Writes nothing yet.

        Args:
            staging: the run's folder.
            details: what else the file says, for whoever reads it at night.
        """
        self._fs, root = open_store(staging)
        self._said = {"host": socket.gethostname(), "pid": os.getpid(), **details}
        # a container that is started again has the same host and number
        name = f"{self._said['host']}-{self._said['pid']}-{uuid.uuid4().hex[:8]}.json"
        self._staging, self._path = root, f"{root}/{WORKERS}/{name}"
        self._pause = BEAT_SECS if is_local(self._fs) else REMOTE_BEAT_SECS
        self._rows: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def start(self) -> None:
        """Says that this worker is ready, and goes on saying how far it is.

        Raises:
            OSError: the store does not take it.
        """
        self._said["ready"] = time.time()
        self._write({})
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def advance(self, split: str, rows: int) -> None:
        """Notes how many rows of a split are done."""
        with self._lock:
            self._rows[split] = rows

    def forget(self, split: str) -> None:
        """Notes that a split is done, as its record says, or given up."""
        with self._lock:
            self._rows.pop(split, None)

    def stop(self) -> None:
        """Writes no more."""
        self._stop.set()

    def _beat(self) -> None:
        written: dict[str, int] = {}
        while not self._stop.wait(self._pause):
            with self._lock:
                rows = dict(self._rows)
            if rows != written:
                with contextlib.suppress(OSError):  # the work itself will say what is wrong
                    if self._fs.exists(f"{self._staging}/{PLAN}"):  # else it is published meanwhile
                        self._write(rows)
                    written = rows

    def _write(self, rows: Mapping[str, int]) -> None:
        content = json.dumps({**self._said, "rows": rows})
        put_bytes(self._fs, self._path, content.encode())


def ready_workers(staging: str) -> set[str]:
    """The names of the files of workers that were ready, those that ended among them."""
    fs, root = open_store(staging)
    return {name for name in file_sizes(fs, f"{root}/{WORKERS}") if name.endswith(".json")}


def heartbeats(staging: str) -> dict[str, bytes]:
    """What the workers' files say, by name.

    Raises:
        OSError: the store does not answer.
    """
    fs, root = open_store(staging)

    def text(name: str) -> bytes:
        try:
            content = fetch(fs, f"{root}/{WORKERS}/{name}")
        except FileNotFoundError:  # a run that published meanwhile has cleared its staging
            return b""
        return content

    names = sorted(ready_workers(staging))
    if not names:
        return {}
    with ThreadPoolExecutor(min(_THREADS, len(names))) as pool:
        return dict(zip(names, pool.map(text, names), strict=True))


def rows_by_split(beats: Iterable[bytes]) -> dict[str, int]:
    """How many rows workers have done of the splits that they are at."""
    found: dict[str, int] = {}
    for beat in beats:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            for split, rows in json.loads(beat)["rows"].items():
                found[split] = max(found.get(split, 0), int(rows))
    return found


def first_ready(staging: str, since: float) -> float | None:
    """When the first worker was ready; None if none has been.

    Args:
        staging: the run's folder.
        since: workers of earlier attempts don't count, in seconds since the epoch as the result.
    """
    ready = []
    for beat in heartbeats(staging).values():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            ready.append(float(json.loads(beat)["ready"]))
    return min((moment for moment in ready if moment >= since), default=None)
