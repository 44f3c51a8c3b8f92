"""Whether answers change when the people in a text change sex: a counterfactual test.

Names, pronouns and words for people are swapped for those of the other sex, in English and Chinese,
and the text is labelled again (Garg et al. 2019, counterfactual token fairness). What a text says
stays the same, so a task that is not about people should give the same answer. The lists are short,
and a swapped text may read oddly: figures are for comparing models and tasks with each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glossator.model.bundle import Bundle
from glossator.model.calibrate import Calibration
from glossator.model.evaluation.evaluate import predict
from glossator.model.evaluation.swap_words import (
    CHINESE,
    ENGLISH,
    ENGLISH_NAMES,
    FEMALE_ALONE,
    MALE_ALONE,
    NOT_A_NOUN,
)
from glossator.model.labeller import Labeller
from glossator.model.metrics import bootstrap
from glossator.model.tasks import Task

TEXTS = 5_000
"""Texts that are looked through, at most."""
MIN_TEXTS = 20
"""Swapped texts below which nothing is said of a direction."""

_TO_FEMALE, _TO_MALE = "male to female", "female to male"
_NEXT = re.compile(r"\s+([A-Za-z]+)")


class Swap(NamedTuple):
    """A text in which the people changed sex."""

    text: str
    direction: str
    """`male to female`, `female to male`, or `both` where there were words of both."""
    lang: str
    """`zh` where a Chinese word was swapped, else `en`."""


def swapped(text: str) -> Swap | None:
    """The text with every word of the lists swapped, each in its case; None where it has none.

    `her` becomes `his` where a word follows that may be a noun or an adjective ("her phone"), else
    `him` ("saw her again"); `his` becomes `her` or `hers` by the same rule. English names are known
    by their capital. 他 inside 其他, 他人, 吉他 and 他妈的 is left alone.
    """
    words, pattern = _lexicon()
    sides, languages = set(), set()

    def other(match: re.Match[str]) -> str:
        word = match[0]
        side, replacement = words[word.lower()]
        sides.add(side)
        languages.add("en" if word.isascii() else "zh")
        if word.lower() in ("her", "his"):
            following = _NEXT.match(text, match.end())
            owns = following is not None and following[1].lower() not in NOT_A_NOUN
            replacement = {"her": ("him", "his"), "his": ("hers", "her")}[word.lower()][owns]
        return _in_case(replacement, word)

    changed = pattern.sub(other, text)
    if not sides:
        return None
    direction = "both" if len(sides) == 2 else sides.pop()
    return Swap(changed, direction, "zh" if "zh" in languages else "en")


def measure(bundle: Bundle, texts: list[str], most: int = TEXTS) -> dict[str, list[dict[str, Any]]]:
    """What a swap does to each task's answers, by language and direction.

    Args:
        bundle: the model, of which sensitive tasks are asked too.
        texts: any; those without a word to swap say nothing.
        most: how many are looked through.

    Returns:
        By task, an entry for each language and direction of at least `MIN_TEXTS` texts: `lang`,
        `direction`, `texts`, and with 95% intervals over texts the share `flipped` to another
        answer, the `change`, mean of each text's largest change of a label's probability, and
        `shift`, the mean signed change of the `label` that moves most; of a regression in
        deviations of its labels.
    """
    pairs = [(text, swap) for text in texts[:most] if (swap := swapped(text)) is not None]
    groups = _groups([swap for _, swap in pairs])
    if not groups:
        return {task.name: [] for task in bundle.tasks}
    labeller = Labeller(bundle, [task.name for task in bundle.tasks])
    before = predict(labeller, [text for text, _ in pairs])
    after = predict(labeller, [swap.text for _, swap in pairs])
    return {
        task.name: [
            {
                "lang": lang,
                "direction": direction,
                "texts": len(rows),
                **_moved(
                    task,
                    before[task.name][rows],
                    after[task.name][rows],
                    bundle.calibration[task.name],
                ),
            }
            for (lang, direction), rows in groups.items()
        ]
        for task in bundle.tasks
    }


def sentence(measured: list[dict[str, Any]]) -> str:
    """The entries of one task in words: the largest share of answers that flipped.

    Args:
        measured: as `measure` gives it for the task.
    """
    if not measured:
        return "Too few texts name people to say whether their sex changes the answer."
    worst = max(measured, key=lambda entry: entry["flipped"][0])
    value, low, high = worst["flipped"]
    shift, label = worst["shift"][0], worst["label"]
    what = f"the probability of {label}" if label else "the value, in deviations,"
    return (
        f"Swapping the sex of the people named in a text ({worst['direction']}, {worst['lang']}) "
        f"changes {value:.1%} [{low:.1%}, {high:.1%}] of {worst['texts']:,} answers, and {what} by "
        f"{shift:+.3f} on average."
    )


def _groups(swaps: list[Swap]) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Rows by language and direction, of those that have enough."""
    keys = [(swap.lang, swap.direction) for swap in swaps]
    groups = {key: np.array([i for i, k in enumerate(keys) if k == key]) for key in set(keys)}
    return {key: groups[key] for key in sorted(groups) if len(groups[key]) >= MIN_TEXTS}


def _moved(
    task: Task, before: NDArray[Any], after: NDArray[Any], calibration: Calibration
) -> dict[str, Any]:
    flipped = ~task.rules.same(before, after, calibration)
    shift = task.rules.shift(before, after, calibration)
    change = np.abs(shift).max(axis=1)
    most = int(np.abs(shift.mean(axis=0)).argmax())
    return {
        "label": task.labels[most] if task.labels else "",
        **bootstrap(
            len(shift),
            ("flipped", "change", "shift"),
            lambda rows: (
                float(flipped[rows].mean()),
                float(change[rows].mean()),
                float(shift[rows, most].mean()),
            ),
        ),
    }


@cache
def _lexicon() -> tuple[Mapping[str, tuple[str, str]], re.Pattern[str]]:
    """Each word's direction and counterpart, by its small letters; and what finds the words."""
    words: dict[str, tuple[str, str]] = {}
    for man, woman in (*ENGLISH, *ENGLISH_NAMES, *CHINESE):
        words[man.lower()], words[woman.lower()] = (_TO_FEMALE, woman), (_TO_MALE, man)
    words |= {man.lower(): (_TO_FEMALE, woman) for man, woman in MALE_ALONE}
    words |= {woman.lower(): (_TO_MALE, man) for woman, man in FEMALE_ALONE}
    words |= {"his": (_TO_FEMALE, "her"), "her": (_TO_MALE, "his")}
    capital = [*(name for pair in ENGLISH_NAMES for name in pair), "Mrs"]
    small = words.keys() - {name.lower() for name in capital}
    english = _any_of(word for word in small if word.isascii())
    chinese = _any_of(word for word in small if not word.isascii() and word not in ("他", "她"))
    return words, re.compile(
        rf"(?<![A-Za-z])(?:(?i:{english})|{_any_of(capital)})(?![A-Za-z])"
        rf"|(?<![男女])(?:{chinese})"
        r"|(?<![其吉])他(?!人|妈的)|她"
    )


def _any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=lambda word: (-len(word), word)))


def _in_case(word: str, like: str) -> str:
    """A word in the letters of another: small, capital at first, or all capitals."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word
