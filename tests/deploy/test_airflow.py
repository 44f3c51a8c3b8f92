"""The DAG in a real Airflow, which has an environment of its own (`poe test-airflow`)."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sample_comments import make_comments, write_comments

from glossator.deploy.nightly.__main__ import cli

pytestmark = pytest.mark.airflow

PLAIN, LATE, REFUSED = "2026-11-19", "2026-11-20", "2026-11-21"
PROGRAM = Path(sys.executable).with_name("glossator")
DEADLINE_SECS = 300


class Airflow:
    """A home with a database of its own, and the DAGs of a folder."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python = python
        self.dags = folder / "dags"
        self.dags.mkdir()
        self.environment = {
            **os.environ,
            "AIRFLOW_HOME": str(folder / "home"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        }
        self.database = folder / "home" / "airflow.db"
        migrated = self.start("-m", "airflow", "db", "migrate")
        assert migrated.wait(DEADLINE_SECS) == 0, migrated.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.database) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def airflow(tmp_path: Path) -> Airflow:
    python = os.environ.get("GLOSSATOR_AIRFLOW_PYTHON", "")
    if not python:
        pytest.skip("GLOSSATOR_AIRFLOW_PYTHON names no Python that has Airflow: poe test-airflow")
    return Airflow(python, tmp_path)


def render(airflow: Airflow, *flags: str) -> Path:
    """The DAG `reviews`, whose pauses are of seconds."""
    arguments = ["airflow", "--name=reviews", "--write", str(airflow.dags), *flags]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    file = airflow.dags / "reviews.py"
    text = file.read_text(encoding="utf-8")
    for pause in ("poke_interval=timedelta(minutes=10)", "retry_delay=timedelta(minutes=5)"):
        assert text.count(pause) == 1
        text = text.replace(pause, pause.partition("(")[0] + "(seconds=2)")
    file.write_text(text, encoding="utf-8")
    return file


DATES = """
import sys
import pendulum
from airflow.dag_processing.dagbag import DagBag

dag = DagBag(sys.argv[1]).dags["reviews"]
for day in sys.argv[2:]:
    dag.test(logical_date=pendulum.parse(day, tz="UTC"))
"""
"""Run by Airflow's Python: runs the DAG for each date, with its retries."""

KILLED_ONCE = """#!/bin/sh
echo "$*" >> {calls}
case "$*" in
*{day}*)
    if mkdir {calls}.killed 2>/dev/null; then
        exec timeout --preserve-status --signal=TERM 1 {program} "$@"
    fi
esac
exec {program} "$@"
"""
"""The real program, whose first try for one date is killed."""

DOWNSTREAM = """
from datetime import datetime
from airflow.sdk import DAG, Asset, BaseOperator

with DAG("after", schedule=[Asset("reviews")], start_date=datetime(2026, 1, 1)):
    BaseOperator(task_id="look")
"""


