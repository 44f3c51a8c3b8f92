"""OpenLineage events of real runs, as a receiver finds them."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_lines import ended, glossator
from real_engines import free_port
from sample_comments import make_comments, write_comments

from glossator.model import bundle as bundles

lineage = pytest.importorskip("openlineage.client.event_v2")
facets = pytest.importorskip("openlineage.client.facet_v2")

DAY = "2026-11-21"
KNOWN = {
    "processing_engine": facets.processing_engine_run.ProcessingEngineRunFacet,
    "nominalTime": facets.nominal_time_run.NominalTimeRunFacet,
    "errorMessage": facets.error_message_run.ErrorMessageRunFacet,
    "jobType": facets.job_type_job.JobTypeJobFacet,
    "version": facets.dataset_version_dataset.DatasetVersionDatasetFacet,
    "inputStatistics": facets.input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
    "outputStatistics": facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def flags(tmp_path: Path, bundle: Path) -> list[str]:
    """A night of two files, with three rejects."""
    folder = tmp_path / "in" / DAY
    write_comments(folder / "a.parquet", [None, "", *make_comments(10)])
    write_comments(folder / "b.parquet", [None, *make_comments(5, seed=1)], first_id=100)
    return [
        *("label", "--input", f"{tmp_path}/in/{{date}}/*.parquet", "--date", DAY),
        *("--output", f"{tmp_path}/out/{{date}}", "--key", "id", "--model", str(bundle)),
    ]


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a file; each is built again by the package's own classes, which check it."""
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for event in events:
        for side, kind in (("inputs", "inputFacets"), ("outputs", "outputFacets")):
            for dataset in event[side]:
                check(dataset.get(kind, {}))
                check(dataset.get("facets", {}))
        check(event["run"]["facets"])
        check(event["job"]["facets"])
        built = lineage.RunEvent(
            eventType=lineage.RunState[event["eventType"]],
            **{name: event[name] for name in ("eventTime", "producer")},
            run=lineage.Run(**event["run"]),
            job=lineage.Job(**event["job"]),
            inputs=[lineage.InputDataset(**dataset) for dataset in event["inputs"]],
            outputs=[lineage.OutputDataset(**dataset) for dataset in event["outputs"]],
        )
        assert built.schemaURL == event["schemaURL"]
        uuid.UUID(event["run"]["runId"])
    return events


def check(found: dict[str, Any]) -> None:
    for name, facet in found.items():
        values = {key: value for key, value in facet.items() if not key.startswith("_")}
        assert facet["_producer"] and facet["_schemaURL"]
        if name == "dataQualityAssertions":
            quality = facets.data_quality_assertions_dataset
            [quality.Assertion(**assertion) for assertion in values["assertions"]]
        elif name in KNOWN:
            assert facet["_schemaURL"] == KNOWN[name](**values)._schemaURL


def told_of(event: dict[str, Any]) -> dict[str, tuple[bool, str, str | None]]:
    """The checks: whether each passed, its limit and its figure, which some have not."""
    assertions = event["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    return {a["assertion"]: (a["success"], a["expected"], a.get("actual")) for a in assertions}


def test_run_is_told_from_beginning_to_end(tmp_path: Path, bundle: Path, flags: list[str]) -> None:
    events = tmp_path / "events.jsonl"
    run = glossator(*flags, "--lineage", events)
    assert run.returncode == 0, run.stderr
    start, end = read(events)
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]
    # one job for all nights
    assert end["job"]["name"] == f"{tmp_path}/out/{{date}}"
    (input_,), (output,) = end["inputs"], end["outputs"]
    assert (input_["namespace"], input_["name"]) == ("file", f"{tmp_path}/in/{DAY}")
    assert (output["namespace"], output["name"]) == ("file", f"{tmp_path}/out/{DAY}")
    files = [*(tmp_path / "in" / DAY).iterdir()]
    statistics = input_["inputFacets"]["inputStatistics"]
    assert statistics["rowCount"] == 18 and statistics["fileCount"] == 2
    assert statistics["size"] == sum(file.stat().st_size for file in files)
    assert told_of(end)["unreadable"] == (True, "0", "0")
    written = output["outputFacets"]["outputStatistics"]
    parts = f"{tmp_path}/out/{DAY}/**/part-*.parquet"
    labelled = duckdb.sql(
        f"select count(*) from read_parquet('{parts}', union_by_name=true) where sentiment is"
        " not null"
    ).fetchall()
    assert [(written["rowCount"],)] == labelled == [(15,)]
    ours = end["run"]["facets"]["glossator_run"]
    assert ours["model_digest"] == bundles.load(bundle).digest
    assert ours["rejects"] == {"empty": 1, "null": 2}
    assert output["facets"]["version"]["datasetVersion"] == ours["run_id"]
    nominal = end["run"]["facets"]["nominalTime"]
    assert nominal["nominalStartTime"] == "2026-11-21T00:00:00Z"
    assert nominal["nominalEndTime"] == "2026-11-22T00:00:00Z"


