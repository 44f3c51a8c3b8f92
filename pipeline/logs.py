"""Where the tracebacks go: what an engine says of an error is for a file, not for the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any


class BeamLog:
    """The file that takes what would be logged. It is there once something was."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        """None where there is no folder for it: then nothing is written."""
        self.kept = False
        """Whether the file stays."""

    @property
    def written(self) -> bool:
        """Whether anything was logged, so that the file can be named."""
        with contextlib.suppress(OSError):
            return self.path is not None and self.path.stat().st_size > 0
        return False

    def keep(self, error: BaseException) -> None:
        """Adds an error with its traceback, and lets the file stay."""
        self.kept = True
        self.write("".join(traceback.format_exception(error)))

    def write(self, text: str) -> None:
        """Appends a text, if that is possible."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self.path, flags, 0o600)
            with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)

    def discard(self) -> None:
        """Removes the file, unless it is to be kept."""
        if self.path is not None and not self.kept:
            self.path.unlink(missing_ok=True)


@contextmanager
def beam_log(path: Path | None = None) -> Iterator[BeamLog]:
    """Sends what is logged, and tracebacks of threads, to a file while the context is open.

    Afterwards the file is removed, unless it is to be kept or its path was given.

    Args:
        path: of the file; None for a new one in the folder for temporary files, which others
            can't read.
    """
    log = BeamLog(path or _new_path())
    log.kept = path is not None
    root = logging.getLogger()
    before, hook = root.handlers[:], threading.excepthook
    root.handlers = [_Handler(log)]
    threading.excepthook = _to_log
    try:
        logging.captureWarnings(True)
        yield log
    finally:
        logging.captureWarnings(False)
        root.handlers = before
        threading.excepthook = hook
        log.discard()


def _new_path() -> Path | None:
    try:
        folder = tempfile.gettempdir()
    except OSError:  # nothing can be written in any of those that Python knows
        return None
    return Path(folder, f"glossator-{uuid.uuid4().hex[:16]}.log")


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # none can be written to: the job may not need one
        return os.environ.get("TMPDIR", "/tmp")


class _Handler(logging.Handler):
    """Appends to a file, and says nothing if it can't."""

    def __init__(self, log: BeamLog) -> None:
        super().__init__()
        self.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s")
        )
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self._log.write(self.format(record) + "\n")


def _to_log(failure: Any) -> None:
    kind: type[BaseException] = failure.exc_type
    trace: TracebackType | None = failure.exc_traceback
    name = failure.thread.name if failure.thread else "?"
    logging.getLogger("glossator").error(
        "thread %s died", name, exc_info=(kind, failure.exc_value or kind(), trace)
    )
