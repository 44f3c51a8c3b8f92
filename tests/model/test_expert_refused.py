"""What is taken for no n-gram expert: one line that says why, before much is allocated."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_edits import assert_refused, edit_index, put_file
from safetensors.numpy import save as save_tensors

from glossator.model.bundle import Bundle, save

NAN = float("nan")
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def expert_folder(expert_bundle: Bundle, tmp_path: Path) -> Path:
    save(expert_bundle, tmp_path / "expert")
    return tmp_path / "expert"


def test_a_missing_expert_is_named(expert_folder: Path) -> None:
    (expert_folder / "ngrams.safetensors").unlink()
    assert_refused(expert_folder, "ngrams.safetensors is missing; name a folder that")


@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_a_flipped_byte_of_an_expert_is_refused(expert_folder: Path, place: float) -> None:
    path = expert_folder / "ngrams.safetensors"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    assert_refused(expert_folder, r"ngrams\.safetensors is damaged \(")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: i.pop("ngrams"), "files: unknown key 'ngrams.safetensors'"),
        (lambda i: i["files"].pop("ngrams.safetensors"), "files: ngrams.safetensors is missing"),
        (lambda i: i.update(ngrams=18), "ngrams 18 is no object"),
        (lambda i: i["ngrams"].update(bits=0), "ngrams: bits 0 is not between 8 and 22"),
        (lambda i: i["ngrams"].update(bits=63), "ngrams: bits 63 is not between 8 and 22"),
        (lambda i: i["ngrams"].update(bits=10.0), r"ngrams: bits 10\.0 is not between 8 and 22"),
        (lambda i: i["ngrams"].update(bits=True), "ngrams: bits True is not between 8 and 22"),
        (lambda i: i["ngrams"].update(seed=1), "ngrams: unknown key 'seed'"),
        (lambda i: i["calibration"]["mood"].update(expert=-1), "expert -1 is not between 0 and"),
        (lambda i: i["calibration"]["mood"].update(expert=1e9), "expert .* is not between 0 and"),
        (lambda i: i["calibration"]["mood"].update(expert="1"), "expert '1' is not between 0"),
        (
            lambda i: [i["calibration"][name].update(expert=0) for name in ("mood", "stars")],
            "ngrams: 10 bits for 0 tasks",
        ),
    ],
)
def test_an_index_that_no_expert_has_is_refused(
    expert_folder: Path, change: Change, words: str
) -> None:
    edit_index(expert_folder, change)
    assert_refused(expert_folder, rf"bundle\.json .*{words}")


def test_a_weight_without_an_expert_is_refused(folder: Path) -> None:
    edit_index(folder, lambda index: index["calibration"]["mood"].update(expert=0.5))
    assert_refused(folder, "ngrams: 0 bits for 1 tasks")


def test_an_expert_of_too_many_labels_is_refused_before_it_is_read(expert_folder: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        index["ngrams"]["bits"] = 22
        index["tasks"]["mood"]["labels"] = [f"label {i}" for i in range(500)]
        index["files"]["ngrams.safetensors"]["size"] = 500 << 22

    edit_index(expert_folder, change)
    with (expert_folder / "ngrams.safetensors").open("r+b") as stream:
        stream.truncate(500 << 22)
    before = time.monotonic()
    assert_refused(expert_folder, r"ngrams: tables of 2,1[\d,]+ bytes are more than 268,435,456")
    assert time.monotonic() - before < 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: i["ngrams"].update(bits=9), "has 1[0-9,]+ bytes, of such|describes"),
        (lambda i: i["ngrams"].update(bits=11), "describes"),
        (lambda i: i["calibration"]["gender"].update(expert=1), r"has no gender\.bias"),
        (lambda i: i["calibration"]["mood"].update(expert=0), r"has an unknown 'mood\.bias'"),
    ],
)
def test_an_expert_of_other_sizes_is_refused(
    expert_folder: Path, change: Change, words: str
) -> None:
    edit_index(expert_folder, change)
    assert_refused(expert_folder, rf"ngrams\.safetensors .*({words})")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("mood.scale", NAN, "mood.scale holds numbers that are not between"),
        ("stars.bias", 1e9, "stars.bias holds numbers that are not between"),
    ],
)
def test_experts_that_no_training_gives_are_refused(
    expert_bundle: Bundle, expert_folder: Path, name: str, value: float, words: str
) -> None:
    array = expert_bundle.ngrams[name].copy()
    array.flat[-1] = value
    content = save_tensors({**expert_bundle.ngrams, name: array})
    put_file(expert_folder, "ngrams.safetensors", content)
    assert_refused(expert_folder, rf"ngrams\.safetensors {words}")


def test_tables_of_another_type_are_refused(expert_bundle: Bundle, expert_folder: Path) -> None:
    arrays = dict(expert_bundle.ngrams)
    arrays["mood.table"] = arrays["mood.table"].view(np.uint8)
    put_file(expert_folder, "ngrams.safetensors", save_tensors(arrays))
    assert_refused(expert_folder, r"ngrams\.safetensors describes mood\.table as .*'U8'")
