"""From public packages to Parquet files that a model can be trained from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model.cache import cache_folder
from glossator.model.corpora.rows import LABELS, SPLITS, Row, clean, level, says_something, settle
from glossator.model.corpora.sources import SOURCES, Source
from glossator.model.errors import UsageError
from glossator.model.package_index import Fetcher
from glossator.model.pip_settings import pip_settings
from glossator.model.tasks import Task

Summary = dict[str, dict[str, dict[str, int]]]
"""Source → split → `rows`, and for each task the rows that are labelled."""

_WEAK = 0.2
"""The weight of a task of which little can be learnt, whatever the network spends on it."""
TASKS: tuple[Task, ...] = (
    Task(
        "sentiment",
        "single",
        ("neg", "neu", "pos"),
        limits="Learnt from English tweets, reviews and headlines and from Chinese shop and hotel "
        "reviews. No Chinese text in the data is neutral, so neu is hardly ever answered in "
        "Chinese. Irony and other languages are not covered.",
    ),
    Task(
        "person",
        "single",
        (
            *("Michael", "Dwight", "Jim", "Pam", "Andy", "Angela"),
            *("Rachel", "Ross", "Chandler", "Monica", "Joey", "Phoebe"),
        ),
        sensitive=True,
        limits="Which of twelve sitcom characters would say it: a demonstration, and a weak one. "
        "It says nothing about who wrote a comment and must not be used to identify anyone. "
        "English only.",
        weight=_WEAK,
    ),
    Task(
        "gender",
        "single",
        ("female", "male"),
        sensitive=True,
        limits="Gender of the sitcom character a line was written for: it reflects how two shows "
        "wrote women and men, and is little better than a guess. It says nothing about a real "
        "writer and must not be used to decide about anyone. English only.",
        weight=_WEAK,
    ),
    Task(
        "topic",
        "single",
        ("stock", "news", "product", "chat"),
        limits="Learnt from news wires, headlines, shop reviews, tweets and chats. English stock "
        "comes from a wire service of 1987, lower-cased and without digits, and from 332 tweets "
        "found by a rule (a ticker beside a market word), so remarks of traders are often missed. "
        "No Chinese text in the data is chat, and Chinese product is all reviews.",
    ),
)
"""What the corpora are labelled for."""

_BARE_SOURCES = frozenset({"reuters"})

_COLUMNS = ("text", "lang", "source", "split", *LABELS)


def build(
    directory: str | Path,
    progress: Callable[[str], None] = lambda _: None,
    cache: Path | None = None,
    sources: Sequence[Source] = SOURCES,
) -> Summary:
    """Writes `DIRECTORY/<source>.parquet` and `DIRECTORY/tasks.toml`: each time the same bytes.

    Args:
        directory: made if missing; files of the same names are replaced.
        progress: receives a line on each step.
        cache: where downloads are kept; by default `glossator/corpora` under `$XDG_CACHE_HOME`
            or `~/.cache`. What lies there is checked again before each use.
        sources: what is built; by default everything.

    Returns:
        How many rows there are for each source, split and task.

    Raises:
        UsageError: a package cannot be had, is not the one expected, or the disk refuses.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = _collect(sources, cache or cache_folder() / "corpora", progress)
        rows = settle(level(found, _BARE_SOURCES))
        progress(f"{len(found)} rows read, {len(rows)} left without duplicates and contradictions")
        summary = _write(rows, directory, progress)
        _replace(directory / "tasks.toml", lambda path: path.write_text(tasks_toml(), "utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot build the corpora in {directory}: {error}: "
            "give a folder that can be written, with 500 MB of room beside the cache"
        ) from error
    return summary


def _collect(sources: Sequence[Source], cache: Path, progress: Callable[[str], None]) -> list[Row]:
    fetcher = Fetcher(cache, pip_settings())
    rows: list[Row] = []
    for source in sources:
        archive = source.archive
        progress(f"{archive.project} {archive.version}: {archive.filename}")
        rows.extend(cleaned(source.rows(fetcher.get(archive))))
    return rows


def cleaned(rows: Iterable[Row]) -> list[Row]:
    """The rows with clean texts, without those that say nothing."""
    tidy = (replace(row, text=clean(row.text)) for row in rows)
    return [row for row in tidy if says_something(row.text)]


def _write(rows: Iterable[Row], directory: Path, progress: Callable[[str], None]) -> Summary:
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row)
    summary: Summary = {}
    for source, members in by_source.items():
        _replace(directory / f"{source}.parquet", partial(_write_table, _table(members)))
        summary[source] = _count(members)
        progress(f"{source}.parquet: {len(members)} rows")
    return summary


def _table(rows: Sequence[Row]) -> pa.Table:
    schema = pa.schema([(name, pa.string()) for name in _COLUMNS])
    return pa.table({name: [getattr(row, name) for row in rows] for name in _COLUMNS}, schema)


def _write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Puts a file in place in one step: a build that is stopped leaves no half of one."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _count(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    counts = {split: dict.fromkeys(("rows", *LABELS), 0) for split in SPLITS}
    for row in rows:
        counts[row.split]["rows"] += 1
        for task in row.labels():
            counts[row.split][task] += 1
    return counts


def tasks_toml() -> str:
    """The tasks as a training run reads them."""
    tables = []
    for task in TASKS:
        # a list of plain strings looks the same in JSON and in TOML
        lines = [f"[tasks.{task.name}]", f'kind = "{task.kind}"']
        lines.append(f"labels = {json.dumps(list(task.labels))}")
        if task.sensitive:
            lines.append("sensitive = true")
        if task.weight != 1:
            lines.append(f"weight = {task.weight:g}")
        lines.append(f"limits = {json.dumps(task.limits)}")
        tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)
