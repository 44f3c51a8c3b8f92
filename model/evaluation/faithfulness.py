"""Whether the tokens that an attention weighs are those that the answer depends on.

Erasure (DeYoung et al. 2020, ERASER): drop the tokens that a summary weighs most, or keep only
those, run the network again and see how far it still stands by its answer. Beside the attention:
random tokens, gradient × input on the embedding (which costs a pass backwards), and attention ×
contribution, which costs about what the attention does. As a control, the learnt attention's
place is taken by a mean over the states (Jain & Wallace 2019; Wiegreffe & Pinter 2019).

All of it is about the network: what else a bundle may ask for its answer has no attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.bundle import Bundle
from glossator.model.engines import make_engine
from glossator.model.evaluation.evaluate import score
from glossator.model.kinds import Labels
from glossator.model.labelled.dataset import Dataset
from glossator.model.metrics import bootstrap
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokens

if TYPE_CHECKING:
    from glossator.model.network import AttentionRNN

FRACTIONS = (0.1, 0.2, 0.5)
"""Shares of a text's tokens that are dropped, or kept alone."""
TEXTS = 300
"""Texts that are erased from, at most."""
SUMMARIES = ("attention", "contribution", "gradient")
"""What may say which tokens count, beside chance."""
_DRAWS = 3
"""Random orders of each text's tokens."""
_BATCH_TOKENS = 1 << 12
"""Tokens of a batch that is differentiated, padding included."""

TokenWeights = NDArray[np.float64]
"""[t] how much each token counts."""


def measure(bundle: Bundle, data: Dataset, texts: int = TEXTS) -> dict[str, dict[str, Any]]:
    """What the summaries of each task are worth, on texts that nothing was learnt from.

    Args:
        bundle: the model.
        data: test rows, or others of which no label was learnt.
        texts: of how many at most tokens are erased; the control is measured on all rows.

    Returns:
        For each task `texts`, and for `random` and each of `SUMMARIES`: `comprehensiveness`, the
        fall of the answer's probability when its tokens are dropped (more is better), and
        `sufficiency`, the fall when only they are kept (less is better), means over `FRACTIONS`;
        for the summaries also `comprehensiveness_gain` and `sufficiency_gain` over random tokens,
        positive where better, as [value, low, high] of a paired bootstrap over texts. On all rows:
        the score `learnt`, the score with a `uniform` attention in its place (None without
        labels), and the share of answers that stay the `same`. Empty where no text has two tokens.
    """
    tokens = _chosen(bundle, data.texts, texts)
    if not len(tokens):
        return {}
    weights = _weights(bundle, tokens)
    generator = np.random.default_rng(0)
    chance = [generator.random(len(tokens.ids)) for _ in range(_DRAWS)]
    network = _Erased(bundle, tokens)
    names = [task.name for task in bundle.tasks]
    drawn = [network.falls(draw, names) for draw in chance]
    control = _control(bundle, data)
    result = {}
    for task in bundle.tasks:
        random = np.mean([falls[task.name] for falls in drawn], axis=0)
        result[task.name] = {
            "texts": len(tokens),
            "random": _means(random),
            **{
                summary: _compared(
                    network.falls(weights[summary][task.name], [task.name])[task.name], random
                )
                for summary in SUMMARIES
            },
            **control[task.name],
        }
    return result


def verdict(measured: Mapping[str, Any]) -> str:
    """What the figures of one task say of its attention, in a word; by its intervals.

    Args:
        measured: as `measure` gives it for the task.

    Returns:
        `better` than random tokens; better when its tokens are `dropped` or `kept` alone; `chance`.
    """
    attention = measured["attention"]
    dropped, kept = (
        attention[f"{half}_gain"][1] > 0 for half in ("comprehensiveness", "sufficiency")
    )
    return {(True, True): "better", (True, False): "dropped", (False, True): "kept"}.get(
        (dropped, kept), "chance"
    )


