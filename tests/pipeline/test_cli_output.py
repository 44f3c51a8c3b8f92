from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from command_lines import COMMAND, ended, glossator, on_a_terminal, refused, screen
from sample_comments import answer_alone, make_comments, write_comments

from glossator.model.bundle import load
from glossator.model.labeller import Labeller

Comments = Callable[..., list[str]]

TEXT = "很好 good service, don't  you think?"


def test_explain_marks_words_with_brackets_where_there_is_no_colour(bundle: Path) -> None:
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


def test_explain_colours_words_on_a_terminal(bundle: Path) -> None:
    arguments = ("explain", TEXT, "--model", str(bundle), "--top", "1")
    code, pieces = on_a_terminal("-c", COMMAND, *arguments)
    shown = "".join(piece for _, piece in pieces)
    assert code == 0
    answer = answer_alone(Labeller(load(bundle)), TEXT, top=1)
    for line, said in zip(shown.splitlines(), answer.values(), strict=True):
        coloured = re.findall(r"\x1b\[[0-9;]*48;5;\d+m(.*?)\x1b\[0m", line)
        assert coloured == [said["attention"][0]["text"]]
        assert re.sub(r"\x1b\[[0-9;]*m", "", line).endswith(" ".join(TEXT.split()))


def test_explain_as_json(bundle: Path) -> None:
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
def test_explain_nothing(text: str, bundle: Path) -> None:
    refused(glossator("explain", text, "--model", bundle), "TEXT: it is empty", "give some words")


def test_explain_with_a_bad_model_or_task(tmp_path: Path, bundle: Path) -> None:
    refused(glossator("explain", "good", "--model", tmp_path), "no model at", "--model")
    refused(glossator("explain", "good", "--model", bundle, "--tasks", "x"), "unknown task 'x'")


def test_explain_with_the_bundle_inside_the_package() -> None:
    if not (resources.files("glossator.model") / "default" / "bundle.json").is_file():
        pytest.skip("the package has no default bundle")
    run = glossator("explain", "I love this phone, it is great")
    assert run.returncode == 0 and run.stdout.splitlines()


@pytest.mark.parametrize(
    "text", ["a\0b good", "good \x1b]0;x\x07\x9b2J", "\u202egood\u2066", "\U000e0041 x"]
)
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_explain_shows_what_can_not_be_seen(text: str, more: tuple[str, ...], bundle: Path) -> None:
    run = glossator("explain", text, "--model", bundle, *more)
    assert run.returncode == 0, run.stderr
    assert harmless(run.stdout)
    if more:
        assert json.loads(run.stdout)["text"] == text


def test_explain_a_very_long_text(bundle: Path) -> None:
    text = "good service " * 100_000
    run = glossator("explain", text, "--model", bundle)
    assert run.returncode == 0, run.stderr
    *lines, note = run.stdout.splitlines()
    assert "tokens were read" in note
    for line in lines:
        assert len(line) < 3_000 and "characters more)" in line
    left = int(re.findall(r"\(([\d,]+) characters more\)", lines[0])[0].replace(",", ""))
    assert left == len(text) - 2_000


def harmless(printed: str) -> bool:
    """Whether nothing printed moves a cursor, hides or reorders."""
    return all(
        unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or c == "\n" for c in printed
    )


HOSTILE = "\x1b[2J\u202e\n\u2028x"


