"""Dataflow as far as it can be had without the service: real submissions to stand-ins."""

from __future__ import annotations

import base64
import bz2
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import glossator, shell
from google_stand_ins import IMAGE, Service, Store, needs_gcp
from outputs import current
from sample_comments import make_comments, write_comments

from glossator.deploy.dataflow import launch

pytestmark = pytest.mark.dataflow

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FILES, ROWS = 3, 40
RARE_WORD = "quokkaville"
"""In one of the comments, and in no vocabulary."""


@pytest.fixture(scope="module")
def texts() -> list[list[str | None]]:
    made: list[list[str | None]] = [[*make_comments(ROWS - 1, seed=i), None] for i in range(FILES)]
    made[1][3] = f"a {RARE_WORD} of lovely service"
    return made


@pytest.fixture(scope="module")
def local_input(texts: list[list[str | None]], tmp_path_factory: pytest.TempPathFactory) -> Path:
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
def submit(uploaded: Store, dataflow: Service) -> Submit:
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
    assert b"gs://comments-bucket/out/small/_runs/" in whole  # so it can be looked into
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
    submit: Submit, uploaded: Store, local_input: Path, bundle: Path, tmp_path: Path
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
    run = json.loads(store.fs.cat_file(f"{folder}/_current.json"))["run"]
    for prefix in (f"{folder}/_runs/{run}", f"{folder}/_runs/{run}/_rejects"):
        for name in sorted(store.names(prefix)):
            if re.fullmatch(rf"{prefix}/part-[^/]*\.parquet", name):
                with store.fs.open(name) as file:
                    made.append(pq.read_table(file).drop_columns(["source_file"]))
    return made


def rows_of(folder: Path) -> list[pa.Table]:
    run = current(folder)
    names = [*sorted(run.glob("part-*")), *sorted(run.glob("_rejects/part-*"))]
    return [pq.read_table(name).drop_columns(["source_file"]) for name in names]


@needs_gcp
def test_an_object_store_gives_the_same_and_a_rerun_does_nothing(
    uploaded: Store, local_input: Path, bundle: Path, tmp_path: Path
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
    assert not any("_records/" in name or "_lease" in name for name in uploaded.names(out))
    before = uploaded.generations(out)
    second = glossator(*JOB, f"--output=gs://{out}")
    assert second.returncode == 0, second.stderr
    assert "labelling" not in second.stderr
    now = uploaded.generations(out)
    token = f"{out}/_current.json"  # a new one, with the lease
    assert now.pop(token) != before.pop(token) and now == before


# ---- the launcher's and the service's answers


@pytest.fixture
def launcher(uploaded: Store, dataflow: Service, tmp_path: Path) -> Run:
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
def test_the_launcher_leaves_a_job_where_all_is_published(launcher: Run, uploaded: Store) -> None:
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
    published = uploaded.generations("comments-bucket/out/done")
    token = "comments-bucket/out/done/_current.json"  # a new one, with the lease
    assert published.pop(token) != before.pop(token)
    assert published.items() >= before.items()


@needs_gcp
def test_the_launcher_says_what_is_wrong(launcher: Run) -> None:
    ended = launcher(*LAUNCHED, "--output=gs://comments-bucket/out/refused")
    assert ended.returncode == 2
    assert "--runner=DataflowRunner needs --sdk_container_image" in ended.stderr
    assert "Traceback" not in ended.stderr


@needs_gcp
@pytest.mark.parametrize("option", ["project", "region", "temp_location", "sdk_container_image"])
def test_what_the_service_needs_is_asked_for(option: str, uploaded: Store) -> None:
    engine = [word for word in ENGINE if not word.startswith(f"--{option}=")]
    ended = glossator(*JOB, *engine, "--output=gs://comments-bucket/out/none")
    assert ended.returncode == 2
    assert f"needs --{option}" in ended.stderr
    assert not uploaded.names("comments-bucket/out/none")


@needs_gcp
def test_a_failed_job_says_why(uploaded: Store, dataflow: Service) -> None:
    dataflow.state = "JOB_STATE_FAILED"
    dataflow.message = "Startup of the worker pool in zone us-central1-a failed: no quota left"
    ended = glossator(
        *JOB, *ENGINE, "--output=gs://comments-bucket/out/f", f"--dataflow_endpoint={dataflow.url}"
    )
    assert ended.returncode == 1
    assert dataflow.message in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@needs_gcp
def test_two_jobs_of_a_name_are_refused(uploaded: Store, dataflow: Service) -> None:
    dataflow.active = True
    ended = glossator(
        *JOB, *ENGINE, "--output=gs://comments-bucket/out/t", f"--dataflow_endpoint={dataflow.url}"
    )
    assert ended.returncode == 1
    assert "already active job named glossator-" in ended.stderr


@needs_gcp
def test_a_job_whose_workers_never_come_is_cancelled(uploaded: Store, dataflow: Service) -> None:
    wait = ("--start-minutes=0.02", f"--dataflow_endpoint={dataflow.url}")
    ended = glossator(*JOB, *ENGINE, "--output=gs://comments-bucket/out/c", *wait)
    assert ended.returncode == 1
    assert "no worker was ready" in ended.stderr
    assert dataflow.cancelled == ["job-1"]
