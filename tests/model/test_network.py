"""The reference network: padding has no influence, pooling and losses against loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from networks import NETWORKS
from numpy.typing import NDArray
from torch import Tensor

from glossator.model.architecture import (
    NetworkConfig,
    flops_per_token,
    parameter_count,
    tensor_shapes,
)
from glossator.model.errors import UsageError
from glossator.model.network import AttentionRNN
from glossator.model.tasks import Task

MakeNetwork = Callable[[str], AttentionRNN]
NAMES = ("mood", "topics", "stars", "gender")

single = Task("mood", "single", ("a", "b", "c"))
multi = Task("topics", "multi", ("s", "p"))
regression = Task("stars", "regression")


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, make_network: MakeNetwork) -> AttentionRNN:
    return make_network(request.param)


def padded(rows: list[list[int]], width: int, filling: int = 0) -> tuple[Tensor, Tensor]:
    ids = torch.full((len(rows), width), filling)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids, torch.tensor([len(row) for row in rows])


ROWS = [[5], [9, 8, 7, 6, 5, 4], [3, 200, 17], [11] * 12]


def test_padding_and_neighbours_have_no_influence(network: AttentionRNN) -> None:
    # in doubles: a leak of any size stands out from the rounding, which depends on the shapes
    network = network.double()
    alone = [network(*padded([row], len(row))) for row in ROWS]
    for width, filling in ((12, 0), (12, 123), (31, 9), (13, 10**6)):
        together = network(*padded(ROWS, width, filling))
        for name, output in together.items():
            assert output.attention.shape == (len(ROWS), width)
            for i, row in enumerate(ROWS):
                own = alone[i][name]
                torch.testing.assert_close(output.logits[i], own.logits[0], rtol=0, atol=1e-12)
                torch.testing.assert_close(
                    output.attention[i, : len(row)], own.attention[0], rtol=0, atol=1e-12
                )


def test_padding_gets_no_gradient(network: AttentionRNN) -> None:
    garbage = 123
    outputs = network(*padded(ROWS, 20, garbage))
    loss = sum(output.logits.square().sum() for output in outputs.values())
    assert isinstance(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = network.embedding.weight.grad
    assert gradient is not None
    touched = set(gradient.abs().sum(dim=1).nonzero()[:, 0].tolist())
    assert touched == {i for row in ROWS for i in row}


def test_attention_sums_to_one_over_its_own_tokens(network: AttentionRNN) -> None:
    for output in network(*padded(ROWS, 15)).values():
        for weights, row in zip(output.attention, ROWS, strict=True):
            assert weights[: len(row)].sum().item() == pytest.approx(1, abs=1e-6)
            assert (weights[: len(row)] > 0).all()
            assert (weights[len(row) :] == 0).all()


def test_each_task_attends_for_itself(network: AttentionRNN) -> None:
    outputs = network(*padded(ROWS, 12))
    assert not torch.allclose(outputs["mood"].attention, outputs["topics"].attention)
    assert {name: output.logits.shape[1] for name, output in outputs.items()} == {
        "mood": 3,
        "topics": 2,
        "stars": 1,
        "gender": 2,
    }


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))


def slow_states(network: AttentionRNN, row: list[int]) -> NDArray[np.float64]:
    """[T, 2H] by the formulas of Cho et al. 2014 and Hochreiter & Schmidhuber 1997, in doubles."""
    weights = {k: v.detach().double().numpy() for k, v in network.state_dict().items()}
    hidden = network.config.hidden
    directions = []
    if network.config.cell == "qrnn":
        return slow_qrnn_states(weights, row)
    for suffix, order in (("", range(len(row))), ("_reverse", range(len(row) - 1, -1, -1))):
        w_ih, w_hh, b_ih, b_hh = (
            weights[f"rnn.{name}_l0{suffix}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h, c = np.zeros(hidden), np.zeros(hidden)
        states = np.zeros((len(row), hidden))
        for t in order:
            x = w_ih @ weights["embedding.weight"][row[t]] + b_ih
            u = w_hh @ h + b_hh
            if network.config.cell == "gru":
                x_r, x_z, x_n = np.split(x, 3)
                u_r, u_z, u_n = np.split(u, 3)
                r, z = sigmoid(x_r + u_r), sigmoid(x_z + u_z)
                h = (1 - z) * np.tanh(x_n + r * u_n) + z * h
            else:
                i, f, g, o = np.split(x + u, 4)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            states[t] = h
        directions.append(states)
    return np.concatenate(directions, axis=1)


def slow_qrnn_states(weights: dict[str, NDArray[np.float64]], row: list[int]) -> Any:
    """[T, 2H] by the formulas of Bradbury et al. 2017, window 2 and fo-pooling, in doubles."""
    tokens = weights["embedding.weight"][row]
    directions = []
    for suffix, step in (("", 1), ("_reverse", -1)):
        weight, bias = weights[f"rnn.weight_l0{suffix}"], weights[f"rnn.bias_l0{suffix}"]
        states, before, c = [], np.zeros_like(tokens[0]), 0
        for token in tokens[::step]:
            z, f, o = np.split(weight @ np.concatenate([token, before]) + bias, 3)
            c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(z)
            states.append(sigmoid(o) * c)
            before = token
        directions.append(np.stack(states[::step]))
    return np.concatenate(directions, axis=1)


def test_attention_and_pools_are_those_of_a_loop(network: AttentionRNN) -> None:
    weights = {k: v.astype(np.float64) for k, v in network.weights().items()}
    outputs = network(*padded(ROWS, 14, filling=77))
    for i, row in enumerate(ROWS):
        states = slow_states(network, row)
        for name, output in outputs.items():
            own = {k.removeprefix(f"heads.{name}."): v for k, v in weights.items()}
            shared = network.config.shared_attention
            weight, bias = (
                weights[f"attention.{part}"] if shared else own[f"project.{part}"]
                for part in ("weight", "bias")
            )
            energy = [float(own["score.weight"][0] @ np.tanh(weight @ h + bias)) for h in states]
            share = np.exp(energy) / np.exp(energy).sum()
            attended = sum(w * h for w, h in zip(share, states, strict=True))
            highest = [max(h[j] for h in states) for j in range(states.shape[1])]
            mean = [sum(h[j] for h in states) / len(row) for j in range(states.shape[1])]
            lowest = [min(h[j] for h in states) for j in range(states.shape[1])]
            pools = [attended, highest, mean, *([lowest] if network.config.min_pooling else [])]
            pooled = np.concatenate(pools)
            pooled = (pooled - pooled.mean()) / np.sqrt(pooled.var() + 1e-5)
            pooled = pooled * own["norm.weight"] + own["norm.bias"]
            logits = own["output.weight"] @ pooled + own["output.bias"]
            assert output.logits[i].tolist() == pytest.approx(logits.tolist(), abs=2e-5)
            assert output.attention[i, : len(row)].tolist() == pytest.approx(
                share.tolist(), abs=1e-6
            )


def test_a_network_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="cell 'rnn' is not one of gru, lstm, qrnn"):
        NetworkConfig(vocabulary=300, cell="rnn")  # type: ignore[arg-type]
    for wrong in (0, -1, 10**9, 2.0, True, "16"):
        with pytest.raises(UsageError, match=f"hidden {wrong!r} is not between 1 and 2,048"):
            NetworkConfig(vocabulary=300, hidden=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="vocabulary 1000000 is not between 1 and 262,144"):
        NetworkConfig(vocabulary=1_000_000)
    with pytest.raises(UsageError, match="makes tables of 3,221,225,472 bytes, more than 1,073,7"):
        NetworkConfig(vocabulary=1 << 18, embedding=1, hidden=512, attention=4)
    with pytest.raises(UsageError, match="makes tables of 1,610,612,736 bytes, more than 1,073,7"):
        NetworkConfig(vocabulary=1 << 18, embedding=1, hidden=128, attention=4, cell="qrnn")
    for name in ("shared_attention", "min_pooling"):
        with pytest.raises(UsageError, match=f"{name} 1 is no boolean"):
            NetworkConfig(vocabulary=300, **{name: 1})
    config = NetworkConfig(vocabulary=300, hidden=8, cell="lstm", min_pooling=True)
    assert NetworkConfig(**config.to_json()) == config


def test_weights_are_named_and_shaped_as_the_architecture_says(network: AttentionRNN) -> None:
    tasks = (single, multi, regression, Task("gender", "single", ("f", "m")))
    weights = network.weights()
    assert {name: array.shape for name, array in weights.items()} == tensor_shapes(
        network.config, [replace(t, name=n) for n, t in zip(NAMES, tasks, strict=True)]
    )
    assert all(array.dtype == np.float32 for array in weights.values())
    assert parameter_count(network.config, tasks) == sum(p.numel() for p in network.parameters())


def test_the_arithmetic_of_a_token() -> None:
    """Of the default sizes and four tasks, in multiplications and additions."""
    # a projection: 64 sums of 256 products and a bias; a task: a sum of 64 and one of 256 products
    projection, task = 64 * (256 * 2 + 1), 64 * 2 + 256 * 2
    gru = NetworkConfig(16_000)
    # 256 units of 3 sums of 128 products; 3 gates have 2 terms, one of them a bias and a factor
    # more, and a state is n + z·(h - n)
    recurrence = 256 * (3 * 128 * 2 + 3 + 2 + 3)
    assert flops_per_token(gru, 4) == recurrence + 4 * (projection + task)
    qrnn = NetworkConfig(16_000, cell="qrnn", shared_attention=True, min_pooling=True)
    # no products: gates of two terms, c = z + f·(c - z), h = o·c
    assert flops_per_token(qrnn, 4) == 256 * (3 + 3 + 1) + projection + 4 * task == 37_184
    # 4 gates, c = f·c + i·g, h = o·tanh(c)
    lstm = NetworkConfig(16_000, cell="lstm", shared_attention=True)
    assert flops_per_token(lstm, 1) == 256 * (4 * 128 * 2 + 4 + 3 + 1) + projection + task


def test_weights_come_back(network: AttentionRNN, tasks: tuple[Task, ...]) -> None:
    other = AttentionRNN(network.config, tasks).eval()
    other.load_weights(network.weights())
    batch = padded(ROWS, 12)
    for name, output in network(*batch).items():
        assert torch.equal(output.logits, other(*batch)[name].logits)


def test_a_sparse_gradient_of_the_embedding_is_the_dense_one(network: AttentionRNN) -> None:
    gradients = []
    tasks = [single, multi]
    for sparse in (False, True):
        torch.manual_seed(3)
        other = AttentionRNN(network.config, tasks, dropout=0.3, sparse=sparse)
        loss = other(*padded(ROWS, 15))["mood"].logits.square().sum()
        loss.backward()
        gradient = other.embedding.weight.grad
        assert gradient is not None
        gradients.append(gradient)
    dense, thin = gradients
    assert thin.is_sparse
    rows = thin.coalesce().indices()[0].tolist()
    assert rows == sorted({i for row in ROWS for i in row}), "none of padding"
    torch.testing.assert_close(thin.to_dense(), dense)


def test_a_task_may_have_any_name() -> None:
    """Among them names of methods of torch's containers."""
    names = ("type", "values", "heads", "_modules", "task_a", "task_task_a")
    tasks = [Task(name, "regression") for name in names]
    network = AttentionRNN(NetworkConfig(300, 4, "gru", 4, 4), tasks).eval()
    assert tuple(network(*padded(ROWS, 12))) == names
    assert {name.split(".")[1] for name in network.weights() if name.startswith("heads")} == {
        *names
    }


