"""Where the tracebacks go: what an engine says of an error is for a file, not for the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from glossator.model import temporary


class BeamLog:
    """The file that takes what would be logged. It is there once something was."""

    def __init__(self, path: Path | None = None) -> None:
        """Makes no file yet.

        Args:
            path: of the file, which stays; None for a temporary one, which goes with this process
                unless it is kept.
        """
        self._path = path
        self.kept = path is not None
        """Whether the file stays."""

    @property
    def path(self) -> Path:
        """Of the file; of a temporary one it changes as it is kept."""
        if self._path is None:
            self._path = temporary.folder() / "glossator.log"
        return self._path

    @property
    def written(self) -> bool:
        """Whether anything was logged, so that the file can be named."""
        with contextlib.suppress(OSError):
            return self.path is not None and self.path.stat().st_size > 0
        return False

    def keep(self, error: BaseException) -> None:
        """Adds an error with its traceback, and lets the file stay."""
        with contextlib.suppress(OSError):
            _append(self.path, "".join(traceback.format_exception(error)))
            if not self.kept:
                stays = temporary.parent() / f"glossator-{uuid.uuid4().hex[:16]}.log"
                self._path = self.path.rename(stays)
        self.kept = True

    def discard(self) -> None:
        """Removes the file if it is not to be kept."""
        if not self.kept and self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


@contextmanager
def beam_log(path: Path | None = None) -> Iterator[BeamLog]:
    """Sends what is logged, and tracebacks of threads, to a file while the context is open.

    Afterwards the file is removed, unless it is to be kept or its path was given.

    Args:
        path: of the file; None for a temporary one, which others can't read.
    """
    log = BeamLog(path)
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
            _append(self._log.path, self.format(record) + "\n")


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
