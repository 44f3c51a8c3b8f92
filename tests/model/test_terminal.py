from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from glossator.model import terminal
from glossator.model.terminal import echo, echo_json, joined, styled, visible

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[2]

MISLEADING = (
    *map(chr, range(0x20)),
    "\x7f",
    *map(chr, range(0x80, 0xA0)),
    *"\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028\u2029\u2060\u2064\u3164\ufeff",
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    *"\ufff9\uffa0\U000e0001\U000e0041",
    *"\ud800\udc00\udfff",
)


@pytest.mark.parametrize("character", MISLEADING, ids=lambda c: f"{ord(c):04x}")
def test_what_draws_nothing_is_written_out(character: str) -> None:
    shown = visible(f"a{character}b")
    assert shown.isprintable() and character not in shown
    # Python's own notation says what stood there
    assert eval(f"'{shown}'") == f"a{character}b"


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "don't, \\x1b is four letters",
        "很好 　とても",
        "naïve e\u0301 Ж",
        "שלום مرحبا",
        "👩\u200d💻 👩🏽\u200d💻 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3 🏳\ufe0f\u200d🌈",
        "می\u200cخواهم",  # Persian: the joiner is spelling
        "क्\u200dष",
        "葛\U000e0100城",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("red\x1b[31m", "red\\x1b[31m"),
        ("file\u202etxt.exe", "file\\u202etxt.exe"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        (os.fsdecode(b"caf\xe9.parquet"), "caf\\xe9.parquet"),
        ("pay\u200dpal", "pay\\u200dpal"),
        ("\u200d", "\\u200d"),
        ("x\ufe0f\ufe0f\ufe0e", "x\ufe0f\\ufe0f\\ufe0e"),
        ("a" + "\u0300" * 6, "a" + "\u0300" * 4 + "\\u0300" * 2),
    ],
)
def test_notation(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(visible(text)) == shown


def test_colours_of_ours_survive_and_those_of_others_do_not() -> None:
    line = joined(["\x1b[1mA", styled("B\x1b[0m", fg="red"), "C\n"], " ")
    assert line == "\\x1b[1mA " + click.style("B\\x1b[0m", fg="red") + " C\\n"


def test_places_on_a_terminal() -> None:
    assert terminal.width_of("ab\x1b") == 6
    assert terminal.width_of("很好e\u0301") == 5
    assert terminal.padded("很", 4) == "很  "
    assert terminal.padded("toolong", 4) == "toolong"


def test_echo_prints_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    echo("one\ntwo", "\x1b[2J", styled("three", bold=True))
    echo("err\u2066", err=True)
    out, err = capsys.readouterr()
    assert out == "one\\ntwo\n\\x1b[2J\nthree\n"  # no terminal, no colour
    assert err == "err\\u2066\n"


def test_json_is_the_same_value_and_holds_nothing_that_misleads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = {"text": "很\u202e\x1b\x7f\x9b\U000e0041\n👩\u200d💻 \ud800", "n": [1, None]}
    echo_json(value)
    out, _ = capsys.readouterr()
    assert json.loads(out) == value
    assert "很" in out and out.count("\n") == 1
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in out.rstrip("\n"))


SECRET = "s3://key:hunter2@bucket/a?X-Amz-Signature=abcdef&x=1"


def test_secrets_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"can't open {SECRET}: no", joined(["at", SECRET], " "), styled(SECRET, fg="red"))
    echo_json(terminal.without_secrets({"a": [SECRET, {SECRET: 1}], "n": None}))
    out, _ = capsys.readouterr()
    assert "hunter2" not in out and "abcdef" not in out
    assert out.count("bucket/a") == 5 and "x=1" in out


def test_a_file_is_printed_exactly_where_it_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.echo_file("a: \u202e\n\nb: 1\n")
    assert capsys.readouterr().out == "a: \u202e\n\nb: 1\n"


def test_characters_that_the_encoding_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    echo("█ café 很")
    assert raw.getvalue() == "\\u2588 café \\u5f88\n".encode("latin-1")


PRINTING = """
from glossator.model import terminal
terminal.prepare()
with open({held!r}, "w") as file:  # would have taken the number of a closed stream
    for _ in range(2000):
        terminal.echo("a line of some length, many times over: 0123456789")
    terminal.echo("said", err=True)
terminal.echo(repr(terminal.lost_output()), err=True)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize(
    ("redirection", "lost"),
    [
        (">&-", "Bad file descriptor"),
        (">/dev/full", "No space left"),
        ("| head -1", "Broken pipe"),
        (">/dev/null", "None"),
    ],
)
def test_output_that_fails_is_no_error(redirection: str, lost: str, tmp_path: Path) -> None:
    program = PRINTING.format(held=str(tmp_path / "held"))
    run = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" -c "$1" {redirection}', sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines()[0] == "said" and lost in run.stderr.splitlines()[1]
    assert len(run.stderr.splitlines()) == 2
    assert (tmp_path / "held").read_text() == ""


def test_both_closed(tmp_path: Path) -> None:
    program = PRINTING.format(held=str(tmp_path / "held"))
    command = ["bash", "-c", '"$0" -c "$1" >&- 2>&- <&-', sys.executable, program]
    assert subprocess.run(command, check=False).returncode == 0
    assert (tmp_path / "held").read_text() == ""


def test_nothing_is_printed_past_the_one_function() -> None:
    printing = {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("model", "pipeline", "deploy", "api")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != ROOT / "model" / "terminal.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in printing
    ]
    assert found == []
