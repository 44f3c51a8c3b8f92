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

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = False
        """Whether the file stays."""

    @property
    def written(self) -> bool:
        """Whether anything was logged, so that the file can be named."""
        with contextlib.suppress(OSError):
            return self.path.stat().st_size > 0
        return False

    def keep(self, error: BaseException) -> None:
        """Adds an error with its traceback, and lets the file stay."""
        self.kept = True
        _append(self.path, "".join(traceback.format_exception(error)))


@contextmanager
def beam_log(path: Path | None = None) -> Iterator[BeamLog]:
    """Sends what is logged, and tracebacks of threads, to a file while the context is open.

    Afterwards the file is removed, unless it is to be kept or its path was given.

    Args:
        path: of the file; None for a new one in the folder for temporary files, which others
            can't read.
    """
    log = BeamLog(path or Path(tempfile.gettempdir(), f"glossator-{uuid.uuid4().hex[:16]}.log"))
    log.kept = path is not None
    root = logging.getLogger()
    before, hook = root.handlers[:], threading.excepthook
    root.handlers = [_Handler(log.path)]
    threading.excepthook = _to_log
    try:
        logging.captureWarnings(True)
        yield log
    finally:
        logging.captureWarnings(False)
        root.handlers = before
        threading.excepthook = hook
        if not log.kept:
            log.path.unlink(missing_ok=True)


class _Handler(logging.Handler):
    """Appends to a file that is made when the first line comes, and says nothing if it can't."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s")
        )
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            _append(self._path, self.format(record) + "\n")


def _append(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)


def _to_log(failure: Any) -> None:
    kind: type[BaseException] = failure.exc_type
    trace: TracebackType | None = failure.exc_traceback
    name = failure.thread.name if failure.thread else "?"
    logging.getLogger("glossator").error(
        "thread %s died", name, exc_info=(kind, failure.exc_value or kind(), trace)
    )
