"""A systemd service and its timer, for one machine (systemd.service(5), systemd.timer(5))."""

from __future__ import annotations

from pathlib import PurePosixPath

from glossator.deploy.settings import FINAL_CODES, GRACE_SECONDS, Nightly
from glossator.model.errors import UsageError


def units(nightly: Nightly, program: str, user: str) -> dict[str, str]:
    """The text of `NAME.service` and `NAME.timer`.

    Args:
        nightly: what and when.
        program: where `glossator` is on the machine, an absolute path.
        user: whom it runs as.

    Raises:
        UsageError: a path is not absolute, or the schedule could miss or repeat a day.
    """
    nightly.require_one_day()
    if not PurePosixPath(program).is_absolute():
        raise UsageError(f"--program {program} is no absolute path: a service has no PATH of yours")
    return {
        f"{nightly.name}.service": _service(nightly, program, user),
        f"{nightly.name}.timer": _timer(nightly),
    }


def _service(nightly: Nightly, program: str, user: str) -> str:
    command = " ".join(_quoted(a) for a in (program, *nightly.arguments("--date=yesterday")))
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
        "RestartSec=5min",
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
        *(f"ReadWritePaths={_quoted(folder)}" for folder in _written(nightly)),
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
    """The folder that each night's folder is made in, where that is on the machine."""
    options = nightly.options()
    for flag, values in (("--input", options.inputs), ("--output", (options.output,))):
        for value in values:
            if "://" not in value and not PurePosixPath(value).is_absolute():
                raise UsageError(f"{flag} {value} is relative: a service stands in no folder")
    if "://" in options.output:
        return []
    output = PurePosixPath(options.output)
    dated = [path for path in (output, *output.parents) if "{date}" in path.name]
    return [str((dated or [output])[-1].parent)]


def _quoted(word: str) -> str:
    """As one word of a command line (systemd.service(5), "Command lines")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    if "\n" in word:
        raise UsageError(f"{word!r} has a line break in it")
    return f'"{escaped}"' if any(c in word for c in " \t'\"\\;*?{}$%") else escaped
