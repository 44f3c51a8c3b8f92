"""What is checked of a night beside the nights before it, end to end through the command."""

from __future__ import annotations

import base64
import json
import math
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_lines import glossator
from labelled_outputs import manifest, rows
from outputs import current
from sample_comments import make_comments, write_comments

from glossator.pipeline.gates.nights import outputs_before, read

ROWS = 1000
"""As few as the limits take for enough."""
Label = Callable[..., Any]


@pytest.fixture(scope="module")
def nights(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of four nights alike, from the 1st to the 4th."""
    folder = tmp_path_factory.mktemp("nights")
    for day in range(1, 5):
        texts = make_comments(ROWS + 10 * day, seed=day)
        write_comments(folder / "in" / f"2026-11-0{day}" / "a.parquet", texts)
        run = glossator(*arguments(folder, bundle, f"2026-11-0{day}"))
        assert run.returncode == 0, run.stderr
    return folder


def arguments(folder: Path, bundle: Path, day: str) -> tuple[object, ...]:
    given = ("--output", folder / "out" / "{date}", "--model", bundle, "--date", day)
    return ("label", "--input", folder / "in" / "{date}", *given)


@pytest.fixture
def fifth(nights: Path, bundle: Path, tmp_path: Path) -> Label:
    """Labels texts as the 5th night, with more flags; the output is `fifth.out`."""
    shutil.copytree(nights / "out", tmp_path / "out")

    def label(texts: Sequence[str | None] | None, *more: object, day: str = "2026-11-05") -> Any:
        if texts is not None:
            write_comments(tmp_path / "in" / day / "a.parquet", list(texts))
        return glossator(*arguments(tmp_path, bundle, day), *more)

    label.out = tmp_path / "out" / "2026-11-05"  # type: ignore[attr-defined]
    return label


def refused(run: Any, *words: str) -> None:
    """The last line of a run that a check has refused has all the words."""
    assert run.returncode == 3 and run.stdout == "", run.stderr
    line = run.stderr.splitlines()[-1]
    assert line.startswith("glossator: --accept: ") and "nothing was published" in line
    for word in words:
        assert word in line


def checks(out: Path) -> dict[str, dict[str, Any]]:
    found = manifest(out)["checks"]
    assert len({check["name"] for check in found}) == len(found)
    return {check["name"]: check for check in found}


def psi(now: dict[str, float], before: dict[str, float]) -> float:
    return sum((now[k] - before[k]) * math.log(now[k] / before[k]) for k in now)


def test_nights_alike_pass_with_figures_that_arithmetic_gives(nights: Path) -> None:
    out, before = nights / "out" / "2026-11-04", nights / "out" / "2026-11-03"
    found = checks(out)
    assert all(check["passed"] and not check["accepted"] for check in found.values())
    assert found["rows_few"]["value"] == (ROWS + 40) / (ROWS + 20)  # of 10, 20 and 30 more
    assert "median of 3 nights" in found["rows_few"]["against"]
    answers = [[row["sentiment"] for row in rows(folder)] for folder in (out, before)]
    shares = [
        {k: n / len(rows) for k, n in Counter(row["label"] for row in rows).items()}
        for rows in answers
    ]
    assert found["labels_night.sentiment"]["value"] == pytest.approx(psi(*shares))
    assert found["one_label.sentiment"]["value"] == max(shares[0].values())
    for figure, name in (("confidence", "confidence_night"), ("accepted", "accepted_night")):
        means = [sum(row[figure] for row in rows) / len(rows) for rows in answers]
        value = found[f"{name}.sentiment"]["value"]
        assert value == pytest.approx(abs(means[0] - means[1]), abs=1e-6)
    texts = pq.read_table(nights / "in" / "2026-11-04")["text"].to_pylist()
    assert found["distinct"]["value"] == len(set(texts)) / len(texts)
    assert "themes" in {name.partition(".")[2] for name in found}
    assert found["labels_reference.themes"]["value"] is None  # of a multi task it knows no shares
    assert "skipped" in found["labels_reference.themes"]["against"]


def test_half_a_day_is_refused_and_published_at_once_when_accepted(fifth: Any) -> None:
    few = make_comments(ROWS // 2, seed=5)
    for texts in (few, None):  # and again, as a schedule would try
        run = fifth(texts)
        refused(run, "rows_few is 0.488", "at least 0.5", "median of 4 nights", "_runs")
    assert not (fifth.out / "_SUCCESS").exists()
    (staged,) = fifth.out.glob("_runs/*/_refused.json")
    named = [c for c in json.loads(staged.read_text())["checks"] if not c["passed"]]
    assert [check["name"] for check in named] == ["rows_few"]
    run = fifth(None, "--accept", "rows_few")
    assert run.returncode == 0 and "resuming: 1 are done" in run.stderr, run.stderr
    assert "LET THROUGH: rows_few is 0.488 of 1,025 rows" in run.stdout
    check = checks(fifth.out)["rows_few"]
    assert check["accepted"] and not check["passed"]
    assert "nothing was done" in fifth(None).stdout


def test_too_many_rows(fifth: Any) -> None:
    refused(fifth(make_comments(ROWS, seed=5) * 4), "rows_many is 3.9 of 1,025 rows", "at most 3")


def test_texts_that_are_no_comments(fifth: Any) -> None:
    chance = random.Random(0)
    garbage = [base64.b64encode(chance.randbytes(40)).decode() for _ in range(ROWS)]
    refused(fifth(garbage), "tokens_night is ", " of 2026-11-04, at most 0.25; ")


def test_another_language(fifth: Any) -> None:
    letters = "กขคงจฉชซญดตถทธนบปผพฟมยรลวสหอ"
    chance = random.Random(0)
    thai = ["".join(chance.choices(letters, k=20)) for _ in range(ROWS)]
    refused(fifth(thai), "tokens is 2.97 a character, at most 1.5; lone_bytes is 98.")


def test_one_text_over_and_over(fifth: Any) -> None:
    run = fifth(["good service", "bad taste"] * (ROWS // 2))
    refused(run, "distinct is 0.20% of the texts, at least 2.00%; ", "distinct_night is ")


def test_labels_that_drift(fifth: Any) -> None:
    drifted = [t for t in make_comments(8 * ROWS, seed=5) if "good" in t or "很好" in t][:ROWS]
    assert len(drifted) == ROWS
    run = fifth(drifted, "--accept", "one_label.sentiment", "--accept", "accepted_night")
    refused(run, "labels_night.sentiment is ", "beside 2026-11-04, at most 0.25")
    assert "one_label" not in run.stderr and "accepted_night" not in run.stderr


def test_the_night_after_an_event(fifth: Any) -> None:
    """It may be like the event or like the nights before, and like nothing else."""
    texts = make_comments(8 * ROWS, seed=5)
    event = [t for t in texts if "good" in t or "很好" in t][:ROWS]
    names = ("labels_night", "one_label", "accepted_night", "confidence_night")
    accepted = [word for name in names for word in ("--accept", name)]
    run = fifth(event, *accepted)
    assert run.returncode == 0, run.stderr
    found = checks(fifth.out)["labels_night.sentiment"]
    assert found["accepted"] and found["against"] == "beside 2026-11-04"
    plain = make_comments(ROWS, seed=6)
    run = fifth(plain, day="2026-11-06")
    assert run.returncode == 0, run.stderr
    found = checks(fifth.out.parent / "2026-11-06")["labels_night.sentiment"]
    assert found["passed"] and found["against"] == "beside 2026-11-04"
    other = [t for t in texts if "bad" in t or "糟糕" in t][:ROWS]
    shutil.rmtree(fifth.out.parent / "2026-11-06")
    run = fifth(other, "--accept", "one_label", day="2026-11-06")
    refused(run, "labels_night.sentiment is ", "beside 2026-11-05")
    run = fifth(event[::-1], "--accept", "one_label", day="2026-11-06")
    assert run.returncode == 0, run.stderr
    found = checks(fifth.out.parent / "2026-11-06")["labels_night.sentiment"]
    assert found["passed"] and found["against"] == "beside 2026-11-05"


def test_all_empty_but_one(fifth: Any) -> None:
    run = fifth([*[""] * (ROWS - 1), "good"])
    refused(run, "rejects is 99.90% of 1,000 rows read, at most 25.00%", "each of these")
    refused(run, "rejects.empty is 99.90% of 1,000 rows read, at most 10.00%")


def test_an_empty_day_after_full_ones(fifth: Any) -> None:
    folder = fifth.out.parent.parent / "in" / "2026-11-05"
    folder.mkdir(parents=True)
    (folder / "_SUCCESS").touch()
    refused(fifth(None), "rows_few is 0 of 1,025 rows")
    assert fifth(None, "--accept=rows_few").returncode == 0


def test_small_inputs_are_not_judged_by_shares(bundle: Path, tmp_path: Path) -> None:
    write_comments(tmp_path / "in.parquet", [*["good"] * 900, *[""] * 99])
    given = ("label", "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    run = glossator(*given, "--model", bundle)
    assert run.returncode == 0, run.stderr
    found = checks(tmp_path / "out")
    few = {name for name, check in found.items() if check["against"] == "skipped: too few rows"}
    assert {"rejects.empty", "distinct", "tokens", "one_label.sentiment"} <= few
    assert all(found[name]["value"] is None for name in few)


def test_fewer_rows_over_more(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def label(rows: int, *more: object) -> Any:
        source = write_comments(tmp_path / f"{rows}.parquet", make_comments(rows))
        return glossator("label", "--input", source, "--output", out, "--model", bundle, *more)

    assert label(50).returncode == 0
    before = rows(out)
    refused(label(40), "rows_replaced is 0.8 of 50 labelled rows that are published here")
    assert rows(out) == before and (out / "_SUCCESS").exists()
    assert label(40, "--accept", "rows_replaced").returncode == 0
    assert len(rows(out)) == 40 and checks(out)["rows_replaced"]["accepted"]
    assert label(41).returncode == 0


def test_limits_of_a_file(fifth: Any, tmp_path: Path) -> None:
    limits = tmp_path / "gates.toml"
    limits.write_text("rows_few = 0.3\nunreadable = 2\n")
    run = fifth(make_comments(ROWS // 2, seed=5), "--gates", limits)
    assert run.returncode == 0, run.stderr
    found = checks(fifth.out)
    assert found["rows_few"]["limit"] == 0.3 and found["unreadable"]["limit"] == 2


def test_nights_that_are_compared_with(nights: Path, tmp_path: Path) -> None:
    shutil.copytree(nights / "out", tmp_path / "out")
    (current(tmp_path / "out" / "2026-11-02") / "_manifest.json").write_text("{")
    (tmp_path / "out" / "2026-11-03" / "_current.json").unlink()
    template = str(tmp_path / "out" / "{date}")
    found = read(template.replace("{date}", "2026-11-04"), outputs_before(template, "2026-11-05"))
    assert [night.name for night in found.earlier] == ["2026-11-04", "2026-11-01"]
    assert found.here is not None and found.last is found.earlier[0]
    before = outputs_before("a/{date}/b", "2026-03-02")
    assert before[:3] == ("a/2026-03-01/b", "a/2026-02-28/b", "a/2026-02-27/b")
    assert len(before) == 14
    assert outputs_before("a", "2026-03-02") == () == outputs_before("a", None)
    assert outputs_before("{date}", "0001-01-02") == ("0001-01-01",)
