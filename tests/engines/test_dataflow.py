"""Dataflow as far as it can be had without the service: the template, and real submissions.

Storage is an emulator that runs here, and the service a stand-in that keeps what it is sent.
"""

from __future__ import annotations

import base64
import bz2
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import WorkerOptions
from click.testing import CliRunner

from glossator.deploy.dataflow import launch, service
from glossator.deploy.dataflow.__main__ import cli
from glossator.deploy.dataflow.template import LEFT_OUT, PARAMETERS
from glossator.model.errors import UsageError
from glossator.pipeline.cli import label
from glossator.pipeline.errors import JobError
from glossator.pipeline.options import beam_options
from glossator.pipeline.runners import MACHINE_TYPE

pytestmark = pytest.mark.dataflow
NEEDED = ("google.cloud.dataflow_v1beta3", "gcsfs", "gcp_storage_emulator")


def _missing() -> list[str]:
    def found(name: str) -> bool:
        try:
            return find_spec(name) is not None
        except ModuleNotFoundError:  # not even the package that it would be in
            return False

    return [name for name in NEEDED if not found(name)]


needs_gcp = pytest.mark.skipif(
    bool(_missing()), reason=f"not installed: {', '.join(_missing())} (extra gcp, and the emulator)"
)

Comments = Callable[..., list[str]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[..., Path]

IMAGE = "us-central1-docker.pkg.dev/example-project/images/glossator:0.1.0"
EMULATOR = (sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory", "--quiet")
FILES, ROWS = 3, 40
RARE_WORD = "quokkaville"
"""In one of the comments, and in no vocabulary."""
DEADLINE_SECS = 60.0


# ---- the template


def deploy(*arguments: object) -> str:
    """What `python -m glossator.deploy.dataflow` prints; raises what it would print as an error."""
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def spec_of(*arguments: object) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(deploy("template", "--image", IMAGE, *arguments))
    return made


def test_each_flag_is_a_parameter_or_left_out_for_a_reason() -> None:
    flags = {option.name for option in label.params if isinstance(option, click.Option)}
    assert flags == {parameter.option.name for parameter in PARAMETERS} | set(LEFT_OUT)


@needs_gcp
def test_google_reads_the_template() -> None:
    from google.cloud import dataflow_v1beta3 as dataflow

    given = spec_of("--staging", "gs://bucket/dataflow/")
    read = dataflow.ContainerSpec.from_json(json.dumps(given))
    assert read.image == read.default_environment.sdk_container_image == IMAGE
    assert read.sdk_info.language == dataflow.SDKInfo.Language.PYTHON
    assert read.default_environment.temp_location == "gs://bucket/dataflow/temp"
    assert read.default_environment.staging_location == "gs://bucket/dataflow/staging"
    required = {p.name for p in read.metadata.parameters if not p.is_optional}
    assert required == {"input", "output"}
    assert all(p.label and p.help_text and p.regexes for p in read.metadata.parameters)
    assert json.loads(deploy("metadata")) == given["metadata"]
    # and it would not read what is misspelt
    text = json.dumps(given).replace("isOptional", "isOptionl")
    with pytest.raises(Exception, match="isOptionl"):
        dataflow.ContainerSpec.from_json(text)


@pytest.mark.parametrize("image", ["registry/glossator", "host:5000/glossator", "g:latest"])
def test_an_image_that_may_change_is_refused(image: str) -> None:
    with pytest.raises(UsageError, match="name a tag that stays as it is"):
        deploy("template", "--image", image)


GOOD = {
    "input": [
        "gs://bucket/comments/2026-11-21/part-0.parquet",
        "gs://bucket/comments/{date}/*.parquet",
        "gs://my-bucket.example/a,gs://other_bucket/评论/[ab]?.parquet",
        "gs://bucket",
    ],
    "output": ["gs://bucket/labels/{date}", "gs://bucket/labels/"],
    "model": ["default", "gs://bucket/models/v2"],
    "text": ["comment", "comment text", "评论"],
    "key": ["id", "id,user id", "编号,id"],
    "tasks": ["sentiment", "sentiment,topic"],
    "date": ["2026-11-21", "2024-02-29", "yesterday", "today"],
    "top": ["0", "5", "99", "100"],
}
BAD = {
    "input": [
        "",
        "s3://bucket/a",
        "/data/a.parquet",
        "gs://",
        "gs://bu",
        "gs://Bucket/a",
        "gs://bucket/{day}/a",
        "gs://bucket/{date/a",
        "gs://bucket/a, gs://bucket/b",
        "gs://bucket/a,",
        "gs://bucket/a,b",
    ],
    "output": ["", "gs://bucket/a,gs://bucket/b", "labels", "gs://bucket/{day}"],
    "model": ["", "Default", "model/bundle", "gs://bucket", "gs://bucket/{date}"],
    "text": [""],
    "key": ["", "id,", ",id", "a,,b"],
    "tasks": ["", "sentiment,", "sentiment, topic"],
    "date": ["", "2026-13-01", "2026-11-32", "20261121", "tomorrow", "2026-11-21T00:00"],
    "top": ["", "-1", "101", "05", "five", "5.0"],
}
CASES = [(n, v, True) for n in GOOD for v in GOOD[n]] + [(n, v, False) for n in BAD for v in BAD[n]]


def matches(regex: str, value: str) -> list[bool]:
    """As Python reads the expression, and as POSIX does, by which Google defines it."""
    said = [re.fullmatch(regex, value) is not None]
    if shutil.which("grep"):
        command = ["grep", "-E", "-x", "-e", regex]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        ended = subprocess.run(
            command, input=f"{value}\n", text=True, capture_output=True, env=environment
        )
        assert not ended.stderr
        said.append(ended.returncode == 0)
    return said


@pytest.mark.parametrize(("name", "value", "good"), CASES)
def test_a_parameter_takes_what_the_command_takes(name: str, value: str, good: bool) -> None:
    [parameter] = [p for p in json.loads(deploy("metadata"))["parameters"] if p["name"] == name]
    for regex in parameter["regexes"]:
        assert set(matches(regex, value)) == {good}


def test_each_parameter_was_tried() -> None:
    assert {parameter.name for parameter in PARAMETERS} == set(GOOD) == set(BAD)


# ---- the launcher


def test_parameters_become_flags() -> None:
    given = [
        "--input=gs://bucket/a/*.parquet,gs://bucket/b=c",
        "--output=gs://bucket/out",
        "--key=id,user",
        "--tasks=sentiment,topic",
        "--text=",
        "--runner=DataflowRunner",
        '--labels={"a": "b,c"}',
    ]
    assert launch.arguments(given) == [
        "--input=gs://bucket/a/*.parquet",
        "--input=gs://bucket/b=c",
        "--output=gs://bucket/out",
        "--key=id",
        "--key=user",
        "--tasks=sentiment,topic",
        "--runner=DataflowRunner",
        '--labels={"a": "b,c"}',
        "--no_wait_until_finish",
    ]


RUN = ("run", "--template=gs://bucket/glossator.json", "--project=example-project")
RUN = (
    *RUN,
    "--region=us-central1",
    "--input=gs://bucket/{date}/*.parquet",
    "--input=gs://bucket/b",
)
RUN = (*RUN, "--output=gs://bucket/out/{date}", "--key=id", "--key=user", "--date=2026-11-21")
SHAPE = ("--machine-type=n2d-highmem-2", "--max-workers=7", "--private", "--flexrs")


@needs_gcp
def test_google_reads_the_launch_request() -> None:
    from google.cloud import dataflow_v1beta3 as dataflow

    body = json.loads(deploy(*RUN, *SHAPE, "--dry-run"))
    read = dataflow.LaunchFlexTemplateRequest.from_json(json.dumps(body)).launch_parameter
    assert dict(read.parameters) == {
        "input": "gs://bucket/{date}/*.parquet,gs://bucket/b",
        "output": "gs://bucket/out/{date}",
        "key": "id,user",
        "date": "2026-11-21",
    }
    assert read.container_spec_gcs_path == "gs://bucket/glossator.json"
    assert read.environment.machine_type == "n2d-highmem-2" and read.environment.max_workers == 7
    assert read.environment.ip_configuration.name == "WORKER_IP_PRIVATE"
    assert read.environment.flexrs_goal.name == "FLEXRS_COST_OPTIMIZED"
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", read.job_name)


def test_what_is_launched_comes_back_as_it_was_asked_for() -> None:
    body = json.loads(deploy(*RUN, "--dry-run"))
    passed = [f"--{n}={v}" for n, v in body["launchParameter"]["parameters"].items()]
    context = label.make_context("label", launch.arguments(passed))
    assert context.params["inputs"] == ("gs://bucket/{date}/*.parquet", "gs://bucket/b")
    assert context.params["keys"] == ("id", "user")
    assert context.params["date"] == "2026-11-21"


def test_a_job_is_named_after_its_output() -> None:
    def name(*more: str) -> str:
        said: str = json.loads(deploy(*RUN, *more, "--dry-run"))["launchParameter"]["jobName"]
        return said

    assert name() == name("--output=gs://bucket/out/2026-11-21/")
    assert name() != name("--date=2026-11-22")
    assert name("--job-name=mine") == "mine"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--output=/data/out", "--output /data/out: on Dataflow it is a gs:// URI"),
        ("--date=2026-02-30", "--date 2026-02-30 is not a date"),
        ("--output=gs://bucket/{day}", "must match"),
        ("--template=glossator.json", "--template glossator.json is not on Google Cloud Storage"),
    ],
)
def test_a_launch_that_would_fail_is_refused_here(more: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        deploy(*RUN, more, "--dry-run")


def test_the_documented_commands_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    text = (root / "docs" / "dataflow.md").read_text(encoding="utf-8").replace("\\\n", " ")
    variables = {"PROJECT": "my-project", "REGION": "us-central1", "BUCKET": "my-labelling"}
    variables |= {"IMAGE": IMAGE, "WORKER": "worker@example.com"}
    for name, value in variables.items():
        text = text.replace(f"${name}", value)
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    module = ["python", "-m", "glossator.deploy.dataflow"]
    commands = [words for words in map(shlex.split, blocks) if words[:3] == module]
    assert [words[3] for words in commands] == ["build", "run"]
    for words in commands:
        assert deploy(*words[3:], "--dry-run")
    [direct] = [words for words in map(shlex.split, blocks) if words[:2] == ["glossator", "label"]]
    given = label.make_context("label", direct[2:]).params["beam_arguments"]
    assert beam_options(given, 1).view_as(WorkerOptions).machine_type == MACHINE_TYPE


# ---- storage and service


@dataclass
class Store:
    """The emulator."""

    fs: Any
    url: str

    def names(self, folder: str) -> set[str]:
        self.fs.invalidate_cache()
        return set(self.fs.find(folder))

    def generations(self, folder: str) -> dict[str, str]:
        """What was written there, and when: a new number for each time."""
        self.fs.invalidate_cache()
        found = self.fs.find(folder, detail=True)
        return {name: info["generation"] for name, info in found.items()}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Google Cloud Storage in a process of its own, and the environment that leads there."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("emulator") / "log"
    with pytest.MonkeyPatch.context() as patch, log.open("w") as file:
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setenv("GOOGLE_CLOUD_PROJECT", "example-project")
        # it would ask Google of what kind a bucket is
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        emulator = subprocess.Popen(
            [*EMULATOR, "--host", "127.0.0.1", "--port", str(port)],
            stdout=file,
            stderr=file,
        )
        try:
            deadline = time.monotonic() + DEADLINE_SECS
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert time.monotonic() < deadline and emulator.poll() is None, log.read_text()
                time.sleep(0.05)
            import gcsfs

            fs = gcsfs.GCSFileSystem()
            fs.mkdir("comments-bucket")
            fs.mkdir("staging-bucket")
            yield Store(fs, url)
        finally:
            emulator.kill()
            emulator.wait(DEADLINE_SECS)


@dataclass
class Service:
    """What stands in for Dataflow: it takes jobs, and says of them what it is told to."""

    url: str = ""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    launches: list[dict[str, Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    state: str = "JOB_STATE_RUNNING"
    message: str = ""
    refusal: tuple[int, str] | None = None
    active: bool = False
    """Whether a job of the name is there already."""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.refusal:
            code, message = self.refusal
            return code, {"error": {"code": code, "message": message}}
        if path.endswith("flexTemplates:launch"):
            self.launches.append(body)
            return 200, {"job": {"id": "launched-1"}}
        if method == "POST":
            self.jobs.append(body)
            request = "another" if self.active else body["clientRequestId"]
            named = {"id": "job-1", "name": body["name"], "clientRequestId": request}
            return 200, {**named, "currentState": "JOB_STATE_PENDING"}
        if path.endswith("/messages"):
            said = {"messageText": self.message, "messageImportance": "JOB_MESSAGE_ERROR"}
            return 200, {"jobMessages": [{**said, "time": "2026-01-01T00:00:00Z"}]}
        if method == "PUT":
            self.cancelled.append(path.rsplit("/", 1)[-1])
            self.state = "JOB_STATE_CANCELLED"
        return 200, {"id": "job-1", "currentState": self.state}


@pytest.fixture
def dataflow() -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            code, answer = made.answer(self.command, path, json.loads(body or b"{}"))
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - as the server calls them

        def log_message(self, format: str, *_: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://localhost:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def texts(comments: Comments) -> list[list[str | None]]:
    made: list[list[str | None]] = [[*comments(ROWS - 1, seed=i), None] for i in range(FILES)]
    made[1][3] = f"a {RARE_WORD} of lovely service"
    return made


@pytest.fixture(scope="module")
def local_input(
    texts: list[list[str | None]], write_comments: Write, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("comments")
    for i in range(FILES):
        write_comments(folder / f"{i}.parquet", texts[i], first_id=i * ROWS, row_group_size=16)
    return folder


@pytest.fixture(scope="module")
def uploaded(store: Store, local_input: Path, bundle: Path) -> Store:
    """The store, with comments and a model in it."""
    for folder, name in ((local_input, "in"), (bundle, "model")):
        for path in folder.iterdir():
            store.fs.put_file(str(path), f"comments-bucket/{name}/{path.name}")
    return store


JOB = ("label", "--input=gs://comments-bucket/in/*.parquet", "--key=id")
JOB = (*JOB, "--model=gs://comments-bucket/model")
ENGINE = ("--runner=DataflowRunner", "--project=example-project", "--region=us-central1")
ENGINE = (*ENGINE, "--temp_location=gs://staging-bucket/temp", f"--sdk_container_image={IMAGE}")
ENGINE = (*ENGINE, "--no_auth")


@dataclass
class Submitted:
    """A job as the service got it."""

    job: dict[str, Any]
    staged: dict[str, bytes]
    """Files by name."""

    @property
    def pool(self) -> dict[str, Any]:
        [pool] = self.job["environment"]["workerPools"]
        made: dict[str, Any] = pool
        return made

    @property
    def size(self) -> int:
        return len(json.dumps(self.job)) + len(self.staged["pipeline.pb"])

    def content(self) -> bytes:
        """All of it, and what is packed in it unpacked."""
        from apache_beam.portability.api import beam_runner_api_pb2 as api

        pipeline = api.Pipeline.FromString(self.staged["pipeline.pb"])
        steps = [step.spec for step in pipeline.components.transforms.values()]
        packed = [
            api.ParDoPayload.FromString(step.payload).do_fn.payload
            for step in steps
            if step.urn == "beam:transform:pardo:v1"
        ]
        unpacked = [bz2.decompress(base64.b64decode(function)) for function in packed]
        assert len(unpacked) > 3
        return b"".join([json.dumps(self.job).encode(), *self.staged.values(), *unpacked])


Submit = Callable[..., Submitted]


@pytest.fixture
def submit(uploaded: Store, dataflow: Service, glossator: Run) -> Submit:
    """Submits the job and does not wait."""

    def run(output: str, *arguments: object) -> Submitted:
        before = uploaded.names("staging-bucket")
        more = (f"--output={output}", f"--dataflow_endpoint={dataflow.url}", *arguments)
        ended = glossator(*JOB, *ENGINE, "--no_wait_until_finish", *more)
        assert ended.returncode == 0, ended.stderr
        new = uploaded.names("staging-bucket") - before
        staged = {Path(name).name: uploaded.fs.cat_file(name) for name in new}
        return Submitted(dataflow.jobs[-1], staged)

    return run


# ---- the job that is submitted


@needs_gcp
def test_workers_are_as_asked_for(submit: Submit) -> None:
    shape = ("--machine_type=n2d-standard-4", "--num_workers=2", "--max_num_workers=9")
    more = ("--disk_size_gb=40", "--no_use_public_ips", "--flexrs_goal=COST_OPTIMIZED")
    account = "--service_account_email=labels@example-project.iam.gserviceaccount.com"
    sent = submit("gs://comments-bucket/out/shape", *shape, *more, account)
    environment, pool = sent.job["environment"], sent.pool
    assert pool["machineType"] == "n2d-standard-4"
    assert pool["numWorkers"] == 2 and pool["autoscalingSettings"]["maxNumWorkers"] == 9
    assert pool["diskSizeGb"] == 40
    assert pool["ipConfiguration"] == 2  # WORKER_IP_PRIVATE
    assert environment["flexResourceSchedulingGoal"] == 2  # FLEXRS_COST_OPTIMIZED
    assert environment["serviceAccountEmail"] == account.partition("=")[2]


@needs_gcp
def test_a_worker_is_the_image_and_labels_one_split_a_core(submit: Submit) -> None:
    sent = submit("gs://comments-bucket/out/image")
    images = sent.pool["sdkHarnessContainerImages"]
    assert {image["containerImage"] for image in images} == {IMAGE}
    assert sent.pool["workerHarnessContainerImage"] == IMAGE
    assert all(image["useSingleCorePerContainer"] for image in images)  # a process each core,
    assert sent.pool["numThreadsPerWorker"] == 1  # and a thread each process
    assert "use_runner_v2" in sent.job["environment"]["experiments"]
    assert sent.job["type"] == 1  # JOB_TYPE_BATCH


@needs_gcp
def test_nothing_is_staged_but_the_job(submit: Submit, bundle: Path) -> None:
    sent = submit("gs://comments-bucket/out/staged")
    environment = "submission_environment_dependencies.txt"  # a list of packages, for the log
    assert set(sent.staged) == {"pipeline.pb", environment}
    assert [package["name"] for package in sent.pool["packages"]] == [environment]
    assert not sent.job["environment"]["sdkPipelineOptions"]["options"]["save_main_session"]


@needs_gcp
def test_a_job_holds_no_comment_and_no_weights(submit: Submit, bundle: Path) -> None:
    sent = submit("gs://comments-bucket/out/small")
    whole = sent.content()
    assert b"gs://comments-bucket/out/small/_staging/" in whole  # so it can be looked into
    assert RARE_WORD.encode() not in whole
    weights = max(bundle.iterdir(), key=lambda path: path.stat().st_size).read_bytes()
    middle = weights[len(weights) // 2 :][:64]
    assert len(set(middle)) > 16 and middle not in whole
    assert sent.size < 100_000


@needs_gcp
def test_a_job_is_as_small_for_many_files(
    submit: Submit, uploaded: Store, local_input: Path
) -> None:
    few = submit("gs://comments-bucket/out/few")
    for i in range(60):
        uploaded.fs.put_file(
            str(local_input / "0.parquet"), f"comments-bucket/many/{'x' * 60}{i}.parquet"
        )
    many = submit("gs://comments-bucket/out/man", "--input=gs://comments-bucket/many")
    assert abs(many.size - few.size) < 1000


@needs_gcp
def test_the_submitted_job_labels_and_publishes(
    submit: Submit, uploaded: Store, glossator: Run, local_input: Path, bundle: Path, tmp_path: Path
) -> None:
    """What the service would hand to its workers is run here, by Beam's own runner."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.portability.api import beam_runner_api_pb2
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import EmbeddedPythonEnvironment

    sent = submit("gs://comments-bucket/out/run")
    job = beam_runner_api_pb2.Pipeline.FromString(sent.staged["pipeline.pb"])
    for environment in job.components.environments.values():
        environment.CopyFrom(EmbeddedPythonEnvironment().to_runner_api(None))
    FnApiRunner().run_via_runner_api(job, PipelineOptions([])).wait_until_finish()
    assert uploaded.fs.exists("comments-bucket/out/run/_SUCCESS")
    again = glossator(*JOB, "--output=gs://comments-bucket/out/run")
    assert "published" in again.stdout and again.returncode == 0, again.stderr
    local = glossator(
        "label", f"--input={local_input}", "--key=id", f"--model={bundle}", "--output", tmp_path
    )
    assert local.returncode == 0, local.stderr
    assert rows(uploaded, "comments-bucket/out/run") == rows_of(tmp_path)


def rows(store: Store, folder: str) -> list[pa.Table]:
    """The parts and rejects in the order of the input, without what says where that lies."""
    made = []
    for prefix in (folder, f"{folder}/_rejects"):
        for name in sorted(store.names(prefix)):
            if re.fullmatch(rf"{prefix}/part-[^/]*\.parquet", name):
                with store.fs.open(name) as file:
                    made.append(pq.read_table(file).drop_columns(["source_file"]))
    return made


def rows_of(folder: Path) -> list[pa.Table]:
    names = [*sorted(folder.glob("part-*")), *sorted(folder.glob("_rejects/part-*"))]
    return [pq.read_table(name).drop_columns(["source_file"]) for name in names]


@needs_gcp
def test_an_object_store_gives_the_same_and_a_rerun_does_nothing(
    uploaded: Store, glossator: Run, local_input: Path, bundle: Path, tmp_path: Path
) -> None:
    out = "comments-bucket/out/local"
    first = glossator(*JOB, f"--output=gs://{out}", "--workers=2")
    assert first.returncode == 0, first.stderr
    local = glossator(
        "label", f"--input={local_input}", "--key=id", f"--model={bundle}", "--output", tmp_path
    )
    assert local.returncode == 0, local.stderr
    found = rows(uploaded, out)
    assert len(found) == 2 * FILES and found == rows_of(tmp_path)
    assert not any("_staging" in name for name in uploaded.names(out))
    before = uploaded.generations(out)
    second = glossator(*JOB, f"--output=gs://{out}")
    assert second.returncode == 0, second.stderr
    assert "labelling" not in second.stderr
    assert uploaded.generations(out) == before


# ---- the launcher's and the service's answers


@pytest.fixture
def launcher(uploaded: Store, dataflow: Service, tmp_path: Path, shell: Run) -> Run:
    """The launcher's call of `launch.py`, which stands alone in its folder there."""
    script = tmp_path / "launch.py"
    shutil.copy(launch.__file__, script)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = ("--runner=DataflowRunner", "--project=example-project", "--region=us-central1")
        place = "gs://staging-bucket/staging"
        words = (*words, f"--staging_location={place}", "--temp_location=gs://staging-bucket/temp")
        words = (*words, f"--template_location={place}/template_launches/1/job_object")
        words = (*words, "--job_name=nightly", "--no_auth", "--machine_type=n2d-standard-4")
        words = (*words, '--labels={"goog-dataflow-provided-template-type": "flex"}')
        words = (*words, f"--dataflow_endpoint={dataflow.url}")
        return shell(script, *words, *arguments, cwd=tmp_path)

    return run


LAUNCHED = ("--input=gs://comments-bucket/in/0.parquet,gs://comments-bucket/in/2.parquet",)
LAUNCHED = (*LAUNCHED, "--model=gs://comments-bucket/model", "--key=id", "--text=")


@needs_gcp
def test_the_launcher_leaves_a_job_for_the_service(
    launcher: Run, uploaded: Store, dataflow: Service
) -> None:
    job_object = "staging-bucket/staging/template_launches/1/job_object"
    out = "--output=gs://comments-bucket/out/launched"
    ended = launcher(*LAUNCHED, out, f"--sdk_container_image={IMAGE}")
    assert ended.returncode == 0, ended.stderr
    assert not dataflow.jobs
    job = json.loads(uploaded.fs.cat_file(job_object))
    assert job["name"] == "nightly"
    assert job["environment"]["workerPools"][0]["workerHarnessContainerImage"] == IMAGE
    [plan] = [n for n in uploaded.names("comments-bucket/out/launched") if "_plan" in n]
    sources = json.loads(uploaded.fs.cat_file(plan))["sources"]
    assert [source["uri"][-9:] for source in sources] == ["0.parquet", "2.parquet"]


@needs_gcp
def test_the_launcher_leaves_a_job_where_all_is_published(
    launcher: Run, uploaded: Store, glossator: Run
) -> None:
    """Without a job the service says that the launch failed."""
    out = "--output=gs://comments-bucket/out/done"
    done = glossator("label", "--input=gs://comments-bucket/in/0.parquet", *JOB[2:], out)
    assert done.returncode == 0, done.stderr
    before = uploaded.generations("comments-bucket/out/done")
    job_object = "staging-bucket/staging/template_launches/1/job_object"
    if uploaded.fs.exists(job_object):
        uploaded.fs.rm_file(job_object)
    one = ("--input=gs://comments-bucket/in/0.parquet", *LAUNCHED[1:])
    ended = launcher(*one, out, f"--sdk_container_image={IMAGE}")
    assert ended.returncode == 0, ended.stderr
    uploaded.fs.invalidate_cache()
    assert uploaded.fs.exists(job_object)
    published = uploaded.generations("comments-bucket/out/done").items()
    assert published >= before.items()


@needs_gcp
def test_the_launcher_says_what_is_wrong(launcher: Run) -> None:
    ended = launcher(*LAUNCHED, "--output=gs://comments-bucket/out/refused")
    assert ended.returncode == 2
    assert "--runner=DataflowRunner needs --sdk_container_image" in ended.stderr
    assert "Traceback" not in ended.stderr


@needs_gcp
@pytest.mark.parametrize("option", ["project", "region", "temp_location", "sdk_container_image"])
def test_what_the_service_needs_is_asked_for(option: str, uploaded: Store, glossator: Run) -> None:
    engine = [word for word in ENGINE if not word.startswith(f"--{option}=")]
    ended = glossator(*JOB, *engine, "--output=gs://comments-bucket/out/none")
    assert ended.returncode == 2
    assert f"needs --{option}" in ended.stderr
    assert not uploaded.names("comments-bucket/out/none")


@needs_gcp
def test_a_failed_job_says_why(uploaded: Store, dataflow: Service, glossator: Run) -> None:
    dataflow.state = "JOB_STATE_FAILED"
    dataflow.message = "Startup of the worker pool in zone us-central1-a failed: no quota left"
    ended = glossator(
        *JOB, *ENGINE, "--output=gs://comments-bucket/out/f", f"--dataflow_endpoint={dataflow.url}"
    )
    assert ended.returncode == 1
    assert dataflow.message in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@needs_gcp
def test_two_jobs_of_a_name_are_refused(uploaded: Store, dataflow: Service, glossator: Run) -> None:
    dataflow.active = True
    ended = glossator(
        *JOB, *ENGINE, "--output=gs://comments-bucket/out/t", f"--dataflow_endpoint={dataflow.url}"
    )
    assert ended.returncode == 1
    assert "already active job named glossator-" in ended.stderr


@needs_gcp
def test_a_job_whose_workers_never_come_is_cancelled(
    uploaded: Store, dataflow: Service, glossator: Run
) -> None:
    wait = ("--start-minutes=0.02", f"--dataflow_endpoint={dataflow.url}")
    ended = glossator(*JOB, *ENGINE, "--output=gs://comments-bucket/out/c", *wait)
    assert ended.returncode == 1
    assert "no worker was ready" in ended.stderr
    assert dataflow.cancelled == ["job-1"]


# ---- building and launching


@needs_gcp
def test_build_pushes_the_image_and_writes_the_template(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, docker = tmp_path / "log", tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    docker.chmod(0o755)
    context = Path(__file__).parents[2]
    words = ("build", "--image", IMAGE, "--staging=gs://staging-bucket", "--context", context)
    template = "staging-bucket/templates/glossator.json"
    monkeypatch.setenv("PATH", f"{docker.parent}{os.pathsep}{os.environ['PATH']}")
    printed = deploy(*words, f"--template=gs://{template}", "--dry-run")
    assert not log.exists() and not store.fs.exists(template)
    assert printed == deploy(*words, f"--template=gs://{template}")
    built, pushed = log.read_text().splitlines()
    assert built.startswith("build ") and "--target=dataflow" in built and IMAGE in built
    assert pushed == f"push {IMAGE}"
    store.fs.invalidate_cache()
    assert json.loads(store.fs.cat_file(template)) == spec_of("--staging=gs://staging-bucket")
    docker.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(JobError, match="docker build failed with exit code 3"):
        deploy(*words, f"--template=gs://{template}")


def test_build_needs_docker_and_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("build", "--image", IMAGE, "--template=gs://bucket/t.json", "--context")
    with pytest.raises(UsageError, match="name a checkout of Glossator"):
        deploy(*words, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobError, match="docker is not installed here"):
        deploy(*words, Path(__file__).parents[2])


@pytest.fixture
def client(dataflow: Service) -> Any:
    """Google's client, led to the stand-in."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import dataflow_v1beta3 as api

    return api.FlexTemplatesServiceClient(
        transport="rest",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": dataflow.url},
    )


@needs_gcp
def test_launch_sends_the_request(dataflow: Service, client: Any) -> None:
    body = json.loads(deploy(*RUN, *SHAPE, "--dry-run"))
    assert service.launch("example-project", "us-central1", body, client) == "launched-1"
    [sent] = dataflow.launches
    names = {"machineType", "maxWorkers", "ipConfiguration", "flexrsGoal"}
    assert set(sent["launchParameter"]["environment"]) == names
    assert sent["launchParameter"]["parameters"] == body["launchParameter"]["parameters"]


@needs_gcp
@pytest.mark.parametrize(
    ("refusal", "error"),
    [((403, "caller lacks dataflow.jobs.create"), UsageError), ((501, "no such thing"), JobError)],
)
def test_launch_says_why_it_is_refused(
    dataflow: Service, client: Any, refusal: tuple[int, str], error: type[Exception]
) -> None:
    dataflow.refusal = refusal
    body = json.loads(deploy(*RUN, "--dry-run"))
    with pytest.raises(error, match=refusal[1]):
        service.launch("example-project", "us-central1", body, client)
