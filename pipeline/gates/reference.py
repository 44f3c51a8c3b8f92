"""How often a model gave each label as it was made, to compare a night's labels with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glossator.model.bundle import Bundle
from glossator.model.tasks import Task


def reference(bundle: Bundle, task: Task) -> tuple[float, ...] | None:
    """[labels] the shares of test rows that were given each label, or of training rows that had it.

    None where the bundle has neither on record: of a multi task's training rows it has only counts
    of labels, which say nothing of shares.
    """
    given = _below(bundle.metrics, "prevalence", task.name, "given")
    if given is None and task.kind == "single":
        counts = _below(bundle.provenance, "labels", task.name)
        if isinstance(counts, Mapping):
            given = [counts.get(label) for label in task.labels]
    if not isinstance(given, list) or len(given) != len(task.labels):
        return None
    if not all(isinstance(share, (int, float)) and share >= 0 for share in given):
        return None
    total = sum(given) if task.kind == "single" else 1
    return tuple(share / total for share in given) if total else None


def _below(content: Any, *path: str) -> Any:
    """What lies deeper in what was JSON; None if it is not there."""
    for name in path:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content
