"""Texts a second of a core: tokens, and words for four tasks, natively and by the plain code.

    python tests/benchmarks/tokenizing.py --input POOL_FILE.parquet

Of a column `text` of a Parquet file, with the tokenizer of the default bundle, in calls of 16,384
texts. Each round takes other texts, of which the slow paths get the first few; the paths take
turns, and the medians count, in seconds of the processor. Two threads are compared with one by the
clock, and so is hashing, which never needs Python's lock: where the machine does other work, that
is the most that threads can gain.
"""

from __future__ import annotations

import argparse
import hashlib
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from glossator.model import bundle as bundles
from glossator.model.native import text as native_text
from glossator.model.texts import Texts
from glossator.model.tokenizer import MAX_CHARS, Tokenizer
from glossator.model.words import heaviest, units

TEXTS, FEW, TOP, TASKS = 1 << 14, 1 << 10, 5, 4
CALLS = 3
"""Calls of a round."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--input", required=True, help="Parquet with a column text")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    tokenizer = bundles.load("default").tokenizer
    with plainly():
        plain = Tokenizer.from_json(tokenizer.to_json(), tokenizer.max_tokens)
        assert not plain.native
    if not tokenizer.native:
        raise SystemExit("the native functions were not built, or differ from the reference")
    calls = _calls(given.input, given.rounds * CALLS)
    rates: dict[str, list[float]] = {}
    gains: dict[str, list[float]] = {}
    for first in range(0, len(calls), CALLS):
        some = calls[first : first + CALLS]
        for name, work in _paths(tokenizer, some).items():
            rates.setdefault(name, []).append(_rate(work))
        with plainly():
            for name, work in _plain_paths(plain, some).items():
                rates.setdefault(name, []).append(_rate(work))
        for name, gain in _threads(tokenizer, some).items():
            gains.setdefault(name, []).append(gain)
    print("| path | texts/s a core |\n|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {median(found):,.0f} |")
    for name, found in gains.items():
        low, high = min(found), max(found)
        print(f"two threads beside one, {name}: {median(found):.2f} ({low:.2f} to {high:.2f})")


@contextmanager
def plainly() -> Iterator[None]:
    """Without the native functions."""
    with mock.patch.object(native_text, "library", lambda: None):
        yield


def _calls(path: str, count: int) -> list[pa.Array]:
    """The texts of so many calls, each time other ones."""
    column = pq.read_table(path, columns=["text"])["text"].drop_null().cast(pa.large_string())
    texts = pa.concat_arrays(column.chunks)
    if len(texts) < count * TEXTS:
        raise SystemExit(f"{path} has {len(texts)} texts, not {count * TEXTS}")
    return [texts.slice(i * TEXTS, TEXTS) for i in range(count)]


def _texts(array: pa.Array) -> Texts:
    _, offsets, content = array.buffers()
    places = np.frombuffer(offsets, np.int64)[array.offset :][: len(array) + 1]
    return Texts(np.frombuffer(content, np.uint8), places)


Work = Callable[[], int]
"""Does some work; on how many texts."""


def _paths(tokenizer: Tokenizer, calls: list[pa.Array]) -> dict[str, Work]:
    held = [_texts(call) for call in calls]
    lists = [call.to_pylist() for call in calls]

    def buffers() -> int:
        return sum(len(tokenizer.encode(texts)) for texts in held)

    def strings() -> int:
        return sum(len(tokenizer.encode(texts)) for texts in lists)

    work = {"native: tokens, of Arrow's buffers": buffers, "native: tokens, of strings": strings}
    return work | {f"native: {name}": run for name, run in _words(tokenizer, held).items()}


def _plain_paths(tokenizer: Tokenizer, calls: list[pa.Array]) -> dict[str, Work]:
    few = calls[0].slice(0, FEW).to_pylist()
    read = [call.to_pylist() for call in calls]

    def reference() -> int:
        return len(tokenizer.encode(few))

    def normalize() -> int:
        for text in read[0]:
            unicodedata.normalize("NFKC", text)
        return len(read[0])

    work = {"plain: tokens": reference, "Python's NFKC alone": normalize}
    held = [texts[: 4 * FEW] for texts in read[:1]]
    return work | {f"plain: {name}": run for name, run in _words(tokenizer, held).items()}


def _words(tokenizer: Tokenizer, calls: list[Texts] | list[list[str]]) -> dict[str, Work]:
    drawn = np.random.default_rng(0)
    read = [t if isinstance(t, Texts) else [text[:MAX_CHARS] for text in t] for t in calls]
    tokens = [tokenizer.encode(texts) for texts in read]
    spans = [tokenizer.spans(*pair) for pair in zip(read, tokens, strict=True)]
    found = [units(*triple) for triple in zip(read, tokens, spans, strict=True)]
    weights = [drawn.random(len(some.ids), np.float32) / 16 for some in tokens]
    count = sum(map(len, tokens))

    def run_spans() -> int:
        for texts, some in zip(read, tokens, strict=True):
            tokenizer.spans(texts, some)
        return count

    def run_units() -> int:
        for texts, some, places in zip(read, tokens, spans, strict=True):
            units(texts, some, places)
        return count

    def run_heaviest() -> int:
        for some, values in zip(found, weights, strict=True):
            for _ in range(TASKS):
                heaviest(some, values, TOP)
        return count

    def run_all() -> int:
        run_spans()
        run_units()
        return run_heaviest()

    return {
        "spans": run_spans,
        "units": run_units,
        "heaviest, four tasks": run_heaviest,
        "words in all": run_all,
    }


def _threads(tokenizer: Tokenizer, calls: list[pa.Array]) -> dict[str, float]:
    """How many times as fast two threads are as one."""
    held = [_texts(call) for call in calls] * 2
    words = _words(tokenizer, held[:CALLS])["words in all"]
    block = b"x" * (1 << 20)

    def encode() -> None:
        for texts in held:
            tokenizer.encode(texts)

    def hash_blocks() -> None:
        for _ in range(60):
            hashlib.sha256(block).digest()

    works = {"tokens": encode, "words": lambda: (words(), words()), "hashing": hash_blocks}
    return {name: _gain(work) for name, work in works.items()}


def _gain(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    work()
    one = time.perf_counter() - started
    threads = [threading.Thread(target=work) for _ in range(2)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return one / (time.perf_counter() - started)


def _rate(work: Work) -> float:
    started = time.process_time()
    done = work()
    return done / (time.process_time() - started)


if __name__ == "__main__":
    main()