def test_each_file_is_told_of_its_own_folder(tmp_path: Path, bundle: Path) -> None:
    """Where the name of one begins as that of another."""
    for name, count in (("day1", 3), ("day10", 5)):
        write_comments(tmp_path / name / "a.parquet", make_comments(count))
    events, where = tmp_path / "events.jsonl", ("--input", tmp_path / "day1")
    flags = (*where, "--input", tmp_path / "day10", "--output", tmp_path / "out")
    run = glossator("label", *flags, "--model", bundle, "--lineage", events)
    assert run.returncode == 0, run.stderr
    told = {
        dataset["name"]: dataset["inputFacets"]["inputStatistics"]["rowCount"]
        for dataset in read(events)[-1]["inputs"]
    }
    assert told == {f"{tmp_path}/day1": 3, f"{tmp_path}/day10": 5}


def test_refused_run_is_told_as_failed(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "in" / DAY / "c.parquet").write_bytes(b"PAR1 and no more")
    events = tmp_path / "events.jsonl"
    run = glossator(*flags, "--lineage", events)
    assert run.returncode == 3
    start, end = read(events)
    assert (start["eventType"], end["eventType"]) == ("START", "FAIL")
    message = end["run"]["facets"]["errorMessage"]["message"]
    assert "could not be read" in message and message in run.stderr
    assert end["run"]["facets"]["glossator_run"]["exit_code"] == 3
    assert told_of(end)["unreadable"] == (False, "0", "1")


def test_run_that_finds_all_done_is_told(tmp_path: Path, flags: list[str]) -> None:
    events = tmp_path / "events.jsonl"
    glossator(*flags)
    assert "nothing was done" in glossator(*flags, "--lineage", events).stdout
    assert [event["eventType"] for event in read(events)] == ["START", "COMPLETE"]


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A server that takes events: its address, and what came."""
    came: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            came.append((self.path, json.loads(content)))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", came
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_events_come_by_http(
    way: str, flags: list[str], receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, came = receiver
    parent = uuid.uuid4()
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "reviews")
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"airflow/nightly.label/{parent}")
    if way == "environment":
        monkeypatch.setenv("OPENLINEAGE_URL", address)
    run = glossator(*flags, *(["--lineage", address] if way == "flag" else []))
    assert run.returncode == 0, run.stderr
    assert [event["eventType"] for _, event in came] == ["START", "COMPLETE"]
    path, event = came[0]
    assert path == "/api/v1/lineage" and event["job"]["namespace"] == "reviews"
    told = event["run"]["facets"]["parent"]
    assert (told["job"]["name"], told["run"]["runId"]) == ("nightly.label", str(parent))


def test_receiver_that_is_down_costs_one_line(tmp_path: Path, flags: list[str]) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    run = glossator(*flags, "--lineage", address)
    assert run.returncode == 0 and (tmp_path / "out" / DAY / "_SUCCESS").exists()
    told = [line for line in run.stderr.splitlines() if "lineage" in line]
    assert len(told) == 1 and told[0].startswith(f"can't tell lineage to {address}: ")


def test_switched_off_by_the_environment(
    tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    run = glossator(*flags)
    assert run.returncode == 0 and "lineage" not in run.stderr


def test_place_that_takes_no_events_is_invalid(flags: list[str]) -> None:
    ended(glossator(*flags, "--lineage", "s3://bucket/x"), 2, "--lineage: s3://bucket/x is neither")
