"""Each check over the last nights, beside its limit: small charts, the same as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

from glossator.model.report import charts
from glossator.model.report.blocks import Cell, Chart, Table
from glossator.model.report.charts import Point
from glossator.pipeline.gates.limits import figure, meaning
from glossator.pipeline.night_report.facts import Day, Facts
from glossator.pipeline.outputs.manifest import Check

Outcome = Literal["passed", "refused", "through", "skipped"]
WORDS: Mapping[Outcome, str] = {
    "passed": "passed",
    "refused": "not passed",
    "through": "let through",
    "skipped": "skipped",
}
_ORDER: tuple[Outcome, ...] = ("refused", "through", "passed", "skipped")


class Card(NamedTuple):
    """One check."""

    name: str
    outcome: Outcome
    word: str
    said: str
    """Its figure of this run."""
    meaning: str
    chart: Chart


def cards(facts: Facts) -> list[Card]:
    """Those that have a figure, of this run or of a night before; what has not passed first."""
    found = [_card(check, facts.days) for check in facts.manifest.checks]
    shown = [card for card in found if card is not None]
    return sorted(shown, key=lambda card: _ORDER.index(card.outcome))


def without_figure(facts: Facts) -> Table | None:
    """The checks that had nothing to check, this time and before."""
    rows: list[list[Cell]] = [
        [check.name, check.against.removeprefix("skipped: ")]
        for check in facts.manifest.checks
        if _card(check, facts.days) is None
    ]
    return Table(("check", "why"), rows) if rows else None


def nights(facts: Facts) -> Table:
    """The nights that are drawn, in a row each, the newest first."""
    rows: list[list[Cell]] = []
    for day in reversed(facts.days):
        outcomes = [outcome_of(check) for check in day.checks]
        failed = [c.name for c, o in zip(day.checks, outcomes, strict=True) if o == "refused"]
        through = [c.name for c, o in zip(day.checks, outcomes, strict=True) if o == "through"]
        word = "refused" if day.refused else "published"
        why = ", ".join([*failed, *(f"{name} (let through)" for name in through)])
        counts: list[Cell] = [None] * 4
        if day.manifest is not None:
            totals = day.manifest.totals
            counts = [totals.rows_read, totals.rows_labelled, totals.rows_rejected]
            counts.append(day.manifest.model[:12])
        rows.append([day.name, word, *counts, why])
    head = ("night", "outcome", "rows read", "labelled", "rejected", "model", "checks not passed")
    return Table(head, rows)


def outcome_of(check: Check) -> Outcome:
    """What became of a check."""
    if check.value is None:
        return "skipped"
    if check.passed:
        return "passed"
    return "through" if check.accepted else "refused"


def _card(check: Check, days: Sequence[Day]) -> Card | None:
    found = [(day, one) for day in days for one in day.checks if one.name == check.name]
    if all(one.value is None for _, one in found):
        return None
    read = partial(figure, check.name)
    points = [Point(day.at, day.name, one.value, one.limit, outcome_of(one)) for day, one in found]
    said = check.against.removeprefix("skipped: ")
    if check.value is not None:
        said = f"{read(check.value)} {check.against}, at {check.bound} {read(check.limit)}"
    outcome = outcome_of(check)
    counted = sum(point.value is not None for point in points)
    svg = charts.course(
        f"{check.name} over {len(points)} nights",
        f"{counted} figures beside the limit; this run: {WORDS[outcome]}, {said}",
        points,
        check.bound,
        read,
    )
    rows: list[list[Cell]] = [
        [
            *(day.name, None if one.value is None else read(one.value), read(one.limit)),
            WORDS[outcome_of(one)],
        ]
        for day, one in reversed(found)
    ]
    table = Table(("night", "figure", f"at {check.bound}", "outcome"), rows)
    return Card(check.name, outcome, WORDS[outcome], said, meaning(check.name), Chart(svg, table))
