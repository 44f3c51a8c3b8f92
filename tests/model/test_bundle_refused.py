"""What is taken for no bundle: one line that says why, before anything large is allocated."""

from __future__ import annotations

import json
import os
import struct
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from bundle_edits import assert_refused, edit_index, edit_tokenizer, put_file
from safetensors.numpy import save as save_tensors

from glossator.model.bundle import Bundle, save
from glossator.model.tokenizer import Tokenizer

FILES = ("MODEL_CARD.md", "bundle.json", "model.safetensors", "tokenizer.json")
NAN = float("nan")
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("name", [name for name in FILES if name != "bundle.json"])
@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_a_flipped_byte_is_refused(folder: Path, name: str, place: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] ^= 1
    (folder / name).write_bytes(content)
    assert_refused(folder, rf"{name} is damaged \(.* SHA-256 .*; copy the bundle again or train")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    assert_refused(folder, rf"{name} is (damaged|not JSON)")


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_more_behind_it_is_refused(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as stream:
        stream.write(b"\0")
    assert_refused(folder, rf"{name} is (damaged|not JSON)")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert_refused(folder, f"no model at {folder}: {name} is missing; name a folder that")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "device"])
def test_what_is_no_plain_file_is_refused(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.rename(folder.parent / name)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"link": folder.parent / name, "dangling link": "none", "device": "/dev/zero"}
        path.symlink_to(targets[kind])
    assert_refused(folder, f"cannot read model {folder}: .*{name} is no plain file")


@pytest.mark.parametrize("name", FILES)
def test_a_sparse_file_of_a_terabyte_is_not_read(folder: Path, name: str) -> None:
    with (folder / name).open("r+b") as stream:
        stream.truncate(1 << 40)
    before = time.monotonic()
    assert_refused(folder, rf"{name} is damaged")
    assert time.monotonic() - before < 5


def test_a_folder_in_a_store_is_no_file(folder: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}/bundle"
    for path in folder.iterdir():
        with fsspec.open(f"{root}/{path.name}", "wb") as stream:
            stream.write(path.read_bytes())
    memory = fsspec.filesystem("memory")
    memory.rm(f"{root}/tokenizer.json")
    with fsspec.open(f"{root}/tokenizer.json/x", "wb") as stream:
        stream.write(b"")
    assert_refused(root, "tokenizer.json is no plain file")


def test_a_file_is_no_bundle(folder: Path) -> None:
    assert_refused(folder / "bundle.json", "no model at .*bundle.json is missing")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.pop("tokenizer.json"), "files: tokenizer.json is missing"),
        (lambda f: f.update({"../x": f["MODEL_CARD.md"]}), "files: unknown key '../x'"),
        (lambda f: f.update({"/etc/hosts": f["MODEL_CARD.md"]}), "unknown key '/etc/hosts'"),
        (lambda f: f["tokenizer.json"].pop("size"), "files: tokenizer.json: size is missing"),
        (lambda f: f["tokenizer.json"].update(mode=7), "tokenizer.json: unknown key 'mode'"),
        (lambda f: f["tokenizer.json"].update(size=-1), "size -1 is no number of bytes"),
        (lambda f: f["tokenizer.json"].update(size=1.5), r"size 1\.5 is no number of bytes"),
        (lambda f: f["tokenizer.json"].update(size=True), "size True is no number of bytes"),
        (lambda f: f["tokenizer.json"].update(size=10**12), "of such a model at most 16,777,216"),
        (lambda f: f["MODEL_CARD.md"].update(size=10**12), "of such a model at most 4,194,304"),
        (lambda f: f["model.safetensors"].update(size=10**15), "of such a model at most 1,1"),
        (lambda f: f["tokenizer.json"].update(sha256="A" * 64), "'A+' is no SHA-256"),
        (lambda f: f["tokenizer.json"].update(sha256=None), "None is no SHA-256"),
        (lambda f: f.update({"tokenizer.json": "0" * 64}), "'0+' is no object"),
    ],
)
def test_what_is_said_of_the_files_is_checked(folder: Path, change: Change, words: str) -> None:
    edit_index(folder, lambda index: change(index["files"]))
    assert_refused(folder, rf"bundle\.json .*{words}|has .* bytes, {words}")


