"""Flink's REST interface, as far as a job's client needs it.

https://nightlies.apache.org/flink/flink-docs-release-1.19/docs/ops/rest_api/
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glossator.pipeline.errors import JobError

EMBEDDED = ("[local]", "[auto]")
"""Masters that are no address: the job server runs a cluster inside itself."""
AUTHORITY, CERTIFICATE = "rest-ca.pem", "rest-client.pem"
"""Files beside Flink's configuration, where its REST port asks for certificates (mutual TLS): whom
the client trusts, and its own key and certificate."""
_ENDED = {"FINISHED", "CANCELED", "FAILED"}
_TIMEOUT_SECS = 10.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Past any proxy, as Beam's job server goes: a cluster is a neighbour."""


@dataclass(frozen=True)
class Job:
    """A job on a cluster."""

    id: str
    name: str
    state: str
    """Flink's word for it: RUNNING, RESTARTING, CANCELED, ..."""

    @property
    def ended(self) -> bool:
        """Whether it holds nothing of the cluster any more."""
        return self.state in _ENDED


class Cluster:
    """A Flink cluster by the address of its JobManager."""

    def __init__(self, master: str, conf_dir: str | None = None) -> None:
        """Names a cluster; it is not asked for anything yet.

        Args:
            master: `host:port`, or a URL.
            conf_dir: a folder of Flink's configuration, for a cluster with TLS; with the files
                `AUTHORITY` and `CERTIFICATE`.

        Raises:
            JobError: the certificates can't be read.
        """
        secure = conf_dir is not None and Path(conf_dir, AUTHORITY).exists()
        scheme = "https" if secure else "http"
        self.url = (master if "://" in master else f"{scheme}://{master}").rstrip("/")
        self._opener = _with_certificates(Path(conf_dir)) if secure and conf_dir else _DIRECT

    def slots(self) -> int:
        """Task slots of all TaskManagers, busy or not; 0 where they are started on demand.

        Raises:
            JobError: there is no cluster at the address, or none that answers.
        """
        return int(self._get("/overview")["slots-total"])

    def version(self) -> str:
        """Flink's version on the cluster, as a job server is named after: `1.19`.

        Raises:
            JobError: as `slots`.
        """
        return ".".join(str(self._get("/overview")["flink-version"]).split(".")[:2])

    def task_managers(self) -> dict[str, str]:
        """The ids of the TaskManagers that the JobManager knows, and their addresses.

        Raises:
            JobError: as `slots`.
        """
        return {m["id"]: m["path"] for m in self._get("/taskmanagers")["taskmanagers"]}

    def jobs(self, name: str) -> list[Job]:
        """The jobs of a name, newest first. Beam adds to the name what makes it unique."""
        found = sorted(self._get("/jobs/overview")["jobs"], key=lambda job: -job["start-time"])
        return [Job(j["jid"], j["name"], j["state"]) for j in found if j["name"].startswith(name)]

    def cancel(self, job: Job) -> None:
        """Ask for a job's end; it ends a little later."""
        self._send("PATCH", f"/jobs/{job.id}?mode=cancel")

    def failure(self, job: Job) -> str | None:
        """What last went wrong with a job, as its first line; None if nothing did."""
        history = self._get(f"/jobs/{job.id}/exceptions?maxExceptions=1")
        entries = history.get("exceptionHistory", {}).get("entries", [])
        text = entries[0]["stacktrace"] if entries else history.get("root-exception")
        return text.splitlines()[0] if text else None

    def page(self, job: Job) -> str:
        """The job's page in Flink's web interface."""
        return f"{self.url}/#/job/running/{job.id}/overview"

    def _get(self, path: str) -> Any:
        return json.loads(self._send("GET", path))

    def _send(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECS) as response:
                body: bytes = response.read()
            return body
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise JobError(
                f"no Flink answers at {self.url} ({reason}): is the JobManager up, and is"
                " --flink_master its REST address (host:port)? A cluster with TLS is reached with"
                " --flink_conf_dir"
            ) from error


def _with_certificates(conf_dir: Path) -> urllib.request.OpenerDirector:
    try:
        context = ssl.create_default_context(cafile=conf_dir / AUTHORITY)
        if (conf_dir / CERTIFICATE).exists():
            context.load_cert_chain(conf_dir / CERTIFICATE)
    except OSError as error:
        raise JobError(
            f"{conf_dir}: {AUTHORITY} or {CERTIFICATE} can't be read ({error}): is that the"
            " configuration of a cluster of yours?"
        ) from error
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
