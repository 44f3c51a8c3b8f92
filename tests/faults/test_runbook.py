"""The runbook: its messages are those of the code, each beside the test that provokes it."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
from command_lines import glossator, refused
from jobs import Job
from labelled_outputs import good
from sample_comments import make_comments, write_comments

from glossator.pipeline import exits
from glossator.pipeline.errors import StoreError
from glossator.pipeline.gates.limits import Limits
from glossator.pipeline.outputs import current

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
CODE = re.compile(r"`([^`]+)`")


def tables() -> list[tuple[str, list[str]]]:
    """The first column's name and the cells of each row."""
    found, head = [], ""
    for line in RUNBOOK.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            head = ""
        elif not head:
            head = line.strip("| ").split(" | ")[0]
        elif not line.startswith("|---"):
            found.append((head, [cell.strip("| ") for cell in cells]))
    return found


ROWS = tables()
MESSAGES = [cells for head, cells in ROWS if head == "the line"]


def words_of_the_code() -> list[str]:
    """Every text in the sources; `…` stands for what an f-string fills in."""
    found = []
    for folder in ("model", "pipeline"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(map(_piece, node.values)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def _piece(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "…"


WORDS = words_of_the_code()
FILES = ("_current.json", "_manifest.json", "_lease.json")


def test_there_is_something_to_hold() -> None:
    assert len(MESSAGES) > 30 and len(WORDS) > 1000
    assert "done, but standard output can't be written" in "".join(WORDS)


@pytest.mark.parametrize("cells", MESSAGES, ids=lambda cells: cells[0])
def test_the_words_are_those_of_the_code(cells: list[str]) -> None:
    """Or of the system, and then they stand in the test that provokes them."""
    test = (ROOT / "tests" / _named_test(cells).split("::")[0]).read_text()
    for quoted in CODE.findall(cells[0]):
        said = re.sub(rf"^({'|'.join(map(re.escape, FILES))})(?=: )", "…", quoted)
        pattern = re.compile(".*".join(map(re.escape, said.split("…"))), re.DOTALL)
        assert any(map(pattern.search, WORDS)) or quoted in test, quoted


@pytest.mark.parametrize("cells", [cells for _, cells in ROWS], ids=lambda cells: cells[0])
def test_each_entry_is_shown_by_a_test(cells: list[str]) -> None:
    path, _, name = _named_test(cells).partition("::")
    assert f"def {name}(" in (ROOT / "tests" / path).read_text()


def _named_test(cells: list[str]) -> str:
    (named,) = CODE.findall(cells[-1])
    return str(named)


def test_every_exit_code_and_every_check_has_an_entry() -> None:
    codes = {cells[0] for head, cells in ROWS if head == "code"}
    known = {0, exits.FAILED, exits.INVALID, exits.REFUSED, exits.NOT_YET}
    assert {str(code) for code in known} <= codes
    checks = {name for head, cells in ROWS if head == "check" for name in CODE.findall(cells[0])}
    settings = {"min_rows", "canary"}
    limits = {field.name for field in fields(Limits)} - settings
    assert checks == {name for name in limits if not name.startswith("rejects_")}


@pytest.mark.parametrize(
    "cells", [cells for head, cells in ROWS if head == "check"], ids=lambda cells: cells[0]
)
def test_each_check_refuses_in_its_test(cells: list[str]) -> None:
    text = (ROOT / "tests" / _named_test(cells).partition("::")[0]).read_text()
    first, *_ = CODE.findall(cells[0])
    assert first in text


def test_labels_unlike_the_models_own(tmp_path: Path, bundle: Path) -> None:
    write_comments(tmp_path / "in" / "a.parquet", make_comments(200))
    (tmp_path / "gates.toml").write_text("labels_reference = 0.0\nmin_rows = 1\n")
    given = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--model", bundle)
    run = glossator("label", *given, "--gates", tmp_path / "gates.toml")
    assert run.returncode == 3, run.stderr
    assert "labels_reference.sentiment is " in run.stderr
    assert "beside the model's own rows, at most 0" in run.stderr


def test_labels_of_another_date(tmp_path: Path, small_job: Job) -> None:
    for day in ("2026-11-01", "2026-11-02"):
        (tmp_path / day).symlink_to(small_job.inputs)
    given = ("--input", tmp_path / "{date}", "--model", small_job.bundle, "--output")
    good(glossator("label", *given, tmp_path / "{date}-out", "--date", "2026-11-01"))
    (tmp_path / "2026-11-02-out").symlink_to(tmp_path / "2026-11-01-out")
    run = glossator("label", *given, tmp_path / "{date}-out", "--date", "2026-11-02")
    refused(run, "holds the labels of 2026-11-01, which those of 2026-11-02 would replace")


def test_a_pointer_that_never_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "put_if_unchanged", lambda *_, **__: False)
    with pytest.raises(StoreError, match=r"is changed by others all the time: stop them and run"):
        current.take_token(str(tmp_path / "out"))
