"""One job, every engine: the same bytes, and the same counts on the engine and in the manifest."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_lines import shell
from outputs import current
from real_engines import free_port
from sample_comments import make_comments, write_comments

Label = Callable[..., "dict[str, Any]"]

FILES, ROWS = 5, 150


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files with comments, and some that can't be labelled."""
    folder = tmp_path_factory.mktemp("engines") / "in"
    for i in range(FILES):
        texts: list[str | None] = [*make_comments(ROWS - 2, seed=i), None, " "]
        write_comments(folder / f"{i}.parquet", texts, first_id=i * ROWS)
    return folder


@pytest.fixture(scope="session")
def label(source: Path, bundle: Path) -> Label:
    """Labels the source in a process of its own; the account of it."""

    def run(out: Path, *arguments: object) -> dict[str, Any]:
        command = ("-m", "glossator.pipeline", "--json", "--input", source, "--output", out)
        ended = shell(*command, "--key", "id", "--model", bundle, *arguments)
        assert ended.returncode == 0 and "Traceback" not in ended.stderr, ended.stderr
        account: dict[str, Any] = json.loads(ended.stdout)
        return account

    return run


def data(out: Path) -> dict[str, bytes]:
    """The parts and rejects, byte for byte."""
    files = (path for path in current(out).rglob("part-*") if path.is_file())
    return {str(path.relative_to(current(out))): path.read_bytes() for path in files}


@pytest.fixture(scope="session")
def expected(label: Label, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the local default leaves with one thread."""
    out = tmp_path_factory.mktemp("expected") / "out"
    account = label(out, "--workers", "1")
    files = data(out)
    assert account["parts"] == FILES and len(files) == 2 * FILES
    return files


@pytest.fixture
def worker_pool() -> Iterator[str]:
    """The address of a Beam worker pool with this Python."""
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    module = "apache_beam.runners.worker.worker_pool_main"
    pool = subprocess.Popen(
        [sys.executable, "-m", module, f"--service_port={port}"],
        env={**os.environ, "PATH": path},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while True:
        assert pool.poll() is None and time.monotonic() < deadline
        with socket.socket() as client:
            if client.connect_ex(("localhost", port)) == 0:
                break
        time.sleep(0.1)
    yield f"localhost:{port}"
    pool.terminate()
    pool.wait(30)


def check(
    account: dict[str, Any], out: Path, expected: dict[str, bytes], *, lossy: bool = False
) -> None:
    """The bytes are those expected, nothing else lies there, and all counts agree.

    The counts of an engine that is `lossy` may be without those of some bundles.
    """
    assert account["state"] == "published"
    assert data(out) == expected
    assert {path.name for path in out.iterdir()} == {"_SUCCESS", "_current.json", "_runs"}
    names = {path.name for path in current(out).iterdir() if not path.name.startswith("part-")}
    assert names == {
        "_canary.json",
        "_manifest.json",
        "_records.json",
        "_rejects",
        "_report.html",
    }
    written = json.loads((current(out) / "_manifest.json").read_text())
    assert account["metrics"] == written["metrics"]
    counters, distributions = account["metrics"]["counters"], account["metrics"]["distributions"]
    if lossy:
        for name, count in account["engine"]["counters"].items():
            assert count <= counters[name]
    else:
        assert account["engine"] == account["metrics"]
    assert counters["rows_read"] == FILES * ROWS
    assert counters["rejects_null"] == counters["rejects_empty"] == FILES
    assert distributions["network_ms"]["count"] == FILES
    assert 1 <= distributions["model_load_ms"]["count"] <= FILES


@pytest.mark.parametrize("arguments", [("--workers=2",), ("--runner=DirectRunner",)])
def test_local(
    arguments: tuple[str, ...], label: Label, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    check(label(tmp_path / "out", *arguments), tmp_path / "out", expected)


@pytest.mark.parametrize("where", ["loopback", "external"])
def test_portable_runner(
    where: str,
    label: Label,
    tmp_path: Path,
    expected: dict[str, bytes],
    request: pytest.FixtureRequest,
) -> None:
    arguments = ["--runner=PortableRunner", "--job_endpoint=embed"]
    if where == "external":
        pool = request.getfixturevalue("worker_pool")
        arguments += ["--environment_type=EXTERNAL", f"--environment_config={pool}"]
    check(label(tmp_path / "out", *arguments), tmp_path / "out", expected)


@pytest.mark.prism
def test_prism(label: Label, tmp_path: Path, expected: dict[str, bytes], prism: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--runner=PrismRunner", f"--prism_location={prism}")
    # on a busy machine it has counted two splits of five, and all five were labelled once
    check(label(out, *arguments), out, expected, lossy=True)
    assert label(out, *arguments)["state"] == "unchanged"


@pytest.mark.prism
def test_direct_runner_is_the_same_with_prism_at_hand(
    label: Label, tmp_path: Path, expected: dict[str, bytes], prism: Path
) -> None:
    out = tmp_path / "out"
    check(label(out, "--runner=DirectRunner", f"--prism_location={prism}"), out, expected)


@pytest.mark.flink
def test_flink_embedded(
    label: Label, tmp_path: Path, expected: dict[str, bytes], job_server_jar: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--runner=FlinkRunner", f"--flink_job_server_jar={job_server_jar}")
    check(label(out, *arguments), out, expected)


@pytest.mark.flink
def test_flink_cluster(
    label: Label,
    tmp_path: Path,
    expected: dict[str, bytes],
    flink_cluster: Any,
    job_server_jar: Path,
) -> None:
    out = tmp_path / "out"
    arguments = (
        "--runner=FlinkRunner",
        f"--flink_job_server_jar={job_server_jar}",
        f"--flink_master={flink_cluster.master}",
        f"--flink_conf_dir={flink_cluster.conf}",
        f"--environment_config={flink_cluster.pool}",
    )
    check(label(out, *arguments), out, expected)
    assert label(out, *arguments)["state"] == "unchanged"
