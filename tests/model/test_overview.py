"""Which labels there are, counted another way; where they are missing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats.contingency import association, crosstab

from glossator.model.errors import UsageError
from glossator.model.labelled.dataset import Dataset
from glossator.model.labelled.overview import describe, table
from glossator.model.labelled.splits import Leaks
from glossator.model.tasks import Task

MOOD = Task("mood", "single", ("bad", "fair", "good"))
TOPICS = Task("topics", "multi", ("stock", "news"))
STARS = Task("stars", "regression")
TASKS = (MOOD, TOPICS, STARS)


def made(rows: int = 600, seed: int = 0, **columns: Any) -> Dataset:
    """Rows of which any label may be missing, at random."""
    generator = np.random.default_rng(seed)
    mood = generator.integers(-1, 3, rows)
    topics = generator.integers(0, 2, (rows, 2)).astype(np.float32)
    topics[generator.random(rows) < 0.3] = np.nan
    stars = np.where(generator.random(rows) < 0.5, np.nan, 3).astype(np.float32)
    data = Dataset(
        texts=[f"text {i}" for i in range(rows)],
        labels={"mood": mood, "topics": topics, "stars": stars},
        split=np.array(["train", "train", "validation", "test"] * (rows // 4), object),
        lang=generator.choice(["en", "zh", ""], rows).astype(object),
        source=generator.choice(["shop", "forum"], rows).astype(object),
        leaks=Leaks(3, 2, 1, 1),
    )
    return replace(data, **columns)


def test_rows_are_counted_by_task_and_split_and_together() -> None:
    data = made()
    found = describe(data, TASKS)
    seen = {
        "mood": [v >= 0 for v in data.labels["mood"]],
        "topics": [not np.isnan(v[0]) for v in data.labels["topics"]],
        "stars": [not np.isnan(v) for v in data.labels["stars"]],
    }
    for name, own in seen.items():
        for split in ("train", "validation", "test"):
            rows = [s for s, there in zip(data.split, own, strict=True) if there and s == split]
            assert found.rows[name][split] == len(rows)
        for other, others in seen.items():
            both = sum(a and b for a, b in zip(own, others, strict=True))
            assert found.together[name][other] == both
        assert found.effective[name] == found.rows[name]["train"]
    assert found.never == {}
    assert found.leaks == {"in_two_splits": 3, "contradicting": 2, "affected": 1, "kept_out": 1}
    assert json.loads(json.dumps(found.to_json()))["together"] == found.together
    head, mood, *_ = table(found.to_json())
    assert head == ["task", "train", "validation", "test", "and mood", "and topics", "and stars"]
    assert mood[1:] == [
        *map(str, found.rows["mood"].values()),
        *("", str(found.together["mood"]["topics"]), str(found.together["mood"]["stars"])),
    ]


def test_weights_make_fewer_rows_effective() -> None:
    weight = np.where(np.arange(600) % 4 == 0, 3, 1).astype(np.float32)
    data = made(weight=weight)
    data.labels["stars"][:] = 1
    # of 300 train rows 150 have weight 3 and 150 weight 1
    assert describe(data, TASKS).effective["stars"] == pytest.approx(600**2 / 1500)


def test_labels_missing_at_random_are_no_matter() -> None:
    for seed in range(10):
        found = describe(made(seed=seed), TASKS)
        assert found.uneven == []
        assert found.warnings() == []


def test_labels_missing_by_source_or_language_are_warned_of() -> None:
    data = made()
    shop = data.source == "shop"
    data.labels["mood"][shop & (np.arange(600) % 10 != 0)] = -1
    (found,) = describe(data, TASKS).uneven
    seen = data.labels["mood"] >= 0
    table = crosstab(data.source, seen).count
    assert (found.task, found.by) == ("mood", "source")
    assert found.association == pytest.approx(association(table, method="cramer"), abs=1e-4)
    assert found.most == ("forum", pytest.approx(seen[~shop].mean(), abs=1e-4))
    assert found.least == ("shop", pytest.approx(seen[shop].mean(), abs=1e-4))
    (line,) = describe(data, TASKS).warnings()
    assert line.startswith("task 'mood': labels are not missing at random: 7")
    assert line.endswith("% of 'shop'; it may learn to tell the source")


def test_columns_that_are_empty_or_of_one_value_say_nothing() -> None:
    data = made(lang=np.full(600, "", object), source=np.full(600, "shop", object))
    assert describe(data, TASKS).uneven == []
    # a source of its own for each row: nothing but chance
    data = made(source=np.array([f"source {i}" for i in range(600)], object))
    assert describe(data, TASKS).uneven == []


def test_a_label_that_never_occurs_in_train_is_warned_of() -> None:
    data = made()
    train = data.split == "train"
    data.labels["mood"][train & (data.labels["mood"] == 1)] = -1
    data.labels["topics"][train, 0] = 0
    found = describe(data, TASKS)
    assert found.never == {"mood": ["fair"], "topics": ["stock"]}
    assert found.warnings()[0] == (
        "task 'mood': no row of split train has fair, which can't be learnt"
    )


def test_labels_that_teach_nothing_are_refused() -> None:
    data = made()
    train = data.split == "train"
    data.labels["mood"][train] = 2
    with pytest.raises(UsageError, match="task 'mood': there is only 'good' on the rows of split"):
        describe(data, TASKS)
    data = made()
    data.labels["topics"][train] = 0
    with pytest.raises(UsageError, match="task 'topics': there is no label on the rows of split"):
        describe(data, TASKS)
