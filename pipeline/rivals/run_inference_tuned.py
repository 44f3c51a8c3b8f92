"""Beam's RunInference with the job's network, as fast as its handler can be set up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import glossator.pipeline.rivals.network as networks
from glossator.model import bundle as bundles
from glossator.model.network import AttentionRNN
from glossator.pipeline.rivals.run_inference import answer_schema, beam_flags
from glossator.pipeline.rivals.running import Settings, run

_TEXTS = 1024
"""Of a batch."""


def get_ready(settings: Settings, folder: Path) -> None:
    """Keeps the weights."""
    import torch

    bundle = networks.get_ready(settings, folder)
    torch.save(bundle.network().state_dict(), folder / "network.pt")


def _label(settings: Settings, folder: Path) -> None:
    import apache_beam as beam
    from apache_beam.ml.inference.base import RunInference
    from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
    from apache_beam.options.pipeline_options import PipelineOptions
    from tokenizers import Tokenizer

    bundle = bundles.load(settings.model)
    tasks = [task for task in bundle.tasks if task.name in settings.tasks]
    max_tokens = bundle.tokenizer.max_tokens

    class Tokenize(beam.DoFn):
        def setup(self) -> None:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.enable_truncation(max_tokens)

        def process(self, table: pa.Table) -> Any:
            import torch

            for one in self._tokenizer.encode_batch_fast(table.column("text").to_pylist()):
                yield torch.tensor(one.ids or [0])

    def infer(batch: Any, model: Any, device: Any, arguments: Any, model_id: Any = None) -> Any:
        import torch
        from apache_beam.ml.inference.base import PredictionResult

        answers: list[dict[str, Any]] = [{} for _ in batch]
        lengths = np.array([len(ids) for ids in batch])
        for some in networks.batches(lengths):
            ids = torch.nn.utils.rnn.pad_sequence([batch[i] for i in some], batch_first=True)
            with torch.inference_mode():
                given = model(ids, torch.from_numpy(lengths[some]))
            for task in tasks:
                logits, attention = given[task.name]
                labels, confidence = networks.best(logits.numpy())
                words = networks.top(attention.numpy(), lengths[some])
                for i, label, one, heaviest in zip(some, labels, confidence, words, strict=True):
                    answers[i] |= {
                        task.name: task.labels[label],
                        f"{task.name}_confidence": float(one),
                        f"{task.name}_words": heaviest.tolist(),
                    }
        return map(PredictionResult, batch, answers)

    handler = PytorchModelHandlerTensor(
        state_dict_path=str(folder / "network.pt"),
        model_class=AttentionRNN,
        model_params={"config": bundle.config, "tasks": bundle.tasks},
        inference_fn=infer,
        min_batch_size=_TEXTS,
        max_batch_size=_TEXTS,
    )
    options = PipelineOptions(beam_flags(settings))
    with beam.Pipeline("DirectRunner", options=options) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquetBatched(f"{settings.source}/*.parquet", columns=["text"])
            | beam.ParDo(Tokenize())
            | RunInference(handler)
            | beam.Map(lambda result: result.inference)
            | beam.io.WriteToParquet(
                str(folder / "out" / "part"),
                answer_schema(tasks, pa.string()),
                file_name_suffix=".parquet",
            )
        )


if __name__ == "__main__":
    run(_label)
