"""The model as a folder: save it, load it, trust it.

`bundle.json` holds what is to be known (format, tasks, network, calibration, provenance, metrics)
and the SHA-256 of every other file. Loading runs no code from the bundle, checks every digest and
refuses a format that it does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from glossator.model.architecture import NetworkConfig
from glossator.model.calibrate import Calibration
from glossator.model.errors import UsageError
from glossator.model.tasks import Task, parse_task
from glossator.model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from glossator.model.network import AttentionRNN

FORMAT = 1
DEFAULT = "default"
"""The name of the bundle inside the package, wherever that is installed."""

_INDEX, _WEIGHTS, _TOKENIZER, _CARD = (
    "bundle.json",
    "model.safetensors",
    "tokenizer.json",
    "MODEL_CARD.md",
)


@dataclass(frozen=True)
class Bundle:
    """A trained model and all that is needed to use it."""

    tasks: tuple[Task, ...]
    config: NetworkConfig
    """The sizes of the network."""
    weights: Mapping[str, NDArray[np.float32]]
    """Its arrays, by the names of `architecture.tensor_shapes`."""
    tokenizer: Tokenizer
    calibration: Mapping[str, Calibration]
    """By task name."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, settings, versions and the course of training."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """As `evaluate.evaluate` gives them, on the test split."""
    card: str = ""
    """The model card, Markdown."""
    digest: str = ""
    """SHA-256 over all that a label depends on; set by `load`, given by `save`."""

    def network(self) -> AttentionRNN:
        """The network in torch, for training and as a reference; labelling does without it."""
        from glossator.model.network import AttentionRNN

        network = AttentionRNN(self.config, self.tasks)
        network.load_weights(self.weights)
        return network.eval()


def save(bundle: Bundle, folder: str | Path) -> str:
    """Writes the bundle to a local folder, `bundle.json` last, and returns its digest."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    files = {
        _WEIGHTS: save_tensors(dict(bundle.weights)),
        _TOKENIZER: bundle.tokenizer.to_json().encode(),
        _CARD: bundle.card.encode(),
    }
    (target / _INDEX).unlink(missing_ok=True)
    for name, content in files.items():
        (target / name).write_bytes(content)
    index = {
        "format": FORMAT,
        "tasks": {task.name: task.to_json() for task in bundle.tasks},
        "network": bundle.config.to_json(),
        "tokenizer": {"max_tokens": bundle.tokenizer.max_tokens},
        "calibration": {name: c.to_json() for name, c in bundle.calibration.items()},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "provenance": bundle.provenance,
        "metrics": bundle.metrics,
    }
    text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
    (target / _INDEX).write_text(text, encoding="utf-8")
    return _digest(index)


def load(where: str | Path) -> Bundle:
    """The bundle at a folder, an fsspec URI or `DEFAULT`.

    Raises:
        UsageError: there is none, it is damaged or foreign, or of an unknown format.
    """
    root = str(Path(__file__).parent / "default") if where == DEFAULT else str(where)
    index = _read_index(root)
    content = {name: _read(root, name) for name in index["files"]}
    for name, expected in index["files"].items():
        if (found := hashlib.sha256(content[name]).hexdigest()) != expected:
            raise UsageError(
                f"model {where}: {name} is damaged (SHA-256 {found[:12]}…, bundle.json says "
                f"{expected[:12]}…); copy the bundle again or train it anew"
            )
    try:
        tasks = tuple(
            parse_task(name, t, f"{where}/{_INDEX}") for name, t in index["tasks"].items()
        )
        config = NetworkConfig(**index["network"])
        weights = load_tensors(content[_WEIGHTS])
        tokenizer = Tokenizer.from_json(
            content[_TOKENIZER].decode(), index["tokenizer"]["max_tokens"]
        )
        calibration = {t.name: Calibration(**index["calibration"][t.name]) for t in tasks}
        if tokenizer.size != config.vocabulary:
            raise ValueError(f"{tokenizer.size} tokens, network.vocabulary differs")
    except UsageError:
        raise
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        SafetensorError,
    ) as error:
        # RuntimeError: torch's word for weights of other names or shapes
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"model {where} does not fit together: {reason}; train it anew") from error
    return Bundle(
        tasks=tasks,
        config=config,
        weights=weights,
        tokenizer=tokenizer,
        calibration=calibration,
        provenance=index.get("provenance", {}),
        metrics=index.get("metrics", {}),
        card=content.get(_CARD, b"").decode(),
        digest=_digest(index),
    )


def _read_index(root: str) -> dict[str, Any]:
    try:
        index = json.loads(_read(root, _INDEX))
    except ValueError as error:
        raise UsageError(f"model {root}: {_INDEX} is not JSON: {error}") from error
    if not isinstance(index, dict) or "format" not in index:
        raise UsageError(f"model {root}: {_INDEX} is not of a Glossator bundle")
    if index["format"] != FORMAT:
        raise UsageError(
            f"model {root} has format {index['format']!r}, this Glossator reads format {FORMAT}: "
            "use the version that wrote it, or train anew"
        )
    files = index.get("files")
    if not isinstance(files, dict) or not {_WEIGHTS, _TOKENIZER} <= set(files):
        raise UsageError(f"model {root}: {_INDEX} names no weights or no tokenizer")
    return index


def _read(root: str, name: str) -> bytes:
    if "/" in name or "\\" in name:
        raise UsageError(f"model {root}: file name {name!r} leads out of the bundle")
    try:
        with fsspec.open(f"{root.rstrip('/')}/{name}", "rb") as stream:
            return bytes(stream.read())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"no model at {root}: {name} is missing; give --model a folder that "
            "`glossator train` wrote"
        ) from None
    except (OSError, ImportError, ValueError) as error:
        raise UsageError(f"cannot read model {root}: {error}") from error


def _digest(index: Mapping[str, Any]) -> str:
    """Over what labels depend on: not over provenance, metrics, limits or the card."""
    essence = {key: index[key] for key in ("format", "network", "tokenizer", "calibration")}
    essence["tasks"] = {
        name: {key: value for key, value in task.items() if key != "limits"}
        for name, task in index["tasks"].items()
    }
    essence["files"] = {name: index["files"][name] for name in (_WEIGHTS, _TOKENIZER)}
    return hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()
