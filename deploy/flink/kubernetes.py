"""Flink on Kubernetes: a cluster with a pool of workers, and the CronJob that submits to it.

https://nightlies.apache.org/flink/flink-kubernetes-operator-docs-main/docs/custom-resource/reference/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from glossator.deploy.flags import PASSING, give, nightly_flags, pod_flags, warn_of_tags
from glossator.deploy.flink import pool
from glossator.deploy.kubernetes import (
    KubernetesObject,
    container_security,
    cron_job,
    metadata,
    network_policy,
    our_container,
    pod_security,
    recommended_labels,
    scratch_volume,
    to_yaml,
)
from glossator.deploy.settings import (
    FLINK_UID,
    FLINK_VERSION,
    JOB_SERVER_JAR,
    FlinkPods,
    Machine,
    Nightly,
    Pods,
)
from glossator.model.commands import Command

_JVM_MEMORY = "2048m"
"""Of the JobManager, and of each TaskManager; comments do not pass through them."""
_SUBMITTER = Machine(cores=1, memory="3Gi", scratch="2Gi")
"""Plans the job, and runs Beam's job server while it waits."""
_MAIN = "flink-main-container"
"""What Flink's own container is called: by that name the operator finds it."""
_REST_PORT = 8081
_OPERATOR = {"app.kubernetes.io/name": "flink-kubernetes-operator"}
"""Labels of the operator's pod, as its Helm chart makes it."""


def flink_deployment(nightly: Nightly, pods: Pods, cluster: FlinkPods) -> KubernetesObject:
    """A session cluster of flink-kubernetes-operator, whose TaskManagers come and go with jobs."""
    return {
        "apiVersion": "flink.apache.org/v1beta1",
        "kind": "FlinkDeployment",
        "metadata": metadata(nightly, pods, "cluster"),
        "spec": {
            "image": cluster.image,
            "flinkVersion": f"v{FLINK_VERSION.replace('.', '_')}",
            "mode": "native",
            "serviceAccount": cluster.service_account,
            "flinkConfiguration": {
                "taskmanager.numberOfTaskSlots": str(cluster.worker.cores),
                "slotmanager.number-of-slots.max": str(cluster.parallelism),
                "cluster.evenly-spread-out-slots": "true",
                # jobs come as graphs from Beam's job server, and never as jars
                "web.submit.enable": "false",
                "restart-strategy.type": "fixed-delay",
                "restart-strategy.fixed-delay.attempts": "3",
                "restart-strategy.fixed-delay.delay": "30 s",
                # a TaskManager that is gone is missed in seconds
                "heartbeat.interval": "3000",
                # the jar of a job that has ended goes from each TaskManager in a minute
                "blob.service.cleanup.interval": "60",
            },
            "jobManager": {
                "replicas": 1,
                "resource": {"cpu": 1, "memory": _JVM_MEMORY},
                "podTemplate": _pod_template(nightly, "job-manager", [_flink_container()], []),
            },
            "taskManager": {
                "resource": {"cpu": 1, "memory": _JVM_MEMORY},
                "podTemplate": _task_manager(nightly, pods, cluster),
            },
        },
    }


def _task_manager(nightly: Nightly, pods: Pods, cluster: FlinkPods) -> KubernetesObject:
    workers = {
        "name": "worker-pool",
        **our_container(pods, cluster.worker),
        "command": ["python", "-m", pool.__name__],
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }
    # Flink never lets a container of a TaskManager restart. A pool that died takes its TaskManager
    # along, for Flink to start another pod instead of failing on this one for ever.
    probe = {
        # a probe from outside would not reach it: it listens inside the pod alone
        "exec": {"command": ["bash", "-c", f"exec 3<>/dev/tcp/localhost/{pool.PORT}"]},
        "initialDelaySeconds": 60,
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 3,
    }
    shared = {"medium": "Memory", "sizeLimit": cluster.shared_memory}
    volumes = [scratch_volume(cluster.worker), {"name": "shared-memory", "emptyDir": shared}]
    template = _pod_template(
        nightly, "task-manager", [{**_flink_container(), "livenessProbe": probe}, workers], volumes
    )
    template["spec"]["automountServiceAccountToken"] = False  # the JobManager alone starts pods
    return template