def test_dropped_tokens_only_in_training() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(vocabulary=300, embedding=8, hidden=8, attention=4)
    network = AttentionRNN(config, [single], dropout=0.5, embedding_dropout=0.5)
    batch = padded(ROWS, 12)
    assert not torch.equal(network(*batch)["mood"].logits, network(*batch)["mood"].logits)
    network.eval()
    assert torch.equal(network(*batch)["mood"].logits, network(*batch)["mood"].logits)


# ---------------------------------------------------------------- losses

nan = math.nan


def task_loss(task: Task, logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor | None:
    return task.rules.loss(logits, targets, task.labels, smoothing)


def test_the_loss_of_a_single_task_by_hand() -> None:
    # probabilities 1/2, 1/4, 1/4 and 0.2, 0.2, 0.6
    logits = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 3.0], [9.0, 9.0, 9.0]]).log()
    labels = torch.tensor([1, 2, -1])
    loss = task_loss(single, logits, labels)
    assert loss is not None
    assert loss.item() == pytest.approx((-math.log(0.25) - math.log(0.6)) / 2 / math.log(3))
    smoothed = task_loss(single, logits[:1], labels[:1], smoothing=0.3)
    assert smoothed is not None
    # the label keeps 0.7 and a third of 0.3; the others get a third of 0.3
    assert smoothed.item() == pytest.approx(
        (-0.1 * math.log(0.5) - 0.8 * math.log(0.25) - 0.1 * math.log(0.25)) / math.log(3)
    )


