"""Every engine: agrees with the network, and a text's result is its own, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS, config_of

from glossator.model.engine import Engine, EngineResult
from glossator.model.engines import ENGINES, make_engine
from glossator.model.network import AttentionRNN
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer, Tokens
from glossator.model.torch_engine import blocks

MakeNetwork = Callable[[str], AttentionRNN]
MakeTokens = Callable[..., Tokens]

TASKS = ["mood", "topics", "stars", "gender"]


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, make_network: MakeNetwork) -> AttentionRNN:
    return make_network(request.param)


@pytest.fixture(scope="module", params=ENGINES)
def make(request: pytest.FixtureRequest, tasks: tuple[Task, ...]) -> Callable[..., Engine]:
    """The engine under test, for a network."""

    def engine(network: AttentionRNN, some: tuple[Task, ...] = tasks) -> Engine:
        return ENGINES[request.param](network.weights(), network.config, some)

    return engine


@pytest.fixture(scope="module")
def engine(network: AttentionRNN, make: Callable[..., Engine]) -> Engine:
    return make(network)


def choose(tokens: Tokens, rows: list[int]) -> Tokens:
    """Some of the texts, in that order."""
    parts = [tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]] for i in rows]
    ids = np.concatenate([np.zeros(0, np.int32), *parts])
    return Tokens(ids, np.cumsum([0, *map(len, parts)]).astype(np.int64))


def assert_same_bits(
    whole: EngineResult, tokens: Tokens, part: EngineResult, rows: list[int]
) -> None:
    """Whether `part`, of the texts `rows`, has exactly what `whole` has for them."""
    for name, scores in part.scores.items():
        at = [np.arange(tokens.offsets[i], tokens.offsets[i + 1]) for i in rows]
        place = np.concatenate([np.zeros(0, np.int64), *at])
        assert np.array_equal(scores.logits, whole.scores[name].logits[rows])
        assert np.array_equal(scores.entropy, whole.scores[name].entropy[rows])
        assert np.array_equal(scores.attention, whole.scores[name].attention[place])


def test_it_agrees_with_the_network_at_every_length(
    engine: Engine, network: AttentionRNN, make_tokens: MakeTokens
) -> None:
    lengths = [*range(1, 70), *range(71, 301, 13), 127, 128, 129, 255, 256, 257, 300]
    tokens = make_tokens(lengths, seed=1)
    given = engine.run(tokens, TASKS)
    for row, length in enumerate(lengths):
        at = slice(int(tokens.offsets[row]), int(tokens.offsets[row + 1]))
        ids = torch.from_numpy(tokens.ids[at].astype(np.int64))[None]
        with torch.no_grad():
            expected = network(ids, torch.tensor([length]))
        for name, scores in given.scores.items():
            weights = expected[name].attention[0].double()
            np.testing.assert_allclose(
                scores.logits[row], expected[name].logits[0], rtol=1e-5, atol=1e-5
            )
            np.testing.assert_allclose(scores.attention[at], weights, rtol=0, atol=1e-5)
            entropy = -sum(w * np.log(w) for w in weights.tolist() if w)
            assert scores.entropy[row] == pytest.approx(entropy, abs=2e-5)
            assert scores.attention[at].sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(1, 40) | st.integers(1, 200), min_size=1, max_size=90),
    st.integers(0, 10**6),
    st.randoms(use_true_random=False),
)
def test_batch_equals_single_bit_for_bit(
    engine: Engine, make_tokens: MakeTokens, lengths: list[int], seed: int, random: object
) -> None:
    tokens = make_tokens(lengths, seed)
    whole = engine.run(tokens, TASKS)
    rows = list(range(len(lengths)))
    for row in random.sample(rows, min(6, len(rows))):  # type: ignore[attr-defined]
        assert_same_bits(whole, tokens, engine.run(choose(tokens, [row]), TASKS), [row])
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert_same_bits(whole, tokens, engine.run(choose(tokens, rows), TASKS), rows)
    some = rows[: len(rows) // 2] * 2 + rows
    assert_same_bits(whole, tokens, engine.run(choose(tokens, some), TASKS), some)


def test_every_place_of_a_full_block_gives_the_same_bits(
    engine: Engine, make_tokens: MakeTokens
) -> None:
    for length, height in ((7, 64), (40, 32), (90, 16)):
        tokens = make_tokens([length], seed=length)
        alone = engine.run(tokens, TASKS)
        others = make_tokens([length] * (height * 2 - 1), seed=2)
        many = Tokens(
            np.concatenate([np.tile(tokens.ids, height), others.ids]),
            np.arange(0, length * height * 3, length, dtype=np.int64),
        )
        given = engine.run(many, TASKS)
        for name, scores in given.scores.items():
            for row in range(height):
                assert np.array_equal(scores.logits[row], alone.scores[name].logits[0])
                assert np.array_equal(
                    scores.attention[row * length : (row + 1) * length],
                    alone.scores[name].attention,
                )


def test_tasks_alone_or_together_in_any_order(engine: Engine, make_tokens: MakeTokens) -> None:
    lengths = [3, 50, 3, 7, 120, 1, 33]
    tokens = make_tokens(lengths, seed=5)
    rows = list(range(len(lengths)))
    whole = engine.run(tokens, TASKS)
    for chosen in (["mood"], ["stars"], ["topics", "mood"], TASKS[::-1], []):
        part = engine.run(tokens, chosen)
        assert list(part.scores) == chosen
        assert_same_bits(whole, tokens, part, rows)


def test_two_threads_at_once(engine: Engine, make_tokens: MakeTokens) -> None:
    batches = [make_tokens(list(range(1, 60)), seed=seed) for seed in range(4)]
    rows = list(range(59))
    expected = [engine.run(batch, TASKS) for batch in batches]
    torch.set_num_threads(2)  # as in a process where nothing has been inferred yet
    with ThreadPoolExecutor(2) as pool:
        given = list(pool.map(lambda batch: engine.run(batch, TASKS), batches * 3))
        assert list(pool.map(lambda _: torch.get_num_threads(), range(2))) == [1, 1]
    for i, part in enumerate(given):
        assert_same_bits(expected[i % 4], batches[i % 4], part, rows)


def test_a_second_engine_of_the_same_network_gives_the_same_bits(
    engine: Engine,
    network: AttentionRNN,
    make: Callable[..., Engine],
    make_tokens: MakeTokens,
) -> None:
    tokens = make_tokens([4, 44, 9], seed=8)
    again = make(network).run(tokens, TASKS)
    assert_same_bits(engine.run(tokens, TASKS), tokens, again, [0, 1, 2])


def test_the_weights_are_left_as_they_were(
    make_network: MakeNetwork, tasks: tuple[Task, ...]
) -> None:
    network = make_network("gru")
    weights = network.weights()
    for array in weights.values():
        array.setflags(write=False)
    make_engine(weights, network.config, tasks)
    before = network.weights()
    assert all(np.array_equal(array, before[name]) for name, array in weights.items())


def test_an_engine_has_the_name_it_is_listed_under(
    make_network: MakeNetwork, tasks: tuple[Task, ...]
) -> None:
    network = make_network("gru")
    for name, factory in ENGINES.items():
        assert factory(network.weights(), network.config, tasks).name == name


def test_an_engine_for_some_tasks_needs_no_weights_of_the_others(
    engine: Engine,
    network: AttentionRNN,
    make: Callable[..., Engine],
    tasks: tuple[Task, ...],
    make_tokens: MakeTokens,
) -> None:
    tokens = make_tokens([5, 70], seed=3)
    part = make(network, tasks[1:2]).run(tokens, ["topics"])
    assert_same_bits(engine.run(tokens, TASKS), tokens, part, [0, 1])


def test_no_texts(engine: Engine, tokenizer: Tokenizer) -> None:
    given = engine.run(tokenizer.encode([]), TASKS)
    assert [scores.logits.shape for scores in given.scores.values()] == [
        (0, 3),
        (0, 2),
        (0, 1),
        (0, 2),
    ]
    assert all(len(s.attention) == len(s.entropy) == 0 for s in given.scores.values())


def test_a_text_without_tokens_is_refused(engine: Engine, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        engine.run(tokenizer.encode(["a", "", "b"]), TASKS)


def test_one_token_has_all_the_attention(engine: Engine, make_tokens: MakeTokens) -> None:
    for scores in engine.run(make_tokens([1]), TASKS).scores.values():
        assert scores.attention.tolist() == [1]
        assert scores.entropy.tolist() == [0]


def test_progress_counts_every_text_once(engine: Engine, make_tokens: MakeTokens) -> None:
    finished: list[int] = []
    lengths = [3] * 200 + [60] * 70 + [200] * 40
    engine.run(make_tokens(lengths, seed=1), TASKS, finished.append)
    assert sum(finished) == len(lengths)
    assert len(finished) > 5, "texts are reported as they are done, not all at the end"


def test_padding_is_counted(engine: Engine, make_tokens: MakeTokens) -> None:
    lengths = [1, 5, 33, 70]
    result = engine.run(make_tokens(lengths), TASKS)
    assert result.padded_tokens >= sum(lengths)
    assert engine.run(make_tokens([]), TASKS).padded_tokens == 0


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([4, 4], 64 * 4), ([4] * 65, 2 * 64 * 4), ([33, 4], 32 * 40 + 64 * 4)],
)
def test_torch_computes_whole_blocks(
    make_network: MakeNetwork,
    tasks: tuple[Task, ...],
    make_tokens: MakeTokens,
    lengths: list[int],
    expected: int,
) -> None:
    """Incomplete blocks are filled, and lengths rounded up."""
    network = make_network("gru")
    engine = ENGINES["torch"](network.weights(), network.config, tasks)
    assert engine.run(make_tokens(lengths), TASKS).padded_tokens == expected


@pytest.mark.parametrize("hidden", [128, 512])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_memory_of_a_block_of_long_texts_is_bounded(name: str, hidden: int) -> None:
    config = replace(config_of(name, 1000, 16, hidden), attention=64)
    for length in (100, 512, 3_000, 10_000, 32_768):
        (_, height, width), *_ = blocks(np.full(70, length), config)
        states = 4 * height * width * 2 * hidden
        assert height == 1 or states <= 1 << 26
        if hidden == 128 and length <= 512:
            assert height == 16, "the default network's own blocks are as they were"


@pytest.mark.parametrize("name", ["gru", "qrnn+shared+min"])
def test_very_long_texts_have_the_same_bits_in_company(
    make: Callable[..., Engine], tasks: tuple[Task, ...], make_tokens: MakeTokens, name: str
) -> None:
    torch.manual_seed(1)
    network = AttentionRNN(config_of(name, 300, 4, 256), tasks).eval()
    engine = make(network)
    tokens = make_tokens([4096, 4096, 4090, 2500], seed=6)
    tokens = Tokens(tokens.ids % 300, tokens.offsets)
    whole = engine.run(tokens, ["mood"])
    for row in range(4):
        assert_same_bits(whole, tokens, engine.run(choose(tokens, [row]), ["mood"]), [row])
