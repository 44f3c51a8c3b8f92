"""The page of a night: true to the manifests, safe with strangers' data, and in a browser."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_lines import glossator, refused
from outputs import current
from pages import EVIL, Page, offline, opened, tables
from sample_comments import make_comments, write_comments

from glossator.model import bundle as bundles
from glossator.model.calibrate import Calibration

ROWS = 150
SECRET = (1 << 53) + 1
"""A key that can't be kept exactly where another file has the column as numbers with a point."""
LABEL = "</td><script>alert('label')</script>&lt;b"
LIMITS = "min_rows = 100\nflips = 0.0\naccepted_night = 0.5\nrejects_key = 0.5\n"


@dataclass
class Night:
    """What became of a night."""

    out: Path
    run: Any
    """The command."""
    folder: Path
    page: str

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "_manifest.json").read_text())
        return found

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        file = self.folder / "_refused.json"
        content = json.loads(file.read_text()) if file.exists() else self.manifest
        return {check["name"]: check for check in content["checks"]}


@pytest.fixture(scope="module")
def leaning(trained: bundles.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says `neg` where the usual one was in doubt."""
    folder = tmp_path_factory.mktemp("leaning")
    calibration = {**trained.calibration, "sentiment": Calibration(shift=(1.5, 0.0))}
    bundles.save(replace(trained, calibration=calibration), folder)
    return folder


@pytest.fixture(scope="module")
def nights(
    bundle: Path, leaning: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Night]:
    """Plain; with rejects; by a new model; drifted and refused; and twice the same date."""
    root = tmp_path_factory.mktemp("nights")
    (root / "gates.toml").write_text(LIMITS)

    def label(day: str, texts: list[str | None], model: Path, *more: object) -> Night:
        half = len(texts) // 2
        users = pa.array([SECRET, *range(half - 1)], pa.int64())
        write_comments(root / "in" / day / "a.parquet", texts[:half], user=users)
        users = pa.array([0.5] * (len(texts) - half))
        write_comments(root / "in" / day / "b.parquet", texts[half:], user=users)
        run = glossator(
            *("label", "--input", root / "in" / "{date}", "--output", root / "out" / "{date}"),
            *("--date", day, "--key", "user", "--gates", root / "gates.toml", "--model", model),
            *("--workers", 1, *more),
        )
        out = root / "out" / day
        folder = current(out) if (out / "_SUCCESS").exists() else next(out.glob("_runs/*/"))
        return Night(out, run, folder, (folder / "_report.html").read_text(encoding="utf-8"))

    drifted = [text for text in make_comments(8 * ROWS, seed=4) if "good" in text][:ROWS]
    some = make_comments(ROWS, seed=5)
    return {
        "plain": label("2026-11-01", [*make_comments(ROWS, seed=1)], bundle),
        "rejects": label("2026-11-02", [*make_comments(ROWS, seed=2), None, None, " "], bundle),
        "new": label("2026-11-03", [*make_comments(ROWS, seed=3)], leaning, "--accept", "flips"),
        "drifted": label("2026-11-05", [*drifted], leaning),
        "first": label("2026-11-06", [*some], leaning),
        "again": label("2026-11-06", [*some, "good", "bad"], leaning),
    }


def heading(page: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    assert found
    return " ".join(re.sub(r"<[^>]*>", "", found[1]).split())


def test_a_first_glance_says_published_or_refused_and_why(nights: dict[str, Night]) -> None:
    for name in ("plain", "rejects", "first", "again"):
        assert nights[name].run.returncode == 0, nights[name].run.stderr
        day = nights[name].out.name
        assert heading(nights[name].page) == f"{day} Published"
        figures = [check["value"] is not None for check in nights[name].checks.values()]
        passed, nothing = figures.count(True), figures.count(False)
        assert f"<p>{passed} checks passed, {nothing} had nothing to check.</p>" in (
            nights[name].page
        )
        assert f"its report: {nights[name].folder}/_report.html" in nights[name].run.stdout
    new = nights["new"]
    assert new.run.returncode == 0, new.run.stderr
    through = [check["name"] for check in new.checks.values() if check["accepted"]]
    assert through == ["flips.sentiment"]
    assert heading(new.page).startswith("2026-11-03 Published: 1 check let through by --accept")
    assert "flips.sentiment is " in " ".join(Page(new.page).text)

    drifted = nights["drifted"]
    assert drifted.run.returncode == 3
    line = drifted.run.stderr.splitlines()[-1]
    assert f"nothing was published; {drifted.folder}/_report.html has the run" in line
    failed = [c["name"] for c in drifted.checks.values() if not c["passed"]]
    assert "labels_night.themes" in failed
    assert heading(drifted.page) == (
        f"2026-11-05 Refused: {len(failed)} checks not passed; nothing was published"
    )
    said = drifted.page.split("<ul>")[1].split("</ul>")[0]
    reasons = line.removeprefix("glossator: --accept: ").partition(": nothing was")[0]
    assert re.findall(r"<li>(.*?)</li>", said) == reasons.split("; ")
    assert f"add {' '.join(f'--accept {name}' for name in failed)} to it" in drifted.page
    assert "Nothing was published here before" in drifted.page


def test_it_is_one_page_that_fetches_nothing(nights: dict[str, Night]) -> None:
    for night in nights.values():
        page = offline(night.page)
        assert night.page.count("<desc>") == len(page.all("svg"))
        assert all(chart["role"] == "img" and chart["aria-label"] for chart in page.all("svg"))


def test_the_verb_gives_the_page_that_was_left(nights: dict[str, Night], tmp_path: Path) -> None:
    night = nights["again"]
    assert glossator("report", night.out).stdout == night.page
    file = tmp_path / "page.html"
    run = glossator("report", night.out, "--write", file)
    assert run.stdout == f"wrote {file}\n" and file.read_text(encoding="utf-8") == night.page
    drifted = nights["drifted"]
    assert glossator("report", drifted.out).stdout == drifted.page
    refused(glossator("report", drifted.out, "--texts", 9), "nothing is published there")
    refused(glossator("report", tmp_path / "nowhere"), "nothing is published there")


def test_the_nights_are_those_that_were_published_and_refused(nights: dict[str, Night]) -> None:
    rows = tables(nights["again"].page)["This night and those before it, the newest first"][1:]
    expected = []
    for name in ("again", "drifted", "new", "rejects", "plain"):
        night = nights[name]
        if name == "drifted":
            failed = [c["name"] for c in night.checks.values() if not c["passed"]]
            expected.append([night.out.name, "refused", "–", "–", "–", "–", ", ".join(failed)])
            continue
        totals = night.manifest["totals"]
        counts = [f"{totals[f'rows_{what}']:,}" for what in ("read", "labelled", "rejected")]
        why = "flips.sentiment (let through)" if name == "new" else ""
        model = night.manifest["model"][:12]
        expected.append([night.out.name, "published", *counts, model, why])
    assert rows == expected
    before = tables(nights["again"].page)["Published here before, the last first"][1:]
    (version,) = nights["again"].manifest["history"]
    assert before[0][:3] == [version["published"], version["run_id"], version["model"][:12]]
    assert version["run_id"] == nights["first"].folder.name


@pytest.mark.parametrize(
    ("order", "outcomes"),
    [
        (("plain", "rejects", "new"), {"passed", "skipped", "through"}),
        (("plain", "rejects", "new", "drifted"), {"passed", "skipped", "refused"}),
        (("plain", "rejects", "new", "drifted", "again"), {"passed", "skipped", "refused"}),
    ],
)
def test_checks_are_drawn_beside_their_limits(
    nights: dict[str, Night], order: tuple[str, ...], outcomes: set[str]
) -> None:
    """Every figure of every night is in the table, and on its side of the limit in the chart."""
    page, now = nights[order[-1]].page, nights[order[-1]].checks
    found = tables(page)
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    names = [re.sub(r"<[^>]*>", "", f.split("<figcaption>")[1].split(" <")[0]) for f in figures]
    nothing = {row[0] for row in found["Checks without a figure"][1:]}
    assert set(names) | nothing == now.keys()
    rank = [("refused", "through", "passed", "skipped").index(word(now[name])) for name in names]
    assert rank == sorted(rank), "what has not passed comes first"
    seen: set[str] = set()
    for name, figure in zip(names, figures, strict=True):
        days = [n for n in order if name in nights[n].checks]
        checks = [nights[n].checks[name] for n in days]
        rows = found[name][1:]
        assert [row[0] for row in rows] == [nights[n].out.name for n in reversed(days)]
        shown = {"refused": "not passed", "through": "let through"}
        words = [shown.get(word(check), word(check)) for check in checks]
        assert [row[3] for row in rows] == words[::-1]
        for row, check in zip(rows, reversed(checks), strict=True):
            if check["value"] is None:
                assert row[1] == "–"
            else:
                value = float(row[1].rstrip("%")) / (100 if row[1].endswith("%") else 1)
                assert value == pytest.approx(check["value"], rel=6e-3, abs=6e-5)
        assert f'<span class="chip">{words[-1]}</span>' in figure
        # a greater value stands higher, where y is less
        limit, marks = drawn(figure)
        above = 1 if checks[-1]["bound"] == "most" else -1
        for outcome, y in marks:
            if outcome == "passed":
                assert above * (y - limit) >= -0.2, name
            elif outcome != "skipped":
                assert above * (y - limit) <= 0.2, name
        assert [outcome for outcome, _ in marks] == [word(check) for check in checks]
        seen |= {outcome for outcome, _ in marks}
    assert seen == outcomes


def word(check: dict[str, Any]) -> str:
    """What became of a check, as a chart's class."""
    if check["value"] is None:
        return "skipped"
    if check["passed"]:
        return "passed"
    return "through" if check["accepted"] else "refused"


def drawn(figure: str) -> tuple[float, list[tuple[str, float]]]:
    """Where a chart has the limit, and what it says of each night; as y."""
    found = re.search(r"<svg.*?</svg>", figure, re.DOTALL)
    assert found
    limit, marks = 0.0, []
    for shape in ET.fromstring(found[0]):
        ys = [float(pair.split(",")[1]) for pair in shape.get("points", "").split()]
        ys += [float(shape.attrib[name]) for name in ("cy", "y1", "y2") if name in shape.attrib]
        kind, _, outcome = shape.get("class", "").partition(" ")
        if kind == "guide":
            limit = ys[-1]
        rises = float(shape.get("y1", 0)) > float(shape.get("y2", 0))  # a cross's second line
        if kind == "mark" and not rises:
            marks.append((outcome, sum(ys) / len(ys)))
    return limit, marks


def test_labels_are_those_of_the_nights(nights: dict[str, Night]) -> None:
    page = nights["again"].page
    rows = tables(page)["Label shares of sentiment by night"]
    labels = rows[0][1:]
    order = ("again", "new", "rejects", "plain")  # the refused one has none
    for row, name in zip(rows[1:], order, strict=True):
        shares = nights[name].manifest["labels"]["sentiment"]
        assert row == [nights[name].out.name, *(f"{100 * shares[label]:.2f}%" for label in labels)]
    now, before = (nights[name].manifest["labels"]["sentiment"] for name in ("again", "new"))
    for label, _, *said in tables(page)["Label shares of sentiment"][1:]:
        change = f"{100 * (now[label] - before[label]):+.1f}"
        assert said == [f"{100 * now[label]:.1f}%", f"{100 * before[label]:.1f}%", change]
    assert "By another model from 2026-11-03 on." in page
    assert "Label shares of stars" not in page  # of numbers there are none


def test_flips_are_those_of_the_manifest(nights: dict[str, Night]) -> None:
    new = nights["new"]
    matrix = new.manifest["flips"]["sentiment"]
    texts = sum(sum(row.values()) for row in matrix.values())
    changed = matrix["pos"]["neg"]
    assert changed > 0
    said = f"{changed} of {texts} texts of 2026-11-02 ({100 * changed / texts:.2f}%) changed."
    assert said in new.page
    (name,) = (n for n in tables(new.page) if n.startswith("Texts by the label they had"))
    head, *rows = tables(new.page)[name]
    assert head == ["had", "neg", "pos"]
    assert rows == [
        [old, *(str(matrix.get(old, {}).get(label, 0)) for label in head[1:])] for old in head[1:]
    ]
    assert 'id="flips"' not in nights["again"].page


def test_rejects_say_where_and_why_and_quote_nothing(nights: dict[str, Night]) -> None:
    night = nights["rejects"]
    lost = pq.read_table(night.folder / "_rejects").to_pylist()
    rows = tables(night.page)["Some of each reason; rows count from 0"][1:]
    expected = {
        (row["reason"], row["source_file"], str(row["source_row"]))
        for row in lost
        if row["reason"] != "column"
    }
    assert {tuple(row[:3]) for row in rows} == expected and len(expected) == 4
    assert [row[3] for row in rows if row[0] == "key"] == ["(not quoted)"]
    for reason, count in night.manifest["totals"]["rejects"].items():
        assert f"<li>{count} {reason}</li>" in night.page
    assert str(SECRET) not in night.page
    texts = {text for text in make_comments(ROWS, seed=2) if len(text) > 12}
    assert not [text for text in texts if text in night.page]
    assert "It quotes no text and no key of the data." in night.page


def test_texts_are_quoted_where_that_is_asked_for(nights: dict[str, Night]) -> None:
    night = nights["rejects"]
    page = glossator("report", night.out, "--texts", 60).stdout
    assert str(SECRET) in page
    quoted = re.findall(r"<blockquote[^>]*>([^<]*)", page)
    kept = json.loads((night.folder / "_canary.json").read_text())["texts"][:12]
    words = [" ".join(one["text"][:60].split()) for one in kept]
    assert [" ".join(text.replace("&#39;", "'").rstrip(" …").split()) for text in quoted] == words
    short = glossator("report", night.out, "--texts", 5).stdout
    assert str(SECRET) not in short
    assert max(map(len, re.findall(r"<blockquote[^>]*>([^<…&]*)", short))) <= 6


def test_the_slowest_splits_come_first(nights: dict[str, Night]) -> None:
    night = nights["again"]
    records = json.loads((night.folder / "_records.json").read_text())["records"]
    spent = {
        record["part"]: sum(
            seconds
            for name, seconds in record["metrics"].items()
            if name.endswith("_seconds") and name != "model_load_seconds"
        )
        for record in records
    }
    rows = tables(night.page)["The slowest splits"][1:]
    timed = {part: seconds for part, seconds in spent.items() if seconds}
    assert [row[4] for row in rows] == sorted(timed, key=lambda part: -timed[part])
    assert [row[2] for row in rows] == [f"{timed[row[4]]:.3f}" for row in rows]
    assert all(re.match(r"[ab]\.parquet, rows 0 to \d+", row[0]) for row in rows)


def test_an_output_without_dates_is_compared_with_what_it_held(
    bundle: Path, tmp_path: Path
) -> None:
    pages = []
    for rows in (20, 30):
        source = write_comments(tmp_path / f"{rows}.parquet", make_comments(rows))
        given = ("--output", tmp_path / "out", "--model", bundle)
        run = glossator("label", "--input", source, *given)
        assert run.returncode == 0, run.stderr
        pages.append((current(tmp_path / "out") / "_report.html").read_text())
    name = "This night and those before it, the newest first"
    assert [row[2] for row in tables(pages[0])[name][1:]] == ["20"]
    assert [row[2] for row in tables(pages[1])[name][1:]] == ["30", "20"]
    assert heading(pages[1]) == "out Published"
    assert glossator("report", tmp_path / "out").stdout == pages[1]


def test_a_report_that_can_not_be_made_keeps_nothing_from_being_published(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    source = write_comments(tmp_path / "in.parquet", make_comments(20))
    out = tmp_path / "out"
    given = ("label", "--input", source, "--output", out, "--model", bundle)
    run = glossator(*given)
    assert run.returncode == 0, run.stderr
    assert (out / "_SUCCESS").exists() and not list(out.rglob("_report.html"))
    assert "no report of it could be made: `glossator report` says why" in run.stdout
    refused(glossator("report", out), "pip install 'glossator[report]'")
    few = write_comments(tmp_path / "few.parquet", make_comments(10))
    run = glossator("label", "--input", few, *given[3:])
    assert run.returncode == 3
    assert re.search(r"nothing was published; \S*/_runs/[0-9a-f]{16} has the run", run.stderr)


@pytest.fixture(scope="module")
def hostile(trained: bundles.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of files, columns and labels that are called as markup, and texts that are."""
    root = tmp_path_factory.mktemp("hostile")
    task = replace(trained.tasks[0], labels=("neg", LABEL))
    bundles.save(replace(trained, tasks=(task, *trained.tasks[1:])), root / "bundle")
    texts = [*(f"{EVIL} {text}" for text in make_comments(120)), None]
    source = root / "in" / f"{EVIL.replace('/', '')}\n.parquet"
    write_comments(source, texts, column="<script>text</script>")
    (root / "gates.toml").write_text("min_rows = 10\n")
    given = ("--model", root / "bundle", "--text", "<script>text</script>")
    gates = ("--gates", root / "gates.toml")
    run = glossator("label", "--input", root / "in", "--output", root / "out", *given, *gates)
    assert run.returncode == 0, run.stderr
    return root / "out"


def test_nothing_of_strangers_is_taken_for_markup(hostile: Path) -> None:
    for content in (
        (current(hostile) / "_report.html").read_text(encoding="utf-8"),
        glossator("report", hostile, "--texts", 200).stdout,
    ):
        page = offline(content)
        assert "\u202e" not in content and "\x1b" not in content
        text = "".join(page.text)
        assert '<img src=x onerror="alert(1)">&amp;\\u202e\\x1b[31m' in text
        assert "<script>text</script>" in text
        assert "\\n.parquet" in text
        assert LABEL in text


# ---------------------------------------------------------------- in a browser


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_asking_for_anything(
    chromium: Any, nights: dict[str, Night], hostile: Path, width: int, scheme: str
) -> None:
    folders = [nights[name].folder for name in ("new", "drifted", "again")]
    for folder in (*folders, current(hostile)):
        with opened(chromium, folder / "_report.html", width, scheme) as tab:
            top = tab.locator("h1").bounding_box()
            assert top["y"] + top["height"] < 400, "not at a first glance"
            assert tab.evaluate("() => document.images.length + document.scripts.length") == 0
            tab.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = true)")
            shown = tab.evaluate(
                "() => [...document.querySelectorAll('table')]"
                ".map(t => t.checkVisibility() && t.getBoundingClientRect().height)"
            )
            assert len(shown) > 5 and min(shown) > 20
            assert tab.evaluate(
                "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            )
