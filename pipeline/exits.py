"""How a command ends: one line that says why, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import shell_complete

from glossator.model import temporary, terminal
from glossator.model.errors import GlossatorError, UsageError
from glossator.model.reporting import restore_cursor
from glossator.pipeline.errors import NotYetError, RefusedError
from glossator.pipeline.logs import BeamLog, beam_log

FAILED, INVALID, REFUSED, NOT_YET = 1, 2, 3, 4
"""Exit codes beside 0: nothing was published and a rerun resumes; the request is invalid; a check
refused to publish; the input is not there yet."""


def code_of(error: BaseException) -> int:
    """The exit code of a command that this error ends."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, NotYetError):
        return NOT_YET
    if isinstance(error, UsageError):
        return INVALID
    return REFUSED if isinstance(error, RefusedError) else FAILED


def run(command: click.Command, arguments: Sequence[str], program: str) -> None:
    """Runs a command; where it fails, ends the process with one line and its exit code."""
    terminal.prepare()
    with beam_log() as log:
        try:
            _require_utf8(arguments)
            _complete(command, program)
            with command.make_context(program, list(arguments)) as context:
                command.invoke(context)
        except SystemExit:
            raise
        except click.exceptions.Exit as end:  # of --help and --version
            sys.exit(end.exit_code)
        except click.exceptions.NoArgsIsHelpError as error:
            terminal.echo(terminal.Visible(error.message), err=True)
            leave(error.exit_code)
        except BaseException as error:
            message, code = account(error, log)
            log.discard()  # the process ends within the context
            fail(message, code)
        if (lost := terminal.lost_output()) is not None:
            why = terminal.reason(lost)
            terminal.echo(f"glossator: done, but standard output can't be written: {why}", err=True)
        _stop_engines()


def account(error: BaseException, log: BeamLog) -> tuple[str, int]:
    """What to say of an error, in one line, and the exit code.

    Args:
        error: of any kind; one that nobody foresaw leaves its traceback in the log.
        log: of this process; named where there is more in it than in the line.
    """
    if isinstance(error, click.ClickException):
        return _of_click(error), code_of(error)
    if (code := code_of(error)) != FAILED:
        return str(error), code
    if isinstance(error, (KeyboardInterrupt, EOFError, click.exceptions.Abort)):
        return "stopped", FAILED
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {terminal.reason(error)}", FAILED
    said = " ".join(str(error).split())
    if isinstance(error, GlossatorError):
        if error.__cause__ is None and not log.written:
            return said, FAILED
    elif isinstance(error, MemoryError):
        said = "out of memory"
    else:
        from glossator.pipeline.causes import with_remedy

        kind = type(error).__name__
        said = with_remedy(kind, f"{kind}{said and f': {said}'}")
    log.keep(error)
    return f"{said} (log: {log.path})" if log.written else said, FAILED


def fail(message: str, code: int) -> NoReturn:
    """Ends this process with one line on standard error."""
    terminal.echo(f"glossator: {message}", err=True)
    leave(code)


def leave(code: int) -> NoReturn:
    """Ends this process: an engine's threads may still be about, and are not waited for."""
    restore_cursor()
    _stop_engines()
    terminal.flush()
    temporary.remove()
    os._exit(code)


def _of_click(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see `{context.command_path} --help`" if context else message


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


def _stop_engines() -> None:
    if (submit := sys.modules.get("glossator.pipeline.engines.submit")) is not None:
        submit.stop_runner_processes()
