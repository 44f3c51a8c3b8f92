"""Beam's RunInference as its documentation shows it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from glossator.model.tasks import Task
from glossator.pipeline.rivals.running import Settings, run


def get_ready(settings: Settings, folder: Path) -> None:
    """Makes a network of random weights."""
    import torch

    from glossator.model import bundle as bundles
    from glossator.model.architecture import NetworkConfig
    from glossator.model.network import AttentionRNN

    bundle = bundles.load(settings.model)
    tasks = [task for task in bundle.tasks if task.name in settings.tasks]
    (folder / "tokenizer.json").write_text(bundle.tokenizer.to_json())
    config = NetworkConfig(vocabulary=bundle.tokenizer.size)
    torch.save(AttentionRNN(config, tasks).state_dict(), folder / "network.pt")
    (folder / "parameters.pickle").write_bytes(pickle.dumps({"config": config, "tasks": tasks}))


def answer_schema(tasks: Sequence[Task], label: pa.DataType) -> pa.Schema:
    """The columns that are written: of each task the label, its confidence, the heaviest words."""
    return pa.schema(
        [
            field
            for task in tasks
            for field in (
                pa.field(task.name, label),
                pa.field(f"{task.name}_confidence", pa.float32()),
                pa.field(f"{task.name}_words", pa.list_(pa.int32())),
            )
        ]
    )


def beam_flags(settings: Settings) -> list[str]:
    """Beam's local workers, a process for each of so many."""
    return ["--direct_running_mode=multi_processing", f"--direct_num_workers={settings.workers}"]


def _label(settings: Settings, folder: Path) -> None:
    import apache_beam as beam
    from apache_beam.ml.inference.base import RunInference
    from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
    from apache_beam.options.pipeline_options import PipelineOptions
    from tokenizers import Tokenizer

    from glossator.model.network import AttentionRNN

    parameters = pickle.loads((folder / "parameters.pickle").read_bytes())
    tasks = list(parameters["tasks"])

    class Tokenize(beam.DoFn):
        def setup(self) -> None:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

        def process(self, row: dict[str, Any]) -> Any:
            import torch

            yield torch.tensor(self._tokenizer.encode(row["text"]).ids or [0])

    def infer(batch: Any, model: Any, device: Any, arguments: Any, model_id: Any = None) -> Any:
        import torch
        from apache_beam.ml.inference.base import PredictionResult

        lengths = torch.tensor([len(ids) for ids in batch])
        with torch.no_grad():
            given = model(torch.nn.utils.rnn.pad_sequence(batch, batch_first=True), lengths)
        for i, ids in enumerate(batch):
            one = {name: (out.logits[i], out.attention[i]) for name, out in given.items()}
            yield PredictionResult(ids, one)

    def row(result: Any) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for task in tasks:
            logits, attention = result.inference[task.name]
            answers[task.name] = int(logits.argmax())
            answers[f"{task.name}_confidence"] = float(logits.softmax(0).max())
            heaviest = attention.topk(min(5, len(result.example))).indices
            answers[f"{task.name}_words"] = heaviest.tolist()
        return answers

    handler = PytorchModelHandlerTensor(
        state_dict_path=str(folder / "network.pt"),
        model_class=AttentionRNN,
        model_params=parameters,
        inference_fn=infer,
    )
    options = PipelineOptions(beam_flags(settings))
    with beam.Pipeline("DirectRunner", options=options) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquet(f"{settings.source}/*.parquet", columns=["text"])
            | beam.ParDo(Tokenize())
            | RunInference(handler)
            | beam.Map(row)
            | beam.io.WriteToParquet(
                str(folder / "out" / "part"),
                answer_schema(tasks, pa.int32()),
                file_name_suffix=".parquet",
            )
        )


if __name__ == "__main__":
    run(_label)
