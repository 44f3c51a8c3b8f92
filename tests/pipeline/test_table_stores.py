"""Tables whose parts lie on a real S3: what their own clients find there."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from label_tables import DAYS, date_of, ordered
from sample_comments import make_comments, write_comments

pytestmark = [pytest.mark.stores, pytest.mark.tables]


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_on_s3(kind: str, s3: Any, tmp_path: Path, bundle: Path, iceberg_catalog: None) -> None:
    pl, identifier = pytest.importorskip("polars"), f"n{uuid.uuid4().hex}.labels"
    root = f"{s3.uri}/labels"
    if kind == "delta":
        pytest.importorskip("deltalake")
        s3.patch.setenv("AWS_ALLOW_HTTP", "true")
        s3.patch.setenv("AWS_REGION", "us-east-1")
        name = f"delta:{root}"
    else:
        pytest.importorskip("pyiceberg")
        name = f"iceberg:here.{identifier}"
    words = ["label", "--input", f"{tmp_path}/in/{{date}}", "--output", f"{root}/date={{date}}"]
    words += ["--model", str(bundle), "--key", "id", "--table", name, "--date"]

    def rows() -> Any:
        if kind == "delta":
            return ordered(pl.read_delta(root).to_dicts())
        from pyiceberg.catalog import load_catalog

        catalog = load_catalog("here", **{"s3.endpoint": s3.url})
        table = catalog.load_table(identifier)
        return ordered(table.scan().to_arrow().to_pylist())

    for seed in (1, 2):
        for date in DAYS:
            write_comments(tmp_path / "in" / date / "a.parquet", make_comments(20, seed=seed))
            for _ in range(2):  # the second time nothing is done
                run = glossator(*words, date)
                assert run.returncode == 0, run.stderr
    expected = []
    for date in DAYS:
        folder = f"{root}/date={date}"
        current = s3.fs.cat_file(f"{folder}/_current.json".removeprefix("s3://"))
        glob = json.loads(current)["parts"]
        for path in s3.fs.glob(f"{folder}/{glob}"):
            part = pq.read_table(s3.fs.open(path)).to_pylist()
            expected += [{**row, "date": date_of(date)} for row in part]
    assert rows() == ordered(expected) and len(expected) == 40
    if kind == "delta":
        import deltalake

        assert len(deltalake.DeltaTable(root).history()) == 4
