"""Flink on Kubernetes: a cluster with a pool of workers, and the CronJob that submits to it.

https://nightlies.apache.org/flink/flink-kubernetes-operator-docs-main/docs/custom-resource/reference/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from glossator.deploy.flags import PASSING, give, nightly_flags, pod_flags
from glossator.deploy.flink import pool
from glossator.deploy.kubernetes import (
    Manifest,
    cron_job,
    labels,
    metadata,
    ours,
    scratch_volume,
    to_yaml,
)
from glossator.deploy.settings import (
    FLINK_IMAGE,
    FLINK_VERSION,
    JOB_SERVER_JAR,
    FlinkCluster,
    Machine,
    Nightly,
    Pods,
)
from glossator.model.commands import Command

_JVM_MEMORY = "2048m"
"""Of the JobManager, and of each TaskManager; comments do not pass through them."""
_SUBMITTER = Machine(cores=1, memory="3Gi", scratch="2Gi")
"""Plans the job, and runs Beam's job server while it waits."""


def flink_deployment(nightly: Nightly, pods: Pods, cluster: FlinkCluster) -> Manifest:
    """A session cluster of flink-kubernetes-operator, whose TaskManagers come and go with jobs."""
    return {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkDeployment",
        "metadata": metadata(nightly, pods, "cluster"),
        "spec": {
            "image": FLINK_IMAGE,
            "flinkVersion": f"v{FLINK_VERSION.replace('.', '_')}",
            "mode": "native",
            "serviceAccount": cluster.service_account,
            "flinkConfiguration": {
                "taskmanager.numberOfTaskSlots": str(cluster.worker.cores),
                "slotmanager.number-of-slots.max": str(cluster.parallelism),
                "cluster.evenly-spread-out-slots": "true",
                "restart-strategy.type": "fixed-delay",
                "restart-strategy.fixed-delay.attempts": "3",
                "restart-strategy.fixed-delay.delay": "30 s",
                # a TaskManager that is gone is missed in seconds
                "heartbeat.interval": "3000",
                # the jar of a job that has ended goes from each TaskManager in a minute
                "blob.service.cleanup.interval": "60",
            },
            "jobManager": {"replicas": 1, "resource": {"cpu": 1, "memory": _JVM_MEMORY}},
            "taskManager": {
                "resource": {"cpu": 1, "memory": _JVM_MEMORY},
                "podTemplate": _task_manager(nightly, pods, cluster),
            },
        },
    }


def _task_manager(nightly: Nightly, pods: Pods, cluster: FlinkCluster) -> Manifest:
    workers = {
        "name": "worker-pool",
        **ours(pods, cluster.worker),
        "command": ["python", "-m", pool.__name__],
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }
    # Flink never lets a container of a TaskManager restart. A pool that died takes its TaskManager
    # along, for Flink to start another pod instead of failing on this one for ever.
    flink = {
        "name": "flink-main-container",  # the operator finds it by this name
        "livenessProbe": {
            # a probe from outside would not reach it: it listens inside the pod alone
            "exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/localhost/{pool.PORT}"]},
            "initialDelaySeconds": 60,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
    }
    shared = {"medium": "Memory", "sizeLimit": cluster.shared_memory}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "task-manager", "labels": labels(nightly, "worker")},
        "spec": {
            "containers": [flink, workers],
            "volumes": [
                scratch_volume(cluster.worker),
                {"name": "shared-memory", "emptyDir": shared},
            ],
        },
    }


def engine_flags(nightly: Nightly, cluster: FlinkCluster) -> tuple[str, ...]:
    """The flags of `glossator label` that lead to the cluster."""
    return (
        "--runner=FlinkRunner",
        f"--flink_master={nightly.name}-rest:8081",
        f"--flink_version={FLINK_VERSION}",
        f"--flink_job_server_jar={JOB_SERVER_JAR}",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{pool.PORT}",
        f"--parallelism={cluster.parallelism}",
    )


@click.command(cls=Command, context_settings=PASSING)
@pod_flags
@click.option("--task-managers", type=int, default=FlinkCluster.task_managers, show_default=True)
@click.option(
    "--shared-memory",
    default=FlinkCluster.shared_memory,
    show_default=True,
    help="Of each worker's /dev/shm, out of its memory.",
)
@click.option(
    "--flink-service-account",
    default=FlinkCluster.service_account,
    show_default=True,
    help="Of Flink's pods; it may start and stop pods.",
)
@nightly_flags
def kubernetes(
    image: str,
    namespace: str,
    service_account: str | None,
    secrets: tuple[str, ...],
    cores: int,
    memory: str,
    scratch: str,
    task_managers: int,
    shared_memory: str,
    flink_service_account: str,
    write: Path | None,
    **when: Any,
) -> None:
    """Render a Flink session cluster and the CronJob that submits to it.

    Cores, memory and scratch are of each TaskManager's worker. All other flags are those of
    `glossator label`.
    """
    nightly = Nightly(**when)
    pods = Pods(image, namespace, service_account, secrets)
    cluster = FlinkCluster(
        task_managers, Machine(cores, memory, scratch), shared_memory, flink_service_account
    )
    job = cron_job(nightly, pods, _SUBMITTER, *engine_flags(nightly, cluster))
    text = to_yaml([flink_deployment(nightly, pods, cluster), job])
    give({f"{nightly.name}.yaml": text}, write)
