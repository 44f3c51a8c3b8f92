"""What is deployed and when: the one typed place from which every file is rendered."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from glossator.model.commands import flags, naming_flags
from glossator.model.errors import UsageError
from glossator.pipeline.cli import label as label_command

if TYPE_CHECKING:
    from glossator.pipeline.options import LabelOptions

FLINK_VERSION = "1.19"
"""Of the cluster, and of the job server in the image."""
FLINK_IMAGE = "flink:1.19.3-scala_2.12-java17"
JOB_SERVER_JAR = "/opt/apache/beam/jars/beam-runners-flink-job-server.jar"
"""Beam's job server, inside the image."""
FLINK_UID = 9999
"""The user that Flink's image makes for itself, and by number its group."""
GRACE_SECONDS = 120
"""So long a run that is told to stop may take to cancel its job on a cluster."""
FINAL_CODES = (2, 3)
"""Exit codes that a retry would not change: the request is invalid; a check refused to publish."""
NOT_YET_CODE = 4
"""The exit code of a day that is not there yet."""
START_WITHIN_SECONDS = 3600
"""A run that could not begin in that time after its schedule waits for the next night."""
RETRY_MINUTES = 5
"""Between a run that failed and the next try."""

_SCHEDULE = re.compile(r"(\d{1,2}) (\d{1,2}) \* \* \*")
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,43}[a-z0-9])?")
_DNS = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_QUANTITY = re.compile(r"[1-9]\d*(Ki|Mi|Gi|Ti)")
_IMAGE = re.compile(r"[^\s@]+(:(?P<tag>[\w][\w.-]*)|@sha256:[0-9a-f]{64})")


_NO_DATE = "0001-01-01"
"""Stands for the date while the flags are checked."""


@dataclass(frozen=True)
class Nightly:
    """One labelling job, and when it runs."""

    label_flags: tuple[str, ...]
    """What would be typed after `glossator label`, without a date."""
    name: str = "glossator"
    """Of all that is made for it; at most 45 characters, as Flink's operator allows."""
    schedule: str = "30 2 * * *"
    """When, once a day, as cron writes it: minute, hour and three stars."""
    time_zone: str = "UTC"
    """Of the schedule, e.g. Europe/Berlin. The date of the data is always UTC's."""
    deadline_hours: float = 6.0
    """So long a run may take, its retries included where the scheduler can count them."""
    retries: int = 2
    """Of a run that failed; each resumes what the one before had done."""

    def __post_init__(self) -> None:
        _require(_NAME, "--name", self.name, "at most 45 of a-z, 0-9 and -, a letter first")
        self.begins()
        _zone(self.time_zone)
        if not 0 < self.deadline_hours <= 24:
            raise UsageError(f"--deadline-hours {self.deadline_hours:g} is not between 0 and 24")
        if self.retries < 0:
            raise UsageError(f"--retries {self.retries}: 0 or more")
        self.options()

    @property
    def late_minutes(self) -> int:
        """So long a day may be late: a third of the deadline."""
        return int(self.deadline_hours * 60 / 3)

    def options(self) -> LabelOptions:
        """What the job is asked to label, read by the command that will do it.

        Raises:
            UsageError: the command would refuse it.
        """
        options = _checked(self.given())
        if options.date != _NO_DATE:
            raise UsageError(f"--date {options.date}: leave it out, each run gets the day before")
        if "{date}" not in options.output:
            raise UsageError(
                f"--output {options.output} is the same every night: each would replace the labels"
                f" of the one before; write e.g. {options.output.rstrip('/')}/{{date}}"
            )
        return options

    def given(self) -> dict[str, Any]:
        """The flags of `glossator label` with their values, by the names that click has for them.

        Raises:
            UsageError: one is unknown, or has no value that it can have.
        """
        words = (f"--date={_NO_DATE}", *self.label_flags)
        given: dict[str, Any] = label_command.make_context("glossator label", list(words)).params
        return given

    def arguments(self, *engine: str) -> tuple[str, ...]:
        """For `glossator`: the command, where it runs, and the user's own flags, which win."""
        return ("label", *engine, *self.label_flags)

    def require_shared(self, place: str) -> None:
        """Refuses what only one machine can see.

        Raises:
            UsageError: the input or the output is a path and not a URI.
        """
        options = self.options()
        for flag, values in (("--input", options.inputs), ("--output", (options.output,))):
            for value in values:
                if local_path(value) is not None:
                    raise UsageError(
                        f"{flag} {value} is a path, and {place} has no files of yours: name a"
                        " bucket, e.g. s3://bucket/folder"
                    )

    def begins(self) -> time:
        """The time of day of the schedule.

        Raises:
            UsageError: it is none, or it is not once a day.
        """
        match = _SCHEDULE.fullmatch(self.schedule)
        minute, hour = (int(m) for m in match.groups()) if match else (60, 24)
        if minute > 59 or hour > 23:
            raise UsageError(
                f"--schedule {self.schedule!r}: write minute and hour and three stars, e.g."
                " '30 2 * * *' for half past two; a day without a run would not be labelled, and"
                " a second run would find all done"
            )
        return time(hour, minute)

    def require_one_day(self, hours: float) -> None:
        """Refuses schedules by which `yesterday` would be a day twice, or never.

        Args:
            hours: so long after its time a run may still be begun, or begun again.

        Raises:
            UsageError: that could be past midnight UTC, when it would label another day; or there
                is a night without that hour, as summer time begins.
        """
        zone, when = _zone(self.time_zone), self.begins()
        for day in range(366):
            local = datetime.combine(date(2026, 1, 1) + timedelta(day), when, tzinfo=zone)
            start = local.astimezone(timezone.utc)
            if start.astimezone(zone).time() != when:
                raise UsageError(
                    f"--schedule {self.schedule!r}: {local:%Y-%m-%d} has no {when:%H:%M} in"
                    f" {self.time_zone}, and that night could be left out: choose another hour, or"
                    " --time-zone UTC"
                )
            if start.date() != (start + timedelta(hours=hours)).date():
                raise UsageError(
                    f"--schedule {self.schedule!r} begins at {start:%H:%M} UTC, and a retry up to"
                    f" {math.ceil(hours)} hours later, when it is another day there, would label"
                    " another date: begin earlier or later, or lower --deadline-hours or --retries"
                )


