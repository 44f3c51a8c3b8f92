"""What every model here is held against: TF-IDF n-grams and a linear model, on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.errors import UsageError
from glossator.model.evaluation.duel import Answers
from glossator.model.kinds import Labels
from glossator.model.labelled.dataset import Dataset
from glossator.model.metrics import LOWER_IS_BETTER
from glossator.model.tasks import Task

FEATURES = 300_000
"""The most frequent n-grams that are kept for a task, of each kind."""
STRENGTH, LEAST, MOST = 4.0, 1 / 64, 256.0
"""The usual inverse of the regularisation, and the bounds of those that are tried."""
_FACTOR = 4.0
"""Between those."""


def available() -> bool:
    """Whether scikit-learn, which the extra `baseline` brings, is installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    return True


class Baseline:
    """Texts as counts of n-grams, which serve all tasks, and a linear model for each task.

    Character 1- to 4-grams (which serve Chinese) and word 1- and 2-grams; the linear model is that
    of the task's kind, its regularisation, thresholds and shift of labels those that are best on
    validation rows.
    """

    def __init__(self, train: Dataset, validation: Dataset, test: Dataset) -> None:
        """Counts the n-grams of all texts.

        Args:
            train: the rows to learn from.
            validation: the rows to choose by.
            test: the rows to answer for.
        """
        if not available():
            raise UsageError("the baseline needs scikit-learn: pip install 'glossator[baseline]'")
        self._train, self._validation, self._test = train, validation, test
        asked = validation.texts + test.texts
        self._counts = [
            counted
            for words in (True, False)
            if (counted := _counts(words, train.texts, asked)) is not None
        ]

    def answers(self, task: Task) -> tuple[Answers, float]:
        """What it gives for the test rows, and the strength that was best.

        Raises:
            ValueError: it can't be fitted; the message is a reason in words.
        """
        labels = self._train.labels[task.name]
        rows = np.flatnonzero(task.rules.observed(labels))
        if not len(rows):
            raise ValueError("no row to learn from has a label")
        features, asked = self._weighed(rows)
        known = self._validation.labels[task.name]
        checks = np.flatnonzero(task.rules.observed(known))

        def fitted(strength: float) -> tuple[float, NDArray[np.float64]]:
            given = task.rules.baseline(features, labels[rows], asked, task.labels, strength)
            if not len(checks):
                return 0.0, given
            given = task.rules.revised(given, checks, known[checks])
            return _quality(task, known[checks], given[checks]), given

        strength, given = _climb(fitted)
        accept = task.rules.thresholds(given[checks], known[checks]) if len(checks) else None
        return Answers(given[len(self._validation) :], accept), strength

    def _weighed(self, rows: NDArray[Any]) -> tuple[Any, Any]:
        """TF-IDF of the rows to learn from, by what stands in them alone, and of those asked."""
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfTransformer

        parts = []
        for counts, asked in self._counts:
            own = counts[rows]
            kept = np.flatnonzero(np.bincount(own.indices, minlength=own.shape[1]) >= 2)
            if len(kept) > FEATURES:
                often = np.asarray(own.sum(axis=0)).ravel()[kept]
                kept = np.sort(kept[np.argsort(-often, kind="stable")[:FEATURES]])
            if len(kept):
                weights = TfidfTransformer(sublinear_tf=True).fit(own[:, kept])
                parts.append((weights.transform(own[:, kept]), weights.transform(asked[:, kept])))
        if not parts:
            raise ValueError("no word or character stands in two of the rows to learn from")
        features, asked = zip(*parts, strict=True)
        return hstack(features, "csr"), hstack(asked, "csr")


def _counts(words: bool, train: list[str], asked: list[str]) -> tuple[Any, Any] | None:
    """How often the n-grams of some texts stand in them and in others; None without any."""
    from sklearn.feature_extraction.text import CountVectorizer

    kind = (
        {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
        if words
        else {"analyzer": "char", "ngram_range": (1, 4)}
    )
    vectorizer = CountVectorizer(min_df=2, dtype=np.float32, **kind)
    try:
        return vectorizer.fit_transform(train), vectorizer.transform(asked)
    except ValueError:  # no n-gram stands in two texts
        return None


def _quality(task: Task, labels: Labels, given: NDArray[np.float64]) -> float:
    """The metric that decides, the higher the better."""
    rules = task.rules
    statistics = rules.statistics(labels, given, rules.thresholds(given, labels))
    value = statistics(np.arange(len(labels)))[0]
    return -value if rules.headline[0] in LOWER_IS_BETTER else value


def _climb(
    fitted: Callable[[float], tuple[float, NDArray[np.float64]]],
) -> tuple[float, NDArray[np.float64]]:
    """Tries strengths from the usual one on, upwards or else downwards, as long as it pays.

    Args:
        fitted: the quality of a strength, and what the model gives with it.

    Returns:
        The best strength, and what the model gives with it.
    """
    best = STRENGTH
    most, given = fitted(best)
    for factor in (_FACTOR, 1 / _FACTOR):
        while LEAST <= best * factor <= MOST:
            quality, other = fitted(best * factor)
            if quality <= most:
                break
            best, most, given = best * factor, quality, other
        if best != STRENGTH:
            break
    return best, given
