"""Kubernetes objects that do not depend on the engine: the CronJob, and what pods may do.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/cron-job-v1/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import yaml

from glossator.deploy.settings import (
    FINAL_CODES,
    GRACE_SECONDS,
    START_WITHIN_SECONDS,
    Machine,
    Nightly,
    Pods,
)

KubernetesObject: TypeAlias = dict[str, Any]

UID = 10001
"""Of our containers, as the image has it."""


def cron_job(nightly: Nightly, pods: Pods, machine: Machine, *engine: str) -> KubernetesObject:
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
    # the job's deadline, which counts its retries, runs from when it began
    nightly.require_one_day(START_WITHIN_SECONDS / 3600 + nightly.deadline_hours)
    asked = ("--date=yesterday", f"--wait-minutes={nightly.late_minutes}", *engine)
    container = {
        "name": "glossator",
        **our_container(pods, machine),
        "command": ["glossator"],
        "args": [_literal(a) for a in nightly.arguments(*asked)],
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }
    pod = {
        "restartPolicy": "Never",  # a pod failure policy asks for it
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "securityContext": pod_security(UID),
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
                # a late day (4), as all else that fails, is tried again
                {  # a drained node is no failure of the job's
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
            ]
        },
        "template": {"metadata": {"labels": recommended_labels(nightly, "job")}, "spec": pod},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata(nightly, pods, "job"),
        "spec": {
            "schedule": nightly.schedule,
            "timeZone": nightly.time_zone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": START_WITHIN_SECONDS,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 7,
            "jobTemplate": {
                "metadata": {"labels": recommended_labels(nightly, "job")},
                "spec": job,
            },
        },
    }


def our_container(pods: Pods, machine: Machine) -> KubernetesObject:
    """What every container of our image has: resources, secrets, and no rights."""
    container: KubernetesObject = {
        "image": pods.image,
        "resources": {
            "requests": {"cpu": str(machine.cores), "memory": machine.memory},
            "limits": {"memory": machine.memory},
        },
        "securityContext": container_security(),
    }
    if pods.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in pods.secrets]
    return container


def pod_security(uid: int) -> KubernetesObject:
    """A pod whose processes are one user that is not root, with the runtime's filter of calls."""
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> KubernetesObject:
    """A container without rights, that writes to its volumes alone."""
    return {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def network_policy(
    nightly: Nightly,
    pods: Pods,
    name: str,
    selected: Mapping[str, str],
    ingress: Sequence[KubernetesObject],
) -> KubernetesObject:
    """A NetworkPolicy: who may connect to some pods. It holds where the cluster's network does it.

    Args:
        nightly: what it is for.
        pods: where.
        name: of the policy, after the job's.
        selected: labels of the pods.
        ingress: what is let in, as the API's `NetworkPolicyIngressRule`; all else is kept out.
    """
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {**metadata(nightly, pods, name), "name": f"{nightly.name}-{name}"},
        "spec": {
            "podSelector": {"matchLabels": dict(selected)},
            "policyTypes": ["Ingress"],
            "ingress": list(ingress),
        },
    }


def scratch_volume(machine: Machine) -> KubernetesObject:
    """The volume behind /tmp, the only place that our containers write to."""
    return {"name": "scratch", "emptyDir": {"sizeLimit": machine.scratch}}


def recommended_labels(nightly: Nightly, component: str) -> dict[str, str]:
    """The recommended labels."""
    return {
        "app.kubernetes.io/name": "glossator",
        "app.kubernetes.io/instance": nightly.name,
        "app.kubernetes.io/component": component,
    }


def metadata(nightly: Nightly, pods: Pods, component: str) -> KubernetesObject:
    """Name, namespace and labels of an object."""
    return {
        "name": nightly.name,
        "namespace": pods.namespace,
        "labels": recommended_labels(nightly, component),
    }


def to_yaml(objects: Iterable[KubernetesObject]) -> str:
    """For `kubectl apply -f -`."""
    text: str = yaml.safe_dump_all(objects, sort_keys=False, width=100)
    return text


def _literal(argument: str) -> str:
    """As it stands: Kubernetes puts a variable's value for `$(NAME)`, and `$` for `$$`."""
    return argument.replace("$", "$$")
