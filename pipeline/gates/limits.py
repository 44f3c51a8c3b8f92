"""What a run may show and still be published, and the file that says so."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal

from glossator.model.errors import UsageError, shown
from glossator.model.store import open_store

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_CANARIES = 256
"""Texts that are kept at most of a run, and of a split."""
_Unit = Literal["allowance", "share", "number", "rows", "texts"]


def _limit(default: float, unit: _Unit, says: str) -> Any:
    return field(default=default, metadata={"unit": unit, "says": says})


@dataclass(frozen=True)
class Limits:
    """What a run may show and still be published. It does not enter the run's identity.

    A field is called as the check that it limits, `_` in the place of the dot of `rejects.empty`.
    """

    unreadable: int | float = _limit(
        0,
        "allowance",
        "at most so many files (a whole number) of which anything can't be read, or such a share"
        " (0.01) of the rows, and of the files of which nothing can",
    )
    rejects: float = _limit(0.25, "share", "at most such a share of the rows is rejected")
    rejects_null: float = _limit(0.1, "share", "… because there is no text")
    rejects_empty: float = _limit(0.1, "share", "… because the text is empty or blank")
    rejects_undecodable: float = _limit(0.02, "share", "… because the text is not UTF-8")
    rejects_key: float = _limit(0.02, "share", "… because a key's value can't be kept exactly")
    rejects_column: float = _limit(0.02, "share", "… because the file lacks the columns")
    rows_few: float = _limit(
        0.5, "number", "at least so many times the median rows of the last nights"
    )
    rows_many: float = _limit(
        3.0, "number", "at most so many times the median rows of the last nights"
    )
    rows_replaced: float = _limit(
        1.0, "number", "at least so many times the labelled rows that the output holds now"
    )
    distinct: float = _limit(0.02, "share", "at least such a share of the texts is distinct")
    distinct_night: float = _limit(
        0.25, "share", "that share differs at most by so much from the last night's"
    )
    tokens: float = _limit(1.5, "number", "at most so many tokens a character")
    tokens_night: float = _limit(
        0.25, "number", "their number is at most so much, as a part of it, off the last night's"
    )
    lone_bytes: float = _limit(
        0.4, "share", "at most such a share of the tokens is a byte of an unknown character"
    )
    one_label: float = _limit(
        0.999, "share", "at most such a share of the rows has one label of a single task"
    )
    labels_reference: float = _limit(
        5.0, "number", "the PSI of a task's label shares and those of the model's own test rows"
    )
    labels_night: float = _limit(
        0.25, "number", "the PSI of a task's label shares and those of the last night"
    )
    confidence_night: float = _limit(
        0.1, "share", "a task's mean confidence differs at most by so much from the last night's"
    )
    accepted_night: float = _limit(
        0.15, "share", "a task's accepted share differs at most by so much from the last night's"
    )
    flips: float = _limit(
        0.1, "share", "at most such a share of the canary's labels is another by a new model"
    )
    min_rows: int = _limit(
        1000, "rows", "fewer rows say too little: no share or mean of them refuses a run"
    )
    canary: int = _limit(
        200, "texts", "texts kept with their labels for the next model; 0 keeps none"
    )


_FIELDS: Mapping[str, Field[Any]] = {one.name: one for one in fields(Limits)}
_SETTINGS = ("min_rows", "canary")
"""What of the limits is no check."""
CHECKS = tuple(
    dict.fromkeys(
        "rejects" if name.startswith("rejects") else name
        for name in _FIELDS
        if name not in _SETTINGS
    )
)
"""The names of the checks; one of a task or reason has its name behind a dot: `flips.topic`."""


def load(where: str) -> Limits:
    """The limits of a TOML file, with the defaults of what it does not name.

    Raises:
        UsageError: there is no such file, it is not TOML, or a key or value of it is wrong.
        OSError: it can't be read.
    """
    try:
        fs, path = open_store(where)
        given = tomllib.loads(fs.cat_file(path).decode())
    except FileNotFoundError as error:
        raise UsageError(f"{where}: there is no such file", parameter="gates") from error
    except IsADirectoryError as error:
        raise UsageError(f"{where}: is a folder: name a file", parameter="gates") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is not TOML: {error}", parameter="gates") from error
    for name, value in given.items():
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise UsageError(f"{where}: unknown key {name!r}; known: {known}", parameter="gates")
        if wrong := _wrong(value, _FIELDS[name].metadata["unit"]):
            raise UsageError(f"{where}: {name} = {shown(value)} {wrong}", parameter="gates")
    # 1 is as good as 1.0, but for what is a number of files
    counts = ("allowance", "rows", "texts")
    whole = {name for name, one in _FIELDS.items() if one.metadata["unit"] in counts}
    values: dict[str, Any] = {k: v if k in whole else float(v) for k, v in given.items()}
    return Limits(**values)


def _wrong(value: object, unit: _Unit) -> str | None:
    """What is wrong with a value, if anything."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "is not a number"
    if unit == "share" or (unit == "allowance" and isinstance(value, float)):
        return None if 0 <= value <= 1 else "is not a share from 0 to 1"
    if unit == "number":
        return None if 0 <= value <= 1e9 else "is not a number from 0 on"
    if not isinstance(value, int) or value < 0:
        return f"is not a number of {'files' if unit == 'allowance' else unit}"
    if unit == "texts" and value > MOST_CANARIES:
        return f"is more than {MOST_CANARIES}"
    return None


def require_known(checks: Iterable[str]) -> None:
    """Refuse to accept checks that there are not.

    Raises:
        UsageError: names it.
    """
    for name in checks:
        if name.partition(".")[0] not in CHECKS:
            raise UsageError(
                f"there is no check {name!r}; there are: {', '.join(CHECKS)}", parameter="accept"
            )


def accepts(accepted: Iterable[str], check: str) -> bool:
    """Whether a check is among those that are let through, by its own name or all of its kind."""
    return not {check, check.partition(".")[0]}.isdisjoint(accepted)


def figure(check: str, value: float) -> str:
    """A check's value or limit as people read it."""
    unit = _metadata(check).get("unit")
    if unit == "allowance":
        return f"{value:.2%}" if isinstance(value, float) else f"{value:,}"
    return f"{value:.2%}" if unit == "share" else f"{value:.3g}"


def meaning(check: str) -> str:
    """What a check allows, in words; nothing of one that another version made."""
    says: str = _metadata(check).get("says", "")
    return says.replace("…", "at most such a share of the rows is rejected")


def _metadata(check: str) -> Mapping[str, Any]:
    reason = check.startswith("rejects")
    found = _FIELDS.get(check.replace(".", "_") if reason else check.partition(".")[0])
    return found.metadata if found else {}


def as_toml() -> str:
    """A file of all defaults, with what they mean."""
    width = max(map(len, _FIELDS)) + 9
    lines = (f"{name} = {one.default}" for name, one in _FIELDS.items())
    says = (one.metadata["says"] for one in _FIELDS.values())
    return "".join(f"{line:<{width}} # {text}\n" for line, text in zip(lines, says, strict=True))


def as_table() -> str:
    """The same as a table in Markdown."""
    rows = [f"| `{n}` | {one.default} | {one.metadata['says']} |" for n, one in _FIELDS.items()]
    return "\n".join(["| key | default | |", "|---|---|---|", *rows]) + "\n"
