"""Commands as this package makes them: grouped help, and errors that name the flag."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich_click import RichCommand, RichGroup
from rich_click.rich_help_configuration import RichHelpConfiguration

from glossator.model.errors import GlossatorError

_LOOK = RichHelpConfiguration(
    theme="default-slim",
    commands_before_options=True,
    options_table_help_sections=["help", "required", "default"],
    default_string=r"\[default: {}]",
)
HELP = {"help_option_names": ["-h", "--help"], "rich_help_config": _LOOK}
"""Context settings of every command."""


class Command(RichCommand):
    """A command whose errors name the flag."""

    def __init__(self, *args: Any, **more: Any) -> None:
        more["context_settings"] = {**HELP, **(more.get("context_settings") or {})}
        super().__init__(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command.

        Raises:
            GlossatorError: with the flag before its message, where it is about one of ours.
        """
        with naming_flags(self):
            return super().invoke(ctx)

    def get_help(self, ctx: click.Context) -> str:
        """The help, without the blanks at the ends of lines."""
        return _trimmed(super().get_help(ctx))


class Group(RichGroup):
    """A group of such commands."""

    command_class = Command

    def __init__(self, *args: Any, **more: Any) -> None:
        more["context_settings"] = {**HELP, **(more.get("context_settings") or {})}
        super().__init__(*args, **more)

    def get_help(self, ctx: click.Context) -> str:
        """The help, without the blanks at the ends of lines."""
        return _trimmed(super().get_help(ctx))


Group.group_class = Group


@contextmanager
def naming_flags(command: click.Command) -> Iterator[None]:
    """Puts the flag of this command before an error that is about one of its parameters.

    Raises:
        GlossatorError: of the same class, with the flag in its message.
    """
    try:
        yield
    except GlossatorError as error:
        flag = flag_of(command, getattr(error, "parameter", None))
        if flag is None:
            raise
        raise type(error)(f"{flag}: {error}") from error.__cause__


def flag_of(command: click.Command, parameter: str | None) -> str | None:
    """What a parameter of a function is called on the command line; None if it is not there."""
    for given in command.params:
        if given.name == parameter:
            flags = [option for option in given.opts if option.startswith("--")]
            return flags[0] if flags else given.human_readable_name
    return None


def flags(command: click.Command) -> list[str]:
    """All flags of a command."""
    return [flag for given in command.params for flag in given.opts if flag.startswith("--")]


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())
