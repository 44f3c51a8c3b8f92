"""The model as a folder: save it, load it, trust it.

`bundle.json` holds what is to be known and the size and SHA-256 of every other file. Loading runs
no code from the bundle, reads plain files of the stated size alone, and believes nothing in them
that is not checked: a bundle from anywhere either labels or is refused with a line that says why.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from glossator.model import bundle_index, ngrams, weights
from glossator.model.architecture import NetworkConfig, tensor_shapes
from glossator.model.bundle_index import CARD, FORMAT, NGRAMS, TOKENIZER, WEIGHTS, FileEntry, Index
from glossator.model.calibrate import Calibration
from glossator.model.errors import UsageError
from glossator.model.store import atomic_write, is_local, open_store
from glossator.model.tasks import Task, check_tasks
from glossator.model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from glossator.model.network import AttentionRNN

__all__ = ["DEFAULT", "FORMAT", "Bundle", "load", "save"]

T = TypeVar("T")
DEFAULT = "default"
"""The name of the bundle inside the package, wherever that is installed."""
MAX_TOKENIZER_BYTES = 1 << 24
MAX_CARD_BYTES = 1 << 22


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
    ngrams: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """The n-gram expert, by the names of `ngrams.array_types`; empty where there is none."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, settings, versions and the course of training."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """As `evaluate.evaluate` gives them, on the test split."""
    card: str = ""
    """The model card, Markdown."""
    digest: str = ""
    """SHA-256 of `bundle.json`, which has those of the other files; set by `load`."""

    @property
    def experts(self) -> tuple[Task, ...]:
        """The tasks for which the n-gram expert has a say."""
        return bundle_index.experts(self.tasks, self.calibration)

    def network(self) -> AttentionRNN:
        """The network in torch, for training and as a reference; labelling does without it."""
        from glossator.model.network import AttentionRNN

        network = AttentionRNN(self.config, self.tasks)
        network.load_weights(self.weights)
        return network.eval()


