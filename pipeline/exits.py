"""How a command ends: one line that says why, and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import shell_complete

from glossator.model import terminal
from glossator.model.errors import GlossatorError, UsageError
from glossator.model.logs import LogFile
from glossator.model.reporting import restore_cursor
from glossator.pipeline.errors import RefusedError

FAILED, INVALID, REFUSED = 1, 2, 3
"""Exit codes beside 0: nothing was published and a rerun resumes; the request is invalid; a check
refused to publish."""


def run(command: click.Command, arguments: Sequence[str], program: str) -> None:
    """Runs a command; where it fails, ends the process with one line and its exit code."""
    terminal.prepare()
    log = LogFile()
    _divert(log)
    try:
        _require_utf8(arguments)
        _complete(command, program)
        with command.make_context(program, list(arguments)) as context:
            command.invoke(context)
    except click.exceptions.Exit as end:  # of --help and --version
        sys.exit(end.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        terminal.echo(terminal.Visible(error.message), err=True)
        leave(error.exit_code)
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        message, code = account(error, log)
        fail(message, code)
    log.discard()
    if (lost := terminal.lost_output()) is not None:
        why = terminal.reason(lost)
        terminal.echo(f"glossator: done, but standard output can't be written: {why}", err=True)
    _stop_engines()


def account(error: BaseException, log: LogFile) -> tuple[str, int]:
    """What to say of an error, in one line, and the exit code.

    Args:
        error: of any kind; one that nobody foresaw leaves its traceback in the log.
        log: of this process; named where it holds something.
    """
    if isinstance(error, click.ClickException):
        return _of_click(error), error.exit_code
    if isinstance(error, UsageError):
        return str(error), INVALID
    if isinstance(error, (KeyboardInterrupt, EOFError, click.exceptions.Abort)):
        return "stopped", FAILED
    if isinstance(error, GlossatorError):
        code = REFUSED if isinstance(error, RefusedError) else FAILED
        if error.__cause__ is not None:
            log.keep(error)
        return f"{error}{_where(log)}", code
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {terminal.reason(error)}", FAILED
    log.keep(error)
    if isinstance(error, MemoryError):
        return f"out of memory{_where(log)}", FAILED
    said = " ".join(str(error).split())
    return f"{type(error).__name__}{said and f': {said}'}{_where(log)}", FAILED


def fail(message: str, code: int) -> NoReturn:
    """Ends this process with one line on standard error."""
    terminal.echo(f"glossator: {message}", err=True)
    leave(code)


def leave(code: int) -> NoReturn:
    """Ends this process: an engine's threads may still be about, and are not waited for."""
    restore_cursor()
    _stop_engines()
    terminal.flush()
    os._exit(code)


def _of_click(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see `{context.command_path} --help`" if context else message


def _where(log: LogFile) -> str:
    return f"; log: {log.path}" if log.path else ""


def _require_utf8(arguments: Sequence[str]) -> None:
    """Python reads bytes that are not UTF-8 as lone surrogates, which nothing else can take."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{argument} is not UTF-8: write it so") from None


def _complete(command: click.Command, program: str) -> None:
    """What a shell asks for when Tab is pressed."""
    variable = f"_{program}_COMPLETE".upper()
    if instruction := os.environ.get(variable):
        sys.exit(shell_complete(command, {}, program, variable, instruction))


def _divert(log: LogFile) -> None:
    """Sends what is logged to a file as it is, and as lines to the terminal, but for Beam's.

    Beam logs what fails once more at each level, with its traceback in the message.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, (LogFile, terminal.LogHandler)):
            root.removeHandler(handler)  # of an earlier command in this process
    lines = terminal.LogHandler(logging.WARNING)
    lines.addFilter(lambda record: not record.name.startswith("apache_beam"))
    for handler in (log, lines):
        handler.addFilter(_is_news)
        root.addHandler(handler)

    def thread_failed(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_value is not None and not _hung_up(failure.exc_value):
            log.keep(failure.exc_value)

    threading.excepthook = thread_failed


def _is_news(record: logging.LogRecord) -> bool:
    """Beam warns of Google's packages whether or not anyone wants to use them."""
    error = record.exc_info[1] if record.exc_info else None
    return not (_hung_up(error) or record.getMessage().startswith("apitools not found"))


def _hung_up(error: BaseException | None) -> bool:
    """Whether an engine let go of a worker in this process: how the job ended says the job."""
    grpc = sys.modules.get("grpc")
    return grpc is not None and (
        isinstance(error, grpc.RpcError)
        and isinstance(error, grpc.Call)
        and error.code() is grpc.StatusCode.CANCELLED
    )


def _stop_engines() -> None:
    if (submit := sys.modules.get("glossator.pipeline.submit")) is not None:
        submit.stop_runner_processes()
