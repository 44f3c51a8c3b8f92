"""What is damaged in an output is named, and doing what the line says makes it whole again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_lines import ended, glossator
from jobs import Job, files_of, publication_of
from labelled_outputs import good
from outputs import current


def remove_both(out: Path) -> None:
    (out / "_current.json").unlink()
    (out / "_SUCCESS").unlink()


DAMAGED: dict[str, tuple[Callable[[Path], Path], str, Callable[[Path], None]]] = {
    "current": (
        lambda out: out / "_current.json",
        "put it back from a copy, or remove it and _SUCCESS, and run again",
        remove_both,
    ),
    "manifest": (
        lambda out: current(out) / "_manifest.json",
        "put it back from a copy, or remove it and run again",
        lambda out: (current(out) / "_manifest.json").unlink(),
    ),
}
"""What, the remedy in the line, and doing it."""


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("content", [b"", b"\xff"])
def test_damaged(name: str, content: bytes, tmp_path: Path, small_job: Job) -> None:
    out, (what, remedy, mend) = tmp_path / "out", DAMAGED[name]
    good(glossator("label", *small_job.arguments, "--output", out))
    before, bytes_before = publication_of(out), files_of(out)
    what(out).write_bytes(content)
    said = json.loads(good(glossator("status", out, "--json")))
    assert said["state"] == "damaged" and what(out).name in said["problems"][0]
    ended(glossator("label", *small_job.arguments, "--output", out), 2, what(out).name, remedy)
    mend(out)
    good(glossator("label", *small_job.arguments, "--output", out))
    assert publication_of(out) == before and files_of(out) == bytes_before
    assert json.loads(good(glossator("status", out, "--json")))["state"] == "published"
    assert "whole" in good(glossator("verify", out, "--deep"))
