"""Bundles changed by hand, as an attacker or an accident would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glossator.model.bundle import load
from glossator.model.errors import UsageError
from glossator.model.tokenizer import Tokenizer


def edit_index(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes `bundle.json`."""
    path = folder / "bundle.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    change(index)
    path.write_text(json.dumps(index), encoding="utf-8")


def put_file(folder: Path, name: str, content: bytes) -> None:
    """Replaces a file, and corrects what `bundle.json` says of it."""
    (folder / name).write_bytes(content)
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit_index(folder, lambda index: index["files"].update({name: entry}))


def edit_tokenizer(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes `tokenizer.json`, and corrects what `bundle.json` says of it."""
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    change(document)
    put_file(folder, "tokenizer.json", json.dumps(document, ensure_ascii=False).encode())


def with_max_tokens(tokenizer: Tokenizer, max_tokens: int) -> Tokenizer:
    """The same tokens, of which more or fewer of a text are kept."""
    document = json.loads(tokenizer.to_json())
    document["truncation"]["max_length"] = max_tokens
    return Tokenizer.from_json(json.dumps(document), max_tokens)


def assert_refused(folder: Path | str, words: str) -> None:
    """Loading the bundle is refused in a line of these words that names the folder."""
    with pytest.raises(UsageError, match=words) as caught:
        load(folder)
    assert str(caught.value).isprintable(), "one line"
    assert len(str(caught.value)) < 700
    assert str(folder) in str(caught.value)
    assert caught.value.parameter == "model"
