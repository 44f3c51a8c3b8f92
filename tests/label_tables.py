"""Tables for labels, and how others than the job read them: Polars, and Delta's log by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from outputs import current
from sample_comments import make_comments, write_comments

Rows = list[dict[str, Any]]
DAYS = ("2026-11-20", "2026-11-21")


@dataclass
class DeltaAt:
    """A table of a folder, in which the outputs of all dates lie."""

    root: Path

    @property
    def name(self) -> str:
        return f"delta:{self.root}"

    def rows(self, version: int | None = None) -> Rows:
        import polars as pl

        return ordered(pl.read_delta(str(self.root), version=version).to_dicts())

    def files(self) -> set[str]:
        """As Delta's protocol says: what was added and not removed since."""
        found: set[str] = set()
        for action in (action for commit in self.log() for action in commit):
            if "remove" in action:
                found.discard(action["remove"]["path"])
            if "add" in action:
                found.add(action["add"]["path"])
        return found

    def log(self) -> list[list[dict[str, Any]]]:
        logs = sorted((self.root / "_delta_log").glob("*.json"))
        return [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]

    def runs(self) -> list[str | None]:
        """Of the commits, the first first."""
        infos = (
            action["commitInfo"] for log in self.log() for action in log if "commitInfo" in action
        )
        return [info.get("glossator.run") for info in infos]

    def forget_older_versions(self) -> None:
        import deltalake

        table = deltalake.DeltaTable(str(self.root))
        table.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 hours"})

    def remove(self, date: str, row: int) -> None:
        import deltalake

        table = deltalake.DeltaTable(str(self.root))
        table.delete(f"date = '{date}' and source_row = {row}")


@dataclass
class IcebergAt:
    """A table of the tests' catalog."""

    root: Path
    identifier: str

    @property
    def name(self) -> str:
        return f"iceberg:here.{self.identifier}"

    def table(self) -> Any:
        from pyiceberg.catalog import load_catalog

        return load_catalog("here").load_table(self.identifier)

    def exists(self) -> bool:
        from pyiceberg.catalog import load_catalog

        return bool(load_catalog("here").table_exists(self.identifier))

    def rows(self, version: int | None = None) -> Rows:
        import polars as pl

        table, snapshot = self.table(), None
        if version is not None:
            snapshot = table.metadata.snapshots[version].snapshot_id
        return ordered(pl.scan_iceberg(table, snapshot_id=snapshot).collect().to_dicts())

    def files(self) -> set[str]:
        return {task.file.file_path for task in self.table().scan().plan_files()}

    def runs(self) -> list[str | None]:
        summaries = (snapshot.summary for snapshot in self.table().metadata.snapshots)
        return [one.additional_properties.get("glossator.run") for one in summaries]

    def forget_older_versions(self) -> None:
        table = self.table()
        newest = table.current_snapshot().snapshot_id
        old = [one.snapshot_id for one in table.metadata.snapshots if one.snapshot_id != newest]
        table.maintenance.expire_snapshots().by_ids(old).commit()

    def remove(self, date: str, row: int) -> None:
        self.table().delete(f"date = '{date}' and source_row = {row}")


TableAt = DeltaAt | IcebergAt


@pytest.fixture(scope="session")
def iceberg_catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A catalog called `here`; pyiceberg reads the environment once, as it is imported."""
    home = tmp_path_factory.mktemp("iceberg")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {
            "TYPE": "sql",
            "URI": f"sqlite:///{home}/catalog.db",
            "WAREHOUSE": f"file://{home}/warehouse",
        }.items():
            patch.setenv(f"PYICEBERG_CATALOG__HERE__{key}", value)
        patch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
        yield


@pytest.fixture(params=["delta", "iceberg"])
def table_at(request: pytest.FixtureRequest, tmp_path: Path) -> TableAt:
    if request.param == "delta":
        pytest.importorskip("deltalake")
        return DeltaAt(tmp_path / "table")
    request.getfixturevalue("iceberg_catalog")
    pytest.importorskip("pyiceberg")
    return IcebergAt(tmp_path / "ein Tisch ü%20", f"n{uuid.uuid4().hex}.labels")


@dataclass
class Nights:
    """A job that labels a few comments a day into a table."""

    inputs: Path
    bundle: Path
    table: TableAt

    @property
    def output(self) -> str:
        return f"{self.table.root}/date={{date}}"

    def out(self, date: str) -> Path:
        return Path(self.output.format(date=date))

    def comments(self, date: str, seed: int, files: int = 2) -> None:
        """What comes in on a date: of each file one row is rejected."""
        for i in range(files):
            texts = [*make_comments(20, seed=1000 * i + seed), None]
            write_comments(self.inputs / date / f"{i}.parquet", texts, first_id=100 * i)

    def arguments(self, date: str, *more: object) -> list[str]:
        words = ["label", "--input", f"{self.inputs}/{{date}}", "--output", self.output]
        words += ["--date", date, "--model", self.bundle, "--key", "id", "--workers", "1"]
        return [str(word) for word in [*words, "--table", self.table.name, *more]]

    def label(self, date: str, *more: object) -> str:
        """Labels a date; the id of the run that is current then."""
        run = glossator(*self.arguments(date, *more))
        assert run.returncode == 0, run.stderr
        return current(self.out(date)).name

    def expected(self, *dates: str) -> Rows:
        """The rows of the parts that are published of dates, with those."""
        return ordered(
            {**row, "date": date_of(date)}
            for date in dates
            for part in current(self.out(date)).glob("part-*.parquet")
            for row in pq.read_table(part, partitioning=None).to_pylist()
        )


@pytest.fixture
def nights(table_at: TableAt, tmp_path: Path, bundle: Path) -> Nights:
    made = Nights(tmp_path / "in", bundle, table_at)
    for seed, date in enumerate(DAYS):
        made.comments(date, seed)
    return made


def date_of(text: str) -> Any:
    import datetime

    return datetime.date.fromisoformat(text)


def ordered(rows: Any) -> Rows:
    return sorted(
        rows, key=lambda row: (str(row.get("date")), row["source_file"], row["source_row"])
    )


def killed_at(function: str, *, after: bool, arguments: list[str]) -> list[str]:
    """A command that runs ours and is killed at a function, by its dotted name.

    Args:
        function: of a module of ours.
        after: whether it is done before.
        arguments: of `glossator`.
    """
    program = f"""
import importlib, os, signal, sys
module, _, name = {function!r}.rpartition(".")
module = importlib.import_module("glossator.pipeline." + module)
done = getattr(module, name)
def killed(*given, **more):
    if {after}:
        done(*given, **more)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, killed)
from glossator.pipeline.cli import main
main()
"""
    return ["-c", program, *arguments]
