"""What every model here is held against: TF-IDF n-grams and a linear model, on the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.data import Dataset
from glossator.model.errors import UsageError
from glossator.model.tasks import Task

FEATURES = 300_000
"""The most frequent n-grams that are kept, of each kind."""


def available() -> bool:
    """Whether scikit-learn, which the extra `baseline` brings, is installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    return True


def predict(task: Task, train: Dataset, test: Dataset) -> NDArray[np.float64]:
    """Fits on `train`, predicts for `test` as `evaluate.predict` does: [n, outputs].

    Character 1- to 4-grams (which serve Chinese) and word 1- and 2-grams; the linear model is that
    of the task's kind.
    """
    if not available():
        raise UsageError("the baseline needs scikit-learn: pip install 'glossator[baseline]'")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    labels = train.labels[task.name]
    rows = np.flatnonzero(task.rules.observed(labels))
    shared: dict[str, Any] = {
        "sublinear_tf": True,
        "min_df": 2,
        "max_features": FEATURES,
        "dtype": np.float32,
    }
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **shared),
        TfidfVectorizer(analyzer="char", ngram_range=(1, 4), **shared),
    )
    fitted = features.fit_transform([train.texts[i] for i in rows])
    asked = features.transform(test.texts)
    return task.rules.baseline(fitted, labels[rows], asked, task.labels)
