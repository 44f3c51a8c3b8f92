"""A quasi-recurrent layer in torch (Bradbury et al. 2017): window 2, fo-pooling, two directions.

Its gates are functions of a token and the one before it, so those of all tokens are one matrix
product; what is left to do in turn is elementwise. In the backward direction the token before is
the one that stands after it in the text.

Shapes: D directions, T tokens, B texts, E embedding, H hidden units a direction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_DIRECTIONS = ("l0", "l0_reverse")


class _LinearRecurrence(torch.autograd.Function):
    """One node of autograd's graph in place of one for each step."""

    @staticmethod
    def forward(ctx: Any, factors: Tensor, inputs: Tensor) -> Tensor:
        states = torch.empty_like(inputs)
        state = torch.zeros_like(inputs[:, 0])
        for factor, value, out in zip(
            factors.unbind(1), inputs.unbind(1), states.unbind(1), strict=True
        ):
            state = torch.addcmul(value, factor, state, out=out)
        ctx.save_for_backward(factors, states)
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        factors, states = ctx.saved_tensors
        # of a state through all that follow: what the next one passes back is f times its own
        whole = torch.empty_like(gradient)
        steps = list(zip(factors.unbind(1), gradient.unbind(1), whole.unbind(1), strict=True))
        behind, last, out = steps[-1]
        later = out.copy_(last)
        for factor, value, out in reversed(steps[:-1]):
            later = torch.addcmul(value, behind, later, out=out)
            behind = factor
        of_factors = torch.empty_like(whole)
        of_factors[:, 0] = 0
        torch.mul(whole[:, 1:], states[:, :-1], out=of_factors[:, 1:])
        return of_factors, whole


def linear_recurrence(factors: Tensor, inputs: Tensor) -> Tensor:
    """States c_t = f_t·c_{t-1} + x_t along the second dimension, with c before the first zero.

    Args:
        factors: [D, T, …] f, T at least 1.
        inputs: [D, T, …] x.
    """
    states: Tensor = _LinearRecurrence.apply(factors, inputs)  # type: ignore[no-untyped-call]
    return states


class QRNN(nn.Module):
    """Gates z = tanh, f and o = σ of W·(x_t ⊕ x_{t-1}) + b; c = f·c + (1-f)·z; h = o·c."""

    def __init__(self, embedding: int, hidden: int) -> None:
        super().__init__()
        bound = (2 * embedding) ** -0.5
        for suffix in _DIRECTIONS:
            for name, shape in (
                (f"weight_{suffix}", (3 * hidden, 2 * embedding)),
                (f"bias_{suffix}", (3 * hidden,)),
            ):
                parameter = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
                self.register_parameter(name, parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """[2, T, B, H] states.

        Args:
            inputs: [2, T, B, E], each direction in the order in which it reads.
        """
        before = functional.pad(inputs, (0, 0, 0, 0, 1, -1))  # nothing stands before the first
        window = torch.cat([inputs, before], dim=3)
        weight, bias = (
            torch.stack([self.get_parameter(f"{name}_{suffix}") for suffix in _DIRECTIONS])
            for name in ("weight", "bias")
        )
        gates = torch.baddbmm(bias[:, None], window.flatten(1, 2), weight.mT)
        z, f, o = gates.view(*window.shape[:3], -1).chunk(3, dim=3)
        forget = torch.sigmoid(f)
        return torch.sigmoid(o) * linear_recurrence(forget, (1 - forget) * torch.tanh(z))
