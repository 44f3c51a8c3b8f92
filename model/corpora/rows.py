"""One labelled text, and the rules that hold over all of them: cleaning, splits, duplicates."""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

LABELS = ("sentiment", "person", "gender", "topic")
"""The label columns, in the order of the files."""

SPLITS = ("train", "validation", "test")
"""From the weakest claim on a text to the strongest: a text of two splits stays in the later."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\ufeff\ufffd]")
_NO_LETTER = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One text with what its source says about it; a label is None where the source is silent."""

    text: str
    """As it was written, cleaned of debris."""
    lang: str
    """`en` or `zh`."""
    source: str
    """The name of the corpus and of its file."""
    split: str
    """One of `SPLITS`."""
    sentiment: str | None = None
    """`neg`, `neu` or `pos`."""
    person: str | None = None
    """Who says it, for the main characters of two series."""
    gender: str | None = None
    """Of whoever says it, by the part they play."""
    topic: str | None = None
    """`stock`, `news`, `product` or `chat`."""

    def labels(self) -> dict[str, str]:
        """The labels that are known."""
        return {task: label for task in LABELS if (label := getattr(self, task)) is not None}

    def labelled(self, labels: Mapping[str, str]) -> Row:
        """The row with these labels and no others."""
        return replace(
            self,
            sentiment=labels.get("sentiment"),
            person=labels.get("person"),
            gender=labels.get("gender"),
            topic=labels.get("topic"),
        )


def share(key: str, salt: str) -> float:
    """A number in [0, 1) that depends on nothing but the key and what it is drawn for."""
    digest = hashlib.sha256(f"{salt}\0{key}".encode()).digest()
    # 53 bits: what a float holds exactly, so that the result never rounds up to 1
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def split_of(group: str) -> str:
    """The split of a document, conversation or text: about 10 % test and 10 % validation."""
    place = share(group, "split")
    return "test" if place < 0.1 else "validation" if place < 0.2 else "train"


def split_of_season(season: int, *, validation: int, test: int) -> str:
    """The split of a series' season: whole seasons are held out, as scenes share their subject."""
    return {validation: "validation", test: "test"}.get(season, "train")


def normalise(text: str) -> str:
    """The form in which two texts count as the same: NFKC, case-folded, white space collapsed."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # folding can undo the composition (e.g. of U+0345), so it is composed once more
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def clean(text: str) -> str:
    """Without HTML entities, control characters and runs of white space."""
    # twice: some texts were escaped twice
    return " ".join(_CONTROL.sub("", html.unescape(html.unescape(text))).split())


def bare(text: str) -> str:
    """As the Reuters corpus has been published: lower-case letters, everything else a space."""
    return _NO_LETTER.sub(" ", text.lower()).strip()


def says_something(text: str) -> bool:
    """Whether two letters or digits are left: a lone mark or letter teaches no task."""
    return sum(character.isalnum() for character in text) >= 2


def level(rows: Iterable[Row], formal: frozenset[str], part: float = 1 / 3) -> list[Row]:
    """Makes a part of the English rows with a topic bare, so that bareness tells no topic.

    A row with further labels stays as it was, and its bare copy knows the topic alone:
    sentiment may hang on a smiley or on an exclamation mark.

    Args:
        rows: rows of all sources.
        formal: the sources whose texts are bare to begin with.
        part: of the rows, chosen by the hash of their text.
    """
    levelled: list[Row] = []
    for row in rows:
        apt = row.lang == "en" and row.topic is not None and row.source not in formal
        text = bare(row.text) if apt and share(row.text, "bare") < part else ""
        if not says_something(text):
            levelled.append(row)
            continue
        if len(row.labels()) > 1:
            levelled.append(row)
        levelled.append(replace(row, text=text).labelled({"topic": row.labels()["topic"]}))
    return levelled


@dataclass(slots=True)
class _Claims:
    """What all rows of one normalised text say together."""

    split: str
    labels: dict[str, set[str]]


def _claims(keyed: Iterable[tuple[str, Row]]) -> dict[str, _Claims]:
    claims: dict[str, _Claims] = {}
    for key, row in keyed:
        claim = claims.setdefault(key, _Claims(row.split, {}))
        claim.split = max(claim.split, row.split, key=SPLITS.index)
        for task, label in row.labels().items():
            claim.labels.setdefault(task, set()).add(label)
    return claims


def settle(rows: Iterable[Row]) -> list[Row]:
    """One row a text and source; no text in two splits; no text with two labels for a task.

    - A text that stands in several splits, of whatever sources, stays in the strongest:
      test before validation before train.
    - A text whose rows disagree on a task, in whatever sources, loses its label for that task:
      the text alone cannot tell. Left without any label, it is dropped.

    The order of first appearance is kept.
    """
    keyed = [(normalise(row.text), row) for row in rows]
    claims = _claims(keyed)
    kept: dict[tuple[str, str], Row] = {}
    known: dict[tuple[str, str], dict[str, str]] = {}
    for key, row in keyed:
        claim, place = claims[key], (row.source, key)
        sure = {task: label for task, label in row.labels().items() if len(claim.labels[task]) == 1}
        known.setdefault(place, {}).update(sure)
        if row.split == claim.split:
            kept.setdefault(place, row)
    return [row.labelled(known[place]) for place, row in kept.items() if known[place]]
