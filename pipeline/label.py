"""Rows in, labels out, in Arrow: the plain functions behind the job's one expensive stage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glossator.model.labeller import STAGES, Labeller, Reading, TaskPredictions
from glossator.model.texts import Texts
from glossator.model.words import Words
from glossator.pipeline.causes import reaching
from glossator.pipeline.errors import CorruptRange
from glossator.pipeline.gates import canary
from glossator.pipeline.inputs.columns import Columns
from glossator.pipeline.inputs.content import Content
from glossator.pipeline.inputs.ranges import Range, Split
from glossator.pipeline.inputs.read import Piece, Unread, read
from glossator.pipeline.labelling import LOADED, Labelling
from glossator.pipeline.outputs.kinds import SHAPES, lists
from glossator.pipeline.outputs.schema import WORD, output_schema, task_type
from glossator.pipeline.outputs.staging import Canary, SplitRecord
from glossator.pipeline.outputs.text_digests import digests_of
from glossator.pipeline.outputs.write import SplitWriter
from glossator.pipeline.reuse import Known, known_answers


@dataclass(frozen=True)
class SplitLabelling(Labelling):
    """How the job labels its splits, and where what becomes of them goes."""

    columns: Columns
    staging: str
    """Where parts, rejects and records go."""
    locations: Mapping[str, str] = field(default_factory=dict)
    """How to open the sources whose URI does not say it, by URI; see `Plan.locations`."""
    before: tuple[str, ...] = ()
    """The folders of runs that may have some of the same splits, the last first; see `carry`."""
    reuse: str | None = None
    """What decides an answer beside its text, where earlier ones are to be taken; see `reuse`."""
    canaries_below: int = 0
    """Rows whose hash is smaller are drawn as canaries; see `canary.below`."""


@dataclass
class Tally:
    """What labelling came to, added up over the pieces of a split."""

    rows: int = 0
    """Rows read."""
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    """How often each label of each task was given."""
    sums: dict[str, Counter[str]] = field(default_factory=dict)
    """Of each task's confidences and accepted labels."""
    metrics: Counter[str] = field(default_factory=Counter)
    """Counts, and seconds by stage."""

    @property
    def model_seconds(self) -> float:
        """Spent in the model's own stages."""
        return sum(self.metrics[f"{stage}_seconds"] for stage in STAGES)

    def read(self, reading: Reading) -> None:
        """Counts what was read of texts."""
        self.metrics["tokens"] += int(reading.tokens.sum())
        self.metrics["truncated_texts"] += int(reading.truncated.sum())
        self.metrics["characters"] += reading.characters
        self.metrics["lone_bytes"] += reading.lone_bytes

    def since(self, started: float, stage: str) -> float:
        """Books the time since `started` on a stage; the time now."""
        now = time.monotonic()
        self.metrics[f"{stage}_seconds"] += now - started  # type: ignore[assignment]
        return now


OnRows = Callable[[int], None]
"""Is called now and then with how many rows are done; what it raises ends the work."""


def label_split(
    split: Split, labelling: SplitLabelling, on_rows: OnRows | None = None
) -> SplitRecord:
    """Labels a split and leaves its files and its record in staging.

    A range that can't be decoded becomes one reject; what had been written of it is discarded.

    Args:
        split: what to label.
        labelling: how.
        on_rows: hears of the split's rows.
    """
    model = labelling.labeller()
    given_up: dict[Range, Unread] = {}
    while True:
        try:
            with reaching("output", labelling.staging):
                return _label_pieces(split, labelling, model, given_up, on_rows or _ignore)
        except CorruptRange as error:
            given_up[error.range_] = Unread(error.range_, error.reason, error.detail)


def _ignore(_: int) -> None:
    """Nobody wants to know."""


def _on_rows_after(earlier: int, on_rows: OnRows, rows: int) -> None:
    """Tells of rows of a piece, which come after those of earlier ones."""
    on_rows(earlier + rows)