def save(bundle: Bundle, folder: str | Path) -> str:
    """Writes the bundle to a local folder, `bundle.json` last, and returns its digest.

    Raises:
        UsageError: `load` would refuse it; nothing was written.
    """
    check_tasks(bundle.tasks, "the bundle")
    bits = ngrams.bits_of(bundle.ngrams)
    shapes = tensor_shapes(bundle.config, bundle.tasks)
    try:
        weights.check(bundle.weights, weights.float32(shapes))
        weights.check(bundle.ngrams, ngrams.array_types(bits, bundle.experts))
    except ValueError as error:
        raise UsageError(f"the weights can't be saved: {error}") from error
    files = {
        WEIGHTS: weights.render(bundle.weights),
        **({NGRAMS: weights.render(bundle.ngrams)} if bits else {}),
        TOKENIZER: bundle.tokenizer.to_json().encode(),
        CARD: bundle.card.encode("utf-8", "replace"),
    }
    entries = {
        name: FileEntry(len(content), hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    }
    index = bundle_index.render(
        Index(
            tasks=bundle.tasks,
            config=bundle.config,
            max_tokens=bundle.tokenizer.max_tokens,
            calibration=bundle.calibration,
            files=entries,
            provenance=bundle.provenance,
            metrics=bundle.metrics,
            ngrams=bits,
        )
    )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # all is written before anything is replaced: a full disk leaves the bundle that was there
        for name, content in ((bundle_index.NAME, index), *files.items()):
            path = str(target / name)
            stack.enter_context(atomic_write(LocalFileSystem(), path)).write_bytes(content)
    if NGRAMS not in files:
        (target / NGRAMS).unlink(missing_ok=True)
    return hashlib.sha256(index).hexdigest()


def load(where: str | Path, digest: str | None = None) -> Bundle:
    """The bundle at a folder, an fsspec URI or `DEFAULT`.

    Args:
        where: the folder.
        digest: the SHA-256 that `bundle.json` must have; without it, any.

    Raises:
        UsageError: there is none, it has another digest, is damaged, foreign, or of an unknown
            format.
    """
    root = str(Path(__file__).parent / "default") if where == DEFAULT else str(where)
    content = _read(root, bundle_index.NAME, bundle_index.MAX_BYTES)
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and digest != found:
        raise UsageError(
            f"model {where} has digest {found}, not {digest}: it is another model, or was changed",
            parameter="model_digest",
        )
    index = _checked(where, bundle_index.NAME, bundle_index.parse, content)
    types = weights.float32(tensor_shapes(index.config, index.tasks))
    limits = {
        WEIGHTS: weights.max_bytes(types),
        NGRAMS: weights.max_bytes(index.ngram_types),
        TOKENIZER: MAX_TOKENIZER_BYTES,
        CARD: MAX_CARD_BYTES,
    }
    for name, entry in index.files.items():
        if entry.size > limits[name]:
            raise UsageError(
                f"model {where}: {name} has {entry.size:,} bytes, of such a model at most "
                f"{limits[name]:,}",
                parameter="model",
            )
    files = {name: _read_whole(root, name, index.files[name]) for name in index.files}
    tokenizer = _checked(where, TOKENIZER, lambda data: _tokenizer(data, index), files[TOKENIZER])
    return Bundle(
        tasks=index.tasks,
        config=index.config,
        weights=_checked(where, WEIGHTS, lambda data: weights.parse(data, types), files[WEIGHTS]),
        tokenizer=tokenizer,
        calibration=index.calibration,
        ngrams=_expert(where, index, files),
        provenance=index.provenance,
        metrics=index.metrics,
        card=_checked(where, CARD, bytes.decode, files[CARD]),
        digest=found,
    )


def _checked(where: str | Path, name: str, parse: Callable[[bytes], T], content: bytes) -> T:
    """What `parse` makes of a file's content; a `ValueError` of it names bundle and file."""
    try:
        return parse(content)
    except ValueError as error:  # of UTF-8 too
        reason = " ".join(str(error).split())
        raise UsageError(f"model {where}: {name} {reason}", parameter="model") from error


def _tokenizer(content: bytes, index: Index) -> Tokenizer:
    tokenizer = Tokenizer.from_json(content.decode(), index.max_tokens)
    if tokenizer.size != index.config.vocabulary:
        raise ValueError(f"has {tokenizer.size} tokens, the network {index.config.vocabulary}")
    return tokenizer


def _expert(where: str | Path, index: Index, files: Mapping[str, bytes]) -> dict[str, NDArray[Any]]:
    if NGRAMS not in files:
        return {}
    types = index.ngram_types
    return _checked(where, NGRAMS, lambda data: weights.parse(data, types), files[NGRAMS])


def _read_whole(root: str, name: str, entry: FileEntry) -> bytes:
    """A file, which must be as `bundle.json` says."""
    content = _read(root, name, entry.size)
    found = hashlib.sha256(content).hexdigest()
    if len(content) != entry.size or found != entry.sha256:
        raise UsageError(
            f"model {root}: {name} is damaged ({len(content):,} bytes with SHA-256 {found[:12]}…, "
            f"bundle.json says {entry.size:,} with {entry.sha256[:12]}…); copy the bundle again "
            "or train it anew",
            parameter="model",
        )
    return content


def _read(root: str, name: str, most: int) -> bytes:
    """The content of a plain file of a bundle.

    Raises:
        UsageError: it is missing, is no plain file, is larger than `most` bytes, or can't be read.
    """
    fs, folder = open_store(root)
    path = f"{folder.rstrip('/')}/{name}"
    try:
        content = _read_local(path, most) if is_local(fs) else _read_remote(fs, path, most)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"no model at {root}: {name} is missing; name a folder that `glossator train` wrote",
            parameter="model",
        ) from None
    except (OSError, ImportError, ValueError) as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        raise UsageError(f"cannot read model {root}: {reason}", parameter="model") from error
    if len(content) > most:
        raise UsageError(
            f"model {root}: {name} is damaged: it has more than {most:,} bytes; copy the bundle "
            "again or train it anew",
            parameter="model",
        )
    return content


def _read_local(path: str, most: int) -> bytes:
    # a pipe would be waited for, a link may lead anywhere, a device has no end
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise OSError(f"{path} is no plain file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no plain file")
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(most + 1)


def _read_remote(fs: Any, path: str, most: int) -> bytes:
    if fs.info(path)["type"] != "file":
        raise OSError(f"{path} is no plain file")
    with fs.open(path, "rb") as stream:
        return bytes(stream.read(most + 1))
