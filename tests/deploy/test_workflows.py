"""The nightly workflow of Google Cloud: by the published forms, and run by an emulator."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from glossator.deploy.nightly.__main__ import cli
from glossator.model.errors import UsageError

pytestmark = pytest.mark.dataflow

CLOUD = [
    *("--template=gs://bucket/glossator.json", "--project=my-project", "--region=us-central1"),
    *("--scheduler-account=starter@my-project.iam.gserviceaccount.com", "--max-workers=8"),
]
JOB = ["--input=gs://bucket/in/{date}/*.parquet", "--output=gs://bucket/out/{date}", "--key=id"]


def render(folder: Path, *flags: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The workflow and its schedule."""
    arguments = ["workflows", "--write", str(folder), *CLOUD, *JOB, *flags]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    workflow, schedule = (
        json.loads((folder / f"glossator.{kind}.json").read_text(encoding="utf-8"))
        for kind in ("workflow", "schedule")
    )
    return workflow, schedule


def test_schedule_starts_the_workflow(tmp_path: Path) -> None:
    scheduler = pytest.importorskip("google.cloud.scheduler_v1")
    _, schedule = render(tmp_path, "--schedule=30 3 * * *", "--time-zone=Europe/Berlin")
    job = scheduler.Job.from_json(json.dumps(schedule))  # refuses what it does not know
    assert (job.schedule, job.time_zone) == ("30 3 * * *", "Europe/Berlin")
    assert job.http_target.uri.endswith(
        "/v1/projects/my-project/locations/us-central1/workflows/glossator/executions"
    )
    assert json.loads(job.http_target.body) == {"argument": "{}"}
    assert job.http_target.oauth_token.service_account_email.startswith("starter@")
    assert job.retry_config.max_retry_duration == timedelta(hours=1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--outptu=x"], "unknown flag"),
        (["--output=gs://bucket/out"], "each day would replace"),
        (["--input=s3://bucket/{date}"], "on Dataflow it is gs:// URIs"),
        (["--schedule=30 23 * * *"], "begins at 23:30 UTC, and a retry up to 1 hours later"),
        (["--text=${sys.now()}"], "would be filled in by the workflow"),
        (["--strict"], "strict can't be given to the template: a parameter has a value"),
        (["--num_workers=3"], "--num_workers=3 is no parameter of the template"),
    ],
)
def test_what_would_fail_at_night_fails_now(flags: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        render(tmp_path, *flags)
    assert words in str(error.value)


class Service:
    """In place of Google's storage, Dataflow and tokens: what it is asked, and what it answers."""

    def __init__(self) -> None:
        self.launched: list[dict[str, Any]] = []
        self.listed: list[str] = []
        self.cancelled: list[str] = []
        self.objects: set[str] = set()
        self.looks_until: dict[int, str] = {}
        """After so many looks, an object appears."""
        self.states: list[str] = ["JOB_STATE_DONE"]
        self.said = "out of memory"
        self.down = 0
        """So many requests are answered with 503."""

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if path == "/token":
            return 200, {"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}
        if self.down:
            self.down -= 1
            return 503, {"error": {"code": 503}}
        if path == "/storage/v1/b/bucket/o":
            self.listed.append(query["prefix"])
            if len(self.listed) in self.looks_until:
                self.objects.add(self.looks_until[len(self.listed)])
            found = [{"name": o} for o in sorted(self.objects) if o.startswith(query["prefix"])]
            return 200, {"kind": "storage#objects", **({"items": found[:1]} if found else {})}
        jobs = "/v1b3/projects/my-project/locations/us-central1"
        if (method, path) == ("POST", f"{jobs}/flexTemplates:launch"):
            self.launched.append(body["launchParameter"])
            return 200, {"job": {"id": f"job-{len(self.launched)}"}}
        job, _, more = path.removeprefix(f"{jobs}/jobs/").partition("/")
        assert job == f"job-{len(self.launched)}"
        if method == "PUT":
            self.cancelled.append(body["requestedState"])
            return 200, {}
        if more == "messages":
            return 200, {"jobMessages": [{"messageText": self.said}]}
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return 200, {"id": job, "currentState": state}


@pytest.fixture
def service() -> Iterator[tuple[Service, str]]:
    """It, and where it listens."""
    state = Service()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            split = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(content) if content.startswith(b"{") else None
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            code, said = state.answer(self.command, split.path, query, body)
            if split.path != "/token":
                assert self.headers["Authorization"] == "Bearer t"
            text = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = _do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


Night = Callable[..., tuple[Any, list[float]]]


@pytest.fixture
def night(service: tuple[Service, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    """Runs the workflow: what it returns, or raises, and how long it slept."""
    emulator = pytest.importorskip("workflows_emulator.main")
    utils = pytest.importorskip("workflows_emulator.utils")
    from workflows_emulator.lib import sys_utils

    _, address = service
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        **{"type": "service_account", "project_id": "my-project", "client_email": "a@b"},
        **{"private_key": private.decode(), "token_uri": f"{address}/token"},
    }
    (tmp_path / "account.json").write_text(json.dumps(account), encoding="utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    slept: list[float] = []
    clock = datetime(2026, 11, 22, 2, 30, tzinfo=timezone.utc).timestamp()
    monkeypatch.setattr(sys_utils, "sleep", lambda seconds: slept.append(seconds))
    monkeypatch.setattr(sys_utils, "now", lambda: clock + sum(slept))

    def run(*flags: str, **arguments: str) -> tuple[Any, list[float]]:
        workflow, _ = render(tmp_path, *flags)
        text = json.dumps(workflow)
        for place in ("dataflow", "storage"):
            text = text.replace(f"https://{place}.googleapis.com", address)
        try:
            return emulator.execute_workflow(json.loads(text), {"args": arguments}), slept
        except utils.WorkflowError as error:
            return dict(error.payload), slept

    return run


def test_workflow_has_the_published_form(tmp_path: Path) -> None:
    emulator = pytest.importorskip("workflows_emulator")
    jsonschema = pytest.importorskip("jsonschema")
    schema = Path(emulator.__file__).with_name("workflow-schema.json").read_text(encoding="utf-8")
    workflow, _ = render(tmp_path)
    jsonschema.validate(workflow, json.loads(schema))
    steps = workflow["main"]["steps"]
    steps.append({"odd": {"switch": "no"}})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(workflow, json.loads(schema))


def test_night_is_launched_once_for_the_day_before(
    service: tuple[Service, str], night: Night
) -> None:
    state, _ = service
    state.objects = {"in/2026-11-21/a.parquet"}
    state.states = ["JOB_STATE_QUEUED", "JOB_STATE_RUNNING", "JOB_STATE_DONE"]
    answer, slept = night("--top=3")
    assert answer == {"date": "2026-11-21", "job": "job-1"}
    assert state.listed == ["in/2026-11-21/"] and slept == [60, 60, 60]
    (launch,) = state.launched
    assert launch == {
        "jobName": "glossator-2026-11-21",
        "containerSpecGcsPath": "gs://bucket/glossator.json",
        "parameters": {
            "input": "gs://bucket/in/{date}/*.parquet",
            "output": "gs://bucket/out/{date}",
            **{"key": "id", "top": "3", "date": "2026-11-21"},
        },
        "environment": {"maxWorkers": 8},
    }


def test_night_can_be_run_again_for_its_own_day(service: tuple[Service, str], night: Night) -> None:
    state, _ = service
    state.objects = {"in/2026-10-01/a.parquet"}
    answer, _ = night(date="2026-10-01")
    assert answer["date"] == state.launched[0]["parameters"]["date"] == "2026-10-01"


def test_late_day_is_waited_for(service: tuple[Service, str], night: Night) -> None:
    state, _ = service
    state.looks_until = {3: "in/2026-11-21/_SUCCESS"}
    answer, slept = night()
    assert answer["job"] == "job-1" and slept == [300, 300, 60]


def test_all_inputs_have_to_be_there(service: tuple[Service, str], night: Night) -> None:
    state, _ = service
    state.objects = {"in/2026-11-21/a.parquet"}
    answer, _ = night("--input=gs://bucket/more/{date}.parquet", "--deadline-hours=1")
    assert answer["code"] == 4 and state.launched == []
    assert {"in/2026-11-21/", "more/2026-11-21.parquet"} == set(state.listed)


def test_day_that_does_not_come_ends_with_4(service: tuple[Service, str], night: Night) -> None:
    state, _ = service
    answer, slept = night("--deadline-hours=3")
    assert answer == {"code": 4, "message": "the input of 2026-11-21 is not there yet"}
    assert 3600 <= sum(slept) <= 3600 + 300 and state.launched == []


@pytest.mark.parametrize(
    ("said", "launches", "code"),
    [
        ("glossator.pipeline.errors.RefusedError: 1 of 2 files could not be read", 1, 3),
        ("out of memory", 3, 1),
    ],
)
def test_failed_job_is_tried_again_but_not_a_refusal(
    service: tuple[Service, str], night: Night, said: str, launches: int, code: int
) -> None:
    state, _ = service
    state.objects, state.states = {"in/2026-11-21/a.parquet"}, ["JOB_STATE_FAILED"]
    state.said = said
    answer, slept = night("--retries=2")
    assert (answer["code"], len(state.launched)) == (code, launches)
    assert f"job job-{launches} of 2026-11-21 ended as JOB_STATE_FAILED" in answer["message"]
    assert slept.count(300) == launches - 1
    assert {launch["parameters"]["date"] for launch in state.launched} == {"2026-11-21"}


def test_job_that_takes_too_long_is_cancelled(service: tuple[Service, str], night: Night) -> None:
    state, _ = service
    state.objects, state.states = {"in/2026-11-21/a.parquet"}, ["JOB_STATE_RUNNING"]
    answer, slept = night("--deadline-hours=0.2")
    assert answer["code"] == 1 and "took too long: cancelled" in answer["message"]
    assert state.cancelled == ["JOB_STATE_CANCELLED"] and sum(slept) <= 720 + 60


def test_job_that_somebody_cancelled_is_not_begun_again(
    service: tuple[Service, str], night: Night
) -> None:
    state, _ = service
    state.objects, state.states = {"in/2026-11-21/a.parquet"}, ["JOB_STATE_CANCELLED"]
    answer, _ = night()
    assert answer["code"] == 1 and len(state.launched) == 1


def test_service_that_is_down_is_asked_again(service: tuple[Service, str], night: Night) -> None:
    state, _ = service
    state.objects, state.down = {"in/2026-11-21/a.parquet"}, 1
    answer, _ = night()
    assert answer["job"] == "job-1"
