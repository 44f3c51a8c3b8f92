from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from command_lines import COMMAND, on_a_terminal, refused

from glossator.model.bundle import load
from glossator.model.labeller import Labeller

Answer = Callable[..., dict[str, Any]]
Comments = Callable[..., list[str]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Write = Callable[..., Path]

TEXT = "很好 good service, don't  you think?"


def test_explain_marks_words_with_brackets_where_there_is_no_colour(
    bundle: Path, glossator: Run, answer_alone: Answer
) -> None:
    run = glossator("explain", TEXT, "--model", bundle, "--top", 2)
    assert run.returncode == 0 and "\x1b" not in run.stdout
    answer = answer_alone(Labeller(load(bundle)), TEXT, top=2)
    lines = run.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(answer)
    for line, said in zip(lines, answer.values(), strict=True):
        for word in said["attention"]:
            assert f"[{word['text']} {word['weight']:.0%}]" in line
        assert re.sub(r"\[(.*?) \d+%\]", r"\1", line).endswith(" ".join(TEXT.split()))
    doubt = "" if answer["sentiment"]["accepted"] else " ?"
    best = f"{answer['sentiment']['label']} {answer['sentiment']['confidence']:.0%}{doubt}"
    assert best in lines[0]


def test_explain_colours_words_on_a_terminal(bundle: Path, answer_alone: Answer) -> None:
    arguments = ("explain", TEXT, "--model", str(bundle), "--top", "1")
    code, pieces = on_a_terminal("-c", COMMAND, *arguments)
    shown = "".join(piece for _, piece in pieces)
    assert code == 0
    answer = answer_alone(Labeller(load(bundle)), TEXT, top=1)
    for line, said in zip(shown.splitlines(), answer.values(), strict=True):
        coloured = re.findall(r"\x1b\[[0-9;]*48;5;\d+m(.*?)\x1b\[0m", line)
        assert coloured == [said["attention"][0]["text"]]
        assert re.sub(r"\x1b\[[0-9;]*m", "", line).endswith(" ".join(TEXT.split()))


def test_explain_as_json(bundle: Path, glossator: Run, answer_alone: Answer) -> None:
    run = glossator("explain", TEXT, "--model", bundle, "--tasks", "gender,themes", "--json")
    said = json.loads(run.stdout)
    assert list(said) == ["text", "gender", "themes"] and said["text"] == TEXT
    answer = answer_alone(Labeller(load(bundle), ["gender", "themes"]), TEXT)
    assert said["gender"]["label"] == answer["gender"]["label"]
    assert said["gender"]["accepted"] == answer["gender"]["accepted"]
    assert said["gender"]["confidence"] == pytest.approx(answer["gender"]["confidence"])
    assert said["themes"]["labels"] == answer["themes"]["labels"]
    assert said["themes"]["attention"] == answer["themes"]["attention"]


@pytest.mark.parametrize("text", ["", "  \n\u3000"])
def test_explain_nothing(text: str, bundle: Path, glossator: Run) -> None:
    refused(glossator("explain", text, "--model", bundle), "TEXT: it is empty", "give some words")


def test_explain_with_a_bad_model_or_task(tmp_path: Path, bundle: Path, glossator: Run) -> None:
    refused(glossator("explain", "good", "--model", tmp_path), "no model at", "--model")
    refused(glossator("explain", "good", "--model", bundle, "--tasks", "x"), "unknown task 'x'")


def test_explain_with_the_bundle_inside_the_package(glossator: Run) -> None:
    if not (resources.files("glossator.model") / "default" / "bundle.json").is_file():
        pytest.skip("the package has no default bundle")
    run = glossator("explain", "I love this phone, it is great")
    assert run.returncode == 0 and run.stdout.splitlines()
