"""How fast the engine is beside the network that one would write first, and what words cost.

    python tests/benchmarks/throughput.py --input 'comments/*.parquet'

Scores a sample on one thread with the engine and with the plain network (`nn.GRU`, packed, batches
of 64 in input order) and prints the ratio of the two, run in turn; and answers for it with what
each token contributed and without, and prints the ratio of what that takes of the processor. How
fast the whole job is, `glossator bench` says.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from glossator.model import bundle as bundles
from glossator.model.engines import make_engine
from glossator.model.labeller import Labeller
from glossator.model.network import AttentionRNN
from glossator.model.tokenizer import Tokens

_BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--model", default=bundles.DEFAULT)
    parser.add_argument("--text", default="text")
    parser.add_argument("--sample", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(processor())
    bundle = bundles.load(options.model)
    with fsspec.open_files(options.input, "rb")[0] as stream:
        batch = next(pq.ParquetFile(stream).iter_batches(options.sample, columns=[options.text]))
    tokens = bundle.tokenizer.encode(batch.column(0).to_pylist())
    compare(bundle, tokens, options.rounds)
    explain(bundle, tokens, options.rounds)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags")).split()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16") if flag in flags]
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {' '.join(wide)}"


def compare(bundle: bundles.Bundle, tokens: Tokens, rounds: int) -> None:
    engine = make_engine(bundle.weights, bundle.config, bundle.tasks)
    network, tasks = bundle.network(), [task.name for task in bundle.tasks]
    ours, plain = [], []
    for _ in range(rounds):
        before = time.monotonic()
        engine.run(tokens, tasks)
        ours.append(time.monotonic() - before)
        if bundle.config.cell != "qrnn":  # of which torch has no packed one
            before = time.monotonic()
            packed(network, tokens)
            plain.append(time.monotonic() - before)
    speed = len(tokens.ids) / statistics.median(ours) / 1e3
    print(f"engine, 1 thread, {len(tasks)} tasks: {speed:,.0f} thousand tokens/s")
    if plain:
        ratios = [b / a for a, b in zip(ours, plain, strict=True)]
        print(
            f"{statistics.median(ratios):.2f} times the plain network (each round: "
            f"{', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        )


def explain(bundle: bundles.Bundle, tokens: Tokens, rounds: int) -> None:
    labeller = Labeller(bundle)
    ratios = []
    for _ in range(rounds):
        took = []
        for explained in (False, True):
            before = time.process_time()
            labeller.answers(tokens, explained=explained)
            took.append(time.process_time() - before)
        ratios.append(took[1] / took[0])
    print(
        f"contributions, {len(labeller.tasks)} tasks: {statistics.median(ratios):.3f} times the "
        f"CPU time of answers alone (each round: {', '.join(f'{ratio:.3f}' for ratio in ratios)})"
    )


@torch.inference_mode()
def packed(network: AttentionRNN, tokens: Tokens) -> None:
    lengths = tokens.lengths
    for first in range(0, len(tokens), _BATCH):
        some = lengths[first : first + _BATCH]
        mask = np.arange(some.max()) < some[:, None]
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = tokens.ids[tokens.offsets[first] : tokens.offsets[first + len(some)]]
        texts = torch.from_numpy(some)
        embedded = network.embedding(torch.from_numpy(ids))
        states, _ = network.rnn(
            pack_padded_sequence(embedded, texts, batch_first=True, enforce_sorted=False)
        )
        # with zeros on padding, which the maximum sees: the same work, if not the same answer
        network.answer(pad_packed_sequence(states, batch_first=True)[0], texts)


if __name__ == "__main__":
    main()
