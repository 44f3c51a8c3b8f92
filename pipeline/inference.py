"""`TableModelHandler`: labelling through Beam's `RunInference`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from glossator.model import bundle as bundles
from glossator.model.bundle import DEFAULT
from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller
from glossator.pipeline.labelling import Labelling, check_top
from glossator.pipeline.metrics import NAMESPACE, Measures, emit
from glossator.pipeline.tables import Outputs, label_tables

_INDEX = "/bundle.json"
_OPTIONS = {"env_vars", *signature(ModelHandler.__init__).parameters} - {"self", "kwargs"}
"""What Beam's handlers take; of what they don't know they say nothing."""


class TableModel:
    """A labeller that takes tables. All is behind one method: Beam may call it by proxy."""

    def __init__(self, labeller: Labeller, digest: str) -> None:
        self._labeller = labeller
        self._digest = digest

    def label(
        self, tables: Sequence[pa.Table], text: str | None, top: int
    ) -> tuple[list[Outputs], list[Measures], str]:
        """The outputs of each table, what they took, and the model's digest."""
        return *label_tables(self._labeller, tables, text, top), self._digest


class TableModelHandler(ModelHandler[pa.Table, PredictionResult, TableModel]):
    """Lets `RunInference` label Arrow tables.

    ::

        predictions = tables | RunInference(TableModelHandler("gs://bucket/bundle", text="comment"))

    An example is a `pa.Table`; its prediction is a `PredictionResult` whose `inference` is
    `Outputs(labelled, rejected)`, two tables as `LabelComments` gives them, and whose `model_id`
    is the digest of the bundle that labelled it.

    A batch is one table, unless batch sizes are given: an error then takes no other table with
    it to the dead letters. Small tables are labelled faster together; `min_batch_size` and
    `max_batch_size` count tables, or rows with `element_size_fn=lambda table: table.num_rows`.
    With `with_no_batching()` an element is a list of tables, or a table. `inference_args` may
    hold `top`.

    The model can be refreshed while the pipeline runs: a bundle's URI, or that of its
    `bundle.json`, as `model_id` of the side input. It must know the tasks of the first.
    """

    def __init__(
        self,
        model: str = DEFAULT,
        text: str | None = None,
        tasks: Sequence[str] | None = None,
        top: int = 5,
        **options: Any,
    ) -> None:
        """Reads the bundle and pins its digest.

        Args:
            model: a bundle's folder or URI, or `default` for the one inside the package.
            text: the text column; None to take the one that is clearly the text.
            tasks: names; None for all that are not sensitive.
            top: marked words kept of a comment and task.
            **options: what every handler takes: batch sizes, `large_model`, `model_copies`,
                `env_vars`.

        Raises:
            UsageError: there is no such bundle, task or option, or `top` is not between 0
                and 100.
        """
        if unknown := sorted(set(options) - _OPTIONS):
            raise UsageError(f"unknown option {unknown[0]!r}; known: {', '.join(sorted(_OPTIONS))}")
        if not {"min_batch_size", "max_batch_size"} & set(options):
            options["max_batch_size"] = 1
        super().__init__(**options)
        self._labelling = Labelling.of(model, text, tasks, top)
        self._refreshed: str | None = None

    def load_model(self) -> TableModel:
        """The model: as it was pinned, or as a refresh gives it.

        Raises:
            UsageError: the bundle was replaced or lacks a task.
        """
        if self._refreshed is None:
            return TableModel(self._labelling.labeller(), self._labelling.digest)
        bundle = bundles.load(self._refreshed)
        return TableModel(Labeller(bundle, self._labelling.names), bundle.digest)

    def run_inference(
        self,
        batch: Sequence[pa.Table] | pa.Table,
        model: TableModel,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterator[PredictionResult]:
        """Labels a batch of tables."""
        tables = _tables(batch)
        top = (inference_args or {}).get("top", self._labelling.top)
        outputs, measured, digest = model.label(tables, self._labelling.text, top)
        for one in measured:
            emit(one)
        return map(PredictionResult, tables, outputs, [digest] * len(tables))

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        """Raises `UsageError` unless it is `top` and a number of words."""
        for name, value in (inference_args or {}).items():
            if name != "top":
                raise UsageError(f"inference_args has {name!r}; known: top")
            check_top(value)

    def update_model_path(self, model_path: str | None = None) -> None:
        """Takes the model from here from the next load on."""
        if model_path:
            self._refreshed = model_path.removesuffix(_INDEX)

    def get_num_bytes(self, batch: Sequence[pa.Table] | pa.Table) -> int:
        """Of the tables in memory; nothing is pickled."""
        return sum(table.nbytes for table in _tables(batch))

    def get_metrics_namespace(self) -> str:
        """Where `RunInference` counts, beside the rows that are counted here."""
        return NAMESPACE


def _tables(batch: Sequence[pa.Table] | pa.Table) -> Sequence[pa.Table]:
    return [batch] if isinstance(batch, pa.Table) else batch
