"""What every model here is held against: TF-IDF n-grams and a linear model, on the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.model.data import Dataset, Labels, observed
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
    """Fits on `train`, answers for `test` as `evaluate.predict` does: [n, outputs].

    Character 1- to 4-grams (which serve Chinese) and word 1- and 2-grams; logistic regression,
    one for each label of a multi task, ridge for a regression.
    """
    if not available():
        raise UsageError("the baseline needs scikit-learn: pip install 'glossator[baseline]'")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    labels = train.labels[task.name]
    rows = np.flatnonzero(observed(task, labels))
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
    return _fit_and_answer(task, fitted, labels[rows], features.transform(test.texts))


def _fit_and_answer(task: Task, fitted: Any, labels: Labels, asked: Any) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression, Ridge

    if task.kind == "regression":
        answer = Ridge(alpha=1.0).fit(fitted, labels).predict(asked)
        return np.asarray(answer, np.float64)[:, None]
    if task.kind == "multi":
        columns = [_binary(fitted, labels[:, i], asked) for i in range(labels.shape[1])]
        return np.stack(columns, axis=1)
    result = np.zeros((asked.shape[0], len(task.labels)))
    model = LogisticRegression(C=4.0, max_iter=200).fit(fitted, labels)
    result[:, model.classes_] = model.predict_proba(asked)
    return result


def _binary(fitted: Any, labels: NDArray[Any], asked: Any) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression

    if labels.min() == labels.max():
        return np.full(asked.shape[0], float(labels[0]))
    model = LogisticRegression(C=4.0, max_iter=200).fit(fitted, labels)
    return np.asarray(model.predict_proba(asked)[:, 1], np.float64)
