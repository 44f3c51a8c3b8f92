"""Kubernetes objects that do not depend on the engine: the CronJob, and how our pods are made.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/cron-job-v1/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from glossator.deploy.settings import FINAL_CODES, GRACE_SECONDS, Machine, Nightly, Pods

Manifest = dict[str, Any]

_START_WITHIN_SECONDS = 3600
"""A run that could not begin in that time waits for the next night."""


def cron_job(nightly: Nightly, pods: Pods, machine: Machine, *engine: str) -> Manifest:
    """A CronJob that runs `glossator label` for the day before.

    Args:
        nightly: what and when.
        pods: from which image.
        machine: what the pod may use.
        engine: flags that say where it is labelled; the user's own win over them.

    Raises:
        UsageError: input or output is a path, or the schedule could miss or repeat a day.
    """
    nightly.require_shared("a pod")
    nightly.require_one_day()
    container = {
        "name": "glossator",
        **ours(pods, machine),
        "command": ["glossator"],
        "args": [_literal(a) for a in nightly.arguments("--date=yesterday", *engine)],
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }
    pod = {
        "restartPolicy": "Never",  # a pod failure policy asks for it
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [scratch_volume(machine)],
    }
    if pods.service_account is not None:
        pod["serviceAccountName"] = pods.service_account
    job = {
        "activeDeadlineSeconds": int(nightly.deadline_hours * 3600),
        "backoffLimit": nightly.retries,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": "glossator",
                        "operator": "In",
                        "values": list(FINAL_CODES),
                    },
                },
                {  # a drained node is no failure of the job's
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
            ]
        },
        "template": {"metadata": {"labels": labels(nightly, "job")}, "spec": pod},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata(nightly, pods, "job"),
        "spec": {
            "schedule": nightly.schedule,
            "timeZone": nightly.time_zone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": _START_WITHIN_SECONDS,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 7,
            "jobTemplate": {"metadata": {"labels": labels(nightly, "job")}, "spec": job},
        },
    }


def ours(pods: Pods, machine: Machine) -> Manifest:
    """What every container of our image has: resources, secrets, and no rights."""
    container: Manifest = {
        "image": pods.image,
        "resources": {
            "requests": {"cpu": str(machine.cores), "memory": machine.memory},
            "limits": {"memory": machine.memory},
        },
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if pods.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in pods.secrets]
    return container


def scratch_volume(machine: Machine) -> Manifest:
    """The volume behind /tmp, the only place that our containers write to."""
    return {"name": "scratch", "emptyDir": {"sizeLimit": machine.scratch}}


def labels(nightly: Nightly, component: str) -> dict[str, str]:
    """The recommended labels."""
    return {
        "app.kubernetes.io/name": "glossator",
        "app.kubernetes.io/instance": nightly.name,
        "app.kubernetes.io/component": component,
    }


def metadata(nightly: Nightly, pods: Pods, component: str) -> Manifest:
    """Name, namespace and labels of an object."""
    return {
        "name": nightly.name,
        "namespace": pods.namespace,
        "labels": labels(nightly, component),
    }


def to_yaml(manifests: Iterable[Manifest]) -> str:
    """For `kubectl apply -f -`."""
    text: str = yaml.safe_dump_all(manifests, sort_keys=False, width=100)
    return text


def _literal(argument: str) -> str:
    """As it stands: Kubernetes would put a variable's value for `$(NAME)`."""
    return argument.replace("$(", "$$(")
