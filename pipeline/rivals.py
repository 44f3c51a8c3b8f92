"""What one would write instead of this job, for `bench`: from Parquet to Parquet, for some tasks.

Each learns from what the job answered, so that speed alone is compared; learning is not timed.
Then it labels in a process of its own, which is timed from start to end.

- `tfidf`: TF-IDF of word 1- and 2-grams and character 1- to 4-grams, and logistic regression
  (scikit-learn); a process a core.
- `fasttext`: a fastText model a task, of word bigrams and characters 2 to 4; a process a core.
- `runinference`: Beam's RunInference with its PyTorch handler and a GRU of 128 units a direction
  with an attention a task, of random weights, as its documentation shows it; texts are padded to
  the longest of a batch.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from numpy.typing import NDArray

from glossator.model.errors import UsageError, shown
from glossator.pipeline.errors import JobError

_LEARNT = 20_000
"""Texts that a rival learns from, at most."""
_FEATURES = 300_000
"""N-grams of each kind that are kept, as in the baseline of training."""
_BATCH = 8192
_NEEDS = {"tfidf": "sklearn", "fasttext": "fasttext", "runinference": "torch"}
NAMES = tuple(_NEEDS)
_PACKAGES = {"sklearn": "scikit-learn", "fasttext": "fasttext-wheel", "torch": "torch"}


@dataclass(frozen=True)
class Settings:
    """What a rival is to do."""

    source: str
    """A folder of Parquet files with a column `text`."""
    labelled: str
    """The job's output of the same texts."""
    workers: int
    tasks: tuple[str, ...]


def check(name: str) -> None:
    """Raises `UsageError` unless there is such a rival, and all that it needs."""
    if name not in NAMES:
        raise UsageError(f"{shown(name)} is none of {', '.join(NAMES)}", parameter="against")
    if find_spec(_NEEDS[name]) is None:
        package = _PACKAGES[_NEEDS[name]]
        raise UsageError(f"{name} needs {package}: pip install {package}", parameter="against")


def rate(name: str, settings: Settings, folder: Path, rows: int) -> float:
    """Comments a second, of so many, that a rival labels, start-up included.

    Args:
        name: of the rival.
        settings: what it does.
        folder: for what it keeps and writes.
        rows: of the source.
    """
    (folder / "out").mkdir(parents=True)
    _GET_READY[name](settings, folder)
    (folder / "settings.json").write_text(json.dumps(asdict(settings)))
    command = [sys.executable, "-m", "glossator.pipeline.rivals", name, str(folder)]
    # a process a core: threads of their own beside that would wait for each other
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - started
    if ended.returncode:
        last = ended.stderr.strip().rpartition("\n")[2]
        raise JobError(f"{name} did not end well: {shown(last)}")
    written = sum(pq.read_metadata(path).num_rows for path in (folder / "out").glob("*.parquet"))
    if written != rows:
        raise JobError(f"{name} wrote {written:,} rows of {rows:,}")
    return rows / seconds


def main() -> None:
    """Labels with the rival that the first argument names, in the folder that the second does."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    settings = Settings(**json.loads((folder / "settings.json").read_text()))
    _LABEL[name](settings, folder)


def _learning(settings: Settings) -> tuple[list[str], dict[str, list[str]]]:
    """Texts, and the label that the job gave them, of tasks that have one label or several."""
    outputs = pa.dataset.dataset(settings.labelled, format="parquet", exclude_invalid_files=True)
    columns = ["source_file", "source_row", *settings.tasks]
    table = outputs.head(_LEARNT, columns=columns)
    texts: dict[str, list[str]] = {}
    found = []
    for file, row in zip(*(table.column(i).to_pylist() for i in (0, 1)), strict=True):
        if file not in texts:
            texts[file] = pq.read_table(file, columns=["text"]).column(0).to_pylist()
        found.append(texts[file][row])
    labels = {name: [_label(one) for one in table.column(name).to_pylist()] for name in columns[2:]}
    return found, labels


def _label(answer: dict[str, Any]) -> str:
    if "label" in answer:
        return str(answer["label"])
    return "+".join(answer["labels"]) if "labels" in answer else f"{answer['value']:.0f}"


def _in_processes(settings: Settings, folder: Path, label: Callable[[str, str], None]) -> None:
    files = sorted(Path(settings.source).glob("*.parquet"))
    with ProcessPoolExecutor(settings.workers) as pool:
        list(pool.map(label, map(str, files), [str(folder)] * len(files)))


def _write(path: str, folder: str, answer: Callable[[list[str]], dict[str, Any]]) -> None:
    """Writes what is answered to each batch of a file's texts."""
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(_BATCH, columns=["text"])
        tables = [pa.table(answer(batch.column(0).to_pylist())) for batch in batches]
    name = Path(path).name
    pq.write_table(pa.concat_tables(tables), Path(folder) / "out" / name, compression="zstd")


