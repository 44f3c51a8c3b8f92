"""The bundle: what was saved comes back, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
import json
import pickle
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from bundle_edits import edit_index, with_max_tokens
from networks import NETWORKS
from safetensors import safe_open

from glossator.model.architecture import NetworkConfig
from glossator.model.bundle import Bundle, load, save
from glossator.model.calibrate import Calibration
from glossator.model.destination import save_bundle
from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller
from glossator.model.network import AttentionRNN
from glossator.model.tasks import Task

FILES = {"bundle.json", "model.safetensors", "tokenizer.json", "MODEL_CARD.md"}


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def assert_same_labels(one: Bundle, other: Bundle, texts: list[str]) -> None:
    names = [task.name for task in one.tasks]
    left, right = Labeller(one, names).label(texts), Labeller(other, names).label(texts)
    assert np.array_equal(left.tokens, right.tokens)
    assert np.array_equal(left.truncated, right.truncated)
    for a, b in zip(left.tasks, right.tasks, strict=True):
        assert (a.task, a.accept) == (b.task, b.accept)
        assert np.array_equal(a.probabilities, b.probabilities)
        assert np.array_equal(a.entropy, b.entropy)
        for part in ("offsets", "start", "end", "weight"):
            assert np.array_equal(getattr(a.words, part), getattr(b.words, part))


def test_a_loaded_bundle_labels_bit_for_bit_as_the_saved_one(
    bundle: Bundle, folder: Path, corpus: list[str]
) -> None:
    loaded = load(folder)
    assert_same_labels(bundle, loaded, corpus)
    assert loaded.tasks == bundle.tasks
    assert loaded.calibration == bundle.calibration
    assert (loaded.provenance, loaded.metrics, loaded.card) == (
        bundle.provenance,
        bundle.metrics,
        bundle.card,
    )
    assert loaded.tokenizer.max_tokens == bundle.tokenizer.max_tokens
    assert not loaded.network().training


def test_scales_and_thresholds_of_each_label_come_back(
    bundle: Bundle, corpus: list[str], tmp_path: Path
) -> None:
    own = {
        "topics": Calibration(scale=(0.8, 2.0), accept=(0.3, 0.7)),
        "mood": Calibration(scale=0.8, shift=(0.1, -0.4, 0.3)),
    }
    changed = replace(bundle, calibration={**bundle.calibration, **own})
    save(changed, tmp_path)
    loaded = load(tmp_path)
    assert loaded.calibration == changed.calibration
    assert_same_labels(changed, loaded, corpus)


def test_a_bundle_that_cannot_be_written_leaves_the_one_that_was_there(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    written = Path.write_bytes
    calls: list[Path] = []

    def full(path: Path, content: bytes) -> int:
        calls.append(path)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return written(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save(replace(bundle, card="# Another\n"), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_network_of_any_kind_comes_back(
    bundle: Bundle,
    make_network: Callable[[str], AttentionRNN],
    corpus: list[str],
    tmp_path: Path,
    name: str,
) -> None:
    network = make_network(name)
    other = replace(bundle, config=network.config, weights=network.weights())
    save(other, tmp_path)
    assert load(tmp_path).config == network.config
    assert_same_labels(other, load(str(tmp_path)), corpus)


def test_a_bundle_from_before_there_were_kinds_of_attention_and_pools(
    bundle: Bundle, folder: Path, corpus: list[str]
) -> None:
    def older(index: dict[str, Any]) -> None:
        for name in ("shared_attention", "min_pooling"):
            assert index["network"].pop(name) is False

    edit_index(folder, older)
    assert load(folder).config == bundle.config
    assert_same_labels(bundle, load(folder), corpus)


def test_an_expert_comes_back(
    bundle: Bundle, expert_bundle: Bundle, corpus: list[str], tmp_path: Path
) -> None:
    digest = save(expert_bundle, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"ngrams.safetensors"}
    loaded = load(tmp_path)
    assert loaded.calibration == expert_bundle.calibration
    assert [task.name for task in loaded.experts] == ["mood", "stars"]
    assert {name: array.dtype for name, array in loaded.ngrams.items()} == {
        name: array.dtype for name, array in expert_bundle.ngrams.items()
    }
    assert_same_labels(expert_bundle, loaded, corpus)
    assert save(loaded, tmp_path / "again") == digest
    assert save(bundle, tmp_path) != digest
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"again"}
    assert load(tmp_path).ngrams == {}


def test_an_expert_that_is_replaced_in_a_store_goes(bundle: Bundle, expert_bundle: Bundle) -> None:
    root = f"memory://{uuid.uuid4().hex}/bundle"
    memory = fsspec.filesystem("memory")
    save_bundle(expert_bundle, root)
    assert load(root).experts == expert_bundle.experts
    save_bundle(bundle, root)
    assert {path.rpartition("/")[2] for path in memory.ls(root, detail=False)} == FILES
    assert load(root).experts == ()


def test_of_an_expert_that_is_not_there_nothing_is_said(folder: Path) -> None:
    """So the digests of bundles without one stay what they were."""
    index = json.loads((folder / "bundle.json").read_text("utf-8"))
    assert "ngrams" not in index
    assert set(index["calibration"]["mood"]) == {"scale", "shift", "accept"}


def test_the_digest_is_over_the_expert(expert_bundle: Bundle, tmp_path: Path) -> None:
    table = expert_bundle.ngrams["mood.table"] ^ np.int8(1)
    changed = replace(expert_bundle, ngrams={**expert_bundle.ngrams, "mood.table": table})
    assert save(expert_bundle, tmp_path) != save(changed, tmp_path)


def test_an_expert_that_could_not_be_loaded_is_not_saved(
    bundle: Bundle, expert_bundle: Bundle, folder: Path
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    arrays = expert_bundle.ngrams
    for changed, words in (
        ({"stars.scale": np.array([np.inf], np.float32)}, "stars.scale holds numbers"),
        ({"stars.scale": np.zeros(2, np.float32)}, r"is float32 \[2\] instead of"),
        ({"stars.table": arrays["stars.table"].astype(np.int16)}, "is int16 .* instead of int8"),
        ({"tags": arrays["tags"][:-1]}, r"mood.table is int8 .* instead of int8 \[512, 3\]|tags"),
        ({"odd": arrays["tags"]}, "has an unknown 'odd'"),
    ):
        with pytest.raises(UsageError, match=f"the weights can't be saved: .*{words}"):
            save(replace(expert_bundle, ngrams={**arrays, **changed}), folder)
    for one, words in (
        (replace(expert_bundle, ngrams={}), "0 bits for 2 tasks"),
        (replace(bundle, ngrams=arrays), "10 bits for 0 tasks"),
    ):
        with pytest.raises(UsageError, match=words):
            save(one, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saving_again_writes_the_same_bytes(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    digest = save(load(folder), tmp_path / "again")
    assert {path.name for path in folder.iterdir()} == FILES
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert load(folder).digest == digest == save(bundle, tmp_path / "third")


def test_no_file_is_a_pickle(bundle: Bundle, folder: Path) -> None:
    for name in FILES:
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
            pickle.loads((folder / name).read_bytes())
    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        shapes = {name: weights.get_tensor(name).shape for name in weights.keys()}  # noqa: SIM118
    assert shapes == {name: array.shape for name, array in bundle.weights.items()}


def test_a_bundle_is_read_from_a_uri(bundle: Bundle, folder: Path, corpus: list[str]) -> None:
    root = f"memory://{uuid.uuid4().hex}/bundle"
    for path in folder.iterdir():
        with fsspec.open(f"{root}/{path.name}", "wb") as stream:
            stream.write(path.read_bytes())
    for uri in (root, root + "/", folder.as_uri()):
        loaded = load(uri)
        assert loaded.digest == load(folder).digest
        assert_same_labels(bundle, loaded, corpus)
    with pytest.raises(UsageError, match=f"no model at {root}x: bundle.json is missing"):
        load(root + "x")


def test_the_digest_is_that_of_the_index(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    assert load(folder).digest == digest == save(bundle, tmp_path / "again")
    assert load(folder, digest).digest == digest


def test_the_digest_is_over_everything(bundle: Bundle, tmp_path: Path) -> None:
    mood, *others = bundle.tasks
    bias = "heads.stars.output.bias"
    different = [
        bundle,
        replace(bundle, card="# Another card\n"),
        replace(bundle, provenance={"x": 1}),
        replace(bundle, calibration={**bundle.calibration, "mood": Calibration(scale=1.7)}),
        replace(bundle, weights={**bundle.weights, bias: bundle.weights[bias] + np.float32(1e-6)}),
        replace(bundle, tokenizer=with_max_tokens(bundle.tokenizer, 63)),
        replace(bundle, tasks=(replace(mood, labels=("bad", "good", "fair")), *others)),
        replace(bundle, tasks=(replace(mood, sensitive=True), *others)),
    ]
    assert len({save(other, tmp_path) for other in different}) == len(different)


def test_a_pinned_bundle_that_was_changed_is_refused(bundle: Bundle, folder: Path) -> None:
    pinned = load(folder).digest
    found = save(replace(bundle, card="# Another card\n"), folder)
    words = f"model {folder} has digest {found}, not {pinned}: it is another model"
    with pytest.raises(UsageError, match=words) as caught:
        load(folder, pinned)
    assert caught.value.parameter == "model_digest"


def test_what_could_not_be_loaded_is_not_saved(bundle: Bundle, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    name = "heads.stars.output.bias"
    for weights, words in (
        ({**bundle.weights, name: np.array([np.nan], np.float32)}, f"{name} holds numbers"),
        ({**bundle.weights, "odd": np.zeros(1, np.float32)}, "has an unknown 'odd'"),
        ({**bundle.weights, name: np.zeros(2, np.float32)}, r"is float32 \[2\] instead of"),
        ({**bundle.weights, name: np.zeros(1)}, r"is float64 \[1\] instead of float32"),
    ):
        with pytest.raises(UsageError, match=f"the weights can't be saved: .*{words}"):
            save(replace(bundle, weights=weights), folder)
    with pytest.raises(UsageError, match=r"bundle\.json would have .* bytes, more than 16,777,216"):
        save(replace(bundle, provenance={"log": "x" * (1 << 24)}), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_metrics_that_are_not_finite_are_null(bundle: Bundle, folder: Path) -> None:
    save(replace(bundle, metrics={"r2": [float("nan"), -1.0, float("inf")]}), folder)
    assert load(folder).metrics == {"r2": [None, -1.0, None]}


def test_links_in_the_way_of_a_bundle_are_replaced(
    bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("mine")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tmp_path / "other")
    save(bundle, folder)
    load(folder)
    assert (tmp_path / "other").read_text() == "mine"


def test_labelling_builds_no_network_of_torch(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(AttentionRNN, "__init__", refuse)
    Labeller(load(folder)).label(["one text"])
    with pytest.raises(AssertionError, match="a network was built"):
        load(folder).network()


def test_a_bundle_is_not_there_before_it_is_whole(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that is cut off half-way must leave no index that trusts files of another model."""
    other = AttentionRNN(NetworkConfig(bundle.tokenizer.size, 8, "gru", 8, 4), bundle.tasks)
    changed = replace(bundle, config=other.config, weights=other.weights())
    replaced = Path.replace

    def failing(path: Path, target: str) -> Path:
        if Path(target).name == "bundle.json":
            raise OSError("cut off")
        return replaced(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="cut off"):
        save(changed, folder)
    with pytest.raises(UsageError, match=r"is damaged|describes|bytes, of such a model"):
        load(folder)


def test_the_tasks_of_a_bundle_come_back_in_order(bundle: Bundle, tmp_path: Path) -> None:
    tasks = (Task("z", "regression"), Task("a", "multi", ("y", "b")))
    network = AttentionRNN(bundle.config, tasks)
    calibration = {"z": Calibration(), "a": Calibration()}
    save(replace(bundle, tasks=tasks, weights=network.weights(), calibration=calibration), tmp_path)
    assert load(tmp_path).tasks == tasks