def _flink_container() -> KubernetesObject:
    """Flink's own container: its configuration is a ConfigMap, and it writes to these volumes."""
    return {
        "name": _MAIN,
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "flink-tmp", "mountPath": "/tmp"},
            {"name": "flink-log", "mountPath": "/opt/flink/log"},
        ],
    }


def _pod_template(
    nightly: Nightly,
    name: str,
    containers: list[KubernetesObject],
    volumes: list[KubernetesObject],
) -> KubernetesObject:
    """A pod of Flink's. All its containers are one user, whom the worker pool serves."""
    own = [{"name": f"flink-{folder}", "emptyDir": {}} for folder in ("tmp", "log")]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": recommended_labels(nightly, name)},
        "spec": {
            "securityContext": pod_security(FLINK_UID),
            "containers": containers,
            "volumes": [*own, *volumes],
        },
    }


def network_policies(
    nightly: Nightly, pods: Pods, cluster: FlinkPods
) -> tuple[KubernetesObject, ...]:
    """Who may connect: Flink and Beam's job server run what they are sent, and ask for no name.

    Flink's pods hear each other, and on the REST port the job's pod and Flink's operator. The job's
    pod, where the job server is, hears nobody.
    """
    # Flink gives these to all pods of a cluster that it starts
    flink = {"app": nightly.name, "type": "flink-native-kubernetes"}
    submitter = recommended_labels(nightly, "job")
    operator = {
        "namespaceSelector": {
            "matchLabels": {
                "kubernetes.io/metadata.name": cluster.operator_namespace or pods.namespace
            }
        },
        "podSelector": {"matchLabels": _OPERATOR},
    }
    rest = {
        "from": [{"podSelector": {"matchLabels": submitter}}, operator],
        "ports": [{"protocol": "TCP", "port": _REST_PORT}],
    }
    among_themselves = {"from": [{"podSelector": {"matchLabels": flink}}]}
    return (
        network_policy(nightly, pods, "flink", flink, [among_themselves, rest]),
        network_policy(nightly, pods, "job", submitter, []),
    )


def engine_flags(nightly: Nightly, cluster: FlinkPods) -> tuple[str, ...]:
    """The flags of `glossator label` that lead to the cluster."""
    return (
        "--runner=FlinkRunner",
        f"--flink_master={nightly.name}-rest:{_REST_PORT}",
        f"--flink_version={FLINK_VERSION}",
        f"--flink_job_server_jar={JOB_SERVER_JAR}",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{pool.PORT}",
        f"--parallelism={cluster.parallelism}",
    )


@click.command(cls=Command, context_settings=PASSING)
@pod_flags
@click.option("--task-managers", type=int, default=FlinkPods.task_managers, show_default=True)
@click.option(
    "--shared-memory",
    default=FlinkPods.shared_memory,
    show_default=True,
    help="Of each worker's /dev/shm, out of its memory.",
)
@click.option(
    "--flink-service-account",
    default=FlinkPods.service_account,
    show_default=True,
    help="Of Flink's pods; it may start and stop pods.",
)
@click.option(
    "--flink-image",
    default=FlinkPods.image,
    show_default=True,
    help="Of Flink's own containers, with its digest (@sha256:…) or a tag.",
)
@click.option(
    "--operator-namespace",
    help="Where Flink's operator runs; by default the namespace of the pods.",
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
    flink_image: str,
    operator_namespace: str | None,
    write: Path | None,
    **when: Any,
) -> None:
    """Render a Flink session cluster and the CronJob that submits to it.

    Cores, memory and scratch are of each TaskManager's worker. All other flags are those of
    `glossator label`.
    """
    nightly = Nightly(**when)
    pods = Pods(image, namespace, service_account, secrets)
    cluster = FlinkPods(
        task_managers,
        Machine(cores, memory, scratch),
        shared_memory,
        flink_service_account,
        flink_image,
        operator_namespace,
    )
    warn_of_tags(image, flink_image)
    job = cron_job(nightly, pods, _SUBMITTER, *engine_flags(nightly, cluster))
    # the policies first: no pod is reachable before they hold
    policies = network_policies(nightly, pods, cluster)
    text = to_yaml([*policies, flink_deployment(nightly, pods, cluster), job])
    give({f"{nightly.name}.yaml": text}, write)
