"""OpenLineage: a run's beginning and end, told to whoever collects lineage (https://openlineage.io).

It is told by the process that submits the job, from the plan and the manifest. Whatever becomes of
an event, the job goes on.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from glossator.model.errors import GlossatorError, UsageError
from glossator.model.store import absolute_uri
from glossator.model.terminal import reason
from glossator.pipeline.exits import code_of
from glossator.pipeline.inputs.discover import shown
from glossator.pipeline.inputs.globs import split_glob
from glossator.pipeline.inputs.plan import Source

if TYPE_CHECKING:
    from glossator.pipeline.outputs.manifest import Check, Manifest

NAMESPACE = "OPENLINEAGE_NAMESPACE"
PARENT = "OPENLINEAGE_PARENT_ID"
"""The environment's word for the job's namespace, and for the run that started this one, as
`namespace/job/run`."""
_SWITCHES = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT")
_FACETS = "urn:glossator:facets"


@dataclass(frozen=True)
class Told:
    """What is told of a run from its beginning on."""

    job: str
    """A name that is the same every night."""
    inputs: tuple[str, ...]
    output: str
    date: str | None
    run_id: str
    model: str
    """Its digest."""
    tasks: tuple[str, ...]
    sources: tuple[Source, ...]


def is_asked_for(where: str | None) -> bool:
    """Whether lineage is to be told.

    Args:
        where: a file or an http address; None for what OpenLineage's environment says.
    """
    disabled = os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true"
    asked = any(name.startswith(_SWITCHES) and value for name, value in os.environ.items())
    return not disabled and (where is not None or asked)


def require(where: str | None) -> None:
    """Refuses a place where lineage can't be told.

    Raises:
        UsageError: it is neither a file nor an http address, or the extra is not installed.
    """
    if where is None:
        return
    if "://" in where and not where.startswith(("http://", "https://")):
        raise UsageError(
            f"{shown(where)} is neither a file's path nor an http address", parameter="lineage"
        )
    try:
        import openlineage.client  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "OpenLineage's client is missing: install glossator[lineage]", parameter="lineage"
        ) from error


class Lineage:
    """Tells of one run. Says once, in a line, if that is not possible, and no more is tried."""

    def __init__(self, where: str | None, told: Told, warn: Callable[[str], None]) -> None:
        """Says nothing yet.

        Args:
            where: a file, to which lines are added, or an http address; None for what
                OpenLineage's environment says.
            told: of the run.
            warn: takes a line.
        """
        self._where = where
        self._told = told
        self._warn = warn
        self._client: Any = None
        self._works = is_asked_for(where)
        self._run = str(uuid.uuid4())

    def begin(self) -> None:
        """The run has begun."""
        self._emit("START")

    def complete(self, manifest: Manifest) -> None:
        """It has published what this manifest says, or found it published."""
        self._emit("COMPLETE", manifest=manifest, checks=manifest.checks)

    def fail(self, error: GlossatorError) -> None:
        """It has failed; what was published before stays."""
        self._emit("FAIL", error=error, checks=getattr(error, "checks", ()))

    def _emit(self, kind: str, **end: Any) -> None:
        if not self._works:
            return
        try:
            if self._client is None:
                self._client = _client(self._where)
            self._client.emit(_event(kind, self._run, self._told, **end))
            if kind != "START":
                self._client.close(5.0)
        except Exception as error:  # whatever it is, labels are worth more
            self._works = False
            where = f" to {shown(self._where)}" if self._where else ""
            self._warn(f"can't tell lineage{where}: {reason(error)}; the job goes on without")


def _client(where: str | None) -> Any:
    from openlineage.client import OpenLineageClient

    # it would look for a repository around the folder where it stands
    config: dict[str, Any] = {"facets": {"source_code_location": {"disabled": True}}}
    if where is not None and where.startswith(("http://", "https://")):
        # the job has other things to do than to wait for a receiver that is down
        retry = {"total": 1, "connect": 1, "read": 1}
        config["transport"] = {"type": "http", "url": where, "timeout": 5.0, "retry": retry}
    elif where is not None:
        path = os.path.abspath(where)  # noqa: PTH100 - its folder need not be there
        config["transport"] = {"type": "file", "log_file_path": path, "append": True}
    return OpenLineageClient(config=config)


def _event(
    kind: str,
    run: str,
    told: Told,
    *,
    manifest: Manifest | None = None,
    error: GlossatorError | None = None,
    checks: Sequence[Check] = (),
) -> Any:
    from openlineage.client import event_v2 as events

    return events.RunEvent(
        eventType=events.RunState[kind],
        eventTime=datetime.now(timezone.utc).isoformat(),
        producer=f"urn:glossator:{version('glossator')}",
        run=events.Run(run, _run_facets(told, manifest, error, checks)),
        job=events.Job(os.environ.get(NAMESPACE) or "glossator", told.job, _job_facets()),
        inputs=_inputs(told, checks),
        outputs=[_output(told, manifest)],
    )


def _run_facets(
    told: Told,
    manifest: Manifest | None,
    error: GlossatorError | None,
    checks: Sequence[Check],
) -> dict[str, Any]:
    from openlineage.client import facet_v2 as facets

    found: dict[str, Any] = {
        "processing_engine": facets.processing_engine_run.ProcessingEngineRunFacet(
            version=version("apache-beam"), name="Apache Beam"
        ),
        "glossator_run": _own_facet(
            "run",
            run_id=told.run_id,
            model_digest=told.model,
            tasks=list(told.tasks),
            **({"exit_code": code_of(error)} if error is not None else {}),
            **(asdict(manifest.totals) if manifest is not None else {}),
            checks=[asdict(check) for check in checks],
        ),
    }
    if told.date is not None:
        day = date.fromisoformat(told.date)
        begins, ends = (f"{d.isoformat()}T00:00:00Z" for d in (day, day + timedelta(days=1)))
        found["nominalTime"] = facets.nominal_time_run.NominalTimeRunFacet(begins, ends)
    if error is not None:
        found["errorMessage"] = facets.error_message_run.ErrorMessageRunFacet(
            message=shown(str(error)), programmingLanguage="python"
        )
    if (parent := os.environ.get(PARENT, "").rsplit("/", 2)) and len(parent) == 3:
        found["parent"] = facets.parent_run.ParentRunFacet(
            run=facets.parent_run.Run(parent[2]),
            job=facets.parent_run.Job(parent[0], parent[1]),
        )
    return found


def _job_facets() -> dict[str, Any]:
    from openlineage.client import facet_v2 as facets

    return {
        "jobType": facets.job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="GLOSSATOR", jobType="JOB"
        )
    }


def _inputs(told: Told, checks: Sequence[Check]) -> list[Any]:
    """A data set for each folder or file that was named, with what of the files lies there."""
    from openlineage.client import event_v2 as events
    from openlineage.client import facet_v2 as facets

    found = []
    left = list(told.sources)
    for place in dict.fromkeys(_place(uri) for uri in told.inputs):
        below = f"{place}/"  # not a folder whose name only begins alike
        here = [source for source in left if f"{source.uri}/".startswith(below)]
        left = [source for source in left if not f"{source.uri}/".startswith(below)]
        statistics = facets.input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=sum(source.rows for source in here),
            size=sum(source.size for source in here),
            fileCount=len(here),
        )
        told_of = {"inputStatistics": statistics, **_assertions(checks)}
        found.append(events.InputDataset(*_names(place), inputFacets=told_of))
    return found


def _assertions(checks: Sequence[Check]) -> dict[str, Any]:
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

    if not checks:
        return {}
    assertions = [
        quality.Assertion(
            assertion=check.name,
            success=check.passed,
            expected=str(check.limit),
            actual=None if check.value is None else str(check.value),
        )
        for check in checks
    ]
    return {"dataQualityAssertions": quality.DataQualityAssertionsDatasetFacet(assertions)}


def _output(told: Told, manifest: Manifest | None) -> Any:
    from openlineage.client import event_v2 as events
    from openlineage.client import facet_v2 as facets

    names = _names(shown(told.output))
    if manifest is None:
        return events.OutputDataset(*names)
    written = facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=manifest.totals.rows_labelled,
        size=sum(part.bytes for part in manifest.parts),
        fileCount=len(manifest.parts),
    )
    run = facets.dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=manifest.run_id)
    return events.OutputDataset(
        *names, facets={"version": run}, outputFacets={"outputStatistics": written}
    )


def _own_facet(name: str, **values: Any) -> Any:
    from openlineage.client.facet_v2 import RunFacet

    class GlossatorRunFacet(RunFacet):
        @staticmethod
        def _get_schema() -> str:
            return f"{_FACETS}:{name}:1"

    return GlossatorRunFacet().with_additional_properties(**values)


def _place(uri: str) -> str:
    """What an input names, without a glob, as it may be shown."""
    found = absolute_uri(uri)
    scheme, separator, path = found.rpartition("://")
    parts = split_glob(path)
    return shown(f"{scheme}{separator}{parts[0] if parts else path}").rstrip("/")


def _names(uri: str) -> Sequence[str]:
    """Namespace and name of a data set, as OpenLineage's naming of stores has them."""
    scheme, separator, path = uri.rstrip("/").partition("://")
    if not separator:
        return "file", uri.rstrip("/")
    bucket, _, name = path.partition("/")
    return f"{scheme}://{bucket}", name or "/"
