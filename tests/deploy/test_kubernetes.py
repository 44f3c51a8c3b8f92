"""What is rendered for Kubernetes, held against Kubernetes' published schemas.

No registry of packages carries the schema of FlinkDeployment. Its outer fields are held against
`FLINK_DEPLOYMENT` below, which was written after the operator's reference and is not the published
schema; its pod template is held against Kubernetes' own. Where GLOSSATOR_FLINK_CRD names the
operator's file (`crds/flinkdeployments.flink.apache.org-v1.yml` of its Helm chart), that is asked.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from kubernetes_validate.utils import all_versions, major_minor

from glossator.deploy.flink import pool
from glossator.deploy.flink.__main__ import cli as flink
from glossator.deploy.nightly.__main__ import cli as nightly
from glossator.deploy.settings import FLINK_IMAGE, FLINK_VERSION, GRACE_SECONDS
from glossator.model.errors import UsageError
from glossator.pipeline.engines import runners

IMAGE = "registry.example/team/glossator:1.2.3"
JOB = ("--input=s3://in/{date}/*.parquet", "--output=s3://out/{date}", "--key=id")
# the schemas of 1.28 and before want an `onPodConditions` also beside `onExitCodes`
VERSIONS = sorted({major_minor(v) for v in all_versions() if int(v.split(".")[1]) >= 29})

TEXT = {"type": "string"}
RESOURCE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["cpu", "memory"],
    "properties": {
        "cpu": {"type": "number"},
        "memory": {"type": "string", "pattern": r"^\d+(m|g)$"},
        "ephemeralStorage": TEXT,
    },
}
FLINK_DEPLOYMENT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "flink.apache.org/v1beta1"},
        "kind": {"const": "FlinkDeployment"},
        "metadata": {"type": "object", "required": ["name", "namespace"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["image", "flinkVersion", "serviceAccount", "jobManager", "taskManager"],
            "properties": {  # no job: that makes it a session cluster
                "image": TEXT,
                "imagePullPolicy": TEXT,
                "flinkVersion": {"enum": ["v1_16", "v1_17", "v1_18", "v1_19", "v1_20"]},
                "mode": {"enum": ["native", "standalone"]},
                "serviceAccount": TEXT,
                "flinkConfiguration": {"type": "object", "additionalProperties": TEXT},
                "logConfiguration": {"type": "object", "additionalProperties": TEXT},
                "restartNonce": {"type": "integer"},
                "podTemplate": {"type": "object"},
                **{
                    part: {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["resource"],
                        "properties": {
                            "replicas": {"type": "integer", "minimum": 1},
                            "resource": RESOURCE,
                            "podTemplate": {"type": "object"},
                        },
                    }
                    for part in ("jobManager", "taskManager")
                },
            },
        },
    },
}


def render(command: Any, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(command, ["kubernetes", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return list(yaml.safe_load_all(result.stdout))


def one_pod(*arguments: str) -> dict[str, Any]:
    (manifest,) = render(nightly, f"--image={IMAGE}", *JOB, *arguments)
    return manifest


def on_flink(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    *_, cluster, job = render(flink, f"--image={IMAGE}", *JOB, *arguments)
    return cluster, job


def pod_of(cron_job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return pod


def task_manager(cluster: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = cluster["spec"]["taskManager"]["podTemplate"]
    return pod


def pool_of(cluster: dict[str, Any]) -> dict[str, Any]:
    (pool,) = (c for c in task_manager(cluster)["spec"]["containers"] if c["name"] == "worker-pool")
    return pool


def flags_of(cron_job: dict[str, Any]) -> dict[str, str]:
    (container,) = pod_of(cron_job)["containers"]
    return dict(word.split("=", 1) for word in container["args"] if "=" in word)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("more", [(), ("--secret=s3", "--service-account=labeller")])
def test_published_schemas_allow_what_is_rendered(version: str, more: tuple[str, ...]) -> None:
    cluster, submitter = on_flink(*more)
    policies = [d for d in render(flink, f"--image={IMAGE}", *JOB) if d["kind"] == "NetworkPolicy"]
    pods = [cluster["spec"][part]["podTemplate"] for part in ("jobManager", "taskManager")]
    for manifest in (one_pod(*more), submitter, *pods, *policies):
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_flink_deployment_has_the_fields_that_the_operator_documents() -> None:
    cluster, _ = on_flink()
    jsonschema.validate(cluster, FLINK_DEPLOYMENT)


def test_flink_deployment_against_the_operators_own_schema() -> None:
    if "GLOSSATOR_FLINK_CRD" not in os.environ:
        pytest.skip("GLOSSATOR_FLINK_CRD does not name the operator's flinkdeployments CRD")
    crd = yaml.safe_load(Path(os.environ["GLOSSATOR_FLINK_CRD"]).read_text(encoding="utf-8"))
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1beta1")
    schema = version["schema"]["openAPIV3Schema"]
    cluster, _ = on_flink("--secret=s3")
    jsonschema.validate(cluster, schema)
    # Kubernetes drops what the schema does not name, without a word
    assert list(dropped(cluster["spec"], schema["properties"]["spec"])) == []


def dropped(value: Any, schema: dict[str, Any], path: str = "spec") -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from dropped(item, schema["items"], f"{path}[]")
    elif isinstance(value, dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if inner is None:
                yield f"{path}.{name}"
            else:
                yield from dropped(item, inner, f"{path}.{name}")


def test_run_is_retried_unless_that_is_in_vain() -> None:
    for manifest in (one_pod("--retries=4", "--deadline-hours=5"), on_flink()[1]):
        job = manifest["spec"]["jobTemplate"]["spec"]
        final, drained = job["podFailurePolicy"]["rules"]
        (container,) = job["template"]["spec"]["containers"]
        assert final == {
            "action": "FailJob",
            "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [2, 3]},
        }
        assert drained["action"] == "Ignore"
        assert job["template"]["spec"]["restartPolicy"] == "Never"
        assert job["template"]["spec"]["terminationGracePeriodSeconds"] == GRACE_SECONDS
        assert manifest["spec"]["concurrencyPolicy"] == "Forbid"
    job = one_pod("--retries=4", "--deadline-hours=5")["spec"]["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job["activeDeadlineSeconds"]) == (4, 5 * 3600)


def test_one_pod_labels_with_as_many_threads_as_it_has_cores() -> None:
    manifest = one_pod("--cores=6", "--memory=3Gi", "--scratch=1Gi")
    (container,) = pod_of(manifest)["containers"]
    assert flags_of(manifest)["--workers"] == container["resources"]["requests"]["cpu"] == "6"
    assert container["resources"]["limits"] == {"memory": "3Gi"}
    (volume,) = pod_of(manifest)["volumes"]
    assert volume == {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}


def test_job_and_cluster_agree() -> None:
    cluster, job = on_flink("--task-managers=3", "--cores=5", "--name=reviews", "--namespace=data")
    spec, flags = cluster["spec"], flags_of(job)
    config = spec["flinkConfiguration"]
    assert config["taskmanager.numberOfTaskSlots"] == "5"
    assert pool_of(cluster)["resources"]["requests"]["cpu"] == "5"
    assert config["slotmanager.number-of-slots.max"] == flags["--parallelism"] == "15"
    assert flags["--flink_master"] == f"{cluster['metadata']['name']}-rest:8081"
    assert cluster["metadata"]["namespace"] == job["metadata"]["namespace"] == "data"
    assert spec["flinkVersion"] == f"v{FLINK_VERSION.replace('.', '_')}"
    assert spec["image"].startswith(f"flink:{FLINK_VERSION}.")
    assert flags["--flink_version"] == FLINK_VERSION
    assert flags["--environment_type"] == "EXTERNAL"
    assert flags["--environment_config"] == f"localhost:{pool.PORT}" == runners.POOL
    assert "job" not in spec  # else the operator would submit one by itself


def test_worker_pool_is_of_the_same_image_as_the_submitter() -> None:
    cluster, job = on_flink()
    (submitter,) = pod_of(job)["containers"]
    assert pool_of(cluster)["image"] == submitter["image"] == IMAGE


def test_worker_pool_is_one_that_starts() -> None:
    cluster, _ = on_flink()
    python, *words = pool_of(cluster)["command"]
    assert python == "python"
    started = subprocess.run(
        [sys.executable, *words, "--help"], capture_output=True, text=True, timeout=120, check=True
    )
    assert str(pool.PORT) in started.stdout


def test_task_manager_goes_with_its_pool() -> None:
    cluster, _ = on_flink()
    (flink_container,) = (
        c
        for c in task_manager(cluster)["spec"]["containers"]
        if c["name"] == "flink-main-container"
    )
    command = flink_container["livenessProbe"]["exec"]["command"]
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        probe = [word.replace(str(pool.PORT), str(port)) for word in command]
        assert probe != command
        assert subprocess.run(probe, timeout=60, check=False).returncode == 0
    assert subprocess.run(probe, timeout=60, check=False, stderr=subprocess.DEVNULL).returncode


def test_volumes_of_a_worker() -> None:
    cluster, _ = on_flink("--shared-memory=64Mi", "--scratch=20Gi")
    volumes = {v["name"]: v["emptyDir"] for v in task_manager(cluster)["spec"]["volumes"]}
    mounts = {m["mountPath"]: volumes[m["name"]] for m in pool_of(cluster)["volumeMounts"]}
    assert mounts == {
        "/tmp": {"sizeLimit": "20Gi"},
        "/dev/shm": {"medium": "Memory", "sizeLimit": "64Mi"},
    }


def test_secrets_reach_whoever_reads_and_writes() -> None:
    cluster, job = on_flink("--secret=s3", "--secret=more")
    expected = [{"secretRef": {"name": "s3"}}, {"secretRef": {"name": "more"}}]
    (submitter,) = pod_of(job)["containers"]
    (single,) = pod_of(one_pod("--secret=s3", "--secret=more"))["containers"]
    assert pool_of(cluster)["envFrom"] == submitter["envFrom"] == single["envFrom"] == expected


def test_users_flag_wins() -> None:
    assert flags_of(on_flink("--parallelism=2")[1])["--parallelism"] == "2"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--image=registry/glossator"], "--image registry/glossator has no fixed tag"),
        (["--image=registry:5000/glossator:latest"], "has no fixed tag"),
        (["--namespace=Data"], "--namespace 'Data' can't be used"),
        (["--secret=a_b"], "--secret 'a_b' can't be used"),
        (["--service-account=A"], "--service-account 'A' can't be used"),
        (["--memory=4g"], "--memory '4g' can't be used: .*4Gi"),
        (["--scratch=0Gi"], "--scratch '0Gi' can't be used"),
        (["--cores=0"], "--cores 0: 1 or more"),
        (["--input=comments.parquet"], "--input comments.parquet is a path, and a pod"),
        (["--output=/labels/{date}"], "--output /labels/{date} is a path, and a pod"),
        (["--output=file:///labels/{date}"], "--output file:///labels/{date} is a path"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_now(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        one_pod(*flags)


def test_images_are_pinned_by_digest_where_one_is_given() -> None:
    digest = "sha256:" + 64 * "a"
    ours, flinks = f"registry.example/glossator:1@{digest}", f"flink@{digest}"
    arguments = ["kubernetes", f"--image={ours}", f"--flink-image={flinks}", *JOB]
    result = CliRunner().invoke(flink, arguments, catch_exceptions=False)
    *_, cluster, job = yaml.safe_load_all(result.stdout)
    assert cluster["spec"]["image"] == flinks
    assert pool_of(cluster)["image"] == pod_of(job)["containers"][0]["image"] == ours
    assert result.stderr == ""
    said = CliRunner().invoke(flink, ["kubernetes", f"--image={IMAGE}", *JOB]).stderr.splitlines()
    assert [line.split()[0] for line in said] == [IMAGE, FLINK_IMAGE]
    assert all("digest" in line for line in said)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--flink-image=flink"], "--flink-image flink has no fixed tag"),
        (["--flink-image=flink:latest"], "--flink-image flink:latest has no fixed tag"),
        (["--operator-namespace=A"], "--operator-namespace 'A' can't be used"),
        (["--task-managers=0"], "--task-managers 0: 1 or more"),
        (["--shared-memory=much"], "--shared-memory 'much' can't be used"),
        (["--flink-service-account=F"], "--flink-service-account 'F' can't be used"),
    ],
)
def test_cluster_that_can_not_be(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        on_flink(*flags)
