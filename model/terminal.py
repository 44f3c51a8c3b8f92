"""What is printed: every character visible, no secret in it, and never a reason to fail.

Texts, names of files and columns, labels and errors come from elsewhere. Printed as they are, they
could move the cursor, hide or reorder what stands beside them, or look like other words.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any
from unicodedata import east_asian_width

import click

from glossator.model.errors import GlossatorError
from glossator.model.redaction import redacted_text

_MAX_MARKS = 4
"""Combining marks on one character; more would be drawn over the lines above."""
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks by their category that draw nothing."""
_JOINERS = frozenset("\u200c\u200d")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JSON_UNSAFE = re.compile(r"[^\x20-\x7e\n]")
_lost: dict[bool, Exception] = {}
"""What became of standard error (True) and standard output (False), once they can't be written."""


class Visible(str):
    """Text that is fit for a terminal: `echo` prints it as it is, colours and all."""

    __slots__ = ()


def visible(text: str) -> Visible:
    r"""One line that shows what a text holds, without the secrets in its URIs.

    Control, bidirectional and other invisible characters and line breaks are written as Python
    does: `\x1b`, `\u202e`, `\n`. A byte that is not UTF-8 (a lone surrogate of Python's) is written
    as that byte, `\xe9`. Joiners stay where a script or an emoji needs them.
    """
    if isinstance(text, Visible):
        return text
    text = redacted_text(text)
    if text.isascii() and text.isprintable():
        return Visible(text)
    pieces, marks = [], 0
    for at, character in enumerate(text):
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        shown = marks <= _MAX_MARKS and _is_shown(text, at, category)
        pieces.append(character if shown else _escaped(character))
    return Visible("".join(pieces))


def styled(text: str, **style: Any) -> Visible:
    """A text made visible, then coloured as `click.style` does."""
    return Visible(click.style(visible(text), **style))


def joined(pieces: Iterable[str], separator: str = "") -> Visible:
    """Pieces made visible, in one line; those that are so already keep their colours."""
    return Visible(separator.join(map(visible, pieces)))


def padded(text: str, width: int) -> Visible:
    """A text made visible and filled up with blanks to so many places of a terminal."""
    shown = visible(text)
    return Visible(shown + " " * (width - width_of(shown)))


def width_of(text: str) -> int:
    """The places of a terminal that a text takes; wide characters take two, marks none."""
    shown = visible(text)
    if shown.isascii():
        return len(shown)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 1 + (east_asian_width(c) in "WF")
        for c in shown
    )


def echo(*lines: str, err: bool = False, nl: bool = True) -> None:
    """Prints lines, each made visible; one that can't be printed is never an error.

    Args:
        lines: a line each: a line break within one is made visible.
        err: to standard error.
        nl: with a line break at the end.
    """
    _print(joined(lines, "\n"), err=err, nl=nl)


def echo_json(value: Any, **how: Any) -> None:
    """Prints a value as JSON for machines; what a terminal must not be given is escaped.

    The value stays the same: it is for who calls to leave out secrets (`without_secrets`).
    """
    text = json.dumps(value, ensure_ascii=False, **how)
    _print(_JSON_UNSAFE.sub(lambda match: _json_escaped(match[0]), text))


def without_secrets(value: Any) -> Any:
    """The same JSON with the URIs in its strings redacted."""
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, Mapping):
        return {without_secrets(key): without_secrets(item) for key, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, (list, tuple)) else value


def echo_file(text: str) -> None:
    """Prints a file's content: exactly where it is kept, visibly on a terminal."""
    if sys.stdout is not None and sys.stdout.isatty():
        text = joined(text.split("\n"), "\n")
    _print(text, nl=False)


def prepare() -> None:
    """Puts something in place of standard streams that were closed when this process began.

    Otherwise the next file that is opened gets the number of standard output, and what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError as error:
            os.open(os.devnull, os.O_RDWR)
            _lost[number == 2] = error
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123


def lost_output() -> Exception | None:
    """Why standard output could not be written, if so."""
    return _lost.get(False)


def require_output() -> None:
    """For commands that do nothing but print.

    Raises:
        GlossatorError: what was to be printed is lost; not where a reader had enough (`| head`).
    """
    error = _lost.get(False)
    if error is not None and not isinstance(error, BrokenPipeError):
        raise GlossatorError(f"standard output can't be written: {reason(error)}")


def flush() -> None:
    """Sends on what waits in the standard streams."""
    for stream, err in ((sys.stdout, False), (sys.stderr, True)):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            _give_up(error, err)


def reason(error: BaseException) -> str:
    """What an error says, in one line, or else its type."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__


def _is_shown(text: str, at: int, category: str) -> bool:
    """Whether a character draws something, or is needed by those beside it."""
    character = text[at]
    if character in _JOINERS:
        return 0 < at < len(text) - 1 and _joins(text[at - 1]) and _joins(text[at + 1])
    if _selects_variation(character):
        return at > 0 and not _selects_variation(text[at - 1]) and not text[at - 1].isspace()
    return category not in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _BLANK


def _joins(character: str) -> bool:
    """Whether a joiner beside this character changes how it is drawn: emoji, Arabic, Indic."""
    if "\u0600" <= character <= "\u17ff" or "\ufb50" <= character <= "\ufefc":
        return unicodedata.category(character)[0] in "LM"
    return unicodedata.category(character) in ("So", "Sk") or character == "\ufe0f"


def _selects_variation(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def _json_escaped(character: str) -> str:
    if _is_shown(character, 0, unicodedata.category(character)):
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _print(text: str, *, err: bool = False, nl: bool = True) -> None:
    if err in _lost:
        return
    stream = sys.stderr if err else sys.stdout  # by name: a bar may stand in for it
    try:
        try:
            click.echo(text, file=stream, nl=nl)
        except UnicodeEncodeError as error:
            escaped = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            click.echo(escaped, file=stream, nl=nl)
    except RuntimeError:  # a signal's handler, called in the midst of printing
        with contextlib.suppress(OSError):
            os.write(2 if err else 1, f"{text}\n".encode(errors="backslashreplace"))
    except (OSError, ValueError) as error:  # ValueError: it was closed
        _give_up(error, err)


def _give_up(error: Exception, err: bool) -> None:
    """Remembers that a stream is lost; what waits in its buffer would fail again at the end."""
    _lost[err] = error
    stream = sys.stderr if err else sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