def sentence(measured: Mapping[str, Any]) -> str:
    """What the figures of one task mean for those who read its attention.

    Args:
        measured: as `measure` gives it for the task.
    """
    said = {
        "better": "Attended words count for more than random ones",
        "dropped": "Attended words count for more than random ones only when dropping them",
        "kept": "Attended words count for more than random ones only when keeping them alone",
        "chance": "Attended words are no better than random ones at saying what the answer "
        "depends on",
    }[verdict(measured)]
    attention, random = (measured[name]["comprehensiveness"] for name in ("attention", "random"))
    return (
        f"{said}: dropping the most attended tokens moves the answer by {attention:.3f}, random "
        f"ones by {random:.3f}."
    )


def _chosen(bundle: Bundle, texts: Sequence[str], most: int) -> Tokens:
    """The tokens of some of the texts, spread evenly; of those that have two or more."""
    at = np.unique(np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(int))
    chosen = [texts[i] for i in at]
    several = np.flatnonzero(bundle.tokenizer.encode(chosen).lengths > 1)
    return bundle.tokenizer.encode([chosen[i] for i in several])


def _subset(tokens: Tokens, kept: NDArray[np.bool_]) -> Tokens:
    """The same texts with the tokens of a mask."""
    return Tokens(tokens.ids[kept], np.concatenate([[0], np.cumsum(kept)])[tokens.offsets])


