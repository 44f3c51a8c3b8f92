"""A split's labels and rejects as files that are there whole or not at all, and its record."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from glossator.pipeline.plan import Split, is_local, open_store, protocols
from glossator.pipeline.read import Checked, Piece

REJECTS = "_rejects"
"""The folder of the rejects, below that of the parts."""
RECORDS = "_records"
"""The folder of the records, in staging."""
_RENAMING = {"hdfs", "webhdfs"}
"""Remote stores that show a file while it is written, and rename atomically."""
_THREADS = 16


@dataclass(frozen=True)
class SplitRecord:
    """What became of a split. Its file is written last: it says that the split is done."""

    index: int
    part: str
    """The split's name: its files are `<part>.parquet` and `_rejects/<part>.parquet`."""
    source: str
    start: int
    stop: int
    rows_read: int
    rows_labelled: int
    rows_rejected: int
    rows_unreadable: int
    """Rows that the footer promises and the data does not hold: one reject stands for them."""
    files_unreadable: int
    rejects: dict[str, int]
    """Lines in the rejects file by reason."""
    part_bytes: int
    part_sha256: str
    rejects_bytes: int | None
    rejects_sha256: str | None
    labels: dict[str, dict[str, int]]
    """How often each label of each task was given."""
    metrics: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The record as its file holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SplitRecord:
        """The inverse of `to_json`."""
        return cls(**record)


