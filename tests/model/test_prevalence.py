"""Shares of labels without the classifier's errors, where the shares are known."""

from __future__ import annotations

import numpy as np
import pytest

from glossator.model.prevalence import corrected
from glossator.model.tasks import Task


def test_two_labels_are_those_of_forman() -> None:
    """adjusted count = (given - false positives) / (true positives - false positives)."""
    confusion = np.array([[70, 30], [20, 80]])
    for given in (0.35, 0.5, 0.75):
        shares = corrected(np.array([1 - given, given]), confusion)
        assert shares is not None
        assert shares[1] == pytest.approx((given - 0.3) / (0.8 - 0.3))
        assert shares.sum() == pytest.approx(1)


def test_other_shares_with_the_same_errors_are_found() -> None:
    rates = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.05, 0.7]])
    confusion = (rates * [[1000], [200], [400]]).round()
    for true in ([0.1, 0.1, 0.8], [1 / 3] * 3, [0.0, 1.0, 0.0]):
        assert corrected(np.array(true) @ rates, confusion) == pytest.approx(true, abs=1e-9)


def test_what_no_shares_explain_is_cut_to_shares() -> None:
    confusion = np.array([[70, 30], [20, 80]])
    assert corrected(np.array([0.9, 0.1]), confusion) == pytest.approx([1, 0])
    assert corrected(np.array([0.1, 0.9]), confusion) == pytest.approx([0, 1])


def test_answers_that_say_nothing_are_not_corrected() -> None:
    assert corrected(np.array([0.4, 0.6]), np.array([[50, 50], [20, 20]])) is None


def test_a_label_that_was_never_seen_is_taken_as_given() -> None:
    confusion = np.array([[9, 1, 0], [1, 9, 0], [0, 0, 0]])
    shares = corrected(np.array([0.4, 0.4, 0.2]), confusion)
    assert shares == pytest.approx([0.4, 0.4, 0.2])


def test_each_kind_corrects_what_it_measured() -> None:
    single = Task("mood", "single", ("bad", "good"))
    labels = np.repeat([0, 0, 1, 1], [70, 30, 20, 80])
    chosen = np.repeat([0, 1, 0, 1], [70, 30, 20, 80])
    measured = single.rules.measure(labels, np.eye(2)[chosen])
    assert single.rules.true_shares(np.array([0.5, 0.5]), measured) == pytest.approx([0.6, 0.4])
    multi = Task("topics", "multi", ("stock", "food"))
    truth = np.stack([labels, labels], axis=1).astype(np.float32)
    measured = multi.rules.measure(truth, np.stack([chosen, labels], axis=1) * 0.9)
    assert multi.rules.true_shares(np.array([0.5, 0.7]), measured) == pytest.approx([0.4, 0.7])
    stars = Task("stars", "regression")
    assert stars.rules.true_shares(np.array([]), {}) is None
