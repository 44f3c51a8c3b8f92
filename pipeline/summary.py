"""What a run came to, for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model.errors import GlossatorError
from glossator.model.explain import Mark, marked
from glossator.model.store import open_store, redacted
from glossator.model.terminal import joined, padded, width_of
from glossator.pipeline.gates.refusal import in_words
from glossator.pipeline.inputs.columns import Columns
from glossator.pipeline.inputs.discover import counted
from glossator.pipeline.inputs.plan import Source
from glossator.pipeline.inputs.ranges import Range, Split
from glossator.pipeline.inputs.read import Piece, read
from glossator.pipeline.job import Outcome
from glossator.pipeline.night_report.page import left
from glossator.pipeline.outputs.manifest import Manifest
from glossator.pipeline.outputs.publish import staging
from glossator.pipeline.outputs.staging import REJECTS

_BAR = 24
_ROWS = 64
"""Read at once to show one: texts may be long."""
_LISTS = ("inputs", "parts", "rejects")
"""What of a manifest is as long as the output."""


def lines(outcome: Outcome) -> list[str]:
    """The account of a run, a few lines."""
    manifest, output = outcome.manifest, redacted(outcome.output)
    if manifest is None:
        return [f"submitted as job {outcome.job_name}; it publishes in {output} at its end"]
    totals = manifest.totals
    if outcome.state == "unchanged":
        return [
            f"{output} holds this already: the same input and model were published before "
            f"({totals.rows_labelled:,} labelled rows, run {manifest.run_id}); nothing was done"
        ]
    result = []
    if manifest.empty:
        result.append(f"empty, with _SUCCESS and nothing to read: {', '.join(manifest.empty)}")
    result += [
        f"{totals.rows_read:,} rows read = {totals.rows_labelled:,} labelled + "
        f"{totals.rows_rejected:,} rejected, in {outcome.seconds:.1f} s",
        *(f"  rejected: {count:,} {reason}" for reason, count in totals.rejects.items()),
    ]
    if same := manifest.metrics["counters"].get("carried_rows"):
        result.append(f"  not labelled anew: {same:,} rows of splits that did not change")
    if known := manifest.metrics["counters"].get("reused_rows"):
        result.append(f"  not labelled anew: {known:,} rows of texts that the last nights had")
    if manifest.skipped:
        result.append(f"  skipped in the input: {counted(manifest.skipped)}")
    if totals.rows_unreadable or totals.files_unreadable:
        rejects = redacted(f"{staging(outcome.output, manifest.run_id)}/{REJECTS}")
        counts = {"row": totals.rows_unreadable, "whole file": totals.files_unreadable}
        said = " and ".join(
            f"{count:,} {noun}{'s' * (count != 1)}" for noun, count in counts.items() if count
        )
        result.append(f"  NOT READ: {said}; {rejects} says why")
    result += [f"  LET THROUGH: {in_words(check)}" for check in manifest.checks if check.accepted]
    for task, shares in manifest.labels.items():
        if not shares:  # a regression has no labels to count
            continue
        result.append(f"{task}:")
        width = max(map(width_of, shares), default=0)
        for label, share in shares.items():
            bar = "█" * round(share * _BAR)
            result.append(f"  {padded(label, width)}  {bar:<{_BAR}}  {share:6.1%}")
    parts = len(manifest.parts)
    result.append(f"published {parts:,} part{'s' * (parts != 1)} in {output}")
    result.append(f"  to be read as {redacted(_parts(outcome, manifest))}")
    page = left(outcome.output, manifest.run_id)
    result.append(
        f"  its report: {redacted(page)}"
        if page
        else "  no report of it could be made: `glossator report` says why"
    )
    return result


def account(outcome: Outcome) -> dict[str, Any]:
    """The same for machines: the manifest without its lists of files."""
    result: dict[str, Any] = {"state": outcome.state, "output": redacted(outcome.output)}
    if manifest := outcome.manifest:
        described = asdict(replace(manifest, inputs=(), parts=(), rejects=()))
        result |= {
            "seconds": round(outcome.seconds, 3),
            "resumed_splits": outcome.resumed_splits,
            "parts": len(manifest.parts),
            "read": redacted(_parts(outcome, manifest)),
            "report": redacted(page) if (page := left(outcome.output, manifest.run_id)) else None,
            **{k: v for k, v in described.items() if k not in _LISTS},
            "engine": outcome.counted,
        }
    if outcome.job_name:
        result["job_name"] = outcome.job_name
    return result


def _parts(outcome: Outcome, manifest: Manifest) -> str:
    """A glob of the parts; they stay what they are, whatever is published later."""
    return f"{staging(outcome.output, manifest.run_id)}/part-*.parquet"


def examples(outcome: Outcome, count: int, *, colour: bool) -> list[str]:
    """Some labelled comments, evenly spread over the first part that has any, words marked."""
    manifest = outcome.manifest
    if manifest is None:
        return []
    part = next((part for part in manifest.parts if part.rows), None)
    if part is None or not count:
        return []
    tasks = manifest.options["tasks"]
    sources = {source.uri: source for source in manifest.inputs}
    result = []
    for row in _rows(
        f"{staging(outcome.output, manifest.run_id)}/{part.name}", part.rows, count, tasks
    ):
        source = sources[row["source_file"]]
        text = _text(source, row["source_row"], manifest.options["text"], outcome.locations)
        if text is None:
            continue
        result.append("")
        for task in tasks:
            answer = padded(_answer(row[task]), 14)
            result.append(joined([padded(task, 10), answer, _marked(text, row[task], colour)], " "))
    return result


def _rows(uri: str, rows: int, count: int, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """So many rows of a part, without its keys, which may be of any size."""
    wanted = list(range(0, rows, max(1, rows // count)))[:count]
    fs, path = open_store(uri)
    with fs.open(path, "rb") as file:
        columns = ["source_file", "source_row", *tasks]
        found: list[dict[str, Any]] = []
        first = 0
        for batch in pq.ParquetFile(file).iter_batches(_ROWS, columns=columns):
            here = [row - first for row in wanted if first <= row < first + batch.num_rows]
            found += batch.take(pa.array(here, pa.int64())).to_pylist()
            first += batch.num_rows
            if first > wanted[-1]:
                break
    return found


def _text(source: Source, row: int, column: str, locations: Mapping[str, str]) -> str | None:
    """One text of an input file, as far as the model reads it; None if it can't be had again."""
    split = Split(0, "", (Range(source.uri, row, row + 1, source.footer_sha256),))
    try:
        for piece in read(split, Columns(column, pa.schema([])), locations=locations):
            if isinstance(piece, Piece):
                return str(piece.text[0].as_py())
    except GlossatorError:  # what is published is published, and has only to be shown
        return None
    return None


def _answer(answer: dict[str, Any]) -> str:
    if "label" in answer:
        return f"{answer['label']} {answer['confidence']:.0%}{'' if answer['accepted'] else ' ?'}"
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    return f"{answer['value']:.3g}"


def _marked(text: str, answer: dict[str, Any], colour: bool) -> str:
    marks = [Mark(word["start"], word["end"], word["weight"]) for word in answer["attention"]]
    return marked(text, marks, colour)
