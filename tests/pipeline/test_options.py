from __future__ import annotations

import itertools
import socket
from datetime import datetime, timedelta, timezone

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from glossator.model.errors import UsageError
from glossator.pipeline.engines.runners import runner_of
from glossator.pipeline.errors import JobError
from glossator.pipeline.options import LabelOptions, beam_options, identity


def options(**given: object) -> LabelOptions:
    return LabelOptions(**{"inputs": ("in.parquet",), "output": "out", **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--ouput=x", "unknown flag --ouput=x: .*did you mean --output?"),
        ("--runer=FlinkRunner", "did you mean --runner?"),
        ("--num_worker=3", "did you mean --num_workers?"),
        ("--zzzzqqqq", "see glossator label --help"),
        ("stray", "unknown flag stray"),
    ],
)
def test_unknown_flag_is_an_error_with_a_suggestion(flag: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("?", "\\?")):
        beam_options([flag], 2, ["--input", "--output"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--runner=FlinkRunner", "--ouput=x"],
        ["--runner", "FlinkRunner", "--parallelism=2", "--typo"],
        ["--num_workers=3", "stray"],
    ],
)
def test_unknown_flag_among_known_ones(flags: list[str]) -> None:
    with pytest.raises(UsageError, match="neither Glossator's nor Beam's"):
        beam_options(flags, 2)


def test_value_that_beam_refuses() -> None:
    with pytest.raises(UsageError, match="--direct_num_workers: invalid int value: 'many'"):
        beam_options(["--direct_num_workers=many"], 2)


def test_beam_flags_arrive() -> None:
    given = beam_options(
        [
            "--runner=FlinkRunner",
            "--num_workers=7",
            "--environment_type",
            "EXTERNAL",
            "--flink_master=[local]",
            "--job_name=nightly",
            "--experiments=a",
            "--experiments=b",
            "--sdk_container_image=example/image:1",
        ],
        3,
    )
    assert given.view_as(StandardOptions).runner == "FlinkRunner"
    assert given.view_as(WorkerOptions).num_workers == 7
    assert given.view_as(PortableOptions).environment_type == "EXTERNAL"
    assert given.view_as(WorkerOptions).sdk_container_image == "example/image:1"
    assert given.get_all_options(drop_default=True)["job_name"] == "nightly"
    assert given.get_all_options()["experiments"][-2:] == ["a", "b"]
    assert not given.view_as(SetupOptions).save_main_session


def test_without_a_runner_the_job_runs_here_in_memory_with_threads_of_ours() -> None:
    given = beam_options(["--job_name=x"], 3)
    assert given.view_as(StandardOptions).runner == "FnApiRunner"
    assert given.view_as(DirectOptions).direct_running_mode == "in_memory"
    assert given.view_as(DirectOptions).direct_num_workers == 1
    assert runner_of(given, "1", 3).threads == 3
    assert given.get_all_options()["job_name"] == "x"


def test_beams_own_local_workers_for_those_who_ask() -> None:
    given = beam_options(["--direct_running_mode=multi_threading"], 3)
    assert given.view_as(DirectOptions).direct_running_mode == "multi_threading"
    assert given.view_as(DirectOptions).direct_num_workers == 3
    assert runner_of(given, "1", 3).threads == 1
    given = beam_options(["--direct_running_mode=multi_threading", "--direct_num_workers=5"], 3)
    assert given.view_as(DirectOptions).direct_num_workers == 5


def test_what_is_said_explicitly_wins() -> None:
    given = beam_options(["--direct_num_workers=5", "--direct_runner_bundle_repeat=1"], 3)
    assert given.view_as(DirectOptions).direct_num_workers == 5
    assert given.view_as(DirectOptions).direct_runner_bundle_repeat == 1


JAR = "--flink_job_server_jar=job-server.jar"


def chosen(*flags: str) -> dict[str, object]:
    return dict(beam_options(list(flags), 3).get_all_options(drop_default=True))


def test_direct_runner_is_the_local_default() -> None:
    assert chosen("--runner=DirectRunner") == chosen()


def test_flink_in_this_process() -> None:
    assert chosen("--runner=FlinkRunner") == {
        "runner": "FlinkRunner",
        "flink_master": "[local]",
        "environment_type": "LOOPBACK",
        "parallelism": 3,
        "experiments": ["disable_logging_submission_environment"],
    }


def test_flink_cluster_has_a_worker_pool_beside_it() -> None:
    given = chosen("--runner=FlinkRunner", "--flink_master=host:1", "--parallelism=7", JAR)
    assert given["environment_type"] == "EXTERNAL"
    assert given["environment_config"] == "localhost:50000"
    assert given["parallelism"] == 7
    flags = ("--runner=FlinkRunner", "--flink_master=host:1", "--parallelism=7", JAR)
    assert chosen(*flags, "--environment_config=a:2")["environment_config"] == "a:2"
    process = chosen(*flags, "--environment_type=DOCKER")
    assert process["environment_type"] == "DOCKER" and "environment_config" not in process


def test_flink_that_is_not_there() -> None:
    with socket.socket() as closed:
        closed.bind(("localhost", 0))
        port = closed.getsockname()[1]
    with pytest.raises(JobError, match=f"no Flink answers at http://localhost:{port} .*refused"):
        chosen("--runner=FlinkRunner", f"--flink_master=localhost:{port}")


def test_options_of_the_job_server_are_known_for_flink_alone() -> None:
    beam_options(["--runner=FlinkRunner", "--max_bundle_size=2"], 3)
    with pytest.raises(UsageError, match="neither Glossator's nor Beam's"):
        beam_options(["--max_bundle_size=2"], 3)


