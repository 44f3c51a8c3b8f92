"""The native library: the same bits at every width, and no step beyond what it was given."""

from __future__ import annotations

import ctypes
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from experts import with_expert
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS, config_of

from glossator.model import engines
from glossator.model.bundle import Bundle
from glossator.model.engine import EngineResult
from glossator.model.native import library
from glossator.model.native.engine import NativeEngine
from glossator.model.network import AttentionRNN
from glossator.model.ngrams import Ngrams
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokens
from glossator.model.torch_engine import TorchEngine

MakeTokens = Callable[..., Tokens]

needs_library = pytest.mark.skipif(not library.built(), reason="no compiler")


def every_bit(result: EngineResult) -> list[bytes]:
    found = []
    for scores in result.scores.values():
        assert scores.contributions
        arrays = (scores.logits, *scores.contributions)
        found += [array.tobytes() for array in arrays]
    return found


def test_where_there_is_a_compiler_the_library_was_built() -> None:
    assert library.built() or not shutil.which("cc")


def test_without_the_library_torch_computes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "loaded", lambda: None)
    assert library.widths() == ()
    assert engines.chosen() == "torch"
    engine = engines.make_engine(bundle.weights, bundle.config, bundle.tasks)
    assert isinstance(engine, TorchEngine)


@needs_library
def test_stages_take_most_of_the_time_and_no_more(
    tasks: tuple[Task, ...], make_tokens: MakeTokens
) -> None:
    network = AttentionRNN(config_of("gru", 500, 12, 64), tasks).eval()
    tokens = make_tokens([40] * 400, seed=3)
    tokens = Tokens(tokens.ids % 500, tokens.offsets)
    engine = NativeEngine(network.weights(), network.config, tasks)
    started = time.perf_counter()
    seconds = engine.run(tokens, [task.name for task in tasks]).seconds
    whole = time.perf_counter() - started
    assert seconds.keys() == {"recurrence", "attention"} and min(seconds.values()) > 0
    assert whole / 4 < sum(seconds.values()) <= whole


@needs_library
@pytest.mark.parametrize("hidden", [4, 16, 36, 64])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_width_gives_the_same_bits(
    name: str, hidden: int, tasks: tuple[Task, ...], make_tokens: MakeTokens
) -> None:
    torch.manual_seed(hidden)
    network = AttentionRNN(config_of(name, 500, 12, hidden), tasks).eval()
    tokens = make_tokens([*range(1, 60), 90, 90, 130, 1, 7], seed=3)
    tokens = Tokens(tokens.ids % 500, tokens.offsets)
    random = np.random.default_rng(1)
    names = [task.name for task in tasks]
    towards = {task.name: random.normal(size=task.outputs).astype(np.float32) for task in tasks}
    bits = {}
    for width in library.widths():
        engine = NativeEngine(network.weights(), network.config, tasks, width)
        assert engine.width == width
        result = engine.run(
            tokens, names, leaning=lambda name, rows, logits: logits * towards[name]
        )
        bits[width] = every_bit(result)
    assert len(bits) >= 2 or "portable" in bits
    assert all(one == bits["portable"] for one in bits.values())


