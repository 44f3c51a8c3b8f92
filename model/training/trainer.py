"""The loop of training: steps, an average of the weights, a score after each epoch.

It may be stopped at any moment: with a checkpoint it goes on where it was, and on a CPU ends with
the weights that it would have had. Where torch sees a GPU, the steps run there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from glossator.model.bundle import Bundle
from glossator.model.calibrate import Calibration
from glossator.model.evaluation.evaluate import predict, score
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.network import AttentionRNN, TaskOutput
from glossator.model.progress import Report, Show, StepProgress
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer, Tokens
from glossator.model.training.checkpoint import Checkpoint
from glossator.model.training.config import TrainingConfig
from glossator.model.training.material import Material, known

_CHUNK = 50
"""Batches whose texts are sorted by length together: less padding, still a random order."""


@dataclass
class _Course:
    """Where training stands, but for the state of torch's objects."""

    epoch: int = 1
    step: int = 0
    """Batches of this epoch that are done."""
    losses: list[float] = field(default_factory=list)
    """Of this epoch's batches."""
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    seconds: float = 0.0
    """Spent before this process."""
    ended: bool = False


class Trainer:
    """Trains a network on some tasks."""

    def __init__(
        self,
        network: AttentionRNN,
        tasks: tuple[Task, ...],
        scales: Mapping[str, Calibration],
        tokenizer: Tokenizer,
        settings: TrainingConfig,
        report: Report,
        show: Show | None = None,
    ) -> None:
        """Gets ready.

        Args:
            network: as it is before the first step.
            tasks: what to learn.
            scales: what is fixed before training, by task.
            tokenizer: of the texts.
            settings: how.
            report: receives lines of progress.
            show: receives how far it is; without it `report` does now and then.
        """
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device)
        self.average = AveragedModel(self.network, multi_avg_fn=_average_)
        self.tasks, self.scales, self.tokenizer = tasks, scales, tokenizer
        self.settings, self.report, self.show = settings, report, show

    def run(
        self,
        material: Material,
        validation_rows: Dataset,
        checkpoint: Checkpoint,
        max_minutes: float | None = None,
    ) -> tuple[AttentionRNN, list[dict[str, Any]]]:
        """The network of the best epoch, and the course of training.

        Args:
            material: to learn from.
            validation_rows: to choose the epoch by.
            checkpoint: where it goes on, if it was interrupted.
            max_minutes: after which it ends, wherever it stands, interruptions left out.
        """
        settings, threads = self.settings, torch.get_num_threads()
        labels, weights = self._tensors(material.rows), self._weights(material)
        taught = {
            name: torch.from_numpy(lesson).to(self.device)
            for name, lesson in material.lessons.items()
        }
        tokens = material.tokens
        steps = -(-len(material.epoch(1, settings.seed)) // settings.batch)
        # with ten steps in all, torch's schedule would divide by its warm-up's length, zero
        most = max(11, steps * settings.epochs)
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=0.01, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=most, pct_start=0.1
        )
        parts: dict[str, Any] = {
            "network": self.network,
            "average": self.average,
            "optimizer": optimizer,
            "schedule": schedule,
        }
        course = self._resumed(checkpoint.load(self.report), parts)
        done = (course.epoch - 1) * steps + course.step
        progress = StepProgress(done, steps * settings.epochs, self.report, self.show)
        started = time.monotonic() - course.seconds

        def late() -> bool:
            return max_minutes is not None and time.monotonic() - started >= 60 * max_minutes

        def save() -> None:
            course.seconds = time.monotonic() - started
            states = {name: part.state_dict() for name, part in parts.items()}
            checkpoint.save({**states, "course": vars(course), "random": torch.get_rng_state()})

        while not course.ended:
            torch.set_num_threads(threads)  # inference between epochs runs on one
            self.network.train()
            rows_of_epoch = material.epoch(course.epoch, settings.seed)
            order = (settings.seed, course.epoch)
            batches = _batches(rows_of_epoch, tokens.lengths, settings.batch, order)
            for rows in batches[course.step :]:
                loss = self._loss(self._outputs(tokens, rows), labels, weights, taught, rows)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                self.average.update_parameters(self.network)
                course.losses.append(loss.item())
                course.step += 1
                progress.step(course.epoch, course.losses)
                if checkpoint.due():
                    save()
                if late():
                    break
            self._end_epoch(course, validation_rows)
            why = ""
            if course.epoch - course.best_epoch >= settings.patience:
                why = f"no better for {settings.patience} epochs"
            elif late():
                why = f"{max_minutes:g} minutes are over"
            if why and course.epoch < settings.epochs:
                self.report(f"{why}: back to epoch {course.best_epoch}")
            course.ended = bool(why) or course.epoch == settings.epochs
            course.epoch, course.step, course.losses = course.epoch + 1, 0, []
            save()
        self.network.load_state_dict(course.best)
        return self.network.cpu().eval(), course.history

    def _end_epoch(self, course: _Course, validation_rows: Dataset) -> None:
        """Scores the average so far, and keeps it if it is the best."""
        scores = self._score(validation_rows)
        mean = float(np.mean(list(scores.values())))
        loss = float(np.mean(course.losses))
        entry = {"epoch": course.epoch, "loss": loss, "scores": scores, "mean": mean}
        course.history.append(entry)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
        self.report(f"epoch {course.epoch}: loss {loss:.4f}  {shown}  mean {mean:.4f}")
        if mean >= max(entry["mean"] for entry in course.history):
            weights = self.average.module.state_dict().items()
            course.best = {name: value.cpu().clone() for name, value in weights}
            course.best_epoch = course.epoch

    def _resumed(self, state: dict[str, Any] | None, parts: Mapping[str, Any]) -> _Course:
        if state is None:
            return _Course()
        for name, part in parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        course = _Course(**state["course"])
        self.report(f"going on in epoch {course.epoch}, after {course.step:,} steps of it")
        return course

    def _outputs(self, tokens: Tokens, rows: Tensor) -> dict[str, TaskOutput]:
        ids, lengths = padded(tokens, rows)
        outputs: dict[str, TaskOutput] = self.network(
            ids.to(self.device, non_blocking=True), lengths.to(self.device, non_blocking=True)
        )
        return outputs

    def _tensors(self, data: Dataset) -> dict[str, Tensor]:
        """What is to be learnt of each task, as tensors."""
        return {
            task.name: torch.from_numpy(
                np.ascontiguousarray(
                    task.rules.targets(data.labels[task.name], self.scales[task.name])
                )
            ).to(self.device)
            for task in self.tasks
        }

    def _weights(self, material: Material) -> dict[str, Tensor]:
        """How much each row's label counts, of the tasks in which not all count the same.

        Where a teacher speaks of a row it counts by so much less; where none does, all of it.
        """
        result = {}
        for task in self.tasks:
            weights = material.rows.loss_weights(task)
            if task.name in material.lessons:
                taught = known(material.lessons[task.name])
                own = np.where(taught, 1 - self.settings.teaching, 1.0).astype(np.float32)
                weights = own if weights is None else (weights.T * own).T
            if weights is not None:
                result[task.name] = torch.from_numpy(weights).to(self.device)
        return result

    def _loss(
        self,
        outputs: Mapping[str, TaskOutput],
        labels: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        taught: Mapping[str, Tensor],
        rows: Tensor,
    ) -> Tensor:
        """The weighted mean over tasks of each one's mean over its observed labels.

        Of a task with teachers it is the sum of two such means, by the labels and by what they say.
        """
        rows = rows.to(self.device)
        terms: list[Tensor | None] = []
        for task in self.tasks:
            given, names = outputs[task.name].logits, task.labels
            own = weights[task.name][rows] if task.name in weights else None
            smoothing = self.settings.smoothing
            loss = task.rules.loss(given, labels[task.name][rows], names, smoothing, own)
            terms.append(None if loss is None else task.weight * loss)
            if task.name in taught:
                said = task.rules.loss(given, taught[task.name][rows], names)
                terms.append(None if said is None else task.weight * self.settings.teaching * said)
        kept = [loss for loss in terms if loss is not None]
        if not kept:
            return torch.zeros((), requires_grad=True)
        return torch.stack(kept).sum() / sum(task.weight for task in self.tasks)

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


def padded(tokens: Tokens, rows: Tensor) -> tuple[Tensor, Tensor]:
    """[B, T] ids and [B] lengths of some texts."""
    ids, lengths = tokens.select(rows.numpy()).padded()
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def _average_(averages: Sequence[Tensor], currents: Sequence[Tensor], count: Any) -> None:
    """An exponential moving average that is short at first: a short training must not lag."""
    decay = min(0.998, (1 + int(count)) / (10 + int(count)))
    torch._foreach_lerp_(list(averages), list(currents), 1 - decay)


def _batches(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], size: int, seed: tuple[int, int]
) -> list[Tensor]:
    """Every one of the rows once, in random batches of texts of like length."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(rows)
    batches = []
    for first in range(0, len(order), size * _CHUNK):
        chunk = order[first : first + size * _CHUNK]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    return [torch.from_numpy(batches[index]) for index in generator.permutation(len(batches))]
