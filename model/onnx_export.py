"""The network as ONNX, for those who serve it elsewhere: its logits and its attention.

Inputs are `ids` [B, T], anything on padding, and `lengths` [B]; batch and time are dynamic. Outputs
are `<task>.logits` and `<task>.attention`. Tokenizer, n-gram expert and calibration stay outside.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glossator.model.bundle import Bundle
from glossator.model.errors import UsageError
from glossator.model.network import AttentionRNN, TaskHead
from glossator.model.parity import in_batches
from glossator.model.tokenizer import Tokens

_OPSET = 17


class _Plain(nn.Module):
    """The network by operations that ONNX has, each direction a layer of its own."""

    def __init__(self, network: AttentionRNN) -> None:
        super().__init__()
        self._network = network
        config = network.config
        kind = nn.GRU if config.cell == "gru" else nn.LSTM
        self._directions = nn.ModuleList()
        for suffix in ("l0", "l0_reverse"):
            layer = kind(config.embedding, config.hidden, batch_first=True)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                weight = network.rnn.get_parameter(f"{name}_{suffix}")
                layer.get_parameter(f"{name}_l0").data = weight.data
            self._directions.append(layer)

    def forward(self, ids: Tensor, lengths: Tensor) -> list[Tensor]:
        network = self._network
        place = torch.arange(ids.shape[1])[None]
        last = lengths[:, None] - 1
        own = torch.minimum(place, last)
        embedded = network.embedding(ids)
        states = []
        for layer, order in zip(self._directions, (own, last - own), strict=True):
            read = embedded.gather(1, order[..., None].expand_as(embedded))
            given = layer(read)[0]
            # the state of a token is where its direction reads it
            states.append(given.gather(1, order[..., None].expand_as(given)))
        both, mask = torch.cat(states, dim=2), place <= last
        pools = [both.amax(dim=1), (both * mask[..., None]).sum(dim=1) / lengths[:, None]]
        if network.config.min_pooling:
            pools.append(both.amin(dim=1))
        outputs = []
        for head in network.heads.values():
            assert isinstance(head, TaskHead)
            project = network.attention if network.config.shared_attention else head.project
            energy = head.score(torch.tanh(project(both)))[..., 0]
            attention = torch.softmax(energy.masked_fill(~mask, -torch.inf), dim=1)
            attended = (attention[..., None] * both).sum(dim=1)
            outputs += [head(torch.cat([attended, *pools], dim=1)), attention]
        return outputs


def export(bundle: Bundle, path: Path) -> None:
    """Writes the network.

    Raises:
        UsageError: its cell is none that ONNX has, or a package is missing.
    """
    if bundle.config.cell == "qrnn":
        raise UsageError("ONNX has no operation for a QRNN: train with cell gru or lstm")
    try:
        import onnx  # noqa: F401  # torch needs it
    except ImportError:
        raise UsageError("to export needs onnx: pip install 'glossator[onnx]'") from None
    names = [f"{task.name}.{part}" for task in bundle.tasks for part in ("logits", "attention")]
    axes = {"ids": {0: "texts", 1: "tokens"}, "lengths": {0: "texts"}}
    axes |= {name: axes["ids" if name.endswith("attention") else "lengths"] for name in names}
    sample = torch.tensor([[1, 2, 3], [3, 1, 0]]), torch.tensor([3, 2])
    with warnings.catch_warnings():
        # the exporter that is newer fixes the number of tokens
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Plain(bundle.network()).eval(),
            sample,
            str(path),
            input_names=["ids", "lengths"],
            output_names=names,
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )


def runtime(path: Path) -> Callable[[Tokens], Mapping[str, NDArray[Any]]]:
    """What computes logits with the network at `path` in ONNX Runtime.

    Raises:
        UsageError: ONNX Runtime is missing.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError("to check needs onnxruntime: pip install 'glossator[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    names = [one.name for one in session.get_outputs() if one.name.endswith(".logits")]

    def logits(ids: NDArray[Any], lengths: NDArray[Any]) -> dict[str, NDArray[Any]]:
        found = session.run(names, {"ids": ids, "lengths": lengths})
        return {name.removesuffix(".logits"): one for name, one in zip(names, found, strict=True)}

    return lambda tokens: in_batches(tokens, logits)
