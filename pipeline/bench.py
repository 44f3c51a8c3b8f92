"""How fast the job is on this machine, where its time goes, and beside what one would take instead.

The job runs as `glossator label` does, in a process of its own, over a sample in as many files as
there are threads, and so does each rival: from Parquet to Parquet, start-up included.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model import bundle as bundles
from glossator.model import engines
from glossator.model.architecture import flops_per_token
from glossator.model.errors import UsageError
from glossator.model.native import library
from glossator.pipeline.engines import runners
from glossator.pipeline.gates.limits import CHECKS
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.inputs.read import Piece, read
from glossator.pipeline.labelling import Labelling
from glossator.pipeline.metrics import STAGES
from glossator.pipeline.outputs.manifest import MANIFEST
from glossator.pipeline.outputs.publish import current_folder
from glossator.pipeline.rivals import running as rivals
from glossator.pipeline.timing import Took, timed

_FILES_A_THREAD = 2
_MIB = 1 << 20


@dataclass(frozen=True)
class Forecast:
    """What a night of so many comments takes."""

    comments: int
    cores: int
    hours: float
    cost: float
    """Of the cores for so long, in the currency of the price."""


@dataclass(frozen=True)
class Account:
    """What was measured."""

    machine: str
    network: str
    """What computed the network."""
    workers: int
    comments: int
    tokens: int
    seconds: float
    """From the command's start to its end."""
    cpu_seconds: float
    """Of processors, of all of it."""
    labelling_seconds: float
    """Of them, from the first worker's readiness until all was labelled."""
    stages: dict[str, float]
    """Seconds of all threads together."""
    peak_mib: float
    gflops: float
    """Billions of float operations a second and thread while the network computes."""
    peak_gflops: float
    """What one core can do of them; 0 where it can't be measured."""
    rivals: dict[str, rivals.Speed]
    forecast: Forecast

    @property
    def rate(self) -> float:
        """Comments a second, start-up included."""
        return self.comments / self.seconds

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "comments_per_second": self.rate}


def measure(
    inputs: Sequence[str],
    text: str | None,
    labelling: Labelling,
    workers: int,
    rows: int,
    against: Sequence[str],
    night: tuple[int, int, float],
    report: Callable[[str], None],
) -> Account:
    """Labels a sample, and lets the rivals do so.

    Args:
        inputs: files, folders or globs.
        text: the column; None for the one that is clearly the text.
        labelling: the model, tasks and marked words.
        workers: threads, and processes of a rival.
        rows: of the sample; fewer where there are fewer.
        against: names of rivals.
        night: comments, cores and the price of a core for an hour, to forecast.
        report: receives lines of progress.
    """
    for name in against:
        rivals.check(name)
    with tempfile.TemporaryDirectory() as folder:
        texts = _texts(inputs, text, rows, labelling)
        if not len(texts):
            raise UsageError("there is no text to measure with", parameter="inputs")
        source = Path(folder) / "comments"
        _spread(texts, source, workers * _FILES_A_THREAD)
        report(f"labelling {len(texts):,} comments with {workers} workers")
        output = Path(folder) / "labelled"
        took = _label(source, output, labelling, workers)
        labelled = current_folder(str(output))
        found: dict[str, rivals.Speed] = {}
        for name in against:
            report(f"getting {name} ready")
            settings = rivals.Settings(
                str(source), labelled, workers, labelling.names, labelling.model
            )
            found[name] = rivals.speed(name, settings, Path(folder) / name, len(texts))
            report(f"{name}: {found[name].comments_per_second:,.0f} comments/s")
        manifest = json.loads(Path(labelled, MANIFEST).read_text())
    return _account(manifest, labelling, workers, took, found, night)


