"""Teachers that are files: what any model predicts of texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sample_comments import TASKS
from small_trainings import silent

from glossator.model.errors import UsageError
from glossator.model.training.predictions import read_predictions
from glossator.model.training.teachers import ask

SENTIMENT, THEMES, STARS = TASKS[0], TASKS[2], TASKS[3]
GOOD = {"neg": 0.25, "pos": 0.75}


def write(path: Path, **columns: list[object]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_what_is_said_stands_beside_its_text(tmp_path: Path) -> None:
    # the labels in another order than the task's
    turned = [{"pos": one["pos"], "neg": one["neg"]} for one in (GOOD, {"neg": 1.0, "pos": 0.0})]
    file = write(
        tmp_path / "said.parquet",
        text=["a", "b", "c", None],
        sentiment=[*turned, None, None],
        stars=[None, 4, 5, 1],
    )
    found = read_predictions(file, "text", (SENTIMENT, STARS))
    said = found.of(["c", "a", "new", "b"])
    columns = [list(SENTIMENT.labels).index(label) for label in ("neg", "pos")]
    nothing = [np.nan, np.nan]
    np.testing.assert_array_equal(
        said["sentiment"][:, columns], [nothing, [0.25, 0.75], nothing, [1.0, 0.0]]
    )
    np.testing.assert_array_equal(said["stars"], [[5], [np.nan], [np.nan], [4]])
    assert ask([found], (SENTIMENT, STARS), ["a"], silent)[0]["sentiment"].shape == (1, 2)


def test_a_task_that_no_file_speaks_of_is_not_taught(tmp_path: Path) -> None:
    file = write(tmp_path / "said.parquet", text=["a"], sentiment=[GOOD])
    assert set(read_predictions(file, "text", (SENTIMENT, STARS)).of(["a"])) == {"sentiment"}
    with pytest.raises(UsageError, match=r"predicts nothing of any task.* of stars, is to say"):
        read_predictions(file, "text", (STARS,))


def test_several_labels_need_not_add_up(tmp_path: Path) -> None:
    high = dict.fromkeys(THEMES.labels, 0.9)
    file = write(tmp_path / "said.parquet", text=["a"], themes=[high])
    assert read_predictions(file, "text", (THEMES,)).of(["a"])["themes"].min() == 0.9


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ([GOOD, {"neg": 0.5, "pos": 0.6}], r"row 1: \[.*\] is no prediction of a single task"),
        ([GOOD, {"neg": -0.5, "pos": 1.5}], r"row 1: .* is no prediction"),
        ([GOOD, {"neg": float("inf"), "pos": 0.5}], r"row 1: .* is no prediction"),
        ([GOOD, {"neg": None, "pos": 0.5}], r"row 1: .* is no prediction"),
        ([{"neg": 0.5, "good": 0.5}] * 2, r"is struct<.*>, not a struct of "),
        ([{"neg": "0.5", "pos": "x"}] * 2, r"holds no numbers"),
        (["pos", "neg"], r"is string, not a struct of "),
        ([1.0, 0.0], r"is double, not a struct of "),
    ],
)
def test_what_is_no_prediction_is_refused(tmp_path: Path, column: list[object], why: str) -> None:
    file = write(tmp_path / "said.parquet", text=["a", "b"], sentiment=column)
    with pytest.raises(UsageError, match=rf"said\.parquet, column 'sentiment'.*{why}"):
        read_predictions(file, "text", (SENTIMENT,))


@pytest.mark.parametrize("column", [[GOOD], [float("inf")], ["many"]])
def test_a_number_is_a_number(tmp_path: Path, column: list[object]) -> None:
    file = write(tmp_path / "said.parquet", text=["a"], stars=column)
    with pytest.raises(UsageError, match="column 'stars'"):
        read_predictions(file, "text", (STARS,))
