"""Tables before their libraries are asked: names, columns, and what is said without the extra."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest
from command_lines import glossator, refused
from sample_comments import make_comments, write_comments

from glossator.model.errors import UsageError
from glossator.pipeline.outputs.tables.columns import merged, of_table
from glossator.pipeline.outputs.tables.names import parse

PLACE = [pa.field("source_file", pa.string()), pa.field("source_row", pa.int64())]
LABEL = pa.struct([("label", pa.dictionary(pa.int8(), pa.string())), ("confidence", pa.float32())])


def test_names() -> None:
    assert (parse("delta:s3://lake/labels/").kind, parse("delta:s3://lake/labels/").place) == (
        "delta",
        "s3://lake/labels",
    )
    assert parse("delta:labels").place == f"{Path.cwd()}/labels"
    assert parse("iceberg:prod.team.nlp.labels").place == "prod.team.nlp.labels"
    for wrong in ("", "delta:", "iceberg:a.b", "iceberg:a..b", "hudi:a.b.c"):
        with pytest.raises(UsageError, match="names no table"):
            parse(wrong)


def test_secrets_in_a_name_are_not_shown() -> None:
    assert "secret" not in str(parse("delta:s3://key:secret@lake/labels"))


@pytest.mark.parametrize("library", ["deltalake", "pyiceberg"])
def test_without_the_extra_it_is_named(
    library: str, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = {"deltalake": "delta", "pyiceberg": "iceberg"}[library]
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"glossator.pipeline.outputs.tables.{kind}", raising=False)
    source = write_comments(tmp_path / "in.parquet", make_comments(3))
    words = ["label", "--input", source, "--output", tmp_path / "out", "--model", bundle]
    run = glossator(*words, "--table", f"{kind}:{tmp_path}.a.b")
    refused(run, "--table: ", f"needs the package {library}: install the extra tables")
    assert not (tmp_path / "out").exists()


def test_types_are_those_of_tables() -> None:
    parts = pa.schema(
        [
            *PLACE,
            ("label", LABEL),
            ("small", pa.int8()),
            ("day", pa.date64()),
            ("at", pa.timestamp("ms", "Europe/Berlin")),
            ("words", pa.large_list(pa.large_string())),
        ]
    )
    label = pa.struct([("label", pa.string()), ("confidence", pa.float32())])
    assert of_table(parts, "2026-11-20") == pa.schema(
        [
            *PLACE,
            ("label", label),
            ("small", pa.int32()),
            ("day", pa.date32()),
            ("at", pa.timestamp("us", "UTC")),
            ("words", pa.list_(pa.field("element", pa.string()))),
            ("date", pa.date32()),
        ]
    )


@pytest.mark.parametrize(
    "kind",
    [
        pa.uint32(),
        pa.timestamp("ns"),
        pa.time64("us"),
        pa.decimal256(50, 2),
        pa.map_(pa.string(), pa.int64()),
        pa.list_(pa.uint8()),
        pa.struct([("a", pa.float16())]),
        pa.null(),
    ],
    ids=str,
)
def test_types_that_tables_have_not_are_refused(kind: pa.DataType) -> None:
    with pytest.raises(UsageError, match="which tables do not have"):
        of_table(pa.schema([*PLACE, ("key", kind)]), None)


def test_columns_and_fields_are_added_and_others_stay_as_they_are() -> None:
    old = pa.struct([("label", pa.large_string()), ("entropy", pa.float32())])
    table = pa.schema([("own", pa.int8()), *PLACE, ("mood", old)])
    new = pa.struct([("label", pa.string()), ("expert", pa.float32())])
    both = pa.struct([*old, ("expert", pa.float32())])
    needed = pa.schema([*PLACE, ("mood", new), ("topic", pa.string())])
    assert merged(table, needed, "t") == pa.schema(
        [("own", pa.int8()), *PLACE, ("mood", both), ("topic", pa.string())]
    )
    assert merged(table, pa.schema(PLACE), "t") == table
    changed = pa.schema([*PLACE, ("mood", pa.struct([("label", pa.int64())]))])
    with pytest.raises(UsageError, match=r"'mood.label' is large_string there, and int64 in this"):
        merged(table, changed, "t")
