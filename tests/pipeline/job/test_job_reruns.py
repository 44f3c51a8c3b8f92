"""The job run again: on what is published, changed or lost."""

from __future__ import annotations

import json
from pathlib import Path

from command_lines import glossator
from labelled_outputs import PUBLIC, data, expected_rows, good, manifest, rejects, rows, times
from outputs import current
from sample_comments import answer_alone, make_comments, write_comments

from glossator.model.bundle import load
from glossator.model.labeller import Labeller


def test_second_run_does_nothing(
    folder: dict[Path, list[str | None]], tmp_path: Path, bundle: Path
) -> None:
    assert folder
    out = tmp_path / "out"
    arguments = ("label", "--input", tmp_path / "in", "--output", out, "--model", bundle)
    good(glossator(*arguments))
    lock = {str(out), f"{out}/_runs"}  # comes and goes in these folders
    before = {name: time for name, time in times(out).items() if name not in lock}
    said = good(glossator(*arguments))
    assert "holds this already" in said and "nothing was done" in said
    assert {name: time for name, time in times(out).items() if name not in lock} == before
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
    next(current(out).glob("part-00001-*")).unlink()
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
    good(glossator("label", *arguments, "--accept", "rows_replaced"))
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
