"""Files of labelled rows: Parquet, CSV and JSON Lines, by URI, glob or folder, as Arrow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from glossator.model.errors import UsageError, shown
from glossator.model.store import open_store, uri_below

_Read = tuple[pa.Table, list[str]]
_MIN_BLOCK, _MAX_BLOCK = 1 << 20, 1 << 30
_PACKED = 10
"""How much smaller gzip makes text, at most in general."""


def find(patterns: Sequence[str]) -> list[str]:
    """The files that fsspec URIs, globs and folders name, by name, each once.

    Of a folder, all below it whose suffix says Parquet, CSV or JSON Lines, but for hidden ones.

    Raises:
        UsageError: one names no file.
    """
    return sorted({file for pattern in patterns for file in _matching(pattern)})


def is_labelled(pattern: str) -> bool:
    """Whether a URI or glob is called as files that this reads."""
    return _suffix(pattern) in _READERS


def read(
    file: str, text: str, wanted: Collection[str], texts: Collection[str]
) -> tuple[pa.Table, list[str]]:
    """The columns of a file that are wanted and there, and the names of all that it has.

    Args:
        file: its URI; Parquet, unless its suffix says something else.
        text: the column with the text, which is text whatever it looks like.
        wanted: names of columns.
        texts: those of them that are text too in a format without types.

    Raises:
        UsageError: the file can't be read, or has two columns of one name.
    """
    fs, path = open_store(file)
    kind, reader = _READERS.get(_suffix(path), ("Parquet", _parquet))
    try:
        size = fs.size(path) or 0
        with fs.open(path, "rb") as stream:
            if path.lower().endswith(".gz"):
                stream, size = pa.CompressedInputStream(stream, "gzip"), _PACKED * size
            table, has = reader(stream, size, text, wanted, texts)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{file} is not a readable {kind} file: {reason}") from error
    if twice := {name for name in has if name in wanted and has.count(name) > 1}:
        raise UsageError(f"{file} has two columns {shown(min(twice))}: rename one")
    return table.select([name for name in has if name in wanted]), has


def _matching(pattern: str) -> list[str]:
    fs, path = open_store(pattern)
    given = fs.isfile(path) or fs.isdir(path)
    paths: list[str] = []
    for found in [path] if given else fs.glob(path):
        if fs.isfile(found):
            paths.append(found)
        elif given or not _is_hidden(PurePosixPath(found).name):
            paths += [below for below in fs.find(found) if _belongs(below, found)]
    if not paths:
        raise UsageError(
            f"no file matches {pattern}; give Parquet, CSV or JSON Lines files, a glob or a "
            "folder of them",
            parameter="data",
        )
    return [uri_below(pattern, fs, found) for found in paths]


def _belongs(path: str, folder: str) -> bool:
    below = PurePosixPath(path).relative_to(PurePosixPath(folder)).parts
    return _suffix(path) in _READERS and not any(map(_is_hidden, below))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _suffix(path: str) -> str:
    return PurePosixPath(path.lower().removesuffix(".gz")).suffix


def _parquet(
    stream: Any, size: int, text: str, wanted: Collection[str], texts: Collection[str]
) -> _Read:
    parquet = pq.ParquetFile(stream)
    names = parquet.schema_arrow.names
    return parquet.read(columns=[name for name in names if name in wanted]), names


def _csv(
    stream: Any, size: int, text: str, wanted: Collection[str], texts: Collection[str]
) -> _Read:
    table = pa_csv.read_csv(
        stream,
        read_options=pa_csv.ReadOptions(block_size=_block(size)),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in texts},
            check_utf8=False,  # whoever uses a column does, and names the row
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return table, table.column_names


def _json(
    stream: Any, size: int, text: str, wanted: Collection[str], texts: Collection[str]
) -> _Read:
    table = pa_json.read_json(
        stream,
        read_options=pa_json.ReadOptions(block_size=_block(size)),
        parse_options=pa_json.ParseOptions(
            newlines_in_values=True,
            explicit_schema=pa.schema([(text, pa.string())]),
        ),
    )
    # a text that no line has is there, and null
    names = table.column_names
    return table, [n for n in names if n != text or table[n].null_count < len(table)]


def _block(size: int) -> int:
    """Bytes that are read at once: a column's type is guessed from the first block."""
    return min(max(size + 1, _MIN_BLOCK), _MAX_BLOCK)


_Reader = Callable[[Any, int, str, Collection[str], Collection[str]], _Read]
_PARQUET = (".parquet", ".parq", ".pq")
_READERS: dict[str, tuple[str, _Reader]] = {
    **dict.fromkeys(_PARQUET, ("Parquet", _parquet)),
    ".csv": ("CSV", _csv),
    **dict.fromkeys((".jsonl", ".ndjson"), ("JSON Lines", _json)),
}
