"""Many dates, one after the other, the oldest first: a bad one does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from glossator.model.errors import GlossatorError, UsageError
from glossator.pipeline import summary
from glossator.pipeline.exits import FAILED, INVALID, NOT_YET, REFUSED, code_of
from glossator.pipeline.job import Outcome
from glossator.pipeline.options import day_of

_WORST_FIRST = (FAILED, NOT_YET, REFUSED, INVALID)
"""Of several codes the first of these is the command's: what is to be tried again comes first."""
_WORDS = {
    FAILED: "FAILED",
    NOT_YET: "not there yet",
    REFUSED: "REFUSED",
    INVALID: "invalid",
}


@dataclass(frozen=True)
class Day:
    """What a date came to."""

    date: str
    outcome: Outcome | None = None
    error: str = ""
    code: int = 0

    def to_json(self) -> Mapping[str, Any]:
        """For machines."""
        said: dict[str, Any] = {"date": self.date, "exit_code": self.code}
        if self.outcome is not None:
            return said | summary.account(self.outcome)
        return said | {"state": _WORDS[self.code].lower(), "error": self.error}


def dates(first: str, last: str) -> list[str]:
    """The days from one to another, both included; `today` and `yesterday` are known.

    Raises:
        UsageError: one is no date, or the last is before the first.
    """
    begin, end = (date.fromisoformat(day_of(day)) for day in (first, last))
    if end < begin:
        raise UsageError(f"{first} comes after {last}: exchange them", parameter="first_date")
    return [(begin + timedelta(n)).isoformat() for n in range((end - begin).days + 1)]


def label_days(
    days: Iterable[str], label: Callable[[str], Outcome], report: Callable[[str], None]
) -> list[Day]:
    """Labels each day; an error is that day's.

    Args:
        days: the dates in their order.
        label: labels one.
        report: is told of each.
    """
    found = []
    for day in days:
        report(f"{day}:")
        try:
            found.append(Day(day, label(day)))
        except Exception as error:
            said = " ".join(str(error).split())
            if not isinstance(error, GlossatorError):  # nobody foresaw it
                logging.getLogger(__name__).exception("%s failed", day)
                said = f"{type(error).__name__}{said and f': {said}'}"
            found.append(Day(day, None, said, code_of(error)))
            report(f"{day}: {_WORDS[found[-1].code]}: {found[-1].error}")
    return found


def code(days: Iterable[Day]) -> int:
    """The exit code of all of them."""
    codes = {day.code for day in days}
    return next((one for one in _WORST_FIRST if one in codes), 0)


def lines(days: Sequence[Day]) -> list[str]:
    """What they came to, a line for each."""
    said = []
    for day in days:
        if day.outcome is None:
            said.append(f"{day.date}  {_WORDS[day.code]}: {day.error}")
        elif (manifest := day.outcome.manifest) is None:
            said.append(f"{day.date}  {day.outcome.state}")
        else:
            totals = manifest.totals
            said.append(
                f"{day.date}  {day.outcome.state}: {totals.rows_labelled:,} labelled,"
                f" {totals.rows_rejected:,} rejected"
            )
    good = sum(day.code == 0 for day in days)
    return [*said, f"{good:,} of {len(days):,} dates are published"]