def reject_schema(keys: pa.Schema) -> pa.Schema:
    """The columns of the rejects."""
    return pa.schema(
        [
            *keys,
            pa.field("source_file", pa.string()),
            pa.field("source_row", pa.int64()),
            pa.field("stage", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("detail", pa.string()),
        ]
    )


def rejects(split: Split, piece: Piece, checked: Checked) -> pa.Table:
    """The rows of a piece that have no text to label, in the rejects' columns."""
    rows = np.flatnonzero(checked.reason.is_valid().to_numpy(zero_copy_only=False))
    columns = [
        *piece.keys.take(rows).columns,
        pa.repeat(pa.scalar(split.source), len(rows)),
        pa.array(rows + piece.first_row, pa.int64()),
        pa.repeat(pa.scalar("check"), len(rows)),
        checked.reason.take(rows),
        checked.detail.take(rows),
    ]
    return pa.Table.from_arrays(columns, schema=reject_schema(piece.keys.schema))


class SplitWriter:
    """Writes one split into a staging folder; use it as a context, then `commit`.

    The files appear when the context is left without an error. Of a context that is left with
    one, nothing stays. Writing the same tables again gives the same bytes.
    """

    def __init__(self, staging: str, split: Split, schema: pa.Schema, keys: pa.Schema):
        self._fs, self._staging = open_store(staging)
        self._split = split
        self._keys = keys
        self._schema = schema
        self._stack = ExitStack()
        self._part: _Parquet
        self._rejects: _Parquet | None = None
        self._reasons: Counter[str] = Counter()
        self._rows_unreadable = 0

    def __enter__(self) -> SplitWriter:
        self._part = self._open(f"{self._split.name}.parquet", self._schema)
        return self

    def write(self, table: pa.Table) -> None:
        """Add labelled rows: one row group."""
        self._part.write(table)

    def reject(self, table: pa.Table) -> None:
        """Add rejects: one row group."""
        if not table.num_rows:
            return
        if self._rejects is None:
            self._rejects = self._open(f"{REJECTS}/{self._split.name}.parquet", table.schema)
        self._rejects.write(table)
        self._reasons.update(table.column("reason").to_pylist())

    def unreadable(self, detail: str) -> None:
        """Let one reject without a row number stand for the whole split, and nothing else."""
        split = self._split
        schema = reject_schema(self._keys)
        if split.error is None:
            reason = "corrupt"
            detail = f"rows {split.start} to {split.stop} (exclusive): {detail}"
        else:
            reason = "unreadable"
        row = {"source_file": split.source, "stage": "read", "reason": reason, "detail": detail}
        self.reject(pa.Table.from_pylist([row], schema=schema))
        self._rows_unreadable = split.stop - split.start

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def commit(
        self,
        *,
        rows_read: int,
        labels: Mapping[str, Mapping[str, int]],
        metrics: Mapping[str, float],
    ) -> SplitRecord:
        """Write the record, which makes the split done; call it after the context."""
        split = self._split
        without_row = self._reasons["corrupt"] + self._reasons["unreadable"]
        record = SplitRecord(
            index=split.index,
            part=split.name,
            source=split.source,
            start=split.start,
            stop=split.stop,
            rows_read=rows_read,
            rows_labelled=self._part.rows,
            rows_rejected=self._reasons.total() - without_row,
            rows_unreadable=self._rows_unreadable,
            files_unreadable=int(split.error is not None),
            rejects=dict(sorted(self._reasons.items())),
            part_bytes=self._part.bytes,
            part_sha256=self._part.sha256,
            rejects_bytes=self._rejects.bytes if self._rejects else None,
            rejects_sha256=self._rejects.sha256 if self._rejects else None,
            labels={task: dict(counts) for task, counts in labels.items()},
            metrics=dict(metrics),
        )
        text = json.dumps(record.to_json(), ensure_ascii=False, indent=1)
        put_bytes(self._fs, f"{self._staging}/{RECORDS}/{split.name}.json", text.encode())
        return record

    def _open(self, name: str, schema: pa.Schema) -> _Parquet:
        temp = self._stack.enter_context(whole(self._fs, f"{self._staging}/{name}"))
        return self._stack.enter_context(_Parquet(temp, schema))


def finished(staging: str) -> dict[str, SplitRecord]:
    """The records by part of the splits that need not be done again.

    A record doesn't count if it is damaged, or if a file of it is not there in its full size.
    """
    fs, root = open_store(staging)
    names = [name for name in file_sizes(fs, f"{root}/{RECORDS}") if name.endswith(".json")]
    with ThreadPoolExecutor(_THREADS) as pool:
        texts = list(pool.map(lambda name: fs.cat_file(f"{root}/{RECORDS}/{name}"), names))
    sizes = {
        **file_sizes(fs, root),
        **{f"{REJECTS}/{name}": s for name, s in file_sizes(fs, f"{root}/{REJECTS}").items()},
    }
    found = (_whole(name[:-5], text, sizes) for name, text in zip(names, texts, strict=True))
    return {record.part: record for record in found if record}


def finished_split(staging: str, part: str) -> SplitRecord | None:
    """The record of one split if it need not be done again: another attempt may have done it."""
    fs, root = open_store(staging)
    fs.invalidate_cache()
    try:
        text = fs.cat_file(f"{root}/{RECORDS}/{part}.json")
    except FileNotFoundError:
        return None
    sizes = {}
    for name in (f"{part}.parquet", f"{REJECTS}/{part}.parquet"):
        with suppress(FileNotFoundError):
            sizes[name] = fs.info(f"{root}/{name}")["size"]
    return _whole(part, text, sizes)


def _whole(part: str, text: bytes, sizes: Mapping[str, int]) -> SplitRecord | None:
    """The record in `text` if it is one of that part, and its files are there in full size."""
    try:
        record = SplitRecord.from_json(json.loads(text))
    except (ValueError, TypeError):
        return None
    rejected = sizes.get(f"{REJECTS}/{part}.parquet") if record.rejects else None
    found = (record.part, sizes.get(f"{part}.parquet"), rejected)
    return record if found == (part, record.part_bytes, record.rejects_bytes) else None


@contextmanager
def whole(fs: Any, target: str) -> Iterator[Path]:
    """A local file to write, which becomes `target` once it is whole, and vanishes on an error.

    What computes may fail half-way, and another attempt at the same may be done already: a
    remote store only ever gets whole files.
    """
    folder, name = PurePosixPath(target).parent, PurePosixPath(target).name
    mark = f"{uuid.uuid4().hex}.tmp"
    if is_local(fs):
        Path(folder).mkdir(parents=True, exist_ok=True)
    temp = Path(folder if is_local(fs) else tempfile.gettempdir(), f".{name}.{mark}")
    try:
        yield temp
        if is_local(fs):
            temp.replace(target)
        elif _renames(fs):
            fs.put_file(str(temp), f"{folder}/.{name}.{mark}")
            move(fs, f"{folder}/.{name}.{mark}", target)
        else:
            fs.put_file(str(temp), target)
    finally:
        temp.unlink(missing_ok=True)


def put_bytes(fs: Any, target: str, data: bytes) -> None:
    """Write a small file at once."""
    with whole(fs, target) as temp:
        temp.write_bytes(data)


def move(fs: Any, source: str, target: str) -> None:
    """Put a file in another's place; object stores, which can't rename, keep the source too."""
    if is_local(fs):
        Path(target).parent.mkdir(exist_ok=True)
        os.replace(source, target)  # noqa: PTH105 - both are strings of fsspec
    elif _renames(fs):
        if fs.exists(target):  # HDFS renames onto nothing
            fs.rm_file(target)
        fs.mv(source, target)
    else:
        fs.cp_file(source, target)


def file_sizes(fs: Any, folder: str) -> dict[str, int]:
    """The files directly in a folder, by name; none if there is no such folder."""
    fs.invalidate_cache()
    try:
        infos = fs.ls(folder, detail=True)
    except FileNotFoundError:
        return {}
    return {
        PurePosixPath(info["name"]).name: info["size"] for info in infos if info["type"] == "file"
    }


def _renames(fs: Any) -> bool:
    return bool(_RENAMING.intersection(protocols(fs)))


class _Parquet:
    """A Parquet file whose bytes follow from the tables written to it."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.rows = 0
        self._file = _DigestingFile(path)
        self._writer = pq.ParquetWriter(
            self._file, schema, version="2.6", compression="zstd", write_page_checksum=True
        )

    @property
    def bytes(self) -> int:
        return self._file.size

    @property
    def sha256(self) -> str:
        return self._file.sha256.hexdigest()

    def write(self, table: pa.Table) -> None:
        if table.num_rows:  # an empty row group is of no use; how rows are chunked moves pages
            self._writer.write_table(table.combine_chunks(), row_group_size=table.num_rows)
            self.rows += table.num_rows

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._writer.close()
        finally:
            self._file.close()


class _DigestingFile:
    """A file to write that digests what passes, so that it need not be read again."""

    def __init__(self, path: Path):
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._file = path.open("wb")

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
