from __future__ import annotations

from itertools import pairwise

import pytest
from command_lines import on_a_terminal, screen

from glossator.model import reporting

WORKING = """
import sys, time
from glossator.model import terminal
from glossator.model.reporting import TerminalReporter

report = TerminalReporter()
report("first line \\x1b[2J")
for step in range(12):
    if step == 4:
        report("second line")
    if step == 6:
        terminal.echo("third line", err=True)
    report.show(min(step, 3), 3, f"{step} of 12 \\x1b[1A\\u202e")
    time.sleep(0.5)
report.close()
terminal.echo("last line", err=True)
"""


@pytest.fixture(scope="module")
def shown() -> list[tuple[float, str]]:
    code, pieces = on_a_terminal("-c", WORKING, errors=True)
    assert code == 0
    return pieces


def test_announcements_survive_the_bar(shown: list[tuple[float, str]]) -> None:
    assert [line for line in screen("".join(text for _, text in shown)) if line] == [
        "first line \\x1b[2J",
        "second line",
        "third line",
        "last line",
    ]


def test_the_bar_stands_below_and_moves(shown: list[tuple[float, str]]) -> None:
    frames = [screen("".join(text for _, text in shown[: i + 1])) for i in range(len(shown))]
    bars = [
        (when, frame) for (when, _), frame in zip(shown, frames, strict=True) if "━" in str(frame)
    ]
    assert all(frame[0] == "first line \\x1b[2J" for _, frame in bars)
    looks = [(when, next(line for line in frame if "━" in line)) for when, frame in bars]
    assert "0 of 12 \\x1b[1A\\u202e" in looks[0][1]
    changes = [looks[0][0]]
    for (_, before), (when, after) in pairwise(looks):
        if before != after:
            changes.append(when)
    assert len(changes) >= 4 and max(b - a for a, b in pairwise(changes)) < 2
    assert "━" not in str(frames[-1])


def test_the_cursor_is_shown_again(shown: list[tuple[float, str]]) -> None:
    text = "".join(text for _, text in shown)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_without_a_terminal_lines_come_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now[0])
    report = reporting.TerminalReporter()
    report("first")
    for second in range(1, 61):
        now[0] += 1
        report.show(second, 60, f"{second} of 60\n")
    report.close()
    assert capsys.readouterr().err.splitlines() == [
        "first",
        "15 of 60\\n",
        "30 of 60\\n",
        "45 of 60\\n",
        "60 of 60\\n",
    ]
