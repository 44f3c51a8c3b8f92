"""Labels as columns of any type hold them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from glossator.model.kinds import RULES
from glossator.model.kinds.values import WrongValueError, as_words, label_numbers


def column(values: list[Any], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    """In two chunks."""
    return pa.chunked_array([pa.array(values[:1], kind), pa.array(values[1:], kind)])


@pytest.mark.parametrize(
    ("values", "kind", "names", "numbers"),
    [
        (["a", None, "b"], pa.string(), ("a", "b"), [0, -1, 1]),
        (["a", None, "b"], pa.large_string(), ("a", "b"), [0, -1, 1]),
        (["a", None, "b"], pa.string_view(), ("a", "b"), [0, -1, 1]),
        ([b"a", None, "ü".encode()], pa.binary(), ("a", "ü"), [0, -1, 1]),
        (["a", None, "b"], pa.dictionary(pa.int8(), pa.string()), ("a", "b"), [0, -1, 1]),
        ([1, None, 0], pa.uint8(), ("0", "1"), [1, -1, 0]),
        ([-1, 1, 0], pa.int64(), ("1", "-1", "0.0"), [1, 0, 2]),
        ([1.0, float("nan"), None, 0.0], pa.float64(), ("0", "1"), [1, -1, -1, 0]),
        ([0.5, 0.1], pa.float32(), ("0.1", "0.50"), [1, 0]),
        ([Decimal("1.50"), Decimal("2.00")], pa.decimal128(9, 2), ("1.5", "2"), [0, 1]),
        ([True, None, False], pa.bool_(), ("false", "true"), [1, -1, 0]),
        ([True, None, False], pa.bool_(), ("True", "False"), [0, -1, 1]),
        ([True, None, False], pa.bool_(), ("0", "1"), [1, -1, 0]),
        ([1, 0], pa.int8(), ("false", "true"), [1, 0]),
        ([None, None], pa.null(), ("a", "b"), [-1, -1]),
        ([], pa.string(), ("a", "b"), []),
    ],
)
def test_a_value_is_the_label_that_means_the_same(
    values: list[Any], kind: pa.DataType, names: tuple[str, ...], numbers: list[int]
) -> None:
    assert label_numbers(column(values, kind), names).tolist() == numbers


@pytest.mark.parametrize(
    ("values", "names", "words"),
    [
        (["a", "A"], ("a", "b"), "holds 'A', which is no label"),
        (["1", "1.0"], ("0", "1"), "holds '1.0', which is no label"),
        ([1, 2], ("0", "1"), "holds 2, which is no label"),
        ([1.0, 1.5], ("0", "1"), "holds 1.5, which is no label"),
        ([1.0, float("inf")], ("0", "1"), "holds inf, which is no label"),
        ([True, False], ("yes", "true"), "holds False, which is no label"),
        ([Decimal("1.0"), Decimal("1.1")], ("1", "2"), "holds 1.1, which is no label"),
    ],
)
def test_another_value_is_named_with_its_row(
    values: list[Any], names: tuple[str, ...], words: str
) -> None:
    with pytest.raises(WrongValueError, match=f"{words} of the task: its labels are ") as error:
        label_numbers(column(values), names)
    assert error.value.row == 1


def test_labels_that_are_one_number_are_told_apart_in_text_alone() -> None:
    assert label_numbers(column(["1", "1.0"]), ("1", "1.0")).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"labels '1' and '1.0' are the same number"):
        label_numbers(column([1, 1]), ("1", "1.0"))


def test_of_many_labels_an_error_lists_a_few() -> None:
    names = [f"label {i}" for i in range(1000)]
    with pytest.raises(WrongValueError) as error:
        label_numbers(column(["x", "x"]), names)
    assert str(error.value).endswith("label 19 and 980 more")


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.string()),
        pa.list_(pa.dictionary(pa.int8(), pa.string())),
        pa.list_(pa.int8()),
    ],
    ids=str,
)
def test_lists_of_any_type_are_read(kind: pa.DataType) -> None:
    number = pa.types.is_integer(kind.value_type)
    values: list[Any] = [["3", "1"], None, [], ["2", "2"]]
    if number:
        values = [row and [int(v) for v in row] for row in values]
    labels = RULES["multi"].encode(column(values, kind), ("1", "2", "3"))
    assert labels[[0, 2, 3]].tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert np.isnan(labels[1]).all()


def test_numbers_of_any_type_are_a_regressions() -> None:
    for kind in (pa.int8(), pa.uint64(), pa.float32(), pa.float16(), pa.decimal128(5, 2)):
        values = [np.float16(3), None] if kind == pa.float16() else [3, None]
        labels = RULES["regression"].encode(column(values, kind), ())
        assert labels.dtype == np.float32
        assert labels[0] == 3
        assert np.isnan(labels[1])


def test_words_share_their_memory() -> None:
    """However long one value is, the others take no more for it."""
    words = as_words(column(["x" * 1_000_000, *["a"] * 5000, None, *["x" * 1_000_000] * 5]))
    assert words.nbytes < 100_000
    assert words[0] is words[-1]
    assert (words[1], words[-6]) == ("a", "")
