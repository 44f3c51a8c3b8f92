"""Whether the tokens that are said to have contributed most are those that the answer depends on.

Erasure (DeYoung et al. 2020, ERASER): drop the tokens that a summary weighs most, or keep only
those, run the network again and see how far it still stands by the answer. The summary is what
labelling publishes, each token's contribution. Beside it: random tokens, the attention alone, and
gradient × input on the embedding, which costs a pass backwards. As a control, the place of the
learnt attention is taken by a mean over the states (Jain & Wallace 2019; Wiegreffe & Pinter 2019).

What is erased from is the network: what else a bundle may ask for its answer reads no states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.bundle import Bundle
from glossator.model.engines import make_engine
from glossator.model.evaluation.evaluate import score
from glossator.model.kinds import Labels
from glossator.model.labelled.dataset import Dataset
from glossator.model.labeller import Labeller
from glossator.model.metrics import bootstrap
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokens

FRACTIONS = (0.1, 0.2, 0.5)
"""Shares of a text's tokens that are dropped, or kept alone."""
TEXTS = 300
"""Texts that are erased from, at most."""
SUMMARIES = ("contribution", "attention", "gradient")
"""What may say which tokens count, beside chance; the first is what labelling publishes."""
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
    names = [task.name for task in bundle.tasks]
    answers = Labeller(bundle, names).answers(tokens).tasks
    given = {name: answer.probabilities for name, answer in answers.items()}
    weights = {
        "contribution": {
            name: answer.contributions.weights.astype(np.float64)
            for name, answer in answers.items()
            if answer.contributions
        },
        **_differentiated(bundle, tokens, given),
    }
    generator = np.random.default_rng(0)
    chance = [generator.random(len(tokens.ids)) for _ in range(_DRAWS)]
    network = _Erased(bundle, tokens, given)
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
    """What the figures of one task say of what is published, in a word; by its intervals.

    Args:
        measured: as `measure` gives it for the task.

    Returns:
        `better` than random tokens; better when its tokens are `dropped` or `kept` alone; `chance`.
    """
    published = measured[SUMMARIES[0]]
    dropped, kept = (
        published[f"{half}_gain"][1] > 0 for half in ("comprehensiveness", "sufficiency")
    )
    return {(True, True): "better", (True, False): "dropped", (False, True): "kept"}.get(
        (dropped, kept), "chance"
    )


def sentence(measured: Mapping[str, Any]) -> str:
    """What the figures of one task mean for those who read its marked words.

    Args:
        measured: as `measure` gives it for the task.
    """
    said = {
        "better": "Marked words count for more than random ones",
        "dropped": "Marked words count for more than random ones only when dropping them",
        "kept": "Marked words count for more than random ones only when keeping them alone",
        "chance": "Marked words are no better than random ones at saying what the answer "
        "depends on",
    }[verdict(measured)]
    published, random = (measured[name]["comprehensiveness"] for name in (SUMMARIES[0], "random"))
    return (
        f"{said}: dropping the tokens that contributed most moves the answer by {published:.3f}, "
        f"random ones by {random:.3f}."
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
    """Texts with some of their tokens, run through the network, beside the answers given."""

    def __init__(
        self, bundle: Bundle, tokens: Tokens, given: Mapping[str, NDArray[np.float64]]
    ) -> None:
        self._bundle, self._tokens, self._given = bundle, tokens, given
        self._engine = make_engine(bundle.weights, bundle.config, bundle.tasks)
        self._whole = self._agreement(tokens, [task.name for task in bundle.tasks])

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
                other = self._agreement(_subset(self._tokens, kept), names)
                for name in names:
                    total[name][:, column] += self._whole[name] - other[name]
        return {name: falls / len(FRACTIONS) for name, falls in total.items()}

    def _agreement(self, tokens: Tokens, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """[n] by task: how far the network stands by the answers given, from these tokens."""
        scores = self._engine.run(tokens, names).scores
        result = {}
        for task in self._bundle.tasks:
            if task.name in names:
                calibration = self._bundle.calibration[task.name]
                found = task.rules.probabilities(scores[task.name].logits, calibration)
                result[task.name] = task.rules.agreement(self._given[task.name], found, calibration)
        return result


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


# ---------------------------------------------------------------- what autograd says


def _differentiated(
    bundle: Bundle, tokens: Tokens, given: Mapping[str, NDArray[np.float64]]
) -> dict[str, dict[str, TokenWeights]]:
    """[t] by summary and task: the attention, and gradient × input of what speaks for the answer.

    Args:
        bundle: the model.
        tokens: of n texts.
        given: [n, labels] the answers, by task.
    """
    import torch

    network = bundle.network()
    result = {
        summary: {task.name: np.empty(len(tokens.ids)) for task in bundle.tasks}
        for summary in SUMMARIES[1:]
    }
    for rows in _batches(tokens.lengths):
        mask = np.arange(tokens.lengths[rows].max()) < tokens.lengths[rows, None]
        at = (tokens.offsets[rows, None] + np.arange(mask.shape[1]))[mask]
        seen = torch.from_numpy(mask)
        # every occurrence is a token of its own, with a derivative of its own
        vectors = network.embedding.weight.detach()[torch.from_numpy(tokens.ids[at].astype(int))]
        vectors.requires_grad_()
        ids = torch.zeros(mask.shape, dtype=torch.int64)
        ids[seen] = torch.arange(len(at))
        outputs = torch.func.functional_call(
            network, {"embedding.weight": vectors}, (ids, seen.sum(dim=1))
        )
        for task in bundle.tasks:
            logits, attention = outputs[task.name]
            calibration = bundle.calibration[task.name]
            leaning = torch.from_numpy(task.rules.leaning(given[task.name][rows], calibration))
            (by_input,) = torch.autograd.grad(
                (logits * leaning.float()).sum(), vectors, retain_graph=True
            )
            result["attention"][task.name][at] = attention[seen].detach().numpy()
            result["gradient"][task.name][at] = (vectors * by_input).sum(dim=1).detach().numpy()
    return result


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