# ---------------------------------------------------------------- bundle.json


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[]", "is not of a Glossator bundle"),
        (b'{"architectures": ["BertModel"]}', "is not of a Glossator bundle"),
        (b"# not JSON", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'{"format": 2\xff}', "is not UTF-8 at byte 12"),
        (b'{"format": 2, "format": 2}', "has the key 'format' twice"),
        (b'{"format": NaN}', "holds the number NaN, which is not finite"),
        (b'{"format": -Infinity}', "holds the number -Infinity, which is not finite"),
        (b'{"format": 1e999}', "holds the number 1e999, which is too large"),
        (b'{"format": ' + b"9" * 5000 + b"}", "digits|has format 9"),
        (b'{"format": 2, "x": ' + b"[" * 40 + b"]" * 40 + b"}", "has more than 32 levels"),
        (b"[" * 100_000, "has more than 32 levels"),
        (b'{"a":' * 100_000, "has more than 32 levels"),
        (b'{"format": 2}', "calibration is missing"),
    ],
)
def test_what_is_no_index_is_refused(folder: Path, content: bytes, words: str) -> None:
    (folder / "bundle.json").write_bytes(content)
    assert_refused(folder, rf"bundle\.json .*({words})")


def test_the_format_before_is_named(folder: Path) -> None:
    edit_index(folder, lambda index: index.update(format=1))
    assert_refused(folder, "format 1, which an earlier version wrote; .*: train the model anew")


