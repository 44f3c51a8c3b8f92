"""One training's networks: what they have in common, and how each becomes a bundle that can label.

There is the one that is kept, those that teach it, and those that learn one task alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glossator.model.architecture import NetworkConfig
from glossator.model.bundle import Bundle
from glossator.model.calibrate import Calibration
from glossator.model.evaluation.evaluate import logits
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.mixing import calibrate
from glossator.model.network import AttentionRNN
from glossator.model.ngrams import Ngrams, only
from glossator.model.progress import Report, Show
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer
from glossator.model.training.checkpoint import Checkpoint
from glossator.model.training.config import TrainingConfig
from glossator.model.training.initialisation import make_network
from glossator.model.training.material import Material, known
from glossator.model.training.ngrams_fit import fit_ngrams
from glossator.model.training.trainer import Trainer


@dataclass(frozen=True)
class Expert:
    """An n-gram expert, and what it says of the validation rows."""

    arrays: Mapping[str, NDArray[Any]]
    logits: Mapping[str, NDArray[np.float64]]
    """By task; of a task that it has nothing to say of, none."""


@dataclass(frozen=True)
class Learner:
    """What all networks of one training have in common."""

    tasks: tuple[Task, ...]
    scales: Mapping[str, Calibration]
    """What is fixed before training, by task."""
    tokenizer: Tokenizer
    config: NetworkConfig
    begun: Mapping[str, NDArray[np.float32]]
    """The weights that are known before training, by name; the others are drawn."""
    settings: TrainingConfig
    validation_rows: Dataset
    report: Report
    show: Show | None

    def network(
        self,
        material: Material,
        tasks: Sequence[Task],
        checkpoint: Checkpoint,
        max_minutes: float | None,
    ) -> tuple[AttentionRNN, list[dict[str, Any]]]:
        """A trained network, and the course of its training.

        Args:
            material: to learn from.
            tasks: what it has heads for.
            checkpoint: where it goes on, if it was interrupted.
            max_minutes: after which it ends, wherever it stands.
        """
        learnt, settings = tuple(tasks), self.settings
        torch.manual_seed(settings.seed)
        network = make_network(self.config, learnt, settings)
        drawn = network.weights()
        network.load_weights(
            {**drawn, **{name: one for name, one in self.begun.items() if name in drawn}}
        )
        scales = {task.name: self.scales[task.name] for task in learnt}
        trainer = Trainer(network, learnt, scales, self.tokenizer, settings, self.report, self.show)
        return trainer.run(material, self.validation_rows, checkpoint, max_minutes)

    def expert(self, material: Material) -> Expert:
        """The n-gram expert; an empty one where there is to be none."""
        if not self.settings.ngrams:
            return Expert({}, {})
        self.report("fitting the n-gram expert")
        generator = np.random.default_rng(self.settings.seed)
        share = self.settings.teaching
        targets = {
            task.name: material.targets(task, self.scales[task.name], share, generator)
            for task in self.tasks
        }
        taken = np.flatnonzero(np.any([known(one) for one in targets.values()], axis=0))
        arrays = fit_ngrams(
            material.tokens.select(taken),
            {name: one[taken] for name, one in targets.items()},
            self.tasks,
            self.tokenizer,
            self.settings.ngrams,
            self.settings.seed,
        )
        fitted = [task for task in self.tasks if f"{task.name}.table" in arrays]
        if not fitted:
            return Expert({}, {})
        expert = Ngrams(arrays, self.tokenizer, fitted)
        return Expert(arrays, expert.logits(self.tokenizer.encode(self.validation_rows.texts)))

    def bundle(self, network: AttentionRNN, expert: Expert, tasks: Sequence[Task]) -> Bundle:
        """Of the network and the expert, with what fits the validation rows best."""
        scales = {task.name: self.scales[task.name] for task in tasks}
        plain = Bundle(tuple(tasks), self.config, network.weights(), self.tokenizer, scales)
        given = logits(Labeller(plain, list(scales)), self.validation_rows.texts)
        fitted = {
            task.name: calibrate(
                task,
                given[task.name],
                expert.logits.get(task.name),
                self.validation_rows.labels[task.name],
                self.scales[task.name],
            )
            for task in tasks
        }
        bundle = replace(plain, calibration=fitted)
        return replace(bundle, ngrams=only(expert.arrays, bundle.experts))
