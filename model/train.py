"""Training: labelled Parquet in, a bundle out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from glossator.model import card
from glossator.model.architecture import NetworkConfig
from glossator.model.assess import assess
from glossator.model.bundle import Bundle
from glossator.model.calibrate import Calibration
from glossator.model.data import Dataset
from glossator.model.errors import UsageError
from glossator.model.evaluate import logits, predict, score
from glossator.model.kinds import Labels
from glossator.model.labeller import Labeller
from glossator.model.network import AttentionRNN, TaskOutput
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer, Tokens
from glossator.model.words import MAX_TOKENS

Report = Callable[[str], None]
"""Where progress goes, a line at a time."""
Show = Callable[[int, int, str], None]
"""Where it goes how far training is: steps done, steps at most, and a line in words."""
_CHUNK = 50
"""Batches whose texts are sorted by length together: less padding, still a random order."""
_EVERY_LINE = 10.0
"""Seconds between lines of progress."""
_EVERY_SHOW = 1.0
"""Seconds between looks at it."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; stands in the bundle's provenance."""

    vocabulary: int = 16_000
    """Tokens that the tokenizer may learn."""
    max_tokens: int = 512
    """Tokens of a text that are read."""
    embedding: int = 128
    """Numbers for a token."""
    cell: Literal["gru", "lstm"] = "gru"
    """gru or lstm."""
    hidden: int = 128
    """Units a direction."""
    attention: int = 64
    """Units of each task's attention."""
    epochs: int = 5
    """At most; it stops early."""
    patience: int = 2
    """Epochs without a better validation score before it stops."""
    batch: int = 64
    """Texts a step."""
    learning_rate: float = 2e-3
    """At its height, after a tenth of the steps (one-cycle; Smith & Topin 2018)."""
    dropout: float = 0.4
    """On embeddings, states and pooled states."""
    embedding_dropout: float = 0.1
    """Share of tokens dropped whole."""
    smoothing: float = 0.05
    """Label smoothing of single tasks."""
    seed: int = 1
    """Of everything random."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise UsageError("epochs and batch must be positive")
        if not 1 <= self.max_tokens <= MAX_TOKENS:
            raise UsageError(f"max_tokens {self.max_tokens} is not between 1 and {MAX_TOKENS:,}")
        if self.vocabulary < 257:
            raise UsageError(f"vocabulary {self.vocabulary} has no room beside the 256 bytes")
        self.network(self.vocabulary)  # which refuses sizes out of range

    def network(self, vocabulary: int) -> NetworkConfig:
        """The sizes of the network for a tokenizer of so many tokens."""
        return NetworkConfig(vocabulary, self.embedding, self.cell, self.hidden, self.attention)


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
        save: receives the bundle as soon as it can label, before anything is measured, and again
            with its metrics: what comes after training can't lose it.
        twins: also trains the network for each task alone, to see what learning together gives.
    """
    train_rows = data.select(data.split == "train")
    validation_rows = data.select(data.split == "validation")
    _require(train_rows, validation_rows, tasks)
    torch.manual_seed(settings.seed)
    texts = f"{len(train_rows):,} texts to learn from, {len(validation_rows):,} to validate"
    report(f"{texts}; learning the tokenizer")
    tokenizer = Tokenizer.train(train_rows.texts, settings.vocabulary, settings.max_tokens)
    config = settings.network(tokenizer.size)
    scales = {task.name: _initial(task, train_rows.labels[task.name]) for task in tasks}
    trainer = _Trainer(config, tasks, scales, tokenizer, settings, report, show)
    network, history = trainer.run(train_rows, validation_rows)
    uncalibrated = Bundle(tasks, config, network.weights(), tokenizer, scales)
    bundle = _calibrated(uncalibrated, validation_rows)
    facts = {
        **(provenance or {}),
        "settings": asdict(settings),
        "rows": {s: int((data.split == s).sum()) for s in ("train", "validation", "test")},
        "labels": {t.name: _counts(t, data) for t in tasks},
        "sources": _sources(data),
        "history": history,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    bundle = replace(bundle, provenance=facts)
    keep = save or (lambda bundle: None)
    keep(replace(bundle, card=card.render(bundle)))

    def alone(task: Task) -> Bundle:
        rows = (
            part.select(task.rules.observed(part.labels[task.name]))
            for part in (train_rows, validation_rows)
        )
        own = {task.name: scales[task.name]}
        torch.manual_seed(settings.seed)
        twin = _Trainer(config, (task,), own, tokenizer, settings, report, show)
        network, _ = twin.run(*rows)
        uncalibrated = Bundle((task,), config, network.weights(), tokenizer, own)
        return _calibrated(uncalibrated, validation_rows)

    bundle = replace(bundle, metrics=assess(bundle, data, report, alone if twins else None))
    bundle = replace(bundle, card=card.render(bundle))
    keep(bundle)
    return bundle


def _calibrated(bundle: Bundle, validation_rows: Dataset) -> Bundle:
    """The bundle with the calibration that fits the validation rows best."""
    names = [task.name for task in bundle.tasks]
    given = logits(Labeller(bundle, names), validation_rows.texts)
    fitted = {
        task.name: task.rules.fit(
            given[task.name],
            validation_rows.labels[task.name],
            bundle.calibration[task.name],
            task.target_precision,
        )
        for task in bundle.tasks
    }
    return replace(bundle, calibration=fitted)


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
    names, counts = np.unique(data.source, return_counts=True)
    return {str(name): int(n) for name, n in zip(names, counts, strict=True) if name}


class _Trainer:
    """The loop: epochs of batches, an average of the weights, a score after each epoch."""

    def __init__(
        self,
        config: NetworkConfig,
        tasks: tuple[Task, ...],
        scales: Mapping[str, Calibration],
        tokenizer: Tokenizer,
        settings: TrainingConfig,
        report: Report,
        show: Show | None,
    ) -> None:
        self.tasks, self.scales, self.tokenizer = tasks, scales, tokenizer
        self.settings, self.report, self.show = settings, report, show
        self.network = AttentionRNN(
            config,
            tasks,
            dropout=settings.dropout,
            embedding_dropout=settings.embedding_dropout,
        )
        self.average = AveragedModel(self.network, multi_avg_fn=_average_)

    def run(
        self, train_rows: Dataset, validation_rows: Dataset
    ) -> tuple[AttentionRNN, list[dict[str, Any]]]:
        """The network of the best epoch, and the course of training."""
        settings, threads = self.settings, torch.get_num_threads()
        tokens, labels = self.tokenizer.encode(train_rows.texts), self._tensors(train_rows)
        generator = np.random.default_rng(settings.seed)
        steps = -(-len(tokens) // settings.batch)
        # with ten steps in all, torch's schedule would divide by its warm-up's length, zero
        most = max(11, steps * settings.epochs)
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=0.01, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=most, pct_start=0.1
        )
        history: list[dict[str, Any]] = []
        best: dict[str, Tensor] = {}
        progress = _Progress(steps * settings.epochs, self.report, self.show)
        for epoch in range(1, settings.epochs + 1):
            torch.set_num_threads(threads)  # inference between epochs runs on one
            losses = []
            for rows in _batches(tokens, settings.batch, generator):
                loss = self._loss(self.network(*_padded(tokens, rows)), labels, rows)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                self.average.update_parameters(self.network)
                losses.append(loss.item())
                progress.step(epoch, losses)
            scores = self._score(validation_rows)
            mean = float(np.mean(list(scores.values())))
            average = float(np.mean(losses))
            history.append({"epoch": epoch, "loss": average, "scores": scores, "mean": mean})
            shown = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
            self.report(f"epoch {epoch}: loss {average:.4f}  {shown}  mean {mean:.4f}")
            if mean >= max(entry["mean"] for entry in history):
                best = {k: v.clone() for k, v in self.average.module.state_dict().items()}
                best_epoch = epoch
            elif epoch - best_epoch >= settings.patience:
                self.report(f"no better for {settings.patience} epochs: back to {best_epoch}")
                break
        self.network.load_state_dict(best)
        return self.network.eval(), history

    def _tensors(self, data: Dataset) -> dict[str, Tensor]:
        """What is to be learnt of each task, as tensors."""
        return {
            task.name: torch.from_numpy(
                np.ascontiguousarray(
                    task.rules.targets(data.labels[task.name], self.scales[task.name])
                )
            )
            for task in self.tasks
        }

    def _loss(
        self, outputs: Mapping[str, TaskOutput], labels: Mapping[str, Tensor], rows: Tensor
    ) -> Tensor:
        """The mean over tasks of each one's mean over its observed labels; all of equal weight."""
        terms = [
            term
            for task in self.tasks
            if (
                term := task.rules.loss(
                    outputs[task.name].logits,
                    labels[task.name][rows],
                    task.labels,
                    self.settings.smoothing,
                )
            )
            is not None
        ]
        if not terms:
            return torch.zeros((), requires_grad=True)
        return torch.stack(terms).sum() / len(self.tasks)

    def _score(self, validation_rows: Dataset) -> dict[str, float]:
        network = self.average.module
        assert isinstance(network, AttentionRNN)
        bundle = Bundle(self.tasks, network.config, network.weights(), self.tokenizer, self.scales)
        predicted = predict(
            Labeller(bundle, [task.name for task in self.tasks]), validation_rows.texts
        )
        result = {}
        for task in self.tasks:
            labels = validation_rows.labels[task.name]
            seen = task.rules.observed(labels)
            result[task.name] = score(task, labels[seen], predicted[task.name][seen])
        return result


def _average_(averages: Sequence[Tensor], currents: Sequence[Tensor], count: Any) -> None:
    """An exponential moving average that is short at first: a short training must not lag."""
    decay = min(0.998, (1 + int(count)) / (10 + int(count)))
    torch._foreach_lerp_(list(averages), list(currents), 1 - decay)


def _batches(tokens: Tokens, size: int, generator: np.random.Generator) -> Iterator[Tensor]:
    """Every row once, in random batches of texts of like length."""
    order = generator.permutation(len(tokens))
    lengths = tokens.lengths
    batches = []
    for first in range(0, len(order), size * _CHUNK):
        chunk = order[first : first + size * _CHUNK]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    for index in generator.permutation(len(batches)):
        yield torch.from_numpy(batches[index])


def _padded(tokens: Tokens, rows: Tensor) -> tuple[Tensor, Tensor]:
    """[B, T] ids and [B] lengths of some texts."""
    index = rows.numpy()
    lengths = tokens.lengths[index]
    place = np.arange(lengths.max())
    mask = place < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = tokens.ids[(tokens.offsets[index, None] + place)[mask]]
    return torch.from_numpy(ids), torch.from_numpy(lengths)


class _Progress:
    """Says now and then where training stands and how long it will take."""

    def __init__(self, steps: int, report: Report, show: Show | None) -> None:
        self.steps, self.report, self.show = steps, report, show
        self.done = 0
        self.started = self.last = time.monotonic()

    def step(self, epoch: int, losses: Sequence[float]) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.last < (_EVERY_LINE if self.show is None else _EVERY_SHOW):
            return
        self.last = now
        left = (now - self.started) / self.done * (self.steps - self.done)
        recent = float(np.mean(losses[-200:]))
        line = (
            f"epoch {epoch}: {self.done:,} of at most {self.steps:,} steps, loss {recent:.4f}, "
            f"at most {left / 60:.1f} min left"
        )
        if self.show is None:
            self.report(line)
        else:
            self.show(self.done, self.steps, line)
