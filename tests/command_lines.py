"""Ways to run the command line and to look at how it ended."""

from __future__ import annotations

import faulthandler
import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

DEADLINE_SECS = 180.0
"""Nothing that a test starts takes so long: what does, hangs."""
STANDARD_ERROR = 2
"""The descriptor that a hang is told on; conftest names the one behind pytest's capture."""
COMMAND = "from glossator.pipeline.cli import main; main()"


def everything(folder: Path) -> set[str]:
    """All that lies below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def ended(run: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line on standard error that holds the words, and nothing on standard output."""
    assert run.returncode == code, run.stderr
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1 and run.stderr.startswith("glossator: "), run.stderr
    for word in words:
        assert word in run.stderr


def refused(run: subprocess.CompletedProcess[str], *words: str) -> None:
    """As `ended`, for an invalid request."""
    ended(run, 2, *words)


def on_a_terminal(
    *command: str, errors: bool = False, **options: Any
) -> tuple[int, list[tuple[float, str]]]:
    """Runs a Python program on a terminal: its exit code, and what it printed with the time.

    Args:
        command: what comes after `python`.
        errors: whether it is standard error that is shown, and not standard output.
        options: for the process.
    """
    ours, theirs = pty.openpty()
    streams = {"stderr" if errors else "stdout": theirs}
    streams["stdout" if errors else "stderr"] = subprocess.DEVNULL
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, *command], env=environment, **streams, **options)
    os.close(theirs)
    started, pieces = time.monotonic(), []
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so that the other side is closed
            break
        if not piece:
            break
        pieces.append((time.monotonic() - started, piece.decode(errors="replace")))
    os.close(ours)
    return process.wait(timeout=60), pieces


def screen(text: str) -> list[str]:
    """What a terminal shows in the end, by the little of its language that a bar needs."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\r":
            column = 0
        elif token == "\n":  # the line discipline of a terminal put a \r before it
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token.startswith("\x1b["):
            how, count = token[-1], int(token[2:-1]) if token[2:-1].isdigit() else 1
            if how == "A":
                row = max(0, row - count)
            elif how == "K":
                assert count == 2, token
                lines[row] = ""
            else:
                assert how in "mhl", token  # colours, the cursor's looks
        else:
            lines[row] = (
                f"{lines[row]:<{column}}"[:column] + token + lines[row][column + len(token) :]
            )
            column += len(token)
    return [line.rstrip() for line in lines]


def glossator(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in this process, which spares the imports: `glossator("label", ...)`.

    A hang ends the tests with every thread's stack, instead of never.
    """
    from glossator.pipeline import cli

    words = [str(argument) for argument in arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with _kept_process(), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@contextmanager
def deadline() -> Iterator[None]:
    """A hang while the context is open ends this process with every thread's stack."""
    faulthandler.dump_traceback_later(DEADLINE_SECS, exit=True, file=STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _kept_process() -> Iterator[None]:
    """The command ends its process and takes over its signals: here both are for the tests."""

    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    hook = threading.excepthook
    try:
        with (
            deadline(),
            mock.patch.object(os, "_exit", leave),
            mock.patch("glossator.pipeline.engines.submit.stop_runner_processes"),
        ):
            yield
    finally:
        threading.excepthook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)


def shell(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """A Python process of its own: `shell("-m", "glossator.pipeline", ...)`."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECS,
        check=False,
        **options,
    )
