"""Every engine: agrees with the network and with what autograd says of it, bit for bit its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS, config_of
from numpy.typing import NDArray

from glossator.model.calibrate import Calibration
from glossator.model.engine import Contributions, Engine, EngineResult, Leaning, Scores
from glossator.model.engines import ENGINES, make_engine
from glossator.model.native.library import built
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


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("native", marks=pytest.mark.skipif(not built(), reason="no compiler")),
        "torch",
    ],
)
def make(request: pytest.FixtureRequest, tasks: tuple[Task, ...]) -> Callable[..., Engine]:
    """The engine under test, for a network."""

    def engine(network: AttentionRNN, some: tuple[Task, ...] = tasks) -> Engine:
        return ENGINES[request.param](network.weights(), network.config, some)

    return engine


@pytest.fixture(scope="module")
def engine(network: AttentionRNN, make: Callable[..., Engine]) -> Engine:
    return make(network)


@pytest.fixture(scope="module")
def leaning(tasks: tuple[Task, ...]) -> Leaning:
    """What speaks for the network's own answers."""
    rules = {task.name: task.rules for task in tasks}

    def leaning(
        name: str, texts: NDArray[np.int64], logits: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        assert len(texts) == len(logits)
        given = rules[name].probabilities(logits, Calibration())
        return rules[name].leaning(given, Calibration()).astype(np.float32)

    return leaning


def undecided(
    name: str, texts: NDArray[np.int64], logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Nothing speaks for any answer."""
    return np.zeros_like(logits)


def contributions(scores: Scores) -> Contributions:
    assert scores.contributions
    return scores.contributions


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
        part_of, whole_of = scores.contributions, whole.scores[name].contributions
        assert (part_of is None) == (whole_of is None)
        if part_of and whole_of:
            assert np.array_equal(part_of.entropy, whole_of.entropy[rows])
            assert np.array_equal(part_of.weights, whole_of.weights[place])


def test_it_agrees_with_the_network_at_every_length(
    engine: Engine, network: AttentionRNN, make_tokens: MakeTokens
) -> None:
    lengths = [*range(1, 70), *range(71, 301, 13), 127, 128, 129, 255, 256, 257, 300]
    tokens = make_tokens(lengths, seed=1)
    given = engine.run(tokens, TASKS, leaning=undecided)
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
            assert_weights(contributions(scores), row, at, weights.numpy())


def assert_weights(
    found: Contributions, row: int, at: slice, expected: NDArray[np.float64]
) -> None:
    """Whether a text has these weights, and the entropy of them."""
    np.testing.assert_allclose(found.weights[at], expected, rtol=0, atol=1e-5)
    entropy = -sum(w * np.log(w) for w in expected.tolist() if w)
    assert found.entropy[row] == pytest.approx(entropy, abs=5e-5)
    assert found.weights[at].sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)


def test_contributions_are_what_autograd_makes_of_the_attention(
    engine: Engine, network: AttentionRNN, make_tokens: MakeTokens, leaning: Leaning
) -> None:
    """α times the derivative by α, which is that by the attended state times the states."""
    lengths = [*range(1, 34), 47, 64, 90, 129, 200]
    tokens = make_tokens(lengths, seed=4)
    given = engine.run(tokens, TASKS, leaning=leaning)
    exact = deepcopy(network).double()
    clipped = 0
    for row, length in enumerate(lengths):
        at = slice(int(tokens.offsets[row]), int(tokens.offsets[row + 1]))
        ids = torch.from_numpy(tokens.ids[at].astype(np.int64))[None]
        for name, (logits, attention) in exact(ids, torch.tensor([length])).items():
            towards = leaning(name, np.array([row]), given.scores[name].logits[[row]])
            spoken = (logits * torch.from_numpy(towards)).sum()
            (by_attention,) = torch.autograd.grad(spoken, attention, retain_graph=True)
            parts = (attention * by_attention)[0].detach().numpy()
            positive = np.maximum(parts, 0)
            shares = positive / positive.sum() if positive.any() else attention[0].detach().numpy()
            clipped += (parts < 0).any() and (parts > 0).any()
            assert_weights(contributions(given.scores[name]), row, at, shares)
    assert clipped > len(lengths), "most texts have tokens that speak for the answer and against"


def test_without_a_leaning_there_are_logits_alone(
    engine: Engine, make_tokens: MakeTokens, leaning: Leaning
) -> None:
    tokens = make_tokens([3, 50, 3], seed=5)
    plain, explained = engine.run(tokens, TASKS), engine.run(tokens, TASKS, leaning=leaning)
    for name, scores in plain.scores.items():
        assert scores.contributions is None
        assert np.array_equal(scores.logits, explained.scores[name].logits)


def test_each_text_is_asked_for_once_a_task(engine: Engine, make_tokens: MakeTokens) -> None:
    """By its place among the texts, with the logits that come out."""
    lengths = [3, 50, 3, 7, 120, 1, 33]
    asked: dict[str, dict[int, list[float]]] = {name: {} for name in TASKS}

    def noting(
        name: str, texts: NDArray[np.int64], logits: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        assert asked[name].keys().isdisjoint(texts.tolist())
        asked[name].update(zip(texts.tolist(), logits.tolist(), strict=True))
        return undecided(name, texts, logits)

    given = engine.run(make_tokens(lengths, seed=5), TASKS, leaning=noting)
    for name, scores in given.scores.items():
        assert [asked[name][row] for row in range(len(lengths))] == scores.logits.tolist()


@pytest.mark.parametrize("towards", [np.inf, np.nan, 1e38])
def test_what_no_float_holds_gives_the_attention(
    engine: Engine, make_tokens: MakeTokens, towards: float
) -> None:
    tokens = make_tokens([1, 9, 40], seed=5)
    found = engine.run(tokens, TASKS, leaning=lambda name, texts, logits: towards + 0 * logits)
    for scores in found.scores.values():
        weights, entropy = contributions(scores)
        assert np.isfinite(entropy).all()
        assert np.add.reduceat(weights, tokens.offsets[:-1]) == pytest.approx(1, abs=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(1, 40) | st.integers(1, 200), min_size=1, max_size=90),
    st.integers(0, 10**6),
    st.randoms(use_true_random=False),
)
def test_batch_equals_single_bit_for_bit(
    engine: Engine,
    make_tokens: MakeTokens,
    leaning: Leaning,
    lengths: list[int],
    seed: int,
    random: object,
) -> None:
    tokens = make_tokens(lengths, seed)

    def run(tokens: Tokens) -> EngineResult:
        return engine.run(tokens, TASKS, leaning=leaning)

    whole = run(tokens)
    rows = list(range(len(lengths)))
    for row in random.sample(rows, min(6, len(rows))):  # type: ignore[attr-defined]
        assert_same_bits(whole, tokens, run(choose(tokens, [row])), [row])
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert_same_bits(whole, tokens, run(choose(tokens, rows)), rows)
    some = rows[: len(rows) // 2] * 2 + rows
    assert_same_bits(whole, tokens, run(choose(tokens, some)), some)


def test_every_place_of_a_full_block_gives_the_same_bits(
    engine: Engine, make_tokens: MakeTokens, leaning: Leaning
) -> None:
    for length, height in ((7, 64), (40, 32), (90, 16)):
        tokens = make_tokens([length], seed=length)
        alone = engine.run(tokens, TASKS, leaning=leaning)
        others = make_tokens([length] * (height * 2 - 1), seed=2)
        many = Tokens(
            np.concatenate([np.tile(tokens.ids, height), others.ids]),
            np.arange(0, length * height * 3, length, dtype=np.int64),
        )
        given = engine.run(many, TASKS, leaning=leaning)
        for name, scores in given.scores.items():
            for row in range(height):
                assert np.array_equal(scores.logits[row], alone.scores[name].logits[0])
                assert np.array_equal(
                    contributions(scores).weights[row * length : (row + 1) * length],
                    contributions(alone.scores[name]).weights,
                )


def test_tasks_alone_or_together_in_any_order(
    engine: Engine, make_tokens: MakeTokens, leaning: Leaning
) -> None:
    lengths = [3, 50, 3, 7, 120, 1, 33]
    tokens = make_tokens(lengths, seed=5)
    rows = list(range(len(lengths)))
    whole = engine.run(tokens, TASKS, leaning=leaning)
    for chosen in (["mood"], ["stars"], ["topics", "mood"], TASKS[::-1], []):
        part = engine.run(tokens, chosen, leaning=leaning)
        assert list(part.scores) == chosen
        assert_same_bits(whole, tokens, part, rows)


def test_two_threads_at_once(engine: Engine, make_tokens: MakeTokens, leaning: Leaning) -> None:
    batches = [make_tokens(list(range(1, 60)), seed=seed) for seed in range(4)]
    rows = list(range(59))

    def run(batch: Tokens) -> EngineResult:
        return engine.run(batch, TASKS, leaning=leaning)

    expected = [run(batch) for batch in batches]
    torch.set_num_threads(2)  # as in a process where nothing has been inferred yet
    with ThreadPoolExecutor(2) as pool:
        given = list(pool.map(run, batches * 3))
        if engine.name == "torch":  # a product that is shared among threads has other bits
            assert list(pool.map(lambda _: torch.get_num_threads(), range(2))) == [1, 1]
    for i, part in enumerate(given):
        assert_same_bits(expected[i % 4], batches[i % 4], part, rows)


def test_a_second_engine_of_the_same_network_gives_the_same_bits(
    engine: Engine,
    network: AttentionRNN,
    make: Callable[..., Engine],
    make_tokens: MakeTokens,
    leaning: Leaning,
) -> None:
    tokens = make_tokens([4, 44, 9], seed=8)
    again = make(network).run(tokens, TASKS, leaning=leaning)
    assert_same_bits(engine.run(tokens, TASKS, leaning=leaning), tokens, again, [0, 1, 2])


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
        if name == "native" and not built():
            continue
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
    given = engine.run(tokenizer.encode([]), TASKS, leaning=undecided)
    assert [scores.logits.shape for scores in given.scores.values()] == [
        (0, 3),
        (0, 2),
        (0, 1),
        (0, 2),
    ]
    for scores in given.scores.values():
        assert [len(part) for part in contributions(scores)] == [0, 0]


def test_a_text_without_tokens_is_refused(engine: Engine, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        engine.run(tokenizer.encode(["a", "", "b"]), TASKS)


def test_one_token_contributes_all(
    engine: Engine, make_tokens: MakeTokens, leaning: Leaning
) -> None:
    """Be it by its attention, where it speaks against the answer."""
    for seed in range(6):
        given = engine.run(make_tokens([1], seed), TASKS, leaning=leaning)
        for scores in given.scores.values():
            assert [part.tolist() for part in contributions(scores)] == [[1], [0]]


def test_progress_counts_every_text_once(engine: Engine, make_tokens: MakeTokens) -> None:
    finished: list[int] = []
    lengths = [3] * 200 + [60] * 500 + [200] * 1000
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
    make: Callable[..., Engine],
    tasks: tuple[Task, ...],
    make_tokens: MakeTokens,
    leaning: Leaning,
    name: str,
) -> None:
    torch.manual_seed(1)
    network = AttentionRNN(config_of(name, 300, 4, 256), tasks).eval()
    engine = make(network)
    tokens = make_tokens([4096, 4096, 4090, 2500], seed=6)
    tokens = Tokens(tokens.ids % 300, tokens.offsets)
    whole = engine.run(tokens, ["mood"], leaning=leaning)
    for row in range(4):
        alone = engine.run(choose(tokens, [row]), ["mood"], leaning=leaning)
        assert_same_bits(whole, tokens, alone, [row])
