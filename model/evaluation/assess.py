"""What a trained model is worth: metrics on rows that it did not learn from, and its duels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from glossator.model.bundle import Bundle
from glossator.model.evaluation import duel, faithfulness, swaps
from glossator.model.evaluation.baseline import Baseline, available
from glossator.model.evaluation.duel import Answers, Duel
from glossator.model.evaluation.evaluate import evaluate, logits, measure
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.progress import Report
from glossator.model.tasks import Task


def assess(
    bundle: Bundle,
    data: Dataset,
    report: Report,
    alone: Callable[[Task], Bundle] | None = None,
) -> dict[str, Any]:
    """The metrics of a bundle, by what they are of.

    - `test`, `baseline`: as `evaluate` gives them, of the model and of the baseline.
    - `validation`: of the model, by task, over all rows.
    - `faithfulness`, `swaps`: as the modules of those names give them.
    - `uncalibrated_ece`: on the test rows with every temperature 1, by task.
    - `prevalence`: on the test rows, by task, the share of each label: `true`, `given`, and
      `corrected` by the errors on validation rows.
    - `duel`, `twins`: a `Duel` by task, against the baseline and against the task learnt alone.

    Args:
        bundle: calibrated.
        data: what it was trained on; nothing is measured without rows of split test.
        report: receives lines of progress.
        alone: trains one task by itself as the bundle was trained; without it there are no twins.
    """
    train, validation, test = (
        data.select(data.split == split) for split in ("train", "validation", "test")
    )
    if not len(test):
        report("no rows of split test: nothing is measured; name a split column that has them")
        return {}
    answers, plain = _answers(bundle, test)
    predicted = {name: given.predicted for name, given in answers.items()}
    accept = {name: calibration.accept for name, calibration in bundle.calibration.items()}
    metrics: dict[str, Any] = {"test": evaluate(bundle.tasks, test, predicted, accept=accept)}
    report("what marked words are worth, and what it changes when people in a text change sex")
    metrics["faithfulness"] = faithfulness.measure(bundle, test)
    metrics["swaps"] = swaps.measure(bundle, test.texts)
    metrics["validation"] = _validation(bundle, validation)
    metrics["uncalibrated_ece"] = {
        task.name: error
        for task in bundle.tasks
        if (error := _calibration_error(task, test, plain[task.name])) is not None
    }
    metrics["prevalence"] = {
        task.name: shares
        for task in bundle.tasks
        if (shares := _prevalence(task, metrics["validation"], metrics["test"])) is not None
    }
    if available():
        metrics |= _against_baseline(bundle.tasks, (train, validation, test), answers, report)
    else:
        report("no baseline beside it: pip install 'glossator[baseline]' brings one")
    if alone is not None:

        def twin(task: Task) -> Answers:
            report(f"{task.name} alone: the same network learns this task by itself")
            return _answers(alone(task), test)[0][task.name]

        metrics["twins"] = duel.together(bundle.tasks, test, answers, twin)
    return metrics


def _answers(bundle: Bundle, rows: Dataset) -> tuple[dict[str, Answers], dict[str, Answers]]:
    """By task what a model gives, and what it would without its temperatures and shifts."""
    raw = logits(Labeller(bundle, [task.name for task in bundle.tasks]), rows.texts)
    calibrated: dict[str, Answers] = {}
    plain: dict[str, Answers] = {}
    for task in bundle.tasks:
        calibration = bundle.calibration[task.name]
        uncalibrated = replace(calibration, scale=1.0, shift=0.0)
        for into, used in ((calibrated, calibration), (plain, uncalibrated)):
            given = task.rules.probabilities(raw[task.name], used)
            into[task.name] = Answers(given, calibration.accept)
    return calibrated, plain


def _validation(bundle: Bundle, rows: Dataset) -> dict[str, Any]:
    answers, _ = _answers(bundle, rows)
    result = {}
    for task in bundle.tasks:
        labels = rows.labels[task.name]
        seen = task.rules.observed(labels)
        predicted, accept = answers[task.name]
        result[task.name] = {"all": measure(task, labels[seen], predicted[seen], accept)}
    return result


def _calibration_error(task: Task, rows: Dataset, given: Answers) -> float | None:
    labels = rows.labels[task.name]
    seen = task.rules.observed(labels)
    return task.rules.calibration_error(labels[seen], given.predicted[seen]) if seen.any() else None


def _prevalence(
    task: Task, validation: dict[str, Any], test: dict[str, Any]
) -> dict[str, Any] | None:
    measured = test[task.name].get("all", {})
    if "by_label" not in measured:
        return None
    true, given = (np.array(measured["by_label"][k]) / measured["rows"] for k in ("rows", "given"))
    shares = task.rules.true_shares(given, validation[task.name]["all"])
    return {"true": true.tolist(), "given": given.tolist(), "corrected": shares}


def _against_baseline(
    tasks: tuple[Task, ...],
    parts: tuple[Dataset, Dataset, Dataset],
    answers: dict[str, Answers],
    report: Report,
) -> dict[str, Any]:
    train, _, test = parts
    report(f"baseline: counting the n-grams of {len(train):,} texts")
    baseline = Baseline(*parts)
    duels: dict[str, Duel] = {}
    fitted: dict[str, Answers] = {}
    for task in tasks:
        try:
            fitted[task.name], strength = baseline.answers(task)
        except ValueError as error:
            duels[task.name] = duel.skipped(str(error))
            report(f"no baseline for {task.name}: {error}")
            continue
        duels[task.name] = duel.compare(task, test, answers[task.name], fitted[task.name])
        report(
            f"baseline for {task.name}: linear on n-grams of the same rows, C {strength:g}; the "
            f"model beside it: {duels[task.name]['verdict']}"
        )
    measured = evaluate(
        tuple(task for task in tasks if task.name in fitted),
        test,
        {name: given.predicted for name, given in fitted.items()},
        accept={name: given.accept for name, given in fitted.items() if given.accept is not None},
    )
    return {"baseline": measured, "duel": duels}
