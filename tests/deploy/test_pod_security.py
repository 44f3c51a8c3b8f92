"""What pods may do, who may connect to them, and that arguments reach them as they were given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from glossator.deploy.flink.__main__ import cli as flink
from glossator.deploy.kubernetes import cron_job
from glossator.deploy.nightly.__main__ import cli as nightly
from glossator.deploy.settings import Machine, Nightly, Pods

IMAGE = "registry.example/team/glossator:1.2.3"
JOB = ("--input=s3://in/{date}/*.parquet", "--output=s3://out/{date}", "--key=id")


def render(command: Any, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(
        command, ["kubernetes", f"--image={IMAGE}", *JOB, *arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return list(yaml.safe_load_all(result.stdout))


def pod_specs(rendered: object) -> Iterator[dict[str, Any]]:
    """Every pod's specification, wherever in the objects it stands."""
    if isinstance(rendered, dict):
        if "containers" in rendered:
            yield rendered
        rendered = list(rendered.values())
    if isinstance(rendered, list):
        for value in rendered:
            yield from pod_specs(value)


def pods_of(command: Any) -> list[dict[str, Any]]:
    return list(pod_specs(render(command)))


@pytest.mark.parametrize(("command", "pods"), [(nightly, 1), (flink, 3)])
def test_every_container_is_without_rights(command: Any, pods: int) -> None:
    specs = pods_of(command)
    assert len(specs) == pods
    for spec in specs:
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0 and security["runAsGroup"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert "runAsUser" not in rights  # one user a pod: the worker pool serves its own
            volumes = {volume["name"]: volume for volume in spec["volumes"]}
            for mount in container["volumeMounts"]:
                assert "emptyDir" in volumes[mount["name"]]
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_flink_may_write_its_logs() -> None:
    manager, task_manager, _ = pods_of(flink)
    for spec in (manager, task_manager):
        mounts = {m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}
        assert mounts == {"/tmp", "/opt/flink/log"}


def test_containers_of_a_pod_do_not_share_where_they_write() -> None:
    _, task_manager, _ = pods_of(flink)
    first, second = (
        {mount["name"] for mount in container["volumeMounts"]}
        for container in task_manager["containers"]
    )
    assert not first & second


def test_the_token_of_the_cluster_goes_to_the_one_that_starts_pods() -> None:
    manager, task_manager, job = pods_of(flink)
    (single,) = pods_of(nightly)
    assert "automountServiceAccountToken" not in manager
    for spec in (task_manager, job, single):
        assert spec["automountServiceAccountToken"] is False
    kinds = {rendered["kind"] for rendered in render(flink)}
    # nothing that hands out rights
    assert kinds == {"NetworkPolicy", "FlinkDeployment", "CronJob"}


Labels = Mapping[str, str]
FLINK_POD = {"app": "reviews", "type": "flink-native-kubernetes", "component": "taskmanager"}
JOB_POD = {
    "app.kubernetes.io/name": "glossator",
    "app.kubernetes.io/instance": "reviews",
    "app.kubernetes.io/component": "job",
}
OPERATOR = {"app.kubernetes.io/name": "flink-kubernetes-operator"}


def allowed(
    policies: list[dict[str, Any]], source: tuple[str, Labels], target: Labels, port: int
) -> bool:
    """Whether a pod, by namespace and labels, may connect to one in `data`.

    By the API's words: a pod that some policy selects hears what one of those lets in; of a rule,
    one peer and one port have to match, and of a peer, all that it names.
    """

    def matches(selector: dict[str, Any] | None, labels: Labels) -> bool:
        assert selector is None or set(selector) <= {"matchLabels"}
        return (selector or {}).get("matchLabels", {}).items() <= labels.items()

    def comes_from(peer: dict[str, Any]) -> bool:
        namespace, labels = source
        if "namespaceSelector" in peer:
            here = matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
        else:
            here = namespace == "data"
        return here and matches(peer["podSelector"], labels)

    selecting = [p["spec"] for p in policies if matches(p["spec"]["podSelector"], target)]
    return not selecting or any(
        any(map(comes_from, rule["from"]))
        and ("ports" not in rule or port in [p["port"] for p in rule["ports"]])
        for spec in selecting
        for rule in spec["ingress"]
    )


@pytest.mark.parametrize(
    ("source", "target", "port", "may"),
    [
        # the cluster's own: REST, RPC, blobs, data
        *((("data", FLINK_POD), FLINK_POD, port, True) for port in (8081, 6123, 6124, 40123)),
        (("data", JOB_POD), FLINK_POD, 8081, True),
        *((("data", JOB_POD), FLINK_POD, port, False) for port in (6123, 6124, 40123, 50000)),
        (("flink-system", OPERATOR), FLINK_POD, 8081, True),
        (("flink-system", OPERATOR), FLINK_POD, 6123, False),
        (("data", OPERATOR), FLINK_POD, 8081, False),
        (("data", {"app": "web"}), FLINK_POD, 8081, False),
        (("data", {**FLINK_POD, "app": "another"}), FLINK_POD, 8081, False),
        (("other", FLINK_POD), FLINK_POD, 8081, False),
        (("other", JOB_POD), FLINK_POD, 8081, False),
        # Beam's job server
        (("data", FLINK_POD), JOB_POD, 8099, False),
        (("data", {"app": "web"}), JOB_POD, 8099, False),
        # what is not ours is left alone
        (("other", {"app": "web"}), {"app": "web"}, 80, True),
    ],
)
def test_who_may_connect(source: tuple[str, Labels], target: Labels, port: int, may: bool) -> None:
    rendered = render(
        flink, "--name=reviews", "--namespace=data", "--operator-namespace=flink-system"
    )
    policies = [r for r in rendered if r["kind"] == "NetworkPolicy"]
    assert {policy["metadata"]["namespace"] for policy in policies} == {"data"}
    assert all(policy["spec"]["policyTypes"] == ["Ingress"] for policy in policies)
    assert allowed(policies, source, target, port) is may


def test_policies_know_the_pods_that_are_rendered() -> None:
    """The job's pod by the labels that it gets, and the cluster by its name."""
    *policies, cluster, job = render(flink, "--name=reviews", "--namespace=data")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert pod == JOB_POD
    assert cluster["metadata"]["name"] == FLINK_POD["app"]
    assert allowed(policies, ("data", OPERATOR), FLINK_POD, 8081)


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """What Kubernetes makes of an argument: by the API's words for `args` and by its own code."""
    found, at = "", 0
    while at < len(text):
        rest = text[at + 1 :]
        if text[at] != "$" or not rest:
            found, at = found + text[at], at + 1
        elif rest[0] == "$":
            found, at = found + "$", at + 2
        elif rest[0] == "(" and ")" in rest:
            name = rest[1 : rest.index(")")]
            found += variables.get(name, f"$({name})")
            at += len(name) + 3
        else:
            found, at = found + text[at : at + 2], at + 2
    return found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$(HOME)", "/root"),
        ("$$(HOME)", "$(HOME)"),
        ("$$$(HOME)", "$/root"),
        ("$$x", "$x"),
        ("$x", "$x"),
        ("$(", "$("),
        ("$", "$"),
        ("a$(NONE)", "a$(NONE)"),
    ],
)
def test_expansion_is_that_of_kubernetes(text: str, said: str) -> None:
    """Of the cases in its documentation and its own tests."""
    assert expanded(text, {"HOME": "/root"}) == said


@given(st.text(st.sampled_from("$()HOMEa{}%\\ "), max_size=24))
def test_arguments_reach_the_container_as_they_were_given(text: str) -> None:
    label_flags = ("--input=s3://in/{date}", "--output=s3://out/{date}", f"--text={text}")
    rendered = cron_job(Nightly(label_flags), Pods(IMAGE), Machine())
    spec = rendered["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = yaml.safe_load(yaml.safe_dump(spec))["containers"]
    words = [expanded(word, {"HOME": "/root", "": "nothing"}) for word in container["args"]]
    assert words[:2] == ["label", "--date=yesterday"] and words[-3:] == [*label_flags]
