"""TF-IDF of word 1- and 2-grams and character 1- to 4-grams, and logistic regression."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossator.pipeline.rivals.running import Settings, in_processes, learning, run, write

_FEATURES = 300_000
"""N-grams of each kind that are kept, as in the baseline of training."""


def get_ready(settings: Settings, folder: Path) -> None:
    """Fits both."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, labels = learning(settings)
    kinds: list[dict[str, Any]] = [
        {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
        {"analyzer": "char", "ngram_range": (1, 4)},
    ]
    vectorizers = [
        TfidfVectorizer(
            min_df=2, max_features=_FEATURES, sublinear_tf=True, dtype=np.float32, **kind
        )
        for kind in kinds
    ]
    features = hstack([one.fit_transform(texts) for one in vectorizers], "csr")
    models = {}
    for name, of_task in labels.items():
        known, index = np.unique(of_task, return_inverse=True)
        weights, biases = [], []
        for i in range(len(known)):
            model = LogisticRegression(
                C=4.0, solver="liblinear", dual=True, tol=0.1, max_iter=100, random_state=0
            )
            if len(known) == 1:
                weights.append(np.zeros(features.shape[1]))
                biases.append(0.0)
                continue
            model.fit(features, index == i)
            weights.append(model.coef_[0])
            biases.append(float(model.intercept_[0]))
        models[name] = (known, np.array(weights, np.float32).T.copy(), np.array(biases))
    (folder / "model.pickle").write_bytes(pickle.dumps((vectorizers, models)))


def _label(path: str, folder: str) -> None:
    from scipy.sparse import hstack

    vectorizers, models = pickle.loads((Path(folder) / "model.pickle").read_bytes())

    def answer(texts: list[str]) -> dict[str, Any]:
        features = hstack([one.transform(texts) for one in vectorizers], "csr")
        answers: dict[str, Any] = {}
        for name, (known, weights, biases) in models.items():
            given: NDArray[Any] = 1 / (1 + np.exp(-(features @ weights + biases)))
            best = given.argmax(axis=1)
            answers[name] = known[best]
            confidence = given[np.arange(len(best)), best] / given.sum(axis=1)
            answers[f"{name}_confidence"] = confidence.astype(np.float32)
        return answers

    write(path, folder, answer)


if __name__ == "__main__":
    run(in_processes(_label))
