"""Dataflow's template as Google reads it, how it is built, and how it is launched."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from apache_beam.options.pipeline_options import WorkerOptions
from click.testing import CliRunner
from google_stand_ins import IMAGE, Service, Store, needs_gcp

from glossator.deploy.dataflow import launch, service
from glossator.deploy.dataflow.__main__ import cli
from glossator.deploy.dataflow.template import LEFT_OUT, PARAMETERS
from glossator.model.errors import UsageError
from glossator.pipeline.cli import label
from glossator.pipeline.engines.runners import MACHINE_TYPE
from glossator.pipeline.errors import JobError
from glossator.pipeline.options import beam_options

pytestmark = pytest.mark.dataflow


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
    "keep": ["0s", "90min", "36h", "7d"],
    "top": ["0", "5", "99", "100"],
    "model-digest": ["0123456789abcdef" * 4],
    "max-unreadable": ["0", "12", "0.01", "1%", "2.5%", "1.0", ".5"],
    "gates": ["gs://bucket/gates.toml"],
    "accept": ["flips", "rows_few,flips.topic", "rejects.empty"],
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
    "keep": ["", "1", "d", "1.5h", "1 d", "1w"],
    "top": ["", "-1", "101", "05", "five", "5.0"],
    "model-digest": ["", "0123456789abcdef", "0123456789ABCDEF" * 4],
    "max-unreadable": ["", "-1", "all", "1.", "%", "1e3"],
    "gates": ["", "gates.toml", "gs://bucket", "gs://bucket/{date}.toml"],
    "accept": ["", "flips,", "flips, rows_few", "flips.", "Flips"],
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

    assert name() == name("--output=gs://bucket/out/{date}/")
    assert name() != name("--date=2026-11-22")
    assert name("--job-name=mine") == "mine"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--output=/data/out", "--output /data/out: on Dataflow it is a gs:// URI"),
        ("--date=2026-02-30", "--date: 2026-02-30 is not a date"),
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