@pytest.mark.parametrize("more", [("--show", 4), ("--json",)])
def test_label_shows_hostile_names_and_texts(
    more: tuple[object, ...], tmp_path: Path, bundle: Path
) -> None:
    texts: list[str | None] = [f"{HOSTILE} {text}" for text in make_comments(3)]
    path = tmp_path / f"in{HOSTILE}.parquet"
    write_comments(path, [*texts, None], column=f"text{HOSTILE}", **{HOSTILE: [1, 2, 3, 4]})
    flags = ("--text", f"text{HOSTILE}", "--key", HOSTILE, "--model", bundle)
    run = glossator("label", "--input", path, "--output", tmp_path / "out", *flags, *more)
    assert run.returncode == 0, run.stderr
    assert harmless(run.stdout) and harmless(run.stderr)
    assert "text\\x1b[2J\\u202e\\n\\u2028x" in run.stderr
    if more == ("--json",):
        assert json.loads(run.stdout)["options"]["keys"] == [HOSTILE]
    else:
        assert "\\x1b" in run.stdout and "\\u202e" in run.stdout


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--input", HOSTILE), ("--model", HOSTILE), ("--tasks", HOSTILE), (f"--x{HOSTILE}", "1")],
)
def test_errors_show_hostile_values(flag: str, value: str, tmp_path: Path, bundle: Path) -> None:
    path = write_comments(tmp_path / "in.parquet", ["good"])
    flags = {"--input": path, "--output": tmp_path / "out", "--model": bundle, flag: value}
    run = glossator("label", *(f"{name}={given}" for name, given in flags.items()))
    ended(run, 4 if flag == "--input" else 2, "\\x1b[2J\\u202e")
    assert harmless(run.stderr)


def test_a_wrong_command_is_shown() -> None:
    refused(glossator(f"x{HOSTILE}"), "No such command", "\\x1b", "see `glossator --help`")


FAILING: dict[str, tuple[str, tuple[str, ...], str | None]] = {
    "closed": (">&-", (), "Bad file descriptor"),
    "full": (">/dev/full", ("--json",), "No space left on device"),
    "head": ("| head -1 >/dev/null", ("--show", "200"), "Broken pipe"),
    "standard error closed": (">/dev/full 2>&-", ("--show", "200"), None),
    "all closed": (">&- 2>&- <&-", (), None),
    "standard error full": (">/dev/null 2>/dev/full", ("--json",), None),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("name", FAILING)
def test_published_is_zero_whatever_becomes_of_the_output(
    name: str, lines: Path, bundle: Path, tmp_path: Path
) -> None:
    redirection, more, said = FAILING[name]
    command = [
        *(sys.executable, "-m", "glossator", "label", "--input", str(lines), "--workers", "1"),
        *("--output", str(tmp_path / "out"), "--model", str(bundle), *more),
    ]
    run = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" "$@" {redirection}', *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "" and "Traceback" not in run.stderr
    assert (tmp_path / "out" / "_SUCCESS").exists()
    if said is not None:
        assert run.stderr.splitlines()[-1] == (
            f"glossator: done, but standard output can't be written: {said}"
        )


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Comments whose examples fill more than a pipe holds."""
    texts = [f"{text} {i} " + "and so on " * 40 for i, text in enumerate(make_comments(200))]
    return write_comments(tmp_path_factory.mktemp("lines") / "in.parquet", texts)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_an_answer_that_is_lost_is_a_failure(bundle: Path) -> None:
    command = '"$0" -m glossator explain good --model "$1" >/dev/full'
    run = subprocess.run(
        ["bash", "-c", command, sys.executable, str(bundle)],
        capture_output=True,
        text=True,
        check=False,
    )
    ended(run, 1, "standard output can't be written: No space left on device")


def test_comments_that_can_not_be_shown_are_no_failure(
    tmp_path: Path, bundle: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> list[str]:
        raise FileNotFoundError(2, "No such file", "in.parquet")

    monkeypatch.setattr("glossator.pipeline.summary.examples", gone)
    arguments = ("--input", lines, "--output", tmp_path / "out", "--model", bundle)
    run = glossator("label", *arguments, "--show", 2)
    assert run.returncode == 0 and "published 1 part" in run.stdout
    assert run.stderr.splitlines()[-1] == "can't show comments: No such file"


def test_first_line_stays_on_a_terminal(lines: Path, bundle: Path, tmp_path: Path) -> None:
    command = ("-m", "glossator", "label", "--input", str(lines), "--model", str(bundle))
    code, pieces = on_a_terminal(*command, "--output", str(tmp_path / "out"), errors=True)
    assert code == 0
    (only,) = (line for line in screen("".join(piece for _, piece in pieces)) if line)
    assert only.startswith("labelling 200 rows of 1 file for sentiment, themes, stars")
