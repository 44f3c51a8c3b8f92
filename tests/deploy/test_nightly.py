"""Schedules: each is read by its own tool, and what it would run by our own command."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from command_lines import shell
from hypothesis import example, given
from hypothesis import strategies as st
from sample_comments import make_comments, write_comments

from glossator.deploy.flink.__main__ import cli as flink
from glossator.deploy.nightly.__main__ import cli as nightly
from glossator.deploy.nightly.systemd import units as units_of
from glossator.deploy.settings import Nightly
from glossator.model.errors import UsageError
from glossator.pipeline.cli import label
from glossator.pipeline.options import LabelOptions, beam_options

IMAGE = "--image=registry.example/glossator:1.2.3"
INPUT, OUTPUT = "s3://in/{date}/*.parquet", "s3://out/{date}"
JOB = ["--input", INPUT, "--output", OUTPUT, "--key", "id", "--key=user name", "--top=3"]
PROGRAM = Path(sys.executable).with_name("glossator")


def render(command: Any, *arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def cron_job_words(text: str) -> list[str]:
    *_, job = yaml.safe_load_all(text)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    words: list[str] = container["command"] + container["args"]
    return words


def service_words(text: str) -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert not re.search(r"(?<!%)(%%)*%(?!%)|(?<!\$)(\$\$)*\$(?!\$)", line), (
        "systemd would fill it in"
    )
    return [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(line)]


def dag_words(text: str) -> list[str]:
    """What the task of the DAG would start, its date aside."""
    (call,) = (
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Glossator"
    )
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    assert ast.literal_eval(arguments["date"]) == "{{ ds }}"
    words: list[str] = ast.literal_eval(arguments["command"])
    return [*words, "--date=2026-11-21"]


WAYS: dict[str, Callable[..., list[str]]] = {
    "kubernetes": lambda *job: cron_job_words(render(nightly, "kubernetes", IMAGE, *job)),
    "flink": lambda *job: cron_job_words(render(flink, "kubernetes", IMAGE, *job)),
    "systemd": lambda *job: service_words(render(nightly, "systemd", *job)),
    "airflow": lambda *job: dag_words(render(nightly, "airflow", *job)),
}


@pytest.mark.parametrize("way", WAYS)
def test_command_is_one_that_glossator_understands(way: str) -> None:
    program, verb, *words = WAYS[way](*JOB)
    assert Path(program).name == "glossator" and verb == "label"
    given = label.make_context("glossator label", words).params
    names = ("inputs", "output", "model", "text", "keys", "date", "top")
    options = LabelOptions(**{name: given[name] for name in names})
    assert (options.inputs, options.output) == ((INPUT,), OUTPUT)
    assert (options.keys, options.top) == (("id", "user name"), 3)
    engine = beam_options(given["beam_arguments"], given["workers"] or 1).get_all_options()
    assert engine["runner"] == ("FlinkRunner" if way == "flink" else "FnApiRunner")


@pytest.mark.parametrize("way", WAYS)
def test_night_labels_the_day_before(way: str) -> None:
    words = WAYS[way](*JOB)
    before = datetime.now(timezone.utc) - timedelta(days=1)
    given = label.make_context("glossator label", words[2:]).params
    options = LabelOptions(given["inputs"], given["output"], date=given["date"]).resolved()
    after = datetime.now(timezone.utc) - timedelta(days=1)
    days = {"2026-11-21"} if way == "airflow" else {f"{t:%Y-%m-%d}" for t in (before, after)}
    assert options.output.removeprefix("s3://out/") in days


@pytest.mark.parametrize(
    ("way", "flags", "minutes"),
    [
        ("kubernetes", [], 120),
        ("flink", ["--deadline-hours=3"], 60),
        ("systemd", ["--deadline-hours=4.5"], 90),
        ("systemd", ["--wait-minutes=7"], 7),
        ("airflow", [], 0),  # which gives the worker to others while it waits
    ],
)
def test_late_day_is_waited_for(way: str, flags: list[str], minutes: int) -> None:
    given = label.make_context("glossator label", WAYS[way](*JOB, *flags)[2:]).params
    assert given["wait_minutes"] == minutes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--outptu=x"], "unknown flag --outptu=x: .*did you mean --output?"),
        (["--top=1000"], "--top: 1000 is not between"),
        (["--output=s3://out/{day}"], "unknown field {day}"),
        (["--output=s3://out/labels"], "--output.* s3://out/labels is the same"),
        (["--date=2026-11-21"], "--date 2026-11-21: leave it out"),
        (["--date", "today"], "--date today: leave it out"),
        (["--name=Night_1"], "--name 'Night_1' can't be used"),
        ([f"--name={'n' * 46}"], "at most 45"),
        (["--schedule=30 2 * *"], "--schedule '30 2 \\* \\*': write minute and hour"),
        (["--schedule=30 2 * * 1-5"], "a day without a run would not be labelled"),
        (["--schedule=0 24 * * *"], "--schedule '0 24 .*write minute and hour"),
        (["--schedule=61 2 * * *"], "--schedule '61 2 .*write minute and hour"),
        (["--time-zone=Europe/Atlantis"], "--time-zone Europe/Atlantis is not known"),
        (["--deadline-hours=0"], "--deadline-hours 0 is not between 0 and 24"),
        (["--retries=-1"], "--retries -1: 0 or more"),
    ],
)
def test_what_would_fail_at_night_fails_now(way: str, flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        WAYS[way](*JOB, *flags)


@pytest.mark.parametrize("way", WAYS)
def test_night_never_replaces_the_one_before(way: str) -> None:
    with pytest.raises(UsageError, match=r"write e\.g\. s3://out/labels/\{date\}"):
        WAYS[way]("--input=s3://in/all", "--output=s3://out/labels/")
    WAYS[way]("--input=s3://in/all", "--output=s3://out/labels/{date}")


@pytest.mark.parametrize("way", ["kubernetes", "flink", "systemd"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--schedule=0 22 * * *", "--retries=1"],
            "begins at 22:00 UTC, and a retry up to 7 hours later",
        ),
        (
            ["--time-zone=Asia/Shanghai"],
            "begins at 18:30 UTC, and a retry up to .* hours later, when it is another day",
        ),
        (["--time-zone=Europe/Berlin"], "2026-03-29 has no 02:30 in Europe/Berlin"),
    ],
)
def test_night_is_never_another_day(way: str, flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        WAYS[way](*JOB, *flags)


def test_airflow_names_the_day_itself() -> None:
    for flags in (["--schedule=0 22 * * *"], ["--time-zone=Europe/Berlin"]):
        WAYS["airflow"](*JOB, *flags)


@pytest.mark.parametrize(
    "flags",
    [
        ["--time-zone=Asia/Shanghai", "--deadline-hours=4"],
        ["--time-zone=Europe/Berlin", "--schedule=30 3 * * *"],
    ],
)
def test_other_time_zones(flags: list[str]) -> None:
    WAYS["kubernetes"](*JOB, *flags)


def test_flags_that_are_missing_are_asked_for() -> None:
    said = shell("-m", "glossator.deploy.nightly", "systemd", "--output", OUTPUT)
    assert said.returncode == 2
    assert "Missing option '--input'" in said.stderr
    assert "Traceback" not in said.stderr


def test_files_are_written(tmp_path: Path) -> None:
    for scheduler, *flags in (("kubernetes", IMAGE), ("systemd",), ("airflow",)):
        folder = ("--write", str(tmp_path / "new"), "--name=a-b")
        assert render(nightly, scheduler, *flags, *folder, *JOB) == ""
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        *("a-b.yaml", "a-b.service", "a-b.timer", "a-b.py")
    }


def units(folder: Path, *arguments: str) -> list[Path]:
    render(nightly, "systemd", "--write", str(folder), f"--program={PROGRAM}", *arguments)
    return [folder / "glossator.service", folder / "glossator.timer"]


def systemd_analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
    )


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ['--text=100% of $PRICE "quoted" it\'s \\n;'],
        ["--output=/var/labels/{date}", "--input=/var/comments/{date}.parquet"],
        ["--time-zone=Asia/Shanghai", "--deadline-hours=5", "--retries=1"],
    ],
)
def test_systemd_takes_the_units(flags: list[str], tmp_path: Path) -> None:
    said = systemd_analyze("verify", *units(tmp_path, *JOB, *flags))
    about_ours = [line for line in said.stderr.splitlines() if "glossator" in line]
    assert said.returncode == 0 and not about_ours, said.stderr


def test_systemd_does_not_take_just_anything(tmp_path: Path) -> None:
    service, timer = units(tmp_path, *JOB)
    text = service.read_text(encoding="utf-8")
    service.write_text(text.replace("Type=oneshot", "Type=oneshoot"), encoding="utf-8")
    assert "Failed to parse service type" in systemd_analyze("verify", service, timer).stderr


def test_timer_begins_when_the_schedule_says(tmp_path: Path) -> None:
    flags = ["--schedule=5 18 * * *", "--time-zone=Asia/Shanghai"]
    _, timer = units(tmp_path, *JOB, *flags)
    (when,) = re.findall(r"^OnCalendar=(.*)$", timer.read_text(encoding="utf-8"), re.MULTILINE)
    said = systemd_analyze("calendar", "--iterations=2", "--base-time=2026-11-22 00:00", when)
    assert re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", said.stdout) == [
        "2026-11-22 10:05:00",
        "2026-11-23 10:05:00",
    ]


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" \"'\\;{}$%*#@")))
@example("")
@example("a b\"c'd\\e;f{g}$h%i*")
@example("\\")
@example("--date")
def test_words_of_the_service_are_those_that_were_given(odd: str) -> None:
    text = units_of(Nightly((*JOB, f"--text={odd}", "--text", odd or "x")), str(PROGRAM), "labels")
    words = service_words(text["glossator.service"])
    assert words[-3:] == [f"--text={odd}", "--text", odd or "x"]


def test_service_gives_up_on_what_a_retry_would_not_change() -> None:
    text = render(nightly, "systemd", *JOB, "--retries=4", "--deadline-hours=5")
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert settings["Restart"] == "on-failure"
    assert settings["RestartPreventExitStatus"] == "2 3"
    assert settings["StartLimitBurst"] == "5"
    assert settings["TimeoutStartSec"] == str(5 * 3600)
    assert settings["Persistent"] == "true"


@pytest.mark.parametrize(
    ("output", "folder"),
    [
        ("/data/labels/{date}", "/data/labels"),
        ("/data/labels/{date}/all", "/data/labels"),
        ("/data/labels-{date}", "/data"),
        ("/data/{date}/labels-{date}", "/data"),
        ("file:///data/labels/{date}", "/data/labels"),
        ("/data/my labels/{date}", '"/data/my labels"'),
        ("/data/100%/$x/{date}", '"/data/100%%/$x"'),
        ("s3://bucket/{date}", None),
    ],
)
def test_service_may_write_where_the_output_goes_and_nowhere_else(
    output: str, folder: str | None
) -> None:
    text = render(nightly, "systemd", *JOB, f"--output={output}")
    assert "ProtectSystem=strict" in text
    assert re.findall(r"^ReadWritePaths=(.*)$", text, re.MULTILINE) == ([folder] if folder else [])


def test_service_may_write_what_it_tells() -> None:
    told = ("--metrics-file=/var/lib/node/glossator.prom", "--lineage=/var/log/lineage/events")
    text = render(nightly, "systemd", *JOB, *told, "--output=/data/labels/{date}")
    written = re.findall(r"^ReadWritePaths=(.*)$", text, re.MULTILINE)
    assert written == ["/data/labels", "/var/lib/node", "/var/log/lineage"]
    text = render(nightly, "systemd", *JOB, "--lineage=http://marquez:5000")
    assert "ReadWritePaths" not in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--program=glossator"], "--program glossator is no absolute path"),
        (["--input=comments/{date}.parquet"], "--input comments/{date}.parquet is relative"),
        (["--output=labels/{date}"], "--output labels/{date} is relative"),
        (["--metrics-file=glossator.prom"], "--metrics-file glossator.prom is relative"),
        (["--lineage=events.jsonl"], "--lineage events.jsonl is relative"),
        (["--output=/data/labels"], "each day would replace the one before"),
        (["--output=file://labels/{date}"], "--output file://labels/{date} is relative"),
        *(
            ([f"--text=a{character}b"], "has a control character or a line break")
            for character in "\n\r\t\0\x1b\x85\u2028"
        ),
        (["--output=/data/a\nUser=root/{date}"], "has a control character or a line break"),
        *(
            ([f"--program={program}"], "--program .* can't be used")
            for program in ("/a b/glossator", "/a$b", "/a%b", "/a\nUser=root", '/a"b', "/a;b")
        ),
        *(
            ([f"--program={prefix}/bin/glossator"], "is no absolute path")
            for prefix in ("-", "+", "!", "!!", "@", ":", "|")
        ),
        *(
            ([f"--user={user}"], "--user .* can't be used")
            for user in ("root", "0", "", "a b", "a\nExecStartPre=/bin/x", "%u", "$USER", "-a")
        ),
    ],
)
def test_what_a_service_can_not_find(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        render(nightly, "systemd", *JOB, *flags)


def test_service_labels(bundle: Path, tmp_path: Path) -> None:
    """What the service starts is started, on the comments of yesterday."""
    day = f"{datetime.now(timezone.utc) - timedelta(days=1):%Y-%m-%d}"
    write_comments(tmp_path / "in" / f"{day}.parquet", make_comments(20))
    service, _ = units(
        tmp_path / "units",
        *("--input", f"{tmp_path}/in/{{date}}.parquet", "--output", f"{tmp_path}/out/{{date}}"),
        *("--model", str(bundle), "--key=id", "--workers=1"),
    )
    words = service_words(service.read_text(encoding="utf-8"))
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=180, check=False, cwd="/", env={}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / day / "_SUCCESS").exists()


def test_settings_are_read_once_and_stay() -> None:
    settings = Nightly(tuple(JOB))
    with pytest.raises(AttributeError):
        settings.name = "other"  # type: ignore[misc]
