"""`glossator bench`: what it measures adds up, and what it can't run it says at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_lines import glossator, refused
from sample_comments import make_comments, write_comments

from glossator.model import engines


@pytest.fixture(scope="module")
def comments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "comments.parquet"
    write_comments(path, make_comments(300))
    return path


def test_the_account_adds_up(comments: Path) -> None:
    run = glossator(
        *("bench", "--input", str(comments), "--rows", "200", "--workers", "1", "--json"),
        *("--against", "tfidf", "--comments", "1000000", "--cores", "4", "--price", "0.5"),
    )
    assert run.returncode == 0, run.stderr
    account = json.loads(run.stdout)
    assert account["comments"] == 200
    assert account["tokens"] >= 200
    assert account["network"] == engines.description()
    assert 0 < account["labelling_seconds"] < account["seconds"]
    assert account["comments_per_second"] == pytest.approx(200 / account["seconds"])
    assert 100 < account["peak_mib"] < 4000
    assert account["rivals"].keys() == {"tfidf"}
    assert min(account["rivals"]["tfidf"].values()) > 0
    assert 0 < account["cpu_seconds"] < 2 * account["seconds"]
    spent = sum(account["stages"].values()) - account["stages"]["model load"]
    night = account["forecast"]
    assert night["hours"] == pytest.approx(1_000_000 * spent / 200 / 4 / 3600, rel=1e-6)
    assert night["cost"] == pytest.approx(night["hours"] * 4 * 0.5)


def test_it_is_shown_by_stage(comments: Path) -> None:
    run = glossator("bench", "--input", str(comments), "--rows", "50", "--workers", "1")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    shares = [line.split()[0] for line in lines if "%" in line]
    assert shares[-10:] == [
        *("read", "normalize", "tokenize", "ngrams", "recurrence", "attention", "network"),
        *("summarise", "arrow", "write"),
    ]
    assert lines[-1].startswith("100,000,000 comments on 16 cores: ")


def test_an_unknown_rival_is_refused(comments: Path) -> None:
    run = glossator("bench", "--input", str(comments), "--against", "tfidf,bert")
    refused(run, "--against", "'bert' is none of tfidf, fasttext, torch")


def test_input_without_texts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blank.parquet"
    write_comments(path, [" ", ""])
    refused(glossator("bench", "--input", str(path)), "--input", "no text")