@needs_library
@pytest.mark.parametrize("outputs", [1, 31, 32, 33, 200])
def test_any_number_of_labels(outputs: int, make_tokens: MakeTokens) -> None:
    task = Task("one", "multi", tuple(f"label {i}" for i in range(outputs)))
    torch.manual_seed(outputs)
    network = AttentionRNN(config_of("gru+shared", 500, 12, 20), [task]).eval()
    tokens = make_tokens([1, 30, 9, 64], seed=3)
    results = [
        engine(network.weights(), network.config, [task]).run(
            tokens, ["one"], leaning=lambda name, rows, logits: logits
        )
        for engine in (NativeEngine, TorchEngine)
    ]
    ours, torchs = (result.scores["one"] for result in results)
    np.testing.assert_allclose(ours.logits, torchs.logits, atol=1e-5)
    assert ours.contributions
    assert torchs.contributions
    for one, other in zip(ours.contributions, torchs.contributions, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@needs_library
@pytest.mark.parametrize(
    ("ids", "offsets", "said"),
    [
        ([0, -1], [0, 2], "token id"),
        ([0, 500], [0, 2], "token id"),
        ([0, 2**31 - 1], [0, 1, 2], "token id"),
    ],
)
def test_token_ids_outside_of_the_vocabulary_are_refused(
    tasks: tuple[Task, ...], ids: list[int], offsets: list[int], said: str
) -> None:
    torch.manual_seed(1)
    network = AttentionRNN(config_of("gru", 500, 12, 16), tasks).eval()
    engine = NativeEngine(network.weights(), network.config, tasks)
    tokens = Tokens(np.array(ids, np.int32), np.array(offsets, np.int64))
    with pytest.raises(ValueError, match=said):
        engine.run(tokens, ["mood"])


@needs_library
@pytest.mark.parametrize(
    "changes",
    [
        *({name: value} for name in ("cell", "hidden", "attention", "tasks") for value in (-1, 99)),
        *({"vocabulary": 0}, {"hidden": 4096}, {"projections": 3}, {"task_width": 8}),
        *({"pooled": 1 << 40}, {"units": 0}),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    tasks: tuple[Task, ...], make_tokens: MakeTokens, changes: dict[str, int]
) -> None:
    torch.manual_seed(1)
    network = AttentionRNN(config_of("gru", 500, 12, 16), tasks).eval()
    engine = NativeEngine(network.weights(), network.config, tasks)
    for name, value in changes.items():
        setattr(engine._network, name, value)
    with pytest.raises(ValueError, match="sizes"):
        engine._library.score(engine._network, library.Request(), library.Selection(), _nothing())


@needs_library
@pytest.mark.parametrize(
    ("rows", "offsets", "room", "longest"),
    [
        ([0, 2], [0, 3, 5], 9, 9),  # no such text
        ([-1], [0, 3, 5], 9, 9),
        ([0, 1], [0, 5, 3], 9, 9),  # ends before it begins
        ([1], [0, 3, 6], 9, 9),  # ends behind the tokens
        ([0], [-1, 3, 5], 9, 9),
        ([0], [0, 0, 5], 9, 9),  # without tokens
        ([0, 1], [0, 3, 5], 4, 9),  # no room
        ([0, 1], [0, 3, 5], 9, 2),
        ([1, 0], [0, 3, 5], 9, 9),  # the longest is not the first
    ],
)
def test_texts_that_do_not_fit_are_refused(
    tasks: tuple[Task, ...], rows: list[int], offsets: list[int], room: int, longest: int
) -> None:
    torch.manual_seed(1)
    network = AttentionRNN(config_of("gru", 500, 12, 16), tasks).eval()
    engine = NativeEngine(network.weights(), network.config, tasks)
    ids, places = np.zeros(5, np.int32), np.array(offsets, np.int64)
    chosen = np.array(rows, np.int64)
    texts = library.Selection(
        len(rows),
        library.address(chosen),
        len(offsets) - 1,
        len(ids),
        library.address(ids),
        library.address(places),
    )
    results = _nothing()
    results.room, results.longest = room, longest
    with pytest.raises(ValueError, match="texts"):
        engine._library.score(engine._network, library.Request(), texts, results)


def _nothing() -> Any:
    """Results without any memory to write to."""
    results = library.Results()
    ctypes.memset(ctypes.byref(results), 0, ctypes.sizeof(results))
    return results


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@needs_library
@settings(max_examples=50, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=6))
def test_the_expert_sums_what_numpy_does(bundle: Bundle, texts: list[str]) -> None:
    corpus = [*texts, "The stock fell sharply", "这个产品很好，我非常喜欢"]
    expert = with_expert(bundle, bundle.tasks, corpus)
    ngrams = Ngrams(expert.ngrams, bundle.tokenizer, bundle.tasks)
    tokens = bundle.tokenizer.encode(corpus)
    with_library, by_numpy = ngrams._sums(tokens), ngrams.sums_by_numpy(tokens)
    assert with_library[:, -1].any()
    assert np.array_equal(with_library, by_numpy)


@needs_library
@pytest.mark.parametrize("wrong", [-1, 1 << 20])
def test_the_expert_refuses_unknown_tokens(bundle: Bundle, wrong: int) -> None:
    expert = with_expert(bundle, bundle.tasks, ["a"])
    ngrams = Ngrams(expert.ngrams, bundle.tokenizer, bundle.tasks)
    with pytest.raises(ValueError, match="token id"):
        ngrams.logits(Tokens(np.array([wrong], np.int32), np.array([0, 1])))