@pytest.mark.parametrize("found", [3, 0, "2", None, 2.0, True, [2]])
def test_an_unknown_format_is_refused(folder: Path, found: object) -> None:
    edit_index(folder, lambda index: index.update(format=found))
    assert_refused(folder, "has format .*, this Glossator reads format 2: use the version that|1,")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: i.update(extra=1), "unknown key 'extra'"),
        (lambda i: i.pop("tokenizer"), "tokenizer is missing"),
        (lambda i: i.update(tasks=[]), r"tasks \[\] is no object"),
        (lambda i: i.update(tasks={}), "tasks: 0 tasks are not between 1 and 64"),
        (lambda i: i.update(provenance=None), "provenance None is no object"),
        (lambda i: i.update(metrics="good"), "metrics 'good' is no object"),
        # the network
        (lambda i: i["network"].update(layers=2), "network: unknown key 'layers'"),
        (lambda i: i["network"].pop("vocabulary"), "network: vocabulary is missing"),
        (lambda i: i["network"].update(hidden=10**9), "hidden 1000000000 is not between 1 and"),
        (lambda i: i["network"].update(hidden=17), "hidden 17 is no multiple of 4.*make it 20"),
        (lambda i: i["network"].update(attention=5), "attention 5 is no multiple of 4.*make it 8"),
        (lambda i: i["network"].update(hidden=0), "hidden 0 is not between 1 and"),
        (lambda i: i["network"].update(hidden=16.0), r"hidden 16\.0 is not between 1 and"),
        (lambda i: i["network"].update(embedding=True), "embedding True is not between 1 and"),
        (lambda i: i["network"].update(vocabulary=10**7), "vocabulary 10000000 is not between"),
        (lambda i: i["network"].update(vocabulary=1 << 18, hidden=2048), "makes tables of 12,8"),
        (lambda i: i["network"].update(cell="rnn"), "cell 'rnn' is not one of gru, lstm, qrnn"),
        (
            lambda i: i["network"].update(cell=["gru"]),
            r"cell \['gru'\] is not one of gru, ls",
        ),
        (lambda i: i["network"].update(shared_attention=1), "shared_attention 1 is no boolean"),
        (lambda i: i["network"].update(min_pooling=None), "min_pooling None is no boolean"),
        (
            lambda i: i["network"].update(shared_attention=[]),
            r"shared_attention \[\] is no boolean",
        ),
        (lambda i: i["tokenizer"].update(max_tokens=10**9), "max_tokens 1000000000 is not betw"),
        (lambda i: i["tokenizer"].update(max_tokens=0), "max_tokens 0 is not between 1 and"),
        (lambda i: i["tokenizer"].update(lower=True), "tokenizer: unknown key 'lower'"),
        # the tasks
        (lambda i: i["tasks"]["mood"].update(colour="red"), "'mood' has unknown key 'colour'"),
        (lambda i: i["tasks"]["mood"].update(labels=["a", "b", "A"]), "'a' and 'A' are the same"),
        (lambda i: i["tasks"]["mood"].update(labels=["a", "b", "\x1b[31m"]), "is no printable"),
        (lambda i: i["tasks"]["mood"].update(labels=["a", "b", "\ud800"]), "is no printable text"),
        (lambda i: i["tasks"]["mood"].update(labels=["a", "b", None]), "None is no printable"),
        (lambda i: i["tasks"]["mood"].update(labels=[*"ab", "x" * 10**6]), "not between 1 and 128"),
        (lambda i: i["tasks"]["mood"].update(labels=[*map(str, range(10**5))]), "100,000 labels"),
        (lambda i: i["tasks"]["mood"].update(target_precision=0), "target_precision 0 is not in"),
        (lambda i: i["tasks"].update(Mood=i["tasks"]["mood"]), "'mood' and 'Mood' have the same"),
        (lambda i: i["tasks"].update(stage=i["tasks"]["mood"]), "the output has a column of that"),
        (lambda i: i["tasks"].update({"a\nb": i["tasks"]["mood"]}), "use letters, digits and _"),
        # the calibration
        (lambda i: i["calibration"].pop("mood"), "calibration: mood is missing"),
        (lambda i: i["calibration"].update(odd={}), "calibration: unknown key 'odd'"),
        (lambda i: i["calibration"]["mood"].update(heat=3), "of mood: unknown key 'heat'"),
        (lambda i: i["calibration"]["mood"].update(scale=0), "of mood: scale 0 is not between"),
        (lambda i: i["calibration"]["mood"].update(scale=-1), "of mood: scale -1 is not between"),
        (lambda i: i["calibration"]["mood"].update(scale=10**400), "scale 10+.* is not between"),
        (lambda i: i["calibration"]["mood"].update(scale="1"), "scale '1' is not between"),
        (lambda i: i["calibration"]["mood"].update(scale=True), "scale True is not between"),
        (lambda i: i["calibration"]["mood"].update(shift=1e300), "shift 1e\\+300 is not between"),
        (lambda i: i["calibration"]["mood"].update(accept=-0.1), r"accept -0\.1 is not between"),
        (lambda i: i["calibration"]["mood"].update(accept=2), "accept 2 is not between 0 and 1.01"),
        (lambda i: i["calibration"]["mood"].update(accept=NAN), "holds the number NaN, which is"),
        (
            lambda i: i["calibration"]["mood"].update(scale=[1, 1, 1]),
            "scale has 3 numbers, not one",
        ),
        (lambda i: i["calibration"]["stars"].update(scale=[]), "of stars: scale has 0 numbers"),
        (lambda i: i["calibration"]["topics"].update(shift=[0, 0]), "shift has 2 numbers, no"),
        (
            lambda i: i["calibration"]["mood"].update(shift=[0, 0]),
            "2 numbers, not one or one for e",
        ),
        (lambda i: i["calibration"]["mood"].update(shift=[0, 0, "1"]), "shift '1' is not between"),
        (lambda i: i["calibration"]["topics"].update(scale=[1]), "1 numbers, not one or one for e"),
        (lambda i: i["calibration"]["topics"].update(accept=[0.5] * 3), "accept has 3 numbers, no"),
        (lambda i: i["calibration"]["topics"].update(accept=[0.5, 2]), "accept 2 is not between"),
        (lambda i: i["calibration"]["topics"].update(scale=[1, "1"]), "scale '1' is not between"),
        (lambda i: i["calibration"]["topics"].update(scale=[1, [1]]), r"scale \[1\] is not betwee"),
    ],
)
def test_an_index_that_no_bundle_has_is_refused(folder: Path, change: Change, words: str) -> None:
    edit_index(folder, change)
    before = time.monotonic()
    assert_refused(folder, rf"bundle\.json .*{words}")
    assert time.monotonic() - before < 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: i["network"].update(hidden=20), r"describes embedding|describes heads|rnn\."),
        (lambda i: i["network"].update(cell="lstm"), r"rnn\."),
        (lambda i: i["network"].update(cell="qrnn"), r"rnn\."),
        (lambda i: i["network"].update(shared_attention=True), r"attention\.bias"),
        (lambda i: i["network"].update(min_pooling=True), r"heads\.gender\.norm"),
        (lambda i: i["network"].update(vocabulary=499), "embedding.weight"),
        (lambda i: i["tasks"]["mood"]["labels"].append("odd"), "heads.mood.output"),
        (lambda i: [i[k].pop("stars") for k in ("tasks", "calibration")], "unknown 'heads.stars"),
        (lambda i: [i[k].update(more=i[k]["stars"]) for k in ("tasks", "calibration")], "no heads"),
    ],
)
def test_weights_of_other_sizes_are_refused(folder: Path, change: Change, words: str) -> None:
    edit_index(folder, change)
    assert_refused(
        folder, rf"model\.safetensors .*({words})|has .* bytes, of such a model|, the network 499"
    )


