"""How pip reaches packages: from its configuration and its environment."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass

from glossator.model.errors import UsageError


@dataclass(frozen=True)
class IndexSettings:
    """How packages are reached: as pip is configured."""

    indexes: tuple[str, ...]
    """Base addresses of simple indexes, tried in this order."""
    cert: str | None = None
    """A bundle of certificates to trust instead of the default."""
    proxy: str | None = None
    """A proxy for http and https; None leaves it to the environment."""
    timeout_secs: float = 15.0
    """How long to wait for a connection and for each further byte."""


def pip_settings() -> IndexSettings:
    """What `pip config` and the `PIP_*` environment say, or pip's defaults."""
    options = {**_pip_config(), **_pip_environment()}
    if options.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        return IndexSettings(indexes=())
    given = options.get("timeout") or options.get("default-timeout") or "15"
    try:
        timeout_secs = float(given)
    except ValueError as error:
        raise UsageError(
            f"pip's option timeout is {given!r}, which is no number of seconds: "
            "fix it in the environment (PIP_TIMEOUT) or with 'pip config set global.timeout 60'"
        ) from error
    main = options.get("index-url") or options.get("pypi-url") or _pip_default_index()
    return IndexSettings(
        indexes=(main, *options.get("extra-index-url", "").split()),
        cert=options.get("cert") or None,
        proxy=options.get("proxy") or None,
        timeout_secs=timeout_secs,
    )


def _pip_config() -> dict[str, str]:
    return parse_pip_config(_pip("config", "list"))


def _pip_default_index() -> str:
    """The index that pip uses where none is configured; its help is where it says so."""
    found = re.search(r"--index-url.*?\(default\s+(\S+?)\)", _pip("download", "--help"), re.DOTALL)
    if not found:
        raise UsageError(
            "no package index is known: install pip, or name one in PIP_INDEX_URL as for pip"
        )
    return found[1]


def _pip(*arguments: str) -> str:
    """What pip prints; nothing where there is no pip, as an environment need not have one."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    wide = {**os.environ, "COLUMNS": "1000"}
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, env=wide
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout


def parse_pip_config(listing: str) -> dict[str, str]:
    """The options that hold for a download, from what `pip config list` prints."""
    rank = {"global": 0, "download": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        name, equals, value = line.partition("=")
        section, dot, option = name.rpartition(".")
        if not (equals and dot and section in rank):
            continue
        if option not in found or found[option][0] <= rank[section]:
            found[option] = (rank[section], _unquoted(value))
    return {option: value for option, (_, value) in found.items()}


def _unquoted(value: str) -> str:
    try:
        return str(ast.literal_eval(value))
    except (SyntaxError, ValueError):
        return value


def _pip_environment() -> dict[str, str]:
    return {
        name[len("PIP_") :].lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name.startswith("PIP_") and value
    }
