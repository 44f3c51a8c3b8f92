"""What the tests of the model share: a small tokenizer and an untrained bundle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from experts import with_expert
from networks import config_of

from glossator.model.bundle import Bundle
from glossator.model.calibrate import Calibration
from glossator.model.network import AttentionRNN
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer, Tokens

MakeTokens = Callable[[list[int], int], Tokens]
MakeNetwork = Callable[[str], AttentionRNN]

TEXTS = (
    "The stock fell sharply and the traders sold what they could.",
    "I love this phone, don't you? It's the best I've ever had!",
    "Buenos días: el niño está aquí, ¿qué más querías?",
    "这个产品很好，我非常喜欢。快递也很快！",
    "股票今天跌了，大家都在聊天。",
    "ราคาหุ้นตกลงวันนี้ แต่สินค้าดีมาก",
    "データを見ました。とても良い ﾊﾞｶﾞ",
    "한국어 댓글도 있습니다.",
    "😀 so good 👍🏽 …",
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Networks as small as these gain nothing from a second, which would wait for busy cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    return list(TEXTS) * 3


@pytest.fixture(scope="session")
def tokenizer(corpus: list[str]) -> Tokenizer:
    return Tokenizer.train(corpus, vocabulary=500, max_tokens=64)


@pytest.fixture(scope="session")
def tasks() -> tuple[Task, ...]:
    return (
        Task("mood", "single", ("bad", "fair", "good")),
        Task("topics", "multi", ("stock", "product"), limits="Made up."),
        Task("stars", "regression"),
        Task("gender", "single", ("f", "m"), sensitive=True),
    )


@pytest.fixture(scope="session")
def make_network(tokenizer: Tokenizer, tasks: tuple[Task, ...]) -> MakeNetwork:
    """An untrained network of a kind; its weights are larger than at the start of training."""

    def make(name: str) -> AttentionRNN:
        torch.manual_seed(7)
        network = AttentionRNN(config_of(name, tokenizer.size, 16, 16), tasks)
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
        return network.eval()

    return make


@pytest.fixture(scope="session")
def bundle(tokenizer: Tokenizer, tasks: tuple[Task, ...], make_network: MakeNetwork) -> Bundle:
    network = make_network("gru")
    return Bundle(
        tasks=tasks,
        config=network.config,
        weights=network.weights(),
        tokenizer=tokenizer,
        calibration={
            "mood": Calibration(scale=1.7, accept=0.6),
            "topics": Calibration(scale=0.8, accept=0.5),
            "stars": Calibration(scale=1.2, shift=3.5),
            "gender": Calibration(),
        },
        provenance={"name": "A small model", "rows": {"train": 3}},
        metrics={},
        card="# A small model\n",
    )


@pytest.fixture(scope="session")
def expert_bundle(bundle: Bundle, corpus: list[str]) -> Bundle:
    """The bundle with an n-gram expert for `mood` and `stars`."""
    return with_expert(bundle, [bundle.tasks[0], bundle.tasks[2]], corpus)


@pytest.fixture(scope="session")
def make_tokens(tokenizer: Tokenizer) -> MakeTokens:
    """Random token ids of texts of the given lengths."""

    def make(lengths: list[int], seed: int = 0) -> Tokens:
        ids = np.random.default_rng(seed).integers(0, tokenizer.size, sum(lengths))
        return Tokens(ids.astype(np.int32), np.cumsum([0, *lengths]).astype(np.int64))

    return make
