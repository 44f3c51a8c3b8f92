"""A quasi-recurrent layer in torch (Bradbury et al. 2017): window 2, fo-pooling, two directions.

Its gates are functions of a token and the one before it (in the backward direction: the one that
stands after it in the text). So each distinct token of a batch is projected once, in one matrix
product; a place in a text takes a row for its token and one for the token before, and what is left
to do in turn is elementwise. That is one node of autograd's graph, in place of one for each step.

Shapes: U distinct tokens, T tokens of a text, B texts, E embedding, H hidden units a direction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_DIRECTIONS = ("l0", "l0_reverse")


class _FoPooling(torch.autograd.Function):
    """Works on m = (1 + c) / 2, to which σ(2x) = (1 + tanh(x)) / 2 leads: no tanh is computed."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, own: Tensor, before: Tensor) -> Tensor:
        (steps, texts), hidden = own.shape, table.shape[1] // 3
        gates = table.new_empty(steps, texts, 3 * hidden)
        memories = table.new_empty(steps, texts, hidden)
        states = torch.empty_like(memories)
        neighbour = torch.empty_like(gates[0])
        memory = torch.full_like(memories[0], 0.5)
        for t in range(steps):
            torch.index_select(table, 0, own[t], out=gates[t])
            torch.index_select(table, 0, before[t], out=neighbour)
            z, f, o = gates[t].add_(neighbour).sigmoid_().chunk(3, dim=1)
            memory = torch.lerp(z, memory, f, out=memories[t])
            torch.addcmul(-o, o, memory, value=2, out=states[t])  # o·(2·m - 1)
        ctx.save_for_backward(table, own, before, gates, memories)
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        table, own, before, gates, memories = ctx.saved_tensors
        steps = len(gates)
        of_table = torch.zeros_like(table)
        of_gates, of_memory = torch.empty_like(gates[0]), torch.zeros_like(memories[0])
        of_z, of_f, of_o = of_gates.chunk(3, dim=1)
        for t in reversed(range(steps)):
            z, f, o = gates[t].chunk(3, dim=1)
            earlier = memories[t - 1] if t else torch.full_like(memories[0], 0.5)
            of_memory.addcmul_(gradient[t], o, value=2)
            torch.addcmul(-gradient[t], gradient[t], memories[t], value=2, out=of_o)
            torch.mul(of_memory, earlier - z, out=of_f)
            torch.addcmul(of_memory, of_memory, f, value=-1, out=of_z)
            of_gates.mul_(torch.addcmul(gates[t], gates[t], gates[t], value=-1))  # σ' = σ - σ²
            of_table.index_add_(0, own[t], of_gates)
            of_table.index_add_(0, before[t], of_gates)
            of_memory.mul_(f)
        return of_table, None, None


def fo_pooling(table: Tensor, own: Tensor, before: Tensor) -> Tensor:
    """States h = o·c with c = f·c + (1 - f)·z, gates σ(f), σ(o) and z = tanh, c at first zero.

    Args:
        table: [N, 3H] rows whose sums in twos are the arguments of the gates: 2z, f, o.
        own: [T, B] a row for each place.
        before: [T, B] the other one.

    Returns:
        [T, B, H].
    """
    states: Tensor = _FoPooling.apply(table, own, before)  # type: ignore[no-untyped-call]
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

    def forward(self, embedded: Tensor, tokens: Tensor) -> Tensor:
        """[T, 2, B, H] states.

        Args:
            embedded: [U, E] vectors, of which the last is that of no token: zeros.
            tokens: [T, 2, B] rows of it, each direction in the order in which it reads.
        """
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for suffix in _DIRECTIONS:
            weight, bias = (self.get_parameter(f"{name}_{suffix}") for name in ("weight", "bias"))
            twice = torch.ones_like(bias)
            twice[: len(bias) // 3] = 2  # what goes through a tanh
            weights += (weight * twice[:, None]).chunk(2, dim=1)
            biases += [bias * twice, torch.zeros_like(bias)]
        # of each token four rows: for itself and for a neighbour, in both directions
        table = functional.linear(embedded, torch.cat(weights), torch.cat(biases))
        direction = 2 * torch.arange(2, device=tokens.device)[:, None]
        own = 4 * tokens + direction
        nothing = torch.full_like(tokens[:1], len(embedded) - 1)
        before = 4 * torch.cat([nothing, tokens[:-1]]) + direction + 1
        states = fo_pooling(table.view(4 * len(embedded), -1), own.flatten(1), before.flatten(1))
        return states.view(*tokens.shape, -1)