# ---------------------------------------------------------------- weights


def safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "its header does not fit"),
        (b"not weights", "its header does not fit"),
        (b"\xff" * 64, "its header does not fit"),
        (safetensors([]), "its header is no object"),
        (safetensors({}), "has no embedding.weight"),
        (safetensors(b"{"), "is not JSON"),
        (safetensors(b'{"a": 1, "a": 1}'), "has the key 'a' twice"),
        (safetensors(b"[" * 100_000), "has more than 32 levels"),
    ],
)
def test_weights_that_are_no_safetensors_are_refused(
    folder: Path, content: bytes, words: str
) -> None:
    put_file(folder, "model.safetensors", content)
    assert_refused(folder, rf"model\.safetensors .*{words}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h["rnn.bias_hh_l0"].update(dtype="F16"), "describes rnn.bias_hh_l0 as"),
        (lambda h: h["rnn.bias_hh_l0"].update(shape=[1 << 40]), "describes rnn.bias_hh_l0 as"),
        (lambda h: h["rnn.bias_hh_l0"].update(shape=[-1]), "describes rnn.bias_hh_l0 as"),
        (lambda h: h["rnn.bias_hh_l0"].update(data_offsets=[0, 4]), "describes"),
        (lambda h: h["rnn.bias_hh_l0"].update(data_offsets=None), "describes rnn.bias_hh_l0 as"),
        (lambda h: h["rnn.bias_hh_l0"].update(data_offsets=["0", "4"]), "describes"),
        (lambda h: h.update({"rnn.bias_hh_l0": 7}), "describes rnn.bias_hh_l0 as 7"),
        (lambda h: h.update(__metadata__={"format": "pt"}), "has an unknown '__metadata__'"),
        (lambda h: h.pop("rnn.bias_hh_l0"), "has no rnn.bias_hh_l0"),
    ],
)
def test_a_header_that_says_something_else_is_refused(
    folder: Path, change: Change, words: str
) -> None:
    content = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    put_file(folder, "model.safetensors", safetensors(header, content[8 + length :]))
    assert_refused(folder, rf"model\.safetensors {words}")


