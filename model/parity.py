"""Whether two ways to compute a model give the same answers: a certificate with figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glossator.model import engines
from glossator.model.bundle import Bundle
from glossator.model.labeller import Labeller

if TYPE_CHECKING:
    from glossator.model.tokenizer import Tokens

MOST = 1e-5
"""Between two probabilities, or values in units of a standard deviation."""
TEXTS = 10_000
"""That a certificate is made of, where there are so many."""
_BATCH = 64

Logits = Callable[["Tokens"], Mapping[str, NDArray[Any]]]
"""[n, outputs] of the network alone, by task, of texts."""


@dataclass(frozen=True)
class Certificate:
    """How far what computes a model is from its plain float32 network in torch."""

    what: str
    """What computes it."""
    texts: int
    largest_difference: float
    """Between two probabilities of a label, of all texts, tasks and labels."""
    flips: int
    """Answers that differ. Where the largest difference is d, probabilities that decide are no
    more than 2·d apart there: a tie."""

    @property
    def holds(self) -> bool:
        """Whether the difference is small enough."""
        return self.largest_difference <= MOST

    def line(self) -> str:
        """The certificate for people."""
        return (
            f"{self.what}: within {self.largest_difference:.1e} of torch in float32 on "
            f"{self.texts:,} texts, {self.flips} answers differ"
            + ("" if self.holds else f": more than the {MOST:.0e} that are allowed")
        )

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def certify(
    bundle: Bundle, texts: Sequence[str], what: str = "", given: Logits | None = None
) -> Certificate:
    """Compares probabilities with those of the plain network.

    Args:
        bundle: the model.
        texts: none of them blank.
        what: the name of what is compared.
        given: what it gives for texts; without it the engine that labels here is compared.
    """
    texts = texts[:TEXTS]
    names = [task.name for task in bundle.tasks]
    labeller = Labeller(bundle, names)
    tokens = bundle.tokenizer.encode(texts)
    expected = labeller.probabilities(tokens, _plain(bundle, tokens))
    found = labeller.probabilities(tokens, given(tokens) if given else None)
    largest, flips = 0.0, 0
    for task in bundle.tasks:
        one, other = expected[task.name], found[task.name]
        largest = max(largest, float(np.abs(one - other).max(initial=0.0)))
        flips += int((~task.rules.same(one, other, bundle.calibration[task.name])).sum())
    return Certificate(what or engines.description(), len(texts), largest, flips)


def _plain(bundle: Bundle, tokens: Tokens) -> dict[str, NDArray[Any]]:
    """The network's own logits, in batches of texts of like length."""
    import torch

    network = bundle.network()

    @torch.inference_mode()
    def logits(ids: NDArray[Any], lengths: NDArray[Any]) -> dict[str, NDArray[Any]]:
        outputs = network(torch.from_numpy(ids), torch.from_numpy(lengths))
        return {name: output.logits.numpy() for name, output in outputs.items()}

    return in_batches(tokens, logits)


def in_batches(
    tokens: Tokens, logits: Callable[[NDArray[Any], NDArray[Any]], Mapping[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """[n, outputs] by task, computed in batches of texts of like length.

    Args:
        tokens: of n texts.
        logits: gives those of a batch, of [B, T] padded ids and [B] lengths.
    """
    order = np.argsort(tokens.lengths, kind="stable")
    parts = [
        logits(*tokens.select(order[first : first + _BATCH]).padded())
        for first in range(0, len(order), _BATCH)
    ]
    back = np.argsort(order)
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
