"""The share of the n-gram expert: in every form of the output where it has a say, else in none."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.typehints.arrow_type_compatibility import arrow_schema_from_beam_schema
from apache_beam.typehints.schemas import schema_from_element_type
from command_lines import glossator
from composed import NAMES, Seen, of, plain, rows_of
from experts import with_expert
from outputs import current
from sample_comments import TASKS, answer_alone, make_comments, write_comments

from glossator.model.bundle import Bundle, save
from glossator.model.labeller import Labeller
from glossator.pipeline.compose import LabelComments
from glossator.pipeline.outputs.kinds import SHAPES

pytestmark = pytest.mark.usefixtures("deadline")

TEXTS = [*make_comments(60, seed=6), "很好 😀", "a"]
EXPERTS = {"sentiment", "stars"}


class Comment(NamedTuple):
    id: int
    text: str


@pytest.fixture(scope="module")
def expert(trained: Bundle) -> Bundle:
    return with_expert(trained, [task for task in TASKS if task.name in EXPERTS], TEXTS)


@pytest.fixture(scope="module")
def folder(expert: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("expert")
    save(expert, folder)
    return folder


@pytest.fixture(scope="module")
def answers(expert: Bundle) -> list[dict[str, Any]]:
    model = Labeller(expert, NAMES)
    said = [answer_alone(model, text) for text in TEXTS]
    assert {name for name in said[0] if "expert" in said[0][name]} == EXPERTS
    assert len({row["sentiment"]["expert"] for row in said}) > 30
    return said


def with_share(schema: pa.Schema) -> set[str]:
    """The structs that end in the expert's share."""
    found = [field for field in schema if pa.types.is_struct(field.type)]
    assert all(field.type.names[-1] in ("entropy", "expert") for field in found)
    shares = [field for field in found if field.type.names[-1] == "expert"]
    assert all(field.type.field("expert").type == pa.float32() for field in shares)
    return {field.name for field in shares}


def test_the_job_writes_it(folder: Path, answers: list[dict[str, Any]], tmp_path: Path) -> None:
    source, out = write_comments(tmp_path / "in.parquet", TEXTS), tmp_path / "out"
    arguments = ("label", "--input", source, "--model", folder, "--key", "id", "--output", out)
    run = glossator(*arguments)
    assert run.returncode == 0, run.stderr
    labels = pq.read_table(next(current(out).glob("part-*.parquet")))
    assert with_share(labels.schema) == EXPERTS
    assert labels.select(NAMES).to_pylist() == answers


def test_tables_have_it(
    outputs: Callable[..., list[Seen]], folder: Path, answers: list[dict[str, Any]]
) -> None:
    table, label = pa.table({"text": TEXTS}), LabelComments(str(folder))
    labelled = of(outputs([table], label), "labelled")
    assert label.schemas(table.schema).labelled == labelled[0].schema
    assert with_share(labelled[0].schema) == EXPERTS
    assert [{name: row[name] for name in NAMES} for row in rows_of(labelled)] == answers


def test_rows_have_it(
    outputs: Callable[..., list[Seen]], folder: Path, answers: list[dict[str, Any]]
) -> None:
    given = [Comment(i, text) for i, text in enumerate(TEXTS)]
    typed = beam.Map(lambda row: row).with_output_types(Comment)
    rows = of(outputs(given, LabelComments(str(folder)), typed), "labelled")
    said = sorted(map(plain, rows), key=lambda row: row["id"])
    assert [{name: row[name] for name in NAMES} for row in said] == answers
    labelled, _ = (
        beam.Pipeline("FnApiRunner")
        | beam.Create([beam.Row(text="good")])
        | LabelComments(str(folder))
    )
    schema = arrow_schema_from_beam_schema(schema_from_element_type(labelled.element_type))
    assert with_share(schema) == EXPERTS


def test_rows_of_both_types_can_be_sent() -> None:
    for shape in SHAPES.values():
        without, having = shape.rows
        assert having._fields == (*without._fields, "expert")
        row = having(*range(len(having._fields)))
        assert pickle.loads(pickle.dumps(row)) == row
        assert type(pickle.loads(pickle.dumps(row))) is having