def test_portable_runner_embedded_works_in_this_process() -> None:
    assert chosen("--runner=PortableRunner", "--job_endpoint=embed") == {
        "runner": "PortableRunner",
        "job_endpoint": "embed",
        "environment_type": "LOOPBACK",
    }
    given = chosen("--runner=PortableRunner", "--job_endpoint=host:1")
    assert "environment_type" not in given


@pytest.mark.parametrize("missing", ["project", "region", "temp_location", "sdk_container_image"])
def test_dataflow_says_what_is_missing(missing: str) -> None:
    flags = {
        "project": "p-project",
        "region": "europe-west1",
        "temp_location": "gs://bucket/temp",
        "sdk_container_image": "image",
    }
    beam_options(["--runner=DataflowRunner", *(f"--{k}={v}" for k, v in flags.items())], 3)
    del flags[missing]
    with pytest.raises(UsageError, match=f"needs --{missing}"):
        beam_options(["--runner=DataflowRunner", *(f"--{k}={v}" for k, v in flags.items())], 3)


@pytest.mark.parametrize(("word", "days"), [("today", 0), ("yesterday", 1)])
def test_days_are_of_utc(word: str, days: int) -> None:
    def expected() -> str:
        return (datetime.now(timezone.utc) - timedelta(days=days)).date().isoformat()

    before = expected()
    given = options(inputs=("in/{date}",), output="out/{date}", date=word).resolved()
    assert given.date in (before, expected())  # midnight may have passed
    assert given.inputs == (f"in/{given.date}",) and given.output == f"out/{given.date}"


def test_date_is_filled_in() -> None:
    given = options(
        inputs=("in/{date}/*.parquet", "more-{date}-{date}", "plain"),
        output="out/{date}",
        date="2024-02-29",
        keys=("{date}",),
        top=3,
    )
    filled = given.resolved()
    assert filled.inputs == ("in/2024-02-29/*.parquet", "more-2024-02-29-2024-02-29", "plain")
    assert filled.output == "out/2024-02-29"
    assert (filled.keys, filled.top, filled.date) == (("{date}",), 3, "2024-02-29")
    assert filled.resolved() == filled


def test_without_a_date_nothing_changes() -> None:
    assert options().resolved() == options()


@pytest.mark.parametrize(
    "date",
    ["2024-02-30", "29.02.2024", "tomorrow", "", "2024-2-9", "20240229", "2024-W05-1", "../.."],
)
def test_bad_date(date: str) -> None:
    with pytest.raises(UsageError, match="is not a date: write it YYYY-MM-DD"):
        options(date=date)


@pytest.mark.parametrize("where", ["inputs", "output"])
def test_field_without_its_value(where: str) -> None:
    value = {"inputs": ("in/{date}",), "output": "out/{date}"}[where]
    with pytest.raises(UsageError, match=r"has \{date\} in it: give the date") as caught:
        options(**{where: value})
    assert caught.value.parameter == "date"


@pytest.mark.parametrize("date", ["2024-02-29", "yesterday"])
def test_date_in_the_input_alone(date: str) -> None:
    with pytest.raises(UsageError, match="each day would replace the one before") as error:
        options(inputs=("all", "in/{date}"), date=date)
    assert error.value.parameter == "output"
    assert options(inputs=("all",), output="out/{date}", date=date).resolved().output != "out"


@pytest.mark.parametrize("where", ["output", "model"])
def test_uri_that_is_not_utf8(where: str) -> None:
    with pytest.raises(UsageError, match=r"o\\xff is not UTF-8") as error:
        options(**{where: "o\udcff"})
    assert error.value.parameter == where


@pytest.mark.parametrize("where", ["inputs", "output"])
@pytest.mark.parametrize("field", ["hour", "Date", "date_"])
def test_unknown_field(where: str, field: str) -> None:
    text = f"x/{{{field}}}"
    with pytest.raises(UsageError, match=rf"unknown field \{{{field}\}}; known: \{{date\}}"):
        options(**{where: (text,) if where == "inputs" else text}, date="2024-01-01")


def test_other_braces_are_left_alone() -> None:
    given = options(inputs=("x/{a,b}.parquet", "{}"), date="2024-01-01")
    assert given.resolved().inputs == ("x/{a,b}.parquet", "{}")


@pytest.mark.parametrize("top", [-1, 101])
def test_top_out_of_range(top: int) -> None:
    with pytest.raises(UsageError, match=f"^{top} is not between 0 and 100"):
        options(top=top)


@pytest.mark.parametrize("allowance", [-1, -0.5, 1.5, float("nan"), float("inf")])
def test_allowance_out_of_range(allowance: float) -> None:
    with pytest.raises(UsageError, match="is not a") as caught:
        options(max_unreadable=allowance)
    assert caught.value.parameter == "max_unreadable"


@pytest.mark.parametrize("allowance", [0, 3, 10_000, 0.0, 0.25, 1.0])
def test_allowance(allowance: float) -> None:
    assert options(max_unreadable=allowance).max_unreadable == allowance


def test_no_input() -> None:
    with pytest.raises(UsageError, match=r"^name Parquet files"):
        options(inputs=())


def test_identity_tells_apart_all_that_changes_the_output() -> None:
    variants = itertools.product(("m", "n"), (("a", "b"), ("a",), ("ab",)), (5, 6))
    digests = [identity(model, tasks, top) for model, tasks, top in variants]
    assert len(set(digests)) == len(digests) == 12
    assert identity("m", iter(["a", "b"]), 5) == digests[0]