class _Erased:
    """Texts with some of their tokens, run through the network."""

    def __init__(self, bundle: Bundle, tokens: Tokens) -> None:
        self._bundle, self._tokens = bundle, tokens
        self._engine = make_engine(bundle.weights, bundle.config, bundle.tasks)
        self._given = self._predicted(tokens, [task.name for task in bundle.tasks])

    def falls(self, weights: TokenWeights, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """[n, 2] by task: how far the answer falls without, and with only, the heaviest tokens."""
        lengths = self._tokens.lengths
        text = np.repeat(np.arange(len(lengths)), lengths)
        rank = np.empty(len(text), np.int64)
        rank[np.lexsort((-weights, text))] = np.arange(len(text))
        rank -= np.repeat(self._tokens.offsets[:-1], lengths)
        total = {name: np.zeros((len(lengths), 2)) for name in names}
        for fraction in FRACTIONS:
            # one token at least is dropped, and one stays
            count = np.clip(np.rint(fraction * lengths), 1, lengths - 1)
            heavy = rank < np.repeat(count, lengths)
            for column, kept in enumerate((~heavy, heavy)):
                other = self._predicted(_subset(self._tokens, kept), names)
                for name in names:
                    total[name][:, column] += self._fall(name, other[name])
        return {name: falls / len(FRACTIONS) for name, falls in total.items()}

    def _fall(self, name: str, other: NDArray[np.float64]) -> NDArray[np.float64]:
        task = next(task for task in self._bundle.tasks if task.name == name)
        given, calibration = self._given[name], self._bundle.calibration[name]
        whole = task.rules.agreement(given, given, calibration)
        return np.asarray(whole - task.rules.agreement(given, other, calibration))

    def _predicted(self, tokens: Tokens, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        scores = self._engine.run(tokens, names).scores
        return {
            task.name: task.rules.probabilities(
                scores[task.name].logits, self._bundle.calibration[task.name]
            )
            for task in self._bundle.tasks
            if task.name in names
        }


def _means(falls: NDArray[np.float64]) -> dict[str, float]:
    comprehensiveness, sufficiency = falls.mean(axis=0).tolist()
    return {"comprehensiveness": comprehensiveness, "sufficiency": sufficiency}


def _compared(falls: NDArray[np.float64], random: NDArray[np.float64]) -> dict[str, Any]:
    """The means of [n, 2] falls, and how much better they are than those of random tokens."""
    gain = (falls - random) * (1, -1)  # a sufficient summary falls less
    names = ("comprehensiveness_gain", "sufficiency_gain")
    return {
        **_means(falls),
        **bootstrap(len(gain), names, lambda rows: tuple(gain[rows].mean(axis=0).tolist())),
    }


# ---------------------------------------------------------------- what may say which tokens count


def _weights(bundle: Bundle, tokens: Tokens) -> dict[str, dict[str, TokenWeights]]:
    """[t] what each summary gives each token, by summary and task."""
    network = bundle.network()
    result = {
        summary: {task.name: np.empty(len(tokens.ids)) for task in bundle.tasks}
        for summary in SUMMARIES
    }
    for rows in _batches(tokens.lengths):
        lengths = tokens.lengths[rows]
        mask = np.arange(lengths.max()) < lengths[:, None]
        at = (tokens.offsets[rows, None] + np.arange(lengths.max()))[mask]
        for task, found in _differentiated(bundle, network, tokens.ids[at], mask):
            for summary, weights in zip(SUMMARIES, found, strict=True):
                result[summary][task.name][at] = weights
    return result


def _differentiated(
    bundle: Bundle, network: AttentionRNN, tokens: NDArray[np.int32], mask: NDArray[np.bool_]
) -> Iterator[tuple[Task, tuple[TokenWeights, ...]]]:
    """What each of `SUMMARIES` gives each token, from derivatives of what speaks for the answer.

    The answer depends on the attention through the attended state Σ α·h alone, so α times the
    derivative by α is α·h·w: what a state adds to the answer, w being the head's weights on the
    attended part with the normalization's derivative.

    Args:
        bundle: the model.
        network: its network.
        tokens: [m] of a few texts, one after the other.
        mask: [B, T] where they stand.
    """
    import torch

    seen = torch.from_numpy(mask)
    # every occurrence is a token of its own, with a derivative of its own
    vectors = network.embedding.weight.detach()[torch.from_numpy(tokens.astype(np.int64))]
    vectors.requires_grad_()
    ids = torch.zeros(mask.shape, dtype=torch.int64)
    ids[seen] = torch.arange(len(tokens))
    outputs = torch.func.functional_call(
        network, {"embedding.weight": vectors}, (ids, seen.sum(dim=1))
    )
    for task in bundle.tasks:
        logits, attention = outputs[task.name]
        calibration = bundle.calibration[task.name]
        given = task.rules.probabilities(logits.detach().numpy(), calibration)
        leaning = torch.from_numpy(task.rules.leaning(given, calibration)).float()
        by_input, by_attention = torch.autograd.grad(
            (logits * leaning).sum(), (vectors, attention), retain_graph=True
        )
        contribution = attention * by_attention
        gradient = (vectors * by_input).sum(dim=1)
        found = (attention[seen], contribution[seen], gradient)
        yield task, tuple(weights.detach().double().numpy() for weights in found)


def _batches(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Texts of like length, so many that they have few tokens."""
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        count = max(1, _BATCH_TOKENS // int(lengths[order[0]]))
        yield order[:count]
        order = order[count:]


# ---------------------------------------------------------------- the control


def _control(bundle: Bundle, data: Dataset) -> dict[str, dict[str, Any]]:
    """Scores with the learnt attention and without, by task."""
    tokens = bundle.tokenizer.encode(data.texts)
    names = [task.name for task in bundle.tasks]
    learnt, uniform = (
        make_engine(weights, bundle.config, bundle.tasks).run(tokens, names).scores
        for weights in (bundle.weights, _uniform(bundle.weights))
    )
    result = {}
    for task in bundle.tasks:
        calibration, labels = bundle.calibration[task.name], data.labels[task.name]
        with_it, without = (
            task.rules.probabilities(scores[task.name].logits, calibration)
            for scores in (learnt, uniform)
        )
        result[task.name] = {
            "learnt": _score(task, labels, with_it),
            "uniform": _score(task, labels, without),
            "same": float(task.rules.same(with_it, without, calibration).mean()),
        }
    return result


def _score(task: Task, labels: Labels, predicted: NDArray[Any]) -> float | None:
    seen = task.rules.observed(labels)
    return score(task, labels[seen], predicted[seen]) if seen.any() else None


def _uniform(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The weights of a network whose attentions find every token the same: a mean."""
    return {
        name: np.zeros_like(array) if name.endswith(".score.weight") else array
        for name, array in weights.items()
    }
