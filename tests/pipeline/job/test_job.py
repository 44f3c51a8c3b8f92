"""The job from end to end on real files, with the expected output computed another way."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from command_lines import glossator, shell
from labelled_outputs import data, expected_rows, good, manifest, rejects, rows
from outputs import current
from sample_comments import answer_alone, make_comments, write_comments

from glossator.model.bundle import load
from glossator.model.labeller import Labeller
from glossator.pipeline import prepare
from glossator.pipeline.inputs.plan import make_plan


def test_every_row_comes_out_once_with_its_own_labels(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    out = tmp_path / "out"
    run = glossator(
        "label", "--input", tmp_path / "in", "--output", out, "--model", bundle, "--key", "id"
    )
    assert "published 4 parts" in good(run)
    model = Labeller(load(bundle))
    assert rows(out) == expected_rows(model, answer_alone, folder)

    texts = [text for path in sorted(folder) for text in folder[path]]
    blank = [(i, "null") for i, text in enumerate(texts) if text is None]
    blank += [(i, "empty") for i, text in enumerate(texts) if text in (" \n", "", "\u3000")]
    blank.sort()
    assert [(r["id"], r["reason"]) for r in rejects(out)] == blank
    assert {r["stage"] for r in rejects(out)} == {"check"}
    assert sorted(r["id"] for r in rows(out) + rejects(out)) == list(range(len(texts)))

    said = manifest(out)
    assert said["totals"] == {
        "rows_read": len(texts),
        "rows_labelled": len(texts) - len(blank),
        "rows_rejected": len(blank),
        "rows_unreadable": 0,
        "files_unreadable": 0,
        "rejects": {"empty": 3, "null": 2},
    }
    assert [source["uri"] for source in said["inputs"]] == [str(path) for path in sorted(folder)]
    assert said["model"] == load(bundle).digest
    labels = Counter(row["sentiment"]["label"] for row in rows(out))
    assert said["labels"]["sentiment"] == {k: n / labels.total() for k, n in sorted(labels.items())}
    assert (out / "_SUCCESS").read_bytes() == b""
    assert {path.name for path in out.iterdir()} == {"_SUCCESS", "_current.json", "_runs"}
    assert {p.name for p in (out / "_runs").iterdir()} == {said["run_id"], "_glossator.json"}
    beside_parts = {p.name for p in current(out).iterdir() if not p.name.startswith("part-")}
    assert beside_parts == {
        "_canary.json",
        "_manifest.json",
        "_records.json",
        "_rejects",
        "_report.html",
    }


def test_manifest_names_every_file_and_its_digest(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    import hashlib

    out = tmp_path / "out"
    good(glossator("label", "--input", tmp_path / "in", "--output", out, "--model", bundle))
    listed = {f["name"]: f for kind in ("parts", "rejects") for f in manifest(out)[kind]}
    assert listed.keys() == data(out).keys()
    for name, content in data(out).items():
        assert listed[name]["bytes"] == len(content)
        assert listed[name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert listed[name]["rows"] == pq.read_metadata(current(out) / name).num_rows


def test_one_huge_row_group_is_cut_into_splits(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = make_comments(700, seed=3)
    path = write_comments(tmp_path / "in.parquet", texts)
    assert pq.read_metadata(path).num_row_groups == 1
    small = {"rows_per_split": 100}
    monkeypatch.setattr(prepare, "make_plan", lambda *a, **k: make_plan(*a, **k, **small))
    out = tmp_path / "out"
    arguments = ("--input", path, "--output", out, "--model", bundle, "--key", "id")
    assert "published 7 parts" in good(glossator("label", *arguments, "--workers", 2))
    model = Labeller(load(bundle))
    assert rows(out) == expected_rows(model, answer_alone, {path: list(texts)})


@pytest.mark.slow
def test_more_rows_than_a_split_holds(tmp_path: Path, bundle: Path) -> None:
    few = make_comments(5_000, seed=3)
    path = write_comments(tmp_path / "in.parquet", few * 32)
    out = tmp_path / "out"
    arguments = ("--input", path, "--output", out, "--model", bundle, "--key", "id")
    good(glossator("label", *arguments))
    table = pa.concat_tables(pq.read_table(part) for part in sorted(current(out).glob("part-*")))
    assert len(list(current(out).glob("part-*"))) == 3
    assert table["id"].to_pylist() == list(range(160_000))
    once = table.slice(0, 5_000).to_pylist()
    last = table.slice(155_000).to_pylist()
    assert [row["stars"] for row in last] == [row["stars"] for row in once]


def test_text_that_is_not_utf8(tmp_path: Path, bundle: Path) -> None:
    raw = [b"good \xe5\xa5\xbd", b"bad \xff here", None, b"lovely", b"\x80"]
    offsets = pa.array(raw, pa.binary()).buffers()
    text = pa.Array.from_buffers(pa.string(), len(raw), offsets)  # as careless writers do
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": range(5), "body": text}), path)
    out = tmp_path / "out"
    arguments = ("--input", path, "--output", out, "--model", bundle, "--key", "id")
    said = good(glossator("label", *arguments))
    assert "2 labelled + 3 rejected" in said and "2 undecodable" in said
    assert [row["id"] for row in rows(out)] == [0, 3]
    assert [(r["id"], r["reason"], r["detail"]) for r in rejects(out)] == [
        (1, "undecodable", "byte 0xff at offset 4: invalid start byte"),
        (2, "null", None),
        (4, "undecodable", "byte 0x80 at offset 0: invalid start byte"),
    ]


@pytest.mark.parametrize("kind", ["dictionary", "large", "binary"])
def test_text_and_keys_of_other_types_give_the_same(
    kind: str, tmp_path: Path, bundle: Path
) -> None:
    texts = make_comments(30, seed=4)
    names = [f"user {i % 3}" for i in range(30)]
    plain = {"name": pa.array(names), "comment": pa.array(texts)}
    change: dict[str, Callable[[pa.Array], pa.Array]] = {
        "dictionary": lambda column: column.dictionary_encode(),
        "large": lambda column: column.cast(pa.large_string()),
        "binary": lambda column: column.cast(pa.binary()),
    }
    other = {"name": plain["name"], "comment": change[kind](plain["comment"])}
    if kind == "dictionary":
        other["name"] = change[kind](plain["name"])
    found = []
    for i, columns in enumerate((plain, other)):
        path, out = tmp_path / str(i) / "in.parquet", tmp_path / str(i) / "out"
        path.parent.mkdir()
        pq.write_table(pa.table(columns), path)
        arguments = ("--input", path, "--output", out, "--model", bundle, "--key", "name")
        good(glossator("label", *arguments))
        found.append([{**row, "source_file": ""} for row in rows(out)])
    assert found[0] == found[1]
    assert [row["name"] for row in found[0]] == names


def test_column_that_is_clearly_the_text(tmp_path: Path, bundle: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"author": ["x", "y"], "Review": ["good", "bad"]}), path)
    out = tmp_path / "out"
    good(glossator("label", "--input", path, "--output", out, "--model", bundle))
    assert manifest(out)["options"]["text"] == "Review"
    named = tmp_path / "named"
    arguments = ("--input", path, "--output", named, "--model", bundle)
    good(glossator("label", *arguments, "--text", "author"))
    assert manifest(named)["options"]["text"] == "author"


def overwrite(path: Path, offset: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xaa" * count)


def test_corrupt_files_are_one_reject_each_and_the_rest_is_labelled(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    cut = write_comments(inputs / "e-cut.parquet", make_comments(50), first_id=1000)
    os.truncate(cut, cut.stat().st_size - 20)
    pages = write_comments(inputs / "f-pages.parquet", make_comments(50), first_id=2000)
    column = pq.read_metadata(pages).row_group(0).column(1)
    overwrite(pages, column.data_page_offset + 40, 30)
    (inputs / "g-empty.parquet").touch()
    arguments = ("--input", inputs, "--output", out, "--model", bundle, "--key", "id")
    said = good(glossator("label", *arguments, "--max-unreadable", 3))
    assert "NOT READ: 50 rows and 2 whole files; " in said
    assert rows(out) == expected_rows(Labeller(load(bundle)), answer_alone, folder)
    whole = [r for r in rejects(out) if r["source_row"] is None]
    assert [(Path(r["source_file"]).name, r["stage"], r["reason"]) for r in whole] == [
        ("e-cut.parquet", "read", "unreadable"),
        ("f-pages.parquet", "read", "corrupt"),
        ("g-empty.parquet", "read", "unreadable"),
    ]
    assert [r["id"] for r in whole] == [None, None, None]
    assert "truncated" in whole[0]["detail"] and "rows 0 to 50" in whole[1]["detail"]
    totals = manifest(out)["totals"]
    assert totals["rows_read"] == sum(len(texts) for texts in folder.values())
    assert totals["rows_read"] == totals["rows_labelled"] + totals["rows_rejected"]
    assert (totals["rows_unreadable"], totals["files_unreadable"]) == (50, 2)
    assert totals["rejects"] == {"corrupt": 1, "empty": 3, "null": 2, "unreadable": 2}
    errors = {Path(s["uri"]).name: s["error"] for s in manifest(out)["inputs"] if s["error"]}
    assert set(errors) == {"e-cut.parquet", "g-empty.parquet"}


def test_output_is_one_table_for_every_reader(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--input", tmp_path / "in", "--output", out, "--model", bundle, "--key", "id")
    good(glossator("label", *arguments))
    want = sorted(rows(out), key=lambda row: row["id"])
    short = [
        (row["id"], row["sentiment"]["label"], row["themes"]["labels"], row["stars"]["value"])
        for row in want
    ]
    words = [[word["text"] for word in row["sentiment"]["attention"]] for row in want]

    # what a reader does with a folder and a glob, not with a list of its files
    pointer = json.loads((out / "_current.json").read_text())
    glob, folder_of_run = f"{out}/{pointer['parts']}", current(out)
    arrow = ds.dataset(folder_of_run, format="parquet").to_table().sort_by("id").to_pylist()
    assert arrow == want
    query = (
        "SELECT id, sentiment.label, themes.labels, stars.value,"
        " list_transform(sentiment.attention, lambda w: w.text)"
        f" FROM read_parquet('{glob}') ORDER BY id"
    )
    duck = duckdb.sql(query).fetchall()
    assert [row[:4] for row in duck] == short and [row[4] for row in duck] == words
    polars = pl.read_parquet(glob).sort("id").to_dicts()
    assert polars == want
    frame = pd.read_parquet(folder_of_run).sort_values("id")
    assert [
        (i, s["label"], list(t["labels"]), v["value"])
        for i, s, t, v in zip(
            frame["id"], frame["sentiment"], frame["themes"], frame["stars"], strict=True
        )
    ] == short


def test_labels_are_the_same_wherever_and_however_wide(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    assert folder
    arguments = ("--input", tmp_path / "in", "--model", bundle, "--key", "id")
    found = []
    for name, more in {
        "one": ("--workers", 1),
        "two": ("--workers", 2),
        "replayed": ("--workers", 2, "--direct_runner_bundle_repeat=1"),
        "in-memory": ("--runner=FnApiRunner", "--direct_running_mode=in_memory"),
    }.items():
        good(glossator("label", *arguments, "--output", tmp_path / name, *more))
        found.append(data(tmp_path / name))
    assert len(found[0]) == 6
    assert all(files == found[0] for files in found)


def test_default_runner_of_beam(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    """In another process, for it may start a service of its own."""
    assert folder
    arguments = ("--input", tmp_path / "in", "--model", bundle, "--key", "id")
    run = shell(
        "-m",
        "glossator.pipeline",
        *arguments,
        "--output",
        tmp_path / "out",
        "--runner=DirectRunner",
    )
    assert "published 4 parts" in good(run)
    other = shell("-m", "glossator.pipeline", *arguments, "--output", tmp_path / "other")
    assert good(other) and data(tmp_path / "out") == data(tmp_path / "other")
