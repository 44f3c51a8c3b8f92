"""Dropout by its statistics: how many are dropped, what the others become, and when."""

from __future__ import annotations

import pytest
import torch

from glossator.model.dropout import Dropout


@pytest.mark.parametrize("probability", [0.05, 0.4, 0.9])
def test_so_many_are_dropped_and_the_others_are_larger(probability: float) -> None:
    torch.manual_seed(1)
    values = torch.arange(1.0, 200_002.0).view(3, -1)
    dropped = Dropout(probability)(values)
    gone = dropped == 0
    # five standard deviations of a share of 200,001
    assert gone.double().mean().item() == pytest.approx(probability, abs=0.006)
    for lane in range(4):  # numbers that share 64 random bits
        share = gone.flatten()[lane::4].double().mean().item()
        assert share == pytest.approx(probability, abs=0.012)
    torch.testing.assert_close(dropped[~gone], values[~gone] / (1 - probability), rtol=1e-4, atol=0)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(2)
    gone = Dropout(0.5)(torch.ones(200_000)) == 0
    for distance in (1, 2, 3, 4):
        both = (gone[:-distance] & gone[distance:]).double().mean().item()
        assert both == pytest.approx(0.25, abs=0.006)


def test_gradients_pass_where_values_do() -> None:
    values = torch.ones(100, requires_grad=True)
    dropped = Dropout(0.5)(values)
    dropped.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, dropped.detach())


def test_nothing_is_dropped_when_it_is_not_training_or_not_asked_for() -> None:
    values = torch.ones(10)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values


def test_the_seed_decides() -> None:
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(Dropout(0.5)(torch.ones(100)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
