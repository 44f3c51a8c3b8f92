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
from safetensors import safe_open

from glossator.model.architecture import NetworkConfig
from glossator.model.bundle import FORMAT, Bundle, load, save
from glossator.model.calibrate import Calibration
from glossator.model.errors import UsageError
from glossator.model.labeller import Labeller
from glossator.model.network import AttentionRNN
from glossator.model.tasks import Task
from glossator.model.tokenizer import Tokenizer

FILES = {"bundle.json", "model.safetensors", "tokenizer.json", "MODEL_CARD.md"}


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes bundle.json as a well-meaning hand would."""
    path = folder / "bundle.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    change(index)
    path.write_text(json.dumps(index), encoding="utf-8")


def put(folder: Path, name: str, content: bytes) -> None:
    """Replaces a file and mends its digest."""
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit(folder, lambda index: index["files"].update({name: digest}))


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


def test_a_saved_lstm_comes_back(
    bundle: Bundle, make_network: Callable[[str], AttentionRNN], corpus: list[str], tmp_path: Path
) -> None:
    network = make_network("lstm")
    lstm = replace(bundle, config=network.config, weights=network.weights())
    save(lstm, tmp_path)
    assert load(tmp_path).config.cell == "lstm"
    assert_same_labels(lstm, load(str(tmp_path)), corpus)


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


# ---------------------------------------------------------------- the digest


def test_the_digest_is_over_what_labels_depend_on(bundle: Bundle, tmp_path: Path) -> None:
    digest = save(bundle, tmp_path)
    mood, *others = bundle.tasks
    same = [
        replace(bundle, card="# Another card\n"),
        replace(bundle, provenance={"x": 1}, metrics={"test": {}}),
        replace(bundle, tasks=(replace(mood, limits="Not for poems."), *others)),
    ]
    assert [save(other, tmp_path) for other in same] == [digest] * 3
    calibration = {**bundle.calibration, "mood": Calibration(scale=1.7, accept=0.61)}
    bias = "heads.stars.output.bias"
    weights = {**bundle.weights, bias: bundle.weights[bias] + np.float32(1e-6)}
    shorter = Tokenizer.from_json(bundle.tokenizer.to_json(), 63)
    different = [
        replace(bundle, calibration=calibration),
        replace(bundle, weights=weights),
        replace(bundle, tokenizer=shorter),
        replace(bundle, tasks=(replace(mood, labels=("bad", "good", "fair")), *others)),
        replace(bundle, tasks=(replace(mood, sensitive=True), *others)),
    ]
    digests = {save(other, tmp_path) for other in different}
    assert len(digests | {digest}) == 6


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", sorted(FILES - {"bundle.json"}))
@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_a_flipped_byte_is_refused(folder: Path, name: str, place: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] ^= 1
    (folder / name).write_bytes(content)
    words = rf"{folder}: {name} is damaged \(SHA-256 .*; copy the bundle again or train it anew"
    with pytest.raises(UsageError, match=words):
        load(folder)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_truncated_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    with pytest.raises(UsageError, match=rf"{name} is (damaged|not JSON)"):
        load(folder)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UsageError, match=f"no model at {folder}: {name} is missing; give --model"):
        load(folder)


def test_a_file_is_no_bundle(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no model at .*bundle.json is missing"):
        load(folder / "bundle.json")


@pytest.mark.parametrize("found", [FORMAT + 1, 0, "1", None])
def test_an_unknown_format_is_refused(folder: Path, found: object) -> None:
    edit(folder, lambda index: index.update(format=found))
    words = f"has format {found!r}, this Glossator reads format {FORMAT}: use the version that"
    with pytest.raises(UsageError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "is not of a Glossator bundle"),
        ('{"architectures": ["BertModel"]}', "is not of a Glossator bundle"),
        ("# not JSON", "is not JSON"),
        ('{"format": 1}', "names no weights or no tokenizer"),
        ('{"format": 1, "files": {"model.safetensors": "0"}}', "names no weights or no tokenizer"),
    ],
)
def test_foreign_json_is_refused(folder: Path, content: str, words: str) -> None:
    (folder / "bundle.json").write_text(content)
    with pytest.raises(UsageError, match=f"bundle.json {words}"):
        load(folder)


@pytest.mark.parametrize("name", ["../bundle/tokenizer.json", "/etc/hosts", "a\\b", "x/y"])
def test_a_file_outside_of_the_bundle_is_refused(folder: Path, name: str) -> None:
    edit(folder, lambda index: index["files"].update({name: "0" * 64}))
    with pytest.raises(UsageError, match="leads out of the bundle"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: i["network"].update(hidden=17), "size mismatch for rnn.weight_ih_l0"),
        (lambda i: i["network"].update(cell="lstm"), "size mismatch"),
        (lambda i: i["network"].update(vocabulary=499), "size mismatch for embedding.weight"),
        (lambda i: i["network"].update(layers=2), "layers"),
        (lambda i: i["network"].pop("vocabulary"), "vocabulary"),
        (lambda i: i["tasks"]["mood"]["labels"].append("odd"), "size mismatch for heads.mood"),
        (lambda i: i["tasks"].pop("stars"), "Unexpected key"),
        (lambda i: i["calibration"].pop("mood"), "mood"),
        (lambda i: i["calibration"]["mood"].update(heat=3), "heat"),
        (lambda i: i.pop("tokenizer"), "tokenizer"),
        (lambda i: i.update(tasks=[]), "list"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(
    folder: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    edit(folder, change)
    with pytest.raises(UsageError, match=f"does not fit together: .*{words}.*; train it anew"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 64])
def test_weights_that_are_no_safetensors_are_refused(folder: Path, content: bytes) -> None:
    put(folder, "model.safetensors", content)
    with pytest.raises(UsageError, match="does not fit together"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe"])
def test_a_tokenizer_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    put(folder, "tokenizer.json", content)
    with pytest.raises(UsageError, match="does not fit together"):
        load(folder)


def test_the_tokenizer_of_another_bundle_is_refused(folder: Path, corpus: list[str]) -> None:
    smaller = Tokenizer.train(corpus, 300, 64)
    put(folder, "tokenizer.json", smaller.to_json().encode())
    with pytest.raises(UsageError, match=r"300 tokens, network\.vocabulary differs"):
        load(folder)


def test_a_bundle_is_not_there_before_it_is_whole(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that fails half-way must leave no index beside files of another model."""
    other = AttentionRNN(NetworkConfig(bundle.tokenizer.size, 8, "gru", 8, 4), bundle.tasks)
    changed = replace(bundle, config=other.config, weights=other.weights())
    written = Path.write_bytes

    def failing(path: Path, content: bytes) -> int:
        if path.name == "MODEL_CARD.md":
            raise OSError("no space left")
        return written(path, content)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(OSError, match="no space"):
        save(changed, folder)
    with pytest.raises(UsageError, match=r"bundle.json is missing"):
        load(folder)


def test_a_key_that_no_task_has_is_refused(folder: Path) -> None:
    edit(folder, lambda index: index["tasks"]["mood"].update(colour="red"))
    with pytest.raises(UsageError, match=r"bundle.json: task 'mood' has unknown key 'colour'"):
        load(folder)


def test_the_tasks_of_a_bundle_come_back_in_order(bundle: Bundle, tmp_path: Path) -> None:
    tasks = (Task("z", "regression"), Task("a", "multi", ("y", "b")))
    network = AttentionRNN(bundle.config, tasks)
    calibration = {"z": Calibration(), "a": Calibration()}
    save(replace(bundle, tasks=tasks, weights=network.weights(), calibration=calibration), tmp_path)
    assert load(tmp_path).tasks == tasks
