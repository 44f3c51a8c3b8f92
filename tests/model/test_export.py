"""`glossator export` and the certificates: what is exported answers as the network does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_lines import glossator, refused
from networks import NETWORKS

from glossator.model import onnx_export
from glossator.model.bundle import Bundle, load, save
from glossator.model.network import AttentionRNN
from glossator.model.parity import certify
from glossator.model.tokenizer import Tokens

MakeNetwork = Callable[[str], AttentionRNN]


def of(bundle: Bundle, network: AttentionRNN) -> Bundle:
    from dataclasses import replace

    return replace(bundle, config=network.config, weights=network.weights())


@pytest.mark.parametrize("name", [name for name in NETWORKS if "qrnn" not in name])
def test_onnx_gives_the_networks_logits_and_attention_at_any_shape(
    bundle: Bundle,
    make_network: MakeNetwork,
    make_tokens: Callable[..., Tokens],
    tmp_path: Path,
    name: str,
) -> None:
    import onnxruntime

    network = make_network(name)
    onnx_export.export(of(bundle, network), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for lengths in ([1], [3, 17, 5], [64] * 2 + [1]):
        ids, counts = make_tokens(lengths, seed=3).padded()
        names = [one.name for one in session.get_outputs()]
        given = dict(zip(names, session.run(names, {"ids": ids, "lengths": counts}), strict=True))
        with torch.inference_mode():
            expected = network(torch.from_numpy(ids), torch.from_numpy(counts))
        assert given.keys() == {f"{task}.{p}" for task in expected for p in ("logits", "attention")}
        for task, (logits, attention) in expected.items():
            np.testing.assert_allclose(given[f"{task}.logits"], logits, atol=2e-5)
            np.testing.assert_allclose(given[f"{task}.attention"], attention, atol=1e-5)


def test_a_certificate_holds_for_the_engine_and_not_for_another_network(
    bundle: Bundle, corpus: list[str]
) -> None:
    good = certify(bundle, corpus)
    assert good.holds
    assert good.flips == 0
    assert good.texts == len(corpus)

    def other(tokens: Tokens) -> dict[str, np.ndarray]:
        return {
            task.name: np.tile(np.float32([0.0, 3.0, 1.0][: task.outputs]), (len(tokens), 1))
            for task in bundle.tasks
        }

    bad = certify(bundle, corpus, "another", other)
    assert not bad.holds
    assert bad.largest_difference > 0.01
    assert bad.what == "another"


@pytest.fixture
def texts(tmp_path: Path, corpus: list[str]) -> Path:
    pq.write_table(pa.table({"text": corpus}), tmp_path / "texts.parquet")
    return tmp_path / "texts.parquet"


def test_the_command_writes_a_folder_with_its_certificates(
    bundle: Bundle, tmp_path: Path, texts: Path
) -> None:
    digest = save(bundle, tmp_path / "bundle")
    out = tmp_path / "exported"
    run = glossator(
        *("export", "--model", str(tmp_path / "bundle"), "--output", str(out)),
        *("--data", str(texts)),
    )
    assert run.returncode == 0, run.stderr
    assert {path.name for path in out.iterdir()} == {
        *("model.onnx", "tokenizer.json", "certificate.json")
    }
    said = json.loads((out / "certificate.json").read_text())
    assert said["model_digest"] == digest
    assert [one["flips"] for one in said["certificates"]] == [0, 0]
    assert all(one["largest_difference"] <= 1e-5 for one in said["certificates"])
    assert "ONNX Runtime: within" in run.stdout


def test_what_onnx_has_no_operation_for_is_refused(
    bundle: Bundle, make_network: MakeNetwork, tmp_path: Path, texts: Path
) -> None:
    save(of(bundle, make_network("qrnn")), tmp_path / "bundle")
    out = tmp_path / "exported"
    run = glossator(
        *("export", "--model", str(tmp_path / "bundle"), "--output", str(out)),
        *("--data", str(texts)),
    )
    refused(run, "ONNX has no operation for a QRNN")
    assert not out.exists()


def test_the_bundle_in_the_package_is_certified(corpus: list[str]) -> None:
    """On ten thousand texts when it was trained, and on some here."""
    bundle = load("default")
    said = bundle.provenance["parity"]
    assert said["texts"] == 10_000
    assert said["flips"] == 0
    assert said["largest_difference"] <= 1e-5
    assert certify(bundle, corpus).holds


def test_where_nothing_can_be_written_is_refused_at_once(tmp_path: Path, texts: Path) -> None:
    (tmp_path / "file").touch()
    for output, said in (("memory://there/out", "upload it"), (tmp_path / "file", "name a folder")):
        run = glossator("export", "--output", str(output), "--data", str(texts))
        refused(run, "--output", said)
