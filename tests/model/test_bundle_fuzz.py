"""Bundles changed anywhere: each is refused in one line, or labels; none takes all memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_edits import edit_index, put_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glossator.model.bundle import Bundle, load, save
from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller

FILES = (
    "MODEL_CARD.md",
    "bundle.json",
    "model.safetensors",
    "ngrams.safetensors",
    "tokenizer.json",
)
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([[], {}, 0, 1, -1, 1e308, 2**31, "", "mood", "gru", "\ud800", "\x1b[0m"]),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a JSON value."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.data())
def test_any_change_of_the_index_is_refused_in_a_line_or_labels(
    bundle: Bundle,
    expert_bundle: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "bundle"
    save(data.draw(st.sampled_from([bundle, expert_bundle])), folder)
    index = json.loads((folder / "bundle.json").read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from([place for place in places(index) if place]))
        *above, last = path
        parent = index
        for key in above:
            parent = parent[key]
        action = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            parent[last] = data.draw(values)
        elif action == "remove":
            del parent[last]
        elif isinstance(parent, dict):
            parent[data.draw(st.text(max_size=5))] = data.draw(values)
        else:
            parent.append(data.draw(values))
        if not any(place for place in places(index)):
            break
    (folder / "bundle.json").write_text(json.dumps(index))
    assert_labels_or_is_refused(folder)


@settings(max_examples=200, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.sampled_from(FILES), st.floats(0, 0.9999), st.integers(0, 255))
def test_any_byte_of_any_file(
    expert_bundle: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    place: float,
    byte: int,
) -> None:
    """Also where the digest was corrected to hide the change."""
    folder = tmp_path_factory.mktemp("fuzz") / "bundle"
    save(expert_bundle, folder)
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] = byte
    if name == "bundle.json":
        (folder / name).write_bytes(content)
    else:
        put_file(folder, name, bytes(content))
    assert_labels_or_is_refused(folder)


def assert_labels_or_is_refused(folder: Path) -> None:
    try:
        loaded = load(folder)
    except UsageError as error:
        assert str(error).isprintable()
        return
    names = [task.name for task in loaded.tasks]
    for task in Labeller(loaded, names).label(["one text", "两个"]).tasks:
        assert np.isfinite(task.probabilities).all()


LOAD = """
import resource, sys
from glossator.model.bundle import load
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + (1 << 30),) * 2)
try:
    load(sys.argv[1])
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
@pytest.mark.parametrize(
    "change",
    [
        lambda i: i["network"].update(vocabulary=1 << 18, embedding=2048, hidden=160),
        lambda i: i["tokenizer"].update(max_tokens=10**9),
        lambda i: i["files"]["model.safetensors"].update(size=1 << 62),
        lambda i: i.update(metrics={"x": [[[]]] * 1_000_000}),
        lambda i: i["tasks"]["mood"].update(labels=["x"] * 1_000_000),
    ],
)
def test_what_is_refused_takes_little_memory(folder: Path, change: Change) -> None:
    edit_index(folder, change)
    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.startswith(f"model {folder}") or run.stdout == ""
