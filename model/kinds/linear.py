"""The linear model of the baseline, for one label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def logistic(
    features: Any, truth: NDArray[np.bool_], asked: Any, strength: float
) -> NDArray[np.float64]:
    """[n] the label's probability for each row of `asked`, by logistic regression.

    Dual coordinate descent (Hsieh et al. 2008) takes seconds where L-BFGS takes minutes, for a
    label at a time, so that memory does not grow with the labels.

    Args:
        features: of the rows to learn from.
        truth: whether each has the label; where all or none have, so does all that is asked.
        asked: features of the rows to answer for.
        strength: the inverse of the regularisation, `C`.
    """
    from sklearn.linear_model import LogisticRegression

    if truth.all() or not truth.any():
        return np.full(asked.shape[0], float(truth[0]))
    model = LogisticRegression(
        C=strength,
        solver="liblinear",
        dual=True,
        tol=0.1,  # that solver's own: with less, hardly an answer changes
        max_iter=1000,
        random_state=0,
    )
    return np.asarray(model.fit(features, truth).predict_proba(asked)[:, 1], np.float64)
