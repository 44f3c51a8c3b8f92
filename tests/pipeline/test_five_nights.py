"""Five nights by the command line: plain, with a new model, drifted, half corrupt, late.

After each step: the exit code, what `status` says, and that no other night has changed.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from label_tables import IcebergAt
from labelled_outputs import good
from sample_comments import GOOD, make_comments, write_comments

from glossator.model import bundle as bundles
from glossator.model.calibrate import Calibration

FILES, ROWS = 4, 280
"""Of a night: a little more than the checks take for enough."""


class Place:
    """Where the nights' input and output lie, by date."""

    flags: tuple[object, ...] = ()
    """More of a run."""

    def __init__(self, root: str, folder: Path) -> None:
        self.input, self.output = f"{root}/in/{{date}}", f"{root}/out/{{date}}"
        self._fs, self._root = fsspec.core.url_to_fs(root)
        self._folder = folder

    def deliver(self, day: str, texts: list[str], first_file: int = 0) -> None:
        """Files of a day, each of `ROWS` texts or what is left of them."""
        for number, begin in enumerate(range(0, len(texts), ROWS), first_file):
            local = self._folder / f"{number}.parquet"
            write_comments(local, texts[begin : begin + ROWS], first_id=number * ROWS)
            self._put(f"in/{day}/{number}.parquet", local.read_bytes())

    def cut(self, day: str, file: int) -> None:
        """Half of a file is lost."""
        content = self._fs.cat_file(f"{self._root}/in/{day}/{file}.parquet")
        self._put(f"in/{day}/{file}.parquet", content[: len(content) // 2])

    def _put(self, name: str, content: bytes) -> None:
        self._fs.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(f"{self._root}/{name}", content)

    def published(self, day: str) -> dict[int, str] | None:
        """The sentiment of each id that a reader finds; None if nothing is published."""
        now = self.status(day)["published"]
        if now is None:
            return None
        self._fs.invalidate_cache()
        rows = [
            row
            for path in self._fs.glob(now["read"])
            for row in pq.read_table(self._fs.open(path)).to_pylist()
        ]
        assert len({row["id"] for row in rows}) == len(rows) == now["rows_labelled"]
        return {row["id"]: row["sentiment"]["label"] for row in rows}

    def status(self, day: str) -> dict[str, Any]:
        said = good(glossator("status", self.output.replace("{date}", day), "--json"))
        found: dict[str, Any] = json.loads(said)
        assert found["problems"] == [] and found["writer"] is None
        return found


class Table(Place):
    """On this machine, and in an Iceberg table of all dates, which has to say the same."""

    def __init__(self, root: str, folder: Path) -> None:
        super().__init__(root, folder)
        self._table = IcebergAt(Path(root), f"n{uuid.uuid4().hex}.labels")
        self.flags = ("--table", self._table.name)

    def published(self, day: str) -> dict[int, str] | None:
        labels = super().published(day)
        rows = self._table.rows() if self._table.exists() else []
        found = {row["id"]: row["sentiment"]["label"] for row in rows if str(row["date"]) == day}
        assert found == (labels or {})
        return labels


@pytest.fixture(
    params=[
        "local",
        pytest.param("s3", marks=pytest.mark.stores),
        pytest.param("iceberg", marks=pytest.mark.tables),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Of each kind."""
    if request.param == "s3":
        return Place(request.getfixturevalue("s3").uri, tmp_path / "delivered")
    if request.param == "local":
        return Place(str(tmp_path), tmp_path / "delivered")
    request.getfixturevalue("iceberg_catalog")
    pytest.importorskip("pyiceberg")
    return Table(str(tmp_path), tmp_path / "delivered")


@pytest.fixture
def stubborn(trained: bundles.Bundle, tmp_path: Path) -> Path:
    """A new model that answers one label to everything."""
    calibration = {**trained.calibration, "sentiment": Calibration(shift=(50.0, 0.0))}
    bundles.save(replace(trained, calibration=calibration), tmp_path / "stubborn")
    return tmp_path / "stubborn"


def texts_of(night: int) -> list[str]:
    return make_comments(FILES * ROWS, seed=night)


def names_of_checks(line: str) -> list[str]:
    """What the line of a refusal says that was not passed, as `--accept` takes it."""
    assert "nothing was published" in line
    return re.findall(r"(?:^glossator: --accept: |; )([\w.]+)(?: is |: )", line)


@pytest.mark.usefixtures("deadline")
def test_five_nights(place: Place, bundle: Path, other_bundle: Path, stubborn: Path) -> None:
    days = [f"2026-11-0{n}" for n in range(1, 6)]
    stand: dict[str, dict[int, str] | None] = {}

    def night(day: str, model: Path, code: int, *more: object) -> Any:
        """Runs it; no other day may have changed, nor this one unless it ended well."""
        given = ("--input", place.input, "--output", place.output, "--date", day, "--key", "id")
        run = glossator("label", *given, "--model", model, *place.flags, *more)
        assert run.returncode == code, run.stderr
        before = stand.get(day)
        now = place.published(day)
        assert now == before if code else now is not None
        stand[day] = now
        assert all(place.published(other) == labels for other, labels in stand.items())
        return run

    plain, new_model, drifted, corrupt, late = days

    place.deliver(plain, texts_of(1))
    night(plain, bundle, 0)
    said = place.status(plain)
    assert said["state"] == "published" and said["next"] == "nothing"
    assert said["published"]["date"] == plain and len(stand[plain] or {}) == FILES * ROWS
    assert "nothing was done" in night(plain, bundle, 0).stdout

    place.deliver(new_model, texts_of(2))
    line = night(new_model, stubborn, 3).stderr.splitlines()[-1]
    assert "flips.sentiment" in names_of_checks(line)
    said = place.status(new_model)
    assert said["state"] == "nothing published" and "let it through" in said["next"]
    assert "flips.sentiment" in said["staged"][0]["refused"]
    night(new_model, other_bundle, 0)  # one that answers alike
    said = place.status(new_model)
    assert said["published"]["checks"]["flips.sentiment"] == "passed" and said["staged"] == []
    assert said["published"]["model"] != place.status(plain)["published"]["model"]

    event = [
        f"{text} {GOOD[i % 3]} {GOOD[i % 3]} {GOOD[(i + 1) % 3]}"
        for i, text in enumerate(texts_of(3))
    ]
    place.deliver(drifted, event)
    line = night(drifted, other_bundle, 3).stderr.splitlines()[-1]
    names = names_of_checks(line)
    assert "labels_night.sentiment" in names
    accepted = [word for name in names for word in ("--accept", name)]
    run = night(drifted, other_bundle, 0, *accepted)
    assert "resuming: " in run.stderr and "LET THROUGH" in run.stdout  # nothing was labelled anew
    through = place.status(drifted)["published"]["checks"]
    assert [name for name, what in through.items() if what == "let through"] == names

    place.deliver(corrupt, texts_of(4))
    place.cut(corrupt, 1)
    place.cut(corrupt, 2)
    line = night(corrupt, other_bundle, 3).stderr.splitlines()[-1]
    assert f"2 of {FILES} files" in line
    assert "nothing was published" in line and "allow 2 files" in line
    night(corrupt, other_bundle, 0, "--accept", "unreadable")
    assert len(stand[corrupt] or {}) == (FILES - 2) * ROWS
    place.deliver(
        corrupt, texts_of(4)
    )  # once more, and whole: as before the event, which is enough
    run = night(corrupt, other_bundle, 0, "--json")
    assert len(stand[corrupt] or {}) == FILES * ROWS
    assert json.loads(run.stdout)["metrics"]["counters"]["carried_rows"] > 0
    assert place.status(corrupt)["published"]["checks"]["unreadable"] == "passed"

    line = night(late, other_bundle, 4, "--wait-minutes", "0.02").stderr.splitlines()[-1]
    assert "waited 1 s for it" in line and place.status(late)["state"] == "not an output"
    place.deliver(late, texts_of(5)[: (FILES - 1) * ROWS])
    night(late, other_bundle, 0, "--reuse")
    place.deliver(late, texts_of(5)[(FILES - 1) * ROWS :], first_file=FILES - 1)
    run = night(late, other_bundle, 0, "--json", "--reuse")
    assert json.loads(run.stdout)["metrics"]["counters"]["carried_rows"] > 0
    assert len(stand[late] or {}) == FILES * ROWS

    backfill(place, other_bundle, days)
    assert all(place.published(day) == labels for day, labels in stand.items())
    for day in days:
        assert "whole" in good(glossator("verify", place.output.replace("{date}", day), "--deep"))

    again = "2026-11-06"
    place.deliver(again, texts_of(5)[::-1])
    run = night(again, other_bundle, 0, "--json", "--reuse")
    assert json.loads(run.stdout)["metrics"]["counters"]["reused_rows"] == FILES * ROWS


def backfill(place: Place, model: Path, days: list[str]) -> None:
    """What is published by that model is skipped; the day after has not come."""
    given = ("--input", place.input, "--output", place.output, "--key", "id", "--model", model)
    given = (*given, *place.flags)
    run = glossator("label", *given, "--from", days[1], "--to", "2026-11-06", "--json")
    said = json.loads(run.stdout)
    assert run.returncode == said["exit_code"] == 4, run.stderr
    states = [day["state"] for day in said["days"]]
    assert states == [*("unchanged" for _ in days[1:]), "not there yet"]
