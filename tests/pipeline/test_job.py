"""The job from end to end on real files, with the expected output computed another way."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from apache_beam.internal import pickler
from command_lines import glossator, shell
from sample_comments import answer_alone, make_comments, write_comments

from glossator.model.bundle import load
from glossator.model.labeller import Labeller
from glossator.model.tasks import select_tasks
from glossator.pipeline import job
from glossator.pipeline.engines.progress import Silent
from glossator.pipeline.inputs.plan import make_plan
from glossator.pipeline.label import SplitLabelling
from glossator.pipeline.options import LabelOptions, beam_options
from glossator.pipeline.outputs.staging import save_plan
from glossator.pipeline.transforms import LabelSplits, ListSplits, Publication, Publish

Answer = Callable[..., dict[str, Any]]

PUBLIC = ("sentiment", "themes", "stars")


def rows(out: Path) -> list[dict[str, Any]]:
    """The rows of all parts, one part after the other."""
    return [row for part in sorted(out.glob("part-*")) for row in pq.read_table(part).to_pylist()]


def rejects(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "_rejects").glob("part-*"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def manifest(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "_manifest.json").read_text())
    return content


def data(out: Path) -> dict[str, bytes]:
    """The parts and rejects, byte for byte."""
    files = (path for path in out.rglob("part-*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def times(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}


def good(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def expected_rows(
    model: Labeller, answer_alone: Answer, sources: dict[Path, list[str | None]], top: int = 5
) -> list[dict[str, Any]]:
    """What has a text, in the order of the files' names and then of the rows."""
    first, result = 0, []
    for path in sorted(sources):
        for row, text in enumerate(sources[path]):
            if text is not None and text.strip():
                place = {"id": first + row, "source_file": str(path), "source_row": row}
                result.append({**place, **answer_alone(model, text, top)})
        first += len(sources[path])
    return result


