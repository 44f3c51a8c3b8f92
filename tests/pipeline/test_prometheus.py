"""How runs ended, as Prometheus's own parser reads it: from a file, and at a Pushgateway."""

from __future__ import annotations

import base64
import json
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command_lines import ended, glossator
from jobs import Job, wait_for
from real_engines import free_port
from sample_comments import make_comments, write_comments

parser = pytest.importorskip("prometheus_client.parser")

DAY = "2026-11-21"
DAY_SECONDS = 1795219200
"""Of its beginning in UTC: date --date=2026-11-21T00:00Z +%s."""


@pytest.fixture
def flags(tmp_path: Path, bundle: Path) -> list[str]:
    write_comments(tmp_path / "in" / DAY / "a.parquet", [None, "", None, *make_comments(10)])
    return [
        *("label", "--input", f"{tmp_path}/in/{{date}}", "--date", DAY, "--key", "id"),
        *("--output", f"{tmp_path}/out/{{date}}", "--model", str(bundle)),
    ]


Samples = dict[tuple[str, str], float]


def samples(text: str, output: str) -> Samples:
    """By name and what else labels them; all are of this output."""
    found: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.type == "gauge" and family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("output") == output
            (label,) = labels.values() or ("",)
            found[sample.name.removeprefix("glossator_"), label] = sample.value
    return found


def test_file_tells_how_each_run_ended(tmp_path: Path, flags: list[str]) -> None:
    file, output = tmp_path / "glossator.prom", f"{tmp_path}/out/{{date}}"
    before = time.time()
    assert glossator(*flags, "--metrics-file", file).returncode == 0
    after = time.time()
    good = samples(file.read_text(encoding="utf-8"), output)
    assert good["last_run_exit_code", ""] == 0
    assert (good["rows_read", ""], good["rows_labelled", ""]) == (13, 10)
    assert (good["rejects", "null"], good["rejects", "empty"]) == (2, 1)
    assert good["check_passed", "unreadable"] == 1
    assert good["check_value", "unreadable"] == good["check_limit", "unreadable"] == 0
    assert before <= good["last_success_timestamp_seconds", ""] <= after
    assert 0 < good["last_run_duration_seconds", ""] <= after - before
    assert good["last_success_date_seconds", ""] == DAY_SECONDS
    assert [path.name for path in tmp_path.glob("glossator.prom*")] == [file.name]

    # a night that fails leaves word of the last one that did not
    (tmp_path / "in" / DAY / "b.parquet").write_bytes(b"PAR1 and no more")
    assert glossator(*flags, "--metrics-file", file).returncode == 3
    bad = samples(file.read_text(encoding="utf-8"), output)
    assert bad["last_run_exit_code", ""] == 3
    for kept in ("last_success_timestamp_seconds", "last_success_date_seconds"):
        assert bad[kept, ""] == good[kept, ""]
    assert bad["last_run_timestamp_seconds", ""] > good["last_run_timestamp_seconds", ""]
    assert ("rows_read", "") not in bad
    assert (bad["check_passed", "unreadable"], bad["check_value", "unreadable"]) == (0, 1)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--input={}/none"], 4),
        (["--text=none"], 2),
        (["--top=1000"], 2),
        (["--nosuch=1"], 2),
        (["--model={}/none"], 2),
    ],
)
def test_run_that_did_not_begin_is_told_too(
    tmp_path: Path, flags: list[str], more: list[str], code: int
) -> None:
    file = tmp_path / "glossator.prom"
    run = glossator(*flags, *(word.format(tmp_path) for word in more), "--metrics-file", file)
    assert run.returncode == code
    told = samples(file.read_text(encoding="utf-8"), f"{tmp_path}/out/{{date}}")
    assert told["last_run_exit_code", ""] == code
    assert ("last_success_timestamp_seconds", "") not in told


def test_run_that_was_stopped_is_told_too(tmp_path: Path, big_job: Job) -> None:
    file, out = tmp_path / "glossator.prom", tmp_path / "out"
    process = big_job.start(out, "--metrics-file", file)
    wait_for(lambda: list(out.glob("_*/**/part-*")), process)
    process.send_signal(signal.SIGTERM)
    assert big_job.end(process).returncode == 1
    told = samples(file.read_text(encoding="utf-8"), str(out))
    assert told["last_run_exit_code", ""] == 1


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """A server that takes what is pushed: its address, and what came."""
    came: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            came.append((self.command, self.path, content.decode()))
            self.send_response(200)
            self.end_headers()

        do_POST = do_PUT = _do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", came
    server.shutdown()
    server.server_close()


def test_run_is_pushed_to_a_gateway(tmp_path: Path, flags: list[str], gateway: Any) -> None:
    address, came = gateway
    output = f"{tmp_path}/out/{{date}}"
    run = glossator(*flags, "--metrics-push", address, "--json")
    assert run.returncode == 0, run.stderr
    ((method, path, text),) = came
    # POST leaves what it does not name, so that a failure keeps the last success
    assert method == "POST"
    *_, job, name, value = path.split("/")
    assert (job, name) == ("glossator", "output@base64")
    assert base64.urlsafe_b64decode(value).decode() == output
    told = samples(text, output)
    assert told["rows_labelled", ""] == json.loads(run.stdout)["totals"]["rows_labelled"] == 10


def test_gateway_that_is_down_costs_one_line(tmp_path: Path, flags: list[str]) -> None:
    address = f"http://user:hush@127.0.0.1:{free_port()}"
    run = glossator(*flags, "--metrics-push", address)
    assert run.returncode == 0 and (tmp_path / "out" / DAY / "_SUCCESS").exists()
    (told,) = (line for line in run.stderr.splitlines() if "metrics" in line)
    assert told.startswith("can't write metrics to http://") and "hush" not in run.stderr


def test_file_that_can_not_be_is_invalid(tmp_path: Path, flags: list[str]) -> None:
    run = glossator(*flags, "--metrics-file", tmp_path / "none" / "x.prom")
    ended(run, 2, "--metrics-file: ", "its folder is not there: make it")
