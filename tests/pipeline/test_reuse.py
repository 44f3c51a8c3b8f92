"""`--reuse`: a text that the same model labelled for an earlier date is not labelled again."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command_lines import glossator
from labelled_outputs import data, good
from outputs import current
from sample_comments import make_comments, write_comments

from glossator.pipeline import reuse
from glossator.pipeline.outputs.text_digests import parted

ROWS = 1200
BEFORE, TODAY = "2026-11-01", "2026-11-02"


class Days:
    """Days that are labelled one after the other, and each once more where nothing is known."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle, self.input = folder, bundle, "{date}"

    def deliver(self, day: str, files: Sequence[Sequence[str | None]]) -> None:
        for i, texts in enumerate(files):
            write_comments(self.folder / "in" / day / f"{i}.parquet", texts, first_id=len(day) * i)

    def label(self, day: str, *more: object, out: str = "out") -> dict[str, Any]:
        flags: list[object] = ["--input", f"{self.folder}/in/{self.input}", "--date", day]
        flags += ["--output", f"{self.folder}/{out}/{{date}}", "--model", self.bundle]
        said: dict[str, Any] = json.loads(
            good(glossator("label", *flags, "--key", "id", "--json", *more))
        )
        return said

    def reused(self, day: str, *more: object) -> int:
        """How many rows a day takes from those before, with the bytes that it has without them."""
        with_reuse = self.label(day, "--reuse", *more)
        without = self.label(day, *more, out="fresh")
        out, fresh = self.folder / "out" / day, self.folder / "fresh" / day
        assert data(out) == data(fresh)
        for name in ("parts", "rejects", "totals", "labels", "answers"):
            accounts = [
                json.loads((current(o) / "_manifest.json").read_text()) for o in (out, fresh)
            ]
            assert accounts[0][name] == accounts[1][name], name
        counted = [said["metrics"]["counters"] for said in (with_reuse, without)]
        assert counted[1]["reused_rows"] == 0
        for name in ("tokens", "characters", "lone_bytes", "truncated_texts", "distinct_texts"):
            assert counted[0][name] == counted[1][name], name
        found: int = counted[0]["reused_rows"]
        return found


@pytest.fixture
def days(tmp_path: Path, bundle: Path) -> Days:
    return Days(tmp_path, bundle)


def test_texts_that_have_moved(days: Days) -> None:
    """Rows came in before others, some are gone, files are other ones: each text is known."""
    old: list[str | None] = [None, *make_comments(ROWS - 1, seed=1)]
    days.deliver(BEFORE, [old[: ROWS // 2], old[ROWS // 2 :]])
    assert days.label(BEFORE, "--reuse")["metrics"]["counters"]["reused_rows"] == 0
    new = make_comments(300, seed=2)
    kept = random.Random(3).sample(old, ROWS - 100)
    today = [*new, *kept]
    days.deliver(TODAY, [today[:700], today[700:], new])
    known = {text for text in old if text}
    assert days.reused(TODAY) == sum(text in known for text in [*today, *new])


def test_little_in_common_is_labelled(days: Days) -> None:
    texts = [f"{text} {i}" for i, text in enumerate(make_comments(2 * ROWS, seed=1))]
    old, new = texts[:ROWS], texts[ROWS:]
    days.deliver(BEFORE, [old])
    days.label(BEFORE, "--reuse")
    days.deliver(TODAY, [[*new, *old[: ROWS // 50]]])
    assert days.reused(TODAY) == 0


def test_another_model_or_other_options_reuse_nothing(days: Days, other_bundle: Path) -> None:
    old = make_comments(ROWS, seed=1)
    days.deliver(BEFORE, [old])
    days.label(BEFORE, "--reuse")
    days.deliver(TODAY, [old[::-1]])
    assert days.reused(TODAY, "--top", 2) == 0
    days.bundle = other_bundle
    assert days.reused(TODAY, "--accept", "flips") == 0


def test_without_the_digests_all_is_labelled(days: Days) -> None:
    old = make_comments(ROWS, seed=1)
    days.deliver(BEFORE, [old])
    days.label(BEFORE)
    days.deliver(TODAY, [old[::-1]])
    assert days.reused(TODAY) == 0


@pytest.mark.parametrize("damage", ["part", "digests", "swapped", "gone"])
def test_what_was_damaged_is_not_taken(days: Days, damage: str) -> None:
    old = make_comments(ROWS, seed=1)
    days.deliver(BEFORE, [old])
    days.label(BEFORE, "--reuse")
    run = current(days.folder / "out" / BEFORE)
    path = next((run / "_texts").iterdir() if damage != "part" else run.glob("*.parquet"))
    content = bytearray(path.read_bytes())
    if damage == "part":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "digests":
        path.write_bytes(content[:-1])
    elif damage == "swapped":  # each is one of the part's digests, and not in its place
        path.write_bytes(content[16:] + content[:16])
    else:
        path.unlink()
    days.deliver(TODAY, [old[::-1]])
    assert days.reused(TODAY) == 0


def test_a_part_that_is_too_large_is_not_read(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_comments(ROWS, seed=1)
    days.deliver(BEFORE, [old])
    days.label(BEFORE, "--reuse")
    (part,) = current(days.folder / "out" / BEFORE).glob("part-*.parquet")
    monkeypatch.setattr(reuse, "MAX_PART_BYTES", part.stat().st_size - 1)
    folders = (str(current(days.folder / "out" / BEFORE)),)
    kept = json.loads((current(days.folder / "out" / BEFORE) / "_records.json").read_text())
    digests = parted(bytes.fromhex("".join(kept["records"][0]["sample"])))
    assert len(reuse.known_answers(digests, folders, ("sentiment",)).places) == 0
    monkeypatch.setattr(reuse, "MAX_PART_BYTES", part.stat().st_size)
    assert len(reuse.known_answers(digests, folders, ("sentiment",)).places) == len(digests)


@pytest.mark.parametrize("first", [("--reuse",), ()])
def test_a_carried_split_has_digests(days: Days, first: tuple[str, ...]) -> None:
    """One file every night: of three the second is like the first, the third in another order."""
    old = make_comments(ROWS, seed=1)
    days.input = "same"
    days.deliver("same", [old])
    days.label(BEFORE, *first)
    said = days.label(TODAY, "--reuse")
    assert said["metrics"]["counters"]["carried_rows"] == ROWS
    (days.folder / "out" / BEFORE / "_current.json").unlink()
    days.deliver("same", [old[::-1]])
    assert days.reused("2026-11-03") == ROWS
