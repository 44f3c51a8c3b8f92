"""`--model-digest`: only the model that was meant may label."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from bundle_edits import edit_index
from command_lines import glossator
from outputs import current
from sample_comments import make_comments, write_comments

from glossator.model.errors import UsageError
from glossator.pipeline.labelling import Labelling


def test_the_digest_is_that_of_the_index_and_stands_in_the_manifest(
    bundle: Path, tmp_path: Path
) -> None:
    source = write_comments(tmp_path / "in.parquet", make_comments(30))
    digest = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    arguments = ("label", "--input", source, "--model", bundle, "--model-digest", digest)
    run = glossator(*arguments, "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert json.loads((current(tmp_path / "out") / "_manifest.json").read_text())["model"] == digest


def test_another_model_is_refused_before_work(bundle: Path, tmp_path: Path) -> None:
    source = write_comments(tmp_path / "in.parquet", make_comments(30))
    digest = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    changed = tmp_path / "changed"
    shutil.copytree(bundle, changed)
    edit_index(changed, lambda index: index["calibration"]["sentiment"].update(scale=2.0))
    arguments = ("label", "--input", source, "--model", changed, "--model-digest", digest)
    run = glossator(*arguments, "--output", tmp_path / "out")
    assert run.returncode == 2
    assert run.stderr.startswith(f"glossator: --model-digest: model {changed} has digest ")
    assert digest in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="it is another model, or was changed"):
        Labelling.of(str(changed), model_digest=digest)
