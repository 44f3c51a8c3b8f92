"""The image's build file, as far as it can be held against the repository without building it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath

import pytest
from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

from glossator.deploy.kubernetes import UID
from glossator.deploy.settings import FLINK_VERSION, JOB_SERVER_JAR

ROOT = Path(__file__).parents[2]


@dataclass
class Stage:
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str | None:
        values = [value for name, value in self.steps if name == instruction]
        return values[-1] if values else None

    def copies(self) -> list[tuple[str | None, list[str], str]]:
        """From which stage, what, where to."""
        found = []
        for name, value in self.steps:
            if name == "COPY":
                words = value.split()
                stage = (
                    words.pop(0).removeprefix("--from=") if value.startswith("--from=") else None
                )
                found.append((stage, words[:-1], words[-1]))
        return found

    def environment(self) -> dict[str, str]:
        return dict(
            word.split("=", 1)
            for name, value in self.steps
            if name == "ENV"
            for word in value.split()
        )


def read_stages() -> dict[str, Stage]:
    text = (ROOT / "deploy" / "Dockerfile").read_bytes()
    stages: dict[str, Stage] = {}
    images: dict[str, str] = {}
    for step in DockerfileParser(fileobj=BytesIO(text)).structure:
        name, value = step["instruction"], step["value"]
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            base = re.sub(r"\$\{(\w+)\}", lambda name: images[name[1]], base)
            current = stages.setdefault(alias, Stage(base))
        elif name == "ARG" and not stages:  # what can be given for a base
            variable, _, images[variable] = value.partition("=")
        elif name != "COMMENT":
            current.steps.append((name, value))
    return stages


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return read_stages()


@pytest.fixture(scope="module")
def context() -> set[str]:
    """What Docker would be sent, by its own reading of .dockerignore."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return set(exclude_paths(str(ROOT), patterns))


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """A stage and those that it is built on, the first one first."""
    chain = []
    while name in stages:
        chain.insert(0, stages[name])
        name = stages[name].base
    return chain


def final(stages: dict[str, Stage], name: str, instruction: str) -> str | None:
    values = [stage.last(instruction) for stage in lineage(stages, name)]
    return next((value for value in reversed(values) if value is not None), None)


def test_what_is_copied_is_there(stages: dict[str, Stage], context: set[str]) -> None:
    copied = [
        source
        for stage in stages.values()
        for origin, sources, _ in stage.copies()
        if origin is None
        for source in sources
    ]
    assert {"constraints.txt", "api/", "model/", "pipeline/", "deploy/"} <= set(copied)
    for source in copied:
        assert source.rstrip("/") in context, f"{source} is not sent to Docker"


def test_nothing_else_is_sent(context: set[str]) -> None:
    assert {PurePosixPath(path).parts[0] for path in context} == {
        *("LICENSE", "README.md", "api", "constraints.txt", "deploy", "model", "pipeline"),
        "pyproject.toml",
        *({".dockerignore"} & context),  # Docker adds it by itself
    }
    assert not [path for path in context if "__pycache__" in path]


def test_stages_come_from_stages_and_fixed_tags(stages: dict[str, Stage]) -> None:
    names = list(stages)
    for name, stage in stages.items():
        known = names[: names.index(name)]
        for origin, _, _ in stage.copies():
            assert origin is None or origin in known, f"{name} copies from {origin}"
        if stage.base not in known:
            _, colon, tag = stage.base.rpartition(":")
            assert colon and tag != "latest", f"{stage.base} has no fixed tag"


def test_every_base_can_be_given_with_its_digest() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    bases = re.findall(r"^FROM (\S+) AS", text, re.MULTILINE)
    outside = [base for base in bases if base not in read_stages()]
    assert len(outside) >= 5
    assert all(re.fullmatch(r"\$\{[A-Z_]+_IMAGE\}", base) for base in outside)


def test_beam_is_the_one_of_the_constraints(stages: dict[str, Stage]) -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (beam,) = re.findall(r"^apache-beam==(\S+)$", constraints, re.MULTILINE)
    assert stages["beam"].base == f"apache/beam_python3.11_sdk:{beam}"
    assert stages["job-server"].base == f"apache/beam_flink{FLINK_VERSION}_job_server:{beam}"
    assert stages["build"].base == stages["local"].base  # the virtual environment names its python
    assert stages["local"].base.startswith("python:3.11-")
    assert "python311" in stages["launcher"].base


def test_what_the_manifests_name_is_where_they_say(stages: dict[str, Stage]) -> None:
    targets = {
        # of a file into a folder; of a folder Docker copies what is in it
        target + PurePosixPath(source).name if source.endswith(".jar") else target
        for _, sources, target in stages["flink"].copies()
        for source in sources
    }
    assert targets == {JOB_SERVER_JAR, "/opt/java/openjdk"}
    environment = stages["flink"].environment()
    assert environment["PATH"].startswith("/opt/java/openjdk/bin:")


def test_entry_points(stages: dict[str, Stage]) -> None:
    assert json.loads(final(stages, "local", "ENTRYPOINT") or "") == ["glossator"]
    assert json.loads(final(stages, "flink", "ENTRYPOINT") or "") == ["glossator"]
    assert json.loads(final(stages, "dataflow", "ENTRYPOINT") or "") == ["/opt/apache/beam/boot"]


def test_dataflow_finds_its_launcher(stages: dict[str, Stage]) -> None:
    copies = {target: sources for _, sources, target in stages["dataflow"].copies()}
    launcher = stages["dataflow"].environment()["FLEX_TEMPLATE_PYTHON_PY_FILE"]
    assert copies[launcher] == ["deploy/dataflow/launch.py"]
    assert copies["/opt/google/dataflow/python_template_launcher"]
    assert copies["/opt/apache/beam"] == ["/opt/apache/beam"]


def test_who_it_runs_as(stages: dict[str, Stage]) -> None:
    for name in ("local", "flink"):
        user = final(stages, name, "USER") or ""
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "Kubernetes wants a number to trust"


def test_root_is_only_where_dataflow_wants_it(stages: dict[str, Stage]) -> None:
    users = {name: final(stages, name, "USER") for name in ("local", "flink", "dataflow")}
    assert users == {"local": f"{UID}:{UID}", "flink": f"{UID}:{UID}", "dataflow": "root"}


def test_torch_is_the_one_without_cuda(stages: dict[str, Stage]) -> None:
    installs = [value for name, value in stages["build"].steps if name == "RUN" and "pip" in value]
    torch, package = installs
    assert "--index-url" in torch and "--no-deps" in torch and torch.endswith(" torch")
    assert (stages["build"].last("ARG") or "").endswith("/whl/cpu")
    assert all("--constraint constraints.txt" in install for install in installs)
    assert '".[$EXTRAS]"' in package


def test_package_is_built_from_what_is_sent(context: set[str], tmp_path: Path) -> None:
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    for path in context:
        if (ROOT / path).is_file():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, source / path)
    built = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", str(wheels), str(source)),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "glossator/model/default/model.safetensors" in names
    assert {"glossator/pipeline/cli.py", "glossator/deploy/flink/kubernetes.py"} <= names
