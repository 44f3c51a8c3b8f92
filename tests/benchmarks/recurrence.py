"""The native engine's recurrence alone, on one core: beside nn.GRU, and what the core can do.

    python tests/benchmarks/recurrence.py --texts comments.parquet

Of the texts of a column `text`, with the tokenizer of the default bundle, embedding included.
nn.GRU reads packed batches of 64 texts in input order, in float32. Rounds alternate; of each round
the ratio counts, and of all the median. Operations are those of the recurrent product.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import pyarrow.parquet as pq
import torch
from throughput import processor
from torch.nn.utils.rnn import pack_padded_sequence

from glossator.model import bundle as bundles
from glossator.model.architecture import NetworkConfig
from glossator.model.native.engine import NativeEngine
from glossator.model.native.library import peak_gflops
from glossator.model.network import AttentionRNN
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokens

_BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", required=True, help="Parquet with a column text")
    parser.add_argument("--hidden", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--count", type=int, default=16_384)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = bundles.load("default").tokenizer
    column = pq.read_table(given.texts, columns=["text"])["text"].drop_null()
    tokens = tokenizer.encode([text for text in column.to_pylist() if text.strip()][: given.count])
    print(f"{processor()}; {len(tokens):,} texts of {len(tokens.ids) / len(tokens):.0f} tokens")
    print("| units | tokens/s | GFLOP/s | of the peak | beside nn.GRU |\n|---|---|---|---|---|")
    task = Task("a", "single", ("a", "b"))
    for hidden in given.hidden:
        network = AttentionRNN(NetworkConfig(tokenizer.size, hidden=hidden), [task]).eval()
        engine = NativeEngine(network.weights(), network.config, [task])
        seconds, ratios, shares = [], [], []
        flops = 2 * 2 * hidden * 3 * hidden * len(tokens.ids)
        for _ in range(given.rounds):
            started = time.perf_counter()
            engine.run(tokens, [])
            seconds.append(time.perf_counter() - started)
            shares.append(flops / seconds[-1] / 1e9 / peak_gflops())
            started = time.perf_counter()
            _packed(network, tokens)
            ratios.append((time.perf_counter() - started) / seconds[-1])
        middle = statistics.median(seconds)
        print(
            f"| {hidden} | {len(tokens.ids) / middle:,.0f} | {flops / middle / 1e9:.1f} | "
            f"{statistics.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%}) | "
            f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
        )


@torch.inference_mode()
def _packed(network: AttentionRNN, tokens: Tokens) -> None:
    for first in range(0, len(tokens), _BATCH):
        rows = np.arange(first, min(first + _BATCH, len(tokens)))
        ids, lengths = tokens.select(rows).padded()
        packed = pack_padded_sequence(
            network.embedding(torch.from_numpy(ids)),
            torch.from_numpy(lengths),
            batch_first=True,
            enforce_sorted=False,
        )
        network.rnn(packed)


if __name__ == "__main__":
    main()
