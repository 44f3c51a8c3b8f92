"""One job at a time writes an output of an object store: a lease that lives while it is renewed.

Whoever finds a lease watches whether it changes, for as long as it says; so no two clocks are
compared. Who takes one over takes a token too, which shuts the former holder out: if that was only
paused, it can't publish any more (Kleppmann, "How to do distributed locking": fencing tokens).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

from glossator.model.conditional import (
    Versioned,
    put_if_unchanged,
    read_versioned,
    remove_if_unchanged,
)
from glossator.model.errors import UsageError
from glossator.model.typed_json import (
    AtLeast,
    Count,
    Matches,
    TypedJsonError,
    dumps,
    from_json,
    loads,
)
from glossator.pipeline.errors import FencedError, JobError
from glossator.pipeline.outputs.current import take_token
from glossator.pipeline.outputs.layout import LEASE
from glossator.pipeline.outputs.staging import RUN_ID

LEASE_SECS = 30.0
"""So long a holder may be silent before it counts as dead."""
_BEATS = 5
"""In that time it renews its lease so often."""
_NO_VERSION = "1"
"""No file has it, in any store."""


@dataclass(frozen=True)
class Holder:
    """What `_lease.json` says."""

    holder: str
    """The host and the process."""
    run: Annotated[str, Matches(RUN_ID)]
    """What it is writing."""
    id: Annotated[str, Matches(r"[0-9a-f]{32}")]
    """Of this one lease."""
    seconds: Annotated[float, AtLeast(0)]
    """Without a change in so long it has ended."""
    beat: Count = 0
    """How often it was renewed."""
    token: Count = 0
    left: bool = False
    """Whether the client has gone, and the job that it submitted ends the lease."""
    format: Literal["glossator-lease-1"] = "glossator-lease-1"


class Lease:
    """A lease that is held, and renewed by a thread until it is released or left."""

    def __init__(self, out: str, holder: Holder) -> None:
        """Begins to renew it.

        Args:
            out: the output.
            holder: as it stands in the file.
        """
        self._out = out
        self._holder = holder
        self._lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def token(self) -> int:
        """What `switch` is to be given."""
        return self._holder.token

    def check(self) -> None:
        """Say if another run has taken the output over: what is done from here on is for nothing.

        Raises:
            FencedError: it has.
        """
        if self._lost:
            raise FencedError(
                f"{self._out}: this run did not renew its lease in time, and another took the"
                " output over: what is published is that run's; run this one again once that has"
                " ended, if it is still wanted"
            )

    def release(self) -> None:
        """Let others write."""
        self._end()
        with contextlib.suppress(Exception):  # it ends by itself too
            _remove(self._out, lambda holder: holder.id == self._holder.id and not holder.left)

    def leave(self, seconds: float) -> None:
        """Leave it to the submitted job, which may be silent for so long until it begins."""
        self._end()
        found = read_versioned(_uri(self._out))
        if found is not None and _parse(self._out, found).id == self._holder.id:
            left = replace(self._holder, left=True, seconds=max(seconds, LEASE_SECS))
            put_if_unchanged(_uri(self._out), _bytes(left), found.version)

    def _end(self) -> None:
        self._stop.set()
        self._thread.join(timeout=LEASE_SECS)

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECS / _BEATS):
            with contextlib.suppress(Exception):  # of any store: the work will say what is wrong
                found = read_versioned(_uri(self._out))
                if found is None or _parse(self._out, found).id != self._holder.id:
                    self._lost = True
                    return
                self._holder = replace(self._holder, beat=self._holder.beat + 1)
                put_if_unchanged(_uri(self._out), _bytes(self._holder), found.version)


def acquire(
    out: str,
    run_id: str,
    report: Callable[[str], None],
    progress_of: Callable[[str], object] = lambda run_id: None,
) -> Lease:
    """Take the lease of an output, from a holder that is dead if need be.

    Args:
        out: of a store with conditional writes.
        run_id: what is to be written.
        report: is told of waiting.
        progress_of: gives for a run what changes while its workers live; their client may be dead.

    Raises:
        JobError: another run holds it and lives.
        UsageError: the file is damaged.
    """
    name = f"process {os.getpid()} on {socket.gethostname()}"
    mine = Holder(name, run_id, uuid.uuid4().hex, LEASE_SECS)
    while True:
        found = read_versioned(_uri(out))
        if found is not None and not _has_died(out, found, report, progress_of):
            continue
        if put_if_unchanged(_uri(out), _bytes(mine), found.version if found else None):
            break
    if put_if_unchanged(_uri(out), _bytes(replace(mine, beat=1)), _NO_VERSION):
        report(f"{out}: the store ignores conditions of writing: nothing keeps other runs out")
    mine = replace(mine, token=take_token(out))
    taken = read_versioned(_uri(out))
    if taken is not None and _parse(out, taken).id == mine.id:
        put_if_unchanged(_uri(out), _bytes(mine), taken.version)
    return Lease(out, mine)


def read_lease(out: str) -> Holder | None:
    """Who holds the lease of an output, dead or alive.

    Raises:
        UsageError: the file is damaged.
    """
    found = read_versioned(_uri(out))
    return None if found is None else _parse(out, found)


def end_left_lease(out: str, token: int | None) -> None:
    """End the lease that a client left to its job, which has published."""
    _remove(out, lambda holder: holder.left and holder.token == token)


def _has_died(
    out: str,
    found: Versioned,
    report: Callable[[str], None],
    progress_of: Callable[[str], object],
) -> bool:
    """Watch a holder: whether it is dead; False if its lease has gone meanwhile."""
    holder = _parse(out, found)
    report(
        f"{out}: run {holder.run} ({holder.holder}) holds the lease: watching for"
        f" {holder.seconds:.0f} s whether it lives"
    )
    before, end = progress_of(holder.run), time.monotonic() + holder.seconds
    while time.monotonic() < end:
        time.sleep(min(LEASE_SECS / _BEATS, max(0.0, end - time.monotonic())))
        now = read_versioned(_uri(out))
        if now is None:
            return False
        if now.version != found.version or progress_of(holder.run) != before:
            raise JobError(
                f"{out}: run {holder.run} ({holder.holder}) is writing this output: wait for it,"
                " or stop it"
            )
    report(f"{out}: run {holder.run} ({holder.holder}) is dead: taking over")
    return True


def _remove(out: str, which: Callable[[Holder], bool]) -> None:
    found = read_versioned(_uri(out))
    if found is not None and which(_parse(out, found)):
        remove_if_unchanged(_uri(out), found.version)


def _uri(out: str) -> str:
    return f"{out.rstrip('/')}/{LEASE}"


def _bytes(holder: Holder) -> bytes:
    return dumps(asdict(holder)).encode()


def _parse(out: str, found: Versioned) -> Holder:
    try:
        return from_json(Holder, loads(found.data))
    except TypedJsonError as error:
        raise UsageError(
            f"{_uri(out)}: is damaged: {error}: if no job writes this output, remove it",
            parameter="output",
        ) from error
