"""What `LabelComments` refuses, and what its document shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import shell
from composed import Seen

from glossator.model.errors import UsageError
from glossator.pipeline.compose import LabelComments
from glossator.pipeline.labelling import Labelling

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([{"text": "good"}], {}, "takes Arrow tables or rows with a schema, not"),
        (
            [beam.Row(a="x", b="y")],
            {},
            r"which column is the text\?.* a, b: name it",
        ),
        ([beam.Row(a="x")], {"text": "b"}, "the rows: no column 'b'; its columns are a"),
        ([beam.Row(a=1)], {"text": "a"}, "the rows: column 'a' is int64, not text"),
        ([beam.Row(a=[1])], {"text": "a"}, "the rows: column 'a' is struct<>, not text"),
        (
            [beam.Row(text="x", stars=1)],
            {},
            "'stars': the output has the task's column 'stars': rename",
        ),
        ([beam.Row(text="x", reason=1)], {}, "'reason': the output has a column 'reason': rename"),
        ([pa.table({"a": ["x"]})], {"text": "b"}, "the table: no column 'b'; its columns are a"),
        ([pa.table({"a": [1]})], {"text": "a"}, "the table: column 'a' is int64, not text"),
        ([pa.table({"text": ["x"], "stars": [1]})], {}, "the task's column 'stars': rename"),
        ([pa.table({"text": ["x"], "Stars": [1]})], {}, "'Stars': .* the task's column 'stars'"),
        ([pa.table({"text": ["x"], "detail": [1]})], {}, "'detail': the output has a column 'det"),
        ([pa.table({"text": ["x"], "DETAIL": [1]})], {}, "'DETAIL': .* has a column 'detail'"),
    ],
)
def test_what_can_not_be_labelled_is_said(
    outputs: Callable[..., list[Seen]],
    bundle: Path,
    given: list[Any],
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(Exception, match=message):
        outputs(given, LabelComments(str(bundle), **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nowhere"}, "nowhere"),
        ({"tasks": ["tone"]}, "unknown task 'tone'"),
        ({"tasks": "sentiment"}, "tasks='sentiment' is one string: give a list of names"),
        ({"top": 101}, "top=101 is not a whole number between 0 and 100"),
        ({"top": "5"}, "top='5' is not a whole number"),
    ],
)
def test_what_can_not_be_asked_for_is_said_at_once(
    bundle: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        LabelComments(**{"model": str(bundle), **options})


@pytest.mark.parametrize("element", [{"text": "good"}, "good", beam.Row(a=1, b=2)])
def test_elements_are_refused_before_anything_runs(bundle: Path, element: Any) -> None:
    root = beam.Pipeline("FnApiRunner")
    with pytest.raises(UsageError):
        root | beam.Create([element]) | LabelComments(str(bundle))


def test_untyped_elements_are_refused_at_run_time(
    outputs: Callable[..., list[Seen]], bundle: Path
) -> None:
    untyped = beam.Map(lambda x: x).with_output_types(Any)
    with pytest.raises(Exception, match="takes Arrow tables or rows with a schema, not"):
        outputs([3], LabelComments(str(bundle)), untyped)


def test_relative_bundle_is_found_from_another_folder(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.parent)
    labelling = Labelling.of(bundle.name)
    monkeypatch.chdir(tmp_path)
    assert labelling.labeller().tasks == labelling.tasks
    assert Path(labelling.model) == bundle


DOCUMENT = Path(__file__).parents[3] / "docs" / "compose.md"


def blocks(language: str) -> list[str]:
    """The code of the document's blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)


SAID = [
    "",
    "1 pos\n2 null\n",
    "comment: [[null]]",
    "product 2\n",
]
"""What each Python block of the document prints, or a part of it."""


@pytest.mark.parametrize(("code", "said"), zip(blocks("python"), SAID, strict=True))
def test_document_runs(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "examples").symlink_to(DOCUMENT.parents[1] / "examples")
    (tmp_path / "block.py").write_text(code)
    done = shell("block.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert max(map(len, code.splitlines())) <= 100
    if "out/labels" in code:
        labels = pq.read_table(next((tmp_path / "out").glob("labels*")))
        rejects = pq.read_table(next((tmp_path / "out").glob("rejects*")))
        assert (labels.num_rows, rejects.num_rows) == (26, 2)