def label_texts(
    model: Labeller,
    texts: pa.Array,
    top: int,
    tally: Tally,
    on_rows: OnRows = _ignore,
    known: Known | None = None,
) -> list[pa.StructArray]:
    """A struct array for each task of the labeller, in its order.

    Args:
        model: the labeller.
        texts: large_string, none null or blank. Each distinct text is labelled once.
        top: how many marked words to keep of a text and task.
        tally: receives counts of labels and metrics.
        on_rows: hears of the texts.
        known: answers to some of the distinct texts, in the order in which these first appear.
    """
    encoded = texts.dictionary_encode()
    distinct, rows = encoded.dictionary, encoded.indices
    tally.metrics["distinct_texts"] += len(distinct)
    parts: list[list[pa.StructArray]] = [[] for _ in model.tasks]
    if known is not None and len(known.places):
        for part, column in zip(parts, known.columns, strict=True):
            part.append(column)
        _count_known(model, distinct.take(pa.array(known.places)), tally)
        tally.metrics["reused_rows"] += int(np.isin(rows.to_numpy(), known.places).sum())
        order = known.before_others(len(distinct))
        rows = pa.array(np.argsort(order)[rows.to_numpy()])
        distinct = distinct.take(pa.array(order[len(known.places) :]))
    finished = 0

    def on_texts(count: int) -> None:
        nonlocal finished
        finished += count
        on_rows(len(texts) * finished // len(distinct))

    for first in range(0, max(not parts[0], len(distinct)), model.max_texts):
        some = distinct.slice(first, model.max_texts)
        predictions = model.label(Texts(*_buffers(some)), top, on_texts)
        for i, task_predictions in enumerate(predictions.tasks):
            parts[i].append(_struct(task_predictions, some))
        tally.read(predictions)
        tally.metrics["padded_tokens"] += predictions.padded_tokens
        for stage, seconds in predictions.seconds.items():
            tally.metrics[f"{stage}_seconds"] += seconds  # type: ignore[assignment]
    columns = [pa.concat_arrays(part).take(rows) for part in parts]
    for task, column in zip(model.tasks, columns, strict=True):
        shape = SHAPES[task.kind]
        tally.labels.setdefault(task.name, Counter()).update(shape.counts(task, column))
        if sums := shape.sums(column):
            tally.sums.setdefault(task.name, Counter()).update(sums)
    return columns


def _count_known(model: Labeller, texts: pa.Array, tally: Tally) -> None:
    """Counts of texts that are not labelled what would be counted of them."""
    for first in range(0, len(texts), model.max_texts):
        tally.read(model.read(Texts(*_buffers(texts.slice(first, model.max_texts)))))


def answered(labelling: Labelling, texts: pa.Array) -> dict[str, list[str]]:
    """By task but for regressions, each text's answer as one string."""
    model = labelling.labeller()
    columns = label_texts(model, texts, 0, Tally())
    return canary.answers(
        {t.name: c for t, c in zip(model.tasks, columns, strict=True)}, model.tasks
    )


def _writer(split: Split, labelling: SplitLabelling, model: Labeller) -> SplitWriter:
    schema = output_schema(model.tasks, labelling.columns.keys, model.experts)
    return SplitWriter(labelling.staging, split, schema, labelling.columns.keys)


def _label_pieces(
    split: Split,
    labelling: SplitLabelling,
    model: Labeller,
    given_up: Mapping[Range, Unread],
    on_rows: OnRows,
) -> SplitRecord:
    tally, writer, content = Tally(), _writer(split, labelling, model), Content()
    canaries: list[Canary] = []
    if (loading := LOADED.take_seconds(labelling)) is not None:  # booked on the first split
        tally.metrics["model_load_seconds"] = loading  # type: ignore[assignment]
    clock = time.monotonic()
    with writer:
        for piece in read(
            split, labelling.columns, locations=labelling.locations, given_up=given_up
        ):
            if isinstance(piece, Unread):
                writer.unread(piece)
                continue
            content.add(piece)
            clock = tally.since(clock, "read")
            before = tally.model_seconds
            after = partial(_on_rows_after, tally.rows, on_rows)
            table, texts, digests = _label_piece(piece, labelling, model, tally, after)
            canaries += canary.drawn(table, texts, model.tasks, labelling.canaries_below)
            # of this, what the model did not take went into columns
            clock = tally.since(clock + tally.model_seconds - before, "arrow")
            writer.write(piece, table, digests)
            clock = tally.since(clock, "write")
            tally.rows += len(piece.text)
            on_rows(tally.rows)
    return writer.commit(
        labels=tally.labels,
        metrics=tally.metrics,
        sums=tally.sums,
        canaries=canary.smallest(canaries),
        content="" if given_up else content.hexdigest(),
    )


def _label_piece(
    piece: Piece,
    labelling: SplitLabelling,
    model: Labeller,
    tally: Tally,
    on_rows: OnRows,
) -> tuple[pa.Table, pa.Array, pa.Array | None]:
    """The labelled rows of a piece, their texts and, where they are kept, the texts' digests."""
    kept = np.flatnonzero(~piece.rejected())
    texts = piece.text.take(pa.array(kept))
    digests, known = None, None
    if labelling.reuse is not None:
        encoded = texts.dictionary_encode()
        distinct = digests_of(encoded.dictionary, labelling.reuse)
        digests = distinct.take(encoded.indices)
        known = known_answers(distinct, labelling.before, labelling.names)
    columns = [
        *_taken(piece.keys, kept).columns,
        piece.source_file(kept),
        piece.source_row(kept),
        *label_texts(model, texts, labelling.top, tally, on_rows, known),
    ]
    schema = output_schema(model.tasks, labelling.columns.keys, model.experts)
    return pa.Table.from_arrays(columns, schema=schema), texts, digests


def _taken(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """These rows; a copy only if some are missing, for keys may be large."""
    return table if len(rows) == table.num_rows else table.take(rows)


def _struct(predictions: TaskPredictions, texts: pa.Array) -> pa.StructArray:
    """The predictions for distinct texts as one array."""
    task, entropy = predictions.task, predictions.entropy
    columns = [
        *SHAPES[task.kind].arrays(predictions),
        _words(predictions.words, texts),
        pa.nulls(len(texts), pa.float32()) if entropy is None else pa.array(entropy),
    ]
    if predictions.expert is not None:
        columns.append(pa.array(predictions.expert))
    fields = list(task_type(task, predictions.expert is not None))
    return pa.StructArray.from_arrays(columns, fields=fields)


def _words(words: Words, texts: pa.Array) -> pa.ListArray:
    """Marked words as lists of structs, cut out of the texts' own bytes."""
    start, end = _byte_spans(words, texts)
    lengths = end - start
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    source = np.repeat(start - offsets[:-1], lengths) + np.arange(offsets[-1])
    content = _content(texts)[source]
    cut = pa.StringArray.from_buffers(
        len(start), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(content)
    )
    columns = [cut, pa.array(words.start), pa.array(words.end), pa.array(words.weight)]
    return lists(words.offsets, pa.StructArray.from_arrays(columns, fields=list(WORD)))


def _byte_spans(words: Words, texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where words stand in the bytes of all texts together."""
    content = _content(texts)
    characters = np.append(np.flatnonzero((content & 0xC0) != 0x80), len(content))
    _, first_byte = _buffers(texts)
    first = np.searchsorted(characters, first_byte[:-1] - first_byte[:1])
    shift = np.repeat(first, np.diff(words.offsets))
    return characters[words.start + shift], characters[words.end + shift]


def _content(texts: pa.Array) -> NDArray[np.uint8]:
    """The UTF-8 of all texts, one after the other."""
    content, offsets = _buffers(texts)
    return content[offsets[0] : offsets[-1]]


def _buffers(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """UTF-8, of more texts maybe, and the [n + 1] places in it where these begin and end."""
    _, places, data = texts.buffers()
    offsets = np.frombuffer(places, np.int64)[texts.offset :][: len(texts) + 1]
    return np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8), offsets