@pytest.fixture
def folder(tmp_path: Path) -> dict[Path, list[str | None]]:
    """Several files of several row groups, and what is in them; ids count on from file to file."""
    inputs = tmp_path / "in"
    sources: dict[Path, list[str | None]] = {
        inputs / "a.parquet": [
            *make_comments(300, seed=1),
            None,
            " \n",
            "",
            "\u3000",
            "很好 ☕ ﬁne",
        ],
        inputs / "b.parquet": [None, *make_comments(120, seed=2)],
        inputs / "c.parquet": make_comments(80, seed=1),
        inputs / "sub" / "d.parquet": [],
    }
    first = 0
    for path, texts in sources.items():
        column = pa.array(texts, pa.string())
        write_comments(path, column, first_id=first, row_group_size=64)
        first += len(texts)
    return sources


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
    assert {p.name for p in out.iterdir() if p.name.startswith("_")} == {
        "_SUCCESS",
        "_manifest.json",
        "_rejects",
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
        assert listed[name]["rows"] == pq.read_metadata(out / name).num_rows


def test_one_huge_row_group_is_cut_into_splits(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = make_comments(700, seed=3)
    path = write_comments(tmp_path / "in.parquet", texts)
    assert pq.read_metadata(path).num_row_groups == 1
    small = {"rows_per_split": 100}
    monkeypatch.setattr(job, "make_plan", lambda *a, **k: make_plan(*a, **k, **small))
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
    table = pa.concat_tables(pq.read_table(part) for part in sorted(out.glob("part-*")))
    assert len(list(out.glob("part-*"))) == 3
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

    # what a reader does with the folder, not with a list of its files
    arrow = ds.dataset(out, format="parquet").to_table().sort_by("id").to_pylist()
    assert arrow == want
    query = (
        "SELECT id, sentiment.label, themes.labels, stars.value,"
        " list_transform(sentiment.attention, lambda w: w.text)"
        f" FROM read_parquet('{out}/*.parquet') ORDER BY id"
    )
    duck = duckdb.sql(query).fetchall()
    assert [row[:4] for row in duck] == short and [row[4] for row in duck] == words
    polars = pl.read_parquet(f"{out}/*.parquet").sort("id").to_dicts()
    assert polars == want
    frame = pd.read_parquet(out).sort_values("id")
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


def test_second_run_does_nothing(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    assert folder
    out = tmp_path / "out"
    arguments = ("label", "--input", tmp_path / "in", "--output", out, "--model", bundle)
    good(glossator(*arguments))
    before = {name: time for name, time in times(out).items() if name != str(out)}
    said = good(glossator(*arguments))
    assert "holds this already" in said and "nothing was done" in said
    assert {name: time for name, time in times(out).items() if name != str(out)} == before
    state = json.loads(good(glossator(*arguments, "--json")))
    assert (state["state"], state["parts"]) == ("unchanged", 4)
    reordered = ("--tasks", "stars,themes, sentiment")  # the same tasks, in any order
    assert "nothing was done" in good(glossator(*arguments, *reordered))


def test_lost_part_is_made_again(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    assert folder
    out = tmp_path / "out"
    arguments = ("label", "--input", tmp_path / "in", "--output", out, "--model", bundle)
    good(glossator(*arguments))
    before = data(out)
    next(out.glob("part-00001-*")).unlink()
    assert "published 4 parts" in good(glossator(*arguments))
    assert data(out) == before


def test_changed_input_replaces_what_was_published_whole(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--input", tmp_path / "in", "--output", out, "--model", bundle, "--key", "id")
    good(glossator("label", *arguments))
    assert len(data(out)) == 6
    kept = sorted(folder)[2]
    for path in set(folder) - {kept}:
        path.unlink()
    texts: list[str | None] = [*make_comments(40, seed=9)]
    write_comments(kept, texts)
    good(glossator("label", *arguments))
    assert rows(out) == expected_rows(Labeller(load(bundle)), answer_alone, {kept: texts})
    assert rejects(out) == []
    assert len(data(out)) == 1 and manifest(out)["totals"]["rows_read"] == 40


def test_another_model_or_top_or_task_labels_again(
    tmp_path: Path, bundle: Path, other_bundle: Path
) -> None:
    texts: list[str | None] = [*make_comments(40, seed=9)]
    path = write_comments(tmp_path / "in.parquet", texts)
    out = tmp_path / "out"
    runs = set()
    for folder, top, tasks in (
        (bundle, 5, PUBLIC),
        (other_bundle, 5, PUBLIC),
        (bundle, 1, PUBLIC),
        (bundle, 1, ("themes", "gender")),
    ):
        arguments = ("--input", path, "--output", out, "--model", folder, "--top", top)
        run = glossator("label", *arguments, "--key", "id", "--tasks", ",".join(tasks))
        assert "published 1 part " in good(run)
        model = Labeller(load(folder), tasks)
        assert rows(out) == expected_rows(model, answer_alone, {path: texts}, top)
        runs.add(manifest(out)["run_id"])
    assert len(runs) == 4


def test_sensitive_tasks_only_when_named(tmp_path: Path, bundle: Path) -> None:
    path = write_comments(tmp_path / "in.parquet", make_comments(5))
    for tasks, columns in {
        None: ["sentiment", "themes", "stars"],
        "gender": ["gender"],
        "stars,gender,sentiment": ["sentiment", "gender", "stars"],
        "sentiment,stars,gender": ["sentiment", "gender", "stars"],
    }.items():
        out = tmp_path / f"out-{tasks}"
        chosen = () if tasks is None else ("--tasks", tasks)
        good(glossator("label", "--input", path, "--output", out, "--model", bundle, *chosen))
        (part,) = out.glob("part-*")
        assert pq.read_schema(part).names == ["source_file", "source_row", *columns]
    assert data(tmp_path / "out-stars,gender,sentiment") == data(
        tmp_path / "out-sentiment,stars,gender"
    )


def test_json_is_the_account(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    assert folder
    out = tmp_path / "out"
    arguments = ("label", "--input", tmp_path / "in", "--output", out, "--model", bundle)
    said = json.loads(good(glossator(*arguments, "--json")))
    assert (said["state"], said["output"], said["resumed_splits"]) == ("published", str(out), 0)
    for name in ("run_id", "model", "totals", "labels", "versions", "options"):
        assert said[name] == manifest(out)[name]
    assert said["parts"] == 4 and said["seconds"] > 0


def test_show_prints_comments_with_their_words(tmp_path: Path, bundle: Path) -> None:
    texts = make_comments(60, seed=8)
    path = write_comments(tmp_path / "in.parquet", [None, *texts], row_group_size=10)
    arguments = ("--input", path, "--output", tmp_path / "out", "--model", bundle, "--top", 1)
    said = good(glossator("label", *arguments, "--show", 3))
    blocks = said.split("\n\n")[1:]
    assert len(blocks) == 3
    for row, block in zip((0, 20, 40), blocks, strict=True):
        lines = block.splitlines()
        assert [line.split()[0] for line in lines] == list(PUBLIC)
        for line in lines:
            bare = line.replace("[", " ").replace("]", " ")
            assert all(word in bare for word in texts[row].split()), (row, line)
            assert line.count("%]") == 1


def test_date_in_input_and_output(tmp_path: Path, bundle: Path) -> None:
    path = write_comments(tmp_path / "in" / "2024-05-01" / "x.parquet", make_comments(5))
    write_comments(tmp_path / "in" / "2024-05-02" / "x.parquet", make_comments(6))
    arguments = ("--input", f"{tmp_path}/in/{{date}}", "--output", f"{tmp_path}/out/{{date}}")
    good(glossator("label", *arguments, "--model", bundle, "--date", "2024-05-01"))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["2024-05-01"]
    assert {row["source_file"] for row in rows(tmp_path / "out" / "2024-05-01")} == {str(path)}


def test_relative_paths_are_of_the_folder_one_stands_in(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_comments(tmp_path / "in.parquet", make_comments(5))
    monkeypatch.chdir(tmp_path)
    good(glossator("label", "--input", "in.parquet", "--output", "out/deep", "--model", bundle))
    assert rows(tmp_path / "out" / "deep")[0]["source_file"] == str(tmp_path / "in.parquet")


@pytest.fixture
def publication(folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path) -> Publication:
    assert folder
    digest, out = load(bundle).digest, tmp_path / "out"
    plan = make_plan([str(tmp_path / "in")], text=None, keys=["id"], identity="x")
    staging = f"{out}/_staging/{plan.run_id}"
    tasks = select_tasks(load(bundle).tasks, PUBLIC)
    labelling = SplitLabelling(str(bundle), digest, tasks, "text", 5, plan.columns, staging)
    save_plan(plan, staging)
    return Publication(str(out), plan.run_id, labelling, {"text": "text"}, {}, 0.0)


ELSEWHERE = """
import pickle, sys
from apache_beam.internal import pickler
listing, label, publish = map(pickler.loads, pickle.load(sys.stdin.buffer))
label.setup()
splits = list(listing.process(b""))
assert len(splits) > 1
label.start_bundle()
done = [name for split in splits for name in label.process(split)]
done += [output.value for output in label.finish_bundle()]
assert sorted(done) == sorted(split.name for split in splits)
assert not list(listing.process(b""))
(manifest,) = publish.process(len(done))
(again,) = publish.process(len(done))  # a retry after all is done
assert manifest == again
assert not list(listing.process(b""))  # and one of the whole job
print(manifest.totals.rows_labelled)
"""


def test_functions_travel_to_another_process_without_the_model(
    publication: Publication, bundle: Path
) -> None:
    label, publish = LabelSplits(publication.labelling), Publish(publication)
    label.setup()  # what one process has loaded does not travel
    sent = [pickler.dumps(stage) for stage in (ListSplits(publication), label, publish)]
    weights = (bundle / "model.safetensors").stat().st_size
    # as small for a million splits as for one: the plan lies in staging
    assert [len(data) < min(5_000, weights) for data in sent] == [True, True, True]
    run = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=pickle.dumps(sent),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    count = len(rows(Path(publication.output)))
    assert int(run.stdout) == count > 0


def test_the_engine_and_the_manifest_count_alike(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--input", tmp_path / "in", "--output", out, "--model", bundle, "--json")
    account = json.loads(good(glossator("label", *arguments)))
    counted, totals = manifest(out)["metrics"], manifest(out)["totals"]
    assert account["engine"] == account["metrics"] == counted
    counters, distributions = counted["counters"], counted["distributions"]
    for name in ("rows_read", "rows_labelled", "rows_rejected"):
        assert counters[name] == totals[name] > 0
    assert counters["rows_unreadable"] == 0
    assert counters["rejects_null"] == 2 and counters["rejects_empty"] == 3
    texts = [[text for text in some if text and text.strip()] for some in folder.values()]
    assert counters["distinct_texts"] == sum(len(set(some)) for some in texts)
    alone = Labeller(load(bundle))
    tokens = [int(alone.label([text]).tokens[0]) for some in texts for text in set(some)]
    assert counters["tokens"] == sum(tokens) <= counters["padded_tokens"]
    shares = [round(100 * len(set(some)) / len(some)) for some in texts if some]
    distinct = distributions["distinct_percent"]
    assert distinct["count"] == len(shares) and distinct["sum"] == sum(shares)
    assert (distinct["min"], distinct["max"]) == (min(shares), max(shares))
    assert 0 < distributions["batch_fill_percent"]["max"] <= 100
    for stage in ("read", "tokenize", "network", "attention", "arrow", "write"):
        assert distributions[f"{stage}_ms"]["count"] == len(shares)  # none of a file without rows


class Lines(Silent):
    """Keeps what is announced."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, line: str) -> None:
        self.said.append(line)


@pytest.mark.usefixtures("deadline")
def test_splits_that_are_done_are_not_done_again(
    folder: dict[Path, list[str | None]],
    tmp_path: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of four splits are labelled by a run that ends there; the next does the other two."""
    assert folder
    from glossator.pipeline import running
    from glossator.pipeline.errors import JobError
    from glossator.pipeline.label import label_split

    inputs = (str(tmp_path / "in"),)
    options = LabelOptions(
        inputs=inputs, output=str(tmp_path / "out"), model=str(bundle), workers=1
    )
    done: list[str] = []

    def stops(split: Any, *more: Any) -> Any:
        if len(done) == 2:
            raise OSError("the store went away")
        record = label_split(split, *more)
        done.append(split.ranges[0].source)
        return record

    monkeypatch.setattr(running, "label_split", stops)
    with pytest.raises(JobError, match=r"the store went away.*run it again to resume") as caught:
        job.run(options, beam_options([], 1), Silent())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    first = list(done)
    done.clear()
    monkeypatch.setattr(
        running,
        "label_split",
        lambda s, *more: done.append(s.ranges[0].source) or label_split(s, *more),
    )
    lines = Lines()
    outcome = job.run(options, beam_options([], 1), lines)
    assert outcome.resumed_splits == 2 and "resuming: 2 are done" in lines.said[0]
    assert sorted(first + done) == sorted(str(path) for path in folder)


def test_input_output_and_model_may_lie_in_another_store(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "in"), "/job/in", recursive=True)
    memory.put(str(bundle), "/job/model", recursive=True)
    flags = ("label", "--input=memory://job/in", "--output=memory://job/out", "--key=id")
    good(glossator(*flags, "--model=memory://job/model"))
    here = tmp_path / "out"
    local = ("label", f"--input={tmp_path / 'in'}", f"--output={here}", "--key=id")
    good(glossator(*local, f"--model={bundle}"))
    try:
        there = tmp_path / "fetched"
        memory.get("/job/out", str(there), recursive=True)
        assert (there / "_SUCCESS").exists() and not memory.find("/job/out/_staging")
        for ours, theirs in ((rows(here), rows(there)), (rejects(here), rejects(there))):
            assert {row.pop("source_file").split(":")[0] for row in theirs} == {"memory"}
            assert theirs == [{k: v for k, v in row.items() if k != "source_file"} for row in ours]
        assert "nothing was done" in good(glossator(*flags, "--model=memory://job/model"))
    finally:
        memory.rm("/job", recursive=True)
