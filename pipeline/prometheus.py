"""How a run ended, as Prometheus reads it: a file for node_exporter, or a Pushgateway.

https://github.com/prometheus/node_exporter#textfile-collector
https://github.com/prometheus/pushgateway
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glossator.model.errors import UsageError
from glossator.model.terminal import reason
from glossator.pipeline.exits import FAILED, code_of
from glossator.pipeline.inputs.discover import shown

if TYPE_CHECKING:
    from glossator.pipeline.job import Outcome
    from glossator.pipeline.outputs.manifest import Check, Manifest

_PUSH_SECS = 5.0
_SUCCESS = "glossator_last_success_timestamp_seconds"
_DATE = "glossator_last_success_date_seconds"
_KEPT = (_SUCCESS, _DATE)
"""What a run that fails leaves as it was."""


@dataclass(frozen=True)
class _Gauge:
    name: str
    help: str
    value: float
    labels: Mapping[str, str]


class Meter:
    """Tells how one run ended. What can't be told costs a line, never the run."""

    def __init__(
        self, file: str | None, push: str | None, output: str, warn: Callable[[str], None]
    ) -> None:
        """Begins to count the seconds.

        Args:
            file: to write, replaced as a whole; a former one's last success is kept.
            push: the address of a Pushgateway.
            output: the output's URI, with `{date}` in it where it has one; a label of all metrics.
            warn: takes a line.

        Raises:
            UsageError: the extra is not installed, or the file's folder is not there.
        """
        self._file = None if file is None else Path(file).absolute()
        self._push = push
        self._output = shown(output)
        self._warn = warn
        self._started = time.time()
        if file is None and push is None:
            return
        parameter = "metrics_push" if file is None else "metrics_file"
        try:
            import prometheus_client  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "Prometheus's client is missing: install glossator[metrics]", parameter=parameter
            ) from error
        if self._file is not None and not self._file.parent.is_dir():
            raise UsageError(
                f"{file}: its folder is not there: make it, or name another", parameter=parameter
            )

    def done(self, outcome: Outcome) -> None:
        """It ended well."""
        gauges = self._ended(0)
        if outcome.manifest is not None:
            gauges += self._published(outcome.manifest)
        self._tell(gauges)

    def failed(self, error: BaseException | None) -> None:
        """It failed; None where it was stopped."""
        code = FAILED if error is None else code_of(error)
        self._tell(self._ended(code) + self._checks(getattr(error, "checks", ())))

    def _ended(self, code: int) -> list[_Gauge]:
        now = time.time()
        return [
            self._gauge("last_run_exit_code", "Exit code of the last run.", code),
            self._gauge("last_run_timestamp_seconds", "When the last run ended.", now),
            self._gauge(
                "last_run_duration_seconds", "How long the last run took.", now - self._started
            ),
        ]

    def _published(self, manifest: Manifest) -> list[_Gauge]:
        totals = manifest.totals
        found = [
            self._gauge(
                "last_success_timestamp_seconds", "When a run last ended well.", time.time()
            ),
            self._gauge("rows_read", "Rows read, labelled or rejected.", totals.rows_read),
            self._gauge("rows_labelled", "Rows labelled.", totals.rows_labelled),
            self._gauge("rows_unreadable", "Rows that can't be read.", totals.rows_unreadable),
            self._gauge("files_unreadable", "Files that can't be read.", totals.files_unreadable),
            *(
                self._gauge("rejects", "Lines among the rejects, by reason.", count, reason=why)
                for why, count in totals.rejects.items()
            ),
        ]
        if (day := manifest.options.get("date")) is not None:
            begins = datetime.fromisoformat(day).replace(tzinfo=timezone.utc).timestamp()
            found.append(
                self._gauge(
                    "last_success_date_seconds", "The date that was last published.", begins
                )
            )
        return found + self._checks(manifest.checks)

    def _checks(self, checks: Sequence[Check]) -> list[_Gauge]:
        return [
            self._gauge(name, help_, value, check=check.name)
            for check in checks
            for name, help_, value in (
                ("check_value", "The figure of a check.", check.value),
                ("check_limit", "The limit of a check.", check.limit),
                ("check_passed", "Whether a check passed.", check.passed),
            )
            if value is not None  # there was nothing to check
        ]

    def _gauge(self, name: str, help_: str, value: float, **labels: str) -> _Gauge:
        labels = {"output": self._output, **labels}
        return _Gauge(f"glossator_{name}", help_, float(value), labels)

    def _tell(self, gauges: list[_Gauge]) -> None:
        for where, tell in ((self._file, self._write), (self._push, self._send)):
            if where is None:
                continue
            try:
                tell(gauges)
            except Exception as error:  # whatever it is, labels are worth more
                self._warn(f"can't write metrics to {shown(str(where))}: {reason(error)}")

    def _write(self, gauges: list[_Gauge]) -> None:
        from prometheus_client import write_to_textfile

        assert self._file is not None
        told = {gauge.name for gauge in gauges}
        kept = [gauge for gauge in _former(self._file) if gauge.name not in told]
        write_to_textfile(str(self._file), _registry(gauges + kept))

    def _send(self, gauges: list[_Gauge]) -> None:
        from prometheus_client import pushadd_to_gateway

        assert self._push is not None
        # what is not told again stays there; each output is a group of its own
        pushadd_to_gateway(
            self._push,
            job="glossator",
            registry=_registry(gauges),
            grouping_key={"output": self._output},
            timeout=_PUSH_SECS,
        )


def _registry(gauges: list[_Gauge]) -> Any:
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    known: dict[str, Any] = {}
    for gauge in gauges:
        if gauge.name not in known:
            known[gauge.name] = Gauge(gauge.name, gauge.help, list(gauge.labels), registry=registry)
        known[gauge.name].labels(**gauge.labels).set(gauge.value)
    return registry


def _former(file: Path) -> list[_Gauge]:
    """What stays of a file that an earlier run wrote; nothing if it can't be read as one."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        families = list(text_string_to_metric_families(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []
    return [
        _Gauge(sample.name, family.documentation, sample.value, sample.labels)
        for family in families
        for sample in family.samples
        if sample.name in _KEPT
    ]
