from __future__ import annotations

import os
import pickle
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.internal import pickler
from apache_beam.metrics import MetricsFilter
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    KeyModelMapping,
    ModelMetadata,
    PredictionResult,
    RunInference,
)
from sample_comments import make_comments

from glossator.model import bundle as bundles
from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller
from glossator.pipeline.inference import TableModelHandler
from glossator.pipeline.tables import Outputs, label_table

pytestmark = pytest.mark.usefixtures("deadline")
NAMES = ["sentiment", "themes", "stars"]
BAD = pa.table({"id": [9], "stars": [1], "text": ["good"]})


class Keep(beam.DoFn):
    """Leaves what it gets in a folder, from whatever process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def process(self, element: Any) -> None:
        name = f"{time.monotonic_ns():020d}-{uuid.uuid4().hex}"
        (self._folder / name).write_bytes(pickle.dumps(element))


class Metrics:
    """What a pipeline counted."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def __call__(self, name: str, namespace: str = "glossator") -> Any:
        named = MetricsFilter().with_name(name).with_namespace(namespace)
        found = self._result.metrics().query(named)
        (one,) = found["counters"] + found["distributions"]
        return one.result


Infer = Callable[..., tuple[list[Any], Metrics]]


@pytest.fixture
def infer(tmp_path: Path) -> Infer:
    """What `RunInference` makes of elements, and what it counts."""

    def run(elements: list[Any], transform: Any) -> tuple[list[Any], Metrics]:
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        root = beam.Pipeline("FnApiRunner")
        if callable(transform):
            transform = transform(root)
        root | beam.Create(elements, reshuffle=False) | transform | beam.ParDo(Keep(folder))
        result = root.run()
        result.wait_until_finish()
        kept = [pickle.loads(path.read_bytes()) for path in sorted(folder.iterdir())]
        return kept, Metrics(result)

    return run


@pytest.fixture(scope="module")
def tables() -> list[pa.Table]:
    texts: list[str | None] = [*make_comments(20, seed=3), None, " ", *make_comments(8, seed=4)]
    whole = pa.table({"id": range(30), "text": texts})
    return [whole.slice(i, 5) for i in range(0, 30, 5)]


def model_of(folder: Path, names: list[str] | None = None) -> Labeller:
    return Labeller(bundles.load(folder), names or NAMES)


def said(predictions: list[PredictionResult]) -> list[Outputs]:
    return [prediction.inference for prediction in predictions]


@pytest.fixture(scope="module")
def expected(bundle: Path, tables: list[pa.Table]) -> list[Outputs]:
    return [label_table(model_of(bundle), table) for table in tables]


def test_each_table_has_its_prediction(
    infer: Infer, bundle: Path, tables: list[pa.Table], expected: list[Outputs]
) -> None:
    predictions, _ = infer(tables, RunInference(TableModelHandler(str(bundle))))
    assert [prediction.example for prediction in predictions] == tables
    assert said(predictions) == expected
    assert {p.model_id for p in predictions} == {bundles.load(bundle).digest}
    assert sum(outputs.rejected.num_rows for outputs in said(predictions)) == 2
    assert sum(outputs.labelled.num_rows for outputs in said(predictions)) == 28


@pytest.mark.parametrize(
    ("options", "largest", "batches"),
    [
        ({}, 1, 6),
        ({"min_batch_size": 3, "max_batch_size": 3}, 3, 2),
        ({"max_batch_size": 10, "min_batch_size": 10, "element_size_fn": len}, 2, 3),
    ],
    ids=["one by one", "three tables", "ten rows"],
)
def test_batches_are_as_large_as_asked(
    infer: Infer,
    bundle: Path,
    tables: list[pa.Table],
    expected: list[Outputs],
    options: dict[str, Any],
    largest: int,
    batches: int,
) -> None:
    handler = TableModelHandler(str(bundle), **options)
    predictions, metrics = infer(tables, RunInference(handler))
    assert said(predictions) == expected
    sizes = metrics("inference_request_batch_size")
    assert (sizes.max, sizes.count) == (largest, batches)


