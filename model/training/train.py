"""Training: labelled Parquet in, a bundle out."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from glossator.model.bundle import Bundle
from glossator.model.calibrate import Calibration
from glossator.model.errors import UsageError
from glossator.model.evaluation import card
from glossator.model.evaluation.assess import assess
from glossator.model.kinds import Labels
from glossator.model.labelled import overview
from glossator.model.labelled.dataset import Dataset
from glossator.model.parity import certify
from glossator.model.progress import Report, Show
from glossator.model.tasks import Task
from glossator.model.training.checkpoint import Checkpoint, training_key
from glossator.model.training.config import TrainingConfig
from glossator.model.training.cross_fit import cross_fit
from glossator.model.training.initialisation import initial_tokenizer, known_weights
from glossator.model.training.learner import Learner
from glossator.model.training.material import with_unlabelled
from glossator.model.training.predictions import Predictions
from glossator.model.training.teachers import ask, lessons, where_silent

_MAX_SOURCES = 50
"""That the bundle names."""
_MAX_SOURCE_CHARS = 80


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Gives torch its threads back: inference takes them, and sums depend on how many there are."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_threads_kept()
def train(
    data: Dataset,
    tasks: tuple[Task, ...],
    settings: TrainingConfig,
    report: Report,
    provenance: Mapping[str, Any] | None = None,
    show: Show | None = None,
    *,
    unlabelled: Sequence[str] = (),
    init: Bundle | None = None,
    teachers: Sequence[Bundle | Predictions] = (),
    checkpoint: Path | None = None,
    max_minutes: float | None = None,
    save: Callable[[Bundle], None] | None = None,
    twins: bool = False,
) -> Bundle:
    """Trains, calibrates on the validation rows, and measures on the test rows if there are any.

    Args:
        data: with rows of split train and validation; rows of split test are only measured on.
        tasks: what to learn.
        settings: how.
        report: receives lines of progress.
        provenance: what to keep in the bundle about the data.
        show: receives how far it is; without it `report` does now and then.
        unlabelled: texts from which the tokenizer and the vectors of the tokens are learnt, too;
            those that rows have already are left out.
        init: a bundle whose tokenizer, embedding and encoder, and heads of the same tasks, are
            what it begins with; its sizes go before those of the settings.
        teachers: bundles and predictions to learn from beside the labels, of the unlabelled texts
            too.
        checkpoint: a file that keeps where training stands: an interrupted one goes on there.
        max_minutes: the best epoch so far is taken after so long.
        save: receives the bundle as soon as it can label, before anything is measured, and again
            with its metrics: what comes after training can't lose it.
        twins: also trains the network for each task alone, to see what learning together gives.

    Raises:
        UsageError: a split or task lacks what it needs.
    """
    train_rows = data.select(data.split == "train")
    validation_rows = data.select(data.split == "validation")
    _require(train_rows, validation_rows, tasks)
    known = set(train_rows.texts)
    unlabelled = [text for text in unlabelled if text not in known]
    labels = overview.describe(data, tasks)
    for line in labels.warnings():
        report(line)
    if init is not None:
        settings = _with_sizes_of(init, settings, report)
        if unlabelled and not teachers and not settings.parts:
            raise UsageError(
                "texts without labels teach nothing where training begins with a bundle, whose "
                "tokens and vectors stay: name a teacher or set parts, or leave them out",
                parameter="unlabelled",
            )
    torch.manual_seed(settings.seed)
    texts = f"{len(train_rows):,} texts to learn from, {len(validation_rows):,} to validate"
    report(texts)
    scales = {task.name: _initial(task, train_rows.labels[task.name]) for task in tasks}
    tokenizer = initial_tokenizer(train_rows.texts, unlabelled, settings, init, report)
    tokens = tokenizer.encode([*train_rows.texts, *unlabelled])
    config, begun = known_weights(tokens, tokenizer, tasks, settings, init, report)
    learner = Learner(
        tasks, scales, tokenizer, config, begun, settings, validation_rows, report, show
    )
    material = with_unlabelled(train_rows, tokens, unlabelled, tasks)
    said = ask(teachers, tasks, material.rows.texts, report)
    what_counts = {
        "settings": asdict(settings),
        "tasks": [task.to_json() for task in tasks],
        "tokenizer": tokenizer.to_json(),
        "begun": _digest(begun, repr(config)),
        "said": [_digest(one, str(len(material.rows))) for one in said],
        "torch": torch.__version__,
    }
    kept = Checkpoint(checkpoint, training_key(data, what_counts))
    each = None if max_minutes is None else max_minutes / (settings.parts + 1)
    if settings.parts:
        own = cross_fit(learner, material, settings.parts, kept, each)
        said = [*said, where_silent(own, said)]
    # without a teacher there is nothing to learn from the others
    material = material.taught(lessons(said, tasks, scales)) if said else material.only_labelled()
    network, history = learner.network(material, tasks, kept, each)
    expert = learner.expert(material)
    bundle = learner.bundle(network, expert, tasks)
    if expert.arrays:
        weights = "  ".join(f"{name} {c.expert:g}" for name, c in bundle.calibration.items())
        report(f"weight of the n-gram expert: {weights}")
    facts = {
        **(provenance or {}),
        "settings": asdict(settings),
        "rows": {s: int((data.split == s).sum()) for s in ("train", "validation", "test")},
        "labels": {t.name: _counts(t, data) for t in tasks},
        "labels_overview": labels.to_json(),
        "sources": _sources(data),
        "history": history,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    bundle = replace(bundle, provenance=facts)
    keep = save or (lambda bundle: None)
    keep(replace(bundle, card=card.render(bundle)))

    def alone(task: Task) -> Bundle:
        nothing = Checkpoint(None, "")
        twin, _ = learner.network(material.of(task), (task,), nothing, each)
        return learner.bundle(twin, expert, (task,))

    certificate = certify(bundle, validation_rows.texts)
    report(certificate.line())
    bundle = replace(bundle, provenance={**facts, "parity": certificate.to_json()})
    bundle = replace(bundle, metrics=assess(bundle, data, report, alone if twins else None))
    bundle = replace(bundle, card=card.render(bundle))
    keep(bundle)
    return bundle


def _with_sizes_of(init: Bundle, settings: TrainingConfig, report: Report) -> TrainingConfig:
    """The settings with the sizes of the bundle that training begins with."""
    own = {**init.config.to_json(), "max_tokens": init.tokenizer.max_tokens}
    usual = TrainingConfig()
    for name, value in own.items():
        asked = getattr(settings, name)
        if asked not in (value, getattr(usual, name)):
            report(f"{name} {asked} is not used: the bundle to begin with has {value}")
    return replace(settings, **own)


def _digest(arrays: Mapping[str, NDArray[Any]], about: str) -> str:
    """Of arrays and of what else there is to say of them."""
    digest = hashlib.sha256(about.encode())
    for name, array in arrays.items():
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def _require(train_rows: Dataset, validation_rows: Dataset, tasks: tuple[Task, ...]) -> None:
    for name, part in (("train", train_rows), ("validation", validation_rows)):
        for task in tasks:
            if not len(part) or not task.rules.observed(part.labels[task.name]).any():
                raise UsageError(
                    f"task {task.name!r} has no label on any row of split {name!r}: give more "
                    "rows, or fix the split column"
                )


def _initial(task: Task, labels: Labels) -> Calibration:
    """What is fixed before training, by the labels that there are."""
    try:
        return task.rules.initial(labels[task.rules.observed(labels)])
    except UsageError as error:
        raise UsageError(f"task {task.name!r}: the labels can't be learnt: {error}") from None


def _counts(task: Task, data: Dataset) -> dict[str, int]:
    labels = data.labels[task.name]
    return task.rules.counts(labels[task.rules.observed(labels)], task.labels)


def _sources(data: Dataset) -> dict[str, int]:
    """Texts of each source, of many the most frequent ones."""
    counts = Counter(name[:_MAX_SOURCE_CHARS] for name in data.source.tolist() if name)
    kept = sorted(counts.most_common(_MAX_SOURCES))
    sources = dict(kept)
    if others := sum(counts.values()) - sum(count for _, count in kept):
        sources[f"{len(counts) - len(kept):,} others"] = others
    return sources
