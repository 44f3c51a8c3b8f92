"""Values of a column: as text that is valid, and as labels, whatever their type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glossator.model.errors import shown

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_TRUTH = {"false": Decimal(0), "true": Decimal(1)}
_NONE, _WRONG = -1, -2
_SHOWN_LABELS = 20


class WrongValueError(ValueError):
    """A value that its column can't hold; the message goes on after the column's name."""

    def __init__(self, row: int, message: str) -> None:
        """States the error.

        Args:
            row: of the column, counted from 0.
            message: what it holds, and why that is wrong.
        """
        super().__init__(message)
        self.row = row


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text, bytes, numbers or dates as text.

    Raises:
        WrongValueError: bytes are not UTF-8, which Parquet does not forbid a text.
        ValueError: it holds lists, or something else that is no text.
    """
    column = _decoded(column)
    try:
        if not _is_text(column.type):
            return column.cast(pa.large_string())
        data = column.cast(pa.large_binary())
    except pa.ArrowException:
        raise ValueError("is no text") from None
    try:
        return data.cast(pa.large_string())
    except pa.ArrowInvalid:
        for row, value in enumerate(data):
            if (content := value.as_py()) is not None and not _is_utf8(content):
                raise WrongValueError(row, f"holds {shown(content)}, which is no UTF-8") from None
        raise


def as_words(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """[n] the values as `str`, "" for null; equal ones share one object, however long."""
    codes, values = _distinct(as_text(column))
    return np.array([*(value.as_py() for value in values), ""], dtype=object)[codes]


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds integers, floats or decimals."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def label_numbers(column: pa.ChunkedArray, names: Sequence[str]) -> NDArray[np.int64]:
    """[n] which label each value is; -1 for null and NaN.

    A text is the label that reads the same. Numbers are the label of the same value: 1, 1.0 and
    the decimal 1.00 are "1". True and false are "true" and "false" in any case of letters, or
    "1" and "0"; so are the numbers 1 and 0.

    Args:
        column: of text, numbers or booleans.
        names: the labels.

    Raises:
        WrongValueError: a value is no label.
        ValueError: a column of this type has no labels in it.
    """
    column = _decoded(column)
    if pa.types.is_null(column.type):
        return np.full(len(column), _NONE, np.int64)
    index: dict[Any, int]
    if _is_text(column.type):
        column = as_text(column)
        index = {name: i for i, name in enumerate(names)}
    elif pa.types.is_boolean(column.type) or is_number(column.type):
        index = _by_number(names)
    else:
        raise ValueError("holds neither text nor numbers nor booleans, so no labels")
    codes, values = _distinct(column)
    single = pa.types.is_float32(column.type)
    number = [_number_of(value.as_py(), index, single) for value in values]
    numbers = np.array([*number, _NONE], np.int64)[codes]
    if (wrong := np.flatnonzero(numbers == _WRONG)).size:
        row = int(wrong[0])
        value = column[row].as_py()
        shown_value = shown(value) if isinstance(value, str) else str(value)
        raise WrongValueError(
            row, f"holds {shown_value}, which is no label of the task: {named(names)}"
        )
    return numbers


def named(labels: Sequence[str]) -> str:
    """The labels of a task, as an error may list them."""
    more = len(labels) - _SHOWN_LABELS
    listed = ", ".join(labels[:_SHOWN_LABELS])
    return f"its labels are {listed}{f' and {more:,} more' if more > 0 else ''}"


def _number_of(value: Any, index: dict[Any, int], single: bool) -> int:
    if isinstance(value, str):
        return index.get(value, _WRONG)
    if value != value:  # NaN
        return _NONE
    # a float32 as it is written, 0.1, not as the double of the same value
    text = str(np.float32(value)) if single else str(int(value) if value in (0, 1) else value)
    return index.get(Decimal(text), _WRONG)


def _by_number(names: Sequence[str]) -> dict[Any, int]:
    """The labels that can stand for a number."""
    index: dict[Any, int] = {}
    for i, name in enumerate(names):
        number = _TRUTH.get(name.casefold())
        if number is None and _NUMBER.fullmatch(name):
            number = Decimal(name)
        if number is None:
            continue
        if number in index:
            raise ValueError(
                f"holds numbers, but the labels {names[index[number]]!r} and {name!r} are the "
                "same number"
            )
        index[number] = i
    return index


def _distinct(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """[n] where among the distinct values each value stands, -1 for null; and these."""
    if not len(column):
        return np.zeros(0, np.int64), pa.array([], column.type)
    encoded = pa.concat_arrays(column.chunks).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int64), encoded.dictionary


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
