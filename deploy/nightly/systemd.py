"""A systemd service and its timer, for one machine (systemd.service(5), systemd.timer(5)).

A unit file is lines of text, and a value with a line break would be two settings: whatever comes
from outside is held against what it may be, or quoted by the rules of the setting it stands in.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from glossator.deploy.settings import (
    FINAL_CODES,
    GRACE_SECONDS,
    RETRY_MINUTES,
    Nightly,
    local_path,
)
from glossator.model.errors import UsageError

_PROGRAM = re.compile(r"/[\w./+@-]+", re.ASCII)
"""No blanks, quotes, `$` and `%`: a program's path is quoted by other rules than its arguments."""
_USER = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,30}|[1-9]\d{0,9}")
"""As systemd takes them, and not root by its number."""


def units(nightly: Nightly, program: str, user: str) -> dict[str, str]:
    """The text of `NAME.service` and `NAME.timer`.

    Args:
        nightly: what and when.
        program: where `glossator` is on the machine, an absolute path.
        user: whom it runs as.

    Raises:
        UsageError: a path is not absolute, a value can't stand in a unit, or the schedule could
            miss or repeat a day.
    """
    # each try has a deadline of its own; the last begins after all others
    nightly.require_one_day(nightly.retries * (nightly.deadline_hours + RETRY_MINUTES / 60))
    if not PurePosixPath(program).is_absolute():
        raise UsageError(f"--program {program} is no absolute path: a service has no PATH of yours")
    if not _PROGRAM.fullmatch(program):
        raise UsageError(
            f"--program {program!r} can't be used in a unit: name a path of ASCII letters, digits"
            " and _ . / + @ -"
        )
    if user == "root" or not _USER.fullmatch(user):
        raise UsageError(
            f"--user {user!r} can't be used: name a user of the machine that is not root, or its"
            " number"
        )
    return {
        f"{nightly.name}.service": _service(nightly, program, user),
        f"{nightly.name}.timer": _timer(nightly),
    }


def _service(nightly: Nightly, program: str, user: str) -> str:
    asked = nightly.arguments("--date=yesterday", f"--wait-minutes={nightly.late_minutes}")
    command = " ".join([program, *map(_argument, asked)])
    lines = [
        f"# {nightly.name}.service",
        "[Unit]",
        f"Description=Glossator {nightly.name}: label the comments of the day before",
        "Wants=network-online.target",
        "After=network-online.target",
        "# so often a failed run may be begun again before the next night",
        "StartLimitIntervalSec=20h",
        f"StartLimitBurst={nightly.retries + 1}",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={command}",
        f"User={user}",
        "# credentials, one NAME=VALUE a line, readable by root alone",
        f"EnvironmentFile=-/etc/glossator/{nightly.name}.env",
        "Restart=on-failure",
        f"RestartSec={RETRY_MINUTES}min",
        f"RestartPreventExitStatus={' '.join(map(str, FINAL_CODES))}",
        f"TimeoutStartSec={int(nightly.deadline_hours * 3600)}",
        f"TimeoutStopSec={GRACE_SECONDS}",
        "KillMode=mixed",
        "NoNewPrivileges=yes",
        "PrivateDevices=yes",
        "PrivateTmp=yes",
        "ProtectControlGroups=yes",
        "ProtectHome=read-only",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectSystem=strict",
        "RestrictSUIDSGID=yes",
        *(f"ReadWritePaths={_path(folder)}" for folder in _written(nightly)),
    ]
    return "\n".join(lines) + "\n"


def _timer(nightly: Nightly) -> str:
    when = f"*-*-* {nightly.begins():%H:%M:%S} {nightly.time_zone}"
    lines = [
        f"# {nightly.name}.timer",
        "[Unit]",
        f"Description=Glossator {nightly.name}, every night",
        "",
        "[Timer]",
        f"OnCalendar={when}",
        "Persistent=true",
        f"Unit={nightly.name}.service",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def _written(nightly: Nightly) -> list[str]:
    """The folders that are written to: that which each night's is made in, and of what is told."""
    options, given = nightly.options(), nightly.given()
    told = {"--metrics-file": given["metrics_file"], "--lineage": given["lineage"]}
    files = {flag: (value,) for flag, value in told.items() if value is not None}
    places = {"--input": options.inputs, "--output": (options.output,), **files}
    for flag, values in places.items():
        for value in values:
            path = local_path(value)
            if path is not None and not PurePosixPath(path).is_absolute():
                raise UsageError(f"{flag} {value} is relative: a service stands in no folder")
    folders = [str(PurePosixPath(p).parent) for (f,) in files.values() if (p := local_path(f))]
    if (path := local_path(options.output)) is None:
        return folders
    output = PurePosixPath(path)
    dated = [folder for folder in (output, *output.parents) if "{date}" in folder.name]
    return [str(dated[-1].parent), *folders]


def _argument(word: str) -> str:
    """As one word of a command line (systemd.service(5), "Command lines")."""
    return _quoted(word.replace("$", "$$"))


def _path(word: str) -> str:
    """As one path of a list (systemd.exec(5)); no variables are put in there."""
    return _quoted(word)


def _quoted(word: str) -> str:
    """As one word (systemd.syntax(7), "Quoting"), without a specifier (systemd.unit(5)) in it."""
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in word):
        raise UsageError(f"{word!r} has a control character or a line break in it: no unit can")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if re.fullmatch(r"[\w./:=,@+-]+", word, re.ASCII) else f'"{escaped}"'