def test_the_loss_of_a_multi_task_by_hand() -> None:
    odds = torch.tensor([[3.0, 1.0], [1.0, 0.25], [7.0, 7.0]])  # 3/4 1/2, 1/2 1/5
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [nan, nan]])
    loss = task_loss(multi, odds.log(), labels)
    assert loss is not None
    expected = -(math.log(3 / 4) + math.log(1 / 2) + math.log(1 / 2) + math.log(1 / 5)) / 4
    assert loss.item() == pytest.approx(expected / math.log(2))


def test_the_loss_of_a_regression_by_hand() -> None:
    loss = task_loss(regression, torch.tensor([[1.0], [4.0], [9.0]]), torch.tensor([2.0, nan, 5.0]))
    assert loss is not None
    assert loss.item() == pytest.approx((1 + 16) / 2)


def test_a_guess_costs_one() -> None:
    for task, labels in ((single, torch.tensor([0, 1])), (multi, torch.tensor([[0.0, 1.0]]))):
        loss = task_loss(task, torch.zeros(len(labels), task.outputs), labels)
        assert loss is not None
        assert loss.item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (single, torch.tensor([0, -1, 2, -1])),
        (multi, torch.tensor([[1.0, 0.0], [nan, nan], [0.0, 0.0], [nan, nan]])),
        (regression, torch.tensor([0.5, nan, -2.0, nan])),
    ],
)
def test_rows_without_a_label_change_neither_loss_nor_gradient(task: Task, labels: Tensor) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, task.outputs, generator=generator, requires_grad=True)
    seen = torch.tensor([0, 2])
    loss, alone = task_loss(task, logits, labels), task_loss(task, logits[seen], labels[seen])
    assert loss is not None
    assert alone is not None
    assert loss.item() == alone.item()
    (gradient,) = torch.autograd.grad(loss, logits)
    (gradient_alone,) = torch.autograd.grad(alone, logits)
    assert torch.equal(gradient, gradient_alone)
    assert (gradient[[1, 3]] == 0).all()
    assert (gradient[seen] != 0).any()
    other = logits.detach().clone()
    other[[1, 3]] = 1e9
    changed = task_loss(task, other, labels)
    assert changed is not None
    assert changed.item() == loss.item()
    assert task_loss(task, logits[[1, 3]], labels[[1, 3]]) is None
