"""Which texts can be labelled, and how much of them is kept."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from glossator.model.tokenizer import MAX_CHARS
from glossator.pipeline.inputs.values import as_text, failing, without

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Checked:
    """Texts, and what is wrong with each of them; all arrays are of one length."""

    text: pa.Array
    """large_string; null where it was, and where it was not UTF-8."""
    reason: pa.Array
    """`null`, `empty`, `undecodable`, or null where the text can be labelled."""
    detail: pa.Array


def check(text: pa.Array) -> Checked:
    """Finds the rows without a text to label: null, only whitespace, or not UTF-8."""
    text = as_text(text)
    details: dict[int, str] = {}
    if text.type != pa.large_string():
        raw = text
        details = {row: _why(raw[row].as_buffer()) for row in _undecodable(raw)}
        text = without(raw, details).cast(pa.large_string())
    why = [details.get(row) for row in range(len(text))] if details else [None] * len(text)
    detail = pa.array(why, pa.string())
    # of a text of any length: `utf8_trim_whitespace` would copy it
    empty = pc.or_(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text))
    reason = pc.case_when(
        pc.make_struct(pc.is_valid(detail), pc.is_null(text), empty),
        pa.scalar("undecodable"),
        pa.scalar("null"),
        pa.scalar("empty"),
    )
    return Checked(text, reason, detail)


def cut(text: pa.Array) -> pa.Array:
    """Texts without what the model doesn't read, but for a character: it shows that there is more.

    Args:
        text: large_string.
    """
    lengths = pc.binary_length(text)
    long = np.flatnonzero(pc.greater(lengths, MAX_CHARS).fill_null(False))
    if not len(long):
        return text
    heads = [bytes(memoryview(text[row].as_buffer())[: 4 * MAX_CHARS + 4]) for row in long.tolist()]
    shortened = [head.decode(errors="ignore")[: MAX_CHARS + 1] for head in heads]
    is_long = np.zeros(len(text), bool)
    is_long[long] = True
    result: pa.Array = pc.replace_with_mask(text, is_long, pa.array(shortened, pa.large_string()))
    return result


def _undecodable(raw: pa.Array) -> list[int]:
    """The rows that are not UTF-8, ascending."""

    def works(rows: range) -> bool:
        try:
            raw.slice(rows.start, len(rows)).cast(pa.large_string())
        except pa.ArrowInvalid:
            return False
        return True

    return list(failing(len(raw), works))


def _why(data: memoryview) -> str:
    """What is wrong with bytes that are not UTF-8; decodes them in blocks, for they may be many."""
    data, at = memoryview(data), 0
    while True:
        block = bytes(data[at : at + _BLOCK_BYTES])
        try:
            at += codecs.utf_8_decode(block, "strict", at + len(block) == len(data))[1]
        except UnicodeDecodeError as error:
            byte = block[error.start]
            return f"byte 0x{byte:02x} at offset {at + error.start}: {error.reason}"
