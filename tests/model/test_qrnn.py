"""Fo-pooling against autograd of its plain loop, and against differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glossator.model.qrnn import fo_pooling

ROWS, HIDDEN = 7, 3


def looped(table: Tensor, own: Tensor, before: Tensor) -> Tensor:
    """By the formulas of Bradbury et al. 2017."""
    c = table.new_zeros(own.shape[1], HIDDEN)
    states = []
    for t in range(len(own)):
        z, f, o = (table[own[t]] + table[before[t]]).split(HIDDEN, dim=1)
        f = torch.sigmoid(f)
        c = f * c + (1 - f) * torch.tanh(z / 2)
        states.append(torch.sigmoid(o) * c)
    return torch.stack(states)


def random(steps: int, texts: int) -> tuple[Tensor, Tensor, Tensor]:
    """A table, and places that share rows of it."""
    generator = torch.Generator().manual_seed(steps)
    table = torch.randn(ROWS, 3 * HIDDEN, generator=generator, dtype=torch.double)
    rows = torch.randint(ROWS, (2, steps, texts), generator=generator)
    return table.requires_grad_(), rows[0], rows[1]


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_states_and_gradients_are_those_of_the_loop(steps: int) -> None:
    table, own, before = random(steps, texts=4)
    weights = torch.randn(steps, 4, HIDDEN, dtype=torch.double)
    results = []
    for pooling in (fo_pooling, looped):
        states = pooling(table, own, before)
        results.append((states, *torch.autograd.grad((states * weights).sum(), (table,))))
    for given, expected in zip(*results, strict=True):
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gradients_are_those_of_differences(steps: int) -> None:
    assert torch.autograd.gradcheck(fo_pooling, random(steps, texts=2))


def test_a_gradient_in_another_layout_gives_the_same() -> None:
    table, own, before = random(4, texts=3)
    weights = torch.randn(3, HIDDEN, 4, dtype=torch.double).permute(2, 0, 1)
    given, expected = (
        torch.autograd.grad(fo_pooling(table, own, before), (table,), some)[0]
        for some in (weights, weights.contiguous())
    )
    assert torch.equal(given, expected)
