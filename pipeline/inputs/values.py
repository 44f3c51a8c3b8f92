"""A column's values in another Arrow type, exactly: what can't be kept is found, not changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MAX_SHOWN = 80
"""Characters of a value that a message shows."""


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold text: strings, bytes, JSON, dictionaries of them."""
    kind = plain_type(kind)
    kind = kind.storage_type if is_extension(kind) else kind
    return kind in (pa.large_string(), pa.large_binary())


def is_text_or_list(kind: pa.DataType) -> bool:
    """Whether text can be made of it: text, lists of it, or nothing but nulls (type null)."""
    kind = plain_type(kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return is_text(kind) or pa.types.is_null(kind)


def is_extension(kind: pa.DataType) -> bool:
    """Whether it is a type of Arrow's above a plain one, as UUID and JSON are."""
    return isinstance(kind, pa.BaseExtensionType)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """One type for all that is one type in Parquet, so that files of many writers agree."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if is_extension(kind):
        is_json = str(kind) == "extension<arrow.json>"
        return pa.json_(pa.large_string()) if is_json else kind
    return _nested(kind, _plain_nested) if pa.types.is_nested(kind) else _plain_flat(kind)


def _plain_nested(kind: pa.DataType) -> pa.DataType:
    # Arrow casts no extension type within another type to another one
    return kind if is_extension(kind) else plain_type(kind)


def _plain_flat(kind: pa.DataType) -> pa.DataType:
    if str(kind) in ("string", "large_string", "string_view"):
        return pa.large_string()
    if str(kind) in ("binary", "large_binary", "binary_view"):
        return pa.large_binary()
    return kind


def _nested(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """A nested type with the types in it changed, and all that is not of Parquet left out."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, change(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(change(kind.key_type), change(kind.item_type))
    element = pa.field("element", change(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(element, kind.list_size)
    return pa.large_list(element) if "large" in str(kind).split("<")[0] else pa.list_(element)


def _unvalidated(kind: pa.DataType) -> pa.DataType:
    """The type with bytes in place of strings."""
    if pa.types.is_nested(kind):
        return _nested(kind, _unvalidated)
    return pa.large_binary() if kind == pa.large_string() else kind


def exact(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same values in another type, which `plain_type` and promotion gave.

    Raises:
        pa.ArrowInvalid: the type can't hold a value exactly; a string is not UTF-8.
        pa.ArrowNotImplementedError, pa.ArrowTypeError: the types don't convert at all.
    """
    if is_extension(kind) and array.type != kind:
        storage = array.storage if is_extension(array.type) else array
        return pa.ExtensionArray.from_storage(kind, exact(storage, kind.storage_type))
    if is_extension(array.type) and not is_extension(kind):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    # Parquet readers don't validate strings: through bytes, for Arrow validates what it casts
    result = _cast(_cast(array, _unvalidated(kind)), kind)
    if pa.types.is_nested(kind) or is_extension(kind):
        result.validate(full=True)
    return result


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type.equals(kind):
        return array
    try:
        result = array.cast(kind)
    except pa.ArrowInvalid:
        if not (pa.types.is_integer(array.type) and pa.types.is_floating(kind)):
            raise
        # Arrow refuses all integers beyond 2**53 as doubles, and many of them are exact
        result = array.cast(kind, safe=False)
        if not result.cast(array.type).equals(array):
            raise
    if pa.types.is_decimal(array.type) and pa.types.is_floating(kind):  # which Arrow rounds
        for value, number in zip(array.to_pylist(), result.to_pylist(), strict=True):
            if value is not None and Decimal(number) != value:
                raise pa.ArrowInvalid(f"{value} is not exact as {kind}")
    return result


def keep(array: pa.Array, kind: pa.DataType, column: str) -> tuple[pa.Array, dict[int, str]]:
    """The values in another type, null where that would change them, and why by row."""
    with suppress(pa.ArrowInvalid):
        return exact(array, kind), {}
    array = _takeable(array)

    def works(rows: range) -> bool:
        try:
            exact(array.take(pa.array(rows)), kind)
        except pa.ArrowInvalid:
            return False
        return True

    why = {row: _why(array[row], kind, column) for row in failing(len(array), works)}
    return exact(without(array, why), kind), why


def without(array: pa.Array, rows: Collection[int]) -> pa.Array:
    """The same with null in these rows."""
    null = np.isin(np.arange(len(array)), list(rows))
    return array.take(pa.array(np.arange(len(array)), mask=null))


def shown(scalar: pa.Scalar) -> str:
    """A value for a message, shortened."""
    try:
        value = scalar.as_py()
        text = value.isoformat() if hasattr(value, "isoformat") else repr(value)
    except (ValueError, OverflowError):  # a time that Python does not know
        text = f"{scalar.value} {scalar.type.unit}" if hasattr(scalar, "value") else "a value"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _why(scalar: pa.Scalar, kind: pa.DataType, column: str) -> str:
    if kind == pa.large_string():
        return f"{column}: {shown(scalar)} is not UTF-8"
    return f"{column}: {shown(scalar)} can't be kept exactly as {kind}"


def _takeable(array: pa.Array) -> pa.Array:
    """The array in a type that rows can be taken of and shown of, whatever the bytes."""
    if is_extension(array.type):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(_unvalidated(plain_type(array.type)))


def failing(count: int, works: Callable[[range], bool]) -> Iterator[int]:
    """The rows that fail: halves are tried until one row is left, so that a few are found fast."""
    ranges = [range(count)]
    while ranges:
        rows = ranges.pop()
        if not rows or works(rows):
            continue
        if len(rows) == 1:
            yield rows[0]
        else:
            middle = len(rows) // 2
            ranges += [rows[middle:], rows[:middle]]


def row_bytes(array: pa.Array) -> NDArray[np.int64]:
    """About how many bytes each row of an array takes."""
    kind = array.type
    if is_extension(kind):
        return row_bytes(array.storage)
    if str(kind) in ("string", "large_string", "binary", "large_binary"):
        lengths: NDArray[np.int64] = pc.binary_length(array).fill_null(0).to_numpy()
        return lengths.astype(np.int64)
    if pa.types.is_struct(kind):
        fields = (row_bytes(field) for field in array.flatten())
        return sum(fields, np.zeros(len(array), np.int64))
    if pa.types.is_fixed_size_list(kind):
        return row_bytes(array.cast(pa.large_list(kind.value_type)))
    if pa.types.is_nested(kind):
        before = np.concatenate([[0], np.cumsum(row_bytes(array.values))])
        offsets = np.asarray(array.offsets)
        sizes: NDArray[np.int64] = before[offsets[1:]] - before[offsets[:-1]]
        return sizes
    width = 0 if pa.types.is_null(kind) else max(1, kind.bit_width // 8)
    return np.full(len(array), width, np.int64)


def as_text(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Text as large_string if it is all UTF-8, else as large_binary.

    Parquet readers don't validate strings, so the column's type says nothing.

    Args:
        column: as `raw_text` takes it.
    """
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    raw = raw_text(column)
    try:
        return raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        return raw


def raw_text(column: pa.Array) -> pa.Array:
    """Text as large_binary, not validated; a list's texts are joined by newlines, without nulls.

    Args:
        column: of a type that `is_text_or_list`.
    """
    if is_extension(column.type):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_nested(column.type):
        return _joined(column)
    return column.cast(pa.large_binary())


def _joined(column: pa.Array) -> pa.Array:
    lists = column.cast(pa.large_list(pa.large_binary()))
    offsets, values = np.asarray(lists.offsets), lists.values
    kept = np.concatenate([[0], np.cumsum(values.is_valid().to_numpy(zero_copy_only=False))])
    lists = pa.ListArray.from_arrays(
        pa.array(kept[offsets], pa.int32()), values.drop_null().cast(pa.binary())
    )
    joined = pc.binary_join(lists, b"\n").cast(pa.large_binary())
    return without(joined, np.flatnonzero(column.is_null()))


def int96_leaves(arrays: Sequence[pa.Array]) -> Iterator[tuple[pa.Array, ...]]:
    """The timestamps that were INT96, of one column that was read with several units.

    Args:
        arrays: the column in each unit; rows and nesting are the same.
    """
    kind = arrays[0].type
    if pa.types.is_timestamp(kind):
        if len({array.type for array in arrays}) > 1:
            yield tuple(arrays)
    elif pa.types.is_struct(kind):
        for fields in zip(*(array.flatten() for array in arrays), strict=True):
            yield from int96_leaves(fields)
    elif pa.types.is_nested(kind):
        yield from int96_leaves([array.flatten() for array in arrays])


def check_int96(
    microseconds: pa.Array, nanoseconds: pa.Array, seconds: pa.Array
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each value whether microseconds hold it exactly, and whether nanoseconds do.

    Readers compute an INT96 modulo 2**64 of the unit, without a word. Seconds hold every INT96.
    """
    us, ns, s = (
        array.cast(pa.int64()).drop_null().to_numpy()
        for array in (microseconds, nanoseconds, seconds)
    )
    in_range = us // 1_000_000 == s
    fraction = ns - us * 1000  # below 1,000 whatever has overflowed, for all is modulo 2**64
    return in_range & (fraction == 0), in_range & (ns // 1000 == us)
