"""Where tracebacks go: to a file that the one line of an error names, not to the terminal."""

from __future__ import annotations

import logging
import os
import tempfile
import traceback
from pathlib import Path


class LogFile(logging.Handler):
    """Log records with their tracebacks, in a file that is made when there is something to say."""

    def __init__(self, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.path: Path | None = None
        """The file, in the folder for temporary ones, for its owner's eyes only; None if nothing
        was written, or it could not be."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        try:
            self.write(self.format(record))
        except Exception:  # a message that does not fit its arguments; logging never fails
            self.write(str(record.msg))

    def keep(self, error: BaseException) -> None:
        """Writes an error with its traceback."""
        self.write("".join(traceback.format_exception(error)))

    def write(self, text: str) -> None:
        """Writes a text; one that can't be written is lost."""
        try:
            if self.path is None:
                handle, name = tempfile.mkstemp(".log", "glossator-")
                os.close(handle)
                self.path = Path(name)
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text.rstrip("\n") + "\n")
        except OSError:
            self.path = None

    def discard(self) -> None:
        """Removes the file: nothing went wrong after all."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None
