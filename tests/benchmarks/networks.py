"""What each kind of network costs: arithmetic, tokens a second in training and in inference.

    python tests/benchmarks/networks.py --texts reviews.parquet

Of the texts of a column `text`, with the tokenizer of the default bundle, on one thread and for
four tasks. Training is forward and backward, of 256 texts cut to 32 tokens, without the optimiser.
Rounds alternate between the networks; the best of each one's counts, in seconds of the processor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
import torch

from glossator.model import bundle as bundles
from glossator.model.architecture import NetworkConfig, flops_per_token
from glossator.model.engines import make_engine
from glossator.model.network import AttentionRNN
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokens

TASKS = [Task(name, "single", ("a", "b", "c")) for name in "abcd"]
TEXTS, TRAINED, CUT = 4096, 256, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", required=True, help="Parquet with a column text")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = bundles.load("default").tokenizer
    column = pq.read_table(given.texts, columns=["text"])["text"].drop_null()
    tokens = tokenizer.encode([text for text in column.to_pylist() if text.strip()][:TEXTS])
    size = tokenizer.size
    configs = {
        "GRU 128": NetworkConfig(size),
        "GRU 128, shared attention": NetworkConfig(size, shared_attention=True),
        "GRU 64, shared attention": NetworkConfig(size, hidden=64, shared_attention=True),
        "QRNN 128": NetworkConfig(size, cell="qrnn"),
        "QRNN 128, shared attention, minimum": NetworkConfig(
            size, cell="qrnn", shared_attention=True, min_pooling=True
        ),
    }
    networks = {name: AttentionRNN(config, TASKS, dropout=0.4) for name, config in configs.items()}
    training = _rates(
        {name: _training(network, tokens) for name, network in networks.items()}, given.rounds
    )
    inference = _rates(
        {name: _inference(network, tokens) for name, network in networks.items()}, given.rounds
    )
    print(
        "| network | kFLOP a token | training, tokens/s | inference, tokens/s |\n|---|---|---|---|"
    )
    for name, config in configs.items():
        kflop = flops_per_token(config, len(TASKS)) / 1e3
        print(f"| {name} | {kflop:.0f} | {training[name]:,.0f} | {inference[name]:,.0f} |")


def _rates(works: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Tokens a second of each work, which says how many tokens it did."""
    rates = dict.fromkeys(works, 0.0)
    for _ in range(rounds):
        for name, work in works.items():
            before = time.process_time()
            done = work()
            rates[name] = max(rates[name], done / (time.process_time() - before))
    return rates


def _training(network: AttentionRNN, tokens: Tokens) -> Callable[[], int]:
    long = np.flatnonzero(tokens.lengths >= CUT)[:TRAINED]
    ids = torch.from_numpy(tokens.ids[tokens.offsets[long, None] + np.arange(CUT)].astype(np.int64))
    lengths = torch.full((len(long),), CUT)

    def step() -> int:
        network.zero_grad()
        outputs = network(ids, lengths).values()
        torch.stack([output.logits.square().mean() for output in outputs]).sum().backward()
        return ids.numel()

    return step


def _inference(network: AttentionRNN, tokens: Tokens) -> Callable[[], int]:
    engine = make_engine(network.weights(), network.config, TASKS)

    def run() -> int:
        engine.run(tokens, [task.name for task in TASKS])
        return len(tokens.ids)

    return run


if __name__ == "__main__":
    main()
