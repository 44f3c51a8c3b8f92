"""What goes wrong, in words for whoever can fix it."""

from __future__ import annotations

import reprlib

from glossator.model.redaction import redacted_text

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


class GlossatorError(Exception):
    """The base of every error that Glossator raises for its caller to handle.

    Passwords, signatures and tokens in URIs that its arguments name are hidden.
    """

    def __init__(self, *args: object) -> None:
        """States the error, as `Exception` does."""
        super().__init__(*(redacted_text(a) if isinstance(a, str) else a for a in args))


class UsageError(GlossatorError, ValueError):
    """The request is invalid: what was given, what is wrong with it, what to do.

    One line. The command line prints it and exits with 2, before any work is done.
    """

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        """States the error.

        Args:
            message: speaks of values and columns, never of flags.
            parameter: the Python name of what was given wrongly, e.g. `keys`; the command line
                puts its flag before the message.
        """
        super().__init__(message)
        self.parameter = parameter


def shown(value: object) -> str:
    """A value of any size as an error may quote it: one short line of printable characters."""
    return _REPR.repr(value)
