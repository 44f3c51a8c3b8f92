"""The linear recurrence against autograd of its plain loop, and against differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glossator.model.qrnn import linear_recurrence


def looped(factors: Tensor, inputs: Tensor) -> Tensor:
    state = torch.zeros_like(inputs[:, 0])
    states = []
    for t in range(inputs.shape[1]):
        state = factors[:, t] * state + inputs[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


def random(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    factors = torch.rand(shape, generator=generator, dtype=torch.double)
    inputs = torch.randn(shape, generator=generator, dtype=torch.double)
    return factors.requires_grad_(), inputs.requires_grad_()


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_states_and_gradients_are_those_of_the_loop(steps: int) -> None:
    factors, inputs = random(2, steps, 3, 4)
    weights = torch.randn(inputs.shape, dtype=torch.double)
    results = []
    for recurrence in (linear_recurrence, looped):
        states = recurrence(factors, inputs)
        results.append((states, *torch.autograd.grad((states * weights).sum(), (factors, inputs))))
    for given, expected in zip(*results, strict=True):
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gradients_are_those_of_differences(steps: int) -> None:
    assert torch.autograd.gradcheck(linear_recurrence, random(2, steps, 2, 3))


def test_inputs_in_any_layout() -> None:
    factors, inputs = (values.transpose(1, 2) for values in random(2, 3, 6, 4))
    given, expected = linear_recurrence(factors, inputs), looped(factors, inputs)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(linear_recurrence, (factors, inputs))