def test_no_batching_takes_tables_and_lists_of_them(
    infer: Infer, bundle: Path, tables: list[pa.Table], expected: list[Outputs]
) -> None:
    handler = TableModelHandler(str(bundle)).with_no_batching()
    predictions, metrics = infer([tables[0], tables[1:]], RunInference(handler))
    assert said(predictions) == expected
    assert metrics("inference_request_batch_size").count == 2


def test_inference_args(infer: Infer, bundle: Path, tables: list[pa.Table]) -> None:
    handler = TableModelHandler(str(bundle), top=4)
    predictions, _ = infer(tables, RunInference(handler, inference_args={"top": 1}))
    assert said(predictions) == [label_table(model_of(bundle), t, top=1) for t in tables]
    predictions, _ = infer(tables, RunInference(handler))
    assert said(predictions) == [label_table(model_of(bundle), t, top=4) for t in tables]


@pytest.mark.parametrize(
    ("given", "message"),
    [({"tpo": 1}, "inference_args has 'tpo'; known: top"), ({"top": -1}, "top=-1 is not")],
)
def test_inference_args_that_are_wrong(
    infer: Infer, bundle: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        infer([], RunInference(TableModelHandler(str(bundle)), inference_args=given))


def test_option_that_nobody_knows(bundle: Path) -> None:
    with pytest.raises(UsageError, match="unknown option 'task'; known: batch_bucket_boundaries"):
        TableModelHandler(str(bundle), task=["stars"])


def test_tasks_and_text(infer: Infer, bundle: Path) -> None:
    handler = TableModelHandler(str(bundle), text="b", tasks=["gender"])
    given = pa.table({"a": ["x"], "b": ["good"]})
    (prediction,), _ = infer([given], RunInference(handler))
    assert prediction.inference == label_table(model_of(bundle, ["gender"]), given, "b")


@pytest.mark.parametrize("namespace", [None, "mine"])
def test_metrics(infer: Infer, bundle: Path, tables: list[pa.Table], namespace: str | None) -> None:
    handler = TableModelHandler(str(bundle))
    _, metrics = infer(tables, RunInference(handler, metrics_namespace=namespace))
    theirs = namespace or "glossator"
    assert metrics("num_inferences", theirs) == 6
    size = metrics("inference_request_batch_byte_size", theirs)
    travelled = [pickle.loads(pickle.dumps(table)) for table in tables]
    assert size.sum == sum(table.nbytes for table in travelled)  # not what pickling would take
    assert metrics("rows_read") == 30
    assert metrics("rows_labelled") == 28
    assert metrics("rejects_null") == metrics("rejects_empty") == 1


def test_bad_table_takes_no_other_with_it(
    bundle: Path, tables: list[pa.Table], expected: list[Outputs], tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir(), bad.mkdir()
    with beam.Pipeline("FnApiRunner") as root:
        given = root | beam.Create([*tables[:3], BAD, *tables[3:]], reshuffle=False)
        results, dead = given | (
            RunInference(TableModelHandler(str(bundle))).with_exception_handling()
        )
        results | "Good" >> beam.ParDo(Keep(good))
        dead.failed_inferences | "Bad" >> beam.ParDo(Keep(bad))
    assert said([pickle.loads(p.read_bytes()) for p in sorted(good.iterdir())]) == expected
    ((batch, error),) = [pickle.loads(path.read_bytes()) for path in bad.iterdir()]
    assert batch == [BAD]
    assert error[0] is UsageError
    assert "the output has the task's column 'stars'" in error[1]


def test_keys_are_kept(
    infer: Infer, bundle: Path, tables: list[pa.Table], expected: list[Outputs]
) -> None:
    keyed = list(zip("abcdef", tables, strict=True))
    handler = KeyedModelHandler(TableModelHandler(str(bundle)))
    predictions, _ = infer(keyed, RunInference(handler))
    assert [key for key, _ in predictions] == list("abcdef")
    assert said([prediction for _, prediction in predictions]) == expected


def test_a_model_for_each_key(
    infer: Infer, bundle: Path, other_bundle: Path, tables: list[pa.Table]
) -> None:
    handler = KeyedModelHandler(
        [
            KeyModelMapping(["a"], TableModelHandler(str(bundle))),
            KeyModelMapping(["b"], TableModelHandler(str(other_bundle))),
        ]
    )
    keyed = [("a", tables[0]), ("b", tables[0])]
    predictions, _ = infer(keyed, RunInference(handler))
    models = {"a": model_of(bundle), "b": model_of(other_bundle)}
    assert {key: p.inference for key, p in predictions} == {
        key: label_table(model, tables[0]) for key, model in models.items()
    }
    assert models["a"].calibration != models["b"].calibration


def test_functions_before_and_after(
    infer: Infer, bundle: Path, tables: list[pa.Table], expected: list[Outputs]
) -> None:
    handler = (
        TableModelHandler(str(bundle))
        .with_preprocess_fn(lambda batch: pa.Table.from_batches([batch]))
        .with_postprocess_fn(lambda prediction: prediction.inference.labelled)
    )
    batches = [batch for table in tables for batch in table.to_batches()]
    labelled, _ = infer(batches, RunInference(handler))
    assert labelled == [outputs.labelled for outputs in expected]


@pytest.mark.parametrize("options", [{"large_model": True}, {"model_copies": 2}])
def test_model_in_a_process_that_others_share(
    infer: Infer,
    bundle: Path,
    tables: list[pa.Table],
    expected: list[Outputs],
    options: dict[str, Any],
) -> None:
    handler = TableModelHandler(str(bundle), **options)
    assert handler.share_model_across_processes()
    predictions, metrics = infer(tables, RunInference(handler))
    assert said(predictions) == expected
    assert metrics("rows_read") == 30  # counted here, not where the model is


def test_one_identifier_for_two_steps(
    infer: Infer, bundle: Path, tables: list[pa.Table], expected: list[Outputs]
) -> None:
    handler = TableModelHandler(str(bundle), large_model=True)
    first = RunInference(handler, model_identifier=f"m-{uuid.uuid4().hex}")
    predictions, _ = infer(tables, first)
    again, _ = infer(tables, RunInference(handler, model_identifier=first._model_tag))
    assert said(predictions) == said(again) == expected


@pytest.mark.parametrize("suffix", ["", "/bundle.json"])
def test_refresh(
    infer: Infer, bundle: Path, other_bundle: Path, tables: list[pa.Table], suffix: str
) -> None:
    def refreshed(root: beam.Pipeline) -> RunInference:
        news = root | "News" >> beam.Create([ModelMetadata(f"{other_bundle}{suffix}", "v2")])
        return RunInference(TableModelHandler(str(bundle)), model_metadata_pcoll=news)

    predictions, metrics = infer(tables, refreshed)
    assert said(predictions) == [label_table(model_of(other_bundle), t) for t in tables]
    assert {p.model_id for p in predictions} == {bundles.load(other_bundle).digest}
    assert metrics("v2_num_inferences") == 6


def test_refresh_without_a_task_is_refused(
    infer: Infer, bundle: Path, tables: list[pa.Table]
) -> None:
    def refreshed(root: beam.Pipeline) -> RunInference:
        news = root | "News" >> beam.Create([ModelMetadata(bundles.DEFAULT, "v2")])
        return RunInference(TableModelHandler(str(bundle)), model_metadata_pcoll=news)

    with pytest.raises(Exception, match="unknown task 'stars'"):
        infer(tables, refreshed)


def test_environment(infer: Infer, bundle: Path, tables: list[pa.Table]) -> None:
    name = f"GLOSSATOR_TEST_{uuid.uuid4().hex}"
    handler = TableModelHandler(str(bundle), env_vars={name: "set"})
    assert name not in os.environ
    infer(tables, RunInference(handler))
    assert os.environ.pop(name) == "set"


def test_no_weights_travel() -> None:
    handler = TableModelHandler()
    handler.load_model()
    pickled = pickler.dumps(handler)
    assert len(pickled) < 4000  # the weights are nine million
    assert pickler.loads(pickled).load_model().label([], None, 5)[0] == []


def test_bundle_that_was_replaced_is_refused(
    trained: bundles.Bundle, other_bundle: Path, tmp_path: Path
) -> None:
    bundles.save(trained, tmp_path)
    handler = TableModelHandler(str(tmp_path))
    bundles.save(bundles.load(other_bundle), tmp_path)
    with pytest.raises(UsageError, match="it was replaced meanwhile"):
        handler.load_model()