def test_bytes_that_no_tensor_has_are_refused(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    put_file(folder, "model.safetensors", content + bytes(8))
    assert_refused(folder, r"model\.safetensors has [\d,]+ bytes, its header says")


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf"), 1e38, -2e6])
@pytest.mark.parametrize("name", ["embedding.weight", "heads.stars.output.bias"])
def test_weights_that_no_training_gives_are_refused(
    bundle: Bundle, folder: Path, name: str, value: float
) -> None:
    array = bundle.weights[name].copy()
    array.flat[-1] = value
    content = save_tensors({**bundle.weights, name: array})
    put_file(folder, "model.safetensors", content)
    assert_refused(folder, rf"model\.safetensors {name} holds numbers that are not between")


# ---------------------------------------------------------------- the tokenizer


def swap_ids(document: dict[str, Any]) -> None:
    vocabulary = document["model"]["vocab"]
    vocabulary["a"] = len(vocabulary)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["model"].update(dropout=0.1), r"model\.dropout 0\.1 instead of None"),
        (lambda t: t["model"].update(unk_token="a"), r"model\.unk_token 'a' instead of None"),
        (lambda t: t["model"].update(fuse_unk=True), r"model\.fuse_unk True instead of False"),
        (lambda t: t["model"].update(byte_fallback=0), r"model\.byte_fallback 0 instead of False"),
        (lambda t: t["model"].update(ignore_merges=True), r"model\.ignore_merges True instead"),
        (
            lambda t: t["model"].update(continuing_subword_prefix="##"),
            "subword_prefix '##' instead",
        ),
        (lambda t: t["model"].update(end_of_word_suffix="</w>"), "word_suffix '</w>' instead"),
        (lambda t: t["model"].update(type="Unigram"), r"model\.type 'Unigram' instead of 'BPE'"),
        (lambda t: t["model"].update(extra=1), r"an unknown model\.extra"),
        (lambda t: t["model"].pop("type"), r"has no model\.type"),
        (lambda t: t.update(normalizer=None), "normalizer None instead of"),
        (lambda t: t.update(normalizer={"type": "NFC"}), r"normalizer\.type 'NFC' instead"),
        (lambda t: t["normalizer"].update(x=1), r"an unknown normalizer\.x"),
        (lambda t: t["pre_tokenizer"].update(add_prefix_space=True), "add_prefix_space True"),
        (lambda t: t["pre_tokenizer"].update(use_regex=False), "use_regex False instead of True"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer"),
        (lambda t: t.update(padding={"strategy": {"Fixed": 10**9}}), "padding .* instead of None"),
        (lambda t: t.update(truncation=None), "truncation None instead of"),
        (lambda t: t["truncation"].update(max_length=10**9), "max_length 1000000000 instead of 64"),
        (lambda t: t["truncation"].update(stride=3), "stride 3 instead of 0"),
        (lambda t: t["truncation"].update(direction="Left"), "direction 'Left' instead of"),
        (lambda t: t.update(post_processor={"type": "ByteLevel"}), "post_processor .* instead of"),
        (lambda t: t["added_tokens"].append({"id": 1, "content": "x"}), "added_tokens .* instead"),
        (lambda t: t.update(version="2.0"), r"version '2\.0' instead of '1\.0'"),
        (lambda t: t.update(surprise={}), "an unknown surprise"),
        (lambda t: t.update(model=None), "has no model"),
        (lambda t: t["model"].update(vocab=[]), "has no vocabulary or no merges"),
        (lambda t: t["model"].update(merges=None), "has no vocabulary or no merges"),
        (lambda t: t["model"]["vocab"].pop("a"), "has no token for 1 of the 256 bytes"),
        (lambda t: t["model"]["vocab"].update({"日": 0}), "'日', which is not made of bytes"),
        (lambda t: t["model"]["vocab"].update({"": 500}), "'', which is not made of bytes"),
        (lambda t: t["model"]["vocab"].update(a=10**12), "tokens, whose ids are not 0 to"),
        (lambda t: t["model"]["vocab"].update(a=-1), "tokens, whose ids are not 0 to"),
        (lambda t: t["model"]["vocab"].update(a="0"), "tokens, whose ids are not 0 to"),
        (swap_ids, "tokens, whose ids are not 0 to"),
        (lambda t: t["model"]["merges"].append(["zz", "zz"]), "of tokens that it does not have"),
        (lambda t: t["model"]["merges"].append("a b"), "'a b', which is no pair of tokens"),
        (lambda t: t["model"]["merges"].append(["a"]), r"\['a'\], which is no pair of tokens"),
        (lambda t: t["model"]["merges"].append(t["model"]["merges"][0]), "has a merge twice"),
    ],
)
def test_another_kind_of_tokenizer_is_refused(folder: Path, change: Change, words: str) -> None:
    edit_tokenizer(folder, change)
    assert_refused(folder, rf"tokenizer\.json .*{words}")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"model": NaN}'])
def test_a_tokenizer_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    put_file(folder, "tokenizer.json", content)
    assert_refused(folder, r"tokenizer\.json ")


def test_the_tokenizer_of_another_bundle_is_refused(folder: Path, corpus: list[str]) -> None:
    smaller = Tokenizer.train(corpus, 300, 64)
    put_file(folder, "tokenizer.json", smaller.to_json().encode())
    assert_refused(folder, r"tokenizer\.json has 300 tokens, the network")


def test_a_card_that_is_no_text_is_refused(folder: Path) -> None:
    put_file(folder, "MODEL_CARD.md", b"\xff")
    assert_refused(folder, r"MODEL_CARD\.md .*utf-8")
