"""How to label, as the job, `LabelComments` and the handler share it; and the models in memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from glossator.model import bundle as bundles
from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller
from glossator.model.store import absolute_uri
from glossator.model.tasks import Task, select_tasks
from glossator.pipeline.causes import reaching
from glossator.pipeline.gates.reference import reference


@dataclass(frozen=True)
class Labelling:
    """How texts are labelled: small enough to be sent to a worker, which loads the model."""

    model: str
    """A bundle's URI, or `bundle.DEFAULT`."""
    digest: str
    """The digest of the bundle that was planned with; another one is refused."""
    tasks: tuple[Task, ...]
    text: str | None
    """The text column; None where each table's own schema shows it."""
    top: int
    """Marked words that are kept of a comment and task."""
    experts: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of the tasks in which the bundle's n-gram expert has a say."""
    references: Mapping[str, tuple[float, ...]] = field(
        default_factory=dict, kw_only=True, compare=False
    )
    """By task, the shares of its labels that the bundle has on record."""

    @classmethod
    def of(
        cls,
        model: str = bundles.DEFAULT,
        text: str | None = None,
        tasks: Sequence[str] | None = None,
        top: int = 5,
        *,
        model_digest: str | None = None,
    ) -> Labelling:
        """Checks what is asked for against the bundle, and pins the bundle's digest.

        Args:
            model: a bundle's URI.
            text: the text column.
            tasks: names; None for all that are not sensitive.
            top: marked words to keep of a comment and task.
            model_digest: the digest that the bundle must have; None for any.

        Raises:
            UsageError: there is no such bundle or task, or `top` is not between 0 and 100.
            StoreError: the store of the bundle does not answer.
        """
        if isinstance(tasks, str):
            raise UsageError(
                f"tasks={tasks!r} is one string: give a list of names", parameter="tasks"
            )
        check_top(top)
        if model != bundles.DEFAULT:
            model = absolute_uri(model)
        with reaching("model", model, begun=False):
            bundle = bundles.load(model, model_digest)
        selected = select_tasks(bundle.tasks, tasks)
        experts = tuple(task.name for task in bundle.experts if task in selected)
        references = {t.name: shares for t in selected if (shares := reference(bundle, t))}
        return cls(
            model, bundle.digest, selected, text, top, experts=experts, references=references
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tasks."""
        return tuple(task.name for task in self.tasks)

    def labeller(self) -> Labeller:
        """The labeller, loaded once in a process however many threads ask.

        Raises:
            UsageError: the bundle was replaced since it was planned with.
        """
        return LOADED.labeller(self)


def check_top(top: object) -> None:
    """Raises `UsageError` unless it is a number of words that can be kept."""
    if not isinstance(top, int) or not 0 <= top <= 100:
        raise UsageError(f"top={top!r} is not a whole number between 0 and 100", parameter="top")


class LoadedModels:
    """The labellers that this process has in memory, by bundle, digest and tasks.

    Threads of an engine share them: a model is read once and is in memory once. They stay until
    the process ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._labellers: dict[tuple[str, str, tuple[str, ...]], Labeller] = {}
        self._seconds: dict[tuple[str, str, tuple[str, ...]], float] = {}

    def labeller(self, labelling: Labelling) -> Labeller:
        """The labeller of these tasks, loaded by the first thread that asks.

        Raises:
            UsageError: the bundle has another digest: it was replaced.
        """
        # the threads that label are a core's each: the tokenizer's own would only compete
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        key = _key(labelling)
        with self._lock:
            if key not in self._labellers:
                started = time.monotonic()
                self._labellers[key] = _load(labelling)
                self._seconds[key] = time.monotonic() - started
            return self._labellers[key]

    def take_seconds(self, labelling: Labelling) -> float | None:
        """How long loading took, to whoever asks first; None to all others."""
        with self._lock:
            return self._seconds.pop(_key(labelling), None)


def _key(labelling: Labelling) -> tuple[str, str, tuple[str, ...]]:
    return labelling.model, labelling.digest, labelling.names


def _load(labelling: Labelling) -> Labeller:
    with reaching("model", labelling.model):
        bundle = bundles.load(labelling.model)
    if bundle.digest != labelling.digest:
        raise UsageError(
            f"model {labelling.model} has digest {bundle.digest[:12]}, the job was planned with "
            f"{labelling.digest[:12]}: it was replaced meanwhile; run again",
            parameter="model",
        )
    return Labeller(bundle, labelling.names)


LOADED = LoadedModels()
"""Those of this process: engines make the functions that label anew for each thread and job, so
there is no object of theirs that could hold the model."""