@dataclass(frozen=True)
class Pods:
    """Where on Kubernetes, from which image and as whom."""

    image: str
    """With a tag or a digest, so that all pods and all nights run the same."""
    namespace: str = "default"
    service_account: str | None = None
    """Of what labels: the cloud identity that may read the input and write the output."""
    secrets: tuple[str, ...] = ()
    """Names of Secrets whose keys become environment variables."""

    def __post_init__(self) -> None:
        _require_fixed("--image", self.image)
        names = [("--namespace", self.namespace), *(("--secret", s) for s in self.secrets)]
        if self.service_account is not None:
            names.append(("--service-account", self.service_account))
        for flag, name in names:
            _require(_DNS, flag, name, "lower-case letters, digits, - and .")


@dataclass(frozen=True)
class Machine:
    """What one labelling process may use."""

    cores: int = 4
    """One thread each."""
    memory: str = "4Gi"
    scratch: str = "10Gi"
    """Of /tmp: parts on their way to the store."""

    def __post_init__(self) -> None:
        if self.cores < 1:
            raise UsageError(f"--cores {self.cores}: 1 or more")
        for flag, value in (("--memory", self.memory), ("--scratch", self.scratch)):
            _require(_QUANTITY, flag, value, "a number and Mi or Gi, e.g. 4Gi")


@dataclass(frozen=True)
class FlinkPods:
    """A session cluster of Flink: TaskManagers, each with one labelling process beside it."""

    task_managers: int = 2
    """At most; they are started for a job and released after it."""
    worker: Machine = field(default_factory=Machine)
    """Of each; as many task slots as cores."""
    shared_memory: str = "256Mi"
    """Of a worker's /dev/shm, out of its memory."""
    service_account: str = "flink"
    """Of Flink's pods; it may start and stop pods. Flink's operator makes one of that name."""
    image: str = FLINK_IMAGE
    """Of Flink's own containers, with a tag or a digest."""
    operator_namespace: str | None = None
    """Where Flink's operator runs, which asks the cluster how it is; None for the pods' own."""

    def __post_init__(self) -> None:
        _require_fixed("--flink-image", self.image)
        if self.task_managers < 1:
            raise UsageError(f"--task-managers {self.task_managers}: 1 or more")
        _require(_QUANTITY, "--shared-memory", self.shared_memory, "a number and Mi or Gi")
        _require(_DNS, "--flink-service-account", self.service_account, "lower-case letters")
        if self.operator_namespace is not None:
            _require(_DNS, "--operator-namespace", self.operator_namespace, "lower-case letters")

    @property
    def parallelism(self) -> int:
        """Splits labelled at once."""
        return self.task_managers * self.worker.cores


def local_path(uri: str) -> str | None:
    """The path of what is on this machine; None for what a store's URI names."""
    scheme, separator, path = uri.partition("://")
    if not separator:
        return uri
    return path if scheme in ("file", "local") else None


def _checked(given: Mapping[str, Any]) -> LabelOptions:
    """As `glossator label` reads them."""
    # Beam takes seconds to import, and not every command checks what would be labelled
    from glossator.pipeline.options import LabelOptions, beam_options

    # a parallelism saves it from asking a cluster, which need not be there yet
    beam = ["--parallelism=1", *given["beam_arguments"]]
    beam_options(beam, given["workers"] or 1, flags(label_command))
    names = {field.name for field in fields(LabelOptions)} - {"tasks"}
    with naming_flags(label_command):
        return LabelOptions(**{name: given[name] for name in names})


def _zone(name: str) -> ZoneInfo | timezone:
    if name == "UTC":  # known also where no time zones are installed
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"--time-zone {name} is not known here: write e.g. UTC or Europe/Berlin"
        ) from error


def has_digest(image: str) -> bool:
    """Whether an image's name says which bytes it is; a tag can be moved to others."""
    return re.search(r"@sha256:[0-9a-f]{64}$", image) is not None


def _require_fixed(flag: str, image: str) -> None:
    match = _IMAGE.fullmatch(image)
    if match is None or match["tag"] == "latest":
        raise UsageError(
            f"{flag} {image} has no fixed tag: nights and pods could differ; give a digest or a"
            " tag, e.g. registry.example/glossator:1.0.0"
        )


def _require(pattern: re.Pattern[str], flag: str, value: str, rule: str) -> None:
    if pattern.fullmatch(value) is None:
        raise UsageError(f"{flag} {value!r} can't be used: {rule}")