def lines(account: Account) -> list[str]:
    """The account for people."""
    per_text = account.tokens / account.comments
    result = [
        f"{account.machine}; network: {account.network}; {account.workers} workers",
        f"{account.comments:,} comments of {per_text:.0f} tokens in {account.seconds:.1f} s from "
        f"start to end: {account.rate:,.0f} comments/s; peak memory {account.peak_mib:,.0f} MiB",
        "",
        f"{'stage':<12}{'seconds':>9}{'share':>8}{'comments/s':>13}",
    ]
    total = sum(account.stages.values())
    for name, seconds in account.stages.items():
        alone = f"{account.comments / seconds:,.0f}" if seconds else ""
        result.append(f"{name:<12}{seconds:>9.2f}{seconds / total:>8.1%}{alone:>13}")
    result.append(f"{'all':<12}{total:>9.2f}{'':>8}{account.comments / total:>13,.0f}")
    result += ["of one thread", ""]
    of_peak = ""
    if account.peak_gflops:
        of_peak = f", of {account.peak_gflops:.0f} that a core can do"
    result.append(f"network: {account.gflops:.1f} GFLOP/s a thread{of_peak}")
    for name, speed in account.rivals.items():
        rate = speed.comments_per_second
        cpu = speed.cpu_seconds / account.cpu_seconds
        result.append(
            f"{account.rate / rate:.1f} times {name} ({rate:,.0f} comments/s; {cpu:.1f} times by "
            "the processors' time)"
        )
    night = account.forecast
    result.append(
        f"{night.comments:,} comments on {night.cores} cores: {night.hours:.2f} hours, "
        f"{night.hours * night.cores:.1f} core hours"
        + (f", {night.cost:.2f} at that price" if night.cost else "")
    )
    return result


def _account(
    manifest: Mapping[str, Any],
    labelling: Labelling,
    workers: int,
    took: Took,
    found: dict[str, rivals.Speed],
    night: tuple[int, int, float],
) -> Account:
    counters = manifest["metrics"]["counters"]
    times = manifest["metrics"]["distributions"]
    stages = {name: times.get(f"{name}_ms", {"sum": 0})["sum"] / 1000 for name in STAGES}
    loading = stages.pop("model_load")
    comments, tokens = counters["rows_labelled"], counters["tokens"]
    config = bundles.load(labelling.model).config
    flops = flops_per_token(config, len(labelling.names)) * tokens
    network = sum(stages[name] for name in ("recurrence", "attention", "network"))
    count, cores, price = night
    hours = count * sum(stages.values()) / comments / cores / 3600
    return Account(
        machine=_machine(),
        network=engines.description(),
        workers=workers,
        comments=comments,
        tokens=tokens,
        seconds=took.seconds,
        cpu_seconds=took.cpu_seconds,
        labelling_seconds=manifest["timings"]["labelling_seconds"],
        stages={"model load": loading, **stages},
        peak_mib=took.peak_bytes / _MIB,
        gflops=flops / network / 1e9 if network else 0.0,
        peak_gflops=library.peak_gflops(),
        rivals=found,
        forecast=Forecast(count, cores, hours, hours * cores * price),
    )


def _texts(inputs: Sequence[str], text: str | None, rows: int, labelling: Labelling) -> pa.Array:
    """The first texts that can be labelled."""
    plan = make_plan(inputs, text=text, keys=(), identity=labelling.digest)
    kept: list[pa.Array] = []
    left = rows
    for split in plan.splits:
        for piece in read(split, plan.columns, locations=plan.locations):
            if isinstance(piece, Piece):
                kept.append(piece.text.filter(piece.reason.is_null())[:left])
                left -= len(kept[-1])
            if left <= 0:
                return pa.concat_arrays(kept)
    return pa.concat_arrays(kept) if kept else pa.array([], pa.large_string())


def _spread(texts: pa.Array, folder: Path, files: int) -> None:
    """Writes texts to so many files."""
    folder.mkdir()
    size = -(-len(texts) // files)
    for i, first in enumerate(range(0, len(texts), size)):
        part = pa.table({"text": texts[first : first + size]})
        pq.write_table(part, folder / f"comments-{i:05}.parquet")


def _label(source: Path, output: Path, labelling: Labelling, workers: int) -> Took:
    """What the command takes."""
    command = [sys.executable, "-m", "glossator", "label", "--input", str(source)]
    command += ["--output", str(output), "--text", "text", "--model", labelling.model]
    command += ["--tasks", ",".join(labelling.names), "--top", str(labelling.top)]
    command += [f"--accept={check}" for check in CHECKS]  # whatever the sample is like
    return timed("the job", [*command, "--workers", str(workers)])


def _machine() -> str:
    """The processor, as far as it can be known, and its cores."""
    name = ""
    if (about := Path("/proc/cpuinfo")).exists():
        names = [line for line in about.read_text().splitlines() if line.startswith("model name")]
        name = names[0].partition(":")[2].strip() if names else ""
    return f"{name or os.uname().machine}, {runners.cores()} cores"