def test_three_dates_with_a_retry_a_late_and_a_refused_one(
    airflow: Airflow, bundle: Path, tmp_path: Path
) -> None:
    write_comments(tmp_path / "in" / PLAIN / "a.parquet", make_comments(5))
    write_comments(tmp_path / "in" / REFUSED / "a.parquet", make_comments(5))
    (tmp_path / "in" / REFUSED / "b.parquet").write_bytes(b"PAR1 and no more")
    calls, program = tmp_path / "calls", tmp_path / "glossator"
    text = KILLED_ONCE.format(calls=calls, day=f"--date={PLAIN}", program=PROGRAM)
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    dated = ("--input", f"{tmp_path}/in/{{date}}", "--output", f"{tmp_path}/out/{{date}}")
    file = render(airflow, f"--program={program}", *dated, "--model", str(bundle), "--workers=1")
    (airflow.dags / "after.py").write_text(DOWNSTREAM, encoding="utf-8")

    running = airflow.start("-c", DATES, str(file.parent), PLAIN, LATE, REFUSED)
    timer = threading.Timer(DEADLINE_SECS, running.kill)
    timer.start()
    said = []
    for line in running.stdout or ():
        said.append(line)
        if "exited with return code 4" in line:  # what was late comes
            write_comments(tmp_path / "in" / LATE / "a.parquet", make_comments(5))
    timer.cancel()
    assert running.wait() == 0, "".join(said)

    tasks = {
        logical[:10]: (state, tries)
        for logical, state, tries in airflow.query(
            "select r.logical_date, t.state, t.try_number from task_instance t join dag_run r on"
            " r.dag_id = t.dag_id and r.run_id = t.run_id where t.dag_id = 'reviews'"
        )
    }
    # looking again for a late day is no try; what a check refused has only one
    assert tasks == {PLAIN: ("success", 2), LATE: ("success", 1), REFUSED: ("failed", 1)}
    dates = [line.split("--date=")[1].strip() for line in calls.read_text().splitlines()]
    assert dates.count(PLAIN) == 2 and dates.count(LATE) >= 2 and dates.count(REFUSED) == 1
    published = {day for day in tasks if (tmp_path / "out" / day / "_SUCCESS").exists()}
    assert published == {PLAIN, LATE}

    events = airflow.query(
        "select a.name, e.extra from asset_event e join asset a on a.id = e.asset_id order by e.id"
    )
    assert [(name, json.loads(extra)) for name, extra in events] == [
        ("reviews", {"date": day, "output": f"{tmp_path}/out/{day}"}) for day in (PLAIN, LATE)
    ]
    # and what is downstream is to be run
    assert airflow.query("select target_dag_id from asset_dag_run_queue") == [("after",)]


FACTS = """
import json, sys
import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
(dag,) = bag.dags.values()
(task,) = dag.tasks
stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
day = pendulum.datetime(2026, 11, 22, 4, tz="UTC")
interval = stored.timetable.infer_manual_data_interval(run_after=day)
print("ANSWER", json.dumps({
    "id": dag.dag_id, "task": task.task_id, "catchup": dag.catchup,
    "active": dag.max_active_runs, "retries": task.retries, "date": task.date,
    "hours": task.execution_timeout.total_seconds() / 3600,
    "late": task.timeout / 60, "begins": interval.end.isoformat(),
    "labels": interval.start.strftime("%Y-%m-%d"),
}))
"""


def test_dag_is_what_was_asked_for(airflow: Airflow) -> None:
    render(
        airflow,
        *("--retries=4", "--deadline-hours=5", "--schedule=30 3 * * *"),
        *("--input=s3://in/{date}", "--output=s3://out/{date}", "--key=user name"),
    )
    asked = airflow.start("-c", FACTS, str(airflow.dags))
    said, _ = asked.communicate(timeout=DEADLINE_SECS)
    assert asked.returncode == 0, said
    (answer,) = (line for line in said.splitlines() if line.startswith("ANSWER "))
    assert json.loads(answer.removeprefix("ANSWER ")) == {
        **{"id": "reviews", "task": "label", "catchup": False, "active": 1},
        **{"retries": 4, "hours": 5.0, "late": 100.0, "date": "{{ ds }}"},
        # the night of the 22nd labels the day before
        **{"begins": "2026-11-22T03:30:00+00:00", "labels": "2026-11-21"},
    }


STOPPED = """
import sys, threading, time
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException

(dag,) = DagBag(sys.argv[1]).dags.values()
(task,) = dag.tasks
task.date = "2026-11-21"

def stop():
    while task.hook is None or task.hook.sub_process is None:
        time.sleep(0.1)
    time.sleep(1)
    task.on_kill()

threading.Thread(target=stop, daemon=True).start()
try:
    task.poke({})
except AirflowException as error:
    print("ANSWER", error)
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    program = tmp_path / "glossator"
    program.write_text("#!/bin/sh\nexec sleep 120\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def test_task_that_is_stopped_stops_its_program(airflow: Airflow, sleeper: Path) -> None:
    render(airflow, f"--program={sleeper}", "--input=s3://in/{date}", "--output=s3://out/{date}")
    stopped = airflow.start("-c", STOPPED, str(airflow.dags))
    said, _ = stopped.communicate(timeout=60)
    assert "ANSWER glossator ended with code" in said and "a retry resumes" in said, said