def _fit_tfidf(settings: Settings, folder: Path) -> None:
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, labels = _learning(settings)
    kinds: list[dict[str, Any]] = [
        {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
        {"analyzer": "char", "ngram_range": (1, 4)},
    ]
    vectorizers = [
        TfidfVectorizer(
            min_df=2, max_features=_FEATURES, sublinear_tf=True, dtype=np.float32, **kind
        )
        for kind in kinds
    ]
    features = hstack([one.fit_transform(texts) for one in vectorizers], "csr")
    models = {}
    for name, of_task in labels.items():
        known, index = np.unique(of_task, return_inverse=True)
        weights, biases = [], []
        for i in range(len(known)):
            model = LogisticRegression(
                C=4.0, solver="liblinear", dual=True, tol=0.1, max_iter=100, random_state=0
            )
            if len(known) == 1:
                weights.append(np.zeros(features.shape[1]))
                biases.append(0.0)
                continue
            model.fit(features, index == i)
            weights.append(model.coef_[0])
            biases.append(float(model.intercept_[0]))
        models[name] = (known, np.array(weights, np.float32).T.copy(), np.array(biases))
    (folder / "model.pickle").write_bytes(pickle.dumps((vectorizers, models)))


def _label_tfidf(path: str, folder: str) -> None:
    from scipy.sparse import hstack

    vectorizers, models = pickle.loads((Path(folder) / "model.pickle").read_bytes())

    def answer(texts: list[str]) -> dict[str, Any]:
        features = hstack([one.transform(texts) for one in vectorizers], "csr")
        answers: dict[str, Any] = {}
        for name, (known, weights, biases) in models.items():
            given: NDArray[Any] = 1 / (1 + np.exp(-(features @ weights + biases)))
            best = given.argmax(axis=1)
            answers[name] = known[best]
            confidence = given[np.arange(len(best)), best] / given.sum(axis=1)
            answers[f"{name}_confidence"] = confidence.astype(np.float32)
        return answers

    _write(path, folder, answer)


def _fit_fasttext(settings: Settings, folder: Path) -> None:
    import fasttext

    texts, labels = _learning(settings)
    lines = folder / "lines.txt"
    for i, of_task in enumerate(labels.values()):
        known = sorted(set(of_task))
        (folder / f"{i}.json").write_text(json.dumps(known))
        pairs = zip(of_task, texts, strict=True)
        lines.write_text(
            "\n".join(f"__label__{known.index(label)} {_line(text)}" for label, text in pairs)
        )
        model = fasttext.train_supervised(
            str(lines), wordNgrams=2, minn=2, maxn=4, epoch=2, thread=settings.workers, verbose=0
        )
        model.save_model(str(folder / f"{i}.bin"))


def _line(text: str) -> str:
    return " ".join(text.split())


def _label_fasttext(path: str, folder: str) -> None:
    import fasttext

    settings = json.loads((Path(folder) / "settings.json").read_text())
    fasttext.FastText.eprint = lambda _: None
    models = {
        name: (
            fasttext.load_model(f"{folder}/{i}.bin"),
            np.array(json.loads(Path(f"{folder}/{i}.json").read_text())),
        )
        for i, name in enumerate(settings["tasks"])
    }

    def answer(texts: list[str]) -> dict[str, Any]:
        lines = [_line(text) for text in texts]
        answers: dict[str, Any] = {}
        for name, (model, known) in models.items():
            labels, confidence = model.predict(lines)
            index = [int(one[0].removeprefix("__label__")) for one in labels]
            answers[name] = known[index]
            answers[f"{name}_confidence"] = np.array([one[0] for one in confidence], np.float32)
        return answers

    _write(path, folder, answer)


def _make_network(settings: Settings, folder: Path) -> None:
    import torch

    from glossator.model import bundle as bundles
    from glossator.model.architecture import NetworkConfig
    from glossator.model.network import AttentionRNN

    manifest = json.loads((Path(settings.labelled) / "_manifest.json").read_text())
    bundle = bundles.load(manifest["options"]["model"])
    tasks = [task for task in bundle.tasks if task.name in settings.tasks]
    (folder / "tokenizer.json").write_text(bundle.tokenizer.to_json())
    config = NetworkConfig(vocabulary=bundle.tokenizer.size)
    torch.save(AttentionRNN(config, tasks).state_dict(), folder / "network.pt")
    (folder / "parameters.pickle").write_bytes(pickle.dumps({"config": config, "tasks": tasks}))


def _label_by_runinference(settings: Settings, folder: Path) -> None:
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
    kinds = [
        field
        for task in tasks
        for field in (
            pa.field(task.name, pa.int32()),
            pa.field(f"{task.name}_confidence", pa.float32()),
            pa.field(f"{task.name}_words", pa.list_(pa.int32())),
        )
    ]
    options = PipelineOptions(
        ["--direct_running_mode=multi_processing", f"--direct_num_workers={settings.workers}"]
    )
    with beam.Pipeline("DirectRunner", options=options) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquet(f"{settings.source}/*.parquet", columns=["text"])
            | beam.ParDo(Tokenize())
            | RunInference(handler)
            | beam.Map(row)
            | beam.io.WriteToParquet(
                str(folder / "out" / "part"), pa.schema(kinds), file_name_suffix=".parquet"
            )
        )


def _label_files(label: Callable[[str, str], None]) -> Callable[[Settings, Path], None]:
    return lambda settings, folder: _in_processes(settings, folder, label)


_GET_READY: dict[str, Callable[[Settings, Path], None]] = {
    "tfidf": _fit_tfidf,
    "fasttext": _fit_fasttext,
    "runinference": _make_network,
}
_LABEL: dict[str, Callable[[Settings, Path], None]] = {
    "tfidf": _label_files(_label_tfidf),
    "fasttext": _label_files(_label_fasttext),
    "runinference": _label_by_runinference,
}

if __name__ == "__main__":
    main()
