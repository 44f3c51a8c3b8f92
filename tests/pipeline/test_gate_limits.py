"""What the checks allow: the file that says so, and where it is printed and documented."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from command_lines import glossator, refused

from glossator.model.tasks import Task
from glossator.pipeline.gates.checks import psi
from glossator.pipeline.gates.limits import CHECKS, Limits, as_table, load

DOCS = Path(__file__).parents[2] / "docs" / "gates.md"


def test_what_is_printed_is_a_file_of_the_defaults(tmp_path: Path) -> None:
    run = glossator("gates")
    assert run.returncode == 0
    (tmp_path / "gates.toml").write_text(run.stdout)
    assert load(str(tmp_path / "gates.toml")) == Limits()
    assert len(run.stdout.splitlines()) == len(vars(Limits()))


def test_the_page_has_the_defaults_and_every_check() -> None:
    page = DOCS.read_text(encoding="utf-8")
    assert as_table() in page
    for name in CHECKS:
        rest = page.replace(as_table(), "")
        assert f"`{name}`" in rest or f"`{name}.TASK`" in rest, name


def test_links_are_followed(tmp_path: Path) -> None:
    """As Kubernetes mounts a file."""
    (tmp_path / "data").write_text("flips = 1\nunreadable = 1\n")
    (tmp_path / "gates.toml").symlink_to(tmp_path / "data")
    found = load(str(tmp_path / "gates.toml"))
    assert (found.flips, found.unreadable) == (1.0, 1)
    assert isinstance(found.flips, float) and isinstance(found.unreadable, int)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("flipps = 0.1", ("unknown key 'flipps'", "known: unreadable, rejects, ", ", flips, ")),
        ("[rejects]\nempty = 0.5", ("rejects = {'empty': 0.5} is not a number",)),
        ("flips = '1%'", ("flips = '1%' is not a number",)),
        ("flips = true", ("flips = True is not a number",)),
        ("flips = 1.5", ("flips = 1.5 is not a share from 0 to 1",)),
        ("flips = nan", ("flips = nan is not a share from 0 to 1",)),
        ("rows_few = -1", ("rows_few = -1 is not a number from 0 on",)),
        ("min_rows = 0.5", ("min_rows = 0.5 is not a number of rows",)),
        ("unreadable = -1", ("unreadable = -1 is not a number of files",)),
        ("unreadable = 1.5", ("unreadable = 1.5 is not a share from 0 to 1",)),
        ("canary = 257", ("canary = 257 is more than 256",)),
        ("flips", ("is not TOML",)),
    ],
)
def test_a_file_that_is_wrong(content: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text(content)
    given = ("--input", tmp_path, "--output", tmp_path / "out")
    run = glossator("label", *given, "--gates", tmp_path / "gates.toml")
    refused(run, "--gates: ", "gates.toml", *words)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    run = glossator("label", "--input=a", "--output=b", "--gates", tmp_path / "no.toml")
    refused(run, "--gates: ", "no.toml: there is no such file")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    run = glossator("label", "--input=a", "--output=b", "--gates", tmp_path)
    refused(run, "--gates: ", "is a folder: name a file")


def test_a_check_that_there_is_not() -> None:
    run = glossator("label", "--input=a", "--output=b", "--accept=flip")
    refused(run, "--accept: there is no check 'flip'; there are: unreadable, rejects, ")


def test_psi_is_as_by_hand() -> None:
    single = Task("t", "single", ("a", "b"))
    now, before = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    by_hand = 0.25 * math.log(1.5) - 0.25 * math.log(0.5)
    assert psi(now, before, single) == pytest.approx(by_hand)
    assert psi(before, before, single) == 0
    # a label that nothing has counts for one in a thousand
    gone = psi(np.array([1.0, 0.0]), before, single)
    assert gone == pytest.approx(0.5 * math.log(2) + 0.499 * math.log(500))
    # the shares of a multi task don't add up to one: the label that moved most counts
    multi = Task("t", "multi", ("a", "b"))
    moved = psi(np.array([0.75, 0.9]), np.array([0.5, 0.9]), multi)
    assert moved == pytest.approx(by_hand)
